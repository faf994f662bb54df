//! What the server says and does.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, serve_server};
use rmcp::transport::Transport;
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::watch;

use super::desk::Desk;
use super::gate::Gate;
use super::permission::{self, Verdict};
use super::tools;
use crate::command::{QuestionRequest, QuestionState};
use crate::task::Closed;

/// What the questions say of who asks.
pub(super) const BY: &str = "claude";

/// Between two signs of life during a wait: clients count a silent tool as hung after some minutes.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// What the server offers, and to whom.
pub enum Offer<D> {
    /// Outside of a task: no tool.
    Nothing,
    /// To a `claude` inside a task.
    Questions {
        /// Where its questions are asked.
        desk: D,
        /// Whether the permission handler is offered, too.
        permissions: bool,
    },
}

/// What the server knows of its client, and how it treats it.
pub struct Manner {
    /// Tells the folder that the client's tools act in; asked anew for each permission.
    pub folder: Box<dyn Fn() -> PathBuf + Send + Sync>,
    /// Between two signs of life during a wait; usually [`SIGN_OF_LIFE`].
    pub sign_of_life: Duration,
}

/// The MCP server.
struct Server<D> {
    offer: Offer<D>,
    manner: Manner,
    gone: watch::Receiver<bool>,
}

/// Serves one client until it closes its end.
///
/// # Errors
/// When the client does not speak MCP.
pub async fn serve<D: Desk, T>(offer: Offer<D>, manner: Manner, transport: T) -> Result<(), String>
where
    T: Transport<RoleServer> + 'static,
    T::Error: Send + Sync,
{
    let (gate, gone) = Gate::new(transport);
    let closed = gone.clone();
    let server = Server { offer, manner, gone };
    let running = match serve_server(server, gate).await {
        Ok(running) => running,
        // It looked in and left.
        Err(_) if *closed.borrow() => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    running.waiting().await.map(drop).map_err(|error| error.to_string())
}

impl<D: Desk> ServerHandler for Server<D> {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
            .with_server_info(Implementation::new("octo", env!("CARGO_PKG_VERSION")))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        ProtocolVersion::known_up_to(&ProtocolVersion::V_2025_11_25).into()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(match self.offer {
            Offer::Nothing => Vec::new(),
            Offer::Questions { permissions, .. } => tools::inside_task(permissions),
        }))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = call.arguments.unwrap_or_default();
        let result = match (&self.offer, call.name.as_ref()) {
            (Offer::Questions { desk, .. }, tools::ESCALATE) => {
                self.attended(context, escalate(desk, arguments)).await?
            }
            (Offer::Questions { desk, permissions: true }, tools::PERMISSION) => {
                let verdict = self.attended(context, self.permit(desk, arguments)).await?;
                CallToolResult::success(vec![ContentBlock::text(verdict.to_json())])
            }
            (Offer::Nothing | Offer::Questions { .. }, name) => {
                return Err(ErrorData::invalid_params(format!("there is no tool {name}"), None));
            }
        };
        Ok(result.into())
    }
}

impl<D: Desk> Server<D> {
    async fn permit(&self, desk: &D, mut arguments: JsonObject) -> Verdict {
        let (tool, input) = (arguments.remove("tool_name"), arguments.remove("input"));
        match (tool, input) {
            (Some(Value::String(tool)), Some(input)) => {
                let folder = (self.manner.folder)().to_string_lossy().into_owned();
                permission::decide(desk, &tool, input, folder).await
            }
            _ => Verdict::Deny("The request for permission names no tool and input.".to_owned()),
        }
    }

    /// Does the work, with signs of life where they were asked for, until it is done, cancelled, or nobody is
    /// left to hear of it.
    async fn attended<T>(
        &self,
        context: RequestContext<RoleServer>,
        work: impl Future<Output = T>,
    ) -> Result<T, ErrorData> {
        let mut gone = self.gone.clone();
        tokio::select! {
            biased;
            () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
            _ = gone.wait_for(|gone| *gone) => Err(ErrorData::internal_error("the client is gone", None)),
            done = work => Ok(done),
            never = signs_of_life(&context, self.manner.sign_of_life) => match never {},
        }
    }
}

async fn signs_of_life(context: &RequestContext<RoleServer>, pause: Duration) -> std::convert::Infallible {
    let Some(token) = context.meta.get_progress_token() else { return std::future::pending().await };
    let mut count = 0.0;
    loop {
        tokio::time::sleep(pause).await;
        count += 1.0;
        let sign = ProgressNotificationParam::new(token.clone(), count).with_message("waiting for an answer");
        let _ = context.peer.notify_progress(sign).await;
    }
}

async fn escalate(desk: &impl Desk, mut arguments: JsonObject) -> CallToolResult {
    let wrong = |what: &str| said(format!("The question was not asked: {what}."), true);
    let Some(Value::String(text)) = arguments.remove("question").filter(|q| q != "") else {
        return wrong("`question` must be a text");
    };
    let choices = arguments.remove("choices").filter(|c| !c.is_null()).unwrap_or_else(|| Value::Array(Vec::new()));
    let Ok(choices) = serde_json::from_value(choices) else {
        return wrong("`choices` must be a list of texts");
    };
    let request = QuestionRequest { text, choices, by: BY.to_owned(), ..Default::default() };
    match desk.ask_and_wait(request).await {
        Ok(QuestionState { answer: Some(answer), .. }) => said(answer.text, false),
        Ok(QuestionState { question, .. }) => {
            let why = match question.closed {
                Some(Closed::NoAnswer) => "its time ran out",
                Some(Closed::TaskEnded) => "the run that asked it has ended",
                Some(Closed::Answered) | None => "it was closed",
            };
            said(format!("NO ANSWER: nobody answered the question; {why}. This text is not an answer, either."), true)
        }
        Err(refused) => said(format!("NO ANSWER: {}", permission::not_asked(&refused)), true),
    }
}

fn said(text: String, is_error: bool) -> CallToolResult {
    let content = vec![ContentBlock::text(text)];
    if is_error { CallToolResult::error(content) } else { CallToolResult::success(content) }
}
