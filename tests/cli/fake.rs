//! A daemon that knows just enough: it answers from a list of records that the test holds, so that
//! command line and REPL can be driven through every answer without a supervisor behind them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octo::task::{Notice, NoticeKind, Stamp, Status, Step, Task};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

/// What the fake knows.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) tasks: Vec<Task>,
    pub(crate) notices: Vec<Value>,
    pub(crate) log: Vec<u8>,
    /// Bodies of starts, as they came.
    pub(crate) starts: Vec<Value>,
    /// Answers everything with 503: it shuts down.
    pub(crate) stopping: bool,
    /// How many clients follow the log at present.
    pub(crate) followers: usize,
}

#[derive(Clone, Default)]
struct Shared {
    facts: Arc<Mutex<Facts>>,
    changed: Arc<Notify>,
}

/// A workspace with a fake daemon in it.
pub(crate) struct Fake {
    pub(crate) dir: tempfile::TempDir,
    shared: Shared,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fake {
    /// A workspace without a daemon.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".octo")).unwrap();
        Fake { dir, shared: Shared::default(), runtime: None }
    }

    /// Starts (again) to listen.
    pub(crate) fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = self.root().join(".octo/octo.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = {
            let _guard = runtime.enter();
            tokio::net::UnixListener::bind(&socket).unwrap()
        };
        let app = router(self.shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
        self.runtime = Some(runtime);
    }

    /// Dies: every connection is cut, nobody listens.
    pub(crate) fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Looks at the facts.
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.shared.facts.lock().unwrap()
    }

    /// Changes the facts; whoever waits looks again.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts());
        self.shared.changed.notify_waiters();
    }

    /// Waits until the facts are so.
    pub(crate) fn until(&self, what: &str, so: impl Fn(&Facts) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !so(&self.facts()) {
            assert!(std::time::Instant::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }

    /// Adds a running task.
    pub(crate) fn runs(&self, command: &str) {
        self.change(|facts| {
            let number = facts.tasks.len() as u64 + 1;
            facts.tasks.push(running(number, command));
        });
    }

    /// Ends the task with this number and raises its notice.
    pub(crate) fn ends(&self, number: usize, status: Status, result: &str) {
        self.change(|facts| {
            let task = &mut facts.tasks[number - 1];
            task.take(Step::End(status), &Stamp::from_millis(1_000)).unwrap();
            task.exit_code = Some(i32::from(status != Status::Completed) * 3);
            result.clone_into(&mut task.result);
            let notice = Notice {
                rev: task.rev,
                seq: facts.notices.len() as u64 + 1,
                kind: NoticeKind::of_end(status).unwrap(),
                at: Stamp::default(),
                to: Default::default(),
                question: String::new(),
                extra: Map::new(),
            };
            facts.notices.push(json!({"notice": notice, "task": task}));
        });
    }

    /// The command, set up so that it finds this workspace and never starts a daemon.
    pub(crate) fn octo(&self) -> std::process::Command {
        let mut octo = std::process::Command::new(env!("CARGO_BIN_EXE_octo"));
        octo.current_dir(self.dir.path())
            .env_remove("NO_COLOR")
            .env("HOME", self.dir.path().join("home"))
            .env("XDG_DATA_HOME", self.dir.path().join("home/data"))
            .env("OCTO_WORKSPACE", self.dir.path())
            .env("OCTO_TASK_ID", "c4b1e09a")
            .env("TERM", "xterm");
        octo
    }

    pub(crate) fn history(&self) -> PathBuf {
        Path::new(self.dir.path()).join("home/data/octo/history")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.die();
    }
}

fn running(number: u64, command: &str) -> Task {
    let now = Stamp::from_millis(0);
    let mut task = Task::new(format!("c4b1e{number:03}").parse().unwrap(), number, now.clone());
    task.take(Step::Run, &now).unwrap();
    task.started_at = now;
    command.clone_into(&mut task.command);
    task
}

type Asked = Query<std::collections::HashMap<String, String>>;

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/status", get(|| async { Json(json!({"pid": std::process::id(), "version": "fake", "slots": 3})) }))
        .route("/notices", get(notices))
        .route("/background-agents", get(list))
        .route("/background-agents/start", post(start))
        .route("/background-agents/{id}", get(one))
        .route("/background-agents/{id}/stop", post(stop))
        .route("/background-agents/{id}/logs", get(logs))
        .with_state(shared)
}

fn refuse(status: u16, code: &str, message: &str) -> Response {
    let body = json!({"error": {"code": code, "message": message, "hint": "a hint"}});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn stopping() -> Response {
    refuse(503, "unavailable", "the daemon is shutting down")
}

impl Shared {
    /// Waits for something that the facts may already tell, or for the time to be up.
    async fn wait<T>(&self, seconds: Option<&String>, look: impl Fn(&Facts) -> Option<T>) -> Option<T> {
        let limit = Duration::from_secs(seconds.map_or(0, |s| s.parse().unwrap()));
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = look(&self.facts.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.ok()
    }

    fn task(&self, id: &str) -> Option<Task> {
        let facts = self.facts.lock().unwrap();
        facts.tasks.iter().find(|t| t.id.as_str() == id || t.number.to_string() == id).cloned()
    }
}

async fn notices(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let newest = shared.facts.lock().unwrap().notices.len();
    if asked["after"] == "latest" {
        return Json(json!({"notices": [], "cursor": newest})).into_response();
    }
    let after: usize = asked["after"].parse().unwrap();
    let look = |facts: &Facts| (facts.notices.len() > after || facts.stopping).then_some(());
    shared.wait(asked.get("wait"), look).await;
    let facts = shared.facts.lock().unwrap();
    if facts.stopping {
        return stopping();
    }
    let page = facts.notices.get(after..).unwrap_or_default();
    Json(json!({"notices": page, "cursor": after.max(facts.notices.len())})).into_response()
}

async fn list(State(shared): State<Shared>) -> Response {
    let facts = shared.facts.lock().unwrap();
    let (history, active): (Vec<_>, Vec<_>) = facts.tasks.iter().partition(|t| t.status.is_ended());
    Json(json!({"active": active, "history": history, "next": null, "total": history.len()})).into_response()
}

async fn start(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut facts = shared.facts.lock().unwrap();
    facts.starts.push(body.clone());
    let one = |facts: &mut Facts, body: &Value| {
        let task = running(facts.tasks.len() as u64 + 1, body["command"].as_str().unwrap());
        facts.tasks.push(task.clone());
        json!(octo::command::Started { instance_id: task.id, task })
    };
    let answer = match body.as_array() {
        Some(many) => many.iter().map(|body| one(&mut facts, body)).collect::<Value>(),
        None => one(&mut facts, &body),
    };
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn one(State(shared): State<Shared>, Segment(id): Segment<String>, Query(asked): Asked) -> Response {
    let ended = |facts: &Facts| facts.tasks.iter().any(|t| t.status.is_ended()).then_some(());
    shared.wait(asked.get("wait"), ended).await;
    match shared.task(&id) {
        Some(task) => Json(task).into_response(),
        None => refuse(404, "not_found", &format!("no such task: {id}")),
    }
}

async fn stop(State(shared): State<Shared>, Segment(id): Segment<String>) -> Response {
    match shared.task(&id) {
        Some(task) if task.status.is_ended() => refuse(409, "conflict", "it has ended already"),
        Some(task) => Json(task).into_response(),
        None => refuse(404, "not_found", &format!("no such task: {id}")),
    }
}

/// Followed logs never end by themselves here: a test ends them.
async fn logs(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let log = shared.facts.lock().unwrap().log.clone();
    let headers = [("x-octo-log-from", "0".to_owned()), ("x-octo-log-size", log.len().to_string())];
    if !asked.contains_key("follow") {
        return (headers, log).into_response();
    }
    let data = json!({"from": 0, "bytes": STANDARD.encode(&log)});
    let first = format!("event: log\ndata: {data}\n\n");
    shared.facts.lock().unwrap().followers += 1;
    let goodbye = Goodbye(shared);
    let stream = futures_util::stream::unfold((Some(first), goodbye), |(first, goodbye)| async move {
        match first {
            Some(text) => Some((Ok::<_, std::io::Error>(text), (None, goodbye))),
            None => std::future::pending().await,
        }
    });
    (headers, axum::body::Body::from_stream(stream)).into_response()
}

/// Notes that a follower went away.
struct Goodbye(Shared);

impl Drop for Goodbye {
    fn drop(&mut self) {
        if let Ok(mut facts) = self.0.facts.lock() {
            facts.followers -= 1;
        }
    }
}
