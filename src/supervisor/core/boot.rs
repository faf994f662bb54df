//! From the records on disk to the state: what a start does before it takes commands.

use super::{Core, Live, Now, Phase};
use crate::store::{Loaded, Summary};
use crate::task::{Kind, Status, Task, TaskId};

impl Core {
    pub(super) fn load(&mut self, loaded: Loaded, now: Now) {
        self.marks = loaded.marks;
        self.problems.extend(loaded.problems.iter().map(ToString::to_string));
        for summary in &loaded.ended {
            self.marks.numbers_used = self.marks.numbers_used.max(summary.number);
            self.marks.seq_used = self.marks.seq_used.max(summary.last_seq);
        }
        let mut live = loaded.live;
        // Records of this installation come first: of two with the same number its own keeps it. Of its own, one
        // that has ended does, in the order of the store, which knows some of them from before; then the older one.
        // Those without a number get theirs by age.
        let order = |t: &Task| (t.mark != self.limits.mark, t.number, t.number != 0 && !t.status.is_ended());
        let age = |t: &Task| (t.number == 0 || !t.status.is_ended()).then(|| (t.created_at.clone(), t.id));
        live.sort_by_cached_key(|t| (order(t), age(t)));
        for task in &live {
            self.marks.numbers_used = self.marks.numbers_used.max(task.number);
            let seq = task.notices.iter().map(|n| n.seq).max().unwrap_or(0);
            self.marks.seq_used = self.marks.seq_used.max(seq);
        }
        if self.marks.cleared_ms > 0 && self.marks.cleared_number == 0 {
            // Cleared by a version that kept the time alone: of what there is now, the time decides.
            (self.marks.cleared_number, self.marks.cleared_seq) = (self.marks.numbers_used, self.marks.seq_used);
        }
        for summary in loaded.ended {
            self.insert_settled(summary);
        }
        for task in live {
            self.load_live(task, now);
        }
        let parents: Vec<TaskId> = self.kids.keys().copied().collect();
        for parent in parents {
            self.name_children(parent);
        }
        let foreign = self.live.values().filter(|l| l.task.mark != self.limits.mark).count();
        if foreign > 0 {
            self.problems.push(format!(
                "{foreign} task records came from elsewhere and are shown only; `octo trust` accepts them"
            ));
        }
        for id in loaded.stray_folders {
            self.removing.insert(id, now.boot);
        }
    }

    fn load_live(&mut self, mut task: Task, now: Now) {
        let id = task.id;
        // The ancestor's records have no number; a copied or edited one may have that of another task.
        let renumbered = task.number == 0 || self.numbers.contains_key(&task.number);
        if renumbered {
            self.marks.numbers_used += 1;
            task.number = self.marks.numbers_used;
        }
        task.run = task.run.max(1);
        let phase = self.boot_phase(&task);
        let look = phase == Phase::Unseen;
        let fold = phase == Phase::Settling;
        let keep = renumbered && phase != Phase::Foreign;
        let mut live = Live::new(task, phase);
        if look {
            live.take_up_questions(&self.limits.reminders, now);
        }
        let agent = live.is_agent() && !matches!(live.phase, Phase::Foreign | Phase::Settling);
        if agent {
            live.take_up_questions(&self.limits.reminders, now);
            live.take_up_clock(now);
        }
        live.due = (look || agent).then_some(now.boot);
        self.insert_live(live);
        if fold {
            self.fold_later(id, now);
        }
        if keep {
            self.touch(id);
        }
    }

    pub(super) fn boot_phase(&self, task: &Task) -> Phase {
        if task.mark != self.limits.mark || task.schema > crate::task::SCHEMA {
            Phase::Foreign
        } else if task.status.is_ended() {
            Phase::Settling
        } else {
            match task.kind {
                Kind::Process => Phase::Unseen,
                Kind::Agent => Core::boot_phase_of_agent(task),
            }
        }
    }

    /// Accepts the records that came from elsewhere; returns how many.
    pub(super) fn trust_records(&mut self, now: Now) -> Vec<TaskId> {
        let ids: Vec<TaskId> = self
            .live
            .iter()
            .filter(|(_, l)| {
                l.phase == Phase::Foreign && l.task.mark != self.limits.mark && l.task.schema <= crate::task::SCHEMA
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.touch(*id);
            let Some(mut live) = self.unindex(*id) else { continue };
            live.task.mark.clone_from(&self.limits.mark);
            live.phase = self.boot_phase(&live.task);
            live.due = Some(now.boot);
            if live.is_agent() {
                live.take_up_clock(now);
            }
            let settles = live.phase == Phase::Settling;
            self.insert_live(live);
            if settles {
                self.fold_later(*id, now);
            }
            self.ring(*id);
        }
        self.recount_ends();
        self.problems.retain(|p| !p.contains("`octo trust` accepts them"));
        ids
    }

    /// Counts of live and settled tasks by status word.
    pub(super) fn counts(&self) -> std::collections::BTreeMap<String, usize> {
        // There may be very many tasks, and there are few words.
        let mut counts = Status::ALL.map(|_| 0);
        let live = self.live.values().filter(|l| !l.task.is_chat()).map(|l| l.task.status);
        let is_chat = |s: &&Summary| s.spent.as_ref().is_some_and(|spent| spent.chat);
        let settled = self.settled.values().filter(|s| !is_chat(s)).map(|s| s.status);
        for status in live.chain(settled) {
            counts[status as usize] += 1;
        }
        let counted = Status::ALL.into_iter().map(|status| (status, counts[status as usize]));
        counted.filter(|(_, n)| *n > 0).map(|(status, n)| (status.word().to_owned(), n)).collect()
    }
}
