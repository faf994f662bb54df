//! What tests put in the place of the real thing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command::Env;
use crate::store::{Loaded, Marks, Persist, ReadError, SaveError, Summary, Write, env_digest, parse_record};
use crate::task::{SCHEMA, Task, TaskId};

mod runs;

pub use runs::{FakeRuns, RunState};

/// A store in memory that can die after a number of writes or fail some.
///
/// Clones share one state, so that a test keeps a hand on it while a driver owns another. What was saved
/// survives the death: [`MemStore::boot`] revives it and gives what a start would load.
#[derive(Debug, Clone, Default)]
pub struct MemStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// As JSON, so that every save and read goes through the real format.
    records: BTreeMap<TaskId, String>,
    folders: BTreeSet<TaskId>,
    envs: BTreeMap<String, Env>,
    marks: Marks,
    /// Every write that was applied, in order.
    written: u64,
    dies_after: Option<u64>,
    /// Dies before it tells of the last write.
    untold: bool,
    dead: bool,
    failures: u64,
    noted: Vec<Summary>,
    intents: BTreeMap<TaskId, Vec<Task>>,
}

impl MemStore {
    /// An empty store that never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `n` more writes through; then the process counts as dead and every save fails for good.
    ///
    /// A batch in which it dies is applied up to the last write that was let through, as on a disk, but fails
    /// as a whole: a dead process tells nobody what it saved.
    pub fn die_after(&self, n: u64) {
        let mut state = self.state();
        state.dies_after = Some(state.written + n);
    }

    /// As [`MemStore::die_after`], but the last write that is let through is not told of either: the process
    /// dies between the disk's "done" and the reply.
    pub fn die_untold_after(&self, n: u64) {
        self.die_after(n);
        self.state().untold = true;
    }

    /// Lets the next `n` writes fail, each with an error of its own; later ones work.
    pub fn fail_next(&self, n: u64) {
        self.state().failures = n;
    }

    /// Tells whether it died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// How many writes were applied in all.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().written
    }

    /// The record of a task, as it is on the disk; `None` when there is none.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<Task> {
        Persist::read(self, id).ok()
    }

    /// All records on the disk, in the order of ids.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        let ids: Vec<TaskId> = self.state().records.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.task(id)).collect()
    }

    /// Tells whether `tasks/<id>/` is there.
    #[must_use]
    pub fn has_folder(&self, id: TaskId) -> bool {
        self.state().folders.contains(&id)
    }

    /// Takes `tasks/<id>/` away, as folding a settled task does.
    pub fn remove_folder(&self, id: TaskId) {
        self.state().folders.remove(&id);
    }

    /// The marks on the disk.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.state().marks
    }

    /// The summaries that were noted, in order.
    #[must_use]
    pub fn noted(&self) -> Vec<Summary> {
        self.state().noted.clone()
    }

    /// Starts anew on what is on the disk: the store works again, and this is what a start finds.
    #[must_use]
    pub fn boot(&self) -> Loaded {
        let intents = std::mem::take(&mut self.state().intents);
        for task in intents.into_values().flatten() {
            let known = self.state().records.contains_key(&task.id);
            if !known {
                let _ = self.state().put(&task, true);
            }
        }
        let tasks = self.tasks();
        let mut state = self.state();
        (state.dead, state.untold, state.dies_after, state.failures) = (false, false, None, 0);
        let mut loaded = Loaded { marks: state.marks, ..Loaded::default() };
        for task in tasks.clone() {
            let summary = Summary::of(&task);
            let seen = Marks { numbers_used: summary.number, seq_used: summary.last_seq, ..Marks::default() };
            loaded.marks = loaded.marks.max(seen);
            if state.folders.contains(&task.id) || !task.status.is_ended() {
                loaded.live.push(task);
            } else {
                loaded.ended.push(summary);
            }
        }
        // Records that share a number are handed over whole, as by the real store.
        let mut uses: BTreeMap<u64, usize> = BTreeMap::new();
        tasks.iter().for_each(|task| *uses.entry(task.number).or_default() += 1);
        let whole = |s: &mut Summary| s.number == 0 || uses.get(&s.number).is_some_and(|n| *n > 1);
        for summary in loaded.ended.extract_if(.., whole) {
            loaded.live.extend(tasks.iter().find(|task| task.id == summary.id).cloned());
        }
        loaded.live.sort_by_key(|task| (task.number, task.id));
        loaded.stray_folders = state.folders.iter().filter(|id| !state.records.contains_key(id)).copied().collect();
        loaded
    }

    /// Puts a record there as it is, the way somebody's editor or a clone does.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    pub fn put_record(&self, task: &Task) {
        assert!(self.state().put(task, false).is_ok());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, write: &Write) -> Result<(), SaveError> {
        if self.dead || self.dies_after.is_some_and(|n| self.written >= n) {
            self.dead = true;
            return Err(dead());
        }
        if self.failures > 0 {
            self.failures -= 1;
            return Err(SaveError { message: "no space left on device while saving".into(), maybe_visible: false });
        }
        match write {
            Write::Task { task, folder } => self.put(task, *folder)?,
            Write::Remove(id) => {
                self.records.remove(id);
            }
            Write::Env { digest, env } => {
                self.envs.insert(digest.clone(), env.clone());
            }
            Write::Intent(tasks) => {
                if let Some(first) = tasks.first() {
                    self.intents.insert(first.id, tasks.clone());
                }
            }
            Write::Marks(marks) => self.marks = self.marks.max(*marks),
        }
        self.written += 1;
        Ok(())
    }

    fn put(&mut self, task: &Task, folder: bool) -> Result<(), SaveError> {
        let refuse = |message: String| SaveError { message, maybe_visible: false };
        if task.schema > SCHEMA {
            return Err(refuse(format!("tasks/{}.json cannot be changed: a newer Octo wrote it", task.id)));
        }
        let text = serde_json::to_string(task).map_err(|e| refuse(e.to_string()))?;
        if folder {
            self.folders.insert(task.id);
        }
        self.records.insert(task.id, text);
        Ok(())
    }
}

fn dead() -> SaveError {
    SaveError { message: "the process died".into(), maybe_visible: true }
}

impl Persist for MemStore {
    fn save(&self, batch: &[Write]) -> Vec<Result<(), SaveError>> {
        let mut state = self.state();
        let results: Vec<_> = batch.iter().map(|write| state.apply(write)).collect();
        if state.untold && state.dies_after.is_some_and(|n| state.written >= n) {
            state.dead = true;
        }
        if state.dead {
            return batch.iter().map(|_| Err(dead())).collect();
        }
        results
    }

    fn read(&self, id: TaskId) -> Result<Task, ReadError> {
        let text = self.state().records.get(&id).cloned().ok_or(ReadError::NotFound)?;
        parse_record(id, text.as_bytes()).map_err(|why| ReadError::Bad { why })
    }

    fn note_ended(&self, summary: &Summary) {
        self.state().noted.push(summary.clone());
    }

    fn env(&self, digest: &str) -> Result<Env, ReadError> {
        self.state().envs.get(digest).filter(|env| env_digest(env) == digest).cloned().ok_or(ReadError::NotFound)
    }

    fn drop_env(&self, digest: &str) {
        self.state().envs.remove(digest);
    }

    fn env_digests(&self) -> Vec<String> {
        self.state().envs.keys().cloned().collect()
    }

    fn drop_intent(&self, first: TaskId) {
        let mut state = self.state();
        if !state.dead {
            state.intents.remove(&first);
        }
    }
}
