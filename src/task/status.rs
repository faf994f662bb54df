//! The life of a task: [`Status::next`] is the whole matrix of legal steps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted; waits for a slot, or is being launched. The ancestor's `pending` is read as this.
    #[serde(alias = "pending")]
    Dispatched,
    /// Its claim was seen: it runs.
    Running,
    /// It waits for an answer (or for a rate limit to end) and holds no slot.
    Paused,
    /// An agent that was answered, waiting for a slot at the head of the queue.
    Resumed,
    /// Ended well.
    Completed,
    /// Ended otherwise: exit code, signal, time-out, limit, failed launch.
    Failed,
    /// Stopped by a person or a parent, or the task it waited for did not complete.
    Cancelled,
    /// An agent that used up its budget; `raise` lets it go on.
    BudgetExceeded,
    /// Cut off without an exit record; never run again unasked.
    Interrupted,
}

/// A step in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its claim was seen, or an agent got its slot; for a process also: it was answered.
    Run,
    /// It waits for an answer.
    Pause,
    /// An agent was answered and waits for a slot.
    Resume,
    /// It ended, as the status says.
    End(Status),
    /// A person asked for another run.
    Retry,
    /// A person raised the budget.
    Raise,
}

/// A step that the life of a task does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot take the step {step:?}")]
pub struct IllegalStep {
    /// Where the task stands.
    pub from: Status,
    /// What was asked of it.
    pub step: Step,
}

impl Status {
    /// Every status, in the order of a life.
    pub const ALL: [Status; 9] = [
        Status::Dispatched,
        Status::Running,
        Status::Paused,
        Status::Resumed,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::BudgetExceeded,
        Status::Interrupted,
    ];

    /// The status after `step`: every legal step is here, and nothing else is legal.
    ///
    /// # Errors
    /// [`IllegalStep`] for all others.
    pub fn next(self, step: Step) -> Result<Status, IllegalStep> {
        use Status::{BudgetExceeded, Dispatched, Paused, Resumed, Running};
        match (self, step) {
            (Dispatched | Paused | Resumed, Step::Run) => Ok(Running),
            (Running | Resumed, Step::Pause) => Ok(Paused),
            (Paused, Step::Resume) => Ok(Resumed),
            (from, Step::End(end)) if !from.is_ended() && end.is_ended() => Ok(end),
            (from, Step::Retry) if from.is_ended() => Ok(Dispatched),
            (BudgetExceeded, Step::Raise) => Ok(Dispatched),
            (from, step) => Err(IllegalStep { from, step }),
        }
    }

    /// Tells whether the task has ended.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Status::Completed | Status::Failed | Status::Cancelled | Status::BudgetExceeded | Status::Interrupted
        )
    }

    /// The word that records, commands and people use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Dispatched => "dispatched",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Resumed => "resumed",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::BudgetExceeded => "budget_exceeded",
            Status::Interrupted => "interrupted",
        }
    }

    /// The sign that lists show before the task.
    #[must_use]
    pub fn icon(self) -> &'static str {
        match self {
            Status::Running | Status::Resumed => "▶",
            Status::Dispatched => "…",
            Status::Paused => "?",
            Status::Completed => "✓",
            Status::Failed | Status::Cancelled => "✗",
            Status::BudgetExceeded => "$",
            Status::Interrupted => "!",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let s = if s == "pending" { "dispatched" } else { s };
        Status::ALL.into_iter().find(|x| x.word() == s).ok_or_else(|| {
            let all: Vec<_> = Status::ALL.iter().map(|x| x.word()).collect();
            format!("`{s}` is no status; there are: {}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The design's matrix, written out a second time as (from, to) pairs.
    #[test]
    fn exactly_the_steps_of_the_design_are_legal() {
        use Status::*;
        let ended = [Completed, Failed, Cancelled, BudgetExceeded, Interrupted];
        let mut legal = vec![
            (Dispatched, Running),
            (Running, Paused),
            (Paused, Running),
            (Paused, Resumed),
            (Resumed, Running),
            (Resumed, Paused),
        ];
        for to in ended {
            for from in [Dispatched, Running, Paused, Resumed] {
                legal.push((from, to));
            }
            legal.push((to, Dispatched));
        }
        let mut steps = vec![Step::Run, Step::Pause, Step::Resume, Step::Retry, Step::Raise];
        steps.extend(Status::ALL.map(Step::End));
        for from in Status::ALL {
            for to in Status::ALL {
                let reachable = steps.iter().any(|s| from.next(*s) == Ok(to));
                assert_eq!(reachable, legal.contains(&(from, to)), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn words_are_the_serde_names_and_pending_is_read() {
        for s in Status::ALL {
            assert_eq!(serde_json::to_value(s).unwrap(), s.word());
            assert_eq!(s.word().parse::<Status>(), Ok(s));
        }
        assert_eq!(serde_json::from_str::<Status>("\"pending\"").unwrap(), Status::Dispatched);
    }
}
