//! The model layer of agents: what is said to a model and what comes back, whoever serves it.
//!
//! ```text
//!   an agent's step loop
//!        |  Request                                   ^  Reply, or ModelError
//!      Retry            what passes by itself is tried again, within a bound
//!        |
//!      Models           by the provider of the request's model
//!      /     \
//!   demo     live       no key, no network  |  Anthropic, OpenAI and its like, Gemini, Ollama
//! ```
//!
//! * [`types`] are stored in journals for years: **read its rules before a change**.
//! * [`Model`] is the one trait; [`crate::testkit::Scripted`] stands in for it in tests.
//! * [`Models`] knows the keys and addresses of the settings, and routes a request to who serves its model.
//! * [`Retry`] wraps any model. It never waits longer than its bound: a rate limit that ends later is returned,
//!   and the caller parks the task until then.
//! * [`prices`] tells what tokens cost.
//!
//! Nothing here is remembered between two calls: a call may be dropped at any time, and costs at most what the
//! provider counts for it. A reply that has no end event is an error, never a reply.

use std::future::Future;
use std::pin::Pin;

pub mod demo;
mod error;
pub mod estimate;
mod live;
mod models;
mod name;
pub mod prices;
mod retry;
#[cfg(test)]
mod tests;
pub mod types;

pub use error::{ErrorKind, ModelError, key_setting};
pub use models::Models;
pub use name::{ModelName, Provider};
pub use retry::{BEGUN_AGAIN, Policy, Retry, Wait};
pub use types::{
    Assistant, Effort, FORMAT, Format, Message, Opaque, OpaquePart, Reply, Request, Stop, Tokens, ToolCall, ToolSpec,
    ToolUse,
};

/// A call in flight. Dropping it ends it.
pub type Calling<'a> = Pin<Box<dyn Future<Output = Result<Reply, ModelError>> + Send + 'a>>;

/// Who answers requests.
pub trait Model: Send + Sync {
    /// Asks once. `on_text` is given the words of the reply as they come, for people who watch; what counts is
    /// the [`Reply`], which holds them all.
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a>;
}

impl<M: Model + ?Sized> Model for std::sync::Arc<M> {
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a> {
        (**self).call(request, on_text)
    }
}
