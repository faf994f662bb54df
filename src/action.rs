//! What a task wants to do, as its owner is shown it, and the digest that binds an approval to exactly that.
//!
//! Both sides of a permission use this module: the daemon, which shows the action, and the permission handler
//! beside the `claude` that asked (`src/mcp`), which lets the tool run only if what was approved has the digest of
//! what it was asked about. Nothing here believes what the task says about its action (descriptions, titles):
//! what is shown is made from the tool's input alone.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use similar::TextDiff;

use crate::command::ActionRequest;
use crate::task::{ACTION_MAX, Action};

/// The format of [`Action::what`]: a shell command.
pub const COMMAND: &str = "command";
/// The format of [`Action::what`]: a unified diff.
pub const DIFF: &str = "diff";
/// The format of [`Action::what`]: the tool's input.
pub const JSON: &str = "json";

/// The largest file that a `Write` is compared with, in bytes.
pub const COMPARED_MAX: usize = 256 * 1024;

/// The longest shown name of a tool, and the longest shown path of a folder, in bytes.
const TOOL_MAX: usize = 256;
const FOLDER_MAX: usize = 4096;

/// How long a diff may be looked for; what is found until then is correct, if longer than need be.
const DIFF_WITHIN: Duration = Duration::from_millis(100);

/// The digest of an action: SHA-256 in hex over tool, folder and the whole input, in a form in which the order of
/// an object's keys makes no difference and everything else does.
#[must_use]
pub fn digest(tool: &str, folder: &str, input: &Value) -> String {
    let mut text = String::from("octo action 1\n[");
    quote(tool, &mut text);
    text.push(',');
    quote(folder, &mut text);
    text.push(',');
    canonical(input, &mut text);
    text.push(']');
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a value as JSON without spaces, keys sorted by their bytes.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => quote(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (i, (key, item)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                quote(key, out);
                out.push(':');
                canonical(item, out);
            }
            out.push('}');
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// What the owner is shown. `read` gives the present text of a file, or nothing where there is none that can be
/// compared ([`read_text`] does that); it is asked for the file of a `Write` only.
#[must_use]
pub fn describe(request: &ActionRequest, read: impl Fn(&Path) -> Option<String>) -> Action {
    let (format, what) = shown(request, read);
    Action {
        tool: cut(&request.tool, TOOL_MAX),
        folder: cut(&request.folder, FOLDER_MAX),
        what: cut(&what, ACTION_MAX),
        format: format.to_owned(),
        digest: digest(&request.tool, &request.folder, &request.input),
        ..Action::default()
    }
}

fn shown(request: &ActionRequest, read: impl Fn(&Path) -> Option<String>) -> (&'static str, String) {
    let input = &request.input;
    let drawn = match request.tool.as_str() {
        "Bash" | "shell" => command(input).map(|text| (COMMAND, text)),
        "Edit" => edits(input, std::slice::from_ref(input)).map(|text| (DIFF, text)),
        "MultiEdit" => input["edits"].as_array().and_then(|all| edits(input, all)).map(|text| (DIFF, text)),
        "Write" => write(request, read).map(|text| (DIFF, text)),
        _ => None,
    };
    drawn.unwrap_or_else(|| (JSON, serde_json::to_string_pretty(input).unwrap_or_default()))
}

/// A shell command, and below it whatever else changes how it is run.
fn command(input: &Value) -> Option<String> {
    let mut text = input["command"].as_str()?.to_owned();
    for (name, value) in input.as_object()? {
        if !matches!(name.as_str(), "command" | "description" | "timeout") {
            text.push_str(&format!("\n# {}: {value}", one_line(name)));
        }
    }
    Some(text)
}

/// The edits of one file, each as a diff of its own: they are applied one after the other.
fn edits(input: &Value, all: &[Value]) -> Option<String> {
    let path = one_line(input["file_path"].as_str()?);
    let mut text = format!("--- {path}\n+++ {path}\n");
    for edit in all {
        if edit["replace_all"] == true {
            text.push_str("# wherever it occurs:\n");
        }
        text.push_str(&diff(edit["old_string"].as_str()?, edit["new_string"].as_str()?));
    }
    Some(text)
}

/// What a `Write` changes in the file, or its whole content where there is none to compare it with.
fn write(request: &ActionRequest, read: impl Fn(&Path) -> Option<String>) -> Option<String> {
    let (path, content) = (request.input["file_path"].as_str()?, request.input["content"].as_str()?);
    let old = (content.len() <= COMPARED_MAX).then(|| read(&Path::new(&request.folder).join(path))).flatten();
    let path = one_line(path);
    let before = if old.is_some() { path.as_str() } else { "(no text to compare with)" };
    let changes = old.map_or_else(|| added(content), |old| diff(&old, content));
    Some(format!("--- {before}\n+++ {path}\n{changes}"))
}

fn diff(old: &str, new: &str) -> String {
    if old == new {
        return "# no change\n".to_owned();
    }
    TextDiff::configure().timeout(DIFF_WITHIN).diff_lines(old, new).unified_diff().context_radius(3).to_string()
}

fn added(new: &str) -> String {
    let lines: String = new.lines().map(|line| format!("+{line}\n")).collect();
    format!("@@ -0,0 +1,{} @@\n{lines}", new.lines().count())
}

/// A name without line ends and control characters, which could pass for lines of Octo's own.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The text, at most `max` bytes long: its middle gives way to a remark that says how much is not shown.
fn cut(text: &str, max: usize) -> String {
    const REMARK: usize = 64;
    if text.len() <= max {
        return text.to_owned();
    }
    let half = max.saturating_sub(REMARK) / 2;
    let (head, tail) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    format!("{}\n[... {} bytes are not shown ...]\n{}", &text[..head], tail - head, &text[tail..])
}

/// The present text of a file: `None` where there is none, where it is no regular file or no UTF-8, and where it
/// has more than [`COMPARED_MAX`] bytes. Never waits for a pipe or a device.
#[must_use]
pub fn read_text(path: &Path) -> Option<String> {
    let file = std::fs::File::options()
        .read(true)
        .custom_flags((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(COMPARED_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok().filter(|text| text.len() <= COMPARED_MAX)
}

#[cfg(test)]
mod tests;
