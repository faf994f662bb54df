//! The life of agents: driven, parked, woken, stopped, ended.
//!
//! ```text
//!              slot: launch           reports that it waits
//!   Queued ──────────────────► Driven ─────────────────────► Parked
//!     ▲  (who had begun: first)   │ ends                       │ what it waits for has happened
//!     └───────────────────────────┼────────────────────────────┘
//!                                 ▼
//!                             Settling
//! ```
//!
//! No fact on disk says how an agent stands: its journal says what it did, its driver reports, and a launch always
//! means: go on from the journal. So nothing is looked at or voided, a launch needs no note, and whatever is lost of a
//! report is reported again after the next launch. A conversation with the supervisor agent is an agent that needs no
//! slot and that no list shows.

use super::{Core, Effect, Live, NewTask, Now, Parked, Phase, Reply, commands::Decision, schedule::stamp};
use crate::agent::drive::Parking;
use crate::command::{Refused, RefusedCode};
use crate::exec::agent::{AgentReport, Report};
use crate::task::{Kind, RESULT_MAX, Stamp, Status, Step, Stop, Task, TaskId};

/// The reason of a pause until a rate limit is over.
const RATE_LIMIT: &str = "rate_limit";

/// A stop that nothing came of is sent again after this.
const STOP_AGAIN_MS: u64 = 20_000;

/// The first pause after a driver was lost; each further one is twice as long.
const LOST_MS: u64 = 1000;

/// The longest one.
const LOST_MAX_MS: u64 = 300_000;

/// How soon what needs no save of its own is saved.
const LAZY_MS: u64 = 1000;

/// Agents that start agents that start agents: so many levels at most.
const DEPTH_MAX: usize = 10;

impl Live {
    pub(super) fn is_agent(&self) -> bool {
        self.task.kind == Kind::Agent
    }

    /// Whether its present run began: then there may be something to go on from.
    pub(super) fn has_begun(&self) -> bool {
        !self.task.started_at.is_empty()
    }

    /// Whether it waits for no other task any more: it had begun.
    pub(super) fn waits_no_more(&self) -> bool {
        self.is_agent() && self.has_begun()
    }

    /// Takes up the clock of an agent's run, by what the record says.
    pub(super) fn take_up_clock(&mut self, now: Now) {
        let boot = i64::try_from(now.boot).unwrap_or(i64::MAX);
        let ago = |at: &Stamp| at.millis().map(|at| boot - now.wall.saturating_sub(at).max(0));
        self.began = ago(&self.task.started_at);
        if self.is_agent() {
            self.paused_since = ago(&self.task.paused_at);
        }
    }

    /// When an agent's time is over, milliseconds since boot; `None`: never, or its clock stands still.
    fn time_is_over_at(&self, now: Now) -> Option<u64> {
        if self.task.timeout == 0 || self.task.status != Status::Running || self.task.stop.is_some() {
            return None;
        }
        let lasts = self.task.timeout.saturating_mul(1000).saturating_add(self.stood_still(now));
        Some(u64::try_from(self.began?.saturating_add_unsigned(lasts)).unwrap_or(0))
    }

    /// When the stop of its driver is sent (again).
    fn stop_due(&self, now: Now) -> Option<u64> {
        self.task.stop.as_ref()?;
        Some(self.stop_sent.map_or(now.boot, |at| at + STOP_AGAIN_MS))
    }

    fn asks(&self) -> bool {
        self.task.questions.iter().any(|q| q.open)
    }
}

impl Core {
    /// Launches the agent at the head of the queue.
    pub(super) fn drive(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        let mut saves = if live.has_begun() { Vec::new() } else { live.task.after.clone() };
        if matches!(live.task.status, Status::Paused | Status::Resumed) {
            self.touch(id);
            self.go_on(id, now);
            self.ring(id);
        }
        // With nothing of its own to be saved it is launched also if something else of it cannot be.
        saves.extend(self.is_dirty(id).then_some(id));
        self.set_phase(id, Phase::Driven);
        if let Some(live) = self.live.get_mut(&id) {
            live.drives += 1;
        }
        self.think_again(id, now);
        self.emit_after_all(saves, Effect::Launch { id });
    }

    /// An agent runs (again): its clock goes on.
    fn go_on(&mut self, id: TaskId, now: Now) {
        let begins = self.live.get(&id).is_some_and(|l| l.task.status != Status::Running);
        if !begins || !self.step_status(id, Step::Run, now) {
            return;
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        // Its turn changes when it has begun.
        self.ready.remove(&live.turn());
        live.task.paused_ms = live.stood_still(now);
        live.paused_since = None;
        live.task.paused_at = Stamp::default();
        if live.task.started_at.is_empty() {
            live.task.started_at = stamp(now);
            live.take_up_clock(now);
        }
        self.requeue(id);
    }

    /// An agent waits for its owner, or for a model: its clock stands still.
    fn rest(&mut self, id: TaskId, now: Now) {
        let rests = self.live.get(&id).is_some_and(|l| l.task.status == Status::Paused);
        if !rests
            && self.step_status(id, Step::Pause, now)
            && let Some(live) = self.live.get_mut(&id)
        {
            live.task.paused_at = stamp(now);
            live.paused_since = i64::try_from(now.boot).ok();
        }
    }

    /// Something is heard of an agent: it has begun.
    pub(super) fn begin(&mut self, id: TaskId, now: Now) {
        if self.live.get(&id).is_some_and(|l| l.is_agent() && l.task.status == Status::Dispatched) {
            self.go_on(id, now);
        }
    }

    /// Brings an agent in line with the questions that are open now.
    pub(super) fn agent_questions_changed(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let open = live.task.questions.iter().find(|q| q.open);
        live.task.paused_question = open.map(|q| q.text.clone()).unwrap_or_default();
        match open {
            Some(question) if live.task.status == Status::Paused => {
                live.task.paused_reason.clone_from(&question.kind);
            }
            // Its driver is still there, or what it runs asked: it need not be launched.
            None if live.task.status == Status::Paused && live.phase == Phase::Driven => self.go_on(id, now),
            _ => {}
        }
        self.think_again(id, now);
        self.ring(id);
    }

    /// A question of an agent closed: whoever waits for it goes on.
    pub(super) fn agent_heard(&mut self, id: TaskId, now: Now) {
        if self.live.get(&id).is_some_and(|l| l.phase == Phase::Parked(Parked::Answer)) {
            self.wake(id, now);
        }
    }

    /// What an agent waited for has happened: it goes to the head of the queue.
    fn wake(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id).filter(|l| matches!(l.phase, Phase::Parked(_))) else { return };
        if live.task.status == Status::Paused {
            self.touch(id);
            self.step_status(id, Step::Resume, now);
            self.ring(id);
        }
        self.set_phase(id, Phase::Queued);
        self.think_again(id, now);
    }

    /// A task has ended: agents that waited for it go on.
    pub(super) fn wake_waiting(&mut self, ended: TaskId, now: Now) {
        let parent = self.live.get(&ended).and_then(|l| l.task.parent);
        let waits = |id: &TaskId| match self.live.get(id).map(|l| &l.phase) {
            Some(Phase::Parked(Parked::Tasks { ids, .. })) if ids.is_empty() => parent == Some(*id),
            Some(Phase::Parked(Parked::Tasks { ids, .. })) => ids.contains(&ended),
            _ => false,
        };
        let over: Vec<TaskId> = self.waiting.iter().copied().filter(waits).filter(|id| self.tasks_over(*id)).collect();
        for id in over {
            self.wake(id, now);
        }
    }

    /// Whether the tasks that an agent waits for have ended.
    pub(super) fn tasks_over(&self, id: TaskId) -> bool {
        let over = |id: &TaskId| self.status_of(*id).is_none_or(Status::is_ended);
        match self.live.get(&id).map(|l| &l.phase) {
            Some(Phase::Parked(Parked::Tasks { ids, .. })) if ids.is_empty() => self.kids_of(id).all(|kid| over(&kid)),
            Some(Phase::Parked(Parked::Tasks { ids, .. })) => ids.iter().all(over),
            _ => true,
        }
    }

    /// Sets the timer of an agent.
    pub(super) fn think_again(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        let of_phase = match &live.phase {
            Phase::Parked(Parked::Until(at)) => Some(*at),
            Phase::Parked(Parked::Tasks { until, .. }) => *until,
            Phase::Driven | Phase::Clearing => live.stop_due(now),
            Phase::Parked(Parked::Answer) | Phase::Queued => None,
            _ => return,
        };
        let lazy = live.lazy.then_some(now.boot + LAZY_MS);
        let due = [of_phase, lazy, live.questions_due(), live.time_is_over_at(now)].into_iter().flatten().min();
        self.set_due(id, due.map(|due| due.max(now.boot + 1)));
    }

    /// What the clock says of an agent.
    pub(super) fn due_agent(&mut self, id: TaskId, now: Now) {
        if self.live.get(&id).is_some_and(|l| l.lazy) {
            self.touch(id);
        }
        let Some(live) = self.live.get(&id) else { return };
        if live.time_is_over_at(now).is_some_and(|at| at <= now.boot) {
            self.stop_tree(id, "octo", "timeout", now);
            return;
        }
        match live.phase.clone() {
            Phase::Driven | Phase::Clearing if live.stop_due(now).is_some_and(|at| at <= now.boot) => {
                self.send_stop(id, now);
            }
            Phase::Parked(Parked::Until(at)) if at <= now.boot => self.wake(id, now),
            Phase::Parked(Parked::Tasks { until: Some(at), .. }) if at <= now.boot => self.wake(id, now),
            // One of them may be gone without an end.
            Phase::Parked(Parked::Tasks { .. }) if self.tasks_over(id) => self.wake(id, now),
            Phase::Queued => {
                if !live.has_begun() {
                    self.check_dependencies(id, now);
                }
                self.requeue(id);
            }
            _ => {}
        }
        self.questions_due(id, now);
        self.think_again(id, now);
    }

    /// What the driver of an agent reports.
    pub(super) fn agent_report(&mut self, report: AgentReport, now: Now) -> Decision {
        let AgentReport { id, run, usage, what } = report;
        let of_now = |l: &&Live| {
            let goes_on = !l.task.status.is_ended() && l.phase != Phase::Foreign;
            l.is_agent() && l.task.run == run && goes_on
        };
        let Some(live) = self.live.get_mut(&id).filter(|l| of_now(&&**l)) else { return Ok((vec![id], Reply::Done)) };
        live.reserved = super::budget::Reserved::default();
        let got_on = usage.turns != live.reported_turns;
        live.reported_turns = usage.turns;
        if got_on {
            live.losses = 0;
        }
        if what == Report::Working {
            self.works(id, &usage, now);
            return Ok((vec![], Reply::Done));
        }
        self.touch(id);
        self.spend_reported(id, &usage, now);
        let stop = self.live.get(&id).and_then(|l| l.task.stop.clone());
        match (what, stop) {
            (Report::Ended { ok: true, text }, _) => self.agent_ended(id, Status::Completed, text, now),
            (Report::Ended { ok: false, text }, None) => self.agent_ended(id, Status::Failed, text, now),
            // It was stopped before it came to an end of its own.
            (_, Some(stop)) => self.end_stopped(id, Some(&stop), now),
            (Report::Parked(parking), None) => self.park(id, parking, now),
            (Report::OverBudget(text), None) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.task.budget.over = std::mem::take(&mut live.over);
                }
                self.agent_ended(id, Status::BudgetExceeded, text, now);
            }
            (Report::Failed(text), None) => self.agent_ended(id, Status::Failed, text, now),
            (Report::Lost(why), None) => self.lost(id, &why, now),
            (Report::Stopped, None) => self.lost(id, "its driver left unasked", now),
            (Report::Working, None) => {}
        }
        Ok((vec![id], Reply::Done))
    }

    /// It is under way: that is saved with whatever is saved next, and within a second.
    fn works(&mut self, id: TaskId, usage: &crate::task::Usage, now: Now) {
        self.spend_reported(id, usage, now);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.lazy = true;
        if live.phase == Phase::Driven && !live.asks() && live.task.status != Status::Running {
            self.go_on(id, now);
        }
        self.think_again(id, now);
        self.ring(id);
    }

    fn agent_ended(&mut self, id: TaskId, status: Status, text: String, now: Now) {
        self.begin(id, now);
        let (result, error) = match status {
            Status::Completed => (text, String::new()),
            _ => (String::new(), text),
        };
        if let Some(live) = self.live.get_mut(&id) {
            live.task.result = beginning(result);
        }
        self.end(id, status, beginning(error), now);
    }

    /// It waits, and its driver has left.
    fn park(&mut self, id: TaskId, parking: Parking, now: Now) {
        // A moment by the wall is one by the boot clock from now on.
        let at = |until: &Stamp| until.millis().map(|at| now.boot.saturating_add_signed((at - now.wall).max(0)));
        self.begin(id, now);
        let asks = self.live.get(&id).is_some_and(Live::asks);
        match parking {
            Parking::Question if asks => {
                self.rest(id, now);
                self.set_phase(id, Phase::Parked(Parked::Answer));
            }
            // It was answered while its driver left.
            Parking::Question => self.set_phase(id, Phase::Queued),
            Parking::RateLimit { until } => {
                self.rest(id, now);
                if let Some(live) = self.live.get_mut(&id) {
                    RATE_LIMIT.clone_into(&mut live.task.paused_reason);
                }
                let until = at(&until).unwrap_or(now.boot).max(now.boot + LOST_MS);
                self.set_phase(id, Phase::Parked(Parked::Until(until)));
            }
            Parking::Tasks { ids, until } => {
                self.go_on(id, now);
                self.set_phase(id, Phase::Parked(Parked::Tasks { ids, until: at(&until) }));
                if self.tasks_over(id) {
                    self.wake(id, now);
                }
            }
        }
        self.agent_questions_changed(id, now);
    }

    /// Its driver could not go on: it is launched again, a little later each time.
    fn lost(&mut self, id: TaskId, why: &str, now: Now) {
        tracing::warn!(%id, why, "an agent lost its driver; it is launched again");
        let Some(live) = self.live.get_mut(&id) else { return };
        let pause = LOST_MS.saturating_mul(1 << live.losses.min(16)).min(LOST_MAX_MS);
        live.losses += 1;
        let parked = match live.task.status == Status::Paused && live.asks() {
            true => Parked::Answer,
            false => Parked::Until(now.boot + pause),
        };
        self.set_phase(id, Phase::Parked(parked));
        self.think_again(id, now);
    }

    /// The intent to stop an agent is in its record: what follows from it when it is saved.
    pub(super) fn stop_agent(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.phase != Phase::Driven {
            // It waits, and has no driver; what it ran may be there all the same.
            self.set_phase(id, Phase::Clearing);
        }
        self.send_stop(id, now);
        self.think_again(id, now);
    }

    fn send_stop(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.stop_sent = Some(now.boot);
        let run = live.task.run;
        self.emit(Some(id), Effect::StopAgent { id, run });
    }

    /// Stops a task, and with an agent all that it started; returns whom.
    pub(super) fn stop_tree(&mut self, id: TaskId, by: &str, reason: &str, now: Now) -> Vec<TaskId> {
        let Some(live) = self.live.get(&id) else { return Vec::new() };
        let all = live.is_agent() && !live.task.is_chat();
        let why = format!("its parent #{} {id} was stopped", live.task.number);
        self.stop_one(id, by, reason.to_owned(), now);
        let mut stopped = vec![id];
        let below = if all { self.descendants(id) } else { Vec::new() };
        for kid in below {
            let may = |l: &&Live| {
                let runs = !l.task.status.is_ended() && l.task.stop.is_none();
                runs && l.phase != Phase::Foreign && self.check_mark(&l.task).is_ok()
            };
            if self.live.get(&kid).filter(may).is_some() {
                self.stop_one(kid, by, why.clone(), now);
                stopped.push(kid);
            }
        }
        stopped
    }

    fn stop_one(&mut self, id: TaskId, by: &str, reason: String, now: Now) {
        let Some(live) = self.live.get(&id).filter(|l| l.task.stop.is_none()) else { return };
        if live.phase == Phase::Queued && !(live.is_agent() && live.has_begun()) {
            let stop = Stop { by: by.to_owned(), at: stamp(now), reason, extra: serde_json::Map::new() };
            self.stop_queued(id, stop, now);
        } else {
            self.intend_stop(id, by, reason, now);
        }
    }

    /// The conversation of a thread: the one that there is, or a new one.
    pub(super) fn chat(&mut self, new: NewTask, now: Now) -> Decision {
        if self.shutting_down {
            return Err(Refused::new(RefusedCode::Unavailable, "the daemon is shutting down").hint("try again"));
        }
        let id = match self.chats.get(&new.request.thread) {
            Some(id) => *id,
            None => self.accept(new, Vec::new(), None, now).id,
        };
        Ok((vec![id], self.task_reply(id)))
    }

    /// Refuses an agent that would be too deep below its ancestors.
    pub(super) fn check_depth(&self, parent: TaskId) -> Result<(), Refused> {
        if self.ancestors(parent).count() + 1 < DEPTH_MAX {
            return Ok(());
        }
        let message = format!("agents start agents {DEPTH_MAX} levels deep at most, and task {parent} is that deep");
        Err(Refused::new(RefusedCode::Conflict, message).hint("let it do the work itself"))
    }

    /// How an agent stands when a daemon begins.
    pub(super) fn boot_phase_of_agent(task: &Task) -> Phase {
        let asks = task.questions.iter().any(|q| q.open);
        match task.status {
            _ if task.stop.is_some() => Phase::Clearing,
            Status::Paused if asks => Phase::Parked(Parked::Answer),
            _ => Phase::Queued,
        }
    }
}

/// The beginning of what an agent says, as long as a record may hold.
fn beginning(mut text: String) -> String {
    if text.len() > RESULT_MAX {
        let end = (0..=RESULT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
