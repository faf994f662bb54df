//! One server of an agent: how it is reached, its tools, and the connection while there is one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResponse};
use rmcp::service::ServiceError;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::child::Program;
use super::expand::{Forms, Secrets, expand};
use super::link::{Link, Way, short};
use super::remote::{self, Address};
use super::tool::{self, Tool};
use super::{CallError, Surroundings, said};
use crate::agent::team::{Mcp, Reach};
use crate::agent::tools::ToolError;
use crate::config::secret_names;

/// A server that was reached once.
#[derive(Debug)]
pub(super) struct Server {
    label: String,
    way: Way,
    secrets: Secrets,
    start_within: Duration,
    pub(super) tools: Vec<Tool>,
    /// `None`: it has gone, and nobody has called since.
    link: Mutex<Option<Arc<Link>>>,
}

impl Server {
    /// Starts or reaches it, and lists its tools; also returns what its owner should know.
    ///
    /// # Errors
    /// The sentence that says that it is off, and why.
    pub(super) async fn start(
        mcp: &Mcp,
        only: Option<&[String]>,
        label: String,
        here: &Surroundings<'_>,
    ) -> Result<(Server, Vec<String>), String> {
        let mut secrets = Secrets::default();
        let off = |why: String| format!("the MCP server `{label}` is off: {why}");
        let way = way(&mcp.reach, here, &mut secrets).map_err(off)?;
        let starting = timeout(here.start_within, async {
            let link = way.connect(&label, &secrets).await?;
            let tools = link.tools().await.map_err(|why| secrets.hide(&why))?;
            Ok((link, tools))
        });
        let late = |_| Err(format!("it was not ready within {} s", here.start_within.as_secs_f32().ceil()));
        let (link, listed) = starting.await.unwrap_or_else(late).map_err(off)?;
        let (tools, problems) = tool::choose(&label, listed, only);
        let link = Mutex::new(Some(Arc::new(link)));
        let start_within = here.start_within;
        Ok((Server { label, way, secrets, start_within, tools, link }, problems))
    }

    pub(super) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.spec.name == name)
    }

    /// Calls one of its tools; starts it again if it has gone.
    pub(super) async fn call(&self, tool: &Tool, arguments: &Value, within: Duration) -> Result<String, CallError> {
        let deadline = Instant::now() + within;
        let arguments = tool.arguments(arguments).map_err(|why| CallError::NotDone(ToolError::new(why)))?;
        let link = self.link(deadline).await.map_err(|why| CallError::NotDone(ToolError::new(why)))?;
        let params = CallToolRequestParams::new(tool.own.clone()).with_arguments(arguments);
        // When the time is up, or nobody waits any longer, the server is told to stop.
        match timeout_at(deadline, link.peer().call_tool_once(params)).await {
            Ok(Ok(CallToolResponse::Complete(result))) => said::text(&result),
            Ok(Ok(_)) => Err(CallError::Failed(ToolError::new(format!(
                "{}: the server wants to ask something first, which cannot be answered here",
                tool.spec.name
            )))),
            Ok(Err(error)) => Err(self.failed(&link, tool, error).await),
            Err(_) => Err(unknown(tool, &format!("did not answer within {} s", within.as_secs_f32().ceil()))),
        }
    }

    /// The connection; a new one where there is none any more.
    async fn link(&self, deadline: Instant) -> Result<Arc<Link>, String> {
        let again = |why: &str| format!("the MCP server `{}` has ended and cannot be started again: {why}", self.label);
        let connected = timeout_at(deadline, async {
            let mut link = self.link.lock().await;
            if let Some(link) = link.as_ref().filter(|link| !link.is_dead()) {
                return Ok(link.clone());
            }
            *link = None;
            tracing::info!(server = self.label, "started again");
            let connecting = timeout(self.start_within, self.way.connect(&self.label, &self.secrets)).await;
            let new = connecting.unwrap_or_else(|_| Err("it was not ready in time".to_owned()));
            Ok(link.insert(Arc::new(new.map_err(|why| again(&why))?)).clone())
        });
        connected.await.unwrap_or_else(|_| Err(again("it was not ready in time")))
    }

    async fn failed(&self, link: &Arc<Link>, tool: &Tool, error: ServiceError) -> CallError {
        let name = &tool.spec.name;
        match error {
            ServiceError::McpError(error) => {
                let said = self.secrets.hide(&short(&error.message));
                CallError::Failed(ToolError::new(format!("{name}: {said}")))
            }
            ServiceError::TransportSend(error) => {
                self.forget(link).await;
                let cause = error.error.as_ref();
                let why = self.secrets.hide(&remote::root_cause(cause));
                if remote::never_left(cause) {
                    return CallError::NotDone(ToolError::new(format!("{name}: the server cannot be reached: {why}")));
                }
                unknown(tool, &format!("could not be spoken to: {why}"))
            }
            ServiceError::TransportClosed => {
                self.forget(link).await;
                let how = link.how_it_went().await;
                unknown(tool, &format!("ended before it answered ({how}); it is started again for the next call"))
            }
            _ => unknown(tool, "sent an answer that makes no sense"),
        }
    }

    /// Lets go of a connection that is of no use any more.
    async fn forget(&self, link: &Arc<Link>) {
        let mut held = self.link.lock().await;
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
            *held = None;
        }
    }
}

/// The call was sent, and that is all that is known.
fn unknown(tool: &Tool, what: &str) -> CallError {
    CallError::Unknown(ToolError::new(format!(
        "{}: the server {what}. What was asked for may have been done, or not: find out before you ask for it again.",
        tool.spec.name
    )))
}

/// How the server is reached, with all variables in their places.
fn way(reach: &Reach, here: &Surroundings<'_>, secrets: &mut Secrets) -> Result<Way, String> {
    match reach {
        Reach::Command { command, args, env } => {
            let mut words = vec![command.clone()];
            for arg in args {
                words.push(expand(arg, Forms::Env, here.look_up, secrets)?);
            }
            let own: Vec<&str> = secret_names().collect();
            let is_own = |name: &OsString| own.iter().any(|secret| name == *secret);
            let inherited = here.env.iter().filter(|(name, _)| !is_own(name));
            let mut all: BTreeMap<_, _> = inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
            for (name, value) in env {
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(format!("`{name}` is no name of a variable"));
                }
                let value = expand(value, Forms::All, here.look_up, secrets)?;
                secrets.add(&value);
                all.insert(name.into(), value.into());
            }
            let (cwd, shim, mark) = (here.cwd.to_owned(), here.shim.to_owned(), here.mark.to_owned());
            Ok(Way::Program(Program { words, env: all, cwd, shim, mark, open_files: here.open_files }))
        }
        Reach::Remote { url, transport, headers } => {
            match transport.to_ascii_lowercase().as_str() {
                "" | "streamable" | "streamable-http" | "streamable_http" | "http" => {}
                "sse" => {
                    let hint = "most such servers have streamable HTTP by now: `transport_type: streamable`";
                    return Err(format!("the transport `sse` of MCP's first version is not spoken here; {hint}"));
                }
                _ => return Err(format!("the transport `{transport}` is not known; `streamable` is")),
            }
            let url = expand(url, Forms::Braces, here.look_up, secrets)?;
            let mut all = Vec::new();
            for (name, value) in headers {
                let value = expand(value, Forms::Braces, here.look_up, secrets)?;
                secrets.add(&value);
                all.push((name.clone(), value));
            }
            secrets.add(&url);
            Ok(Way::Address(Address::new(url, all)?))
        }
    }
}
