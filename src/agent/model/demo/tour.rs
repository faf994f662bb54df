//! A demo that shows what an agent is: it looks around, reads a file, asks, and completes its task.

use serde_json::{Map, Value, json};

use super::Turn;
use crate::agent::model::{Message, Request, ToolCall};

/// The last user's message, and where it stands.
pub(super) fn last_user(request: &Request) -> Option<(usize, &str)> {
    request.messages.iter().enumerate().rev().find_map(|(at, message)| match message {
        Message::User { text } => Some((at, text.as_str())),
        Message::System { .. } | Message::Assistant(_) | Message::ToolResult { .. } => None,
    })
}

/// What was done since the last user's message.
struct Past<'a> {
    /// The calls, each with its result when there is one.
    calls: Vec<(&'a ToolCall, Option<(&'a str, bool)>)>,
    /// How many messages the conversation has had.
    messages: usize,
}

impl<'a> Past<'a> {
    fn of(request: &'a Request) -> Past<'a> {
        let start = last_user(request).map_or(0, |(at, _)| at);
        let mut past = Past { calls: Vec::new(), messages: request.messages.len() };
        for message in &request.messages[start.min(request.messages.len())..] {
            match message {
                Message::Assistant(said) => past.calls.extend(said.calls.iter().map(|call| (call, None))),
                Message::ToolResult { call, text, is_error } => {
                    if let Some(found) = past.calls.iter_mut().find(|(known, _)| known.id == *call) {
                        found.1 = Some((text, *is_error));
                    }
                }
                Message::System { .. } | Message::User { .. } => {}
            }
        }
        past
    }

    fn called(&self, tool: &str) -> bool {
        self.calls.iter().any(|(call, _)| call.name == tool)
    }

    /// The result of a tool that worked.
    fn result(&self, tool: &str) -> Option<&'a str> {
        let (_, result) = self.calls.iter().find(|(call, _)| call.name == tool)?;
        result.filter(|(_, is_error)| !is_error).map(|(text, _)| text)
    }
}

pub(super) fn turn(request: &Request) -> Turn {
    let past = Past::of(request);
    let may = |tool: &str| request.offers(tool) && !past.called(tool);
    if may("list_files") {
        let text = "A real model would now think about your task. I only show what an agent can do, and begin by \
                    looking around.";
        return call(&past, text, "list_files", path_argument(request, "list_files", "."));
    }
    let file = past.result("list_files").and_then(file_to_read);
    if may("read_file")
        && let Some(file) = &file
    {
        let text = format!("There is a file `{file}`. I read it.");
        return call(&past, text, "read_file", path_argument(request, "read_file", file));
    }
    if may("escalate_question") {
        let question = "This is the question of a demo; nothing depends on it. How shall I say goodbye?";
        let arguments = json!({"question": question, "choices": ["briefly", "at length"]});
        let text = "Now I ask you something. I wait until you answer, also over a restart.";
        return call(&past, text, "escalate_question", arguments);
    }
    let summary = summary(&past, file.as_deref());
    if may("task_complete") {
        let arguments = json!({"summary": format!("[a demo, no real model] {summary}")});
        return call(&past, "That was all.", "task_complete", arguments);
    }
    Turn::say(summary)
}

fn call(past: &Past, text: impl Into<String>, tool: &str, arguments: Value) -> Turn {
    let mut turn = Turn::say(text);
    // The length of the conversation makes it unlike every other id in it.
    let id = format!("tour_{}", past.messages);
    turn.said.calls.push(ToolCall { id, name: tool.to_owned(), arguments });
    turn
}

fn summary(past: &Past, file: Option<&str>) -> String {
    let mut parts = Vec::new();
    match past.result("list_files") {
        Some(list) => parts.push(format!("I looked around ({} lines came back)", list.lines().count())),
        None if past.called("list_files") => parts.push("I tried to look around, which failed".to_owned()),
        None => {}
    }
    match (past.result("read_file"), file) {
        (Some(text), Some(file)) => parts.push(format!("read `{file}` ({} bytes)", text.len())),
        (None, Some(file)) if past.called("read_file") => parts.push(format!("could not read `{file}`")),
        _ => {}
    }
    match past.result("escalate_question") {
        Some(answer) => parts.push(format!("and asked you a question, to which you answered: {}", answer.trim())),
        None if past.called("escalate_question") => parts.push("and asked you a question without an answer".to_owned()),
        None => {}
    }
    if parts.is_empty() {
        parts.push("I was offered no tool that I know, so there was nothing to show".to_owned());
    }
    format!(
        "{}. With a model of your own, an agent does the task instead: set OCTO_MODEL and its key.",
        parts.join(", ")
    )
}

/// The file worth reading among what a list shows: a README before other texts.
fn file_to_read(list: &str) -> Option<String> {
    let words = list.split_whitespace().map(|word| word.trim_matches(|c: char| "\"',`[]".contains(c)));
    let files: Vec<&str> = words.filter(|word| is_file(word)).collect();
    let readme = files.iter().find(|file| file.to_ascii_lowercase().contains("readme"));
    let text = || files.iter().find(|file| [".md", ".txt", ".toml"].iter().any(|end| file.ends_with(end)));
    readme.or_else(text).or_else(|| files.first()).map(|file| (*file).to_owned())
}

fn is_file(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(start, end)| (!start.is_empty(), end));
    let named = ending.is_some_and(|(start, end)| start && !end.is_empty() && end.len() <= 5);
    (named && !name.ends_with('.') && name.chars().any(char::is_alphabetic)) || name == "README" || name == "Makefile"
}

/// The arguments of a tool that takes a path, under the name that its schema gives it.
pub(super) fn path_argument(request: &Request, tool: &str, path: &str) -> Value {
    let spec = request.tools.iter().find(|spec| spec.name == tool);
    let known = spec.and_then(|spec| spec.schema.get("properties")).and_then(Value::as_object);
    let names = ["path", "file", "file_path", "folder", "dir", "directory"];
    let name = names.into_iter().find(|name| known.is_some_and(|known| known.contains_key(*name)));
    let pair = name.map(|name| (name.to_owned(), Value::String(path.to_owned())));
    Value::Object(pair.into_iter().collect::<Map<String, Value>>())
}
