//! A request, as the providers take it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use genai::chat::{
    CacheControl, ChatMessage, ChatOptions, ChatRequest, ContentPart, CustomPart, MessageContent, ReasoningEffort,
    Tool, ToolCall as GenCall, ToolChoice, ToolResponse,
};
use serde_json::{Value, json};

use super::receive::Seen;
use super::{FIRST_BYTE, SILENCE};
use crate::agent::model::{Assistant, Effort, Message, OpaquePart, Provider, Request, ToolUse};

/// What to capture, and how to answer.
pub(super) fn options(request: &Request, seen: Arc<Mutex<Seen>>) -> ChatOptions {
    let provider = request.model.provider();
    let mut options = ChatOptions::default()
        .with_capture_usage(true)
        .with_capture_content(true)
        .with_capture_tool_calls(true)
        // Gemini would be asked for summaries of its thoughts, which some of its models refuse.
        .with_capture_reasoning_content(provider != Provider::Gemini)
        .with_stream_header_timeout(FIRST_BYTE)
        .with_stream_read_timeout(SILENCE)
        .with_raw_frame_fn(move |_, frame| {
            if let Ok(mut seen) = seen.lock() {
                seen.frame(frame.data);
            }
        });
    if matches!(provider, Provider::Anthropic | Provider::OpenAi) {
        // Otherwise the crate sends a name without what it takes for an effort at its end.
        options = options.with_extra_body(json!({"model": request.model.model()}));
    }
    options.max_tokens = request.max_output_tokens;
    options.temperature = request.temperature;
    options.reasoning_effort = match request.effort {
        Some(Effort::Off) => Some(ReasoningEffort::Zero),
        Some(Effort::Low) => Some(ReasoningEffort::Low),
        Some(Effort::Medium) => Some(ReasoningEffort::Medium),
        Some(Effort::High) => Some(ReasoningEffort::High),
        // For OpenAI a budget sends nothing, while no effort at all lets the crate guess one from the name.
        None if provider == Provider::OpenAi => Some(ReasoningEffort::Budget(0)),
        None => None,
    };
    if !request.tools.is_empty() {
        options.tool_choice = match request.tool_use {
            ToolUse::Auto => None,
            ToolUse::Never => Some(ToolChoice::None),
            ToolUse::Must => Some(ToolChoice::Required),
        };
    }
    options
}

/// The conversation.
pub(super) fn chat(request: &Request) -> ChatRequest {
    let provider = request.model.provider();
    let mut messages: Vec<ChatMessage> = Vec::new();
    if !request.system.trim().is_empty() {
        messages.push(ChatMessage::system(request.system.as_str()));
    }
    // Some providers want the name of the tool with its result.
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut results: Vec<ContentPart> = Vec::new();
    for message in &request.messages {
        if let Message::ToolResult { call, text, is_error } = message {
            results.push(result(provider, call, names.get(call.as_str()).copied(), text, *is_error));
            continue;
        }
        put_results(provider, &mut results, &mut messages);
        match message {
            // In the midst of a conversation only OpenAI's protocol has such a role.
            Message::System { text } if provider == Provider::OpenAi => {
                messages.push(ChatMessage::system(text.as_str()))
            }
            Message::System { text } => messages.push(ChatMessage::user(format!("[a message of Octo itself]\n{text}"))),
            Message::User { text } => messages.push(ChatMessage::user(said(text))),
            Message::Assistant(assistant) => {
                names.extend(assistant.calls.iter().map(|c| (c.id.as_str(), c.name.as_str())));
                messages.extend(assistant_message(provider, assistant));
            }
            Message::ToolResult { .. } => {}
        }
    }
    put_results(provider, &mut results, &mut messages);
    if provider == Provider::Anthropic && !request.tools.is_empty() {
        mark_for_cache(&mut messages);
    }
    let tools = request.tools.iter().map(|tool| {
        Tool::new(tool.name.as_str()).with_description(tool.description.as_str()).with_schema(tool.schema.clone())
    });
    let chat = ChatRequest::from_messages(messages);
    if request.tools.is_empty() { chat } else { chat.with_tools(tools.collect::<Vec<_>>()) }
}

/// Anthropic refuses texts without a word.
fn said(text: &str) -> String {
    if text.trim().is_empty() { "(nothing)".to_owned() } else { text.to_owned() }
}

fn put_results(provider: Provider, results: &mut Vec<ContentPart>, messages: &mut Vec<ChatMessage>) {
    if results.is_empty() {
        return;
    }
    let parts = std::mem::take(results);
    if provider == Provider::Ollama {
        // It reads one result of a message.
        messages.extend(parts.into_iter().map(|part| ChatMessage::tool(MessageContent::from_parts(vec![part]))));
    } else {
        // Anthropic wants all results of a turn in one message.
        messages.push(ChatMessage::tool(MessageContent::from_parts(parts)));
    }
}

fn result(provider: Provider, call: &str, name: Option<&str>, text: &str, is_error: bool) -> ContentPart {
    let id = wire_id(provider, call);
    if provider == Provider::Anthropic && is_error {
        let data = json!({"type": "tool_result", "tool_use_id": id, "content": said(text), "is_error": true});
        return ContentPart::Custom(CustomPart { model_iden: None, data });
    }
    let text = if is_error { format!("[this tool call failed]\n{text}") } else { text.to_owned() };
    let response = ToolResponse::new(id, text);
    ContentPart::ToolResponse(match name {
        Some(name) => response.with_fn_name(name),
        None => response,
    })
}

/// What the model said before; `None` when that was nothing.
fn assistant_message(provider: Provider, assistant: &Assistant) -> Option<ChatMessage> {
    let mut parts: Vec<ContentPart> = Vec::new();
    let mut signatures: HashMap<&str, Vec<String>> = HashMap::new();
    for part in assistant.opaque.iter().filter(|opaque| opaque.is_of(provider)).flat_map(|opaque| &opaque.parts) {
        match part {
            OpaquePart::Thought { text, signature } => {
                parts.extend(signature.clone().map(ContentPart::ThoughtSignature));
                parts.extend(text.clone().map(ContentPart::ReasoningContent));
            }
            OpaquePart::Call { call, signatures: of_call } => drop(signatures.insert(call, of_call.clone())),
            OpaquePart::Block { data } => {
                parts.push(ContentPart::Custom(CustomPart { model_iden: None, data: data.clone() }));
            }
        }
    }
    if assistant.text.trim().is_empty() && assistant.calls.is_empty() {
        return None;
    }
    if !assistant.text.trim().is_empty() {
        parts.push(ContentPart::Text(assistant.text.clone()));
    }
    parts.extend(assistant.calls.iter().map(|call| {
        ContentPart::ToolCall(GenCall {
            call_id: wire_id(provider, &call.id),
            fn_name: call.name.clone(),
            fn_arguments: object(&call.arguments),
            thought_signatures: signatures.remove(call.id.as_str()),
        })
    }));
    Some(ChatMessage::assistant(MessageContent::from_parts(parts)))
}

/// Providers take nothing but objects for the arguments of earlier calls.
fn object(arguments: &Value) -> Value {
    if arguments.is_object() { arguments.clone() } else { json!({"not_valid_json": arguments}) }
}

/// Ids from one provider may hold signs that another refuses. Gemini's are left as they are: those that were made
/// up for it are recognised by their form, and not sent.
fn wire_id(provider: Provider, id: &str) -> String {
    match provider {
        Provider::Anthropic | Provider::OpenAi => {
            id.chars().map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' }).collect()
        }
        Provider::Gemini | Provider::Ollama | Provider::Demo => id.to_owned(),
    }
}

/// An agent sends its whole conversation in every turn; with these two marks Anthropic reads the greater part of
/// it from its cache.
fn mark_for_cache(messages: &mut [ChatMessage]) {
    let last = messages.len().saturating_sub(1);
    for (at, message) in messages.iter_mut().enumerate() {
        let is_instructions = at == 0 && message.role == genai::chat::ChatRole::System;
        if is_instructions || at == last {
            message.options = Some(CacheControl::Ephemeral.into());
        }
    }
}
