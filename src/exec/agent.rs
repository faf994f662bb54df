//! What the supervisor and the agents say to each other.
//!
//! ```text
//!                launch(task), stop(id)                       (the executor)
//!   supervisor ─────────────────────────► agents
//!      core    ◄───────────────────────── one driver per agent that is under way
//!                Ask::Agent(Report), Ask::Reserve, Ask::Question
//! ```
//!
//! The journal says what an agent did; the record says how its task stands. An agent that waits has no driver and
//! no slot: the supervisor launches it again when what it waits for has happened, just as after a restart. So a
//! launch always means: go on from the journal.
//!
//! A report is answered when it is taken in; one that ends or parks the agent when that is durable. One that is
//! refused did not happen: the agent is launched again, and reports again what its journal says.

use serde::{Deserialize, Serialize};

use crate::agent::drive::Parking;
use crate::command::{Refused, StartRequest};
use crate::task::{Task, TaskId, Usage};

/// Who drives agents.
pub trait Agents: Send + Sync {
    /// Drives a task's agent from its journal, in the background; reports follow, the first one when it has read
    /// the journal. One that is driven already is left alone.
    fn launch(&self, task: &Task);

    /// Stops the driver of a run, with all that it runs; [`Report::Stopped`] follows, also when there is none.
    fn stop(&self, id: TaskId, run: u32);
}

/// Who knows which agents there are.
pub trait AgentCheck: Send + Sync + std::fmt::Debug {
    /// Looks at the start of an agent by its owner, or by the task `parent`, before it is accepted: fills in the
    /// agent's name and model. It may read files.
    ///
    /// # Errors
    /// A refusal, of an unknown agent with those that are available.
    fn check(&self, request: &mut StartRequest, parent: Option<&Task>) -> Result<(), Refused>;
}

/// Nobody: of a daemon without agents.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAgents;

impl Agents for NoAgents {
    fn launch(&self, task: &Task) {
        tracing::warn!(id = %task.id, "there is nobody to drive an agent");
    }

    fn stop(&self, _: TaskId, _: u32) {}
}

/// What a driver reports of its agent. Every report carries what the agent has used in its life.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentReport {
    /// The task.
    pub id: TaskId,
    /// Its run.
    pub run: u32,
    /// What it has used so far, since the beginning of its journal.
    pub usage: Usage,
    /// What happened.
    pub what: Report,
}

/// What can be reported.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// It is under way, and has used so much.
    Working,
    /// It waits, and its driver has left.
    Parked(Parking),
    /// It is over.
    Ended {
        /// Well or not.
        ok: bool,
        /// Its result, or why it failed.
        text: String,
    },
    /// A budget is used up: which, for people. Its driver has left.
    OverBudget(String),
    /// No model answers; its driver has left.
    Failed(String),
    /// It was stopped.
    Stopped,
    /// Its driver could not go on (a full disk ...) and has left: it is launched again a little later.
    Lost(String),
}

/// What a request to a model may use, asked for before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The task.
    pub id: TaskId,
    /// Its run.
    pub run: u32,
    /// How many tokens the prompt may have.
    pub prompt: u64,
    /// The most tokens of the reply that make sense.
    pub max_output: u32,
    /// What a token of prompt and of reply costs, in millionths of a millionth of a dollar; `None`: nobody knows.
    pub rates: Option<(u64, u64)>,
}

/// The answer to a [`Reserve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// So many tokens the reply may have.
    Output(u32),
    /// There will be more, or any, when others that count for the same budget have their replies: ask again then.
    Later,
    /// Which budget is used up, for people.
    UsedUp(String),
}
