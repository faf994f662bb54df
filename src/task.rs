//! The record of one task, and every step its life may take.
//!
//! A [`Task`] is what `.octo/tasks/<id>.json` holds, field for field. It knows no IO and no clock: the
//! supervisor's core changes it, the store writes it. Fields that this version does not know are kept
//! in [`Task::extra`] and written back, so that an older Octo never damages a newer one's record.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod id;
mod question;
mod status;
mod time;

pub use id::{BadTaskId, TaskId};
pub use question::{ACTION_MAX, ALLOW, ALLOW_FOR_TASK, Action, Answer, Closed, DENY, PERMISSION, QUESTION, Question};
pub use status::{IllegalStep, Status, Step};
pub use time::Stamp;

/// The newest record schema that this version reads and writes.
pub const SCHEMA: u32 = 1;

/// The longest `result`, in bytes: enough for a summary, small enough to list.
pub const RESULT_MAX: usize = 16 * 1024;

/// How the thread of a conversation begins.
pub const CHAT: &str = "chat:";

/// What kind of work a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A shell command under a shim.
    #[default]
    Process,
    /// An LLM agent that runs inside the daemon.
    Agent,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Process => "process",
            Kind::Agent => "agent",
        })
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "process" => Ok(Kind::Process),
            "agent" => Ok(Kind::Agent),
            other => Err(format!("`{other}` is no kind of task; there are: process, agent")),
        }
    }
}

/// Which ends a task's owner wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyPolicy {
    /// Every end and every question.
    #[default]
    All,
    /// Every end, no questions.
    End,
    /// Ends other than `completed`.
    Failures,
    /// Nothing.
    None,
}

impl NotifyPolicy {
    /// Tells whether a notice of `kind` is wanted under this policy.
    #[must_use]
    pub fn wants(self, kind: NoticeKind) -> bool {
        match self {
            NotifyPolicy::All => true,
            NotifyPolicy::End => kind.is_end(),
            NotifyPolicy::Failures => kind.is_end() && kind != NoticeKind::Completed,
            NotifyPolicy::None => false,
        }
    }

    fn is_default(&self) -> bool {
        *self == NotifyPolicy::All
    }
}

impl FromStr for NotifyPolicy {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        serde_json::from_value(Value::String(s.to_owned()))
            .map_err(|_| format!("`{s}` is no notice policy; there are: all, end, failures, none"))
    }
}

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A question waits for an answer.
    Question,
    /// A question still waits for an answer.
    Reminder,
    /// A question was answered, or will not be any more.
    Closed,
    /// Most of a budget is used up.
    Budget,
    /// The task ended well.
    Completed,
    /// The task failed.
    Failed,
    /// The task was cancelled.
    Cancelled,
    /// The task used up its budget.
    BudgetExceeded,
    /// The task was cut off (its shim was killed, or the machine went down).
    Interrupted,
}

impl NoticeKind {
    /// Tells whether the notice reports the end of a task.
    #[must_use]
    pub fn is_end(self) -> bool {
        !self.is_of_question() && self != NoticeKind::Budget
    }

    /// Tells whether the notice is about a question.
    #[must_use]
    pub fn is_of_question(self) -> bool {
        matches!(self, NoticeKind::Question | NoticeKind::Reminder | NoticeKind::Closed)
    }

    /// The notice that a task with this status owes; `None` while it has not ended.
    #[must_use]
    pub fn of_end(status: Status) -> Option<Self> {
        match status {
            Status::Completed => Some(NoticeKind::Completed),
            Status::Failed => Some(NoticeKind::Failed),
            Status::Cancelled => Some(NoticeKind::Cancelled),
            Status::BudgetExceeded => Some(NoticeKind::BudgetExceeded),
            Status::Interrupted => Some(NoticeKind::Interrupted),
            Status::Dispatched | Status::Running | Status::Paused | Status::Resumed => None,
        }
    }
}

/// Where the delivery of one notice to one push bridge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// The bridge has not confirmed it yet.
    Owed,
    /// The bridge delivered it.
    Sent,
    /// It will not be delivered (the bridge was removed, or quiet rules dropped it).
    Dropped,
}

/// Something that people must be told, kept in the record until every push bridge has sent it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Notice {
    /// The record's revision that raised it; (task, rev) is the notice's identity.
    pub rev: u64,
    /// The workspace-wide sequence number: what a reader's cursor counts. Never used twice.
    #[serde(default)]
    pub seq: u64,
    /// What it tells.
    pub kind: NoticeKind,
    /// When it was raised.
    #[serde(default)]
    pub at: Stamp,
    /// The question that it is about; empty for ends.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub question: String,
    /// What it says, where the kind does not say it all: which budget.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Delivery by push bridge; empty when no bridge is configured.
    #[serde(default)]
    pub to: BTreeMap<String, Delivery>,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One entry of a task's history: a status it took, when, in which run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    /// When the step was taken.
    pub at: Stamp,
    /// The status it led to.
    pub status: Status,
    /// The run that it belongs to; counts from 1.
    pub run: u32,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A saved intent to stop a run. It outlives the daemon and is sent again at every boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stop {
    /// Who asked: `cli`, `repl`, `telegram:4711`, `task:c4b1e09a`, `octo` (a deadline or a limit).
    pub by: String,
    /// When it was asked.
    pub at: Stamp,
    /// Why: `cancel`, `timeout`, `low_disk`, or the person's words.
    pub reason: String,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a task has used of models so far; cumulative over turns and runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Tokens read by models, cached ones included.
    pub input_tokens: u64,
    /// Tokens written by models.
    pub output_tokens: u64,
    /// Cost in US dollars; null when not known.
    pub cost_usd: Option<f64>,
    /// Turns (model calls).
    pub turns: u64,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Usage {
    /// Tokens, input and output together.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// What a task may use at most; null means no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Budget {
    /// Tokens, input and output together.
    pub tokens: Option<u64>,
    /// US dollars.
    pub usd: Option<f64>,
    /// What it was at first, once it was raised: what a raise adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
    /// What the owner was already told of it at 80 %: the budget as it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warned: Option<Warned>,
    /// What stopped the task as `budget_exceeded`: `tokens`, `usd`, `turns`, `global`, or the task whose budget
    /// includes this one's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub over: String,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A budget as it was when the task was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Original {
    /// Tokens.
    pub tokens: Option<u64>,
    /// US dollars.
    pub usd: Option<f64>,
    /// Turns.
    pub turns: u32,
}

/// The budgets of which the owner was told that 80 % are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Warned {
    /// Tokens.
    pub tokens: Option<u64>,
    /// US dollars.
    pub usd: Option<f64>,
}

/// The tokens that a task used in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hour {
    /// The hour, counted from 1970.
    #[serde(rename = "h")]
    pub hour: u64,
    /// Tokens, input and output together.
    #[serde(rename = "t")]
    pub tokens: u64,
}

fn schema() -> u32 {
    SCHEMA
}

fn default_turns() -> u32 {
    50
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_unused(usage: &Usage) -> bool {
    *usage == Usage::default()
}

fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The record of one task: `.octo/tasks/<id>.json`.
///
/// Times are UTC; an empty [`Stamp`] means "not yet". Fields after `history` are written only when they
/// differ from their default, so that a plain task's record is exactly the documented one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Task {
    /// The record's schema; a record with a newer one is shown and never changed.
    #[serde(default = "schema")]
    pub schema: u32,
    /// Counts every save; with the id it names a state of the task.
    #[serde(default)]
    pub rev: u64,
    /// 8 hex characters; new ids begin with a letter, so that they never look like a number.
    pub id: TaskId,
    /// 1, 2, 3 ... per workspace; never used twice. 0: a record of the ancestor, not numbered yet.
    #[serde(default)]
    pub number: u64,
    /// The random id that `id` was cut from.
    #[serde(default)]
    pub uuid: String,
    /// The submitter's idempotency key; the same key again is the same task.
    #[serde(default)]
    pub key: String,
    /// What its owner calls it; may be empty.
    #[serde(default)]
    pub name: String,
    /// Process or agent.
    #[serde(rename = "type", default)]
    pub kind: Kind,
    /// Where the task stands.
    pub status: Status,
    /// `question`, `permission`, `rate_limit`; empty when not paused.
    #[serde(default)]
    pub paused_reason: String,
    /// The shell command line of a process task.
    #[serde(default)]
    pub command: String,
    /// The folder it runs in.
    #[serde(default)]
    pub cwd: String,
    /// The prompt of an agent task.
    #[serde(default)]
    pub prompt: String,
    /// The agent of a team that runs it.
    #[serde(default)]
    pub agent_name: String,
    /// The model of an agent task.
    #[serde(default)]
    pub model: String,
    /// `bg:<id>`; of a conversation with the supervisor agent `chat:<who>`.
    #[serde(default)]
    pub thread_id: String,
    /// How many turns an agent may take.
    #[serde(default = "default_turns")]
    pub max_turns: u32,
    /// Variables set on top of the caller's environment.
    #[serde(default)]
    pub env_overrides: BTreeMap<String, String>,
    /// The digest of the caller's environment, kept in `.octo/env/`; empty: the daemon's own.
    #[serde(default)]
    pub env: String,
    /// Seconds the task may run, pauses not counted; 0: no limit.
    #[serde(default)]
    pub timeout: u64,
    /// When it was accepted.
    #[serde(default)]
    pub created_at: Stamp,
    /// When the present run began.
    #[serde(default)]
    pub started_at: Stamp,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Stamp,
    /// The end of the output, or the agent's summary; at most [`RESULT_MAX`] bytes.
    #[serde(default)]
    pub result: String,
    /// Why it did not complete.
    #[serde(default)]
    pub error: String,
    /// The command's exit code.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The session of a `claude` command, for a later follow-up.
    #[serde(default)]
    pub session_id: String,
    /// The oldest open question.
    #[serde(default)]
    pub paused_question: String,
    /// When the task paused.
    #[serde(default)]
    pub paused_at: Stamp,
    /// All questions it asked.
    #[serde(default)]
    pub questions: Vec<Question>,
    /// All answers it got.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// What it used of models.
    #[serde(default)]
    pub usage: Usage,
    /// What it may use.
    #[serde(default)]
    pub budget: Budget,
    /// The task that dispatched it.
    #[serde(default)]
    pub parent: Option<TaskId>,
    /// The tasks it dispatched.
    #[serde(default)]
    pub children: Vec<TaskId>,
    /// The tasks that must complete first.
    #[serde(default)]
    pub after: Vec<TaskId>,
    /// The present run; counts from 1.
    #[serde(default)]
    pub run: u32,
    /// The saved intent to stop the present run.
    #[serde(default)]
    pub stop: Option<Stop>,
    /// What people must be told.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// Every status it took.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// Launches of the present attempt that this daemon saw fail; three end the task.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub launches: u32,
    /// Which notices its owner wants.
    #[serde(default, skip_serializing_if = "NotifyPolicy::is_default")]
    pub notify: NotifyPolicy,
    /// Leaves alone what the command left behind at a natural end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leave_children: bool,
    /// Lets the task dispatch others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_dispatch: bool,
    /// The tools that its owner allowed it for the rest of the present run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Milliseconds that the present run has been paused so far, without the present pause: its clock stood still.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub paused_ms: u64,
    /// The team file of an agent task, as it was named; empty: the one of the settings.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub team: String,
    /// What it used in journals of its own that it does not go on from: included in `usage`.
    #[serde(default, skip_serializing_if = "is_unused")]
    pub usage_before: Usage,
    /// The tokens that it used of late, by hours: at most 25 of them, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hour>,
    /// The installation that wrote it; a record without this workspace's mark is shown, not used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
    /// Fields of other versions, kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Task {
    /// A new, dispatched process task with nothing but its identity; the caller fills in the rest.
    #[must_use]
    pub fn new(id: TaskId, number: u64, now: Stamp) -> Self {
        let mut task = Task {
            schema: SCHEMA,
            rev: 0,
            thread_id: format!("bg:{id}"),
            id,
            number,
            uuid: String::new(),
            key: String::new(),
            name: String::new(),
            kind: Kind::Process,
            status: Status::Dispatched,
            paused_reason: String::new(),
            command: String::new(),
            cwd: String::new(),
            prompt: String::new(),
            agent_name: String::new(),
            model: String::new(),
            max_turns: default_turns(),
            env_overrides: BTreeMap::new(),
            env: String::new(),
            timeout: 0,
            created_at: now.clone(),
            started_at: Stamp::default(),
            completed_at: Stamp::default(),
            result: String::new(),
            error: String::new(),
            exit_code: None,
            signal: None,
            session_id: String::new(),
            paused_question: String::new(),
            paused_at: Stamp::default(),
            questions: Vec::new(),
            answers: Vec::new(),
            usage: Usage::default(),
            budget: Budget::default(),
            parent: None,
            children: Vec::new(),
            after: Vec::new(),
            run: 1,
            stop: None,
            notices: Vec::new(),
            history: Vec::new(),
            launches: 0,
            notify: NotifyPolicy::All,
            leave_children: false,
            allow_dispatch: false,
            grants: Vec::new(),
            paused_ms: 0,
            team: String::new(),
            usage_before: Usage::default(),
            hours: Vec::new(),
            mark: String::new(),
            extra: Map::new(),
        };
        task.remember(now);
        task
    }

    /// Takes one step of the task's life, if it is legal, and writes it into the history.
    ///
    /// # Errors
    /// [`IllegalStep`] when the status may not change so; the task is untouched then.
    pub fn take(&mut self, step: Step, now: &Stamp) -> Result<(), IllegalStep> {
        self.status = self.status.next(step)?;
        if self.status != Status::Paused {
            self.paused_reason.clear();
        }
        if self.status.is_ended() {
            self.completed_at = now.clone();
        }
        self.remember(now.clone());
        Ok(())
    }

    fn remember(&mut self, at: Stamp) {
        self.history.push(HistoryEntry { at, status: self.status, run: self.run, extra: Map::new() });
    }

    /// Tells whether some push bridge still has to send a notice of this task.
    #[must_use]
    pub fn owes_notices(&self) -> bool {
        self.notices.iter().any(|n| n.to.values().any(|d| *d == Delivery::Owed))
    }

    /// Tells whether the task is a conversation with the supervisor agent: those stand in no list and hold no slot.
    #[must_use]
    pub fn is_chat(&self) -> bool {
        self.thread_id.starts_with(CHAT)
    }

    /// About how many bytes the record has as JSON.
    #[must_use]
    pub fn weight(&self) -> usize {
        let overrides: usize = self.env_overrides.iter().map(|(k, v)| k.len() + v.len() + 6).sum();
        let texts = [&self.command, &self.cwd, &self.prompt, &self.name, &self.result, &self.key];
        let asked = |q: &Question| {
            let choices: usize = q.choices.iter().map(|c| c.len() + 3).sum();
            256 + q.text.len() + choices + q.action.as_ref().map_or(0, |a| 256 + a.what.len())
        };
        let asked: usize = self.questions.iter().map(asked).sum();
        let answered: usize = self.answers.iter().map(|a| 128 + a.text.len()).sum();
        let lists = self.history.len() + self.notices.len() + self.extra.len();
        1024 + overrides + texts.iter().map(|text| text.len()).sum::<usize>() + asked + answered + 128 * lists
    }

    /// What a list shows of the task: its name, else its command or prompt.
    #[must_use]
    pub fn title(&self) -> &str {
        [&self.name, &self.command, &self.prompt].into_iter().find(|s| !s.is_empty()).map_or("", String::as_str)
    }
}
