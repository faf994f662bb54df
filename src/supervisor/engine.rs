//! One turn of the supervisor: inputs in, saves done, effects carried out.
//!
//! The engine joins the pure core to a store and an executor and knows no threads, no sockets and no
//! clock, so that tests drive it with a store that dies after any write and with runs that never were.
//! A turn drains what has arrived, lets the core decide, saves everything that is due in one go (the
//! group commit) and only then carries out what depended on it.

use std::collections::{HashMap, HashSet};

use super::Event;
use super::core::{Ask, Batch, Core, Effect, FOLD_AGAIN_MS, Input, NewTask, Now, Reply, RequestId, Saved};
use crate::command::{Actor, Refused, RefusedCode};
use crate::exec::Executor;
use crate::store::{Persist, ReadError, SaveError, Write};
use crate::task::{Kind, Task, TaskId};

/// What a turn tells the world.
#[derive(Debug)]
pub enum Out {
    /// The answer to a request.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        result: Result<Reply, Refused>,
    },
    /// The doorbell.
    Ring(Event),
}

/// The core, its store and its executor.
#[derive(Debug)]
pub struct Engine<S, E> {
    /// The deciding half.
    pub core: Core,
    /// Where records are kept.
    pub store: S,
    /// What runs tasks.
    pub exec: E,
}

/// When a fold is tried again that failed: what is in its way will hardly go by itself.
const FOLD_FAILED_MS: u64 = 60_000;

/// Turns of the inner loop after which the engine gives other inputs a chance.
const ROUNDS: usize = 64;

impl<S: Persist, E: Executor> Engine<S, E> {
    /// Joins the three.
    pub fn new(core: Core, store: S, exec: E) -> Self {
        Engine { core, store, exec }
    }

    /// Puts a request to the core, with the settled record that it is about.
    pub fn ask(&mut self, request: RequestId, actor: Actor, mut ask: Ask, now: Now) -> Option<Out> {
        if let Ask::Chat(new) = &mut ask {
            self.redraw_taken_ids(std::slice::from_mut(new));
        }
        if let Ask::Start { tasks, .. } = &mut ask {
            self.redraw_taken_ids(tasks);
            let found = self.read_keys(tasks);
            self.core.keys_read(found);
        }
        let record = match self.record_for(&ask) {
            Ok(record) => record,
            Err(refused) => return Some(Out::Reply { request, result: Err(refused) }),
        };
        self.core.step(Input::Ask { request, actor, ask: Box::new(ask), record }, now);
        None
    }

    /// Ids are short: among 100,000 tasks a fresh one is not seldom that of another.
    fn redraw_taken_ids(&self, tasks: &mut [NewTask]) {
        let mut drawn = HashSet::with_capacity(tasks.len());
        for task in tasks {
            while self.core.is_taken(task.id) || !drawn.insert(task.id) {
                let (uuid, id) = TaskId::random();
                (task.uuid, task.id) = (uuid.to_string(), id);
            }
        }
    }

    /// The settled tasks that have the keys of a start. A record that cannot be read counts as the one
    /// that its hash says: rather no second run than two.
    fn read_keys(&self, tasks: &[NewTask]) -> HashMap<String, TaskId> {
        let mut found = HashMap::new();
        for key in tasks.iter().map(|task| &task.request.key) {
            let has_it = |id: &TaskId| match self.store.read(*id) {
                Ok(record) => self.core.answers_for_key(&record, key),
                Err(ReadError::Io { .. } | ReadError::Bad { .. }) => true,
                Err(ReadError::NotFound) => false,
            };
            if let Some(id) = self.core.settled_by_key(key).find(has_it) {
                found.insert(key.clone(), id);
            }
        }
        found
    }

    fn record_for(&self, ask: &Ask) -> Result<Option<Box<Task>>, Refused> {
        let id = match ask {
            Ask::Retry { id } | Ask::Raise { id, .. } | Ask::Remove { id } | Ask::Answer { id, .. }
                if self.core.is_settled(*id) =>
            {
                *id
            }
            _ => return Ok(None),
        };
        match self.store.read(id) {
            Ok(task) => Ok(Some(Box::new(task))),
            Err(ReadError::NotFound) => Err(Refused::no_such_task(id)),
            Err(ReadError::Bad { why } | ReadError::Io { why }) => {
                Err(Refused::new(RefusedCode::Storage, format!("the record of task {id} cannot be read: {why}")))
            }
        }
    }

    /// As [`Engine::turn_telling`]; gathers what is to be told.
    pub fn turn(&mut self, now: Now) -> Vec<Out> {
        let mut out = Vec::new();
        self.turn_telling(now, |_, one| out.push(one));
        out
    }

    /// Saves what is due, does what follows, until nothing is left to do now. Whoever waits is told as soon
    /// as what it waits for is saved; launches and clean-ups, which take longest, come last.
    pub fn turn_telling(&mut self, now: Now, mut tell: impl FnMut(&Core, Out)) {
        for _ in 0..ROUNDS {
            self.core.tick(now);
            self.perform_free(now, &mut tell);
            let batch = self.core.take_batch();
            let saved = self.save(batch);
            let effects = self.core.committed(&saved, now);
            if effects.is_empty() && saved.is_ok() {
                break;
            }
            self.perform_all(effects, now, &mut tell);
        }
    }

    /// Looks at runs before the saves that follow from it, so that one save holds the end of a run and the
    /// launch of the next one.
    fn perform_free(&mut self, now: Now, tell: &mut impl FnMut(&Core, Out)) {
        for _ in 0..ROUNDS {
            self.core.schedule(now);
            let free = self.core.take_free();
            if free.is_empty() {
                return;
            }
            self.perform_all(free, now, tell);
        }
    }

    fn perform_all(&mut self, effects: Vec<Effect>, now: Now, tell: &mut impl FnMut(&Core, Out)) {
        let (mut launches, mut folds) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Launch { id } => launches.push(id),
                Effect::Fold { .. } | Effect::Recycle { .. } => folds.push(effect),
                effect => {
                    if let Some(out) = self.perform(effect, now) {
                        tell(&self.core, out);
                    }
                }
            }
        }
        self.launch_all(&launches, now);
        for effect in folds {
            if let Some(out) = self.perform(effect, now) {
                tell(&self.core, out);
            }
        }
    }

    fn save(&mut self, mut batch: Batch) -> Saved {
        let mut saved = Saved::default();
        if batch.is_empty() {
            return saved;
        }
        for task in &batch.preserve {
            if let Err(error) = self.exec.preserve(task) {
                let error = SaveError::new(format!("keeping the output of the last run: {error}"));
                saved.failed.push((task.id, error));
            }
        }
        if !batch.first.is_empty() {
            let first = self.store.save(&batch.first, &[]);
            if let Some(Err(error)) = first.into_iter().find(Result::is_err) {
                // Records may rely on any of these: none of them is saved.
                saved.failed = batch.writes.iter().map(|(id, _)| (*id, error.clone())).collect();
                saved.first = Some(error);
                return saved;
            }
        }
        batch.writes.retain(|(id, _)| !saved.failed.iter().any(|(bad, _)| bad == id));
        if batch.writes.is_empty() {
            return saved;
        }
        let (ids, writes): (Vec<_>, Vec<_>) = batch.writes.into_iter().unzip();
        let results = self.store.save(&writes, &batch.together);
        for group in &batch.together {
            // Normally all of a group fail together. One that could not be put in its place fails alone.
            let outcome = |id: &TaskId| ids.iter().zip(&results).find(|(other, _)| *other == id).map(|(_, r)| r);
            if group.iter().any(|id| outcome(id).is_some_and(Result::is_err)) {
                let there = group.iter().filter(|id| outcome(id).is_some_and(Result::is_ok));
                let back: Vec<Write> = there.map(|id| Write::Remove(*id)).collect();
                self.store.save(&back, std::slice::from_ref(group));
            }
        }
        saved.failed.extend(ids.into_iter().zip(results).filter_map(|(id, result)| result.err().map(|e| (id, e))));
        saved
    }

    fn perform(&mut self, effect: Effect, now: Now) -> Option<Out> {
        match effect {
            Effect::Reply { request, result } => return Some(Out::Reply { request, result }),
            Effect::Ring(event) => return Some(Out::Ring(event)),
            Effect::Look { id, run } => self.look(id, run, now),
            Effect::Launch { id } => self.launch_all(&[id], now),
            Effect::Void { id, run } => match self.exec.void(id, run) {
                Ok(_) => self.look(id, run, now),
                Err(error) => tracing::warn!(%id, run, %error, "could not void a claim"),
            },
            Effect::Adopt { id, run, claim } => self.exec.adopt(id, run, &claim),
            Effect::Stop { id, run, claim } => self.exec.stop(id, run, &claim),
            Effect::StopAgent { id, run } => self.exec.stop_agent(id, run),
            Effect::Kill { id, run, claim } => self.exec.kill(id, run, &claim),
            Effect::EndLeft { id, run, claim } => self.exec.end_left(id, run, claim),
            Effect::TellSaved { id } => self.exec.tell_saved(id),
            Effect::Fold { id } => self.fold(id, now),
            Effect::Recycle { id } => self.recycle(id, now),
            Effect::RemoveFiles { id } => {
                let done = self.exec.remove_files(id).unwrap_or_else(|error| {
                    tracing::warn!(%id, %error, "could not delete the files of a removed task");
                    false
                });
                self.core.step(Input::FilesRemoved { id, done }, now);
            }
            Effect::NoteEnded(summary) => self.store.note_ended(&summary),
            // A start in the same batch may have named it again.
            Effect::DropEnv(digest) if !self.core.env_used(&digest) => self.store.drop_env(&digest),
            Effect::DropEnv(_) => {}
        }
        None
    }

    fn look(&mut self, id: TaskId, run: u32, now: Now) {
        let Some(task) = self.core.task(id) else { return };
        match self.exec.look(task) {
            Ok(look) => self.core.step(Input::Looked { id, run, look: Box::new(look) }, now),
            Err(error) => {
                tracing::warn!(%id, run, %error, "could not look at a run; it is tried again");
                self.core.step(Input::LookFailed { id }, now);
            }
        }
    }

    fn launch_all(&mut self, ids: &[TaskId], now: Now) {
        // The stop of an agent may have come in the same turn, and is carried out by now.
        let goes = |task: &&Task| task.kind == Kind::Process || task.stop.is_none() && !task.status.is_ended();
        let tasks: Vec<&Task> = ids.iter().filter_map(|id| self.core.task(*id)).filter(goes).collect();
        let results = self.exec.launch_all(&tasks);
        let runs: Vec<(TaskId, u32)> = tasks.iter().map(|task| (task.id, task.run)).collect();
        for ((id, run), result) in runs.into_iter().zip(results) {
            if let Err(error) = result {
                tracing::warn!(%id, run, %error, "a launch failed");
                self.core.step(Input::LaunchFailed { id, run, why: error.why, passing: error.passing }, now);
            }
        }
    }

    /// What does not work now is done at leisure.
    fn recycle(&mut self, id: TaskId, now: Now) {
        if !self.exec.wants_folders() {
            return;
        }
        let Some(task) = self.core.task(id).filter(|task| task.status.is_ended()) else { return };
        if matches!(self.exec.fold(task), Ok(true)) {
            self.core.step(Input::Folded { id, done: Ok(()) }, now);
        }
    }

    fn fold(&mut self, id: TaskId, now: Now) {
        // A retry that came in the same turn may have begun the next run.
        let Some(task) = self.core.task(id).filter(|task| task.status.is_ended()) else { return };
        let done = match self.exec.fold(task) {
            Ok(true) => Ok(()),
            Ok(false) => Err(FOLD_AGAIN_MS),
            Err(error) => {
                tracing::warn!(%id, %error, "could not fold a run folder away; it is tried again in a minute");
                Err(FOLD_FAILED_MS)
            }
        };
        self.core.step(Input::Folded { id, done }, now);
    }
}
