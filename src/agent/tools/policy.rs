//! What needs the owner's approval.
//!
//! Reading is free, and so is writing inside the task's folder, and what changes only Octo's own book-keeping. What
//! can change anything goes by the owner's policy: `shell` by the one of shells, and so does a command that is
//! dispatched as a task; every other tool (those of MCP servers) by the one of the network. An agent cannot change
//! the policy: it is no argument of any tool, and the files that hold it are never written (`guard.rs`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Class;
use crate::command::ActionRequest;
use crate::config::ShellPolicy;

/// What a kind of action needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The owner's approval.
    #[default]
    Ask,
    /// Nothing.
    Allow,
    /// It is not done.
    Deny,
}

impl From<ShellPolicy> for Rule {
    fn from(policy: ShellPolicy) -> Rule {
        match policy {
            ShellPolicy::Ask => Rule::Ask,
            ShellPolicy::Allow => Rule::Allow,
            ShellPolicy::Deny => Rule::Deny,
        }
    }
}

/// The owner's policy for one task, fixed when it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For shell commands, also those dispatched as tasks.
    pub shell: Rule,
    /// For whatever else may change something outside the task's folder.
    pub network: Rule,
}

/// What the owner allowed for the whole of one task: tools, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeSet<String>);

impl Grants {
    /// The owner answered "allow for this task" about a use of this tool.
    pub fn grant(&mut self, tool: &str) {
        self.0.insert(tool.to_owned());
    }

    /// Tells whether a tool was allowed.
    #[must_use]
    pub fn has(&self, tool: &str) -> bool {
        self.0.contains(tool)
    }
}

/// What a call would do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The tool: one of [`super::TOOLS`], or an MCP server's with the server's name before it.
    pub tool: &'a str,
    /// What kind of effect it has.
    pub class: Class,
    /// The whole input.
    pub input: &'a Value,
    /// The folder that it acts in.
    pub folder: &'a str,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is run.
    Allow,
    /// The owner is asked about exactly this.
    Ask(ActionRequest),
    /// It is not run; the model is told this as the tool's result.
    Deny(String),
}

/// Decides about a call. A policy that denies wins over what was allowed for the task.
#[must_use]
pub fn decide(wanted: &Wanted<'_>, policy: &Policy, grants: &Grants) -> Decision {
    let rule = match wanted.class {
        Class::Read | Class::WriteInside | Class::Internal => return Decision::Allow,
        Class::Effect => rule_for(wanted, policy),
    };
    match rule {
        Rule::Deny => Decision::Deny(denied_by_policy(wanted)),
        Rule::Allow => Decision::Allow,
        Rule::Ask if grants.has(wanted.tool) => Decision::Allow,
        Rule::Ask => Decision::Ask(ActionRequest {
            tool: wanted.tool.to_owned(),
            input: wanted.input.clone(),
            folder: wanted.folder.to_owned(),
        }),
    }
}

/// An agent that is dispatched asks for itself what it needs; anything else that is dispatched is a command.
fn rule_for(wanted: &Wanted<'_>, policy: &Policy) -> Rule {
    match wanted.tool {
        "dispatch_background" if wanted.input["task_type"] == "agent" => Rule::Allow,
        "shell" | "dispatch_background" => policy.shell,
        _ => policy.network,
    }
}

fn denied_by_policy(wanted: &Wanted<'_>) -> String {
    let kind = if matches!(wanted.tool, "shell" | "dispatch_background") { "commands" } else { "this tool" };
    format!(
        "Not run: the owner's settings deny {kind} to agents. Nothing happened. Do what you can with the other tools, and say \
         in your result what is left; or ask with escalate_question."
    )
}

/// What a model is told when the owner said no; `words` are the owner's, if there are any.
#[must_use]
pub fn denied_by_owner(words: &str) -> String {
    let words = words.trim();
    let said = if words.is_empty() { String::new() } else { format!(" They said: {words}") };
    format!(
        "Not run: the owner denied this.{said} Nothing happened. Do not try the same in another way: go on without it, or ask \
         with escalate_question what they want instead."
    )
}
