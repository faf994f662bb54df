//! What became of a question: who answered, when and what, or why nobody did.

use jiff::tz::TimeZone;

use super::{View, sanitize};
use crate::task::{Answer, Closed, Question, Stamp, Task};

/// The answer to a question of a task.
#[must_use]
pub fn answer_of<'a>(task: &'a Task, question: &str) -> Option<&'a Answer> {
    task.answers.iter().rev().find(|a| a.question == question)
}

/// What became of a closed question: `answered by Telegram at 12:03: yes`.
#[must_use]
pub fn outcome(task: &Task, question: &Question, view: &View, tz: &TimeZone) -> String {
    match (answer_of(task, &question.id), question.closed) {
        (Some(answer), _) => {
            let at = clock(&answer.at, view.now, tz);
            let at = if at.is_empty() { at } else { format!(" at {at}") };
            format!("answered by {}{at}: {}", who(&answer.by), sanitize::line(&answer.text))
        }
        (None, Some(Closed::NoAnswer)) => "got no answer in time".to_owned(),
        (None, Some(Closed::TaskEnded)) => "was not answered before its run ended".to_owned(),
        (None, Some(Closed::Answered) | None) => "was closed".to_owned(),
    }
}

/// Who answered, in a word.
#[must_use]
pub fn who(by: &str) -> String {
    match by.split_once(':').map_or(by, |(surface, _)| surface) {
        "repl" => "REPL".to_owned(),
        "cli" => "the command line".to_owned(),
        "api" => "the API".to_owned(),
        "panel" => "the panel".to_owned(),
        "telegram" => "Telegram".to_owned(),
        "" => "somebody".to_owned(),
        _ => sanitize::line(by),
    }
}

/// The local time of day; with its date when that is not today's. Empty without a time.
fn clock(stamp: &Stamp, now: i64, tz: &TimeZone) -> String {
    let local = |ms: i64| jiff::Timestamp::from_millisecond(ms).ok().map(|t| t.to_zoned(tz.clone()));
    let Some(at) = stamp.millis().and_then(local) else { return String::new() };
    let today = local(now).is_some_and(|now| now.date() == at.date());
    at.strftime(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{self, NOW};
    use super::*;
    use crate::task::Status;

    #[test]
    fn an_outcome_names_who_and_when() {
        let view = View { width: Some(80), colour: false, now: NOW };
        let mut task = fixtures::task(9, Status::Running);
        task.questions = fixtures::task(9, Status::Paused).questions;
        task.questions[0].open = false;
        let told = |task: &Task| outcome(task, &task.questions[0], &view, &TimeZone::UTC);
        task.questions[0].closed = Some(Closed::NoAnswer);
        assert_eq!(told(&task), "got no answer in time");
        task.questions[0].closed = Some(Closed::Answered);
        let answer = |by: &str, ago: i64| Answer {
            question: "q1".into(),
            text: "yes\x1b[2J".into(),
            by: by.into(),
            at: Stamp::from_millis(NOW - ago),
            ..Answer::default()
        };
        task.answers = vec![answer("telegram:4711", 120_000)];
        assert_eq!(told(&task), "answered by Telegram at 09:58: yes");
        task.answers = vec![answer("repl", 86_400_000)];
        assert_eq!(told(&task), "answered by REPL at 2025-11-19 10:00: yes");
    }
}
