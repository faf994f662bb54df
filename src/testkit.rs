//! What tests put in the place of the real thing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command::Env;
use crate::store::{Loaded, Marks, Persist, ReadError, SaveError, Summary, Write, env_digest, parse_record};
use crate::task::{SCHEMA, Task, TaskId};

mod agents;
mod runs;
mod scripted;

pub use agents::FakeAgents;
pub use runs::{FakeRuns, RunState};
pub use scripted::{Scripted, Step};

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
    /// The last frame of the journal: a start completes what a death left of it.
    frame: Vec<Write>,
    launched: BTreeSet<(TaskId, u32)>,
}

impl MemStore {
    /// An empty store that never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `n` more writes through; then the process counts as dead and every save fails for good.
    ///
    /// The frame of the journal counts as one write, and so does each record that is put in its place. A batch
    /// in which it dies fails as a whole, since a dead process tells nobody what it saved; but when its frame
    /// was let through, a start completes it.
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

    /// Tells whether it was noted that a run may begin.
    #[must_use]
    pub fn may_have_begun(&self, id: TaskId, run: u32) -> bool {
        self.state().launched.contains(&(id, run))
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
        let frame = std::mem::take(&mut self.state().frame);
        for write in frame {
            self.state().place(&write);
        }
        let tasks = self.tasks();
        let mut state = self.state();
        (state.dead, state.untold, state.dies_after, state.failures) = (false, false, None, 0);
        let mut loaded = Loaded { marks: state.marks, ..Loaded::default() };
        for task in tasks.clone() {
            let summary = Summary::of(&task);
            let seen = Marks { numbers_used: summary.number, seq_used: summary.last_seq, ..Marks::default() };
            loaded.marks = loaded.marks.max(seen);
            if state.folders.contains(&task.id) || !task.status.is_ended() || task.owes_notices() {
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
        self.state().place(&Write::Task(Box::new(task.clone())));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One write; `false` when the process is dead.
    fn step(&mut self) -> bool {
        self.dead |= self.dies_after.is_some_and(|n| self.written >= n);
        self.written += u64::from(!self.dead);
        !self.dead
    }

    fn check(&mut self, write: &Write) -> Result<(), SaveError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(SaveError { message: "no space left on device while saving".into(), maybe_visible: false });
        }
        if let Write::Task(task) = write
            && task.schema > SCHEMA
        {
            let message = format!("tasks/{}.json cannot be changed: a newer Octo wrote it", task.id);
            return Err(SaveError { message, maybe_visible: false });
        }
        Ok(())
    }

    fn place(&mut self, write: &Write) {
        match write {
            Write::Task(task) => {
                let text = serde_json::to_string(task).unwrap_or_default();
                self.records.insert(task.id, text);
            }
            Write::Remove(id) => drop(self.records.remove(id)),
            Write::Launch { id, run } => {
                self.folders.insert(*id);
                self.launched.insert((*id, *run));
            }
            Write::Env { digest, env } => drop(self.envs.insert(digest.clone(), env.clone())),
            Write::Marks(marks) => self.marks = self.marks.max(*marks),
        }
    }
}

fn dead() -> SaveError {
    SaveError { message: "the process died".into(), maybe_visible: true }
}

impl Persist for MemStore {
    fn save(&self, batch: &[Write], together: &[Vec<TaskId>]) -> Vec<Result<(), SaveError>> {
        let mut state = self.state();
        let mut results: Vec<_> = batch.iter().map(|write| state.check(write)).collect();
        let failed = |id: &TaskId, results: &[Result<(), SaveError>]| {
            let of = batch.iter().zip(results).find(|(w, r)| w.task().as_ref() == Some(id) && r.is_err());
            of.and_then(|(_, r)| r.clone().err())
        };
        for group in together {
            if let Some(error) = group.iter().find_map(|id| failed(id, &results)) {
                let members = batch.iter().zip(&mut results);
                members.filter(|(w, _)| w.task().is_some_and(|id| group.contains(&id))).for_each(|(_, result)| {
                    *result = Err(error.clone());
                });
            }
        }
        let good: Vec<Write> = batch.iter().zip(&results).filter(|(_, r)| r.is_ok()).map(|(w, _)| w.clone()).collect();
        if !good.is_empty() && state.step() {
            state.frame = good.clone();
            for write in &good {
                if !state.step() {
                    break;
                }
                state.place(write);
            }
        }
        if state.untold && state.dies_after.is_some_and(|n| state.written >= n) {
            state.dead = true;
        }
        if state.dead {
            return batch.iter().map(|_| Err(dead())).collect();
        }
        state.frame.clear();
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
}
