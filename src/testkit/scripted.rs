use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::agent::model::{
    Assistant, Calling, ErrorKind, Format, Model, ModelError, Reply, Request, Stop, Tokens, ToolCall,
};

/// What a [`Scripted`] model does when it is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It answers.
    Say(Reply),
    /// It tells a part of its words, then fails.
    Fail(String, ModelError),
    /// It never answers; the call lives until it is dropped.
    Hang,
}

/// A model that answers what a test wrote down, and keeps what it was asked. Clones share one script.
#[derive(Debug, Clone, Default)]
pub struct Scripted {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    steps: VecDeque<Step>,
    asked: Vec<Request>,
}

impl Scripted {
    /// A model with these steps, each for one call.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Scripted {
        let model = Scripted::default();
        model.state().steps.extend(steps);
        model
    }

    /// One more step at the end.
    pub fn push(&self, step: Step) {
        self.state().steps.push_back(step);
    }

    /// All requests so far, in order, those that failed among them.
    #[must_use]
    pub fn asked(&self) -> Vec<Request> {
        self.state().asked.clone()
    }

    /// How many steps were not played yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.state().steps.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    /// An answer in words that ends the turn; 10 tokens in, 5 out.
    pub fn text(text: &str) -> Step {
        Step::Say(reply(Assistant { text: text.to_owned(), ..Assistant::default() }, Stop::EndTurn))
    }

    /// An answer that calls tools: id, name, arguments.
    pub fn calls<const N: usize>(calls: [(&str, &str, Value); N]) -> Step {
        let calls = calls.map(|(id, name, arguments)| ToolCall { id: id.into(), name: name.into(), arguments });
        Step::Say(reply(Assistant { calls: calls.into(), ..Assistant::default() }, Stop::ToolUse))
    }

    /// A failure before the first word.
    pub fn fail(kind: ErrorKind) -> Step {
        Step::Fail(String::new(), ModelError::new(kind, "a test says so"))
    }

    /// The same answer with another usage.
    #[must_use]
    pub fn using(self, usage: Tokens) -> Step {
        match self {
            Step::Say(reply) => Step::Say(Reply { usage, ..reply }),
            Step::Fail(..) | Step::Hang => self,
        }
    }
}

fn reply(message: Assistant, stop: Stop) -> Reply {
    let model = crate::agent::model::ModelName::new(crate::agent::model::Provider::Demo, "scripted");
    let usage = Tokens { input: 10, output: 5, ..Tokens::default() };
    Reply { v: Format, message, stop, usage, model: model.unwrap_or_else(|why| panic!("{why}")) }
}

impl Model for Scripted {
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a> {
        Box::pin(async move {
            let step = {
                let mut state = self.state();
                state.asked.push(request.clone());
                state.steps.pop_front()
            };
            match step {
                Some(Step::Say(mut reply)) => {
                    reply.model = request.model.clone();
                    on_text(&reply.message.text);
                    Ok(reply)
                }
                Some(Step::Fail(part, error)) => {
                    on_text(&part);
                    Err(error)
                }
                Some(Step::Hang) => std::future::pending().await,
                None => Err(ModelError::new(ErrorKind::Invalid, "the test's script is over")),
            }
        })
    }
}
