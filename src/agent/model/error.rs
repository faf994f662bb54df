//! What can go wrong when a model is asked.

use std::time::Duration;

use jiff::Timestamp;

use super::name::Provider;

/// Why there is no reply. Its message is a sentence for people and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What a caller decides by.
    pub kind: ErrorKind,
    /// What happened, and what to do.
    pub message: String,
    /// How long the server asks to wait before the next try; `None`: it does not say.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Too many requests or tokens in a stretch of time.
    RateLimited {
        /// When it is over, when the server says so.
        reset: Option<Timestamp>,
    },
    /// The provider has too much to do (503, 529).
    Overloaded,
    /// The provider failed (408, 5xx).
    Server(u16),
    /// It could not be reached, or was silent for too long.
    Network,
    /// The reply broke off before its end.
    Cut,
    /// The reply could not be read.
    Malformed,
    /// The provider does not take the request (another 4xx); asking again would change nothing.
    Refused(u16),
    /// The conversation is longer than the model can read.
    ContextOverflow,
    /// The key was not accepted.
    BadKey,
    /// There is no key.
    NoKey,
    /// The account has no money left, or its quota is used up.
    NoCredit,
    /// The request makes no sense before it is sent.
    Invalid,
}

impl ModelError {
    /// An error without a word about waiting.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ModelError {
        ModelError { kind, message: message.into(), retry_after: None }
    }

    /// A rate limit that is over after `wait`, counted from `now`.
    pub fn rate_limited(message: impl Into<String>, wait: Option<Duration>, now: Timestamp) -> ModelError {
        let reset = wait.and_then(|wait| now.checked_add(wait).ok());
        ModelError { kind: ErrorKind::RateLimited { reset }, message: message.into(), retry_after: wait }
    }

    /// Tells whether the same request may succeed a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self.kind {
            ErrorKind::RateLimited { .. }
            | ErrorKind::Overloaded
            | ErrorKind::Server(_)
            | ErrorKind::Network
            | ErrorKind::Cut
            | ErrorKind::Malformed => true,
            ErrorKind::Refused(_)
            | ErrorKind::ContextOverflow
            | ErrorKind::BadKey
            | ErrorKind::NoKey
            | ErrorKind::NoCredit
            | ErrorKind::Invalid => false,
        }
    }
}

/// The setting that holds a provider's key; `None`: it needs none.
#[must_use]
pub const fn key_setting(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Anthropic => Some("ANTHROPIC_API_KEY"),
        Provider::OpenAi => Some("OPENAI_API_KEY"),
        Provider::Gemini => Some("GEMINI_API_KEY"),
        Provider::Ollama | Provider::Demo => None,
    }
}
