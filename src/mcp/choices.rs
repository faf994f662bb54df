//! claude's own `AskUserQuestion`: each of its questions becomes one of the task's.

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::desk::Desk;
use super::permission::{Verdict, not_asked};
use crate::command::{QuestionRequest, QuestionState, Refused};

#[derive(Deserialize)]
struct Asked {
    questions: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    question: String,
    #[serde(default)]
    options: Vec<Choice>,
    #[serde(default)]
    multi_select: bool,
}

#[derive(Deserialize)]
struct Choice {
    label: String,
    #[serde(default)]
    description: String,
}

impl Item {
    fn labels(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|o| o.label.as_str())
    }

    fn request(&self) -> QuestionRequest {
        let mut text = self.question.clone();
        let described: Vec<_> = self.options.iter().filter(|o| !o.description.is_empty()).collect();
        if !described.is_empty() {
            text.push('\n');
        }
        for choice in described {
            text.push_str(&format!("\n{}: {}", choice.label, choice.description));
        }
        if self.multi_select {
            text.push_str("\n\nSeveral may be chosen, with commas between them.");
        }
        QuestionRequest {
            text,
            choices: self.labels().map(str::to_owned).collect(),
            // claude lets people type another answer, too.
            free: true,
            by: super::server::BY.to_owned(),
            ..Default::default()
        }
    }

    /// The answer in claude's words: of several choices, their labels with commas between them.
    fn answer(&self, said: &str) -> String {
        if !self.multi_select || self.labels().any(|label| label == said) {
            return said.to_owned();
        }
        said.split(',').map(|part| self.label(part.trim())).collect::<Vec<_>>().join(", ")
    }

    /// The label that a word or a number from 1 means; else the word itself.
    fn label<'a>(&'a self, said: &'a str) -> &'a str {
        let fold = said.to_lowercase();
        let named = self.labels().find(|label| label.to_lowercase() == fold);
        named.or_else(|| self.labels().nth(said.parse::<usize>().ok()?.checked_sub(1)?)).unwrap_or(said)
    }
}

/// Asks all questions, waits until all are closed, and gives the tool its input together with the answers.
pub(super) async fn ask(desk: &impl Desk, mut input: Value) -> Verdict {
    let items = match serde_json::from_value::<Asked>(input.clone()) {
        Ok(asked) if !asked.questions.is_empty() => asked.questions,
        Ok(_) => return Verdict::Deny("There is no question to ask.".to_owned()),
        Err(error) => return Verdict::Deny(format!("The questions cannot be read: {error}.")),
    };
    let states = match ask_all(desk, &items).await {
        Ok(states) => states,
        Err(refused) => return Verdict::Deny(not_asked(&refused)),
    };
    let answered = |(item, state): (&Item, &QuestionState)| {
        Some((item.question.clone(), Value::from(item.answer(&state.answer.as_ref()?.text))))
    };
    let answers: Map<String, Value> = items.iter().zip(&states).filter_map(answered).collect();
    if states.iter().any(|state| state.answer.is_none()) {
        let open = items.iter().zip(&states).filter(|(_, state)| state.answer.is_none());
        let open: Vec<_> = open.map(|(item, _)| item.question.as_str()).collect();
        let given = Value::Object(answers);
        return Verdict::Deny(format!("Nobody answered: {}. Answers were given only to: {given}", open.join(" | ")));
    }
    input["answers"] = answers.into();
    Verdict::Allow(input)
}

/// Asks in order, so that the first is the first on every channel; waits for all at once.
async fn ask_all(desk: &impl Desk, items: &[Item]) -> Result<Vec<QuestionState>, Refused> {
    let mut asked = Vec::new();
    for item in items {
        asked.push(desk.ask(item.request()).await?);
    }
    let closed = asked.into_iter().map(async |state| match state.question.open {
        true => desk.closed(&state.question.id).await,
        false => Ok(state),
    });
    join_all(closed).await.into_iter().collect()
}
