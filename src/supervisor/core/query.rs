//! Looking things up: references, lists, notices, status. Nothing here changes anything.

use super::{Core, Live, Phase};
use crate::command::{ListQuery, Refused, RefusedCode, StatusReport, TaskRef};
use crate::task::{Status, Task, TaskId};

/// A task as the core can show it at once.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// Held whole.
    Live(Box<Task>),
    /// Settled: its record is on disk.
    Settled(TaskId),
}

/// One page of a list: live tasks whole, settled ones by id, for the caller to read.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Tasks that have not ended: running, then paused, then queued.
    pub active: Vec<Task>,
    /// Ended tasks, newest end first.
    pub history: Vec<TaskId>,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// How many ended tasks match in all.
    pub total: usize,
}

/// How many ended tasks a page has when nothing is said.
const PAGE: usize = 50;

impl Core {
    /// The id that a reference names: an exact id, else a number, else an unambiguous prefix.
    ///
    /// # Errors
    /// No such task, or several.
    pub fn resolve(&self, reference: &TaskRef) -> Result<TaskId, Refused> {
        let text = reference.0.trim().trim_start_matches('#');
        if let Ok(id) = text.parse::<TaskId>()
            && self.known(id)
        {
            return Ok(id);
        }
        if let Ok(number) = text.parse::<u64>()
            && let Some(id) = self.numbers.get(&number)
        {
            return Ok(*id);
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Refused::no_such_task(reference));
        }
        let mut fits: Vec<TaskId> =
            self.live.keys().chain(self.settled.keys()).filter(|id| id.as_str().starts_with(text)).copied().collect();
        fits.sort_unstable();
        match fits.as_slice() {
            [] => Err(Refused::no_such_task(reference)),
            [id] => Ok(*id),
            several => {
                let names: Vec<_> = several.iter().take(5).map(ToString::to_string).collect();
                Err(Refused::new(
                    RefusedCode::Ambiguous,
                    format!("`{reference}` fits {} tasks: {}", several.len(), names.join(", ")),
                )
                .hint("write more of the id, or use the task's number"))
            }
        }
    }

    fn known(&self, id: TaskId) -> bool {
        self.live.contains_key(&id) || self.settled.contains_key(&id)
    }

    /// Whether a new task cannot have this id: another one has it, or files of one are still being removed.
    #[must_use]
    pub fn is_taken(&self, id: TaskId) -> bool {
        self.known(id) || self.removing.contains_key(&id) || self.taking_back.contains_key(&id) || self.is_leaving(id)
    }

    /// The task of a reference, as it was last saved.
    ///
    /// # Errors
    /// As [`Core::resolve`].
    pub fn get(&self, reference: &TaskRef) -> Result<Resolved, Refused> {
        self.saved(self.resolve(reference)?).ok_or_else(|| Refused::no_such_task(reference))
    }

    /// Whether a record may be built upon: it is of this installation, and of no newer Octo.
    ///
    /// # Errors
    /// What it is instead.
    pub fn usable(&self, task: &Task) -> Result<(), Refused> {
        self.check_mark(task)
    }

    /// The record of a live task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.live.get(&id).map(|l| &l.task)
    }

    /// Whether a task is settled: its record is on disk only.
    #[must_use]
    pub fn is_settled(&self, id: TaskId) -> bool {
        self.settled.contains_key(&id)
    }

    /// One page of tasks.
    #[must_use]
    pub fn list(&self, query: &ListQuery) -> Page {
        let mut page = Page { active: self.active(query), ..Page::default() };
        let limit = match query.limit {
            None => PAGE,
            Some(0) => usize::MAX,
            Some(n) => n,
        };
        let below = query.cursor.as_deref().and_then(list_cursor).unwrap_or((i64::MAX, u64::MAX));
        let filtered = query.status.is_some() || query.kind.is_some();
        let cleared = if query.hidden { i64::MIN } else { self.marks.cleared_ms };
        // What ended after the clear, though not by the clock, stands before all that did by the clock, too.
        let again = || self.ended_again.iter().filter(|_| !query.hidden);
        let shown = || again().chain(self.ended_order.range((cleared, u64::MAX)..));
        page.total = match (filtered, cleared) {
            (true, _) => shown().filter(|(_, number)| self.fits(*number, query)).count(),
            (false, ..=0) => self.ended_order.len(),
            (false, _) => shown().count(),
        };
        for entry in shown().rev().skip_while(|entry| **entry >= below).filter(|(_, number)| self.fits(*number, query))
        {
            if page.history.len() == limit {
                let last = page.history.last().and_then(|id| self.end_of(*id));
                page.next = last.map(|(end, number)| format!("{end}.{number}"));
                break;
            }
            page.history.extend(self.numbers.get(&entry.1));
        }
        page
    }

    fn end_of(&self, id: TaskId) -> Option<(i64, u64)> {
        match (self.live.get(&id), self.settled.get(&id)) {
            (Some(live), _) => Some((live.task.completed_at.millis().unwrap_or(0), live.task.number)),
            (None, settled) => settled.map(|s| (s.completed_ms, s.number)),
        }
    }

    fn fits(&self, number: u64, query: &ListQuery) -> bool {
        if query.status.is_none() && query.kind.is_none() {
            return true;
        }
        let Some(id) = self.numbers.get(&number) else { return false };
        let (status, kind) = match (self.live.get(id), self.settled.get(id)) {
            (Some(live), _) => (live.task.status, live.task.kind),
            (None, Some(summary)) => (summary.status, summary.kind),
            (None, None) => return false,
        };
        query.status.is_none_or(|s| s == status) && query.kind.is_none_or(|k| k == kind)
    }

    fn active(&self, query: &ListQuery) -> Vec<Task> {
        if query.cursor.is_some() {
            return Vec::new();
        }
        let wanted = |t: &Task| {
            !t.status.is_ended()
                && !t.is_chat()
                && query.status.is_none_or(|s| s == t.status)
                && query.kind.is_none_or(|k| k == t.kind)
        };
        let mut active: Vec<Task> = self.live.values().map(|l| &l.task).filter(|t| wanted(t)).cloned().collect();
        active.sort_by_key(|t| (rank(t.status), t.number));
        active
    }

    /// The ids of the ended tasks that lists show.
    pub(super) fn history_ids(&self) -> impl Iterator<Item = TaskId> + '_ {
        let later = self.ended_order.range((self.marks.cleared_ms, u64::MAX)..);
        self.ended_again.iter().chain(later).filter_map(|(_, number)| self.numbers.get(number).copied())
    }

    /// Up to `limit` saved notices after a cursor: (sequence number, task), oldest first, and whether more wait.
    #[must_use]
    pub fn notices_after(&self, cursor: u64, limit: usize) -> (Vec<(u64, TaskId)>, bool) {
        let mut found: Vec<_> = self.saved_notices(cursor.saturating_add(1)).take(limit + 1).collect();
        let more = found.len() > limit;
        found.truncate(limit);
        (found, more)
    }

    /// The sequence number of the newest saved notice that is still there; numbers above it may be used again after
    /// a restart.
    #[must_use]
    pub fn notice_seq(&self) -> u64 {
        self.saved_notices(0).next_back().map_or(0, |(seq, _)| seq)
    }

    /// Those from a number on; what the present batch raises has the highest numbers of all.
    fn saved_notices(&self, from: u64) -> impl DoubleEndedIterator<Item = (u64, TaskId)> + '_ {
        let to = self.pending.seq_before.unwrap_or(u64::MAX);
        self.notice_order.range(from.min(to)..=to).map(|(seq, id)| (*seq, *id)).filter(move |(seq, _)| *seq >= from)
    }

    /// The part of the status report that the core knows.
    #[must_use]
    pub fn status_report(&self) -> StatusReport {
        StatusReport {
            slots: self.limits.slots,
            slots_used: self.slots_used,
            counts: self.counts(),
            degraded: self.degraded.clone(),
            problems: self.problems.clone(),
            notice_seq: self.marks.seq_used,
            open_questions: self.open_questions(),
            ..StatusReport::default()
        }
    }

    /// Adds something the owner should know.
    pub fn add_problem(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether some record names this environment.
    #[must_use]
    pub fn env_used(&self, digest: &str) -> bool {
        self.env_uses.get(&crate::store::env_key(digest)).is_some_and(|uses| *uses > 0)
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let counts = |l: &&Live| !l.task.status.is_ended() && l.phase != Phase::Foreign && !l.task.is_chat();
        self.live.values().filter(counts).count()
    }

    /// The ids of all settled tasks.
    #[must_use]
    pub fn settled_ids(&self) -> Vec<TaskId> {
        self.settled.keys().copied().collect()
    }

    /// The summaries of those of `ids` that are settled.
    #[must_use]
    pub fn summaries(&self, ids: &[TaskId]) -> Vec<crate::store::Summary> {
        ids.iter().filter_map(|id| self.settled.get(id).cloned()).collect()
    }

    /// Takes over a settled task's summary from its record on disk.
    pub fn replace_settled(&mut self, summary: crate::store::Summary) {
        self.unindex(summary.id);
        self.insert_settled(summary);
    }

    /// Forgets a settled task whose record is gone from the disk.
    pub fn forget_settled(&mut self, id: TaskId) {
        if self.is_settled(id) {
            self.unindex(id);
        }
    }

    /// Whether any slot is in use.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.slots_used > 0
    }

    /// The runs that are running now: (task, run).
    pub fn running_runs(&self) -> impl Iterator<Item = (TaskId, u32)> + '_ {
        self.live.iter().filter(|(_, l)| matches!(l.phase, Phase::Running { .. })).map(|(id, l)| (*id, l.task.run))
    }
}

/// Running first, then what waits for its owner, then what waits for a slot.
fn rank(status: Status) -> u8 {
    match status {
        Status::Running => 0,
        Status::Paused => 1,
        Status::Resumed => 2,
        _ => 3,
    }
}

/// Reads the cursor of a list: the end and the number of the last task of the page before.
#[must_use]
pub fn list_cursor(text: &str) -> Option<(i64, u64)> {
    let (end, number) = text.rsplit_once('.')?;
    Some((end.parse().ok()?, number.parse().ok()?))
}
