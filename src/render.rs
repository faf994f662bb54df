//! How things look on a terminal: pure functions from records to text.
//!
//! Nothing here prints, asks the clock or looks at the environment; a [`View`] says what the terminal
//! can show. All text that came from a task passes through [`sanitize`]: records may hold anything.

use crate::task::{Status, Task};

mod answer;
mod budget;
mod details;
mod duration;
mod notice;
mod question;
mod report;
mod roster;
mod rows;
pub mod sanitize;
mod table;
mod tongue;

pub use answer::{answer_of, outcome, who};
pub use budget::{budget_mark, budget_used, budgets, can_be_raised};
pub use details::{Tail, details};
pub use duration::{BadDuration, ago, duration, parse_duration};
pub use notice::{digest, notice};
pub use question::{Room, open_questions, question, question_line, subject, waiting};
pub use report::report;
pub use roster::roster;
pub use table::{ListLimits, Shown, list};
pub use tongue::Tongue;

/// What the reader's terminal can show, and what time it is for them.
#[derive(Debug, Clone)]
pub struct View {
    /// Columns; `None` when the output is no terminal: nothing is cut then.
    pub width: Option<usize>,
    /// Whether colours are wanted.
    pub colour: bool,
    /// Now, milliseconds since 1970.
    pub now: i64,
}

/// A colour of the terminal's own palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Ended well.
    Green,
    /// Failed.
    Red,
    /// Waits for a person.
    Yellow,
    /// Runs.
    Cyan,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Green => "32",
            Paint::Red => "31",
            Paint::Yellow => "33",
            Paint::Cyan => "36",
            Paint::Dim => "2",
            Paint::Bold => "1",
        }
    }
}

impl View {
    /// A view without terminal: no width, no colours.
    #[must_use]
    pub fn plain(now: i64) -> Self {
        View { width: None, colour: false, now }
    }

    /// The text in a colour, where colours are wanted.
    #[must_use]
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
    }
}

/// The colour of a status.
#[must_use]
pub fn status_paint(status: Status) -> Paint {
    match status {
        Status::Running | Status::Resumed => Paint::Cyan,
        Status::Dispatched => Paint::Dim,
        Status::Paused => Paint::Yellow,
        Status::Completed => Paint::Green,
        Status::Failed | Status::BudgetExceeded | Status::Interrupted => Paint::Red,
        Status::Cancelled => Paint::Dim,
    }
}

/// `#12 c4b1e09a`: how every card and notice names its task.
#[must_use]
pub fn name_of(task: &Task) -> String {
    format!("#{} {}", task.number, task.id)
}

/// Why the task stands where it does, in two or three words; empty when there is nothing to add.
#[must_use]
pub fn why(task: &Task) -> String {
    match task.status {
        Status::Paused => sanitize::line(&task.paused_reason),
        Status::Failed => match (task.signal, task.exit_code) {
            // The signal was Octo's own: what matters is why it was sent.
            _ if limit(task).is_some() => limit(task).unwrap_or_default().replace('_', " "),
            (Some(signal), _) => format!("signal {signal}"),
            (None, Some(code)) if code != 0 => format!("exit {code}"),
            _ => sanitize::line(task.error.split([':', '\n']).next().unwrap_or("")),
        },
        Status::Running if task.stop.is_some() => "stopping".to_owned(),
        Status::Dispatched if !task.after.is_empty() => "waits for another".to_owned(),
        Status::Dispatched
        | Status::Running
        | Status::Resumed
        | Status::Completed
        | Status::Cancelled
        | Status::BudgetExceeded
        | Status::Interrupted => String::new(),
    }
}

/// The limit that Octo stopped the task for, as its error begins.
fn limit(task: &Task) -> Option<&str> {
    let (limit, _) = task.error.split_once(": ")?;
    ["timeout", "log_quota", "low_disk"].contains(&limit).then_some(limit)
}

/// How long the present run has taken so far, or took; `None` when it never began.
#[must_use]
pub fn took(task: &Task, now: i64) -> Option<i64> {
    let from = task.started_at.millis()?;
    let to = if task.status.is_ended() { task.completed_at.millis()? } else { now };
    Some((to - from).max(0))
}

/// Cuts a text to so many columns, the last of which is then an ellipsis.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > width {
            break;
        }
        used += w;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// `1 task`, `2 tasks`; large numbers with commas.
#[must_use]
pub fn count(n: usize, what: &str) -> String {
    format!("{} {what}{}", thousands(n as u64), if n == 1 { "" } else { "s" })
}

/// A number with commas between its thousands.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_columns_not_by_characters() {
        assert_eq!(fit("hello", 5), "hello");
        assert_eq!(fit("hello!", 5), "hell…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn a_task_that_octo_stopped_says_for_which_limit_not_by_which_signal() {
        let mut task = fixtures::task(7, Status::Failed);
        (task.exit_code, task.signal) = (None, Some(15));
        for (error, reason) in [
            ("timeout: stopped after 1 s", "timeout"),
            ("log_quota: stopped, because its output passed 4096 MiB", "log quota"),
            ("low_disk: stopped, because the disk is nearly full", "low disk"),
            ("ended by signal 15 (SIGTERM)", "signal 15"),
        ] {
            task.error = error.to_owned();
            assert_eq!(why(&task), reason);
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(1, "task"), "1 task");
        assert_eq!(count(1_234_567, "task"), "1,234,567 tasks");
        assert_eq!(thousands(999), "999");
    }
}
