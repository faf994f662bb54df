//! The tools as the client's model sees them.

use rmcp::model::{JsonObject, MetaObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::agent::tools as agent_tools;

/// Asks the owner a question.
pub(super) const ESCALATE: &str = "escalate_question";
/// Asks the owner for permission; called by `claude` itself.
pub(super) const PERMISSION: &str = "permission";

/// The tools that a `claude` inside a task gets.
pub(super) fn inside_task(permissions: bool) -> Vec<Tool> {
    let mut tools = vec![escalate_question()];
    tools.extend(permissions.then(permission));
    tools
}

/// The tools for background tasks, as agents have them.
pub(super) fn of_tasks() -> Vec<Tool> {
    let known = super::tasks::NAMES.iter().filter_map(|name| agent_tools::find(name));
    known.map(|row| Tool::new(row.name, row.about, object(row.schema())).with_annotations(hints(row))).collect()
}

fn hints(row: &agent_tools::Tool) -> ToolAnnotations {
    let reads = row.class == agent_tools::Class::Read;
    // A client may ask its user before it starts or ends something.
    ToolAnnotations::new().read_only(reads).destructive(!reads).open_world(false)
}

fn escalate_question() -> Tool {
    let text = "Asks the person who owns this background task a question and waits for the answer, however long it \
        takes; minutes or hours are normal. Use it when you cannot go on without a decision or a fact that only that \
        person has. With choices, the person picks one of them; without, the answer is free text. If the result says \
        that there was no answer, there was none: do not guess one.";
    let schema = json!({
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "The question, complete in itself: its reader sees nothing else."},
            "choices": {"type": "array", "items": {"type": "string"}, "description": "The answers to choose from."},
        },
        "required": ["question"],
    });
    tool(ESCALATE, text, schema)
}

fn permission() -> Tool {
    let schema = json!({
        "type": "object",
        "properties": {
            "tool_name": {"type": "string"},
            "input": {"type": "object"},
            "tool_use_id": {"type": "string"},
        },
        "required": ["tool_name", "input"],
    });
    tool(PERMISSION, "Asks the owner of this task for permission to use a tool. Not for you to call.", schema)
}

fn tool(name: &'static str, description: &'static str, schema: Value) -> Tool {
    let mut tool = Tool::new(name, description, object(schema));
    // claude hides tools of MCP servers behind a search unless they say so.
    tool.meta = Some(MetaObject::from(object(json!({"anthropic/alwaysLoad": true}))));
    tool
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(fields) => fields,
        _ => JsonObject::new(),
    }
}
