//! The indexes of the state. A task enters all of them and leaves all of them in one place each, so that
//! whatever is put back after a failed save is put back whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Core, Live, Parked, Phase, Turn, family::parent_of};
use crate::store::{Marks, Summary, env_key, key_hash};
use crate::task::TaskId;

impl Core {
    pub(super) fn insert_live(&mut self, live: Live) {
        let id = live.task.id;
        self.numbers.insert(live.task.number, id);
        if !live.task.key.is_empty() {
            self.keys.insert((key_hash(&live.task.key), id));
        }
        if let Some(end) = End::of(&live) {
            self.note_end(end);
        }
        for notice in &live.task.notices {
            self.notice_order.insert(notice.seq, id);
        }
        for dep in &live.task.after {
            self.dependents.entry(*dep).or_default().insert(id);
        }
        if let Some(due) = live.due {
            self.timers.insert((due, id));
        }
        if live.holds_slot() {
            self.slots_used += 1;
        }
        self.use_env(env_key(&live.task.env));
        self.settled.remove(&id);
        self.link(id, live.task.parent, true);
        if live.phase != Phase::Foreign {
            self.count_hours(&live.task.hours, true);
            if live.task.is_chat() && !live.task.status.is_ended() {
                self.chats.insert(live.task.thread_id.clone(), id);
            }
        }
        self.live.insert(id, live);
        self.requeue(id);
    }

    pub(super) fn insert_settled(&mut self, summary: Summary) {
        let id = summary.id;
        self.numbers.insert(summary.number, id);
        if summary.key_hash != 0 {
            self.keys.insert((summary.key_hash, id));
        }
        if let Some(end) = End::of_settled(&summary) {
            self.note_end(end);
        }
        self.link(id, parent_of(&summary), true);
        self.count_hours(summary.spent.as_ref().map_or(&[], |s| &s.hours), true);
        for seq in summary.earlier_seqs.iter().chain([&summary.last_seq]).filter(|seq| **seq != 0) {
            self.notice_order.insert(*seq, id);
        }
        self.use_env(summary.env);
        self.settled.insert(id, summary);
    }

    /// Takes a task out of the state and every index.
    pub(super) fn unindex(&mut self, id: TaskId) -> Option<Live> {
        if let Some(summary) = self.settled.remove(&id) {
            remove_own(&mut self.numbers, &summary.number, id);
            self.keys.remove(&(summary.key_hash, id));
            self.forget_end(summary.completed_ms, summary.number);
            for seq in summary.earlier_seqs.iter().chain([&summary.last_seq]) {
                remove_own(&mut self.notice_order, seq, id);
            }
            self.release_env(summary.env);
            self.link(id, parent_of(&summary), false);
            self.count_hours(summary.spent.as_ref().map_or(&[], |s| &s.hours), false);
        }
        let live = self.live.remove(&id)?;
        remove_own(&mut self.numbers, &live.task.number, id);
        self.keys.remove(&(key_hash(&live.task.key), id));
        self.forget_end(live.task.completed_at.millis().unwrap_or(0), live.task.number);
        for notice in &live.task.notices {
            remove_own(&mut self.notice_order, &notice.seq, id);
        }
        for dep in &live.task.after {
            if let Some(waiting) = self.dependents.get_mut(dep) {
                waiting.remove(&id);
                if waiting.is_empty() {
                    self.dependents.remove(dep);
                }
            }
        }
        if let Some(due) = live.due {
            self.timers.remove(&(due, id));
        }
        if live.holds_slot() {
            self.slots_used -= 1;
        }
        self.release_env(env_key(&live.task.env));
        self.ready.remove(&live.turn());
        self.waiting.remove(&id);
        self.link(id, live.task.parent, false);
        if live.phase != Phase::Foreign {
            self.count_hours(&live.task.hours, false);
            if self.chats.get(&live.task.thread_id) == Some(&id) {
                self.chats.remove(&live.task.thread_id);
            }
        }
        Some(live)
    }

    /// Puts an ended task into the order of history.
    pub(super) fn note_end(&mut self, end: End) {
        self.ended_order.insert((end.at, end.number));
        if end.is_after_clear(&self.marks) {
            self.ended_again.insert((end.at, end.number));
        }
    }

    fn forget_end(&mut self, at: i64, number: u64) {
        self.ended_order.remove(&(at, number));
        self.ended_again.remove(&(at, number));
    }

    /// The marks of a clear have changed: finds anew what ended after it by anything but the clock.
    pub(super) fn recount_ends(&mut self) {
        let ends = self.live.values().filter_map(End::of).chain(self.settled.values().filter_map(End::of_settled));
        self.ended_again = ends.filter(|end| end.is_after_clear(&self.marks)).map(|end| (end.at, end.number)).collect();
    }

    fn use_env(&mut self, env: u64) {
        if env != 0 {
            *self.env_uses.entry(env).or_default() += 1;
        }
    }

    fn release_env(&mut self, env: u64) {
        if let Some(uses) = self.env_uses.get_mut(&env) {
            *uses -= 1;
            if *uses == 0 {
                self.env_uses.remove(&env);
            }
        }
    }

    /// For tests, between turns: tells where an index disagrees with the tasks, or which task nobody would
    /// ever think of again.
    ///
    /// # Errors
    /// The first disagreement.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), String> {
        let same = |what: &str, same: bool| if same { Ok(()) } else { Err(format!("{what} is out of step")) };
        let (mut timers, mut slots) = (BTreeSet::new(), 0);
        let mut ended: BTreeSet<_> =
            self.settled.values().filter_map(End::of_settled).map(|end| (end.at, end.number)).collect();
        let (mut kids, mut hours) = (HashMap::<TaskId, BTreeSet<TaskId>>::new(), BTreeMap::<u64, u64>::new());
        let mut chats: HashMap<String, TaskId> = HashMap::new();
        let mut dependents: HashMap<TaskId, BTreeSet<TaskId>> = HashMap::new();
        let mut envs: HashMap<u64, usize> = HashMap::new();
        for summary in self.settled.values() {
            same("numbers", self.numbers.get(&summary.number) == Some(&summary.id))?;
            same("keys", summary.key_hash == 0 || self.keys.contains(&(summary.key_hash, summary.id)))?;
            same("notice_order", summary.last_seq == 0 || self.notice_order.contains_key(&summary.last_seq))?;
            *envs.entry(summary.env).or_default() += 1;
            if let Some(spent) = &summary.spent {
                spent.parent.map(|parent| kids.entry(parent).or_default().insert(summary.id));
                spent.hours.iter().for_each(|h| *hours.entry(h.hour).or_default() += h.tokens);
            }
        }
        for (id, live) in &self.live {
            let task = &live.task;
            timers.extend(live.due.map(|due| (due, *id)));
            slots += usize::from(live.holds_slot());
            ended.extend(End::of(live).map(|end| (end.at, end.number)));
            task.parent.map(|parent| kids.entry(parent).or_default().insert(*id));
            if live.phase != Phase::Foreign {
                task.hours.iter().for_each(|h| *hours.entry(h.hour).or_default() += h.tokens);
                if task.is_chat() && !task.status.is_ended() {
                    chats.insert(task.thread_id.clone(), *id);
                }
            }
            same("waiting", self.waiting.contains(id) == matches!(live.phase, Phase::Parked(Parked::Tasks { .. })))?;
            for dep in &task.after {
                dependents.entry(*dep).or_default().insert(*id);
            }
            *envs.entry(env_key(&task.env)).or_default() += 1;
            same("settled", !self.settled.contains_key(id))?;
            same("numbers", self.numbers.get(&task.number) == Some(id))?;
            same("keys", task.key.is_empty() || self.keys.contains(&(key_hash(&task.key), *id)))?;
            same("notice_order", task.notices.iter().all(|n| self.notice_order.get(&n.seq) == Some(id)))?;
            self.check_woken(live)?;
        }
        envs.remove(&0);
        same("numbers", self.numbers.len() == self.live.len() + self.settled.len())?;
        same("timers", self.timers == timers)?;
        same("slots_used", self.slots_used == slots)?;
        same("kids", self.kids == kids)?;
        same("hours", self.hours == hours)?;
        same("chats", self.chats == chats)?;
        same("ended_order", self.ended_order == ended)?;
        let ends = self.live.values().filter_map(End::of).chain(self.settled.values().filter_map(End::of_settled));
        let again = ends.filter(|end| end.is_after_clear(&self.marks)).map(|end| (end.at, end.number));
        same("ended_again", self.ended_again == again.collect())?;
        same("dependents", self.dependents == dependents)?;
        same("env_uses", self.env_uses == envs)?;
        let queued = |id: &TaskId| self.live.get(id).is_some_and(|l| l.phase == Phase::Queued);
        let in_turn = |entry: &(Turn, u64, TaskId)| self.live.get(&entry.2).is_some_and(|l| l.turn() == *entry);
        same("ready", self.ready.iter().all(|entry| queued(&entry.2) && in_turn(entry)))
    }

    /// Every task is thought of again: by the clock, by its turn, by the end of what it waits for, or by its receipts.
    fn check_woken(&self, live: &Live) -> Result<(), String> {
        let waits = |dep: &TaskId| self.status_of(*dep).is_some_and(|s| !s.is_ended());
        let woken = live.due.is_some()
            || matches!(live.phase, Phase::Foreign | Phase::Driven)
            || live.phase == Phase::Parked(Parked::Answer) && live.task.questions.iter().any(|q| q.open)
            || matches!(live.phase, Phase::Parked(Parked::Tasks { .. })) && !self.tasks_over(live.task.id)
            || live.phase == Phase::Settling && (self.leisure.knows(live.task.id) || self.owes(&live.task))
            || live.phase == Phase::Queued && (self.ready.contains(&live.turn()) || live.task.after.iter().any(waits));
        if woken { Ok(()) } else { Err(format!("nobody thinks of task {} in phase {:?}", live.task.id, live.phase)) }
    }
}

/// Takes an entry out if it is this task's: another one's may stand there, of two records with one number.
fn remove_own<K: Ord>(index: &mut BTreeMap<K, TaskId>, key: &K, id: TaskId) {
    if index.get(key) == Some(&id) {
        index.remove(key);
    }
}

/// The end of a task, as the order of history and the clear know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// Milliseconds since 1970.
    pub(super) at: i64,
    /// The task's number; what orders history.
    pub(super) number: u64,
    /// Its newest notice; 0: none, or one that says nothing here.
    seq: u64,
    /// Numbers and notices of a record from elsewhere say nothing of what came first here.
    foreign: bool,
}

impl End {
    pub(super) fn of(live: &Live) -> Option<End> {
        let task = &live.task;
        // No list shows a conversation.
        (task.status.is_ended() && !task.is_chat()).then(|| End {
            at: task.completed_at.millis().unwrap_or(0),
            number: task.number,
            seq: task.notices.iter().map(|n| n.seq).max().unwrap_or(0),
            foreign: live.phase == Phase::Foreign,
        })
    }

    fn of_settled(summary: &Summary) -> Option<End> {
        let chat = summary.spent.as_ref().is_some_and(|spent| spent.chat);
        let end = End { at: summary.completed_ms, number: summary.number, seq: summary.last_seq, foreign: false };
        (!chat).then_some(end)
    }

    /// By the clock it was over when the lists were cleared; by its number, or its notice, it was not.
    fn is_after_clear(&self, marks: &Marks) -> bool {
        let later = self.number > marks.cleared_number || self.seq > marks.cleared_seq;
        self.at <= marks.cleared_ms && later && !self.foreign
    }
}
