//! The one door: HTTP over the workspace's Unix socket.
//!
//! Handlers translate: a request becomes an [`Ask`](crate::supervisor::core::Ask) or a query to the
//! supervisor, its reply becomes JSON, a [`Refused`] becomes `{"error":{...}}` with the fitting status.
//! They decide nothing. Who the peer is, is found out once per connection from the kernel
//! (the `peer` module), and what it may do is asked in one place ([`Rights`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::command::{ErrorBody, Refused, RefusedCode, SettingInfo};
use crate::supervisor::Handle;

mod admin;
mod bridges;
mod chat;
mod extract;
mod listing;
mod logs;
mod notices;
mod openapi;
mod peer;
mod questions;
mod read;
mod serve;
mod tail;
mod tasks;
mod ws;

pub use peer::{Peer, Rights};
pub use serve::serve;

/// A request body may be this long: a batch of some ten thousand commands, or a very large environment.
const BODY_MAX: usize = 32 * 1024 * 1024;

/// What every handler can reach.
#[derive(Debug, Clone)]
pub struct State {
    /// The supervisor.
    pub supervisor: Handle,
    /// What does not change while the daemon lives.
    pub fixed: Arc<Fixed>,
    /// Followers of logs.
    tails: tail::Tails,
    /// Set to leave.
    leave: watch::Sender<bool>,
}

/// What does not change while the daemon lives.
#[derive(Debug)]
pub struct Fixed {
    /// The workspace folder.
    pub workspace: PathBuf,
    /// `.octo/` in it.
    pub octo: PathBuf,
    /// The settings and where each came from.
    pub settings: Vec<SettingInfo>,
    /// When the daemon started, RFC 3339.
    pub started_at: String,
    /// This installation's mark.
    pub installation: String,
    /// The team file that the settings name.
    pub team: Option<PathBuf>,
    /// What is shared with push bridges.
    pub board: Arc<crate::bridge::Board>,
    /// Who knows which agents there are; `None`: this daemon runs none.
    pub agents: Option<Arc<dyn crate::exec::agent::AgentCheck>>,
    /// Who talks with the owner; `None`: nobody.
    pub hub: Option<crate::agent::hub::Hub>,
}

impl State {
    /// The state of one daemon. The receiver tells when somebody asked it to leave.
    #[must_use]
    pub fn new(supervisor: Handle, fixed: Fixed) -> (State, watch::Receiver<bool>) {
        let (leave, left) = watch::channel(false);
        let state = State { supervisor, fixed: Arc::new(fixed), tails: tail::Tails::default(), leave };
        (state, left)
    }

    /// Asks the daemon to leave.
    pub fn leave(&self) {
        self.leave.send_replace(true);
        self.supervisor.ring_leaving();
    }
}

/// Every route of the socket.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/background-agents", get(tasks::list))
        .route("/background-agents/start", post(tasks::start))
        .route("/background-agents/{id}", get(tasks::show).delete(tasks::remove))
        .route("/background-agents/{id}/logs", get(logs::logs))
        .route("/background-agents/{id}/stop", post(tasks::stop))
        .route("/background-agents/{id}/retry", post(tasks::retry))
        .route("/background-agents/{id}/raise", post(tasks::raise))
        .route("/background-agents/{id}/followup", post(tasks::followup))
        .route("/background-agents/{id}/resume", post(questions::resume))
        .route("/background-agents/{id}/questions", post(questions::ask))
        .route("/background-agents/{id}/questions/{question}", get(questions::look))
        .route("/owed", get(bridges::owed))
        .route("/receipts", post(bridges::receipts))
        .route("/bridges/{bridge}/pairing", get(bridges::candidate).post(bridges::open_pairing))
        .route("/bridges/{bridge}/pairing/decision", post(bridges::decide))
        .route("/background-agent-ws", get(ws::socket))
        .route("/agents", get(chat::agents))
        .route("/chat", post(chat::chat))
        .route("/notices", get(notices::notices))
        .route("/status", get(admin::status))
        .route("/shutdown", post(admin::shutdown))
        .route("/clear", post(admin::clear))
        .route("/trust", post(admin::accept))
        .route("/healthz", get(admin::healthz))
        .route("/metrics", get(admin::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(panicked))
        .with_state(state)
}

async fn no_route() -> Error {
    Refused::new(RefusedCode::NotFound, "there is no such route").hint("GET /openapi.json lists them").into()
}

async fn no_method() -> Response {
    let refused = Refused::new(RefusedCode::BadRequest, "this route does not take that method")
        .hint("GET /openapi.json lists the routes and their methods");
    (StatusCode::METHOD_NOT_ALLOWED, Json(ErrorBody { error: refused })).into_response()
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    Error(Refused::new(RefusedCode::Internal, "Octo failed on this request").hint("the daemon's log says more"))
        .into_response()
}

/// A refusal on its way out.
#[derive(Debug)]
struct Error(Refused);

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Error(refused)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody { error: self.0 })).into_response()
    }
}

/// A body or query that could not be read, told like every other refusal.
fn bad_input(what: &str, rejected: &dyn std::fmt::Display, status: StatusCode) -> Error {
    let code = if status == StatusCode::PAYLOAD_TOO_LARGE { RefusedCode::TooLarge } else { RefusedCode::BadRequest };
    Error(
        Refused::new(code, format!("the {what} cannot be read: {rejected}"))
            .hint("GET /openapi.json says what it takes"),
    )
}

/// Reads a JSON body; an empty one is the default.
fn json_or_default<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|e| bad_input("body", &e, StatusCode::BAD_REQUEST))
}

/// The longest that a long poll waits.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Seconds of a `wait=` as a duration, bounded.
fn wait_of(seconds: Option<u64>) -> Duration {
    Duration::from_secs(seconds.unwrap_or(0)).min(WAIT_MAX)
}
