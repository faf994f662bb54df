//! The tasks that completion and hints know.

use std::sync::{Mutex, MutexGuard, PoisonError};

use octo::command::Listing;
use octo::render::sanitize;
use octo::task::{Status, Task};

/// One task, as far as completion needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownTask {
    pub(crate) number: String,
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) title: String,
}

/// The tasks that a person is likely to name next.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) tasks: Vec<KnownTask>,
    active: usize,
}

impl Known {
    /// Takes over what a listing shows.
    pub(crate) fn learn(&mut self, listing: &Listing) {
        let known = |task: &Task| KnownTask {
            number: task.number.to_string(),
            id: task.id.to_string(),
            status: task.status,
            title: sanitize::line(task.title()),
        };
        self.active = listing.active.len();
        self.tasks = listing.active.iter().chain(&listing.history).take(super::KNOWN).map(known).collect();
    }

    /// How many tasks have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// The task with this number or id.
    pub(crate) fn find(&self, reference: &str) -> Option<&KnownTask> {
        let reference = reference.strip_prefix('#').unwrap_or(reference);
        self.tasks.iter().find(|t| t.id == reference).or_else(|| self.tasks.iter().find(|t| t.number == reference))
    }
}

/// A panic elsewhere leaves the list as it was, which does.
pub(crate) fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
