//! One HTTP/1 exchange over a Unix socket, and how it can go wrong.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde::de::DeserializeOwned;

use super::wire::{Answer, Wire};
use crate::command::{ErrorBody, Refused, RefusedCode, TaskRef};
use crate::workspace::Workspace;

/// How one attempt at a call failed.
#[derive(Debug)]
pub enum Trouble {
    /// The daemon answered no.
    Refused(Refused),
    /// No daemon listens.
    Absent(std::io::Error),
    /// The connection ended before the answer did: the daemon died, or was stopped.
    CutOff,
    /// The daemon took the request and does not answer.
    Silent,
    /// No daemon listens, and none could be started.
    Start(Refused),
}

impl Trouble {
    /// What a person is told.
    #[must_use]
    pub fn refused(self, workspace: &Workspace) -> Refused {
        let unavailable = |message: String| Refused::new(RefusedCode::Unavailable, message);
        match self {
            Trouble::Refused(refused) | Trouble::Start(refused) => refused,
            Trouble::Absent(e) if is_absent(&e) => nobody_listens(workspace),
            Trouble::Absent(e) => {
                unavailable(format!("the daemon of {} cannot be reached: {e}", workspace.root.display()))
                    .hint("`octo doctor` checks the workspace")
            }
            Trouble::CutOff => unavailable("the daemon went away before it answered".to_owned())
                .hint("whether it did what you asked is not known: `octo tasks` shows"),
            Trouble::Silent => unavailable("the daemon does not answer".to_owned())
                .hint("`octo doctor` checks it; tasks go on in any case"),
        }
    }
}

/// Nobody listens: no daemon runs, or one that cannot be reached.
pub(super) fn nobody_listens(workspace: &Workspace) -> Refused {
    let root = workspace.root.display();
    match crate::workspace::holder(workspace) {
        None => Refused::new(RefusedCode::Unavailable, format!("no daemon runs for {root}"))
            .hint("`octo daemon --detach` starts one"),
        Some(holder) => {
            let end = holder.pid.map_or_else(|| "end it".to_owned(), |pid| format!("end it (`kill {pid}`)"));
            let message =
                format!("{holder} holds {root} and takes no connections: its socket is gone, or not there yet");
            Refused::new(RefusedCode::Unavailable, message).hint(format!(
                "a daemon that starts or ends needs a moment, and one whose socket was deleted ends within seconds: \
                 try again, or {end}; tasks go on"
            ))
        }
    }
}

/// Tells whether the error just says that nobody listens.
pub(super) fn is_absent(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

/// A request that can be sent more than once.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    /// Doing it twice is the same as doing it once.
    pub(super) repeatable: bool,
    /// It waits for something to happen: it goes on over restarts of the daemon, however many.
    pub(super) waits: bool,
    /// How long the daemon may hold the answer back, on top of the usual.
    pub(super) slow: Duration,
    /// After this nobody wants the answer any more.
    pub(super) until: Option<Instant>,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        let (body, slow, until) = (None, Duration::ZERO, None);
        Call { method, path: path.into(), body, repeatable: false, waits: false, slow, until }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Call::new(Method::GET, path)
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Call::new(Method::POST, path)
    }

    pub(super) fn body<T: serde::Serialize>(mut self, body: &T) -> Result<Self, Refused> {
        self.body = Some(super::encode(body)?);
        Ok(self)
    }

    pub(super) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    pub(super) fn slow(mut self, wait: Duration) -> Self {
        self.slow = wait;
        self
    }

    pub(super) fn until(mut self, until: Option<Instant>) -> Self {
        self.until = until;
        self
    }

    pub(super) fn waits(mut self) -> Self {
        self.waits = true;
        self
    }
}

/// A call as a request.
fn request(call: &Call, surface: &str) -> Result<Request<Full<Bytes>>, Trouble> {
    let request = Request::builder().method(&call.method).uri(&call.path).header(HOST, "octo");
    let request = request.header("x-octo-client", surface);
    let request = match &call.body {
        Some(body) => request.header(CONTENT_TYPE, "application/json").body(Full::new(body.clone())),
        None => request.body(Full::default()),
    };
    request
        .map_err(|e| Trouble::Refused(Refused::new(RefusedCode::BadRequest, format!("there is no such request: {e}"))))
}

/// Sends one request and reads the head of its answer; an error status becomes its refusal. The body of the
/// answer that is returned is still to be read.
pub(super) async fn exchange(wire: Wire, call: &Call, surface: &str) -> Result<Answer, Trouble> {
    let mut answer = Answer::to(request(call, surface)?, wire).await?;
    if (200..300).contains(&answer.status()) {
        return Ok(answer);
    }
    let body = answer.rest().await?;
    Err(Trouble::Refused(refusal(answer.status(), &body)))
}

/// The refusal in an error answer; one is made up from the status when the body is not the contract's.
fn refusal(status: u16, body: &[u8]) -> Refused {
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
        return body.error;
    }
    let code = match status {
        403 => RefusedCode::Forbidden,
        404 => RefusedCode::NotFound,
        409 => RefusedCode::Conflict,
        413 => RefusedCode::TooLarge,
        501 => RefusedCode::Unsupported,
        503 => RefusedCode::Unavailable,
        507 => RefusedCode::Storage,
        400..=499 => RefusedCode::BadRequest,
        _ => RefusedCode::Internal,
    };
    let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
    Refused::new(code, format!("the daemon answered {status}: {text}"))
        .hint("`octo status` shows whether client and daemon are of one version")
}

/// Reads the whole body as JSON.
pub(super) async fn read_json<T: DeserializeOwned>(mut answer: Answer) -> Result<T, Trouble> {
    let body = answer.rest().await?;
    serde_json::from_slice(&body).map_err(|e| {
        let message = format!("the daemon's answer is not understood: {e}");
        Trouble::Refused(
            Refused::new(RefusedCode::Internal, message)
                .hint("client and daemon may be of different versions: `octo stop`, then try again"),
        )
    })
}

/// The path of a task's route; the reference may be any text.
pub(super) fn task_path(task: &TaskRef, tail: &str) -> Result<String, Refused> {
    if task.0.is_empty() || task.0.len() > 200 || matches!(task.0.as_str(), "." | "..") {
        return Err(Refused::no_such_task(task));
    }
    Ok(format!("/background-agents/{}{tail}", percent(&task.0)))
}

/// Percent-encodes all but the unreserved characters.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A path with a query, built one pair at a time.
pub(super) struct Query {
    path: String,
    first: bool,
}

impl Query {
    pub(super) fn new(path: impl Into<String>) -> Self {
        Query { path: path.into(), first: true }
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.path.push(if self.first { '?' } else { '&' });
        self.first = false;
        self.path.push_str(name);
        self.path.push('=');
        self.path.push_str(&percent(value));
    }

    pub(super) fn add_opt(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.add(name, &value);
        }
    }

    pub(super) fn path(self) -> String {
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_never_escapes_its_path_segment() {
        let path = |s: &str| task_path(&TaskRef(s.to_owned()), "/stop");
        assert_eq!(path("12").unwrap(), "/background-agents/12/stop");
        assert_eq!(path("../x?y#z").unwrap(), "/background-agents/..%2Fx%3Fy%23z/stop");
        assert_eq!(path("é").unwrap(), "/background-agents/%C3%A9/stop");
        for bad in ["", ".", ".."] {
            assert_eq!(path(bad).unwrap_err().code, RefusedCode::NotFound);
        }
    }

    #[test]
    fn an_answer_outside_the_contract_still_has_a_fitting_code() {
        assert_eq!(refusal(404, b"nope").code, RefusedCode::NotFound);
        assert_eq!(refusal(422, b"").code, RefusedCode::BadRequest);
        assert_eq!(refusal(502, b"<html>").code, RefusedCode::Internal);
        let own = br#"{"error":{"code":"ambiguous","message":"m","hint":"h"}}"#;
        assert_eq!(refusal(409, own), Refused::new(RefusedCode::Ambiguous, "m").hint("h"));
    }
}
