//! Who started whom. The `parent` of each record says it; `children` is what people and agents read.

use super::{Core, Live};
use crate::store::Summary;
use crate::task::TaskId;

/// A record that somebody edited may be its own ancestor: nobody is as deep as this.
const GENERATIONS: usize = 1000;

impl Core {
    /// Puts a task where its parent finds it, or takes it out there.
    pub(super) fn link(&mut self, id: TaskId, parent: Option<TaskId>, there: bool) {
        let Some(parent) = parent else { return };
        let kids = self.kids.entry(parent).or_default();
        if there {
            kids.insert(id);
        } else {
            kids.remove(&id);
        }
        if kids.is_empty() {
            self.kids.remove(&parent);
        }
    }

    /// The tasks that a task started.
    pub(super) fn kids_of(&self, id: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        self.kids.get(&id).into_iter().flatten().copied()
    }

    /// The tasks that a task started, and those that they started, and so on.
    pub(super) fn descendants(&self, id: TaskId) -> Vec<TaskId> {
        let mut found: Vec<TaskId> = Vec::new();
        let mut known = std::collections::HashSet::from([id]);
        let mut next = vec![id];
        while let Some(one) = next.pop() {
            for kid in self.kids_of(one).filter(|kid| known.insert(*kid)) {
                found.push(kid);
                next.push(kid);
            }
        }
        found
    }

    /// Who started a task, who started that one, and so on.
    pub(super) fn ancestors(&self, id: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        std::iter::successors(self.parent_of(id), |id| self.parent_of(*id)).take(GENERATIONS)
    }

    fn parent_of(&self, id: TaskId) -> Option<TaskId> {
        match (self.live.get(&id), self.settled.get(&id)) {
            (Some(live), _) => live.task.parent,
            (None, settled) => settled.and_then(|s| s.spent.as_ref()?.parent),
        }
    }

    /// An agent ends when all that it started has. So a task that `parent` starts cannot wait for that agent, nor for
    /// another that does: returns the agent that would wait for ever, if the task waited for `dep`.
    pub(super) fn would_wait_for_itself(&self, parent: TaskId, dep: TaskId) -> Option<TaskId> {
        let waits = |id: &TaskId| self.live.get(id).is_some_and(|l| l.is_agent() && !l.task.status.is_ended());
        let mut known = std::collections::HashSet::new();
        let mut next = vec![dep];
        while let Some(id) = next.pop() {
            if !known.insert(id) || self.live.get(&id).is_none_or(|l| l.task.status.is_ended()) {
                continue;
            }
            if waits(&id) {
                next.extend(self.kids_of(id));
            }
            next.extend(self.live.get(&id).into_iter().flat_map(|l| l.task.after.iter().copied()));
        }
        std::iter::once(parent).chain(self.ancestors(parent)).filter(waits).find(|id| known.contains(id))
    }

    /// A task is accepted: its parent's record names it in the same save.
    pub(super) fn adopt_child(&mut self, parent: TaskId, child: TaskId) {
        if self.live.get(&parent).is_some_and(|l| self.check_mark(&l.task).is_ok()) {
            self.touch(parent);
            if let Some(live) = self.live.get_mut(&parent) {
                live.task.children.push(child);
            }
        }
    }

    /// After a save that failed, and at a start: a parent names the children that there are. It is saved with
    /// whatever is saved next.
    pub(super) fn name_children(&mut self, parent: TaskId) {
        let kids: Vec<TaskId> = self.kids_of(parent).collect();
        let Some(live) = self.live.get_mut(&parent) else { return };
        let children = &mut live.task.children;
        let missing: Vec<TaskId> = kids.into_iter().filter(|kid| !children.contains(kid)).collect();
        children.extend(missing);
    }

    /// The start of a task could not be saved.
    pub(super) fn disown(&mut self, gone: &Live) {
        let Some(parent) = gone.task.parent else { return };
        if let Some(live) = self.live.get_mut(&parent) {
            live.task.children.retain(|child| *child != gone.task.id);
        }
    }
}

/// Who started a settled task.
pub(super) fn parent_of(summary: &Summary) -> Option<TaskId> {
    summary.spent.as_ref().and_then(|spent| spent.parent)
}
