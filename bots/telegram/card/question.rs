//! Cards of questions: open ones with their choices as buttons, closed ones with what became of them.

use octo::render::{name_of, thousands};
use octo::task::{ALLOW, ALLOW_FOR_TASK, Action, Closed, DENY, PERMISSION, Question, Task};

use super::{Card, Face};
use crate::telegram::post::{Key, Keys};
use crate::telegram::seal::What;
use crate::telegram::text::{clean, code, cut, escape, pre, units};

/// Units of a question's text.
const TEXT_MAX: usize = 1500;
/// Units of an action.
const ACTION_SHOWN: usize = 2200;
/// Choices that have a button.
const BUTTONS_MAX: usize = 24;
/// Units on a button.
const LABEL_MAX: usize = 48;

/// The card of a question as it stands. `again`: it was asked before, and this is a reminder.
pub(crate) fn asks(task: &Task, question: &Question, again: bool, face: &Face) -> Card {
    if !question.open {
        return closed(task, question, face);
    }
    let name = name_of(task);
    let still = if again { "still " } else { "" };
    let mut lines = Vec::new();
    let mut cut_short = false;
    match &question.action {
        Some(action) if question.is_permission() => {
            lines.push(format!("? <b>{name}</b> {still}asks for permission"));
            lines.push(code(&face.line(task.title(), 120)));
            cut_short = push_action(&mut lines, action, face);
            // Octo's own sentence, for a task that says nothing.
            if question.text != format!("May it use {}?", action.tool) {
                push_words(&mut lines, "The task says:", question, 400, face);
            }
            if question.choices.iter().any(|c| c == ALLOW_FOR_TASK) {
                lines.push(format!(
                    "“Allow for this task” also allows every later use of {} by this task, whatever it does, unasked.",
                    code(&face.line(&action.tool, 40))
                ));
            }
        }
        _ => {
            lines.push(format!("? <b>{name}</b> {still}asks, in its own words:"));
            push_words(&mut lines, "", question, TEXT_MAX, face);
            lines.push(format!("from {}", code(&face.line(task.title(), 120))));
        }
    }
    let labels = labels(question, face);
    lines.push(long_choices(question, &labels, face));
    lines.push(how(question, labels.len(), face));
    lines.push(others(task, question));
    Card::new(&lines, keys(task, question, &labels, cut_short, face))
}

/// A reminder below the card of a question. What asks for permission is shown whole again: nobody should allow what
/// they do not see.
pub(crate) fn still_asks(task: &Task, question: &Question, face: &Face) -> Card {
    let whole = asks(task, question, true, face);
    if question.is_permission() || !question.open {
        return whole;
    }
    let said = format!("? <b>{}</b> still asks: {}", name_of(task), code(&face.line(&question.text, 100)));
    let labels = labels(question, face);
    Card::new(&[said, how(question, labels.len(), face)], whole.keys)
}

/// The task's words, and that they were cut.
fn push_words(lines: &mut Vec<String>, lead: &str, question: &Question, most: usize, face: &Face) {
    let words = clean(&question.text, face.mask);
    if words.trim().is_empty() {
        return;
    }
    lines.push(lead.to_owned());
    lines.push(pre(&cut(&words, most)));
}

/// The exact action; tells whether not all of it is shown.
fn push_action(lines: &mut Vec<String>, action: &Action, face: &Face) -> bool {
    let folder = face.line(&action.folder, 200);
    let place = if folder.is_empty() { String::new() } else { format!(" in {}", code(&folder)) };
    lines.push(format!("{}{place}:", code(&face.line(&action.tool, 40))));
    let shown = clean(&action.what, face.mask);
    let cut_short = units(&shown) > ACTION_SHOWN;
    let text = cut(shown.trim_end(), ACTION_SHOWN);
    lines.push(if action.format == "diff" {
        format!("<pre><code class=\"language-diff\">{}</code></pre>", escape(&text))
    } else {
        pre(&text)
    });
    if cut_short {
        let left = thousands((units(&shown) - units(&text)) as u64);
        lines.push(format!("<b>{left} more characters are not shown here: “Show all” sends them.</b>"));
    }
    if shown != action.what.replace("\r\n", "\n") {
        lines.push("<b>It holds control or invisible characters or secrets, which are not shown.</b>".to_owned());
    }
    cut_short
}

/// What its buttons say, in the order of the choices.
fn labels(question: &Question, face: &Face) -> Vec<String> {
    let label = |(n, choice): (usize, &String)| {
        let text = match choice.as_str() {
            ALLOW if question.kind == PERMISSION => "Allow".to_owned(),
            ALLOW_FOR_TASK if question.kind == PERMISSION => "Allow for this task".to_owned(),
            DENY if question.kind == PERMISSION => "Deny".to_owned(),
            other => face.line(other, LABEL_MAX),
        };
        if text.trim().is_empty() { (n + 1).to_string() } else { text }
    };
    question.choices.iter().enumerate().take(BUTTONS_MAX).map(label).collect()
}

/// The choices in full, where buttons cannot hold them or there are too many for buttons.
fn long_choices(question: &Question, labels: &[String], face: &Face) -> String {
    let whole = question.choices.len() == labels.len();
    if whole && question.choices.iter().all(|c| units(&face.line(c, 2 * LABEL_MAX)) <= LABEL_MAX) {
        return String::new();
    }
    const SHOWN: usize = 60;
    let most = (1200 / question.choices.len().min(SHOWN)).clamp(8, 200);
    let numbered = |(n, c): (usize, &String)| format!("{}. {}", n + 1, face.line(c, most));
    let mut all: Vec<String> = question.choices.iter().enumerate().take(SHOWN).map(numbered).collect();
    if question.choices.len() > SHOWN {
        all.push(format!("… {} more", question.choices.len() - SHOWN));
    }
    pre(&all.join("\n"))
}

/// How it is answered, and until when.
fn how(question: &Question, buttons: usize, face: &Face) -> String {
    let mut how = match (question.choices.is_empty(), question.free) {
        (true, _) => "Reply to this message to answer.".to_owned(),
        (false, true) => "Tap, or reply to this message with words of your own.".to_owned(),
        (false, false) if question.choices.len() > buttons => {
            "Tap, or reply to this message with the number of a choice.".to_owned()
        }
        (false, false) => String::new(),
    };
    let until = face.clock(&question.deadline);
    if !until.is_empty() {
        how.push_str(&format!(" It waits until {until}."));
    }
    how.trim_start().to_owned()
}

fn others(task: &Task, question: &Question) -> String {
    match task.questions.iter().filter(|q| q.open && q.id != question.id).count() {
        0 => String::new(),
        1 => "One more question of this task is open.".to_owned(),
        n => format!("{n} more questions of this task are open."),
    }
}

fn keys(task: &Task, question: &Question, labels: &[String], cut_short: bool, face: &Face) -> Keys {
    let answer = |n: usize| {
        let option = u16::try_from(n).ok()?;
        face.task_key(labels.get(n)?, task, What::Answer(question.id.clone(), option))
    };
    let mut rows: Keys = Vec::new();
    if question.is_permission() {
        // The far-reaching one stands apart.
        let far = |n: &usize| question.choices[*n] == ALLOW_FOR_TASK;
        let near: Vec<Key> = (0..labels.len()).filter(|n| !far(n)).filter_map(answer).collect();
        rows.extend(near.chunks(3).map(<[Key]>::to_vec));
        rows.extend((0..labels.len()).filter(far).filter_map(answer).map(|key| vec![key]));
    } else {
        let widest = labels.iter().map(|l| units(l)).max().unwrap_or(0);
        let in_a_row = match widest {
            ..=12 => 3,
            13..=20 => 2,
            _ => 1,
        };
        let all: Vec<Key> = (0..labels.len()).filter_map(answer).collect();
        rows.extend(all.chunks(in_a_row).map(<[Key]>::to_vec));
    }
    // Each card has a button, so that a reply finds its question by the card alone.
    let show = if cut_short { "Show all" } else { "Task" };
    rows.extend(face.task_key(show, task, What::Show(question.id.clone())).map(|key| vec![key]));
    rows.retain(|row| !row.is_empty());
    rows
}

/// The card of a question that is closed: no buttons.
fn closed(task: &Task, question: &Question, face: &Face) -> Card {
    let icon = if question.closed == Some(Closed::Answered) { "✓" } else { "✗" };
    let mut lines = Vec::new();
    if let Some(action) = question.action.as_ref().filter(|_| question.is_permission()) {
        lines.push(format!("{icon} <b>{}</b> asked for permission", name_of(task)));
        let what = cut(clean(&action.what, face.mask).trim_end(), 600);
        lines.push(format!("{}:", code(&face.line(&action.tool, 40))));
        lines.push(pre(&what));
    } else {
        lines.push(format!("{icon} <b>{}</b> asked", name_of(task)));
        push_words(&mut lines, "", question, 600, face);
    }
    lines.push(match given(task, question) {
        Some(answer) => format!("{}: {}", escape(&by_whom(answer, face)), code(&face.line(&answer.text, 400))),
        None => unanswered(question).to_owned(),
    });
    Card::new(&lines, Vec::new())
}

fn given<'a>(task: &'a Task, question: &Question) -> Option<&'a octo::task::Answer> {
    task.answers
        .iter()
        .find(|a| a.question == question.id)
        .filter(|_| question.closed.is_none_or(|c| c == Closed::Answered))
}

fn by_whom(answer: &octo::task::Answer, face: &Face) -> String {
    format!("answered by {} at {}", face.who(&answer.by), face.clock(&answer.at))
}

fn unanswered(question: &Question) -> &'static str {
    match question.closed {
        Some(Closed::NoAnswer) => "no answer in time",
        Some(Closed::TaskEnded) => "task ended",
        Some(Closed::Answered) | None => "closed",
    }
}

/// What became of a closed question, without HTML: `answered by REPL at 12:03: yes`.
pub(crate) fn closed_words(task: &Task, question: &Question, face: &Face) -> String {
    match given(task, question) {
        Some(answer) => format!("{}: {}", by_whom(answer, face), face.line(&answer.text, 100)),
        None => unanswered(question).to_owned(),
    }
}

/// Tells whether a card cannot hold the whole action.
pub(crate) fn is_cut(action: &Action, face: &Face) -> bool {
    units(&clean(&action.what, face.mask)) > ACTION_SHOWN
}

/// The whole action of a request for permission, for a file.
pub(crate) fn whole_action(action: &Action, face: &Face) -> String {
    let (tool, folder) = (face.line(&action.tool, 200), face.line(&action.folder, 2000));
    format!("{tool} in {folder}\n\n{}\n", clean(&action.what, face.mask).trim_end())
}
