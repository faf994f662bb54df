//! What a task wants to do, as its owner is shown it, and the digest that an approval is bound to.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command::ActionRequest;
use crate::task::Action;

/// SHA-256 over tool, folder and input, in hex. The order of keys does not count.
#[must_use]
pub fn digest(tool: &str, folder: &str, input: &Value) -> String {
    let mut sorted = input.clone();
    sorted.sort_all_objects();
    let whole = Value::from(vec![Value::from(tool), Value::from(folder), sorted]);
    let mut hex = String::new();
    for byte in Sha256::digest(whole.to_string()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// What the owner is shown.
#[must_use]
pub fn describe(request: &ActionRequest, _read: impl Fn(&Path) -> Option<String>) -> Action {
    let what = serde_json::to_string_pretty(&request.input).unwrap_or_default();
    Action {
        tool: request.tool.clone(),
        folder: request.folder.clone(),
        digest: digest(&request.tool, &request.folder, &request.input),
        format: "json".to_owned(),
        what,
        ..Action::default()
    }
}
