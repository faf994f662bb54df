//! One vocabulary for all surfaces: what can be asked of the supervisor, what it answers, and how it
//! refuses.
//!
//! REPL, command line, panel, chat and MCP all speak it through the HTTP API; the wire types here are
//! the API's bodies. [`Refused`] carries what went wrong and what to do, and knows its HTTP status and
//! its exit code, so that every surface tells the same story.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::task::{Answer, Delivery, Kind, Notice, NotifyPolicy, Question, Status, Task, TaskId};

/// Who asks. The API finds it out from the peer's process, never from what the peer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The workspace's owner, through the surface named (`cli`, `repl`, `api`, `telegram:4711`).
    Owner(String),
    /// A process inside a task of this workspace; `None` when its task cannot be told.
    Task(Option<TaskId>),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Owner(surface) => f.write_str(surface),
            Actor::Task(Some(id)) => write!(f, "task:{id}"),
            Actor::Task(None) => f.write_str("task:unknown"),
        }
    }
}

/// The header of an answer that is one record: the word of the task's status. Who waits for an end sees it there
/// without reading the record.
pub const STATUS_HEADER: &str = "x-octo-status";

/// What a person or program writes to name a task: an id, an unambiguous prefix of one, or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct TaskRef(pub String);

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of an environment variable: text, or bytes where it is no UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum EnvValue {
    /// The usual case.
    Text(String),
    /// Not UTF-8.
    Bytes(Vec<u8>),
}

/// A caller's whole environment, sorted by name, so that equal environments have equal digests.
pub type Env = BTreeMap<String, EnvValue>;

/// The body of `POST /background-agents/start`: one task to start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct StartRequest {
    /// Process or agent.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The shell command line of a process task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// The agent to run (agent tasks).
    #[serde(rename = "agentId", skip_serializing_if = "String::is_empty")]
    pub agent_id: String,
    /// The agent's prompt (agent tasks).
    #[serde(rename = "task", skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// The idempotency key; the same key again is the same task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What its owner calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The folder to run in; empty: the workspace folder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cwd: String,
    /// The caller's environment; absent: the daemon's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Env>,
    /// The environment is that of the item before, in an array; then `env` is absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub same_env: bool,
    /// Variables set on top of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env_overrides: BTreeMap<String, String>,
    /// Seconds it may run; 0: no limit.
    pub timeout: u64,
    /// Tasks that must complete first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<TaskRef>,
    /// Which notices its owner wants.
    pub notify: NotifyPolicy,
    /// Leaves alone what the command left behind at a natural end.
    pub leave_children: bool,
    /// Lets the task dispatch others.
    pub allow_dispatch: bool,
    /// The model (agent tasks).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// How many turns an agent may take; absent: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// How many tokens the task and those that it starts may use; absent, for an agent: as the settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u64>,
    /// How many US dollars they may cost; absent: no limit. Of a process: what each `claude -p` in it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// The team file (agent tasks); empty: the one of the settings.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub team: String,
    /// The thread of a conversation; only the daemon itself starts those.
    #[serde(skip)]
    pub thread: String,
}

/// The answer to one start: the record and the name that panels know it by.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Started {
    /// The id again, under the name that the panel protocol has for it.
    #[serde(rename = "instanceId")]
    pub instance_id: TaskId,
    /// The record.
    #[serde(flatten)]
    pub task: Task,
}

/// The query of `GET /background-agents`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ListQuery {
    /// Just tasks with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Just tasks of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// How many ended tasks at most; absent: 50; 0: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page before ended (`next` of its answer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Also those that `/bg clear` hid.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// The answer to `GET /background-agents`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Listing {
    /// Tasks that have not ended: running, then paused, then queued; each group in order of number.
    pub active: Vec<Task>,
    /// Ended tasks, the newest end first.
    pub history: Vec<Task>,
    /// The cursor of the next page of history; null at the end.
    pub next: Option<String>,
    /// How many ended tasks match in all.
    #[serde(default)]
    pub total: usize,
}

/// One notice as readers get it: the notice and the task it is about, as it stands now.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NoticeItem {
    /// The notice.
    pub notice: Notice,
    /// The task.
    pub task: Task,
}

/// The answer to `GET /notices`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NoticePage {
    /// The notices after the cursor, oldest first; at most 100 a page.
    pub notices: Vec<NoticeItem>,
    /// The cursor to ask with next.
    pub cursor: u64,
    /// Whether more wait behind this page.
    #[serde(default)]
    pub more: bool,
}

/// One setting as `octo status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SettingInfo {
    /// The variable's name.
    pub name: String,
    /// Its value; secrets are shown as `set`.
    pub value: String,
    /// Where it came from: `environment`, `.env`, `octo.toml`, `default`.
    pub source: String,
}

/// The answer to `GET /status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct StatusReport {
    /// The daemon's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The workspace folder.
    pub workspace: String,
    /// When the daemon started, RFC 3339.
    pub started_at: String,
    /// Slots in all.
    pub slots: usize,
    /// Slots in use.
    pub slots_used: usize,
    /// How many tasks have each status.
    pub counts: BTreeMap<String, usize>,
    /// Empty, or why the store cannot save at present.
    pub degraded: String,
    /// Things the owner should know: quarantined records, a new task refused for low disk, ...
    pub problems: Vec<String>,
    /// The settings and where each came from.
    pub settings: Vec<SettingInfo>,
    /// Bridges and their health.
    pub bridges: Vec<Value>,
    /// The newest notice's sequence number.
    pub notice_seq: u64,
    /// How many questions are open.
    pub open_questions: usize,
}

/// The body of `POST /shutdown`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ShutdownRequest {
    /// Stops all tasks first.
    pub kill_tasks: bool,
}

/// The body of `POST /background-agents/{id}/stop`; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct StopRequest {
    /// Why; `cancel` when empty.
    pub reason: String,
}

/// The body of `POST /background-agents/{id}/raise`; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct RaiseRequest {
    /// How many tokens are added; absent: the original budget again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// The body of `POST /chat`: something that is said to the supervisor agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ChatRequest {
    /// What.
    pub text: String,
    /// The idempotency key; the same key again is the same word, and gives its answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Begins a new conversation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new: bool,
    /// The model that answers from now on; empty: as before, at first OCTO_MODEL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
}

/// The answer to `GET /agents`: the team of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Roster {
    /// The team's file; empty: there is none.
    pub team: String,
    /// The agent that starts when none is named.
    pub root: String,
    /// Its agents, in the file's order.
    pub agents: Vec<RosterAgent>,
    /// The model of agents that have none of their own; empty: none is set.
    pub model: String,
    /// Why the team cannot be used; empty: it can.
    pub problem: String,
}

/// One agent of a team.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct RosterAgent {
    /// Its name.
    pub name: String,
    /// Its own model; may be empty.
    pub model: String,
    /// What it is good for.
    pub description: String,
    /// The agents that it may dispatch.
    pub sub_agents: Vec<String>,
}

/// The body of `POST /background-agents/{id}/followup`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct FollowupRequest {
    /// What is to be done next.
    pub text: String,
    /// The idempotency key; the same key again is the same task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
}

/// The body of `POST /background-agents/{id}/resume`: an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ResumeRequest {
    /// The answer: a choice, its number from 1, or free text where the question takes it.
    pub answer: String,
    /// The question that it is for. May be absent when exactly one plain question is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The channel's key: the same key again is the same answer, and no late one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
}

/// The body of `POST /background-agents/{id}/questions`: a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct QuestionRequest {
    /// What is asked; for a permission it may be empty.
    pub text: String,
    /// The answers offered; empty: free text. A permission has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Another answer than the choices is taken, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub free: bool,
    /// A random key: the same key again is the same question.
    pub key: String,
    /// What asks, in a word: `octo ask`, `claude`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Seconds until it closes without an answer; 0: never by itself.
    pub timeout: u64,
    /// What permission is asked for; then it is a request for permission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionRequest>,
}

/// An action as the asker's tool call says it; what its owner is shown is computed from this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ActionRequest {
    /// The tool: `Bash`, `Write`, ...
    pub tool: String,
    /// The tool's whole input.
    pub input: Value,
    /// The folder that it acts in.
    pub folder: String,
}

/// A question and what became of it: the answer to both routes of questions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QuestionState {
    /// The question; `open`, `closed` and `action.digest` say where it stands and what an approval is for.
    pub question: Question,
    /// Its answer, once there is one.
    #[serde(default)]
    pub answer: Option<Answer>,
}

/// The answer to `GET /owed`: what a push bridge has still to tell, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Owed {
    /// At most 100 notices, each with its task as it stands now.
    pub notices: Vec<NoticeItem>,
    /// How many are owed in all.
    pub total: usize,
}

/// One entry of `POST /receipts`: what became of a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The task.
    pub task: TaskId,
    /// The notice's sequence number.
    pub seq: u64,
    /// `sent` or `dropped`.
    pub delivery: Delivery,
}

/// The body of `POST /receipts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipts {
    /// The bridge.
    pub bridge: String,
    /// What became of which notices.
    pub receipts: Vec<Receipt>,
}

/// Why a request was refused; each has one HTTP status and one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// The request makes no sense.
    BadRequest,
    /// This peer may not do that.
    Forbidden,
    /// No such task.
    NotFound,
    /// The prefix fits several tasks.
    Ambiguous,
    /// The task's present state does not allow it.
    Conflict,
    /// The request is larger than allowed.
    TooLarge,
    /// The store could not save (full disk, failing disk), or the disk is low.
    Storage,
    /// This version cannot do it.
    Unsupported,
    /// The daemon is shutting down or cannot be reached.
    Unavailable,
    /// A defect in Octo.
    Internal,
}

impl RefusedCode {
    /// The HTTP status of the refusal.
    #[must_use]
    pub fn http(self) -> u16 {
        match self {
            RefusedCode::BadRequest => 400,
            RefusedCode::Forbidden => 403,
            RefusedCode::NotFound => 404,
            RefusedCode::Ambiguous | RefusedCode::Conflict => 409,
            RefusedCode::TooLarge => 413,
            RefusedCode::Storage => 507,
            RefusedCode::Unsupported => 501,
            RefusedCode::Unavailable => 503,
            RefusedCode::Internal => 500,
        }
    }

    /// The exit code of a command that was refused so.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            RefusedCode::BadRequest | RefusedCode::TooLarge | RefusedCode::Unsupported => 2,
            RefusedCode::Unavailable => 3,
            RefusedCode::NotFound | RefusedCode::Ambiguous => 4,
            RefusedCode::Conflict | RefusedCode::Forbidden => 6,
            RefusedCode::Storage | RefusedCode::Internal => 1,
        }
    }

    /// What to do about a refusal that does not say so itself.
    #[must_use]
    pub fn usual_hint(self) -> &'static str {
        match self {
            RefusedCode::BadRequest | RefusedCode::TooLarge | RefusedCode::Unsupported => {
                "`octo --help` shows what can be asked"
            }
            RefusedCode::Forbidden => "it is for the workspace's owner, outside of any task",
            RefusedCode::NotFound | RefusedCode::Ambiguous => "`octo tasks` lists the tasks",
            RefusedCode::Conflict => "`octo task ID` shows the task's state",
            RefusedCode::Storage => "`octo doctor` looks at the disk",
            RefusedCode::Unavailable => "`octo doctor` checks the workspace",
            RefusedCode::Internal => "`octo doctor` checks the workspace; the daemon's log is .octo/octod.log",
        }
    }
}

/// A refusal: what happened, in words for people, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema)]
#[error("{message}")]
pub struct Refused {
    /// The kind of refusal.
    pub code: RefusedCode,
    /// What happened.
    pub message: String,
    /// What to do; may be empty.
    #[serde(default)]
    pub hint: String,
}

impl Refused {
    /// A refusal with a message and no hint.
    pub fn new(code: RefusedCode, message: impl Into<String>) -> Self {
        Refused { code, message: message.into(), hint: String::new() }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// `no such task: X`.
    #[must_use]
    pub fn no_such_task(what: impl fmt::Display) -> Self {
        Refused::new(RefusedCode::NotFound, format!("no such task: {what}")).hint("`octo tasks` lists them")
    }
}

/// The body of every error answer: `{"error": {...}}`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The refusal.
    pub error: Refused,
}
