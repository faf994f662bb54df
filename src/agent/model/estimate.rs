//! How many tokens a text may have, where nobody counts them.

use super::types::{Assistant, Message, Request, Tokens};

/// What the frame around a message costs.
const FRAME: u64 = 4;

/// Guesses the tokens of a text: four ASCII characters make one, two letters of most other alphabets, and one
/// sign of Chinese or Japanese or one emoji. Meant to err upwards for prose and to be near for code.
#[must_use]
pub fn tokens_of(text: &str) -> u64 {
    let mut quarters: u64 = 0;
    for c in text.chars() {
        quarters += match c.len_utf8() {
            1 => 1,
            2 => 2,
            _ => 4,
        };
    }
    quarters.div_ceil(4)
}

/// Guesses the tokens of a request's prompt.
#[must_use]
pub fn prompt(request: &Request) -> u64 {
    let tools = request
        .tools
        .iter()
        .map(|tool| FRAME + tokens_of(&tool.name) + tokens_of(&tool.description) + tokens_of(&tool.schema.to_string()));
    let messages = request.messages.iter().map(message);
    tokens_of(&request.system) + tools.sum::<u64>() + messages.sum::<u64>()
}

/// Guesses the tokens of a message.
#[must_use]
pub fn message(message: &Message) -> u64 {
    FRAME
        + match message {
            Message::System { text } | Message::User { text } | Message::ToolResult { text, .. } => tokens_of(text),
            Message::Assistant(said) => output(said),
        }
}

/// Guesses the tokens of what a model said.
#[must_use]
pub fn output(said: &Assistant) -> u64 {
    let calls = said.calls.iter().map(|c| FRAME + tokens_of(&c.name) + tokens_of(&c.arguments.to_string()));
    tokens_of(&said.text) + calls.sum::<u64>()
}

/// Guesses a whole turn, marked as guessed.
#[must_use]
pub fn turn(request: &Request, said: &Assistant) -> Tokens {
    Tokens { input: prompt(request), output: output(said), estimated: true, ..Tokens::default() }
}
