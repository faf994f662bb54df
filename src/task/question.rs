//! Questions that tasks ask, the actions that they want approved, and the answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Stamp;

/// The `kind` of a plain question.
pub const QUESTION: &str = "question";
/// The `kind` of a request for permission.
pub const PERMISSION: &str = "permission";

/// The answer that allows one action.
pub const ALLOW: &str = "allow";
/// The answer that allows this action and every later use of the same tool by the same task.
pub const ALLOW_FOR_TASK: &str = "allow for this task";
/// The answer that forbids an action.
pub const DENY: &str = "deny";

/// How a question came to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// Somebody answered.
    Answered,
    /// Its deadline passed; nobody answered, and no answer is made up.
    NoAnswer,
    /// The run that asked it ended first.
    TaskEnded,
}

/// What a task wants to do, as Octo computed it from the request: never from the task's own words about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Action {
    /// The tool: `Bash`, `Write`, ...
    pub tool: String,
    /// The folder it acts in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// The command, the diff, or the input as JSON; at most [`ACTION_MAX`] bytes, cut with a remark.
    pub what: String,
    /// How `what` reads: `command`, `diff`, or `json`.
    pub format: String,
    /// SHA-256 over tool, folder and the whole input, in hex: an approval counts for exactly this.
    pub digest: String,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The longest [`Action::what`], in bytes.
pub const ACTION_MAX: usize = 16 * 1024;

/// A question that a task asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Question {
    /// Its id within the task: `q1`, `q2`, ...
    pub id: String,
    /// What is asked.
    pub text: String,
    /// The answers offered; empty means free text.
    #[serde(default)]
    pub choices: Vec<String>,
    /// When it was asked.
    #[serde(default)]
    pub asked_at: Stamp,
    /// [`QUESTION`] or [`PERMISSION`].
    #[serde(default)]
    pub kind: String,
    /// Whether it still waits for an answer.
    #[serde(default)]
    pub open: bool,
    /// The asker's random key: the same key again is the same question.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What asked, in a word: `octo ask`, `claude`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// The run that asked.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub run: u32,
    /// An answer other than the choices is taken, too.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub free: bool,
    /// When it closes without an answer; empty: never by itself.
    #[serde(default, skip_serializing_if = "Stamp::is_empty")]
    pub deadline: Stamp,
    /// What a permission is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// How it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Stamp::is_empty")]
    pub closed_at: Stamp,
    /// How many reminders of it were raised.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub reminded: u32,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Question {
    /// Tells whether it asks for permission.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.kind == PERMISSION
    }

    /// The answer that `said` stands for, if it may be given: one of the choices, by its words (in any case) or
    /// its number from 1; any text where the question takes free text; for a permission also `yes`, `y`, `no`, `n`.
    #[must_use]
    pub fn accepts(&self, said: &str) -> Option<String> {
        let said = said.trim();
        if said.is_empty() {
            return None;
        }
        let fold = said.to_lowercase();
        let exact = self.choices.iter().find(|c| c.trim() == said);
        if let Some(choice) = exact.or_else(|| self.choices.iter().find(|c| c.trim().to_lowercase() == fold)) {
            return Some(choice.clone());
        }
        if let Some(choice) = said.parse::<usize>().ok().and_then(|n| self.choices.get(n.checked_sub(1)?)) {
            return Some(choice.clone());
        }
        if self.is_permission() {
            let word = match fold.as_str() {
                "y" | "yes" | "ok" => ALLOW,
                "n" | "no" => DENY,
                "always" => ALLOW_FOR_TASK,
                _ => return None,
            };
            return self.choices.iter().find(|c| *c == word).cloned();
        }
        (self.choices.is_empty() || self.free).then(|| said.to_owned())
    }
}

/// An answer that was given to a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Answer {
    /// The question's id.
    pub question: String,
    /// What was answered.
    pub text: String,
    /// Who answered: `repl`, `telegram:4711`, ...
    #[serde(default)]
    pub by: String,
    /// When.
    #[serde(default)]
    pub at: Stamp,
    /// The channel's key: the same key again is the same answer, given once more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
