//! From facts to the record: what a look at a run means for its task.

use std::time::Duration;

use super::{Core, Effect, Live, Now, Phase, index::End, schedule::stamp};
use crate::exec::{Look, Report};
use crate::run::{Claim, Exit, ExitReason, Verdict, verdict};
use crate::store::Summary;
use crate::supervisor::Event;
use crate::task::{NoticeKind, Status, Step, Stop, Task, TaskId};

/// When a fold is tried again that found a lock still held.
pub const FOLD_AGAIN_MS: u64 = 1000;

/// Launches that may fail before the task does.
const LAUNCHES: u32 = 3;

impl Core {
    pub(super) fn looked(&mut self, id: TaskId, run: u32, look: Look, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.task.status.is_ended() || live.task.run != run || live.phase == Phase::Foreign {
            return;
        }
        if live.phase == Phase::Sweeping {
            return;
        }
        let (own, waited) = match live.phase {
            Phase::Starting { since, own } => (own, now.boot.saturating_sub(since)),
            _ => (false, 0),
        };
        let status = live.task.status;
        let stop = live.task.stop.is_some();
        match verdict(status, stop, &look.facts, Duration::from_millis(waited)) {
            Verdict::NotSpawned => self.not_spawned(id, own, now),
            Verdict::Ended(exit) => self.exited(id, &exit, look.report, now),
            Verdict::Running(claim) => self.running(id, run, claim, now),
            Verdict::Starting => self.starting(id, now),
            Verdict::VoidFirst => self.emit(None, Effect::Void { id, run }),
            Verdict::NeverStarted => self.never_started(id, own, now),
            Verdict::CutOff(claim) => {
                self.set_phase(id, Phase::Sweeping);
                self.set_due(id, Some(self.next_look(id, now)));
                self.emit(None, Effect::EndLeft { id, run, claim });
            }
        }
    }

    /// No run folder and a dispatched record: this run was never spawned.
    fn not_spawned(&mut self, id: TaskId, own: bool, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.task.stop.is_some() {
            let stop = live.task.stop.clone();
            self.end_stopped(id, stop.as_ref(), now);
            return;
        }
        if own && !live.last_failure.is_empty() && self.launch_counts(id, now) {
            return;
        }
        self.set_due(id, None);
        self.set_phase(id, Phase::Queued);
        self.check_dependencies(id, now);
    }

    /// Counts a launch that this daemon saw fail; true when it was one too many and the task has ended.
    fn launch_counts(&mut self, id: TaskId, now: Now) -> bool {
        self.touch(id);
        let Some(live) = self.live.get_mut(&id) else { return true };
        live.task.launches += 1;
        if live.task.launches < LAUNCHES {
            return false;
        }
        let mut why = std::mem::take(&mut live.last_failure);
        if why.is_empty() {
            "the shim ended before it claimed the run".clone_into(&mut why);
        }
        self.end(id, Status::Failed, format!("launch: {why} (tried {LAUNCHES} times)"), now);
        true
    }

    /// Ends a queued task that waits for one which ended badly: while the daemon was away, or with no room to say so.
    pub(super) fn check_dependencies(&mut self, id: TaskId, now: Now) {
        let after = self.live.get(&id).map(|l| l.task.after.clone()).unwrap_or_default();
        for dep in after {
            let status = self.status_of(dep);
            if status.is_none_or(|s| s.is_ended() && s != Status::Completed) {
                let ended = status.map_or("was removed".to_owned(), |s| format!("ended as {s}"));
                self.end(id, Status::Cancelled, format!("task {dep}, which it waited for, {ended}"), now);
                return;
            }
        }
    }

    fn starting(&mut self, id: TaskId, now: Now) {
        if let Some(Phase::Unseen) = self.live.get(&id).map(|l| l.phase.clone()) {
            self.set_phase(id, Phase::Starting { since: now.boot, own: false });
        }
        self.set_due(id, Some(now.boot + 1000));
    }

    /// The claim was seen and the lock is held.
    fn running(&mut self, id: TaskId, run: u32, claim: Option<Claim>, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let adopted = matches!(live.phase, Phase::Unseen | Phase::Starting { own: false, .. });
        let fresh = live.task.status == Status::Dispatched;
        if fresh {
            // Nothing must be saved for this: the claim on disk proves it. The record follows lazily.
            live.lazy = true;
            live.task.started_at = claim.as_ref().map_or_else(|| stamp(now), |c| c.at.clone());
        }
        let known = matches!(live.phase, Phase::Running { .. });
        if fresh {
            self.take(id, Step::Run, now);
        }
        if !known {
            self.set_phase(id, Phase::Running { claim: claim.clone() });
            self.ring(id);
        }
        if adopted && let Some(claim) = &claim {
            self.emit(None, Effect::Adopt { id, run, claim: claim.clone() });
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        if live.task.stop.is_some() && live.stop_sent.is_none() {
            live.stop_sent = Some(now.boot);
            if let Some(claim) = claim {
                self.emit(Some(id), Effect::Stop { id, run, claim });
            }
        }
        let due = self.next_look(id, now);
        self.set_due(id, Some(due));
    }

    /// The void claim was won: this run never started.
    fn never_started(&mut self, id: TaskId, own: bool, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.task.stop.is_some() {
            let stop = live.task.stop.clone();
            self.end_stopped(id, stop.as_ref(), now);
            return;
        }
        if own && self.launch_counts(id, now) {
            return;
        }
        self.touch(id);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.task.run += 1;
        let backoff = if live.task.launches == 0 { 0 } else { 1000 };
        self.set_due(id, (backoff > 0).then_some(now.boot + backoff));
        self.set_phase(id, Phase::Queued);
        // What it waited for may have been retried since, and have failed.
        self.check_dependencies(id, now);
    }

    pub(super) fn launch_failed(&mut self, id: TaskId, run: u32, why: String, passing: bool, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if live.task.run != run || !matches!(live.phase, Phase::Starting { .. }) {
            return;
        }
        live.last_failure = why;
        // The run folder may be there already: the table decides, and voids it if it must.
        self.set_phase(id, Phase::Starting { since: now.boot, own: !passing });
        self.set_due(id, Some(now.boot + 1000));
    }

    /// `exit.json` says how it ended.
    fn exited(&mut self, id: TaskId, exit: &Exit, report: Report, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        let (status, error) = outcome(&live.task, exit, &report, self.limits.log_quota);
        self.touch(id);
        let Some(live) = self.live.get_mut(&id) else { return };
        if live.task.started_at.is_empty() {
            live.task.started_at = live.task.history.last().map(|h| h.at.clone()).unwrap_or_default();
        }
        if live.task.status == Status::Dispatched && exit.error.is_none() {
            self.take(id, Step::Run, now);
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.task.exit_code = exit.code;
            live.task.signal = exit.signal;
            if status == Status::BudgetExceeded {
                "usd".clone_into(&mut live.task.budget.over);
            }
        }
        // The end is when the command ended, not when a daemon came to see it.
        let ended = Now { wall: exit.at.millis().unwrap_or(now.wall), boot: now.boot };
        self.fill(id, report, ended);
        self.end(id, status, error, ended);
    }

    pub(super) fn left_ended(&mut self, id: TaskId, run: u32, report: Report, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.phase != Phase::Sweeping || live.task.run != run {
            return;
        }
        let stop = live.task.stop.clone();
        self.touch(id);
        self.fill(id, report, now);
        if stop.is_some() {
            self.end_stopped(id, stop.as_ref(), now);
        } else {
            let error = "interrupted: it was cut off without an exit record (its shim was killed, or the machine went \
                         down); it is not run again unasked";
            self.end(id, Status::Interrupted, error.to_owned(), now);
        }
    }

    /// Takes in what a run said.
    fn fill(&mut self, id: TaskId, report: Report, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.task.result = report.result;
        if !report.session_id.is_empty() {
            live.task.session_id = report.session_id;
        }
        if let Some(usage) = report.usage {
            self.spend_of_run(id, &usage, now);
        }
    }

    pub(super) fn end_stopped(&mut self, id: TaskId, stop: Option<&Stop>, now: Now) {
        let timeout = self.live.get(&id).map_or(0, |l| l.task.timeout);
        let (status, error) = stopped(stop, timeout);
        self.end(id, status, error, now);
    }

    /// Ends a task: one save carries the outcome and the notice that is owed.
    pub(super) fn end(&mut self, id: TaskId, status: Status, error: String, now: Now) {
        self.touch(id);
        if !self.step_status(id, Step::End(status), now) {
            return;
        }
        self.close_questions(id, now);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.task.error = error;
        live.lazy = false;
        live.stop_sent = None;
        let chat = live.task.is_chat();
        if chat && self.chats.get(&live.task.thread_id) == Some(&id) {
            self.chats.remove(&live.task.thread_id);
        }
        live.reserved = super::budget::Reserved::default();
        let told = !chat && NoticeKind::of_end(status).is_some_and(|kind| self.raise(id, kind, "", now));
        let Some(live) = self.live.get(&id) else { return };
        if let Some(end) = End::of(live) {
            self.note_end(end);
        }
        self.set_phase(id, Phase::Settling);
        self.set_due(id, None);
        self.fold_later(id, now);
        // Whoever waits for the end hears of it first.
        self.ring(id);
        if told {
            let seq = self.marks.seq_used;
            self.emit(Some(id), Effect::Ring(Event::Notice { seq }));
        }
        self.emit(Some(id), Effect::TellSaved { id });
        self.release_dependents(id, now);
        self.wake_waiting(id, now);
    }

    pub(super) fn folded(&mut self, id: TaskId, done: Result<(), u64>, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.phase != Phase::Settling {
            return;
        }
        if let Err(again) = done {
            self.set_due(id, Some(now.boot + again));
            return;
        }
        if self.owes(&live.task) {
            // The last receipt takes it up again.
            self.set_due(id, None);
            return;
        }
        if let Some(live) = self.unindex(id) {
            let summary = Summary::of(&live.task);
            self.insert_settled(summary.clone());
            self.emit(None, Effect::NoteEnded(summary));
        }
    }

    pub(super) fn files_removed(&mut self, id: TaskId, done: bool, now: Now) {
        if done {
            self.removing.remove(&id);
        } else {
            self.removing.insert(id, now.boot + 1000);
        }
    }

    pub(super) fn ring(&mut self, id: TaskId) {
        self.emit(Some(id), Effect::Ring(Event::Task { id }));
    }

    pub(super) fn live_task(&self, id: TaskId) -> Option<&Live> {
        self.live.get(&id)
    }
}

/// The status and the error of a run that left an exit record.
fn outcome(task: &Task, exit: &Exit, report: &Report, quota: u64) -> (Status, String) {
    if let Some(error) = &exit.error {
        let error = if error.starts_with("launch") { error.clone() } else { format!("launch: {error}") };
        return (Status::Failed, error);
    }
    match exit.reason {
        Some(ExitReason::LogQuota) => {
            let error = format!("log_quota: stopped, because its output passed {} MiB", quota / (1024 * 1024));
            return (Status::Failed, error);
        }
        Some(ExitReason::Stop) => return stopped(task.stop.as_ref(), task.timeout),
        None => {}
    }
    let ended = match (exit.code, exit.signal) {
        (Some(0), _) => String::new(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal} ({})", signal_name(signal)),
        (None, None) => "ended without an exit code".to_owned(),
    };
    match (&report.failed, ended.is_empty()) {
        (Some(why), _) if report.over_budget => (Status::BudgetExceeded, why.clone()),
        (Some(why), _) => (Status::Failed, why.clone()),
        (None, true) => (Status::Completed, String::new()),
        (None, false) => (Status::Failed, ended),
    }
}

/// The status and the error of a run that was stopped; without an intent it was cut off from outside.
fn stopped(stop: Option<&Stop>, timeout: u64) -> (Status, String) {
    let Some(stop) = stop else {
        let error = "interrupted: its shim was told to stop from outside Octo (a shutdown of the session or machine?)";
        return (Status::Interrupted, error.to_owned());
    };
    match stop.reason.as_str() {
        "timeout" => (Status::Failed, format!("timeout: stopped after {timeout} s")),
        "low_disk" => (
            Status::Failed,
            "low_disk: stopped, because the disk is nearly full and this task wrote the most".to_owned(),
        ),
        "cancel" | "" => (Status::Cancelled, format!("cancelled by {}", stop.by)),
        words => (Status::Cancelled, format!("cancelled by {}: {words}", stop.by)),
    }
}

/// `SIGTERM` and the like.
fn signal_name(signal: i32) -> &'static str {
    nix::sys::signal::Signal::try_from(signal).map_or("unknown", |s| s.as_str())
}
