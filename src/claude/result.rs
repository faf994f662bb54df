//! Reads how a print-mode `claude` ended from its log, and judges it.
//!
//! The log is claude's standard output and standard error in one file: one event a line
//! (`stream-json`), one object (`json`), or one array on one line (`json` with `--verbose`), with stray lines
//! between them, and the last line cut where claude was killed. Only `is_error` of the last result event
//! tells success: API errors come with `subtype: "success"`, and some with exit code 0.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::single::ClaudeCommand;
use crate::task::{RESULT_MAX, Usage};

/// How much of a log's end is read, in bytes. The result event is claude's last line; 16 MiB leave room
/// for a whole `--verbose` array and for noise behind it, and bound the memory.
const WINDOW: u64 = 16 * 1024 * 1024;

/// How much of a log's beginning is read for the session id when its end names none, in bytes.
const HEAD: u64 = 1024 * 1024;

/// How many bytes are parsed in vain before the rest of a log is given up: hostile output must not buy time.
const WASTE: usize = 16 * 1024 * 1024;

/// The event that claude ends with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResultEvent {
    /// `success`, `error_max_turns`, `error_max_budget_usd`, `error_during_execution`, ...
    pub subtype: String,
    /// Whether it failed; the only thing that tells.
    pub is_error: bool,
    /// The answer, or the API's error.
    pub result: String,
    /// What went wrong in claude itself.
    pub errors: Vec<String>,
    /// The session, to resume it by.
    pub session_id: String,
    /// US dollars of the whole session so far, earlier runs that were resumed included.
    pub total_cost_usd: Option<f64>,
    /// Tokens read for this result by the main conversation, cached ones included.
    pub input_tokens: u64,
    /// Tokens written for this result by the main conversation.
    pub output_tokens: u64,
    /// What all models used since the result before it, or since the start of this process; `None` where
    /// claude does not tell (the `json` format).
    pub since_last: Option<Spent>,
    /// What all models used in the whole session so far, where claude tells.
    pub session: Option<Spent>,
    /// Turns since the result before it.
    pub num_turns: u64,
    /// `completed`, `api_error`, `max_turns`, `budget_exhausted`, ...; empty in some versions.
    pub terminal_reason: String,
}

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// US dollars; `None`: not known.
    pub cost_usd: Option<f64>,
}

/// What a log tells about the claude that wrote it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClaudeOutcome {
    /// The last result event; `None` when claude ended without one.
    pub result: Option<ResultEvent>,
    /// The session of the last event that names one.
    pub session_id: Option<String>,
    /// The result events before it, the newest first: there are some where the input held several prompts.
    pub earlier: Vec<ResultEvent>,
    /// The last line that is no event, such as an error message; at most 300 characters.
    pub last_words: String,
}

/// How a claude task ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// `None`: it completed. Otherwise why it did not, in words for people.
    pub failed: Option<String>,
    /// It failed because it cost as much as it might.
    pub over_budget: bool,
    /// The answer, or as much of its end as a record holds; empty without one.
    pub result: String,
    /// What it used of models, without what earlier runs of a resumed session used.
    pub usage: Usage,
    /// The session to resume; empty when none is known.
    pub session_id: String,
}

/// Reads the outcome from the log of a task that [`is_single_claude`](super::is_single_claude) with a
/// JSON output format.
///
/// Reads at most 17 MiB, however long the log is. Lines that are no events are passed over.
///
/// # Errors
/// Those of opening and reading the file.
pub fn read_result(log: &Path) -> io::Result<ClaudeOutcome> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    let mut outcome = scan(&part(&mut file, len.saturating_sub(WINDOW), WINDOW)?);
    if outcome.session_id.is_none() && len > WINDOW {
        outcome.session_id = scan(&part(&mut file, 0, HEAD)?).session_id;
    }
    Ok(outcome)
}

fn part(file: &mut File, from: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Tells how the task that ran `command` ended, from its exit code (`None`: a signal ended it) and its log.
#[must_use]
pub fn judge(command: &ClaudeCommand, exit: Option<i32>, outcome: &ClaudeOutcome) -> Judgement {
    let ended = exit.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
    let session_id = outcome.session_id.clone().unwrap_or_default();
    let Some(event) = &outcome.result else {
        let said = if outcome.last_words.is_empty() { String::new() } else { format!(": {}", outcome.last_words) };
        let failed = Some(format!("claude gave no result ({ended}){said}"));
        return Judgement { failed, session_id, ..Judgement::default() };
    };
    let failed = match exit {
        _ if event.is_error => Some(format!("claude failed: {} ({ended})", reason(event))),
        Some(0) => None,
        _ => Some(format!("{ended}, although claude gave a good result")),
    };
    let over_budget =
        event.is_error && (event.subtype == "error_max_budget_usd" || event.terminal_reason == "budget_exhausted");
    let result = tail(&event.result, RESULT_MAX).to_owned();
    Judgement { failed, over_budget, result, usage: usage(command.resumes, event, &outcome.earlier), session_id }
}

/// Why a claude without JSON failed, if it is that it cost as much as it might: the last words of its output say so.
#[must_use]
pub fn over_budget_in_words(exit: Option<i32>, output: &str) -> Option<String> {
    let last = output.trim_end().lines().next_back()?.strip_prefix("Error: ")?;
    let says_so = exit == Some(1) && last.starts_with("Exceeded USD budget (");
    says_so.then(|| format!("claude failed: {}", one_line(last, 1000)))
}

/// What one run used, whose last result event is `last`.
///
/// The session's totals are this run's own only where it resumed nothing. Where it did and claude does
/// not tell what is new, the cost is unknown, and the session's is kept beside it.
fn usage(resumes: bool, last: &ResultEvent, earlier: &[ResultEvent]) -> Usage {
    let all = || std::iter::once(last).chain(earlier);
    let own: Option<Vec<Spent>> = all().map(|event| event.since_last).collect();
    let mut usage = Usage { turns: all().map(|e| e.num_turns).fold(0, u64::saturating_add), ..Usage::default() };
    let spent = match (own, last.session) {
        (Some(parts), _) => sum(&parts),
        (None, Some(session)) if !resumes => Spent { cost_usd: last.total_cost_usd, ..session },
        _ => {
            let parts: Vec<Spent> = all().map(ResultEvent::main_conversation).collect();
            Spent { cost_usd: last.total_cost_usd.filter(|_| !resumes), ..sum(&parts) }
        }
    };
    if let Some(total) = last.total_cost_usd.filter(|_| resumes) {
        usage.extra.insert("session_cost_usd".to_owned(), total.into());
    }
    (usage.input_tokens, usage.output_tokens, usage.cost_usd) =
        (spent.input_tokens, spent.output_tokens, spent.cost_usd);
    usage
}

/// Adds up; the cost is known where every part's is.
fn sum(parts: &[Spent]) -> Spent {
    let tokens = |of: fn(&Spent) -> u64| parts.iter().map(of).fold(0, u64::saturating_add);
    Spent {
        input_tokens: tokens(|p| p.input_tokens),
        output_tokens: tokens(|p| p.output_tokens),
        cost_usd: parts.iter().map(|p| p.cost_usd).sum(),
    }
}

/// Why claude says that it failed, on one line.
fn reason(event: &ResultEvent) -> String {
    let told = [event.errors.join("; "), event.result.clone()];
    let fallback = [&event.terminal_reason, &event.subtype].into_iter().find(|s| !s.is_empty());
    let told = told.iter().find(|s| !s.trim().is_empty()).or(fallback);
    told.map_or_else(|| "it does not say why".to_owned(), |s| one_line(s, 1000))
}

/// Everything that one stretch of a log says, read from its end.
fn scan(bytes: &[u8]) -> ClaudeOutcome {
    let mut outcome = ClaudeOutcome::default();
    let mut results = Vec::new();
    let mut budget = WASTE;
    for line in bytes.rsplit(|b| *b == b'\n') {
        let events = events(line, &mut budget);
        let session = events.iter().rev().find_map(Event::session_id).map(str::to_owned);
        outcome.session_id = outcome.session_id.or(session);
        if outcome.last_words.is_empty() && events.is_empty() && !looks_like_json(line) {
            outcome.last_words = one_line(&String::from_utf8_lossy(&line[..line.len().min(2000)]), 300);
        }
        results.extend(events.into_iter().rev().filter_map(Event::result));
    }
    let mut results = results.into_iter();
    outcome.result = results.next();
    outcome.earlier = results.collect();
    if let Some(event) = &outcome.result {
        outcome.session_id = Some(event.session_id.clone());
    }
    outcome
}

fn looks_like_json(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(b"{\"") || line.starts_with(b"[{\"")
}

/// The events on one line: usually one, or an array of them, or one behind other text.
///
/// Whatever parses is passed over as a whole, so that nothing inside an event counts as one. `budget`
/// pays for what looks like an event and is none.
fn events(line: &[u8], budget: &mut usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = 0;
    while let Some(start) = find(&line[at..], b"{\"").filter(|_| *budget > 0) {
        at += start;
        let mut stream = serde_json::Deserializer::from_slice(&line[at..]).into_iter::<Event>();
        match stream.next() {
            Some(Ok(event)) => {
                at += stream.byte_offset();
                events.extend(event.kind.is_some().then_some(event));
            }
            Some(Err(error)) => {
                *budget = budget.saturating_sub(error.column() + 1);
                at += 2;
            }
            None => break,
        }
    }
    events
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// One event as it stands in the log. Every field is read leniently: a surprise in one of them must not
/// lose the others.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<Value>,
    session_id: Option<Value>,
    subtype: Option<Value>,
    is_error: Option<Value>,
    result: Option<Value>,
    errors: Option<Value>,
    total_cost_usd: Option<Value>,
    num_turns: Option<Value>,
    terminal_reason: Option<Value>,
    usage: Option<Value>,
    #[serde(rename = "modelUsage")]
    model_usage: Option<Value>,
    model_usage_since_last_result: Option<Value>,
}

impl ResultEvent {
    fn main_conversation(&self) -> Spent {
        Spent { input_tokens: self.input_tokens, output_tokens: self.output_tokens, cost_usd: None }
    }
}

impl Event {
    fn session_id(&self) -> Option<&str> {
        self.kind.as_ref()?;
        self.session_id.as_ref()?.as_str().filter(|s| !s.is_empty())
    }

    fn result(self) -> Option<ResultEvent> {
        if self.kind.as_ref()?.as_str() != Some("result") || self.session_id().is_none() {
            return None;
        }
        let subtype = text(&self.subtype);
        Some(ResultEvent {
            is_error: self.is_error.as_ref().and_then(Value::as_bool).unwrap_or(subtype != "success"),
            result: self.result.as_ref().map(plain).unwrap_or_default(),
            errors: self
                .errors
                .as_ref()
                .and_then(Value::as_array)
                .map(|e| e.iter().map(plain).collect())
                .unwrap_or_default(),
            session_id: text(&self.session_id),
            total_cost_usd: self.total_cost_usd.as_ref().and_then(Value::as_f64),
            input_tokens: input_of(&self.usage),
            output_tokens: count(&self.usage, "output_tokens"),
            since_last: spent(&self.model_usage_since_last_result),
            session: spent(&self.model_usage),
            num_turns: self.num_turns.as_ref().and_then(Value::as_u64).unwrap_or(0),
            terminal_reason: text(&self.terminal_reason),
            subtype,
        })
    }
}

/// Sums the use of all models in a `modelUsage` object.
fn spent(models: &Option<Value>) -> Option<Spent> {
    let parts: Vec<Spent> = models.as_ref()?.as_object()?.values().map(spent_by_model).collect();
    Some(sum(&parts))
}

fn spent_by_model(model: &Value) -> Spent {
    let get = |name: &str| model.get(name).and_then(Value::as_u64).unwrap_or(0);
    let read = ["inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"];
    Spent {
        input_tokens: read.into_iter().map(get).fold(0, u64::saturating_add),
        output_tokens: get("outputTokens"),
        cost_usd: model.get("costUSD").and_then(Value::as_f64),
    }
}

/// The tokens read, according to a result's own `usage`.
fn input_of(usage: &Option<Value>) -> u64 {
    let kinds = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    kinds.into_iter().map(|kind| count(usage, kind)).fold(0, u64::saturating_add)
}

fn count(usage: &Option<Value>, field: &str) -> u64 {
    usage.as_ref().and_then(|u| u.get(field)).and_then(Value::as_u64).unwrap_or(0)
}

fn text(value: &Option<Value>) -> String {
    value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The text of a value: a string as it is, anything else as JSON; nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The end of a text, at most `max` bytes, cut between characters.
fn tail(text: &str, max: usize) -> &str {
    let from = text.len().saturating_sub(max);
    let from = (from..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    &text[from..]
}

/// The text without line ends and control characters, at most `max` characters.
fn one_line(text: &str, max: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect();
    clean.trim().to_owned()
}
