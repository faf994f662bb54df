//! Keeps records safe: the only code that writes `.octo/tasks/<id>.json`.
//!
//! ```text
//!   driver --save(batch)--> Store --one frame, one sync--> .octo/journal-N
//!      ^                      |----temp, rename----------> .octo/tasks/<id>.json
//!      `----one result each---'----temp, sync, rename----> .octo/env/<digest>, .octo/marks.json
//!   boot ----load()-------> Store <--the journal, names, index.jsonl, the few records that are unsettled
//! ```
//!
//! The store knows no policy: it does not number tasks, judge runs or decide what is removed. It promises
//! three things. A save that returned `Ok` survives a power cut. A save that failed leaves the old file as
//! it was (only a failed rename after the sync leaves open which of the two is there after a power cut: then
//! [`SaveError::maybe_visible`] says so). And a file that cannot be understood is set aside, byte for byte,
//! and reported: it is never overwritten and never stops a start.
//!
//! **Group commit** ([`Store::save`]): all records, removals and launches of a batch are one frame of the
//! journal (`journal.rs`) and one sync; the record files follow without any. A start does again what they do not
//! show yet (`redo.rs`). Environments and marks are durable before the records that need them become visible.
//!
//! **A launch** is a fact of its own: a run begins only after the journal says that it may. So no claim and
//! no run folder has to be synced, and none that a power cut takes away lets a run begin twice.
//!
//! **The index** (`index.jsonl`) is a cache of one line per ended task, so that a start need not open
//! 100,000 records. A line is trusted only while nothing was saved for its task since: saving a record that
//! has a line first takes the line back, durably. So the index can be wrong only about files that were edited
//! by hand; [`Store::verify`] finds those in the background. Losing or damaging it costs time, nothing else.
//!
//! All files are reached through descriptors of the folders, opened once and checked: moving or replacing
//! `.octo` under a running daemon cannot make it write elsewhere.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::command::Env;
use crate::task::{Task, TaskId};

mod disk;
mod env;
mod error;
mod folders;
mod index;
mod journal;
mod load;
mod quarantine;
mod record;
mod redo;
mod save;
mod summary;
mod verify;

pub use env::env_digest;
pub use error::{ReadError, SaveError, StoreError};
pub use record::{RECORD_MAX, parse_record};
pub use summary::{Spent, Summary, TITLE_MAX, env_key, key_hash, pico};
pub use verify::Difference;

/// The records of one workspace on disk.
///
/// [`Store::load`] comes first, once, under the daemon's lock; all else may then be called from any thread.
#[derive(Debug)]
pub struct Store {
    /// For messages only; files are reached through the descriptors.
    path: PathBuf,
    octo: OwnedFd,
    tasks: OwnedFd,
    envs: OwnedFd,
    quarantine: OwnedFd,
    /// Held while files in `tasks/` change place, so that nothing is set aside that was just replaced.
    moving: Mutex<()>,
    /// Records that may not be overwritten: newer ones, and bad ones that could not be moved.
    frozen: Mutex<HashSet<TaskId>>,
    /// Environments that this process made durable; others are written again, which also mends damaged ones.
    durable_envs: Mutex<HashSet<String>>,
    index: Mutex<index::Index>,
    /// Where records are written before they are put in their places.
    spare: OwnedFd,
    /// `tasks/` is on another file system than the rest: nothing can be renamed into it.
    tasks_elsewhere: bool,
    /// Folders in there, one for each thread that writes the records of a large batch.
    writers: OnceLock<Vec<OwnedFd>>,
    /// Names in there of files that held older records.
    used: Mutex<Vec<String>>,
    journal: Mutex<journal::Journal>,
    marks: Mutex<Marks>,
}

/// One thing to make durable.
#[derive(Debug, Clone)]
pub enum Write {
    /// Writes a task's record.
    Task(Box<Task>),
    /// Removes a task's record; one that is not there counts as removed.
    Remove(TaskId),
    /// Keeps a caller's environment. It is on disk before any record of the same batch that names it.
    Env {
        /// What [`env_digest`] says of it.
        digest: String,
        /// The environment.
        env: Env,
    },
    /// Lets a run begin: after a power cut it may have, whatever is left of its folder.
    Launch {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
    },
    /// Keeps the high-water marks. They are on disk before any removal of the same batch.
    Marks(Marks),
}

impl Write {
    /// The task that it is about, if it is about one.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Write::Task(task) => Some(task.id),
            Write::Remove(id) | Write::Launch { id, .. } => Some(*id),
            Write::Env { .. } | Write::Marks(_) => None,
        }
    }
}

/// High-water marks of what is never used twice; kept in `.octo/marks.json`.
///
/// The file is needed only for what no record shows any more: it is written when the newest task is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The highest task number given out.
    #[serde(default)]
    pub numbers_used: u64,
    /// The highest notice sequence number given out.
    #[serde(default)]
    pub seq_used: u64,
    /// Tasks that ended up to this moment, in milliseconds since 1970, are hidden from lists; 0: none.
    #[serde(default)]
    pub cleared_ms: i64,
    /// Of those, the ones with a number up to this one; 0 while something was cleared: not known.
    #[serde(default)]
    pub cleared_number: u64,
    /// And with notices up to this sequence number: the clock may be set back, these never are.
    #[serde(default)]
    pub cleared_seq: u64,
}

impl Marks {
    /// The higher of both, mark by mark.
    #[must_use]
    pub fn max(self, other: Marks) -> Marks {
        Marks {
            numbers_used: self.numbers_used.max(other.numbers_used),
            seq_used: self.seq_used.max(other.seq_used),
            cleared_ms: self.cleared_ms.max(other.cleared_ms),
            cleared_number: self.cleared_number.max(other.cleared_number),
            cleared_seq: self.cleared_seq.max(other.cleared_seq),
        }
    }
}

/// What a start finds on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every record with a folder, that owes a notice, or that has not ended; in the order of numbers.
    pub live: Vec<Task>,
    /// All others, in no particular order.
    pub ended: Vec<Summary>,
    /// The highest number and sequence number ever seen.
    pub marks: Marks,
    /// Files that could not be understood; one entry each.
    pub problems: Vec<Problem>,
    /// Task folders without a (good) record.
    pub stray_folders: Vec<TaskId>,
}

/// A file that could not be understood, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its name within `.octo/`.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
    /// Where it is now: in quarantine, or still in its place when it could not be moved.
    pub kept: PathBuf,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not read: {}; it is kept as {}", self.file, self.why, self.kept.display())
    }
}

/// What the driver needs of a store; tests put one in memory in its place.
pub trait Persist: Send + Sync {
    /// See [`Store::save`].
    fn save(&self, batch: &[Write], together: &[Vec<TaskId>]) -> Vec<Result<(), SaveError>>;
    /// See [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`].
    fn read(&self, id: TaskId) -> Result<Task, ReadError>;
    /// See [`Store::note_ended`].
    fn note_ended(&self, summary: &Summary);
    /// See [`Store::env`].
    ///
    /// # Errors
    /// As [`Store::env`].
    fn env(&self, digest: &str) -> Result<Env, ReadError>;
    /// See [`Store::drop_env`].
    fn drop_env(&self, digest: &str);
    /// See [`Store::env_digests`].
    fn env_digests(&self) -> Vec<String>;
}

impl Persist for Store {
    fn save(&self, batch: &[Write], together: &[Vec<TaskId>]) -> Vec<Result<(), SaveError>> {
        Store::save(self, batch, together)
    }
    fn read(&self, id: TaskId) -> Result<Task, ReadError> {
        Store::read(self, id)
    }
    fn note_ended(&self, summary: &Summary) {
        Store::note_ended(self, summary);
    }
    fn env(&self, digest: &str) -> Result<Env, ReadError> {
        Store::env(self, digest)
    }
    fn drop_env(&self, digest: &str) {
        Store::drop_env(self, digest);
    }
    fn env_digests(&self) -> Vec<String> {
        Store::env_digests(self)
    }
}

impl<P: Persist + ?Sized> Persist for std::sync::Arc<P> {
    fn save(&self, batch: &[Write], together: &[Vec<TaskId>]) -> Vec<Result<(), SaveError>> {
        (**self).save(batch, together)
    }
    fn read(&self, id: TaskId) -> Result<Task, ReadError> {
        (**self).read(id)
    }
    fn note_ended(&self, summary: &Summary) {
        (**self).note_ended(summary);
    }
    fn env(&self, digest: &str) -> Result<Env, ReadError> {
        (**self).env(digest)
    }
    fn drop_env(&self, digest: &str) {
        (**self).drop_env(digest);
    }
    fn env_digests(&self) -> Vec<String> {
        (**self).env_digests()
    }
}

impl Store {
    /// The `.octo` folder, as it was named when the store was opened; for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`ReadError::NotFound`]; [`ReadError::Bad`] when the file is no record of this task (it stays where it
    /// is: [`Store::quarantine`] sets it aside); [`ReadError::Io`] when it could not be read just now.
    pub fn read(&self, id: TaskId) -> Result<Task, ReadError> {
        record::read(&self.tasks, id)
    }

    /// Remembers an ended and folded task in the index; best effort, since the index is a cache.
    pub fn note_ended(&self, summary: &Summary) {
        locked(&self.index).note(summary);
    }
}

/// Locks a mutex; what it guards is valid after every statement, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
