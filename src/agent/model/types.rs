//! What is said between an agent and a model, in Octo's own words.
//!
//! **These types are stored**, in the journals of agents, and what was written must be readable for years.
//! So no type of a library or a provider is among them, and the rules of change are:
//!
//! * A new field has a default and is left out while it has it: old lines stay readable, and new ones stay short.
//! * A field is never renamed, and never given another meaning. A change that breaks this rule raises [`FORMAT`].
//! * [`Request`] and [`Reply`] carry the format as `v`; a reader refuses one that is newer than it knows, in
//!   words, instead of reading it wrong.
//! * `golden/` holds a line of each type in each format ever released, and a test reads them all.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::name::{ModelName, Provider};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The mark `"v": 1` of a stored value: written as [`FORMAT`]; a newer one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
        let found = u64::deserialize(deserializer)?;
        if found == 0 || found > u64::from(FORMAT) {
            let why = format!("format {found} is not known here (up to {FORMAT}): a newer Octo wrote it");
            return Err(serde::de::Error::custom(why));
        }
        Ok(Format)
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// Said by Octo itself in the midst of a conversation. Where a provider has no such role, it is sent as a
    /// user's message that says whose it is.
    System {
        /// The words.
        text: String,
    },
    /// Said by whoever gave the task.
    User {
        /// The words.
        text: String,
    },
    /// Said by the model.
    Assistant(Assistant),
    /// What a tool gave for a call.
    ToolResult {
        /// The [`ToolCall::id`] that it answers.
        call: String,
        /// What the model is to read.
        text: String,
        /// Tells that the tool failed, or was not allowed.
        #[serde(default, skip_serializing_if = "is_false")]
        is_error: bool,
    },
}

impl Message {
    /// A user's message.
    pub fn user(text: impl Into<String>) -> Message {
        Message::User { text: text.into() }
    }

    /// A message of Octo itself.
    pub fn system(text: impl Into<String>) -> Message {
        Message::System { text: text.into() }
    }

    /// A tool's result.
    pub fn tool_result(call: impl Into<String>, text: impl Into<String>) -> Message {
        Message::ToolResult { call: call.into(), text: text.into(), is_error: false }
    }

    /// A tool's failure.
    pub fn tool_error(call: impl Into<String>, text: impl Into<String>) -> Message {
        Message::ToolResult { call: call.into(), text: text.into(), is_error: true }
    }
}

/// What a model said in one turn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Assistant {
    /// What it said aloud; may be empty when it only calls tools.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The tools that it wants called, in its order; none ends the turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
    /// What its provider needs back unchanged with the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<Opaque>,
}

impl From<Assistant> for Message {
    fn from(said: Assistant) -> Message {
        Message::Assistant(said)
    }
}

/// A tool that a model wants called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call; no two calls of one conversation share an id, whatever the provider sent.
    pub id: String,
    /// The [`ToolSpec::name`]; nothing promises that such a tool was offered.
    pub name: String,
    /// What it is called with: an object, or, when the model wrote no valid JSON, its text.
    pub arguments: Value,
}

/// What a provider needs back unchanged, such as the signatures of its model's thoughts.
///
/// It means nothing to anybody else, so it is left out of requests to another provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opaque {
    /// The provider ([`Provider::word`]) that gave it; a word, so that one that is unknown here can be kept.
    pub provider: String,
    /// The pieces, in order.
    pub parts: Vec<OpaquePart>,
}

impl Opaque {
    /// Tells whether it came from this provider.
    #[must_use]
    pub fn is_of(&self, provider: Provider) -> bool {
        self.provider == provider.word()
    }
}

/// One piece of what a provider needs back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OpaquePart {
    /// A thought, with the provider's signature when it signs them.
    Thought {
        /// The words of the thought; `None`: the signature stands alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The signature.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// Signatures that belong to a call.
    Call {
        /// The [`ToolCall::id`].
        call: String,
        /// The signatures.
        signatures: Vec<String>,
    },
    /// A block of the provider's own kind, such as a thought that it encrypted.
    Block {
        /// The block as it came.
        data: Value,
    },
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: String,
    /// The JSON schema of its arguments; an object.
    pub schema: Value,
}

/// Whether the model may call tools in this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolUse {
    /// As it likes.
    #[default]
    Auto,
    /// It must not, though tools are listed.
    Never,
    /// It must call one.
    Must,
}

/// How much a model is to think before it answers; models that cannot are not asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum Effort {
    Off,
    Low,
    Medium,
    High,
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The format.
    pub v: Format,
    /// Who is asked.
    pub model: ModelName,
    /// The instructions that stand above the conversation; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// The conversation; its last message is not the model's.
    pub messages: Vec<Message>,
    /// The tools on offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// The most tokens that the reply may have; `None`: what the provider takes for right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Whether tools may be called.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tool_use: ToolUse,
    /// How freely it chooses its words; `None`: the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How much it is to think; `None`: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
}

impl Request {
    /// A request that says nothing yet.
    #[must_use]
    pub fn new(model: ModelName) -> Request {
        Request {
            v: Format,
            model,
            system: String::new(),
            messages: Vec::new(),
            tools: Vec::new(),
            max_output_tokens: None,
            tool_use: ToolUse::Auto,
            temperature: None,
            effort: None,
        }
    }

    /// The SHA-256 of its JSON, in hex: the same request has the same digest, also after it was stored and read.
    #[must_use]
    pub fn digest(&self) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tells whether a tool of this name is on offer.
    #[must_use]
    pub fn offers(&self, tool: &str) -> bool {
        self.tool_use != ToolUse::Never && self.tools.iter().any(|t| t.name == tool)
    }
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The format.
    pub v: Format,
    /// What it said and wants done.
    pub message: Assistant,
    /// Why it stopped.
    pub stop: Stop,
    /// What the turn used.
    pub usage: Tokens,
    /// Who answered, as the provider names it: often a dated name of the model that was asked.
    pub model: ModelName,
}

/// Why a model stopped; as JSON, a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It had said all.
    EndTurn,
    /// It waits for the results of its calls; there is at least one.
    ToolUse,
    /// It reached the most tokens it might use, or the end of its context. Calls that were cut off are left out.
    MaxTokens,
    /// It, or a filter of its provider, would not answer.
    Refusal,
    /// For another reason, in the provider's own word.
    Other(String),
}

impl Stop {
    fn word(&self) -> &str {
        match self {
            Stop::EndTurn => "end_turn",
            Stop::ToolUse => "tool_use",
            Stop::MaxTokens => "max_tokens",
            Stop::Refusal => "refusal",
            Stop::Other(word) => word,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for Stop {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stop, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = [Stop::EndTurn, Stop::ToolUse, Stop::MaxTokens, Stop::Refusal];
        Ok(known.into_iter().find(|stop| stop.word() == word).unwrap_or(Stop::Other(word)))
    }
}

/// What a turn used. The four counts are apart: none is a part of another, and their sum is what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Of the prompt, those that were neither read from a cache nor written to one.
    #[serde(default)]
    pub input: u64,
    /// Of the prompt, those that the provider had in its cache.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cached_read: u64,
    /// Of the prompt, those that it put into its cache.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cached_write: u64,
    /// Of the reply, with its thoughts.
    #[serde(default)]
    pub output: u64,
    /// How many of `output` were thoughts; not to be added to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reasoning: u64,
    /// Tells that the provider did not say, and that some of these counts were guessed from lengths.
    #[serde(default, skip_serializing_if = "is_false")]
    pub estimated: bool,
}

impl Tokens {
    /// The whole prompt.
    #[must_use]
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cached_read).saturating_add(self.cached_write)
    }

    /// Prompt and reply, which is what budgets count; at the end of the numbers it stays there.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }

    /// The sum of two uses, estimated when one of them is; `None` when a count passes the end of the numbers.
    #[must_use]
    pub fn checked_add(&self, other: &Tokens) -> Option<Tokens> {
        Some(Tokens {
            input: self.input.checked_add(other.input)?,
            cached_read: self.cached_read.checked_add(other.cached_read)?,
            cached_write: self.cached_write.checked_add(other.cached_write)?,
            output: self.output.checked_add(other.output)?,
            reasoning: self.reasoning.checked_add(other.reasoning)?,
            estimated: self.estimated || other.estimated,
        })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
