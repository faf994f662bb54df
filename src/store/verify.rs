//! The background check: ended records are read again, slowly, and compared with what the index said.

use std::ffi::OsStr;

use super::record::{self, NotLoaded};
use super::{Marks, Problem, Store, Summary, Write, locked};
use crate::task::{Task, TaskId};

/// What a record on disk and its summary disagree in.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// The record says something else than its summary: it was edited by hand.
    Changed(Box<Task>),
    /// The record is gone.
    Missing(TaskId),
    /// The record cannot be understood any more; it was set aside.
    Bad(TaskId, Problem),
}

impl Store {
    /// Reads the records of ended tasks and tells which of them are not as their summaries say.
    ///
    /// Meant for a thread of its own, which asks for some hundred at a time and rests in between. A task that
    /// was saved since its summary was taken may come back as [`Difference::Changed`]: the owner compares with
    /// what it knows by then. What cannot be read just now is left for another pass.
    pub fn verify(&self, known: &[Summary]) -> Vec<Difference> {
        known.iter().filter_map(|summary| self.verify_one(summary)).collect()
    }

    fn verify_one(&self, known: &Summary) -> Option<Difference> {
        match record::load(&self.tasks, known.id) {
            Ok(task) => (Summary::of(&task) != *known).then(|| Difference::Changed(Box::new(task))),
            Err(NotLoaded::Missing) => Some(Difference::Missing(known.id)),
            Err(NotLoaded::Bad(..)) => {
                let difference = self.verify_bad(known);
                if let Some(Difference::Bad(..)) = difference {
                    // No record shows its number any more, and it must stay used.
                    let marks = Marks { numbers_used: known.number, seq_used: known.last_seq, ..Marks::default() };
                    let _ = self.save(&[Write::Marks(marks)], &[]);
                }
                difference
            }
            Err(NotLoaded::Io(_)) => None,
        }
    }

    /// Looks again while nothing can be saved: what was bad may just have been replaced by a good record.
    fn verify_bad(&self, known: &Summary) -> Option<Difference> {
        let _still = locked(&self.moving);
        match record::load(&self.tasks, known.id) {
            Ok(task) => (Summary::of(&task) != *known).then(|| Difference::Changed(Box::new(task))),
            Err(NotLoaded::Missing) => Some(Difference::Missing(known.id)),
            Err(NotLoaded::Io(_)) => None,
            Err(NotLoaded::Bad(not, _)) => {
                let name = record::name(known.id);
                let problem = if not.newer {
                    self.leave(OsStr::new(&name), not.why)
                } else {
                    let problem = self.set_aside(OsStr::new(&name), &not.why);
                    self.sync_moves();
                    problem
                };
                Some(Difference::Bad(known.id, problem))
            }
        }
    }
}
