//! Cards of several tasks: the list, the digest, the recap.

use octo::command::{Listing, NoticeItem};
use octo::render::{ListLimits, duration, name_of, took, why};
use octo::task::{NoticeKind, Status, Task};

use super::{Card, Face, word};
use crate::telegram::seal::Button;
use crate::telegram::text::{code, cut, escape};

/// Tasks on a list.
const ROWS: usize = 20;
/// Notices in a digest that have a row of their own.
pub(crate) const DIGEST_ROWS: usize = 15;
/// Units of a title in a row.
const TITLE_MAX: usize = 60;

/// `/task_12`: what a tap in a chat sends.
fn link(task: &Task) -> String {
    format!("/task_{}", task.number)
}

/// Tasks: active ones, then the newest ended.
pub(crate) fn listing(listing: &Listing, status: Option<Status>, face: &Face) -> Card {
    let shown = ListLimits { rows: ROWS, more: "" }.share(listing.active.len(), listing.history.len());
    let tasks = listing.active[..shown.active].iter().chain(&listing.history[..shown.ended]);
    let mut lines: Vec<String> = tasks.map(|task| row(task, face)).collect();
    if lines.is_empty() {
        let which = status.map_or_else(String::new, |s| format!(" that is {s}"));
        return Card::new(&[format!("There is no task{which}.")], Vec::new());
    }
    let total = listing.active.len() + listing.total.max(listing.history.len());
    if total > lines.len() {
        lines.push(format!("… {} more: /tasks STATUS narrows it down", total - lines.len()));
    }
    Card::new(&lines, Vec::new())
}

fn row(task: &Task, face: &Face) -> String {
    let mut status = task.status.word().replace('_', " ");
    let why = face.mask.apply(&why(task));
    if !why.is_empty() {
        status.push_str(&format!(" ({})", word(&cut(&why, 30))));
    }
    let took = took(task, face.now).map(|ms| format!(" {}", duration(ms))).unwrap_or_default();
    let title = code(&face.line(task.title(), TITLE_MAX));
    format!("{} <b>{}</b> {status}{took}\n{title} {}", task.status.icon(), name_of(task), link(task))
}

fn told(kind: NoticeKind) -> (&'static str, &'static str) {
    match kind {
        NoticeKind::Question => (Status::Paused.icon(), "asks"),
        NoticeKind::Reminder => (Status::Paused.icon(), "still asks"),
        NoticeKind::Closed => (Status::Running.icon(), "asks no more"),
        NoticeKind::Budget => (Status::BudgetExceeded.icon(), "has used most of its budget"),
        NoticeKind::Completed => (Status::Completed.icon(), "completed"),
        NoticeKind::Failed => (Status::Failed.icon(), "failed"),
        NoticeKind::Cancelled => (Status::Cancelled.icon(), "cancelled"),
        NoticeKind::BudgetExceeded => (Status::BudgetExceeded.icon(), "budget exceeded"),
        NoticeKind::Interrupted => (Status::Interrupted.icon(), "interrupted"),
    }
}

fn notice_row(item: &NoticeItem, face: &Face) -> String {
    let (task, (icon, said)) = (&item.task, told(item.notice.kind));
    let mut out = format!("{icon} <b>{}</b> {said}", name_of(task));
    // The task may have gone on since: then its times are those of another run.
    if NoticeKind::of_end(task.status) == Some(item.notice.kind) {
        let why = face.mask.apply(&why(task));
        if !why.is_empty() {
            out.push_str(&format!(" ({})", word(&cut(&why, 30))));
        }
        if let Some(ms) = took(task, face.now) {
            out.push_str(&format!(" after {}", duration(ms)));
        }
    }
    let at = face.clock(&item.notice.at);
    let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
    format!("{out}{at}\n{} {}", code(&face.line(task.title(), TITLE_MAX)), link(task))
}

/// How much of its budget a task has used.
pub(crate) fn budget(item: &NoticeItem, face: &Face) -> Card {
    let icon = Status::BudgetExceeded.icon();
    let said = escape(&face.line(&item.notice.text, TITLE_MAX));
    let title = code(&face.line(item.task.title(), TITLE_MAX));
    let line = format!("{icon} <b>{}</b> {said}\n{title} {}", name_of(&item.task), link(&item.task));
    Card::new(&[line], Vec::new())
}

/// Many notices in one message: how many of which kind, and the newest of them. `kinds`: of all notices; `more`: how
/// many there were besides, whose kinds are not known any more.
pub(crate) fn digest(heading: &str, kinds: &[NoticeKind], newest: &[NoticeItem], more: u64, face: &Face) -> Card {
    let mut lines = vec![format!("<b>{}</b>", escape(heading)), counts(kinds, more)];
    let newest = &newest[newest.len().saturating_sub(DIGEST_ROWS)..];
    lines.extend(newest.iter().map(|item| notice_row(item, face)));
    if kinds.len() as u64 + more > newest.len() as u64 {
        lines.push("/tasks lists the others".to_owned());
    }
    if kinds.contains(&NoticeKind::Question) {
        lines.push("/tasks paused lists those that wait for an answer".to_owned());
    }
    Card::new(&lines, Vec::new())
}

fn counts(all: &[NoticeKind], more: u64) -> String {
    let kinds = [
        NoticeKind::Question,
        NoticeKind::Completed,
        NoticeKind::Failed,
        NoticeKind::Cancelled,
        NoticeKind::BudgetExceeded,
        NoticeKind::Interrupted,
    ];
    let count = |kind: &NoticeKind| all.iter().filter(|k| *k == kind).count();
    let said = |kind: NoticeKind| match kind {
        NoticeKind::Question => "asked",
        other => told(other).1,
    };
    let mut counts: Vec<String> =
        kinds.into_iter().filter(|k| count(k) > 0).map(|k| format!("{} {}", count(&k), said(k))).collect();
    if more > 0 {
        counts.push(format!("{more} before these"));
    }
    counts.join(", ")
}

/// What happened last, and what goes on.
pub(crate) fn recap(items: &[NoticeItem], active: &[Task], face: &Face) -> Card {
    const LATELY: usize = 10;
    let mut lines = Vec::new();
    if items.is_empty() {
        lines.push("Nothing has happened yet.".to_owned());
    } else {
        lines.push("<b>Lately:</b>".to_owned());
        lines.extend(items[items.len().saturating_sub(LATELY)..].iter().map(|item| notice_row(item, face)));
    }
    let open: usize = active.iter().map(|t| t.questions.iter().filter(|q| q.open).count()).sum();
    lines.push(match active.len() {
        0 => "Nothing runs or waits.".to_owned(),
        1 => "1 active task: /tasks".to_owned(),
        n => format!("{n} active tasks: /tasks"),
    });
    if open > 0 {
        lines.push(format!("{open} open {}", if open == 1 { "question" } else { "questions" }));
    }
    let key = face.key("Again", &Button::Recap);
    Card::new(&lines, key.into_iter().map(|k| vec![k]).collect())
}
