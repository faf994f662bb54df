//! What a tool of a server answered, as text.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use super::CallError;
use crate::agent::tools::{RESULT_MAX, ToolError, cap};

/// The answer's text; what is no text is named.
pub(super) fn text(result: &CallToolResult) -> Result<String, CallError> {
    let mut parts: Vec<String> = result.content.iter().map(part).collect();
    let has_text = result.content.iter().any(|part| matches!(part, ContentBlock::Text(text) if !text.text.is_empty()));
    if let Some(value) = result.structured_content.as_ref().filter(|value| !value.is_null() && !has_text) {
        parts.push(value.to_string());
    }
    let whole = parts.join("\n");
    let is_error = result.is_error == Some(true);
    let whole = match whole.trim() {
        "" if is_error => "The tool failed, and said nothing more.".to_owned(),
        "" => "(The tool answered without any text.)".to_owned(),
        _ => whole,
    };
    let short = cap(&whole, RESULT_MAX, "no file: ask the tool for less at a time");
    if is_error { Err(CallError::Failed(ToolError::new(short))) } else { Ok(short) }
}

fn part(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => data("an image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => data("a sound", &audio.mime_type, &audio.data),
        ContentBlock::ResourceLink(link) => format!("[a resource: {} <{}>]", link.name, link.uri),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[the resource <{uri}>]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                data(&format!("the resource <{uri}>"), mime_type.as_deref().unwrap_or("of no known type"), blob)
            }
            _ => "[a resource of a kind that is not known here]".to_owned(),
        },
        _ => "[something of a kind that is not known here]".to_owned(),
    }
}

/// Bytes in base64, in words.
fn data(what: &str, mime_type: &str, base64: &str) -> String {
    let bytes = base64.trim_end_matches('=').len() / 4 * 3 + [0, 0, 1, 2][base64.trim_end_matches('=').len() % 4];
    format!("[{what}, {mime_type}, {bytes} bytes, which cannot be shown here]")
}
