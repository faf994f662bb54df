//! The permission handler: what `claude --permission-prompt-tool` calls before it uses a tool.

use serde_json::{Value, json};

use super::choices;
use super::desk::Desk;
use crate::action;
use crate::command::{ActionRequest, QuestionRequest, QuestionState, Refused};
use crate::task::{ALLOW, ALLOW_FOR_TASK, Closed};

/// claude's own tool for questions: it comes by as a request for permission, and takes the answers from it.
const ASK_USER: &str = "AskUserQuestion";

/// What `claude` is told.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The tool may be used, with this input.
    Allow(Value),
    /// It may not; why.
    Deny(String),
}

impl Verdict {
    /// As claude reads it.
    pub(super) fn to_json(&self) -> String {
        match self {
            Verdict::Allow(input) => json!({"behavior": "allow", "updatedInput": input}),
            Verdict::Deny(why) => json!({"behavior": "deny", "message": why}),
        }
        .to_string()
    }
}

/// Asks the owner whether `tool` may be used with `input` in `folder`.
pub(super) async fn decide(desk: &impl Desk, tool: &str, input: Value, folder: String) -> Verdict {
    if tool == ASK_USER {
        return choices::ask(desk, input).await;
    }
    let digest = action::digest(tool, &folder, &input);
    let action = ActionRequest { tool: tool.to_owned(), input: input.clone(), folder };
    let request = QuestionRequest { action: Some(action), by: super::server::BY.to_owned(), ..Default::default() };
    match desk.ask_and_wait(request).await {
        Ok(state) => judge(&state, &digest, input),
        Err(refused) => Verdict::Deny(not_asked(&refused)),
    }
}

/// Only a plain yes to exactly this action is one.
fn judge(state: &QuestionState, digest: &str, input: Value) -> Verdict {
    let Some(answer) = &state.answer else {
        let why = match state.question.closed {
            Some(Closed::NoAnswer) => "nobody answered in time",
            Some(Closed::TaskEnded) => "the run that asked has ended",
            Some(Closed::Answered) | None => "there is no answer",
        };
        return Verdict::Deny(format!("No permission was given: {why}."));
    };
    if answer.text != ALLOW && answer.text != ALLOW_FOR_TASK {
        return Verdict::Deny(format!("The owner of this task does not allow this ({}).", answer.text));
    }
    if state.question.action.as_ref().is_none_or(|action| action.digest != digest) {
        return Verdict::Deny("No permission was given: what was approved is not what was asked for.".to_owned());
    }
    Verdict::Allow(input)
}

/// Why a question could not be asked or its answer not be had.
pub(super) fn not_asked(refused: &Refused) -> String {
    format!("Octo could not ask the owner of this task: {}.", refused.message.trim_end_matches('.'))
}
