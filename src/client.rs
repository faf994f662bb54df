//! The typed client: what command line, REPL and bridges use to talk to the daemon.
//!
//! Each request is one HTTP/1 exchange over a connection of its own to `.octo/octo.sock` (some 20 µs,
//! and nothing to repair after a restart of the daemon):
//!
//! ```text
//! octo, REPL ──typed call──> Client ──HTTP/1──> .octo/octo.sock ──> octod
//!                               └── no daemon? `octod --detach` (never from inside a task)
//! ```
//!
//! A call that may be repeated without harm (reads, a start under its key, a stop) is repeated when the
//! daemon dies in the middle of it; every other call then says that it cannot know.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

use crate::command::{
    FollowupRequest, ListQuery, Listing, NoticePage, RaiseRequest, Refused, RefusedCode, Roster, ShutdownRequest,
    StartRequest, Started, StatusReport, TaskRef,
};
use crate::task::Task;
use crate::workspace::Workspace;

mod chat;
mod http;
mod logs;
mod near;
mod questions;
mod sse;
mod start;
mod wait;
mod wire;

pub use chat::{ChatEvent, ChatStream};
pub use http::Trouble;
pub use logs::{LogEvent, LogQuery, LogStream};
pub use start::Patience;
pub use wait::{Deputy, Vigil, Waited};

use http::Call;
use wire::{Answer, Wire};

/// How long one answer may take before the daemon counts as hung.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long a call is repeated over deaths of the daemon.
const REPEAT_FOR: Duration = Duration::from_secs(60);

/// How long a daemon that is shutting down is given to make room for its successor.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How long a waiting call leaves the place of a daemon that was stopped to somebody else.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the daemon is, and how one is started where none runs.
#[derive(Debug, Clone)]
pub struct Door {
    /// The workspace whose daemon is meant.
    pub workspace: Workspace,
    /// The daemon's program, found beside `octo`.
    pub octod: PathBuf,
    /// The environment says that this process belongs to a task of this workspace: it never starts
    /// the daemon, which would end with the task.
    pub inside_task: bool,
}

/// A typed client of one workspace's daemon. Cheap to clone; holds no connection unless it was made [ahead](Client::ahead).
#[derive(Debug, Clone)]
pub struct Client {
    door: Door,
    surface: Arc<str>,
    start: bool,
    patience: Patience,
    blocking: bool,
    /// A connection made ahead of its use.
    ahead: Arc<Mutex<Option<UnixStream>>>,
}

impl Client {
    /// A client that starts the daemon when none runs. `surface` is `cli`, `repl`, ...
    #[must_use]
    pub fn new(door: Door, surface: &'static str) -> Self {
        let surface = surface.into();
        Client { door, surface, start: true, patience: Patience::default(), blocking: false, ahead: Arc::default() }
    }

    /// Connects for the next call if a daemon listens: it finds out who calls while the call is being prepared.
    #[must_use]
    pub fn ahead(self) -> Self {
        Client { ahead: Arc::new(Mutex::new(start::connect(&self.door.workspace).ok())), ..self }
    }

    /// The same client, for whoever has nothing else to do meanwhile: its calls block the thread, need no event
    /// loop, and are done when they are polled once.
    #[must_use]
    pub fn blocking(self) -> Self {
        Client { blocking: true, ..self }
    }

    /// The same client, but it never starts a daemon and never waits for one.
    #[must_use]
    pub fn only_connect(&self) -> Self {
        Client { start: false, ..self.clone() }
    }

    /// The same client, with another bound on waiting for a daemon that it may not start.
    #[must_use]
    pub fn patience(&self, patience: Patience) -> Self {
        Client { patience, ..self.clone() }
    }

    /// The workspace that this client talks to.
    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.door.workspace
    }

    /// Tells whether a daemon listens at this moment.
    #[must_use]
    pub fn runs(&self) -> bool {
        start::connect(&self.door.workspace).is_ok()
    }

    /// What a person is told when nobody listens: that no daemon runs, or that one does and cannot be reached.
    #[must_use]
    pub fn nobody_listens(&self) -> Refused {
        http::nobody_listens(&self.door.workspace)
    }

    /// Makes sure that a daemon answers, starting one where that is allowed.
    ///
    /// # Errors
    /// `Unavailable` when none could be reached or started.
    pub async fn ensure(&self) -> Result<(), Refused> {
        self.open().await.map(drop).map_err(|t| t.refused(&self.door.workspace))
    }

    /// Starts one task (`POST /background-agents/start`); a key is made when it has none.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn start(&self, mut request: StartRequest) -> Result<Started, Refused> {
        if request.key.is_empty() {
            request.key = new_key();
        }
        self.json(Call::post("/background-agents/start").body(&request)?.repeatable()).await
    }

    /// Starts many tasks in order, all or none.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn start_all(&self, mut requests: Vec<StartRequest>) -> Result<Vec<Started>, Refused> {
        let base = new_key();
        for (i, request) in requests.iter_mut().enumerate().filter(|(_, r)| r.key.is_empty()) {
            request.key = format!("{base}-{i}");
        }
        self.json(Call::post("/background-agents/start").body(&requests)?.repeatable()).await
    }

    /// Lists tasks (`GET /background-agents`).
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn list(&self, query: &ListQuery) -> Result<Listing, Refused> {
        let mut q = http::Query::new("/background-agents");
        q.add_opt("status", query.status.map(|s| s.word().to_owned()));
        q.add_opt("kind", query.kind.map(|k| k.to_string()));
        q.add_opt("limit", query.limit.map(|n| n.to_string()));
        q.add_opt("cursor", query.cursor.clone());
        if query.hidden {
            q.add("hidden", "true");
        }
        self.json(Call::get(q.path()).repeatable()).await
    }

    /// One record (`GET /background-agents/{id}`).
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, or `Unavailable`.
    pub async fn get(&self, task: &TaskRef) -> Result<Task, Refused> {
        self.json(Call::get(http::task_path(task, "")?).repeatable()).await
    }

    /// Cancels a task.
    ///
    /// # Errors
    /// `Conflict` when it has ended already; `NotFound`; `Unavailable`.
    pub async fn stop(&self, task: &TaskRef) -> Result<(), Refused> {
        self.done(Call::post(http::task_path(task, "/stop")?).repeatable()).await
    }

    /// Runs an ended task again.
    ///
    /// # Errors
    /// `Conflict` when it has not ended; `NotFound`; `Unavailable`.
    pub async fn retry(&self, task: &TaskRef) -> Result<(), Refused> {
        self.done(Call::post(http::task_path(task, "/retry")?)).await
    }

    /// Lets an agent go on that used up its budget: adds so many tokens, or the original budget again. Returns the
    /// record.
    ///
    /// # Errors
    /// `Conflict` when it did not use up its budget, or when it is another one that is used up; `NotFound`;
    /// `Unavailable`.
    pub async fn raise(&self, task: &TaskRef, tokens: Option<u64>) -> Result<Task, Refused> {
        self.json(Call::post(http::task_path(task, "/raise")?).body(&RaiseRequest { tokens })?).await
    }

    /// Starts what follows an ended task; a key is made when there is none.
    ///
    /// # Errors
    /// `Conflict` when the task has not ended; `NotFound`; the refusal of an agent; `Unavailable`.
    pub async fn follow_up(&self, task: &TaskRef, mut request: FollowupRequest) -> Result<Started, Refused> {
        if request.key.is_empty() {
            request.key = new_key();
        }
        self.json(Call::post(http::task_path(task, "/followup")?).body(&request)?.repeatable()).await
    }

    /// Removes an ended task.
    ///
    /// # Errors
    /// `Conflict` when it has not ended or another task waits for it; `NotFound`; `Unavailable`.
    pub async fn remove(&self, task: &TaskRef) -> Result<(), Refused> {
        self.done(Call::new(Method::DELETE, http::task_path(task, "")?)).await
    }

    /// The notices after a cursor.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn notices(&self, after: u64) -> Result<NoticePage, Refused> {
        self.json(Call::get(format!("/notices?after={after}")).repeatable()).await
    }

    /// The cursor of the newest notice.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn newest_notice(&self) -> Result<u64, Refused> {
        let page: NoticePage = self.json(Call::get("/notices?after=latest").repeatable()).await?;
        Ok(page.cursor)
    }

    /// Waits up to `wait` for notices after a cursor; one attempt, which starts no daemon, so that a
    /// reader learns how the daemon went.
    ///
    /// # Errors
    /// What became of the attempt.
    pub async fn await_notices(&self, after: u64, wait: Duration) -> Result<NoticePage, Trouble> {
        let call = Call::get(format!("/notices?after={after}&wait={}", wait.as_secs())).slow(wait);
        http::read_json(self.only_connect().once(&call).await?).await
    }

    /// Which agents there are.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn agents(&self) -> Result<Roster, Refused> {
        self.json(Call::get("/agents").repeatable()).await
    }

    /// Hides the ended tasks from lists; tells how many.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn clear(&self) -> Result<u64, Refused> {
        #[derive(serde::Deserialize)]
        struct Cleared {
            cleared: u64,
        }
        self.json::<Cleared>(Call::post("/clear").repeatable()).await.map(|c| c.cleared)
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn status(&self) -> Result<StatusReport, Refused> {
        self.json(Call::get("/status").repeatable()).await
    }

    /// Asks the daemon to exit; returns when it has agreed (not when it has exited).
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable` when none could be reached.
    pub async fn shutdown(&self, request: &ShutdownRequest) -> Result<(), Refused> {
        let call = Call::post("/shutdown").body(request)?;
        match self.once(&call).await {
            // It went before it could answer: that is what was asked.
            Ok(_) | Err(Trouble::CutOff) => Ok(()),
            Err(trouble) => Err(trouble.refused(&self.door.workspace)),
        }
    }

    /// Trusts what came with the workspace; lists what was accepted.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn trust(&self) -> Result<Vec<String>, Refused> {
        #[derive(serde::Deserialize)]
        struct Trusted {
            accepted: Vec<String>,
        }
        self.json::<Trusted>(Call::post("/trust").repeatable()).await.map(|t| t.accepted)
    }

    /// A call whose answer is a JSON body.
    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Refused> {
        self.repeat(&call, http::read_json).await
    }

    /// A call whose answer says just that it was done.
    async fn done(&self, call: Call) -> Result<(), Refused> {
        self.repeat(&call, async |mut answer: Answer| {
            while answer.piece().await?.is_some() {}
            Ok(())
        })
        .await
    }

    /// Makes a call, repeating it over deaths and restarts of the daemon where that does no harm.
    async fn repeat<T>(&self, call: &Call, read: impl AsyncFn(Answer) -> Result<T, Trouble>) -> Result<T, Refused> {
        let began = Instant::now();
        let mut stopping: Option<Instant> = None;
        loop {
            // What merely waits leaves a daemon that was stopped in good order alone for a while:
            // somebody may be about to start the next one.
            let hand_over = call.waits && stopping.is_some_and(|at| at.elapsed() < HAND_OVER);
            let attempt = if hand_over { self.only_connect().once(call).await } else { self.once(call).await };
            let trouble = match attempt {
                Ok(answer) => match read(answer).await {
                    Ok(value) => return Ok(value),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            let again = match &trouble {
                Trouble::CutOff => call.waits || began.elapsed() < REPEAT_FOR,
                Trouble::Refused(r) if r.code == RefusedCode::Unavailable => {
                    stopping = Some(Instant::now());
                    call.waits || began.elapsed() < SHUTDOWN_GRACE
                }
                Trouble::Absent(_) => hand_over,
                Trouble::Refused(_) | Trouble::Silent | Trouble::Start(_) => false,
            };
            let late = call.until.is_some_and(|until| Instant::now() >= until);
            if late || !(again && call.repeatable && self.start) {
                return Err(trouble.refused(&self.door.workspace));
            }
            self.pause(PAUSE).await;
        }
    }

    /// One attempt at one call.
    async fn once(&self, call: &Call) -> Result<Answer, Trouble> {
        let wire = Wire::new(self.open().await?, self.blocking).map_err(Trouble::Absent)?;
        let left = call.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let limit = left.min(ANSWER_WITHIN + call.slow);
        wire.limit(limit).map_err(Trouble::Absent)?;
        let exchange = http::exchange(wire, call, &self.surface);
        if self.blocking {
            return exchange.await;
        }
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Silent),
        }
    }

    /// A connection to the daemon, which is started or waited for where this client may.
    async fn open(&self) -> Result<UnixStream, Trouble> {
        if let Some(stream) = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(stream);
        }
        match start::connect(&self.door.workspace) {
            Err(Trouble::Absent(_)) if self.start => start::connect_or_start(self).await,
            result => result,
        }
    }

    #[allow(clippy::disallowed_methods, reason = "between two attempts: a daemon that will be there announces nothing")]
    pub(crate) async fn pause(&self, pause: Duration) {
        if self.blocking {
            std::thread::sleep(pause);
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

/// A key that no other start has: what makes repeating a start safe.
#[must_use]
pub fn new_key() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The body of a request as JSON.
fn encode<T: serde::Serialize>(value: &T) -> Result<Bytes, Refused> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| Refused::new(RefusedCode::BadRequest, format!("the request cannot be written as JSON: {e}")))
}

#[cfg(test)]
mod tests;
