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
use octo::command::{QuestionRequest, QuestionState, ResumeRequest};
use octo::task::{Answer, Closed, Notice, NoticeKind, Question, Stamp, Status, Step, Task};
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
    /// Bodies of what was said to the agent.
    pub(crate) said: Vec<Value>,
    /// The events of its answer so far; `done` ends it.
    pub(crate) answer: Vec<(&'static str, Value)>,
    /// There is no model.
    pub(crate) no_model: bool,
    /// Answers everything with 503: it shuts down.
    pub(crate) stopping: bool,
    /// How many clients follow the log at present.
    pub(crate) followers: usize,
    /// How many requests asked something, repeated ones included.
    pub(crate) asks: usize,
    /// Notices are held back.
    pub(crate) hold: bool,
    /// The answer to an asking is lost once: the connection is cut behind it.
    pub(crate) cut_off: bool,
    /// Whether there is a bridge, and who sent its pairing code.
    pub(crate) bridge: bool,
    pub(crate) candidate: Option<Value>,
    /// How a pairing was decided.
    pub(crate) decided: Option<bool>,
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
            for question in task.questions.iter_mut().filter(|q| q.open) {
                question.open = false;
                question.closed = Some(Closed::TaskEnded);
            }
            facts.raise(number - 1, NoticeKind::of_end(status).unwrap(), "");
        });
    }

    /// The task with this number asks; returns the question's id.
    pub(crate) fn asks(&self, number: usize, question: Question) -> String {
        let mut id = String::new();
        self.change(|facts| id = facts.ask(number - 1, question));
        id
    }

    /// Somebody else answers a question.
    pub(crate) fn answers(&self, number: usize, question: &str, text: &str, by: &str) {
        self.change(|facts| facts.answer(number - 1, question, text, by, ""));
    }

    /// A question's time is over.
    pub(crate) fn lapses(&self, number: usize, question: &str) {
        self.change(|facts| facts.close(number - 1, question, Closed::NoAnswer));
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

impl Facts {
    fn raise(&mut self, task: usize, kind: NoticeKind, question: &str) {
        let task = &self.tasks[task];
        let notice = Notice {
            rev: task.rev,
            seq: self.notices.len() as u64 + 1,
            kind,
            at: Stamp::default(),
            to: Default::default(),
            question: question.to_owned(),
            text: String::new(),
            extra: Map::new(),
        };
        self.notices.push(json!({"notice": notice, "task": task}));
    }

    fn ask(&mut self, task: usize, question: Question) -> String {
        let asker = &mut self.tasks[task];
        if asker.status == Status::Running {
            asker.take(Step::Pause, &Stamp::from_millis(0)).unwrap();
        }
        let id = format!("q{}", asker.questions.len() + 1);
        asker.questions.push(Question { id: id.clone(), open: true, ..question });
        self.raise(task, NoticeKind::Question, &id);
        id
    }

    fn answer(&mut self, task: usize, question: &str, text: &str, by: &str, key: &str) {
        let at = Stamp::from_millis(0);
        let answer = Answer {
            question: question.to_owned(),
            text: text.to_owned(),
            by: by.to_owned(),
            key: key.to_owned(),
            at,
            ..Answer::default()
        };
        self.tasks[task].answers.push(answer);
        self.close(task, question, Closed::Answered);
    }

    fn close(&mut self, task: usize, question: &str, how: Closed) {
        let asker = &mut self.tasks[task];
        let found = asker.questions.iter_mut().find(|q| q.id == question).unwrap();
        (found.open, found.closed) = (false, Some(how));
        if asker.status == Status::Paused && !asker.questions.iter().any(|q| q.open) {
            asker.take(Step::Run, &Stamp::from_millis(0)).unwrap();
        }
        self.raise(task, NoticeKind::Closed, question);
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.tasks.iter().position(|t| t.id.as_str() == id || t.number.to_string() == id)
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
        .route("/chat", post(chat))
        .route("/background-agents/start", post(start))
        .route("/background-agents/{id}", get(one))
        .route("/background-agents/{id}/stop", post(stop))
        .route("/background-agents/{id}/logs", get(logs))
        .route("/background-agents/{id}/questions", post(ask))
        .route("/background-agents/{id}/questions/{question}", get(look))
        .route("/background-agents/{id}/resume", post(resume))
        .route("/bridges/{bridge}/pairing", post(open_pairing).get(candidate))
        .route("/bridges/{bridge}/pairing/decision", post(decide))
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
    let look = |facts: &Facts| (facts.notices.len() > after && !facts.hold || facts.stopping).then_some(());
    shared.wait(asked.get("wait"), look).await;
    let facts = shared.facts.lock().unwrap();
    if facts.stopping {
        return stopping();
    }
    let page = facts.notices.get(after..).filter(|_| !facts.hold).unwrap_or_default();
    Json(json!({"notices": page, "cursor": after + page.len()})).into_response()
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
        let task = running(facts.tasks.len() as u64 + 1, body["command"].as_str().or(body["task"].as_str()).unwrap());
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
    let new = |task: &Task| task.questions.iter().any(|q| q.open && Some(&q.id) != asked.get("seen"));
    let told = |facts: &Facts| facts.tasks.iter().any(|t| t.status.is_ended() || new(t)).then_some(());
    shared.wait(asked.get("wait"), told).await;
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

fn state_of(task: &Task, question: &Question) -> QuestionState {
    let answer = task.answers.iter().find(|a| a.question == question.id).cloned();
    QuestionState { question: question.clone(), answer }
}

async fn ask(
    State(shared): State<Shared>,
    Segment(id): Segment<String>,
    Json(asked): Json<QuestionRequest>,
) -> Response {
    let mut facts = shared.facts.lock().unwrap();
    facts.asks += 1;
    let Some(task) = facts.position(&id) else { return refuse(404, "not_found", &format!("no such task: {id}")) };
    if facts.tasks[task].status.is_ended() {
        return refuse(409, "conflict", &format!("task {id} has ended: nobody would wait for the answer"));
    }
    if !facts.tasks[task].questions.iter().any(|q| q.key == asked.key) {
        let millis = |s: u64| i64::try_from(s).unwrap() * 1000;
        let deadline = Stamp::from_millis(jiff::Timestamp::now().as_millisecond() + millis(asked.timeout));
        facts.ask(
            task,
            Question {
                text: asked.text,
                choices: asked.choices,
                key: asked.key.clone(),
                by: asked.by,
                deadline: if asked.timeout > 0 { deadline } else { Stamp::default() },
                ..Question::default()
            },
        );
        shared.changed.notify_waiters();
    }
    if std::mem::take(&mut facts.cut_off) {
        // More is promised than comes: as if the daemon died while it answered.
        let torn = futures_util::stream::once(async { Err::<String, _>(std::io::Error::other("killed")) });
        return axum::body::Body::from_stream(torn).into_response();
    }
    let task = &facts.tasks[task];
    let question = task.questions.iter().find(|q| q.key == asked.key).unwrap();
    (StatusCode::CREATED, Json(state_of(task, question))).into_response()
}

async fn look(
    State(shared): State<Shared>,
    Segment((id, question)): Segment<(String, String)>,
    Query(asked): Asked,
) -> Response {
    let find = |facts: &Facts| {
        let task = &facts.tasks[facts.position(&id)?];
        task.questions.iter().find(|q| q.id == question).map(|q| state_of(task, q))
    };
    let closed = |facts: &Facts| find(facts).filter(|found| !found.question.open);
    shared.wait(asked.get("wait"), closed).await;
    let found = find(&shared.facts.lock().unwrap());
    match found {
        Some(found) => Json(found).into_response(),
        None => refuse(404, "not_found", "no such question"),
    }
}

/// The first answer wins; the same key again is the same answer.
async fn resume(
    State(shared): State<Shared>,
    Segment(id): Segment<String>,
    headers: axum::http::HeaderMap,
    Json(given): Json<ResumeRequest>,
) -> Response {
    let mut facts = shared.facts.lock().unwrap();
    let Some(number) = facts.position(&id) else { return refuse(404, "not_found", &format!("no such task: {id}")) };
    let task = &facts.tasks[number];
    if task.answers.iter().any(|a| a.key == given.key) {
        return Json(task.clone()).into_response();
    }
    let open: Vec<&Question> = task.questions.iter().filter(|q| q.open).collect();
    let named = given.question.as_ref().map(|id| task.questions.iter().find(|q| q.id == *id).unwrap());
    let question = match (named, open.as_slice()) {
        (Some(question), _) => question,
        (None, [one]) if !one.is_permission() => one,
        (None, []) => return refuse(409, "conflict", &format!("task {id} asks nothing")),
        (None, _) => return refuse(409, "conflict", &format!("task {id} asks for a permission, or several things")),
    };
    if let Some(answer) = task.answers.iter().find(|a| a.question == question.id) {
        let message = format!("{} was already answered by {} at 12:03: {}", question.id, answer.by, answer.text);
        return refuse(409, "conflict", &message);
    }
    let Some(text) = question.accepts(&given.answer) else {
        return refuse(400, "bad_request", "that is no answer");
    };
    let (qid, by) = (question.id.clone(), headers["x-octo-client"].to_str().unwrap().to_owned());
    facts.answer(number, &qid, &text, &by, &given.key);
    shared.changed.notify_waiters();
    Json(facts.tasks[number].clone()).into_response()
}

fn no_bridge() -> Response {
    refuse(404, "not_found", "no bridge to telegram is set up")
}

async fn open_pairing(State(shared): State<Shared>) -> Response {
    if !shared.facts.lock().unwrap().bridge {
        return no_bridge();
    }
    Json(json!({"code": "ABCD2345"})).into_response()
}

async fn candidate(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let sent = |facts: &Facts| if facts.bridge { facts.candidate.clone() } else { Some(Value::Null) };
    Json(shared.wait(asked.get("wait"), sent).await).into_response()
}

async fn decide(State(shared): State<Shared>, Json(decision): Json<Value>) -> Response {
    shared.facts.lock().unwrap().decided = decision["accept"].as_bool();
    shared.changed.notify_waiters();
    Json(json!({})).into_response()
}

/// An answer comes as the test gives it.
async fn chat(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    let no_model = {
        let mut facts = shared.facts.lock().unwrap();
        facts.said.push(body);
        facts.no_model
    };
    shared.changed.notify_waiters();
    if no_model {
        return refuse(409, "conflict", "no model is chosen for agents: set OCTO_MODEL, or use demo/tour");
    }
    let stream = futures_util::stream::unfold((0, false, shared), |(n, over, shared)| async move {
        if over {
            return None;
        }
        let next = |facts: &Facts| facts.answer.get(n).cloned();
        let (name, data) = shared.wait(Some(&"60".to_owned()), next).await?;
        let text = format!("event: {name}\ndata: {data}\n\n");
        Some((Ok::<_, std::io::Error>(text), (n + 1, name == "done", shared)))
    });
    axum::body::Body::from_stream(stream).into_response()
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
