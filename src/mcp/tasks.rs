//! Background tasks for the client's model: start, list, view, stop, wait. Never an answer.
//!
//! Names, descriptions and schemas are those of agents' own tools ([`crate::agent::tools::TOOLS`]). What they say is
//! JSON, bounded, without control characters; a refusal is a result marked as an error, with what to do about it.

use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::RequestId;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::agent::tools::{Call, DispatchBackground, RESULT_MAX, TaskType, cap};
use crate::client::{Client, LogEvent, LogQuery, Patience, Waited, new_key};
use crate::command::{ListQuery, Refused, RefusedCode, StartRequest, TaskRef};
use crate::render::{self, sanitize};
use crate::task::{Kind, Question, Status, Task};

/// The tools, in the order in which clients list them.
pub(super) const NAMES: [&str; 5] = [
    "dispatch_background",
    "list_background_agents",
    "view_background_agent",
    "stop_background_agent",
    "wait_background_agents",
];

/// How long a wait is that was given no time.
const WAIT: u64 = 300;
/// The most tasks that are listed: those that have not ended, and the newest ends.
const LISTED: (usize, usize) = (200, 20);
/// The most characters of a command in a list.
const TITLE: usize = 120;
/// What a task's output may take in one answer, of all tasks together and of each at least, in bytes.
const OUTPUT: (usize, usize) = (RESULT_MAX, 512);
/// How long the daemon may take to say what this task may do.
const MAY_DISPATCH: Duration = Duration::from_secs(5);

/// The tasks that a client may start and look after.
#[derive(Debug)]
pub struct Tasks {
    client: Client,
    /// Only this task's own.
    of: Option<TaskRef>,
    /// Tells the requests of this server from those of any other.
    session: String,
    may: OnceCell<bool>,
}

impl Tasks {
    /// All tasks of the workspace, for its owner's clients.
    #[must_use]
    pub fn of_owner(client: Client) -> Self {
        Tasks { client, of: None, session: new_key(), may: OnceCell::new_with(Some(true)) }
    }

    /// Those that `task` starts, if it may start any.
    #[must_use]
    pub fn of_task(client: Client, task: TaskRef) -> Self {
        Tasks { client, of: Some(task), session: new_key(), may: OnceCell::new() }
    }

    /// Tells whether they are offered. As long as the daemon cannot be asked, they are not.
    pub(super) async fn are_offered(&self) -> bool {
        let asked = self.may.get_or_try_init(|| async {
            let Some(task) = &self.of else { return Ok(true) };
            let client = self.client.only_connect();
            let record = tokio::time::timeout(MAY_DISPATCH, client.get(task)).await.map_err(drop)?;
            record.map(|record| record.allow_dispatch).map_err(drop)
        });
        asked.await.copied().unwrap_or(false)
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// The daemon's refusal, with a hint for a model.
    pub(super) async fn answer(&self, call: Call, request: &Request) -> Result<Value, Refused> {
        let arguments = call.arguments();
        let answered = match call {
            Call::DispatchBackground(args) => self.dispatch(args, request.key(&self.session, &arguments)).await,
            Call::ListBackgroundAgents(_) => self.list().await,
            Call::ViewBackgroundAgent(args) => self.view(TaskRef(args.task_id)).await,
            Call::StopBackgroundAgent(args) => self.stop(TaskRef(args.task_id)).await,
            Call::WaitBackgroundAgents(args) => Ok(self.wait(args.task_ids, args.timeout.unwrap_or(WAIT)).await),
            other => Err(Refused::new(RefusedCode::Unsupported, format!("{} is not offered here", other.name()))),
        };
        answered.map_err(for_models)
    }

    async fn dispatch(&self, args: DispatchBackground, key: String) -> Result<Value, Refused> {
        let max_turns = args.max_turns.map(u32::try_from).transpose();
        let max_turns = max_turns.map_err(|_| Refused::new(RefusedCode::BadRequest, "`max_turns` is too large"))?;
        let request = StartRequest {
            kind: match args.task_type {
                TaskType::Process => Kind::Process,
                TaskType::Agent => Kind::Agent,
            },
            command: args.command.unwrap_or_default(),
            prompt: args.prompt.unwrap_or_default(),
            agent_id: args.agent_name.unwrap_or_default(),
            cwd: args.cwd.unwrap_or_default(),
            timeout: args.timeout.unwrap_or(0),
            max_turns,
            key,
            ..StartRequest::default()
        };
        let task = self.client.start(request).await?.task;
        Ok(json!({"task_id": task.id, "number": task.number, "status": task.status.word(), "cwd": task.cwd}))
    }

    async fn list(&self) -> Result<Value, Refused> {
        let (active, history, total) = match &self.of {
            None => {
                let listing = self.client.list(&ListQuery { limit: Some(LISTED.1), ..ListQuery::default() }).await?;
                (listing.active, listing.history, listing.total)
            }
            Some(me) => {
                let ids = self.client.get(me).await?.children;
                let newest = ids.iter().rev().take(LISTED.0);
                let records = newest.map(async |id| self.client.get(&TaskRef(id.to_string())).await.ok());
                let found: Vec<Task> = join_all(records).await.into_iter().flatten().collect();
                let (ended, active): (Vec<_>, Vec<_>) = found.into_iter().partition(|task| task.status.is_ended());
                let total = ended.len();
                (active, ended.into_iter().take(LISTED.1).collect(), total)
            }
        };
        let now = jiff::Timestamp::now().as_millisecond();
        let shown: Vec<Value> = active.iter().take(LISTED.0).chain(&history).map(|task| row(task, now)).collect();
        let left = active.len().saturating_sub(LISTED.0) + total.saturating_sub(history.len());
        Ok(json!({"tasks": shown, "not_shown": left}))
    }

    async fn view(&self, task: TaskRef) -> Result<Value, Refused> {
        let task = self.client.get(&task).await?;
        let now = jiff::Timestamp::now().as_millisecond();
        let Value::Object(mut shown) = row(&task, now) else { return Err(no_object()) };
        for (name, time) in
            [("created_at", &task.created_at), ("started_at", &task.started_at), ("completed_at", &task.completed_at)]
        {
            if !time.is_empty() {
                shown.insert(name.to_owned(), json!(time));
            }
        }
        shown.insert("cwd".to_owned(), json!(task.cwd));
        let (output, whole) = self.output(&task).await?;
        put_output(&mut shown, &task, &output, whole, OUTPUT.0);
        Ok(Value::Object(shown))
    }

    /// What a task has said so far, or its result; and whether that is all of it.
    async fn output(&self, task: &Task) -> Result<(String, bool), Refused> {
        if task.kind == Kind::Agent && task.status.is_ended() {
            return Ok((task.result.clone(), true));
        }
        let most = i64::try_from(OUTPUT.0).unwrap_or(i64::MAX);
        let query = LogQuery { from: Some(-most), ..LogQuery::default() };
        let mut log = self.client.logs(&TaskRef(task.id.to_string()), query).await?;
        let mut bytes = Vec::new();
        while let Some(event) = log.next().await? {
            if let LogEvent::Bytes(piece) = event {
                bytes.extend_from_slice(&piece);
            }
        }
        Ok((sanitize::bytes(&bytes), log.starts_at == 0))
    }

    async fn stop(&self, task: TaskRef) -> Result<Value, Refused> {
        let id = self.client.get(&task).await?.id;
        self.client.stop(&TaskRef(id.to_string())).await?;
        Ok(json!({"task_id": id, "stopping": true}))
    }

    /// Waits for all of them, over any number of the daemon's deaths.
    async fn wait(&self, mut ids: Vec<String>, seconds: u64) -> Value {
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        let limit = Duration::from_secs(seconds);
        let room = (OUTPUT.0 / ids.len().max(1)).max(OUTPUT.1);
        // Each of them waits as long as all of them do, whatever becomes of the daemon meanwhile.
        let client = self.client.patience(Patience::For(limit));
        let each = ids.into_iter().map(async |id| {
            let task = TaskRef(id.clone());
            let ended = client.wait(&task, Some(limit), |_, _| {}).await;
            let state = match ended {
                Ok(Waited::Ended(task)) => Ok(*task),
                Ok(Waited::TimedOut) => self.client.get(&task).await,
                Err(refused) => Err(refused),
            };
            waited(&id, state, room)
        });
        let tasks: Vec<Value> = join_all(each).await;
        let all_done = tasks.iter().all(|task| task["done"] == true);
        let mut answer = json!({"all_done": all_done});
        if tasks.iter().any(|task| task["done"] == false && task.get("error").is_none()) {
            answer["timed_out"] = true.into();
        }
        answer["tasks"] = tasks.into();
        answer
    }
}

/// One request of a client, as far as it tells requests apart.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    /// claude's id of the call: the same one when it asks again over a new connection.
    pub(super) tool_use: Option<String>,
}

impl Request {
    /// The key of the start that it asks for: the same request again is the same task. A client that uses a
    /// number twice for different things means different things.
    fn key(&self, session: &str, arguments: &Value) -> String {
        // Where another program stands in for the provider, it may count them: 0, 1, 2.
        let unique = self.tool_use.as_ref().filter(|id| id.starts_with("toolu_") && id.len() >= 24);
        let whose = match unique {
            Some(id) => format!("claude\0{id}"),
            None => format!("{session}\0{}", self.id),
        };
        let digest = Sha256::digest(format!("{whose}\0{arguments}"));
        digest.iter().take(16).fold("mcp-".to_owned(), |key, byte| format!("{key}{byte:02x}"))
    }
}

/// One task in a list.
fn row(task: &Task, now: i64) -> Value {
    let mut row = json!({"task_id": task.id, "number": task.number, "type": task.kind, "status": task.status.word()});
    let mut put = |name: &str, value: Value| {
        row[name] = value;
    };
    let why = render::why(task);
    if !why.is_empty() {
        put("why", why.into());
    }
    if !task.name.is_empty() {
        put("name", sanitize::line(&task.name).into());
    }
    let (what, text) = match task.kind {
        Kind::Process => ("command", &task.command),
        Kind::Agent => ("prompt", &task.prompt),
    };
    put(what, render::fit(&sanitize::line(text), TITLE).into());
    if let Some(took) = render::took(task, now) {
        put("seconds", (took / 1000).into());
    }
    if let Some(code) = task.exit_code {
        put("exit_code", code.into());
    }
    if let Some(question) = task.questions.iter().find(|question| question.open) {
        put("waits_for", open(question));
    }
    row
}

/// A question that only the owner answers.
fn open(question: &Question) -> Value {
    let text = sanitize::text(&render::subject(question));
    json!({"question": cap(&text, OUTPUT.1, "the card of the task"), "who_answers": "the owner of the workspace"})
}

/// What a task said, as much of it as there is room for.
fn put_output(shown: &mut Map<String, Value>, task: &Task, output: &str, whole: bool, room: usize) {
    let text = sanitize::text(output);
    let text = text.trim_end();
    let short = cap(text, room, &format!("the log: octo task {} logs", task.id));
    if !whole || short.len() < text.len() {
        shown.insert("truncated".to_owned(), true.into());
    }
    shown.insert("output".to_owned(), short.into());
    if !task.error.is_empty() {
        shown.insert("error".to_owned(), cap(&sanitize::text(&task.error), room, "the task's record").into());
    }
}

/// One task of those that were waited for.
fn waited(asked: &str, state: Result<Task, Refused>, room: usize) -> Value {
    match state {
        Ok(task) => {
            let done = task.status.is_ended();
            let mut shown = Map::new();
            shown.insert("task_id".to_owned(), json!(task.id));
            shown.insert("status".to_owned(), task.status.word().into());
            shown.insert("done".to_owned(), done.into());
            if let Some(code) = task.exit_code {
                shown.insert("exit_code".to_owned(), code.into());
            }
            if done {
                put_output(&mut shown, &task, &task.result, true, room);
            } else if let Some(question) = task.questions.iter().find(|q| q.open && task.status == Status::Paused) {
                shown.insert("waits_for".to_owned(), open(question));
            }
            Value::Object(shown)
        }
        Err(refused) => {
            let refused = for_models(refused);
            // There is nothing to wait for, or it cannot be told.
            let (status, done) = match refused.code {
                RefusedCode::NotFound | RefusedCode::Ambiguous | RefusedCode::BadRequest => ("not_found", true),
                RefusedCode::Forbidden => ("refused", true),
                RefusedCode::Conflict
                | RefusedCode::TooLarge
                | RefusedCode::Storage
                | RefusedCode::Unsupported
                | RefusedCode::Unavailable
                | RefusedCode::Internal => ("unknown", false),
            };
            json!({"task_id": asked, "status": status, "done": done, "error": refused.message})
        }
    }
}

/// The refusal with a hint that a model can follow.
fn for_models(mut refused: Refused) -> Refused {
    if matches!(refused.code, RefusedCode::NotFound | RefusedCode::Ambiguous) {
        refused.hint = "list_background_agents shows the ids".to_owned();
    }
    refused
}

fn no_object() -> Refused {
    Refused::new(RefusedCode::Internal, "a task cannot be shown")
}
