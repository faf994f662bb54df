//! Notices: what people are told when a task ends or asks.

use jiff::tz::TimeZone;

use super::question::{asks, head_line};
use super::{
    Paint, Room, Tongue, View, can_be_raised, count, duration, fit, name_of, outcome, sanitize, status_paint, subject,
    thousands, took, why,
};
use crate::command::NoticeItem;
use crate::task::{Closed, NoticeKind, Question, Status};

/// The most notices that a digest shows; then comes a count.
const DIGEST_MAX: usize = 10;

/// The most lines of output that the notice of an end shows.
const LAST_LINES: usize = 3;

/// One notice: a line that names the task and what became of it, and below it the question with the line that
/// answers it, or the last lines of output. Lines are ended.
///
/// Empty when there is nothing to tell any more: a question that was closed meanwhile (its own notice says how), or
/// one that its task's end closed.
#[must_use]
pub fn notice(item: &NoticeItem, tongue: Tongue, view: &View, tz: &TimeZone) -> String {
    let task = &item.task;
    match item.notice.kind {
        NoticeKind::Question | NoticeKind::Reminder => asked(item, tongue, view),
        NoticeKind::Closed => closed(item, view, tz),
        NoticeKind::Budget => budget(item, view),
        NoticeKind::Completed => ended(item, &last_lines(&task.result), view),
        NoticeKind::Failed | NoticeKind::Cancelled | NoticeKind::BudgetExceeded | NoticeKind::Interrupted => {
            let last = last_lines(&task.result);
            let error = || vec![sanitize::line(&task.error)];
            let mut below = if last.is_empty() { error() } else { last };
            if item.notice.kind == NoticeKind::BudgetExceeded && can_be_raised(task) {
                below.push(format!("to let it go on: {} raise", tongue.task(task)));
            }
            ended(item, &below, view)
        }
    }
}

/// The question that a notice is about.
fn question_of(item: &NoticeItem) -> Option<&Question> {
    let questions = &item.task.questions;
    match item.notice.question.as_str() {
        "" => questions.iter().find(|q| q.open),
        id => questions.iter().find(|q| q.id == id),
    }
}

fn asked(item: &NoticeItem, tongue: Tongue, view: &View) -> String {
    let task = &item.task;
    let Some(question) = question_of(item).filter(|q| q.open) else { return String::new() };
    if item.notice.kind == NoticeKind::Question {
        return super::question(task, question, tongue, Room::NEW, view);
    }
    let since = question.asked_at.millis().map(|at| format!(", after {}", duration(view.now - at)));
    let said = format!("still {}{}", asks(task, question), since.unwrap_or_default());
    let head = format!("{} {}", Status::Paused.icon(), name_of(task));
    let block = super::question::Block { task, question, tongue, room: Room::WAITING, view };
    head_line(&head, &said, task, status_paint(Status::Paused), view) + &block.lines(4)
}

fn closed(item: &NoticeItem, view: &View, tz: &TimeZone) -> String {
    let line = closed_line(item, view, tz);
    let text = question_of(item).map(subject).unwrap_or_default();
    if line.is_empty() || text.is_empty() {
        return line;
    }
    line + &below(&text, view)
}

/// The first line of a closed question's notice, ended; empty when the end of its task says enough.
fn closed_line(item: &NoticeItem, view: &View, tz: &TimeZone) -> String {
    let task = &item.task;
    let Some(question) = question_of(item) else { return String::new() };
    if question.closed == Some(Closed::TaskEnded) {
        return String::new();
    }
    let head = view.paint(status_paint(Status::Running), &format!("{} {}", Status::Running.icon(), name_of(task)));
    let room = view.width.map(|w| w.saturating_sub(name_of(task).len() + 3).max(20));
    let said = outcome(task, question, view, tz);
    format!("{head} {}\n", room.map_or(said.clone(), |w| fit(&said, w)))
}

/// How much of a budget is used, ended.
fn budget(item: &NoticeItem, view: &View) -> String {
    let head = format!("{} {}", Status::BudgetExceeded.icon(), name_of(&item.task));
    let said = sanitize::line(&item.notice.text);
    head_line(&head, &said, &item.task, status_paint(Status::BudgetExceeded), view)
}

/// A line below the first one.
fn below(text: &str, view: &View) -> String {
    let text = view.width.map_or(text.to_owned(), |w| fit(text, w.saturating_sub(4).max(8)));
    format!("    {}\n", view.paint(Paint::Dim, &text))
}

fn ended(item: &NoticeItem, last: &[String], view: &View) -> String {
    let mut out = ended_line(item, view);
    out.extend(last.iter().filter(|line| !line.is_empty()).map(|line| below(line, view)));
    out
}

/// The first line of an end's notice, ended.
fn ended_line(item: &NoticeItem, view: &View) -> String {
    let task = &item.task;
    // The task may have gone on since (a retry): the notice tells of the end that it was raised for.
    let status = status_of(item.notice.kind);
    let mut said = status.word().replace('_', " ");
    if task.status == status {
        let why = why(task);
        if !why.is_empty() {
            said.push_str(&format!(" ({why})"));
        }
        if let Some(ms) = took(task, view.now) {
            said.push_str(&format!(" after {}", duration(ms)));
        }
    }
    let tokens = task.usage.input_tokens.saturating_add(task.usage.output_tokens);
    if tokens > 0 {
        said.push_str(&format!(", {} tokens", thousands(tokens)));
    }
    if let Some(usd) = task.usage.cost_usd {
        said.push_str(&format!(", ${usd:.2}"));
    }
    head_line(&format!("{} {}", status.icon(), name_of(task)), &said, task, status_paint(status), view)
}

fn status_of(kind: NoticeKind) -> Status {
    match kind {
        NoticeKind::Question | NoticeKind::Reminder => Status::Paused,
        NoticeKind::Closed | NoticeKind::Budget => Status::Running,
        NoticeKind::Completed => Status::Completed,
        NoticeKind::Failed => Status::Failed,
        NoticeKind::Cancelled => Status::Cancelled,
        NoticeKind::BudgetExceeded => Status::BudgetExceeded,
        NoticeKind::Interrupted => Status::Interrupted,
    }
}

/// The last lines of output that say anything.
fn last_lines(result: &str) -> Vec<String> {
    let text = sanitize::text(result);
    let said: Vec<String> =
        text.lines().rev().filter(|l| !l.trim().is_empty()).take(LAST_LINES).map(sanitize::line).collect();
    said.into_iter().rev().collect()
}

/// What happened lately: the newest ends and answers, a line each, and how many more there were; empty when nothing
/// happened. `more` is how many notices were left out before `items`.
///
/// Questions are not in it: those that are still open are shown [by themselves](super::open_questions).
#[must_use]
pub fn digest(heading: &str, items: &[NoticeItem], more: usize, view: &View, tz: &TimeZone) -> String {
    let narrow = View { width: view.width.map(|w| w.saturating_sub(2)), ..view.clone() };
    let line = |item: &NoticeItem| match item.notice.kind {
        NoticeKind::Question | NoticeKind::Reminder => String::new(),
        NoticeKind::Closed => closed_line(item, &narrow, tz),
        NoticeKind::Budget => budget(item, &narrow),
        NoticeKind::Completed
        | NoticeKind::Failed
        | NoticeKind::Cancelled
        | NoticeKind::BudgetExceeded
        | NoticeKind::Interrupted => ended_line(item, &narrow),
    };
    let lines: Vec<String> = items.iter().map(line).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let newest = &lines[lines.len().saturating_sub(DIGEST_MAX)..];
    let left = more + lines.len() - newest.len();
    let mut out = format!("{}\n", view.paint(Paint::Bold, heading));
    if left > 0 {
        let line = format!("  … {} before these: /tasks lists them", count(left, "notice"));
        out.push_str(&format!("{}\n", view.paint(Paint::Dim, &line)));
    }
    for line in newest {
        out.push_str("  ");
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{NOW, notice_of, task};
    use super::*;
    use crate::task::{Answer, Stamp, Task};

    fn item(number: u64, status: Status) -> NoticeItem {
        let task = task(number, status);
        NoticeItem { notice: notice_of(&task), task }
    }

    fn told(items: &[NoticeItem]) -> String {
        let view = View { width: Some(80), colour: false, now: NOW };
        items.iter().map(|i| notice(i, Tongue::Chat, &view, &TimeZone::UTC)).collect()
    }

    fn of_question(kind: NoticeKind, question: impl Fn(&mut Task)) -> NoticeItem {
        let mut item = item(9, Status::Paused);
        item.notice.kind = kind;
        item.notice.question = "q1".to_owned();
        question(&mut item.task);
        item
    }

    #[test]
    fn notices_say_what_became_of_the_task() {
        let mut paid = item(5, Status::Completed);
        paid.task.usage.cost_usd = Some(0.25);
        paid.task.usage.input_tokens = 12_000;
        paid.task.usage.output_tokens = 345;
        paid.task.name = "docs\x1b[2J".to_owned();
        paid.task.result = "one\ntwo\n\nthree \x1b[1mbold\x1b[0m\n  four\n".to_owned();
        let mut retried = item(6, Status::Failed);
        retried.task = task(6, Status::Running);
        let shown =
            told(&[item(12, Status::Failed), paid, item(9, Status::Paused), item(8, Status::Cancelled), retried]);
        insta::assert_snapshot!(shown, @r#"
        ✗ #12 c4b1e012 failed (exit 2) after 1m 3s: make -C /srv/project12 test && echo…
            compiling
            error: missing semicolon
        ✓ #5 c4b1e005 completed after 1m 3s, 12,345 tokens, $0.25: docs
            two
            three bold
            four
        ? #9 c4b1e009 asks: make -C /srv/project9 test && echo done
            Also refactor the helpers?
              1  yes
              2  no
            answer: /task 9 resume yes
        ✗ #8 c4b1e008 cancelled after 1m 3s: make -C /srv/project8 test && echo done
        ✗ #6 c4b1e006 failed: make -C /srv/project6 test && echo done
        "#);
    }

    #[test]
    fn a_question_is_told_while_it_is_open_and_its_closing_once() {
        let answered = |task: &mut Task| {
            task.questions[0].open = false;
            task.questions[0].closed = Some(Closed::Answered);
            task.answers.push(Answer {
                question: "q1".into(),
                text: "yes".into(),
                by: "telegram:4711".into(),
                at: Stamp::from_millis(NOW - 60_000),
                ..Answer::default()
            });
        };
        let close = |how: Closed| {
            move |task: &mut Task| {
                task.questions[0].open = false;
                task.questions[0].closed = Some(how);
            }
        };
        let shown = told(&[
            of_question(NoticeKind::Reminder, |_| {}),
            of_question(NoticeKind::Closed, answered),
            of_question(NoticeKind::Closed, close(Closed::NoAnswer)),
        ]);
        insta::assert_snapshot!(shown, @r#"
        ? #9 c4b1e009 still asks, after 50s: make -C /srv/project9 test && echo done
            Also refactor the helpers?
              1  yes
              2  no
            answer: /task 9 resume yes
        ▶ #9 c4b1e009 answered by Telegram at 09:59: yes
            Also refactor the helpers?
        ▶ #9 c4b1e009 got no answer in time
            Also refactor the helpers?
        "#);
        for gone in [
            of_question(NoticeKind::Question, answered),
            of_question(NoticeKind::Reminder, close(Closed::NoAnswer)),
            of_question(NoticeKind::Closed, close(Closed::TaskEnded)),
        ] {
            assert_eq!(told(&[gone]), "");
        }
    }

    #[test]
    fn an_absence_is_told_in_ten_lines_and_a_count() {
        let tell = |items: &[NoticeItem], more| digest("Lately:", items, more, &View::plain(NOW), &TimeZone::UTC);
        let items: Vec<_> = (1..=25).map(|n| item(n, Status::Completed)).collect();
        let told = tell(&items, 100);
        assert_eq!(told.lines().count(), 12, "{told}");
        assert!(told.contains("115 notices before these"));
        assert!(told.lines().last().unwrap().contains("#25 "));
        assert_eq!(tell(&[], 0), "");
        assert_eq!(tell(&[of_question(NoticeKind::Question, |_| {})], 0), "", "open questions stand by themselves");
        assert!(!tell(&items[..3], 0).contains('…'));
    }
}
