//! What came back, as a reply.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use genai::chat::{ChatStream, ChatStreamEvent, ContentPart, StreamEnd, Usage};
use serde_json::{Value, json};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use super::target::Target;
use crate::agent::model::{
    Assistant, ErrorKind, Format, Message, ModelError, ModelName, Opaque, OpaquePart, Provider, Reply, Request, Stop,
    Tokens, ToolCall, estimate,
};

/// What the raw frames say and the crate does not hand on.
#[derive(Default)]
pub(super) struct Seen {
    /// Whether there was a frame that looks like one.
    any: bool,
    /// The provider's own name of the model that answered.
    model: Option<String>,
    /// Ollama's end.
    done: bool,
    /// Why Gemini would not read the prompt.
    blocked: Option<String>,
    /// How many tokens of its reply Anthropic's model thought with.
    thoughts: Option<u64>,
}

impl Seen {
    pub(super) fn frame(&mut self, data: &str) {
        self.any |= data.trim_start().starts_with('{');
        let may_end = !self.done && data.contains("\"done\"");
        let may_block = self.blocked.is_none() && data.contains("blockReason");
        let may_count = data.contains("\"thinking_tokens\"");
        if self.model.is_some() && !may_end && !may_block && !may_count {
            return;
        }
        let Ok(frame) = serde_json::from_str::<Value>(data) else { return };
        let text = |at: &str| frame.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let named = || text("/message/model").or_else(|| text("/model")).or_else(|| text("/modelVersion"));
        self.model = self.model.take().or_else(named);
        self.done |= frame.get("done").and_then(Value::as_bool) == Some(true);
        let thoughts = frame.pointer("/usage/output_tokens_details/thinking_tokens").and_then(Value::as_u64);
        self.thoughts = thoughts.or(self.thoughts);
        self.blocked = self.blocked.take().or_else(|| text("/promptFeedback/blockReason"));
    }
}

/// What was heard until the stream ended.
pub(super) enum Heard {
    /// The end, with all that was captured.
    All(Box<StreamEnd>),
    /// The stream closed before it.
    Part,
}

/// Listens to the end, and hands on the words meanwhile.
pub(super) async fn listen(mut stream: ChatStream, on_text: &mut (dyn FnMut(&str) + Send)) -> genai::Result<Heard> {
    while let Some(event) = stream.next().with_subscriber(NoSubscriber::default()).await {
        match event? {
            ChatStreamEvent::Chunk(chunk) => on_text(&chunk.content),
            ChatStreamEvent::End(end) => return Ok(Heard::All(Box::new(end))),
            ChatStreamEvent::Start
            | ChatStreamEvent::ReasoningChunk(_)
            | ChatStreamEvent::ThoughtSignatureChunk(_)
            | ChatStreamEvent::ToolCallChunk(_)
            | ChatStreamEvent::Heartbeat => {}
        }
    }
    Ok(Heard::Part)
}

/// Makes the reply, if the end was really one.
pub(super) fn reply(
    heard: Heard,
    seen: &Arc<Mutex<Seen>>,
    request: &Request,
    target: &Target,
) -> Result<Reply, ModelError> {
    let title = target.model.provider().title();
    let cut = || ModelError::new(ErrorKind::Cut, format!("the answer of {title} broke off before its end"));
    let seen = seen.lock().map(|mut seen| std::mem::take(&mut *seen)).unwrap_or_default();
    let end = match heard {
        Heard::All(end) => end,
        Heard::Part if seen.any => return Err(cut()),
        // A page, or an answer that is no stream.
        Heard::Part => {
            let message = format!("{title} at {} answered with no answer of a model", target.shown_address());
            return Err(ModelError::new(ErrorKind::Malformed, message));
        }
    };
    let reason = end.captured_stop_reason.as_ref().map(|reason| reason.raw().to_owned());
    let reason = match reason {
        Some(reason) => reason,
        None if seen.done && request.model.provider() == Provider::Ollama => "stop".to_owned(),
        None => return Err(cut()),
    };
    if reason == "MALFORMED_FUNCTION_CALL" {
        return Err(ModelError::new(ErrorKind::Malformed, format!("{title} sent a tool call that cannot be read")));
    }
    let usage = end.captured_usage.clone();
    let mut message = assistant(*end, request);
    let stop = stop(&reason, &mut message);
    let mut usage = tokens(usage.as_ref(), request, &message);
    if let Some(thoughts) = seen.thoughts.filter(|_| usage.reasoning == 0) {
        usage.reasoning = thoughts.min(usage.output);
    }
    let model = seen.model.and_then(|name| ModelName::new(request.model.provider(), &name).ok());
    let model = model.unwrap_or_else(|| request.model.clone());
    Ok(Reply { v: Format, message, stop, usage, model })
}

/// A prompt that Gemini would not read ends without an answer, which the crate takes for an error.
pub(super) fn blocked(seen: &Arc<Mutex<Seen>>, request: &Request) -> Option<Reply> {
    let reason = seen.lock().ok()?.blocked.take()?;
    let message = Assistant { text: format!("(the prompt was blocked: {reason})"), ..Assistant::default() };
    let usage = Tokens { output: 0, ..estimate::turn(request, &message) };
    Some(Reply { v: Format, message, stop: Stop::Refusal, usage, model: request.model.clone() })
}

fn stop(reason: &str, message: &mut Assistant) -> Stop {
    let stop = match reason {
        "end_turn" | "stop" | "STOP" | "stop_sequence" | "tool_use" | "tool_calls" | "function_call" => Stop::EndTurn,
        "max_tokens" | "length" | "MAX_TOKENS" | "model_context_window_exceeded" | "model_length" => Stop::MaxTokens,
        "refusal" | "content_filter" | "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => {
            Stop::Refusal
        }
        other => Stop::Other(other.to_owned()),
    };
    match stop {
        // Some providers stop like this also when they call tools, and some say `tool_use` without a call.
        Stop::EndTurn if !message.calls.is_empty() => Stop::ToolUse,
        Stop::MaxTokens => {
            message.calls.retain(|call| call.arguments.is_object());
            Stop::MaxTokens
        }
        Stop::EndTurn | Stop::ToolUse | Stop::Refusal | Stop::Other(_) => stop,
    }
}

fn assistant(end: StreamEnd, request: &Request) -> Assistant {
    let provider = request.model.provider();
    let mut said = Assistant::default();
    let (mut opaque, mut calls) = (Vec::new(), Vec::new());
    let parts = end.captured_content.map(|content| content.into_parts()).unwrap_or_default();
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            ContentPart::Text(text) => said.text.push_str(&text),
            ContentPart::ToolCall(call) => calls.push(call),
            ContentPart::ThoughtSignature(signature) => {
                // Its thought follows it.
                let text = parts.next_if(|next| next.is_reasoning_content());
                let text = text.and_then(ContentPart::into_reasoning_content);
                opaque.push(OpaquePart::Thought { text, signature: Some(signature) });
            }
            ContentPart::ReasoningContent(text) => {
                opaque.push(OpaquePart::Thought { text: Some(text), signature: None });
            }
            ContentPart::Custom(custom) => opaque.push(OpaquePart::Block { data: custom.data }),
            ContentPart::Binary(_) | ContentPart::ToolResponse(_) => {}
        }
    }
    // Servers that speak OpenAI's protocol and think aloud want the thoughts back; nobody signs them there.
    if provider == Provider::OpenAi
        && let Some(text) = end.captured_reasoning_content.filter(|text| !text.is_empty())
    {
        opaque.push(OpaquePart::Thought { text: Some(text), signature: None });
    }
    let mut ids = Ids::of(request);
    if provider == Provider::OpenAi {
        keep_last_of_each_id(&mut calls);
    }
    for call in calls {
        let id = ids.take(provider, &call.call_id, &call.fn_name);
        if let Some(signatures) = call.thought_signatures.filter(|_| provider == Provider::Gemini) {
            opaque.push(OpaquePart::Call { call: id.clone(), signatures });
        }
        said.calls.push(ToolCall { id, name: call.fn_name, arguments: arguments(call.fn_arguments) });
    }
    if !opaque.is_empty() {
        said.opaque = Some(Opaque { provider: provider.word().to_owned(), parts: opaque });
    }
    said
}

/// A call without arguments has an empty object; a text is read once more, and kept when it is no JSON.
fn arguments(given: Value) -> Value {
    match given {
        Value::Null => json!({}),
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(&text).ok().filter(Value::is_object).unwrap_or(Value::String(text)),
        other => other,
    }
}

/// When a server counts its calls from another number than zero, the crate fills the gap with copies.
fn keep_last_of_each_id(calls: &mut Vec<genai::chat::ToolCall>) {
    let mut seen = HashSet::new();
    calls.reverse();
    calls.retain(|call| seen.insert(call.call_id.clone()));
    calls.reverse();
}

/// The ids of calls that are taken.
struct Ids(HashSet<String>);

impl Ids {
    fn of(request: &Request) -> Ids {
        let calls = request.messages.iter().filter_map(|message| match message {
            Message::Assistant(said) => Some(said.calls.iter().map(|call| call.id.clone())),
            Message::System { .. } | Message::User { .. } | Message::ToolResult { .. } => None,
        });
        Ids(calls.flatten().collect())
    }

    fn take(&mut self, provider: Provider, given: &str, name: &str) -> String {
        // The crate makes ids up where a server sends none, again and again the same, and earlier ones may have been
        // taken out of the request. For Gemini a number at the end keeps the form by which it knows not to send them.
        let counted = |rest: &str| rest.len() < 4 && rest.bytes().all(|b| b.is_ascii_digit());
        let made_up = match provider {
            Provider::Gemini => given.starts_with("call#"),
            Provider::OpenAi => given.strip_prefix("call_").is_some_and(counted),
            Provider::Anthropic | Provider::Ollama | Provider::Demo => false,
        };
        if !made_up && !given.is_empty() && self.0.insert(given.to_owned()) {
            return given.to_owned();
        }
        loop {
            let random = Uuid::new_v4().as_u128();
            let id = if provider == Provider::Gemini {
                format!("call#{name}#{}", random as u32)
            } else {
                format!("call_{:016x}", random as u64)
            };
            if self.0.insert(id.clone()) {
                return id;
            }
        }
    }
}

fn tokens(usage: Option<&Usage>, request: &Request, said: &Assistant) -> Tokens {
    let count = |n: Option<i32>| n.and_then(|n| u64::try_from(n).ok());
    let guessed = estimate::turn(request, said);
    let Some(usage) = usage else { return guessed };
    let prompt = count(usage.prompt_tokens);
    let output = count(usage.completion_tokens);
    // Servers that do not count say zero, or nothing; a real prompt is never empty.
    let (Some(prompt), Some(output)) = (prompt.filter(|n| *n > 0), output) else {
        let output = output.filter(|n| *n > 0).unwrap_or(guessed.output);
        return Tokens { input: prompt.filter(|n| *n > 0).unwrap_or(guessed.input), output, ..guessed };
    };
    let details = usage.prompt_tokens_details.as_ref();
    let cached_read = count(details.and_then(|d| d.cached_tokens)).unwrap_or(0);
    let cached_write = count(details.and_then(|d| d.cache_creation_tokens)).unwrap_or(0);
    let reasoning = usage.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
    let input = prompt.saturating_sub(cached_read).saturating_sub(cached_write);
    let reasoning = count(reasoning).unwrap_or(0).min(output);
    Tokens { input, cached_read, cached_write, output, reasoning, estimated: false }
}
