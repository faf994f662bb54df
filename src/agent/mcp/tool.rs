//! The tools of a server, within bounds.

use serde_json::{Map, Value};

use super::names;
use crate::agent::model::ToolSpec;

/// The most tools of one server: every one of them costs tokens in every turn.
const TOOLS_MAX: usize = 128;
/// The longest description of a tool, in bytes.
const DESCRIPTION_MAX: usize = 4096;
/// The longest schema of a tool's arguments, in bytes of JSON.
const SCHEMA_MAX: usize = 16 << 10;

/// One tool of a server.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name, for the server.
    pub(super) own: String,
    /// What models get.
    pub(super) spec: ToolSpec,
}

impl Tool {
    /// The arguments as the server gets them: without those that are null and may be left out, which some models send
    /// and some servers refuse.
    ///
    /// # Errors
    /// When they are no object.
    pub(super) fn arguments(&self, given: &Value) -> Result<Map<String, Value>, String> {
        let required =
            |name: &str| self.spec.schema["required"].as_array().is_some_and(|all| all.contains(&name.into()));
        match given {
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(name, value)| !value.is_null() || required(name));
                Ok(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
            }
            Value::Null => Ok(Map::new()),
            Value::String(text) if text.trim().is_empty() => Ok(Map::new()),
            _ => Err(format!("{}: the arguments must be one JSON object", self.spec.name)),
        }
    }
}

/// The tools that an agent gets of those that its server listed, and what is to be told about the others. `only`:
/// those of these names.
pub(super) fn choose(label: &str, listed: Vec<rmcp::model::Tool>, only: Option<&[String]>) -> (Vec<Tool>, Vec<String>) {
    let (mut tools, mut problems): (Vec<Tool>, Vec<String>) = (Vec::new(), Vec::new());
    for name in only.unwrap_or_default().iter().filter(|name| !listed.iter().any(|tool| tool.name == ***name)) {
        problems.push(format!("the MCP server `{label}` has no tool `{name}`: it is left out"));
    }
    let wanted = listed.into_iter().filter(|tool| only.is_none_or(|only| only.iter().any(|name| *name == tool.name)));
    let mut too_many = 0;
    for tool in wanted {
        let name = names::tool(label, &tool.name);
        if tools.iter().any(|known| known.spec.name == name) {
            continue;
        }
        let schema = schema(&tool.input_schema);
        let size = schema.to_string().len();
        if size > SCHEMA_MAX {
            let what = format!("the tool `{name}` is left out: its schema has {size} bytes, more than {SCHEMA_MAX}");
            problems.push(what);
        } else if tools.len() >= TOOLS_MAX {
            too_many += 1;
        } else {
            let description = description(tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default());
            tools.push(Tool { own: tool.name.into_owned(), spec: ToolSpec { name, description, schema } });
        }
    }
    if too_many > 0 {
        let hint = "choose some with `tools: [...]`";
        problems.push(format!("the MCP server `{label}` has {too_many} tools more than {TOOLS_MAX}: {hint}"));
    }
    (tools, problems)
}

fn description(text: &str) -> String {
    let text = text.trim();
    if text.len() <= DESCRIPTION_MAX {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(DESCRIPTION_MAX - 3)])
}

/// An object's schema, whatever the server sent. The name of the dialect is of no use to models, and some providers
/// refuse it.
fn schema(sent: &Map<String, Value>) -> Value {
    let mut schema = sent.clone();
    schema.shift_remove("$schema");
    schema.insert("type".to_owned(), "object".into());
    if !schema.get("properties").is_some_and(Value::is_object) {
        schema.insert("properties".to_owned(), Map::new().into());
    }
    Value::Object(schema)
}
