//! A demo that is never done, so that budgets and limits of turns can be tried.

use serde_json::json;

use super::{Turn, tour};
use crate::agent::model::{Message, Request, ToolCall};

/// What the first turn claims to have read, and how much more each further one does.
const INPUT: (u64, u64) = (2_000, 1_000);
/// What each turn claims to have written.
const OUTPUT: u64 = 500;

pub(super) fn turn(request: &Request) -> Turn {
    let turns = request.messages.iter().filter(|m| matches!(m, Message::Assistant(_))).count() as u64;
    let usage = (INPUT.0 + INPUT.1 * turns, OUTPUT);
    let number = turns + 1;
    let mut turn = Turn::say(format!(
        "Turn {number}: I claim {} tokens for this one. I never finish: a budget stops me, or you do.",
        usage.0 + usage.1
    ));
    turn.usage = Some(usage);
    let tool = [("think", json!({"thought": format!("spending, turn {number}")})), ("list_files", json!({}))];
    if let Some((name, fallback)) = tool.into_iter().find(|(name, _)| request.offers(name)) {
        let arguments = if name == "list_files" { tour::path_argument(request, name, ".") } else { fallback };
        turn.said.calls.push(ToolCall { id: format!("spend_{number}"), name: name.to_owned(), arguments });
    }
    turn
}
