//! What one turn of the engine saves and does: dirty tasks, the effects that wait for their saves, and
//! the way back when a save fails.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Core, Live, Now, Parked, Phase, RequestId, Resolved, Undo};
use crate::command::{Refused, RefusedCode};
use crate::run::Claim;
use crate::store::{Marks, SaveError, Summary, Write};
use crate::supervisor::Event;
use crate::task::{Task, TaskId};

/// Something to do once the saves it depends on are durable.
#[derive(Debug)]
pub enum Effect {
    /// Read the facts of a run; `Input::Looked` follows.
    Look {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
    },
    /// Launch a run, which the journal says may begin; `Input::LaunchFailed` follows if it does not happen.
    Launch {
        /// The task.
        id: TaskId,
    },
    /// Try to void the claim of a run, then look at it.
    Void {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
    },
    /// Watch an adopted run.
    Adopt {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
        /// Its claim.
        claim: Claim,
    },
    /// Send SIGTERM to the shim.
    Stop {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
        /// Its claim.
        claim: Claim,
    },
    /// Stop the driver of an agent, with all that it runs.
    StopAgent {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
    },
    /// Send CONT and KILL to the shim.
    Kill {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
        /// Its claim.
        claim: Claim,
    },
    /// End what a dead run left behind; `Input::LeftEnded` follows.
    EndLeft {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
        /// Its claim, if it can be read.
        claim: Option<Claim>,
    },
    /// Tell the shim of an ended run that the end is on disk in the record.
    TellSaved {
        /// The task.
        id: TaskId,
    },
    /// Fold the run folders of an ended task away now, if the executor has a use for them.
    Recycle {
        /// The task.
        id: TaskId,
    },
    /// Fold the run folders of an ended task away; `Input::Folded` follows.
    Fold {
        /// The task.
        id: TaskId,
    },
    /// Delete the files of a removed task; `Input::FilesRemoved` follows.
    RemoveFiles {
        /// The task.
        id: TaskId,
    },
    /// Add a settled task to the index.
    NoteEnded(Summary),
    /// An environment that no record names any more.
    DropEnv(String),
    /// Answer a request.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        result: Result<super::Reply, Refused>,
    },
    /// Ring the doorbell.
    Ring(Event),
}

/// What the engine saves now, in this order: `first`, then `preserve`, then `writes`.
#[derive(Debug, Default)]
pub struct Batch {
    /// Environments and marks: durable before any record that relies on them.
    pub first: Vec<Write>,
    /// Settled records whose output lives in `result` alone and is about to be cleared by a retry.
    pub preserve: Vec<Task>,
    /// Records and removals, saved together, and the launches that follow.
    pub writes: Vec<(TaskId, Write)>,
    /// The tasks of each start of several: all of them or none.
    pub together: Vec<Vec<TaskId>>,
}

impl Batch {
    /// Tells whether there is nothing to save.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.preserve.is_empty() && self.writes.is_empty()
    }
}

/// How the saves of a batch went.
#[derive(Debug, Default)]
pub struct Saved {
    /// Why the environments and marks could not be saved; then no record was.
    pub first: Option<SaveError>,
    /// The tasks whose save did not happen.
    pub failed: Vec<(TaskId, SaveError)>,
}

impl Saved {
    /// Tells whether everything was saved.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.first.is_none() && self.failed.is_empty()
    }

    fn why(&self) -> Option<&SaveError> {
        self.first.as_ref().or(self.failed.first().map(|(_, why)| why))
    }
}

/// How long after a failed save, with nothing to save since, the store is tried.
const PROBE_MS: u64 = 2000;

/// What waits for the present batch.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The marks are to be saved if nothing else is, and whether the batch under way does just that.
    probe: bool,
    probing: bool,
    dirty: BTreeSet<TaskId>,
    removed: BTreeSet<TaskId>,
    undo: BTreeMap<TaskId, Undo>,
    effects: Vec<(Vec<TaskId>, Effect)>,
    groups: Vec<Vec<TaskId>>,
    /// Runs that are launched when the batch says that they may begin.
    launches: BTreeMap<TaskId, u32>,
    preserve: Vec<Task>,
    marks: bool,
    /// What the lists hid before the present batch, when it hides more.
    pub(super) cleared_before: Option<Marks>,
    /// The highest number of a notice before the present batch, when it raises some.
    pub(super) seq_before: Option<u64>,
    /// The present batch is the one that ends the taking of new work.
    pub(super) closes: bool,
    /// Records of a start that was refused as a whole after some of them were saved.
    cleanup: BTreeSet<TaskId>,
}

impl Pending {
    /// Whether something is still to be saved or done.
    pub(super) fn waits(&self) -> bool {
        !self.effects.is_empty() || !self.dirty.is_empty() || !self.removed.is_empty() || !self.launches.is_empty()
    }
}

impl Core {
    /// Queues an effect; it is done when the saves of `after` (if any) are durable.
    pub(super) fn emit(&mut self, after: Option<TaskId>, effect: Effect) {
        self.pending.effects.push((after.into_iter().collect(), effect));
    }

    pub(super) fn emit_after_all(&mut self, after: Vec<TaskId>, effect: Effect) {
        self.pending.effects.push((after, effect));
    }

    /// Marks a live task as changed; call it BEFORE changing it, so that the change can be undone.
    pub(super) fn touch(&mut self, id: TaskId) {
        if !self.pending.undo.contains_key(&id) {
            let undo = match (self.live.get(&id), self.settled.get(&id)) {
                (Some(live), _) => Undo::Live(Box::new(live.clone())),
                (None, Some(summary)) => Undo::Settled(Box::new(summary.clone())),
                (None, None) => Undo::Absent,
            };
            self.pending.undo.insert(id, undo);
        }
        self.pending.dirty.insert(id);
    }

    /// Marks a task for removal; call it BEFORE taking it out.
    pub(super) fn touch_removed(&mut self, id: TaskId) {
        self.touch(id);
        self.pending.dirty.remove(&id);
        self.pending.removed.insert(id);
    }

    /// Whether the record of this id is removed by the present batch.
    pub(super) fn is_leaving(&self, id: TaskId) -> bool {
        self.pending.removed.contains(&id) || self.pending.cleanup.contains(&id)
    }

    /// Whether the task is saved with the present batch.
    pub(in crate::supervisor) fn is_dirty(&self, id: TaskId) -> bool {
        self.pending.dirty.contains(&id)
    }

    /// A task as it was last saved; `None` when it never was.
    pub(super) fn saved(&self, id: TaskId) -> Option<Resolved> {
        match self.pending.undo.get(&id) {
            Some(Undo::Live(old)) => Some(Resolved::Live(Box::new(old.task.clone()))),
            Some(Undo::Settled(_)) => Some(Resolved::Settled(id)),
            Some(Undo::Absent) => None,
            None => Some(match self.live.get(&id) {
                Some(live) => Resolved::Live(Box::new(live.task.clone())),
                None => Resolved::Settled(id),
            }),
        }
    }

    /// The live tasks as they were last saved: what the present batch changes is not on disk, and may never be.
    pub(super) fn saved_live(&self) -> impl Iterator<Item = &Live> {
        let before = self.pending.undo.values().filter_map(|undo| match undo {
            Undo::Live(old) => Some(&**old),
            Undo::Absent | Undo::Settled(_) => None,
        });
        self.live.values().filter(|live| !self.pending.undo.contains_key(&live.task.id)).chain(before)
    }

    /// How many tasks of the present batch give their slot back because they pause.
    pub(super) fn unsaved_pauses(&self) -> usize {
        let held = |undo: &Undo| matches!(undo, Undo::Live(old) if old.holds_slot());
        let paused = |id: &TaskId| {
            self.live.get(id).is_some_and(|l| l.task.status == crate::task::Status::Paused && !l.holds_slot())
        };
        self.pending.undo.iter().filter(|(id, undo)| held(undo) && paused(id)).count()
    }

    pub(super) fn touch_marks(&mut self) {
        self.pending.marks = true;
    }

    pub(super) fn preserve(&mut self, record: Task) {
        self.pending.preserve.push(record);
    }

    pub(super) fn group(&mut self, ids: Vec<TaskId>) {
        self.pending.groups.push(ids);
    }

    /// Launches the present run of a task once the present batch, which then holds that fact, and the saves of
    /// `after` are durable.
    pub(super) fn launch(&mut self, id: TaskId, run: u32, after: Vec<TaskId>) {
        self.pending.launches.insert(id, run);
        self.emit_after_all(after, Effect::Launch { id });
    }

    /// Takes out the effects that wait for no save of the present batch: what was poked is looked at before the
    /// save that follows from it. What answers a request or tells of a change stays until the batch is saved.
    pub fn take_free(&mut self) -> Vec<Effect> {
        let Pending { dirty, removed, effects, preserve, .. } = &mut self.pending;
        let waits = |id: &TaskId| dirty.contains(id) || removed.contains(id) || preserve.iter().any(|t| t.id == *id);
        let free = effects.extract_if(.., |(after, effect)| {
            let silent = match effect {
                Effect::Look { .. } | Effect::Void { .. } | Effect::Adopt { .. } => true,
                Effect::Stop { .. } | Effect::Kill { .. } | Effect::EndLeft { .. } => true,
                Effect::StopAgent { .. } => true,
                Effect::Launch { .. } | Effect::TellSaved { .. } => false,
                Effect::Reply { .. } | Effect::Ring(_) | Effect::NoteEnded(_) | Effect::DropEnv(_) => false,
                Effect::Fold { .. } | Effect::Recycle { .. } | Effect::RemoveFiles { .. } => false,
            };
            silent && !after.iter().any(waits)
        });
        free.map(|(_, effect)| effect).collect()
    }

    /// What must be saved before the waiting effects may be done.
    pub fn take_batch(&mut self) -> Batch {
        let mut batch = Batch { preserve: std::mem::take(&mut self.pending.preserve), ..Batch::default() };
        batch.first.extend(std::mem::take(&mut self.envs).into_iter().map(|(digest, env)| Write::Env { digest, env }));
        if std::mem::take(&mut self.pending.marks) {
            batch.first.push(Write::Marks(self.marks));
        }
        let probe = std::mem::take(&mut self.pending.probe);
        for id in std::mem::take(&mut self.pending.dirty) {
            if let Some(write) = self.write_of(id) {
                batch.writes.push((id, write));
            }
        }
        batch.together = self.pending.groups.iter().filter(|g| g.len() > 1).cloned().collect();
        let removed = self.pending.removed.iter().chain(&self.pending.cleanup);
        batch.writes.extend(removed.map(|id| (*id, Write::Remove(*id))));
        self.pending.removed.clear();
        self.pending.cleanup.clear();
        let launches = std::mem::take(&mut self.pending.launches);
        batch.writes.extend(launches.into_iter().map(|(id, run)| (id, Write::Launch { id, run })));
        // Alone: in company its failure would be that of the others.
        self.pending.probing = probe && batch.is_empty();
        if self.pending.probing {
            batch.first.push(Write::Marks(self.marks));
        }
        batch
    }

    /// After a save that failed, and while nobody saves anything, the marks tell when there is room again.
    pub(super) fn probe_store(&mut self, now: Now) {
        if self.probe_at.is_some_and(|at| at <= now.boot) {
            self.probe_at = Some(now.boot + PROBE_MS);
            self.pending.probe = true;
        }
    }

    /// Takes note of how the saves went and releases the effects that may be done now.
    ///
    /// Each task whose save did not happen is put back as it was before this batch.
    pub fn committed(&mut self, saved: &Saved, now: Now) -> Vec<Effect> {
        let mut undo = std::mem::take(&mut self.pending.undo);
        let effects = std::mem::take(&mut self.pending.effects);
        let groups = std::mem::take(&mut self.pending.groups);
        let cleared_before = self.pending.cleared_before.take();
        let closes = std::mem::take(&mut self.pending.closes);
        self.pending.seq_before = None;
        let Some(why) = saved.why() else {
            if !undo.is_empty() || std::mem::take(&mut self.pending.probing) {
                self.degraded.clear();
                self.probe_at = None;
            }
            return effects.into_iter().map(|(_, effect)| effect).collect();
        };
        self.degraded = why.to_string();
        self.pending.probing = false;
        self.probe_at.get_or_insert(now.boot + PROBE_MS);
        // Whoever asked for these is refused: then they did not happen.
        self.shutting_down &= !closes;
        if let Some(before) = cleared_before.filter(|_| saved.first.is_some()) {
            self.marks.cleared_ms = before.cleared_ms;
            (self.marks.cleared_number, self.marks.cleared_seq) = (before.cleared_number, before.cleared_seq);
            self.recount_ends();
        }
        let mut bad: HashSet<TaskId> = saved.failed.iter().map(|(id, _)| *id).collect();
        for group in groups {
            if group.iter().any(|id| bad.contains(id)) {
                bad.extend(group);
            }
        }
        for id in &bad {
            match undo.remove(id) {
                Some(undo) => self.undo(*id, undo, now),
                // Only its launch could not be noted, and did not happen: the timer of every launch of a process sees to
                // it, and an agent is launched again.
                None if self.live.get(id).is_some_and(|l| l.phase == Phase::Driven) => {
                    self.set_phase(*id, Phase::Parked(Parked::Until(now.boot + 1000)));
                    self.think_again(*id, now);
                }
                None if self.live.contains_key(id) => {}
                // The record of a refused start that could not be taken back: a next daemon would run it.
                None => drop(self.taking_back.insert(*id, now.boot + 1000)),
            }
        }
        for id in &bad {
            self.reconsider_dependents(*id, now);
            self.name_children(*id);
        }
        let all = saved.first.is_some();
        effects.into_iter().filter_map(|(after, effect)| release(&after, effect, &bad, all, why)).collect()
    }

    fn undo(&mut self, id: TaskId, undo: Undo, now: Now) {
        let was_new = matches!(undo, Undo::Absent);
        let gone = self.unindex(id);
        let rev = gone.as_ref().map(|l| l.task.rev);
        match undo {
            Undo::Absent => gone.iter().for_each(|gone| self.disown(gone)),
            Undo::Live(mut old) => {
                let same = |l: &Live| l.phase == Phase::Driven && l.drives == old.drives;
                if old.phase == Phase::Driven && gone.as_ref().is_some_and(|l| !same(l)) {
                    // What could not be saved is that its driver has left: another one says it again.
                    old.phase = Phase::Parked(Parked::Until(now.boot + 1000));
                }
                old.drives = gone.as_ref().map_or(old.drives, |l| l.drives);
                old.reserved = gone.as_ref().map_or(old.reserved, |l| l.reserved);
                // The failed save may be visible all the same: a later one must not carry its number again.
                old.task.rev = rev.unwrap_or(old.task.rev).max(old.task.rev);
                self.insert_live(*old);
                self.retry_soon(id, now);
            }
            Undo::Settled(summary) => {
                // A summary knows of its newest notice only.
                let seqs = gone.iter().flat_map(|l| &l.task.notices).map(|n| n.seq);
                self.notice_order.extend(seqs.filter(|seq| *seq < summary.last_seq).map(|seq| (seq, id)));
                self.insert_settled(*summary);
            }
        }
        if was_new {
            self.pending.cleanup.insert(id);
        }
    }

    /// What waits for a task that was put back is decided again: the task may count as ended again.
    fn reconsider_dependents(&mut self, id: TaskId, now: Now) {
        for dependent in self.dependents.get(&id).cloned().unwrap_or_default() {
            if self.live.get(&dependent).is_some_and(|l| l.phase == Phase::Queued) {
                self.set_due(dependent, Some(now.boot));
            }
        }
    }

    /// Tries again to remove the records of refused starts.
    pub(super) fn take_back(&mut self, now: Now) {
        let due = self.taking_back.extract_if(.., |_, at| *at <= now.boot).map(|(id, _)| id);
        self.pending.cleanup.extend(due);
    }

    /// What follows from facts is decided again from the facts, a second later: after a failed save or look.
    pub(super) fn retry_soon(&mut self, id: TaskId, now: Now) {
        let due = now.boot + 1000;
        if self.live.get(&id).is_some_and(|l| l.due.is_none_or(|d| d > due)) {
            self.set_due(id, Some(due));
        }
    }
}

/// An effect of a batch with failed saves: done, dropped, or turned into a refusal.
fn release(after: &[TaskId], effect: Effect, bad: &HashSet<TaskId>, all: bool, why: &SaveError) -> Option<Effect> {
    let dropped = after.iter().any(|id| bad.contains(id));
    match effect {
        Effect::Reply { request, result } if dropped || (all && result.is_ok()) => {
            let refused = Refused::new(RefusedCode::Storage, format!("not done, because it could not be saved: {why}"))
                .hint("free some space or repair the disk, then repeat the command; `octo doctor` says more");
            Some(Effect::Reply { request, result: Err(refused) })
        }
        effect => (!dropped).then_some(effect),
    }
}
