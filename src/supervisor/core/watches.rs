//! What only this daemon knows of open questions: who still polls for an answer, and what the clock says of each.
//!
//! An asker that polls is there, and its task is paused. When none has polled for a minute the task counts as
//! running again, and its questions stay open ("unattended"); the next poll pauses it anew. After a restart each
//! asker has a minute to come back. Deadlines and reminders come from the record, and are kept by the boot clock.

use std::collections::BTreeMap;

use super::{Core, Live, Now, Phase, schedule::stamp};
use crate::task::{Closed, NoticeKind, QUESTION, Question, Status, Step, TaskId};

/// How long after its last poll an asker counts as there.
const ATTENDED_MS: u64 = 60_000;

/// What only this daemon knows of an open question. Times are milliseconds since boot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Watch {
    /// Until then its asker counts as there.
    attended: u64,
    /// When it closes without an answer.
    deadline: Option<u64>,
    /// When the next reminder is due.
    reminder: Option<u64>,
}

impl Watch {
    pub(super) fn of(question: &Question, reminders: &[u64], now: Now) -> Watch {
        let until = |wall: i64| now.boot.saturating_add_signed(wall.saturating_sub(now.wall).max(0));
        let asked = question.asked_at.millis().unwrap_or(now.wall);
        let next = reminders.get(question.reminded as usize);
        Watch {
            attended: now.boot + ATTENDED_MS,
            deadline: question.deadline.millis().map(until),
            reminder: next.map(|s| until(asked.saturating_add_unsigned(s.saturating_mul(1000)))),
        }
    }
}

impl Live {
    /// Whether somebody waits for the answer to one of its open questions.
    fn is_attended(&self, now: Now) -> bool {
        self.watches.values().any(|w| w.attended > now.boot)
    }

    /// When its questions must be thought of again.
    pub(super) fn questions_due(&self) -> Option<u64> {
        let paused = self.task.status == Status::Paused;
        let last = self.watches.values().map(|w| w.attended).max().filter(|_| paused && !self.is_agent());
        let each = self.watches.values().flat_map(|w| [w.deadline, w.reminder]).flatten();
        each.chain(last).min()
    }

    /// Milliseconds since boot by which its clock is late, for the pauses of its run.
    pub(super) fn stood_still(&self, now: Now) -> u64 {
        let since = |since: i64| u64::try_from(i64::try_from(now.boot).unwrap_or(i64::MAX) - since).unwrap_or(0);
        self.task.paused_ms.saturating_add(self.paused_since.map_or(0, since))
    }

    /// Takes up what was open when an earlier daemon went.
    pub(super) fn take_up_questions(&mut self, reminders: &[u64], now: Now) {
        let open = self.task.questions.iter().filter(|q| q.open);
        self.watches = open.map(|q| (q.id.clone(), Watch::of(q, reminders, now))).collect();
        if self.task.status == Status::Paused {
            let since = self.task.paused_at.millis().unwrap_or(now.wall);
            let boot = i64::try_from(now.boot).unwrap_or(i64::MAX);
            self.paused_since = Some(boot.saturating_sub(now.wall.saturating_sub(since).max(0)));
        }
    }
}

/// The watches of a task's open questions.
pub(super) type Watches = BTreeMap<String, Watch>;

impl Core {
    /// Brings status, slots, `paused_*` and the timer in line with the questions that are open now.
    pub(super) fn questions_changed(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        if live.is_agent() {
            return self.agent_questions_changed(id, now);
        }
        if live.task.status == Status::Paused && !live.is_attended(now) {
            self.unpause(id, now);
        }
        if let Some(live) = self.live.get_mut(&id) {
            let open = live.task.questions.iter().find(|q| q.open);
            live.task.paused_question = open.map(|q| q.text.clone()).unwrap_or_default();
            if live.task.status == Status::Paused {
                live.task.paused_reason = open.map_or(QUESTION, |q| q.kind.as_str()).to_owned();
            } else if live.task.paused_question.is_empty() {
                live.task.paused_at = crate::task::Stamp::default();
            }
        }
        if self.live.get(&id).is_some_and(|l| matches!(l.phase, Phase::Running { .. })) {
            self.set_due(id, Some(self.next_look(id, now)));
        }
        self.ring(id);
    }

    pub(super) fn pause(&mut self, id: TaskId, now: Now) {
        if self.live.get(&id).is_some_and(|l| l.task.status == Status::Running)
            && self.step_status(id, Step::Pause, now)
            && let Some(live) = self.live.get_mut(&id)
        {
            live.task.paused_at = stamp(now);
            live.paused_since = i64::try_from(now.boot).ok();
        }
    }

    /// A process gets its answer at once; that more tasks than slots may run then shows in the status.
    fn unpause(&mut self, id: TaskId, now: Now) {
        if self.step_status(id, Step::Run, now)
            && let Some(live) = self.live.get_mut(&id)
        {
            live.task.paused_ms = live.stood_still(now);
            live.paused_since = None;
        }
    }

    /// The asker of a question polls for its answer.
    pub(super) fn polled(&mut self, id: TaskId, qid: &str, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(watch) = live.watches.get_mut(qid) else { return };
        watch.attended = now.boot + ATTENDED_MS;
        if !matches!(live.phase, Phase::Running { .. }) {
            return;
        }
        if live.task.status == Status::Running {
            self.touch(id);
            self.pause(id, now);
            self.questions_changed(id, now);
        } else if self.live.get(&id).is_some_and(|l| l.due.is_none()) {
            self.set_due(id, Some(self.next_look(id, now)));
        }
    }

    /// What the clock says of a task's questions.
    pub(super) fn questions_due(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get(&id) else { return };
        let over: Vec<String> = live
            .watches
            .iter()
            .filter(|(_, w)| w.deadline.is_some_and(|d| d <= now.boot))
            .map(|(q, _)| q.clone())
            .collect();
        let remind: Vec<String> = live
            .watches
            .iter()
            .filter(|(q, w)| w.reminder.is_some_and(|r| r <= now.boot) && !over.contains(q))
            .map(|(q, _)| q.clone())
            .collect();
        // An agent waits itself: nobody has to poll for it.
        let left = live.task.status == Status::Paused && !live.is_agent() && !live.is_attended(now);
        if over.is_empty() && remind.is_empty() && !left {
            return;
        }
        self.touch(id);
        for qid in &over {
            self.close(id, qid, Closed::NoAnswer, now);
        }
        for qid in remind {
            self.remind(id, &qid, now);
        }
        self.prune(id, over.last().map_or("", String::as_str));
        self.questions_changed(id, now);
    }

    /// One reminder, however many were missed while no daemon ran.
    fn remind(&mut self, id: TaskId, qid: &str, now: Now) {
        let reminders = self.limits.reminders.clone();
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(question) = live.task.questions.iter_mut().find(|q| q.id == qid) else { return };
        let age = now.wall.saturating_sub(question.asked_at.millis().unwrap_or(now.wall)).max(0).unsigned_abs() / 1000;
        let passed = reminders.iter().filter(|s| **s <= age).count();
        question.reminded = u32::try_from(passed).unwrap_or(u32::MAX).max(question.reminded + 1);
        let next = Watch::of(question, &reminders, now).reminder;
        if let Some(watch) = live.watches.get_mut(qid) {
            watch.reminder = next;
        }
        self.tell_of_question(id, qid, NoticeKind::Reminder, now);
    }
}
