//! `octo replay`: what happened in a task, step by step, as a person would tell it.
//!
//! Of an agent it is the journal, so it is what the agent itself goes on from; of a process it is the record. All of
//! it is text of strangers: control characters are shown, never sent.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::journal::{Compaction, Entry, Line, Source};
use super::model::prices::Usd;
use super::model::{Reply, Stop, Tokens, ToolCall};
use super::tools::cap;
use crate::render::sanitize;
use crate::task::{Kind, Stamp, Task};

/// The longest text of one step that is told whole, in bytes.
const TOLD_MAX: usize = 4000;

/// The story of a task. `journals` are those of its runs, oldest first; none for a process.
#[must_use]
pub fn story(task: &Task, journals: &[Vec<Line>], tz: &TimeZone) -> String {
    let mut teller = Teller { said: String::new(), tz, day: String::new(), asking: None };
    let _ = writeln!(teller.said, "#{} {}  {}", task.number, task.id, sanitize::line(task.title()));
    if journals.is_empty() {
        teller.record(task);
    }
    for lines in journals {
        lines.iter().for_each(|line| teller.line(line));
        teller.cut_off();
    }
    teller.outcome(task);
    teller.said
}

struct Teller<'a> {
    said: String,
    tz: &'a TimeZone,
    day: String,
    /// The request that has no reply yet.
    asking: Option<String>,
}

impl Teller<'_> {
    /// A step: its time, what happened, and the words that belong to it.
    fn step(&mut self, at: &Stamp, what: &str, words: &str) {
        let at = at.millis().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.map(|at| at.to_zoned(self.tz.clone()));
        let day = at.as_ref().map_or(String::new(), |at| at.strftime("%Y-%m-%d").to_string());
        if day != self.day {
            let _ = writeln!(self.said, "\n{day}");
            self.day = day;
        }
        let time = at.map_or(" ".repeat(8), |at| at.strftime("%H:%M:%S").to_string());
        let _ = writeln!(self.said, "{time}  {what}");
        for line in sanitize::text(&cap(words.trim_end(), TOLD_MAX, "the journal")).lines() {
            let _ = writeln!(self.said, "          {line}");
        }
    }

    fn line(&mut self, line: &Line) {
        let at = &line.at;
        match &line.entry {
            Entry::Began(setup) => {
                let name = if setup.agent.is_empty() { "The agent" } else { &setup.agent };
                let what =
                    format!("{} began, on {}, in {}", sanitize::line(name), setup.model, sanitize::line(&setup.folder));
                self.step(at, &what, &format!("It may use: {}", setup.tools.join(", ")));
            }
            Entry::Told { from, text, .. } => self.told(at, from, text),
            Entry::Asking { model, prompt, .. } => {
                self.cut_off();
                self.asking = Some(format!("{model} was asked (about {prompt} tokens)"));
            }
            Entry::Replied { reply, cost } => self.replied(at, reply, *cost),
            Entry::NoReply { why, .. } => {
                let asked = self.asking.take().unwrap_or_else(|| "the model was asked".to_owned());
                self.step(at, &format!("{asked} and gave no answer:"), why);
            }
            Entry::Started { call } => self.step(at, &format!("{} was started", sanitize::line(call)), ""),
            Entry::Returned { call, text, is_error } => {
                let how = if *is_error { "failed, or was not allowed" } else { "gave" };
                self.step(at, &format!("{} {how}:", sanitize::line(call)), text);
            }
            Entry::Asked { call, .. } => {
                self.step(at, &format!("The owner was asked about {}", sanitize::line(call)), "");
            }
            Entry::Answered { text: Some(text), by, .. } => {
                self.step(at, &format!("{} answered:", sanitize::line(by)), text);
            }
            Entry::Answered { text: None, .. } => self.step(at, "Nobody answered", ""),
            Entry::Compacted(Compaction::Results { calls }) => {
                let what = format!("The conversation was too long: {} older results were left out", calls.len());
                self.step(at, &what, "");
            }
            Entry::Compacted(Compaction::Summary { text, .. }) => {
                self.step(at, "The conversation was too long: its older part became a summary:", text);
            }
            Entry::Model { model } => self.step(at, &format!("It goes on with {model}"), ""),
            Entry::WentOn { run } => self.step(at, &format!("Run {run} went on from here"), ""),
            Entry::Stopped => self.step(at, "It was stopped", ""),
            Entry::Ended { ok: true, text } => self.step(at, "It was done:", text),
            Entry::Ended { ok: false, text } => self.step(at, "It failed:", text),
        }
    }

    fn told(&mut self, at: &Stamp, from: &Source, text: &str) {
        match from {
            Source::Owner { by } => self.step(at, &format!("{} said:", sanitize::line(by)), text),
            Source::Task { id, status } => self.step(at, &format!("It heard that task {id} is {status}:"), text),
            Source::Octo => self.step(at, "Octo said to it:", text),
        }
    }

    fn replied(&mut self, at: &Stamp, reply: &Reply, cost: Option<Usd>) {
        self.asking = None;
        let spent = spent(&reply.usage, cost);
        let why = match &reply.stop {
            Stop::EndTurn | Stop::ToolUse => String::new(),
            other => format!(" (stopped: {})", sanitize::line(&other.to_string())),
        };
        let mut words = reply.message.text.trim_end().to_owned();
        for call in &reply.message.calls {
            if !words.is_empty() {
                words.push('\n');
            }
            words.push_str(&wants(call));
        }
        self.step(at, &format!("{} said ({spent}){why}:", reply.model), &words);
    }

    /// A request whose reply was lost when the daemon or the machine went down.
    fn cut_off(&mut self) {
        if let Some(asked) = self.asking.take() {
            let _ = writeln!(self.said, "          {asked}; the reply was lost, and it was asked again");
        }
    }

    /// What a record tells of a process.
    fn record(&mut self, task: &Task) {
        if task.kind == Kind::Process {
            self.step(&task.created_at, "It was accepted:", &task.command);
        }
        let mut steps: Vec<(Stamp, String, String)> = Vec::new();
        for entry in task.history.iter().skip(1) {
            steps.push((entry.at.clone(), format!("It was {} (run {})", entry.status, entry.run), String::new()));
        }
        for question in &task.questions {
            let by = if question.by.is_empty() { "it" } else { &question.by };
            let what = question.action.as_ref().map_or(question.text.clone(), |a| format!("{}: {}", a.tool, a.what));
            steps.push((question.asked_at.clone(), format!("{} asked ({}):", sanitize::line(by), question.id), what));
        }
        for answer in &task.answers {
            let what = format!("{} answered {}:", sanitize::line(&answer.by), answer.question);
            steps.push((answer.at.clone(), what, answer.text.clone()));
        }
        steps.sort_by_key(|(at, ..)| at.millis());
        steps.iter().for_each(|(at, what, words)| self.step(at, what, words));
    }

    fn outcome(&mut self, task: &Task) {
        let _ = writeln!(self.said, "\nThe task is {}.", task.status);
        if !task.error.is_empty() {
            let _ = writeln!(self.said, "{}", sanitize::text(&task.error).trim_end());
        }
        let usage = &task.usage;
        if usage.input_tokens + usage.output_tokens > 0 {
            let cost = usage.cost_usd.map_or(String::new(), |usd| format!(", ${usd:.4}"));
            let (input, output) = (usage.input_tokens, usage.output_tokens);
            let _ = writeln!(self.said, "Used: {input} tokens in, {output} out, {} turns{cost}.", usage.turns);
        }
        if task.kind == Kind::Process && !task.result.is_empty() {
            let _ = writeln!(self.said, "\nIts result:\n{}", sanitize::text(&task.result).trim_end());
        }
    }
}

fn spent(usage: &Tokens, cost: Option<Usd>) -> String {
    let guessed = if usage.estimated { "about " } else { "" };
    let cached = if usage.cached_read > 0 { format!(" ({} cached)", usage.cached_read) } else { String::new() };
    let cost = cost.map_or(String::new(), |usd| format!(", ${usd}"));
    format!("{guessed}{} tokens in{cached}, {} out{cost}", usage.prompt(), usage.output)
}

/// A call in a line or some: its name, its id, and what it is called with.
fn wants(call: &ToolCall) -> String {
    let arguments = match &call.arguments {
        Value::Object(map) if map.len() == 1 => map.values().next().map_or(String::new(), plain),
        other => other.to_string(),
    };
    format!("→ {} [{}] {arguments}", call.name, call.id)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::model::{Assistant, Format};
    use crate::task::TaskId;

    fn at(second: i64) -> Stamp {
        Stamp::from_millis(second * 1000)
    }

    fn line(second: i64, entry: Entry) -> Line {
        Line { at: at(second), entry }
    }

    #[test]
    fn a_life_is_told_in_order_with_what_was_lost_and_without_control_characters() {
        let id: TaskId = "c4b1e09a".parse().unwrap();
        let mut task = Task::new(id, 12, at(0));
        task.kind = Kind::Agent;
        "mend it".clone_into(&mut task.prompt);
        let model: crate::agent::model::ModelName = "demo/echo".parse().unwrap();
        let asking = Entry::Asking { digest: String::new(), model: model.clone(), prompt: 40, max_output: 100 };
        let call = ToolCall {
            id: "call_1".to_owned(),
            name: "shell".to_owned(),
            arguments: serde_json::json!({"command": "make \u{1b}[31m"}),
        };
        let message = Assistant { text: "I look.".to_owned(), calls: vec![call], opaque: None };
        let usage = Tokens { input: 40, output: 7, ..Tokens::default() };
        let reply = Reply { v: Format, message, stop: Stop::ToolUse, usage, model };
        let lines = vec![
            line(
                1,
                Entry::Told { key: "prompt".into(), from: Source::Owner { by: "cli".into() }, text: "mend it".into() },
            ),
            line(2, asking.clone()),
            line(3, asking),
            line(4, Entry::Replied { reply: Box::new(reply), cost: Some(Usd::from_pico(1_500_000_000)) }),
            line(5, Entry::Asked { call: "call_1".into(), key: "k".into() }),
            line(6, Entry::Answered { call: "call_1".into(), text: Some("deny".into()), by: "telegram:4711".into() }),
            line(7, Entry::Returned { call: "call_1".into(), text: "Not run.".into(), is_error: true }),
            line(8, Entry::Ended { ok: true, text: "Left as it was.".into() }),
        ];
        let told = story(&task, &[lines], &TimeZone::UTC);
        let wanted = "\
#12 c4b1e09a  mend it

1970-01-01
00:00:01  cli said:
          mend it
          demo/echo was asked (about 40 tokens); the reply was lost, and it was asked again
00:00:04  demo/echo said (40 tokens in, 7 out, $0.0015):
          I look.
          → shell [call_1] make
00:00:05  The owner was asked about call_1
00:00:06  telegram:4711 answered:
          deny
00:00:07  call_1 failed, or was not allowed:
          Not run.
00:00:08  It was done:
          Left as it was.

The task is dispatched.
";
        let lines = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&told), lines(wanted));
        assert!(!told.contains('\u{1b}'));
    }
}
