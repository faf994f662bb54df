//! Who runs next: slots, the queue, `--after`, deadlines and the low disk.

use super::{Core, Effect, Live, Now, Parked, Phase, Turn};
use crate::task::{Status, Step, Stop, Task, TaskId};

/// How long after SIGTERM a shim is killed.
const STOP_PATIENCE_MS: u64 = 20_000;
/// How long ending what a dead run left behind may take before it is begun again.
const END_LEFT_PATIENCE_MS: u64 = 60_000;
/// How often a running task whose end is watched is looked at all the same.
const SWEEP_MS: u64 = 600_000;

impl Core {
    /// Gives free slots to the tasks at the head of the queue. A launch waits for the saves of its own
    /// record and of what the task waited for.
    pub fn schedule(&mut self, now: Now) {
        // A pause that cannot be saved did not happen: its slot is free when it is durable.
        let pausing = self.unsaved_pauses();
        while !self.shutting_down {
            let Some(entry) = self.ready.first().copied() else { break };
            let (turn, _, id) = entry;
            let full = self.slots_used + pausing >= self.limits.slots || self.disk_low;
            if full && turn != Turn::Chat {
                break;
            }
            // What it waited for may have been put back by a failed save in the meantime.
            let Some(live) = self.live.get(&id).filter(|l| l.waits_no_more() || self.dependencies_met(&l.task)) else {
                self.ready.remove(&entry);
                continue;
            };
            if live.is_agent() {
                self.drive(id, now);
                continue;
            }
            let mut saves = live.task.after.clone();
            saves.push(id);
            let run = live.task.run;
            self.set_phase(id, Phase::Starting { since: now.boot, own: true });
            self.set_due(id, Some(now.boot + 1000));
            self.launch(id, run, saves);
        }
    }

    /// Decides what is due by the clock.
    pub fn tick(&mut self, now: Now) {
        while let Some((due, id)) = self.timers.first().copied() {
            if due > now.boot {
                break;
            }
            self.set_due(id, None);
            self.due(id, now);
        }
        self.take_back(now);
        self.probe_store(now);
        self.fold_some(now);
        let again: Vec<TaskId> = self.removing.iter().filter(|(_, at)| **at <= now.boot).map(|(id, _)| *id).collect();
        for id in again {
            self.removing.insert(id, now.boot + 1000);
            self.emit(None, Effect::RemoveFiles { id });
        }
    }

    fn due(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        match live.phase {
            Phase::Foreign => {}
            Phase::Driven | Phase::Parked(_) | Phase::Clearing => self.due_agent(id, now),
            Phase::Queued if live.is_agent() => self.due_agent(id, now),
            Phase::Queued => {
                // Also when its cancel, for what it waited for, could not be saved.
                self.check_dependencies(id, now);
                self.requeue(id);
            }
            Phase::Unseen | Phase::Starting { .. } => {
                let run = live.task.run;
                self.set_due(id, Some(now.boot + 1000));
                self.emit(None, Effect::Look { id, run });
            }
            Phase::Running { .. } => self.due_running(id, now),
            Phase::Sweeping => {
                // Nothing was heard of it, or the end that followed could not be saved: the facts say it again.
                let run = live.task.run;
                self.set_phase(id, Phase::Running { claim: None });
                self.set_due(id, Some(now.boot + 1000));
                self.emit(None, Effect::Look { id, run });
            }
            Phase::Settling => {
                self.set_due(id, Some(now.boot + 1000));
                self.emit(Some(id), Effect::Fold { id });
            }
        }
    }

    fn due_running(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        let Phase::Running { claim } = live.phase.clone() else { return };
        let run = live.task.run;
        if live.lazy {
            self.touch(id);
        } else if let Some(sent) = live.stop_sent {
            if now.boot >= sent + STOP_PATIENCE_MS {
                self.force(id, run, claim.clone());
            }
        } else if live.task.stop.is_none() && deadline(live, &claim, now).is_some_and(|d| now.boot >= d) {
            let reason = "timeout".to_owned();
            self.intend_stop(id, "octo", reason, now);
        }
        self.questions_due(id, now);
        self.emit(None, Effect::Look { id, run });
        self.set_due(id, Some(self.next_look(id, now)));
    }

    /// A shim that did not obey: it is killed, and what is left is ended when its lock is free. One whose
    /// claim cannot be read is found by its environment, together with everything it runs.
    fn force(&mut self, id: TaskId, run: u32, claim: Option<crate::run::Claim>) {
        match claim {
            Some(claim) => self.emit(None, Effect::Kill { id, run, claim }),
            None => {
                self.set_phase(id, Phase::Sweeping);
                self.emit(None, Effect::EndLeft { id, run, claim: None });
            }
        }
    }

    /// When a running task must be thought of again.
    pub(super) fn next_look(&self, id: TaskId, now: Now) -> u64 {
        let Some(live) = self.live.get(&id) else { return now.boot + SWEEP_MS };
        let claim = match &live.phase {
            Phase::Running { claim } => claim,
            Phase::Sweeping => return now.boot + END_LEFT_PATIENCE_MS,
            _ => return now.boot + 1000,
        };
        let mut at = now.boot + SWEEP_MS;
        if live.lazy || live.stop_sent.is_some() || claim.is_none() {
            at = now.boot + 1000;
        }
        if live.task.stop.is_none()
            && let Some(deadline) = deadline(live, claim, now)
        {
            at = at.min(deadline.max(now.boot + 1));
        }
        live.questions_due().map_or(at, |due| at.min(due.max(now.boot + 1)))
    }

    /// Saves the intent to stop the present run; what follows is decided when it is durable.
    pub(super) fn intend_stop(&mut self, id: TaskId, by: &str, reason: String, now: Now) {
        self.touch(id);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.task.stop = Some(Stop { by: by.to_owned(), at: stamp(now), reason, extra: serde_json::Map::new() });
        let run = live.task.run;
        if live.is_agent() {
            self.stop_agent(id, now);
        } else {
            self.emit(Some(id), Effect::Look { id, run });
        }
        self.ring(id);
    }

    /// Puts a task into the ready queue, or takes it out, as its phase and its `after` list say.
    pub(super) fn requeue(&mut self, id: TaskId) {
        let Some(live) = self.live.get(&id) else { return };
        let entry = live.turn();
        // A process waits a moment after a launch that failed.
        let queued = live.phase == Phase::Queued && (live.due.is_none() || live.is_agent());
        let waits = matches!(live.phase, Phase::Parked(Parked::Tasks { .. }));
        if queued && (live.waits_no_more() || self.dependencies_met(&live.task)) {
            self.ready.insert(entry);
        } else {
            self.ready.remove(&entry);
        }
        if waits {
            self.waiting.insert(id);
        } else {
            self.waiting.remove(&id);
        }
    }

    fn dependencies_met(&self, task: &Task) -> bool {
        task.after.iter().all(|dep| self.status_of(*dep) == Some(Status::Completed))
    }

    pub(super) fn status_of(&self, id: TaskId) -> Option<Status> {
        let live = self.live.get(&id).map(|l| l.task.status);
        live.or_else(|| self.settled.get(&id).map(|s| s.status))
    }

    /// A task has ended: its dependents get ready, or are cancelled with the reason.
    pub(super) fn release_dependents(&mut self, id: TaskId, now: Now) {
        let Some(waiting) = self.dependents.get(&id).cloned() else { return };
        let Some(status) = self.status_of(id) else { return };
        if status == Status::Completed {
            // A dependent may be launched only when this end is durable: it is, when `schedule` runs.
            for dependent in waiting {
                self.requeue(dependent);
            }
            return;
        }
        let number = self.live.get(&id).map_or(0, |l| l.task.number);
        for dependent in waiting {
            let still = self.live.get(&dependent).is_some_and(|l| l.phase == Phase::Queued);
            if still {
                let error = format!("task #{number} {id}, which it waited for, ended as {status}");
                self.end(dependent, Status::Cancelled, error, now);
            }
        }
    }

    pub(super) fn disk(&mut self, low: bool, writer: Option<TaskId>, now: Now) {
        let was = std::mem::replace(&mut self.disk_low, low);
        if low && !was {
            self.problems.push("the disk is nearly full: no new task starts until there is room".to_owned());
        }
        if !low && was {
            self.problems.retain(|p| !p.starts_with("the disk is nearly full"));
        }
        if let Some(id) = writer.filter(|_| low)
            && self.live.get(&id).is_some_and(|l| l.task.stop.is_none() && matches!(l.phase, Phase::Running { .. }))
        {
            self.intend_stop(id, "octo", "low_disk".to_owned(), now);
        }
    }

    /// Takes a step and keeps the count of slots in step with it.
    pub(super) fn step_status(&mut self, id: TaskId, step: Step, now: Now) -> bool {
        let held = self.live.get(&id).is_some_and(Live::holds_slot);
        let taken = self.take(id, step, now);
        let holds = self.live.get(&id).is_some_and(Live::holds_slot);
        self.slots_used = self.slots_used + usize::from(holds) - usize::from(held);
        taken
    }

    /// Changes the step of a live task's status; an illegal step is a defect and is logged, not taken.
    pub(super) fn take(&mut self, id: TaskId, step: Step, now: Now) -> bool {
        let Some(live) = self.live.get_mut(&id) else { return false };
        match live.task.take(step, &stamp(now)) {
            Ok(()) => true,
            Err(illegal) => {
                tracing::error!(%id, %illegal, "refused an illegal step");
                false
            }
        }
    }
}

/// The stamp of a moment.
pub(super) fn stamp(now: Now) -> crate::task::Stamp {
    crate::task::Stamp::from_millis(now.wall)
}

/// When a run's time is over, milliseconds since boot. It counts from the shim's start, which the kernel
/// keeps in the boot clock: no wall clock can move it. While the task is paused, its clock stands still.
fn deadline(live: &Live, claim: &Option<crate::run::Claim>, now: Now) -> Option<u64> {
    if live.task.timeout == 0 || live.task.status == Status::Paused {
        return None;
    }
    let ticks = claim.as_ref()?.shim.start;
    let start = ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1);
    Some(start.saturating_add(live.task.timeout.saturating_mul(1000)).saturating_add(live.stood_still(now)))
}
