//! A task's output: short ones in a message, long ones as a file.

use octo::command::Refused;
use octo::render::name_of;
use octo::task::Task;

use super::{Hands, Who};
use crate::telegram::calls::{Desk, Output};
use crate::telegram::card::Card;
use crate::telegram::errand::{Errand, Note};
use crate::telegram::post::Post;
use crate::telegram::text::{self, pre, units};

/// The most output that is sent, in bytes.
const OUTPUT_MAX: u32 = 2 * 1024 * 1024;

/// The longest output that is sent in a message, in UTF-16 units.
const INLINE_MAX: usize = 3500;

/// Units of output below a file; a caption may have 1,024 in all.
const CAPTION_TAIL: usize = 600;

/// The output as text; what is before the first line end is left out where it is not the log's beginning, since it may
/// be half a line.
pub(super) fn whole_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.bytes).into_owned();
    match text.find('\n') {
        Some(at) if output.from > 0 => text[at + 1..].to_owned(),
        _ => text,
    }
}

impl<D: Desk> Hands<D> {
    /// `/task ID logs`.
    pub(super) async fn logs(&self, who: Who, task: &Task) -> Result<Vec<Errand>, Refused> {
        let output = self.desk.output(task.id, OUTPUT_MAX).await?;
        let text = text::clean(&whole_lines(&output), &self.mask);
        let text = text.trim_end();
        let name = name_of(task);
        if text.trim().is_empty() {
            let yet = if task.status.is_ended() { "" } else { " yet" };
            return Ok(vec![self.say(who, format!("<b>{name}</b> has printed nothing{yet}."))]);
        }
        let cut = if output.from > 0 { " (its end)" } else { "" };
        let head = format!("Output of <b>{name}</b>{cut}:");
        if units(text) <= INLINE_MAX {
            return Ok(vec![self.send(who, Card::new(&[head, pre(text)], Vec::new()), Note::Nothing)]);
        }
        let caption = format!("{head}\n{}", pre(&text::tail(text, 8, CAPTION_TAIL)));
        let file = format!("task-{}-{}.txt", task.number, task.id);
        let bytes = format!("{text}\n").into_bytes();
        Ok(vec![Post::Document { chat: who.chat, name: file, bytes, caption }.into()])
    }
}
