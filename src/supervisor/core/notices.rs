//! What a task's owner is to be told: raised in the save of what it tells of, owed to each push bridge until its
//! receipt is saved, and pruned when a task has very much to tell.
//!
//! What is owed keeps its task live, and therefore in memory, for as long as nobody can be reached.

use super::{Core, Effect, Now, Phase, Reply, commands::Decision, schedule::stamp};
use crate::command::Receipt;
use crate::supervisor::Event;
use crate::task::{Delivery, Notice, NoticeKind, Task, TaskId};

/// How many closed questions, and notices of them, a record keeps.
const CLOSED_MAX: usize = 200;

impl Core {
    pub(super) fn tell_of_question(&mut self, id: TaskId, qid: &str, kind: NoticeKind, now: Now) {
        if self.raise(id, kind, qid, now) {
            let seq = self.marks.seq_used;
            self.emit(Some(id), Effect::Ring(Event::Notice { seq }));
        }
    }

    /// Puts a notice into the record, owed to every bridge, if the task's owner wants to hear of such things.
    pub(super) fn raise(&mut self, id: TaskId, kind: NoticeKind, question: &str, now: Now) -> bool {
        let Some(live) = self.live.get_mut(&id) else { return false };
        if !live.task.notify.wants(kind) {
            return false;
        }
        self.marks.seq_used += 1;
        let notice = Notice {
            rev: live.task.rev + 1,
            seq: self.marks.seq_used,
            kind,
            at: stamp(now),
            question: question.to_owned(),
            to: self.limits.bridges.iter().map(|b| (b.clone(), Delivery::Owed)).collect(),
            extra: serde_json::Map::new(),
        };
        self.notice_order.insert(notice.seq, id);
        live.task.notices.push(notice);
        true
    }

    /// Keeps a record small that asks very often: its oldest closed questions go, with what was told of them.
    pub(super) fn prune(&mut self, id: TaskId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let closed = live.task.questions.iter().filter(|q| !q.open).count();
        let mut many = closed.saturating_sub(CLOSED_MAX);
        live.task.questions.retain(|q| {
            let goes = !q.open && many > 0;
            many -= usize::from(goes);
            !goes
        });
        let task = &mut live.task;
        task.answers.retain(|a| task.questions.iter().any(|q| q.id == a.question));
        let old = |n: &Notice| n.kind.is_of_question() && n.to.values().all(|d| *d != Delivery::Owed);
        let mut many = task.notices.iter().filter(|n| old(n)).count().saturating_sub(CLOSED_MAX);
        for gone in task.notices.extract_if(.., |n| {
            let goes = many > 0 && old(n);
            many -= usize::from(goes);
            goes
        }) {
            self.notice_order.remove(&gone.seq);
        }
    }

    /// Takes note of what a bridge delivered, or will not deliver.
    pub(super) fn receipts(&mut self, bridge: &str, receipts: &[Receipt]) -> Decision {
        let mut changed = Vec::new();
        for receipt in receipts {
            let id = receipt.task;
            let owed = |n: &Notice| n.seq == receipt.seq && n.to.get(bridge) == Some(&Delivery::Owed);
            if !self.live_task(id).is_some_and(|l| l.task.notices.iter().any(owed)) {
                continue;
            }
            self.touch(id);
            let notices = self.live.get_mut(&id).map(|l| &mut l.task.notices);
            if let Some(notice) = notices.and_then(|n| n.iter_mut().find(|n| owed(n))) {
                notice.to.insert(bridge.to_owned(), receipt.delivery);
            }
            changed.push(id);
        }
        Ok((changed, Reply::Done))
    }

    /// Whether some bridge of this daemon still has to tell something of a task.
    pub(super) fn owes(&self, task: &Task) -> bool {
        let owed = |n: &Notice| self.limits.bridges.iter().any(|b| n.to.get(b) == Some(&Delivery::Owed));
        task.notices.iter().any(owed)
    }

    /// What a bridge has still to tell, oldest first: at most `limit` of them with their tasks, and how many in all.
    #[must_use]
    pub fn owed(&self, bridge: &str, limit: usize) -> (Vec<(Notice, Task)>, usize) {
        let mut owed: Vec<(u64, TaskId)> = Vec::new();
        for live in self.live.values().filter(|l| l.phase != Phase::Foreign && !self.is_dirty(l.task.id)) {
            let notices = live.task.notices.iter().filter(|n| n.to.get(bridge) == Some(&Delivery::Owed));
            owed.extend(notices.map(|n| (n.seq, live.task.id)));
        }
        owed.sort_unstable();
        let total = owed.len();
        owed.truncate(limit);
        let whole = |(seq, id): (u64, TaskId)| {
            let task = self.task(id)?;
            Some((task.notices.iter().find(|n| n.seq == seq)?.clone(), task.clone()))
        };
        (owed.into_iter().filter_map(whole).collect(), total)
    }

    /// How many notices a bridge has still to tell.
    #[must_use]
    pub fn owed_count(&self, bridge: &str) -> usize {
        let owed = |n: &&Notice| n.to.get(bridge) == Some(&Delivery::Owed);
        self.live.values().map(|l| l.task.notices.iter().filter(owed).count()).sum()
    }
}
