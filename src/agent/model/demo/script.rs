//! A demo that plays a script, for tests of the machinery from outside.
//!
//! The script is the first user's message of the conversation, or what follows a line `script:` in it (up to a line
//! `end of script`); with `demo/script:FILE` it is that file, looked for from the workspace. One reply after the other is
//! played; a line `---` ends one. When the script is over, further replies say so and end the turn.
//!
//! ```text
//! # what follows a # at the beginning of a line is for readers
//! say I look around.
//! call list_files {"path": "."}
//! ---
//! say I saw: {result}
//! call escalate_question {"question": "Go on?", "choices": ["yes", "no"]}
//! ---
//! fail overloaded 2
//! say You said {result}.
//! tokens 5000 1000
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `say TEXT` | words of the reply; several lines stay lines |
//! | `call TOOL {JSON}` | a tool to call; without JSON, with no arguments |
//! | `tokens INPUT OUTPUT` | what the reply claims to have used |
//! | `wait SECONDS` | silence before the first word |
//! | `slow MILLISECONDS` | silence after each word |
//! | `stop WORD` | why it stops: `max_tokens`, `refusal`, or any word |
//! | `fail KIND [TIMES] [SECONDS]` | fails so often (once) before the reply comes; the server asks to wait so long |
//!
//! The kinds of failure: `rate_limited`, `overloaded`, `server`, `network`, `cut`, `malformed`, `refused`, `overflow`,
//! `bad_key`, `no_credit`. `{result}` in a text or in JSON stands for the latest tool's result, `{result:2}` for the
//! second one of the conversation.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Turn;
use crate::agent::model::{ErrorKind, Message, ModelError, Request, Stop, ToolCall};

/// The largest script that is read from a file.
const LARGEST: u64 = 1 << 20;

/// One turn, and how often it fails first.
pub(super) struct Scripted {
    pub(super) turn: Turn,
    pub(super) fail: Option<(ModelError, u32)>,
}

pub(super) fn turn(request: &Request, file: &str, folder: &Path) -> Result<Scripted, ModelError> {
    let from_prompt = file.is_empty();
    let text = if from_prompt { in_prompt(request) } else { in_file(&folder.join(file), file)? };
    let step = request.messages.iter().filter(|m| matches!(m, Message::Assistant(_))).count();
    let results: Vec<&str> = request.messages.iter().filter_map(result).collect();
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    for _ in 0..step {
        // `by_ref` goes on behind the line that was found.
        lines.by_ref().find(|(_, line)| *line == "---");
    }
    let lines: Vec<(usize, &str)> = lines.take_while(|(_, line)| *line != "---").collect();
    if lines.is_empty() {
        return Ok(Scripted { turn: Turn::say("The script is over."), fail: None });
    }
    let mut scripted = Scripted { turn: Turn::default(), fail: None };
    let mut said: Vec<String> = Vec::new();
    for (number, line) in lines {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let wrong = |why: &str| invalid(format!("line {number} of the script: {why}"));
        match word {
            "say" => said.push(filled(rest, &results)),
            "call" => scripted.turn.said.calls.push(call(rest, number, &results).map_err(|why| wrong(&why))?),
            "tokens" => {
                let numbers: Option<Vec<u64>> = rest.split_whitespace().map(|n| n.parse().ok()).collect();
                match numbers.as_deref() {
                    Some([input, output]) => scripted.turn.usage = Some((*input, *output)),
                    _ => return Err(wrong("`tokens` takes two numbers")),
                }
            }
            "wait" => scripted.turn.wait = seconds(rest).ok_or_else(|| wrong("`wait` takes seconds"))?,
            "slow" => {
                let ms = rest.trim().parse().map_err(|_| wrong("`slow` takes milliseconds"))?;
                scripted.turn.slow = Duration::from_millis(ms);
            }
            "stop" => scripted.turn.stop = Some(stop(rest.trim())),
            "fail" => scripted.fail = Some(fail(rest).map_err(|why| wrong(&why))?),
            _ => return Err(wrong("it begins with none of: say, call, tokens, wait, slow, stop, fail, ---, #")),
        }
    }
    scripted.turn.said.text = said.join("\n");
    Ok(scripted)
}

fn invalid(message: String) -> ModelError {
    ModelError::new(ErrorKind::Invalid, message)
}

fn in_prompt(request: &Request) -> String {
    let prompt = request.messages.iter().find_map(|message| match message {
        Message::User { text } => Some(text.as_str()),
        Message::System { .. } | Message::Assistant(_) | Message::ToolResult { .. } => None,
    });
    let prompt = prompt.unwrap_or_default();
    let marked = prompt.lines().position(|line| line.trim() == "script:");
    let lines = prompt.lines().skip(marked.map_or(0, |at| at + 1));
    lines.take_while(|line| line.trim() != "end of script").collect::<Vec<_>>().join("\n")
}

fn in_file(path: &Path, shown: &str) -> Result<String, ModelError> {
    let meta = std::fs::metadata(path);
    if meta.as_ref().is_ok_and(|meta| !meta.is_file() || meta.len() > LARGEST) {
        return Err(invalid(format!("the script `{shown}` is no file of at most 1 MiB")));
    }
    let read = meta.and_then(|_| std::fs::read_to_string(path));
    read.map_err(|error| invalid(format!("the script `{shown}` cannot be read: {error}")))
}

fn result(message: &Message) -> Option<&str> {
    match message {
        Message::ToolResult { text, .. } => Some(text),
        Message::System { .. } | Message::User { .. } | Message::Assistant(_) => None,
    }
}

fn call(rest: &str, number: usize, results: &[&str]) -> Result<ToolCall, String> {
    let (name, arguments) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), "{}"));
    if name.is_empty() {
        return Err("`call` takes the name of a tool".to_owned());
    }
    let mut arguments: Value = serde_json::from_str(arguments).map_err(|error| format!("no JSON: {error}"))?;
    fill(&mut arguments, results);
    // The line is the same in no other call, as long as no line is played twice.
    Ok(ToolCall { id: format!("script_{number}"), name: name.to_owned(), arguments })
}

fn fill(value: &mut Value, results: &[&str]) {
    match value {
        Value::String(text) => *text = filled(text, results),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, results)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, results)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// In one pass, so that a result which holds such a mark is not filled in again.
fn filled(text: &str, results: &[&str]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("{result") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find('}') else { break };
        let which = match rest["{result".len()..end].strip_prefix(':') {
            Some(number) => number.parse::<usize>().ok().and_then(|n| results.get(n.checked_sub(1)?)),
            None if end == "{result".len() => results.last(),
            None => None,
        };
        out.push_str(which.copied().unwrap_or(&rest[..=end]));
        rest = &rest[end + 1..];
    }
    out + rest
}

fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok())
}

fn stop(word: &str) -> Stop {
    serde_json::from_value(json!(word)).unwrap_or(Stop::EndTurn)
}

fn fail(rest: &str) -> Result<(ModelError, u32), String> {
    let mut words = rest.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let times = words.next().map_or(Ok(1), |n| n.parse().map_err(|_| "`fail KIND TIMES` takes a number"))?;
    let wait = words.next().map(|s| seconds(s).ok_or("`fail KIND TIMES SECONDS` takes seconds")).transpose()?;
    let message = format!("a demo's script says: {kind}");
    let kind = match kind {
        "rate_limited" => return Ok((ModelError::rate_limited(message, wait, Timestamp::now()), times)),
        "overloaded" => ErrorKind::Overloaded,
        "server" => ErrorKind::Server(500),
        "network" => ErrorKind::Network,
        "cut" => ErrorKind::Cut,
        "malformed" => ErrorKind::Malformed,
        "refused" => ErrorKind::Refused(400),
        "overflow" => ErrorKind::ContextOverflow,
        "bad_key" => ErrorKind::BadKey,
        "no_credit" => ErrorKind::NoCredit,
        _ => return Err(format!("there is no failure `{kind}`")),
    };
    Ok((ModelError { kind, message, retry_after: wait }, times))
}
