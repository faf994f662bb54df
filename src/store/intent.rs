//! Batches that are accepted as a whole: the intent is on disk before the first record.
//!
//! Records are separate files, so a death between two renames would leave half a batch. Therefore all of a
//! batch's records are first written, durably, into one file, `.octo/batch-<first id>.json`: that is the
//! moment at which the batch is accepted. A start that finds such a file writes the records that are
//! missing and takes the file away. A batch that fails takes it away before anybody is told.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;

use rustix::fs::AtFlags;

use super::error::words;
use super::{Problem, Store, Write, disk, record};
use crate::task::{Task, TaskId};

/// The largest intent that is read again, in bytes; a batch of some ten thousand records fits.
pub(super) const INTENT_MAX: u64 = 256 << 20;

/// The file of the batch that begins with this task.
pub(super) fn name(first: TaskId) -> String {
    format!("batch-{first}.json")
}

fn is_intent(name: &str) -> bool {
    name.strip_prefix("batch-").and_then(|n| n.strip_suffix(".json")).is_some_and(|id| id.parse::<TaskId>().is_ok())
}

impl Store {
    /// Takes the intent of a batch away: all its records are on disk, or none of them shall be.
    pub fn drop_intent(&self, first: TaskId) {
        let gone = disk::retry(|| rustix::fs::unlinkat(&self.octo, name(first).as_str(), AtFlags::empty()));
        if let Err(errno) = gone.and_then(|()| disk::sync(&self.octo)) {
            tracing::warn!(%first, %errno, "the intent of a batch could not be taken away");
        }
    }

    /// At a start: completes the batches that a death cut short. What cannot be done stays for the next start.
    pub(super) fn redo_batches(&self) -> Vec<Problem> {
        let mut names = Vec::new();
        let _ = disk::list(&self.octo, |name, _| {
            names.extend(name.to_str().ok().filter(|n| is_intent(n)).map(str::to_owned));
        });
        names.iter().filter_map(|name| self.redo_batch(name)).collect()
    }

    fn redo_batch(&self, name: &str) -> Option<Problem> {
        let problem = |why: String| Some(Problem { file: name.to_owned(), why, kept: self.path.join(name) });
        let bytes = match disk::read_file(&self.octo, name, INTENT_MAX) {
            Ok(bytes) => bytes,
            Err(disk::Unread::Missing) => return None,
            Err(disk::Unread::Io(errno)) => return problem(words(errno)),
            Err(disk::Unread::Bad(why)) => return self.set_intent_aside(name, why),
        };
        let tasks: Vec<Task> = match serde_json::from_slice(&bytes) {
            Ok(tasks) => tasks,
            Err(e) => return self.set_intent_aside(name, format!("it holds no batch: {e}")),
        };
        let missing = tasks.into_iter().filter(|task| !self.has_record(task.id));
        let writes: Vec<Write> = missing.map(|task| Write::Task { task: Box::new(task), folder: true }).collect();
        if let Some(Err(e)) = self.save(&writes).into_iter().find(Result::is_err) {
            return problem(format!("a batch was accepted and cannot be written: {e}"));
        }
        let first = name.trim_start_matches("batch-").trim_end_matches(".json").parse().ok()?;
        self.drop_intent(first);
        None
    }

    fn has_record(&self, id: TaskId) -> bool {
        rustix::fs::statat(&self.tasks, record::name(id).as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn set_intent_aside(&self, name: &str, why: String) -> Option<Problem> {
        let kept = match self.rename_free(self.octo.as_fd(), OsStr::new(name), name) {
            Ok(new) => self.path.join("quarantine").join(new),
            Err(_) => self.path.join(name),
        };
        Some(Problem { file: name.to_owned(), why, kept })
    }
}
