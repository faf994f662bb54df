//! One task in full: what `octo task ID` shows.

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use super::question::Block;
use super::{
    Paint, Room, Tongue, View, ago, answer_of, budgets, can_be_raised, count, duration, fit, name_of, sanitize,
    status_paint, thousands, took, why,
};
use crate::task::{Closed, Kind, NotifyPolicy, Question, Stamp, Task};

/// Lines of a command or prompt that are shown.
const COMMAND_LINES: usize = 6;

/// Closed questions that are shown: the newest ones.
const CLOSED_MAX: usize = 6;

/// The columns before a field's value.
const INDENT: usize = 12;

/// The end of a task's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its bytes as they were written.
    pub bytes: Vec<u8>,
    /// Where they begin in the log.
    pub from: u64,
    /// The most lines that are shown.
    pub lines: usize,
}

/// A task's card and the end of its output; times are shown in `tz`, and what to type in the reader's `tongue`.
#[must_use]
pub fn details(task: &Task, tail: Option<&Tail>, tongue: Tongue, view: &View, tz: &TimeZone) -> String {
    let mut card = Card { view, out: String::new() };
    card.head(task);
    card.what(task);
    card.times(task, tz);
    card.end(task, tongue);
    card.questions(task, tongue, tz);
    card.relations(task);
    if let Some(tail) = tail {
        card.output(tail, &tongue.logs(task));
    }
    card.out
}

struct Card<'a> {
    view: &'a View,
    out: String,
}

impl Card<'_> {
    fn head(&mut self, task: &Task) {
        let why = why(task);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let status = format!("{} {}{why}", task.status.icon(), task.status);
        let status = self.view.paint(status_paint(task.status), &status);
        let name = self.view.paint(Paint::Bold, &name_of(task));
        self.out.push_str(&format!("{status}  {name}"));
        if !task.name.is_empty() {
            self.out.push_str("  ");
            self.out.push_str(&sanitize::line(&task.name));
        }
        self.out.push('\n');
    }

    /// One `label  value` line; a value of several lines is indented below its first.
    fn field(&mut self, label: &str, value: &str) {
        let label = self.view.paint(Paint::Dim, &format!("{label:<9}"));
        for (i, line) in value.lines().enumerate() {
            if i == 0 {
                self.out.push_str(format!("  {label} {line}").trim_end());
                self.out.push('\n');
            } else {
                self.out.push_str(&format!("            {line}\n"));
            }
        }
    }

    fn what(&mut self, task: &Task) {
        let (label, text) = match task.kind {
            Kind::Process => ("command", &task.command),
            Kind::Agent => ("prompt", &task.prompt),
        };
        let text = sanitize::text(text);
        let all = text.trim_end().lines().count();
        let mut shown: Vec<&str> = text.lines().take(COMMAND_LINES).collect();
        let rest = format!("… {}", count(all.saturating_sub(COMMAND_LINES), "more line"));
        if all > COMMAND_LINES {
            shown.push(&rest);
        }
        self.field(label, &shown.join("\n"));
        self.field("folder", &sanitize::line(&task.cwd));
        self.field("agent", &sanitize::line(&task.agent_name));
        self.field("model", &sanitize::line(&task.model));
        self.field("team", &sanitize::line(&task.team));
        if !task.env_overrides.is_empty() {
            let names: Vec<_> = task.env_overrides.keys().map(|k| sanitize::line(k)).collect();
            self.field("env", &names.join(", "));
        }
    }

    fn times(&mut self, task: &Task, tz: &TimeZone) {
        let mut line = vec![self.at("created", &task.created_at, tz)];
        if !task.started_at.is_empty() {
            line.push(self.at("started", &task.started_at, tz));
        }
        if task.status.is_ended() {
            line.push(self.at("ended", &task.completed_at, tz));
        }
        self.field("times", &line.join("\n"));
        let mut took = took(task, self.view.now).map(duration).unwrap_or_default();
        if task.timeout > 0 {
            let limit = duration(i64::try_from(task.timeout).unwrap_or(i64::MAX).saturating_mul(1000));
            took = if took.is_empty() { format!("at most {limit}") } else { format!("{took} of at most {limit}") };
        }
        self.field("duration", &took);
        if task.run > 1 {
            self.field("run", &task.run.to_string());
        }
        self.field("notify", notices(task.notify));
    }

    fn at(&self, what: &str, stamp: &Stamp, tz: &TimeZone) -> String {
        let Some(ms) = stamp.millis() else { return format!("{what:<8} {}", sanitize::line(stamp.as_str())) };
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let local = at.to_zoned(tz.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        format!("{what:<8} {local}  ({})", ago(self.view.now - ms))
    }

    fn end(&mut self, task: &Task, tongue: Tongue) {
        match (task.signal, task.exit_code) {
            (Some(signal), _) => self.field("signal", &signal.to_string()),
            (None, Some(code)) => self.field("exit code", &code.to_string()),
            (None, None) => {}
        }
        let error = sanitize::text(&task.error);
        self.field("error", &self.view.paint(Paint::Red, error.trim_end()));
        if let Some(stop) = &task.stop {
            let reason = sanitize::line(&stop.reason);
            self.field("stop", &format!("asked by {}: {reason}", sanitize::line(&stop.by)));
        }
        let usage = &task.usage;
        if usage.input_tokens + usage.output_tokens + usage.turns > 0 || usage.cost_usd.is_some() {
            let mut parts =
                vec![format!("{} tokens in, {} out", thousands(usage.input_tokens), thousands(usage.output_tokens))];
            if usage.turns > 0 {
                parts.push(count(usize::try_from(usage.turns).unwrap_or(usize::MAX), "turn"));
            }
            parts.extend(usage.cost_usd.map(|usd| format!("${usd:.4}")));
            self.field("usage", &parts.join(", "));
        }
        self.field("budget", &budgets(task).join(", "));
        self.field("session", &sanitize::line(&task.session_id));
        if can_be_raised(task) {
            self.indented(&format!("`{} raise` lets it go on", tongue.task(task)));
        }
    }

    /// What it asked: the newest closed questions with their answers, then all that is open, in full.
    fn questions(&mut self, task: &Task, tongue: Tongue, tz: &TimeZone) {
        let (open, closed): (Vec<&Question>, Vec<&Question>) = task.questions.iter().partition(|q| q.open);
        let before = closed.len().saturating_sub(CLOSED_MAX);
        if before > 0 {
            self.field("asked", &format!("… {} before these", count(before, "question")));
        }
        for question in &closed[before..] {
            self.question("asked", task, question, tongue);
            self.indented(&self.became(task, question, tz));
        }
        for question in open {
            self.question("asks", task, question, tongue);
            self.indented(&self.asker(question, tz));
        }
    }

    fn question(&mut self, label: &str, task: &Task, question: &Question, tongue: Tongue) {
        let label = format!("{:<9}", format!("{label} {}", sanitize::line(&question.id)));
        let mut block = String::new();
        if let Some(action) = &question.action {
            block.push_str(&format!("{:INDENT$}to use {}\n", "", sanitize::line(&action.tool)));
        }
        block.push_str(&Block { task, question, tongue, room: Room::ALL, view: self.view }.lines(INDENT));
        self.out.push_str(&format!("  {} {}", self.view.paint(Paint::Dim, &label), block.trim_start_matches(' ')));
    }

    fn indented(&mut self, text: &str) {
        self.out.push_str(&format!("{:INDENT$}{}\n", "", self.view.paint(Paint::Dim, text)));
    }

    /// Who asked, and when.
    fn asker(&self, question: &Question, tz: &TimeZone) -> String {
        let mut text = self.at("asked", &question.asked_at, tz);
        if !question.by.is_empty() {
            text.push_str(&format!(" by {}", sanitize::line(&question.by)));
        }
        text
    }

    /// How a question was closed: the answer, who gave it, when.
    fn became(&self, task: &Task, question: &Question, tz: &TimeZone) -> String {
        match (answer_of(task, &question.id), question.closed) {
            (Some(answer), _) => {
                let at = self.at("answered", &answer.at, tz);
                format!("{at} by {}: {}", sanitize::line(&answer.by), sanitize::line(&answer.text))
            }
            (None, Some(Closed::NoAnswer)) => self.at("no answer by", &question.closed_at, tz),
            (None, Some(Closed::TaskEnded)) => self.at("not answered; its run ended", &question.closed_at, tz),
            (None, Some(Closed::Answered) | None) => self.at("closed", &question.closed_at, tz),
        }
    }

    fn relations(&mut self, task: &Task) {
        let ids = |ids: &[crate::task::TaskId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.field("after", &ids(&task.after));
        self.field("parent", &task.parent.map(|p| p.to_string()).unwrap_or_default());
        self.field("children", &ids(&task.children));
    }

    fn output(&mut self, tail: &Tail, logs: &str) {
        let clean = sanitize::bytes(&tail.bytes);
        let clean = clean.trim_end_matches('\n');
        if clean.trim().is_empty() {
            self.field("output", "(none)");
            return;
        }
        let all: Vec<&str> = clean.lines().collect();
        let shown = &all[all.len().saturating_sub(tail.lines)..];
        let cut = tail.from > 0 || shown.len() < all.len();
        let head = if cut { format!("its end; `{logs}` shows all") } else { String::new() };
        self.field("output", if cut { &head } else { " " });
        for line in shown {
            let line = line.replace('\t', "    ");
            let line = match self.view.width {
                Some(width) if line.width() + 4 > width => fit(&line, width.saturating_sub(4)),
                _ => line,
            };
            self.out.push_str(&format!("  {} {line}\n", self.view.paint(Paint::Dim, "│")));
        }
    }
}

/// Which notices its owner wants.
fn notices(policy: NotifyPolicy) -> &'static str {
    match policy {
        NotifyPolicy::All => "all",
        NotifyPolicy::End => "end",
        NotifyPolicy::Failures => "failures",
        NotifyPolicy::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{NOW, permission, task};
    use super::*;
    use crate::task::{Answer, Status, Stop};

    fn show(task: &Task, tail: Option<&Tail>) -> String {
        details(task, tail, Tongue::Shell, &View::plain(NOW), &TimeZone::UTC)
    }

    #[test]
    fn a_failed_task_in_full() {
        let mut task = task(12, Status::Failed);
        task.name = "build".to_owned();
        task.usage.input_tokens = 12345;
        task.usage.output_tokens = 67;
        task.usage.cost_usd = Some(0.0123);
        let tail = Tail { bytes: b"compiling\r\n\x1b[31merror\x1b[0m: x\n".to_vec(), from: 100, lines: 20 };
        insta::assert_snapshot!(show(&task, Some(&tail)), @r#"
        ✗ failed (exit 2)  #12 c4b1e012  build
          command   make -C /srv/project12 test && echo done
          folder    /srv
          times     created  2025-11-20 09:57:50  (2m ago)
                    started  2025-11-20 09:57:57  (2m ago)
                    ended    2025-11-20 09:59:00  (1m ago)
          duration  1m 3s
          notify    all
          exit code 2
          error     exit code 2
          usage     12,345 tokens in, 67 out, $0.0123
          output    its end; `octo task c4b1e012 logs` shows all
          │ compiling
          │ error: x
        "#);
    }

    #[test]
    fn an_agent_shows_what_it_used_of_its_budget() {
        let mut task = task(12, Status::BudgetExceeded);
        task.kind = Kind::Agent;
        task.command.clear();
        task.prompt = "Run all the tests\nand fix any failures".to_owned();
        (task.agent_name, task.model) = ("coder".to_owned(), "anthropic/claude-sonnet-4-5".to_owned());
        (task.usage.input_tokens, task.usage.output_tokens, task.usage.turns) = (45_000, 5_123, 7);
        task.usage.cost_usd = Some(0.2118);
        (task.budget.tokens, task.budget.usd) = (Some(50_000), Some(1.0));
        task.error = "its budget of 50,000 tokens is used up".to_owned();
        insta::assert_snapshot!(show(&task, None), @r#"
        $ budget_exceeded  #12 c4b1e012
          prompt    Run all the tests
                    and fix any failures
          folder    /srv
          agent     coder
          model     anthropic/claude-sonnet-4-5
          times     created  2025-11-20 09:57:50  (2m ago)
                    started  2025-11-20 09:57:57  (2m ago)
                    ended    2025-11-20 09:59:00  (1m ago)
          duration  1m 3s
          notify    all
          error     its budget of 50,000 tokens is used up
          usage     45,000 tokens in, 5,123 out, 7 turns, $0.2118
          budget    50,123 of 50,000 tokens (100 %), $0.21 of $1.00 (21 %), 7 of 50 turns
                    `octo task c4b1e012 raise` lets it go on
        "#);
    }

    #[test]
    fn a_paused_task_shows_its_question() {
        let mut task = task(9, Status::Paused);
        task.timeout = 600;
        task.command = (1..=9).map(|n| format!("echo {n}\n")).collect();
        task.stop = Some(Stop {
            by: "cli".into(),
            at: Stamp::from_millis(NOW),
            reason: "cancel".into(),
            extra: serde_json::Map::new(),
        });
        insta::assert_snapshot!(show(&task, Some(&Tail::default())), @r#"
        ? paused (question)  #9 c4b1e009
          command   echo 1
                    echo 2
                    echo 3
                    echo 4
                    echo 5
                    echo 6
                    … 3 more lines
          folder    /srv
          times     created  2025-11-20 09:57:50  (2m ago)
                    started  2025-11-20 09:57:57  (2m ago)
          duration  2m 3s of at most 10m 0s
          notify    all
          stop      asked by cli: cancel
          asks q1   Also refactor the helpers?
                      1  yes
                      2  no
                    answer: octo task c4b1e009 resume --question q1 yes
                    asked    2025-11-20 09:59:10  (50s ago)
          output    (none)
        "#);
    }

    #[test]
    fn questions_are_shown_with_who_asked_and_who_answered() {
        let lines: String = (1..=30).map(|n| format!("echo {n}\n")).collect();
        let mut task = permission(9, "command", &lines);
        let closed = |n: usize, how: Closed| Question {
            id: format!("q{n}"),
            text: format!("Delete file {n}?"),
            asked_at: Stamp::from_millis(NOW - 100_000),
            by: "octo ask".into(),
            closed: Some(how),
            closed_at: Stamp::from_millis(NOW - 90_000),
            ..Question::default()
        };
        task.questions[0].id = "q9".into();
        task.questions[0].deadline = Stamp::from_millis(NOW + 540_000);
        for n in (1..=8).rev() {
            let how = match n {
                7 => Closed::NoAnswer,
                8 => Closed::TaskEnded,
                _ => Closed::Answered,
            };
            task.questions.insert(0, closed(n, how));
        }
        task.answers = (1..=6)
            .map(|n| Answer {
                question: format!("q{n}"),
                text: "yes".into(),
                by: "telegram:4711".into(),
                at: Stamp::from_millis(NOW - 90_000),
                ..Answer::default()
            })
            .collect();
        let shown = show(&task, None);
        assert!(shown.contains("$ echo 1\n") && shown.contains("  echo 30\n"), "the whole action: {shown}");
        let short: String =
            shown.lines().filter(|l| !l.trim_start().starts_with("echo ")).map(|l| format!("{l}\n")).collect();
        insta::assert_snapshot!(short, @r#"
        ? paused (permission)  #9 c4b1e009
          command   make -C /srv/project9 test && echo done
          folder    /srv
          times     created  2025-11-20 09:57:50  (2m ago)
                    started  2025-11-20 09:57:57  (2m ago)
          duration  2m 3s
          notify    all
          asked     … 2 questions before these
          asked q3  Delete file 3?
                    answered 2025-11-20 09:58:30  (1m ago) by telegram:4711: yes
          asked q4  Delete file 4?
                    answered 2025-11-20 09:58:30  (1m ago) by telegram:4711: yes
          asked q5  Delete file 5?
                    answered 2025-11-20 09:58:30  (1m ago) by telegram:4711: yes
          asked q6  Delete file 6?
                    answered 2025-11-20 09:58:30  (1m ago) by telegram:4711: yes
          asked q7  Delete file 7?
                    no answer by 2025-11-20 09:58:30  (1m ago)
          asked q8  Delete file 8?
                    not answered; its run ended 2025-11-20 09:58:30  (1m ago)
          asks q9   to use Bash
                    in /srv/work
                    $ echo 1
                      1  allow
                      2  allow for this task
                      3  deny
                    answer within 9m 0s: octo task c4b1e009 resume --question q9 allow
                    asked    2025-11-20 09:59:10  (50s ago) by claude
        "#);
    }

    #[test]
    fn no_field_of_a_record_reaches_the_terminal_raw() {
        let evil = "x\x1b]0;pwned\x07\x1b[2J\u{202e}\u{9b}2Jy";
        let mut task = task(3, Status::Failed);
        for field in [&mut task.name, &mut task.command, &mut task.cwd, &mut task.error, &mut task.session_id] {
            evil.clone_into(field);
        }
        evil.clone_into(&mut task.paused_reason);
        task.env_overrides.insert(evil.to_owned(), evil.to_owned());
        task.questions = super::super::fixtures::task(4, Status::Paused).questions;
        evil.clone_into(&mut task.questions[0].text);
        evil.clone_into(&mut task.questions[0].id);
        evil.clone_into(&mut task.questions[0].by);
        task.questions.push(permission(4, evil, evil).questions.remove(0));
        let answered = Question { id: "q7".into(), text: evil.into(), ..Question::default() };
        task.questions.push(answered);
        task.answers.push(Answer { question: "q7".into(), text: evil.into(), by: evil.into(), ..Answer::default() });
        task.questions[0].choices.push(evil.to_owned());
        task.stop =
            Some(Stop { by: evil.into(), at: Stamp::default(), reason: evil.into(), extra: serde_json::Map::new() });
        let shown = show(&task, Some(&Tail { bytes: evil.into(), from: 0, lines: 9 }));
        assert_eq!(sanitize::text(&shown), shown);
        // Just the action hides nothing: its controls are spelt out.
        let rest: Vec<&str> = shown.lines().filter(|l| !l.contains("\\u{1b}")).collect();
        assert!(!rest.join("\n").contains("pwned") && shown.contains("xy"), "{shown}");
    }
}
