//! Cards: what a task, a question and a list look like on a phone.
//!
//! A task has one card in a chat, which is edited in place. A question has a card of its own, since only a new message
//! makes a phone ring; when it is closed that card says by whom, and loses its buttons.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use octo::render::{self, name_of, thousands};
use octo::task::{Kind, Stamp, Status, Task};

use super::mask::Mask;
use super::post::{Key, Keys};
use super::seal::{Button, Seal, What};
use super::text::{self, MESSAGE_MAX, code, escape, line, pre, seen, units};

#[path = "card/list.rs"]
mod list;
#[path = "card/question.rs"]
mod question;

pub(crate) use list::{DIGEST_ROWS, budget, digest, listing, recap};
pub(crate) use question::{asks, closed_words, is_cut, still_asks, whole_action};

/// Lines of output on a card.
const TAIL_LINES: usize = 8;
/// Units of output on a card.
const TAIL_MAX: usize = 600;
/// Units of a title.
const TITLE_MAX: usize = 200;

/// For whom a card is drawn, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Face<'a> {
    /// Seals the buttons.
    pub(crate) seal: &'a Seal,
    /// The chat.
    pub(crate) chat: i64,
    /// Who may tap.
    pub(crate) user: i64,
    /// The reader's time zone.
    pub(crate) tz: &'a TimeZone,
    /// Now, in milliseconds since 1970.
    pub(crate) now: i64,
    /// The names of Telegram's users.
    pub(crate) names: &'a BTreeMap<i64, String>,
    /// What must not be shown.
    pub(crate) mask: &'a Mask,
}

/// A message: its text in HTML and its buttons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Card {
    /// The text; never too long for one message.
    pub(crate) html: String,
    /// The buttons.
    pub(crate) keys: Keys,
}

impl Card {
    /// A card of these lines; should they be too many, their beginning and a remark.
    pub(crate) fn new(lines: &[String], keys: Keys) -> Self {
        let html = lines.iter().filter(|l| !l.is_empty()).map(String::as_str).collect::<Vec<_>>().join("\n");
        if units(&seen(&html)) <= MESSAGE_MAX {
            return Card { html, keys };
        }
        const REMARK: &str = "\n<i>… cut: this is too long for one message</i>";
        let first = text::split(&html, MESSAGE_MAX - 60).swap_remove(0);
        Card { html: first + REMARK, keys }
    }
}

impl Face<'_> {
    /// A button; left out when its data cannot be made.
    pub(crate) fn key(&self, label: &str, button: &Button) -> Option<Key> {
        let data = self.seal.close(self.chat, self.user, button)?;
        Some(Key { text: label.to_owned(), data })
    }

    fn task_key(&self, label: &str, task: &Task, what: What) -> Option<Key> {
        self.key(label, &Button::Task(task.id, what))
    }

    /// A text of a task's in one line.
    pub(crate) fn line(&self, text: &str, most: usize) -> String {
        line(text, most, self.mask)
    }

    /// A time of today as `12:03`, another as `20 Nov 12:03`; empty for none.
    pub(crate) fn clock(&self, at: &Stamp) -> String {
        let zoned = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.tz.clone());
        let Some(ms) = at.millis() else { return String::new() };
        let (at, now) = (zoned(ms), zoned(self.now));
        let form = if at.date() == now.date() { "%H:%M" } else { "%-d %b %H:%M" };
        at.strftime(form).to_string()
    }

    /// Who did something, as people call them.
    pub(crate) fn who(&self, by: &str) -> String {
        match by.strip_prefix("telegram:").and_then(|id| id.parse::<i64>().ok()) {
            Some(id) => match self.names.get(&id) {
                Some(name) => format!("Telegram ({})", self.name(name)),
                None => format!("Telegram ({id})"),
            },
            None if by == "octo" => "Octo".to_owned(),
            None => self.name(&render::who(by)),
        }
    }

    /// A name without what Telegram makes links and mentions of.
    fn name(&self, name: &str) -> String {
        let harmless = |c: char| if c.is_alphanumeric() || " -_'()".contains(c) { c } else { ' ' };
        self.line(name, 40).chars().map(harmless).collect()
    }
}

/// A word of Octo's as it is, anything else as code.
fn word(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_'));
    if plain { text.to_owned() } else { code(text) }
}

/// `✓ #12 c4b1e09a completed after 1m 3s`.
fn head(task: &Task, face: &Face) -> String {
    let status = task.status;
    let mut out = format!("{} <b>{}</b> {}", status.icon(), name_of(task), status.word().replace('_', " "));
    let why = face.mask.apply(&render::why(task));
    if !why.is_empty() {
        out.push_str(&format!(" ({})", word(&text::cut(&why, 60))));
    }
    if let Some(ms) = render::took(task, face.now) {
        let took = render::duration(ms);
        if status.is_ended() {
            out.push_str(&format!(" after {took}"));
        } else {
            out.push_str(&format!(", {took} so far at {}", face.clock(&Stamp::from_millis(face.now))));
        }
    }
    out
}

/// The one card of a task. `tail` is the end of its output while it has not ended.
pub(crate) fn task(task: &Task, tail: Option<&str>, face: &Face) -> Card {
    let mut lines = vec![head(task, face), code(&face.line(task.title(), TITLE_MAX))];
    if !task.name.is_empty() && !task.command.is_empty() {
        lines.push(code(&face.line(&task.command, TITLE_MAX)));
    }
    lines.push(facts(task, face));
    if let Some(stop) = task.stop.as_ref().filter(|_| !task.status.is_ended()) {
        lines.push(format!("{} asked to stop it at {}", escape(&face.who(&stop.by)), face.clock(&stop.at)));
    }
    let output = if task.status.is_ended() { &task.result } else { tail.unwrap_or("") };
    lines.push(pre(&text::tail(&text::clean(output, face.mask), TAIL_LINES, TAIL_MAX)));
    let error = face.line(&task.error, 300);
    if let Some(by) = error.strip_prefix("cancelled by ") {
        lines.push(format!("cancelled by {}", escape(&face.who(by))));
    } else if !error.is_empty() && !error.starts_with("exit code") {
        // The exit code is in the first line.
        lines.push(format!("error: {}", code(&error)));
    }
    lines.extend(open_questions(task, face));
    Card::new(&lines, buttons(task, face))
}

/// Who does it, what it used, and which run it is; empty when there is nothing to say.
fn facts(task: &Task, face: &Face) -> String {
    let mut facts = Vec::new();
    if task.kind == Kind::Agent {
        let names = [&task.agent_name, &task.model];
        facts.extend(names.into_iter().filter(|n| !n.is_empty()).map(|name| code(&face.line(name, 60))));
        if task.usage.turns > 0 {
            facts.push(render::count(usize::try_from(task.usage.turns).unwrap_or(usize::MAX), "turn"));
        }
    }
    if task.usage.tokens() > 0 {
        facts.push(format!("{} tokens", thousands(task.usage.tokens())));
    }
    if let Some(usd) = task.usage.cost_usd {
        facts.push(format!("${usd:.2}"));
    }
    facts.extend(render::budget_used(task).filter(|_| task.usage.tokens() > 0));
    if task.run > 1 {
        facts.push(format!("run {}", task.run));
    }
    facts.join(" · ")
}

/// The open questions in a line each; each has a card of its own.
fn open_questions(task: &Task, face: &Face) -> Vec<String> {
    const SHOWN: usize = 3;
    let open: Vec<_> = task.questions.iter().filter(|q| q.open).collect();
    let mut lines: Vec<String> = open
        .iter()
        .take(SHOWN)
        .map(|q| match (&q.action, q.is_permission()) {
            (Some(action), true) => format!("? asks for permission: {}", code(&face.line(&action.tool, 40))),
            _ => format!("? asks: {}", code(&face.line(&q.text, 100))),
        })
        .collect();
    if open.len() > SHOWN {
        lines.push(format!("? and {} more questions", open.len() - SHOWN));
    }
    lines
}

fn buttons(task: &Task, face: &Face) -> Keys {
    let logs = face.task_key("Logs", task, What::Logs);
    let cancel = || face.task_key("Cancel", task, What::Cancel(task.run));
    let row: Vec<Key> = match task.status {
        Status::Dispatched | Status::Running | Status::Paused | Status::Resumed => {
            let cancel = if task.stop.is_none() { cancel() } else { None };
            [cancel, logs].into_iter().flatten().collect()
        }
        Status::Completed | Status::Failed | Status::Cancelled | Status::BudgetExceeded | Status::Interrupted => {
            let raise = || face.task_key("Raise", task, What::Raise(render::budget_mark(task)));
            let raise = if render::can_be_raised(task) { raise() } else { None };
            [raise, face.task_key("Retry", task, What::Retry(task.run)), logs].into_iter().flatten().collect()
        }
    };
    vec![row]
}

/// A card that asks whether something is to be done: `heading` says what, in HTML. `why`: why it is asked, in a
/// sentence; may be empty.
pub(crate) fn run_this(heading: &str, command: &str, update: u32, why: &str, face: &Face) -> Card {
    const COMMAND_MAX: usize = 3000;
    let clean = text::clean(command, face.mask);
    let mut lines = vec![heading.to_owned(), pre(&text::cut(&clean, COMMAND_MAX))];
    if units(&clean) > COMMAND_MAX {
        lines
            .push(format!("<b>{} more characters are not shown.</b>", thousands((units(&clean) - COMMAND_MAX) as u64)));
    }
    if clean != command.replace("\r\n", "\n") {
        lines.push("<b>It holds characters that are not shown.</b>".to_owned());
    }
    lines.push(escape(why));
    let keys = [face.key("Run", &Button::Run(update)), face.key("Drop", &Button::Drop(update))];
    Card::new(&lines, vec![keys.into_iter().flatten().collect()])
}

#[cfg(test)]
#[path = "card/tests.rs"]
pub(crate) mod tests;
