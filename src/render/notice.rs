//! Notices: what people are told when a task ends or asks.

use super::{Paint, View, count, duration, fit, name_of, sanitize, status_paint, took, why};
use crate::command::NoticeItem;
use crate::task::{Closed, NoticeKind, Question, Status, Task};

/// The most notices that a digest shows; then comes a count.
const DIGEST_MAX: usize = 10;

/// One notice: a line that names the task and what became of it, and where it helps a second with the
/// question or the last line of output. Lines are ended.
#[must_use]
pub fn notice(item: &NoticeItem, view: &View) -> String {
    let task = &item.task;
    let mut out = first_line(item, view);
    let second = match item.notice.kind {
        NoticeKind::Question | NoticeKind::Reminder => question_line(task, &item.notice.question),
        NoticeKind::Closed => closed_line(task, &item.notice.question),
        NoticeKind::Completed => last_line(&task.result),
        NoticeKind::Failed | NoticeKind::Cancelled | NoticeKind::BudgetExceeded | NoticeKind::Interrupted => {
            let last = last_line(&task.result);
            if last.is_empty() { sanitize::line(&task.error) } else { last }
        }
    };
    if !second.is_empty() {
        let second = view.width.map_or(second.clone(), |w| fit(&second, w.saturating_sub(4).max(8)));
        let asks = matches!(item.notice.kind, NoticeKind::Question | NoticeKind::Reminder);
        let paint = if asks { Paint::Yellow } else { Paint::Dim };
        out.push_str(&format!("    {}\n", view.paint(paint, &second)));
    }
    out
}

/// The first line of a notice, ended.
fn first_line(item: &NoticeItem, view: &View) -> String {
    let task = &item.task;
    // The task may have gone on since (a retry): the notice tells of the end that it was raised for.
    let status = status_of(item.notice.kind);
    let head = format!("{} {}", status.icon(), name_of(task));
    let mut said = match item.notice.kind {
        NoticeKind::Question => "asks".to_owned(),
        NoticeKind::Reminder => "still asks".to_owned(),
        NoticeKind::Closed => closed_word(task, &item.notice.question).to_owned(),
        NoticeKind::Completed
        | NoticeKind::Failed
        | NoticeKind::Cancelled
        | NoticeKind::BudgetExceeded
        | NoticeKind::Interrupted => status.word().replace('_', " "),
    };
    if task.status == status && status.is_ended() {
        let why = why(task);
        if !why.is_empty() {
            said.push_str(&format!(" ({why})"));
        }
        if let Some(ms) = took(task, view.now) {
            said.push_str(&format!(" after {}", duration(ms)));
        }
    }
    if let Some(usd) = task.usage.cost_usd {
        said.push_str(&format!(", ${usd:.2}"));
    }
    let used = head.chars().count() + said.chars().count() + 3;
    let title = sanitize::line(task.title());
    let title = view.width.map_or(title.clone(), |w| fit(&title, w.saturating_sub(used).max(8)));
    format!("{} {said}: {title}\n", view.paint(status_paint(status), &head))
}

fn status_of(kind: NoticeKind) -> Status {
    match kind {
        NoticeKind::Question | NoticeKind::Reminder => Status::Paused,
        NoticeKind::Closed => Status::Running,
        NoticeKind::Completed => Status::Completed,
        NoticeKind::Failed => Status::Failed,
        NoticeKind::Cancelled => Status::Cancelled,
        NoticeKind::BudgetExceeded => Status::BudgetExceeded,
        NoticeKind::Interrupted => Status::Interrupted,
    }
}

/// The question that a notice is about, else the oldest open one.
fn asked<'a>(task: &'a Task, id: &str) -> Option<&'a Question> {
    let by_id = task.questions.iter().find(|q| q.id == id);
    by_id.or_else(|| task.questions.iter().find(|q| q.open))
}

fn question_line(task: &Task, id: &str) -> String {
    let Some(question) = asked(task, id) else {
        return sanitize::line(&task.paused_question);
    };
    let text = sanitize::line(&question.text);
    if question.choices.is_empty() {
        return text;
    }
    let choices: Vec<_> = question.choices.iter().map(|c| sanitize::line(c)).collect();
    format!("{text}  [{}]", choices.join(" / "))
}

fn closed_word(task: &Task, id: &str) -> &'static str {
    match asked(task, id).and_then(|q| q.closed) {
        Some(Closed::NoAnswer) => "got no answer in time",
        Some(Closed::TaskEnded) => "asks no more",
        Some(Closed::Answered) | None => "was answered",
    }
}

/// What was answered, and by whom.
fn closed_line(task: &Task, id: &str) -> String {
    match task.answers.iter().rev().find(|a| a.question == id) {
        Some(answer) => format!("{}  (by {})", sanitize::line(&answer.text), sanitize::line(&answer.by)),
        None => String::new(),
    }
}

/// The last line of output that says anything.
fn last_line(result: &str) -> String {
    sanitize::text(result).lines().rev().find(|l| !l.trim().is_empty()).map(sanitize::line).unwrap_or_default()
}

/// What happened lately: the newest notices, a line each, and how many more there were; empty when
/// nothing happened. `more` is how many notices were left out before `items`.
#[must_use]
pub fn digest(heading: &str, items: &[NoticeItem], more: usize, view: &View) -> String {
    if items.is_empty() {
        return String::new();
    }
    let newest = &items[items.len().saturating_sub(DIGEST_MAX)..];
    let left = more + items.len() - newest.len();
    let mut out = format!("{}\n", view.paint(Paint::Bold, heading));
    if left > 0 {
        let line = format!("  … {} before these: /tasks lists them", count(left, "notice"));
        out.push_str(&format!("{}\n", view.paint(Paint::Dim, &line)));
    }
    for item in newest {
        out.push_str("  ");
        out.push_str(&first_line(item, &View { width: view.width.map(|w| w.saturating_sub(2)), ..view.clone() }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{NOW, notice_of, task};
    use super::*;

    fn item(number: u64, status: Status) -> NoticeItem {
        let task = task(number, status);
        NoticeItem { notice: notice_of(&task), task }
    }

    #[test]
    fn notices_say_what_became_of_the_task() {
        let mut paid = item(5, Status::Completed);
        paid.task.usage.cost_usd = Some(0.25);
        paid.task.name = "docs\x1b[2J".to_owned();
        let mut retried = item(6, Status::Failed);
        retried.task = task(6, Status::Running);
        let shown: String =
            [item(12, Status::Failed), paid, item(9, Status::Paused), item(8, Status::Cancelled), retried]
                .iter()
                .map(|i| notice(i, &View { width: Some(80), colour: false, now: NOW }))
                .collect();
        insta::assert_snapshot!(shown, @r#"
        ✗ #12 c4b1e012 failed (exit 2) after 1m 3s: make -C /srv/project12 test && echo…
            error: missing semicolon
        ✓ #5 c4b1e005 completed after 1m 3s, $0.25: docs
            ok
        ? #9 c4b1e009 asks: make -C /srv/project9 test && echo done
            Also refactor the helpers?  [yes / no]
        ✗ #8 c4b1e008 cancelled after 1m 3s: make -C /srv/project8 test && echo done
        ✗ #6 c4b1e006 failed: make -C /srv/project6 test && echo done
        "#);
    }

    #[test]
    fn an_absence_is_told_in_ten_lines_and_a_count() {
        let items: Vec<_> = (1..=25).map(|n| item(n, Status::Completed)).collect();
        let told = digest("Lately:", &items, 100, &View::plain(NOW));
        assert_eq!(told.lines().count(), 12, "{told}");
        assert!(told.contains("115 notices before these"));
        assert!(told.lines().last().unwrap().contains("#25 "));
        assert_eq!(digest("x", &[], 0, &View::plain(NOW)), "");
        assert!(!digest("x", &items[..3], 0, &View::plain(NOW)).contains('…'));
    }
}
