//! What a task's owner is to be told: raised in the save of what it tells of, owed to each push bridge until its
//! receipt is saved, and pruned when a task has very much to tell.
//!
//! What is owed keeps its task live, and therefore in memory, for as long as nobody can be reached.

use std::collections::HashSet;

use super::{Core, Effect, Live, Now, Phase, Reply, commands::Decision, schedule::stamp};
use crate::command::Receipt;
use crate::supervisor::Event;
use crate::task::{Delivery, HistoryEntry, Notice, NoticeKind, Question, Status, Task, TaskId};

/// How many closed questions, told notices of questions, and pauses a record keeps.
const CLOSED_MAX: usize = 200;

/// A task is told of whole with each of its notices: a page of them is no longer than this, in bytes.
pub const PAGE_BYTES: usize = 4 << 20;

impl Core {
    pub(super) fn tell_of_question(&mut self, id: TaskId, qid: &str, kind: NoticeKind, now: Now) {
        if self.raise(id, kind, qid, now) {
            let seq = self.marks.seq_used;
            self.emit(Some(id), Effect::Ring(Event::Notice { seq }));
        }
    }

    /// Puts a notice into the record, owed to every bridge, if the task's owner wants to hear of such things.
    pub(super) fn raise(&mut self, id: TaskId, kind: NoticeKind, question: &str, now: Now) -> bool {
        self.raise_saying(id, kind, question, String::new(), now)
    }

    /// As [`Core::raise`], with words of its own.
    pub(super) fn raise_saying(
        &mut self,
        id: TaskId,
        kind: NoticeKind,
        question: &str,
        text: String,
        now: Now,
    ) -> bool {
        let Some(live) = self.live.get_mut(&id) else { return false };
        if !live.task.notify.wants(kind) {
            return false;
        }
        self.pending.seq_before.get_or_insert(self.marks.seq_used);
        self.marks.seq_used += 1;
        let notice = Notice {
            rev: live.task.rev + 1,
            seq: self.marks.seq_used,
            kind,
            at: stamp(now),
            question: question.to_owned(),
            text,
            to: self.limits.bridges.iter().map(|b| (b.clone(), Delivery::Owed)).collect(),
            extra: serde_json::Map::new(),
        };
        self.notice_order.insert(notice.seq, id);
        live.task.notices.push(notice);
        true
    }

    /// Keeps a record small that asks very often: the questions that were closed first go, with their answers, with
    /// what was told of them, and with what nobody could be told so far, for of a question that is gone there is
    /// nothing to tell. `just`: a question that was closed now stays, whatever the clock says.
    pub(super) fn prune(&mut self, id: TaskId, just: &str) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let task = &mut live.task;
        let gone = closed_first(&task.questions, just);
        task.questions.retain(|q| !gone.contains(&q.id));
        task.answers.retain(|a| task.questions.iter().any(|q| q.id == a.question));
        let told = |n: &Notice| n.kind.is_of_question() && n.to.values().all(|d| *d != Delivery::Owed);
        let mut many = task.notices.iter().filter(|n| told(n)).count().saturating_sub(CLOSED_MAX);
        for gone in task.notices.extract_if(.., |n| {
            let old = many > 0 && told(n);
            many -= usize::from(old);
            old || n.kind.is_of_question() && gone.contains(&n.question)
        }) {
            self.notice_order.remove(&gone.seq);
        }
        let pauses = task.history.iter().filter(|h| h.status == Status::Paused).count();
        for _ in CLOSED_MAX..pauses {
            // A pause goes with the step that ended it, so that the rest is still a life.
            let is = |steps: &[HistoryEntry], life: &[Status]| steps.iter().map(|h| h.status).eq(life.iter().copied());
            let find = |life: &[Status]| task.history.windows(life.len()).position(|steps| is(steps, life));
            let process = find(&[Status::Paused, Status::Running]).map(|at| at..at + 2);
            let agent = || find(&[Status::Paused, Status::Resumed, Status::Running]).map(|at| at..at + 3);
            let Some(over) = process.or_else(agent) else { break };
            task.history.drain(over);
        }
    }

    /// Takes note of what a bridge delivered, or will not deliver.
    pub(super) fn receipts(&mut self, bridge: &str, receipts: &[Receipt], now: Now) -> Decision {
        let mut after = Vec::new();
        for receipt in receipts {
            let id = receipt.task;
            let Some(live) = self.live_task(id).filter(|l| l.phase != Phase::Foreign) else { continue };
            // One that came before in the same batch may not be saved: whoever leaves it again hears of that, too.
            after.push(id);
            let owed = |n: &Notice| n.seq == receipt.seq && is_owed(n, bridge);
            if !live.task.notices.iter().any(owed) {
                continue;
            }
            self.touch(id);
            let notices = self.live.get_mut(&id).map(|l| &mut l.task.notices);
            if let Some(notice) = notices.and_then(|n| n.iter_mut().find(|n| owed(n))) {
                notice.to.insert(bridge.to_owned(), receipt.delivery);
            }
            self.settle_told(id, now);
        }
        Ok((after, Reply::Done))
    }

    /// An ended task that waited for nothing but its last receipt is put away.
    fn settle_told(&mut self, id: TaskId, now: Now) {
        let waited = |live: &&Live| live.phase == Phase::Settling && live.due.is_none() && !self.owes(&live.task);
        if self.live_task(id).filter(waited).is_some() && !self.leisure.knows(id) {
            self.fold_later(id, now);
        }
    }

    /// Whether some bridge of this daemon still has to tell something of a task.
    pub(super) fn owes(&self, task: &Task) -> bool {
        task.notices.iter().any(|n| self.limits.bridges.iter().any(|b| is_owed(n, b)))
    }

    /// What a bridge has still to tell, oldest first: at most `limit` of them with their tasks, and no more than about
    /// [`PAGE_BYTES`] beyond the first; and how many in all.
    /// Of a task that changes in the present batch it is what was owed, and how it stood, before.
    #[must_use]
    pub fn owed(&self, bridge: &str, limit: usize) -> (Vec<(Notice, Task)>, usize) {
        let mut owed: Vec<(&Notice, &Task)> = self.owed_to(bridge).collect();
        owed.sort_unstable_by_key(|(notice, _)| notice.seq);
        let total = owed.len();
        let mut bytes = 0;
        let fits = |(_, task): &(&Notice, &Task)| {
            let first = bytes == 0;
            bytes += task.weight();
            first || bytes <= PAGE_BYTES
        };
        let page = owed.into_iter().take(limit).take_while(fits);
        (page.map(|(notice, task)| (notice.clone(), task.clone())).collect(), total)
    }

    /// How many notices a bridge has still to tell.
    #[must_use]
    pub fn owed_count(&self, bridge: &str) -> usize {
        self.owed_to(bridge).count()
    }

    fn owed_to<'a>(&'a self, bridge: &'a str) -> impl Iterator<Item = (&'a Notice, &'a Task)> {
        let ours = self.saved_live().filter(|l| l.phase != Phase::Foreign);
        ours.flat_map(move |l| l.task.notices.iter().filter(|n| is_owed(n, bridge)).map(|n| (n, &l.task)))
    }
}

/// The questions that are too many, by the order in which they were closed.
fn closed_first(questions: &[Question], just: &str) -> HashSet<String> {
    let closed = || questions.iter().filter(|q| !q.open);
    let many = closed().count().saturating_sub(CLOSED_MAX);
    if many == 0 {
        return HashSet::new();
    }
    let mut others: Vec<&Question> = closed().filter(|q| q.id != just).collect();
    others.sort_by_key(|q| q.closed_at.millis());
    others.into_iter().take(many).map(|q| q.id.clone()).collect()
}

fn is_owed(notice: &Notice, bridge: &str) -> bool {
    notice.to.get(bridge) == Some(&Delivery::Owed)
}
