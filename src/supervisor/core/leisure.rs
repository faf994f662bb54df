//! Cleaning up at leisure: when the run folders of ended tasks are folded away.
//!
//! Nobody waits for it, and it costs as much as running a small task does; so it is done when no task has
//! ended for a moment, a few at a time. What waits is bounded: beyond the bounds the oldest is folded for each
//! one that comes.

use std::collections::VecDeque;

use super::{Core, Effect, Now, Phase};
use crate::task::TaskId;

/// How long no task must have ended.
const QUIET_MS: u64 = 1000;

/// How many may wait.
const WAITING_MAX: usize = 2048;

/// How many bytes of results those may hold.
const HELD_MAX: usize = 8 << 20;

/// How many are folded before other inputs get a chance.
const AT_ONCE: usize = 4;

/// The ended tasks that wait to be folded away, oldest first.
#[derive(Debug, Default)]
pub(super) struct Leisure {
    waiting: VecDeque<(TaskId, usize)>,
    held: usize,
    due: Option<u64>,
}

impl Leisure {
    /// When there is something to do, milliseconds since boot.
    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Tells whether a task waits here.
    pub(super) fn knows(&self, id: TaskId) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == id)
    }

    fn is_over(&self) -> bool {
        self.waiting.len() > WAITING_MAX || self.held > HELD_MAX
    }

    fn pop(&mut self) -> Option<TaskId> {
        let (id, bytes) = self.waiting.pop_front()?;
        self.held -= bytes;
        Some(id)
    }
}

impl Core {
    /// Lets a task that has ended wait for its clean-up.
    pub(super) fn fold_later(&mut self, id: TaskId, now: Now) {
        let bytes = self.live_task(id).map_or(0, |live| live.task.result.len());
        self.leisure.waiting.push_back((id, bytes));
        self.leisure.held += bytes;
        self.leisure.due = Some(if self.leisure.is_over() { now.boot } else { now.boot + QUIET_MS });
    }

    /// Folds some of those away whose time has come.
    pub(super) fn fold_some(&mut self, now: Now) {
        if self.leisure.due.is_none_or(|due| due > now.boot) {
            return;
        }
        let in_a_hurry = self.leisure.is_over();
        for _ in 0..AT_ONCE {
            let Some(id) = self.leisure.pop() else { break };
            // It may have been retried or removed since.
            if self.live_task(id).is_some_and(|live| live.phase == Phase::Settling) {
                self.emit(Some(id), Effect::Fold { id });
            }
        }
        self.leisure.due = match self.leisure.waiting.is_empty() {
            true => None,
            false if in_a_hurry && !self.leisure.is_over() => Some(now.boot + QUIET_MS),
            false => Some(now.boot),
        };
    }
}
