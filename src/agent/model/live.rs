//! The real models. The crate `genai` speaks their protocols; no type of it leaves this module.
//!
//! What is done here beyond calling it, and why:
//!
//! * **Ends.** The crate ends a stream of Gemini or Ollama as if it were complete when the connection closes. So a
//!   reply counts only when its end was seen: a stop reason, or Ollama's `done` in the raw frames.
//! * **Names.** The crate takes `-high`, `-max` and the like off a model's name, which is wrong for `qwen-max`; the
//!   name is sent as it was written.
//! * **Ids of calls.** Some providers send none, and the crate then numbers them from zero in every reply. Ids are
//!   made unique here, since journals find results by them.
//! * **Failed tools** are marked as such where the protocol can say so, and in words elsewhere.
//! * **Its log lines** are dropped: they quote what providers sent.

mod fault;
mod receive;
mod send;
mod target;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use self::receive::Seen;
use self::target::Targets;
use super::{Calling, ErrorKind, Model, ModelError, ModelName, Reply, Request};
use crate::agent::http;
use crate::config::Config;

/// How long a server may think before the first byte; Ollama may have to load a large model first.
const FIRST_BYTE: Duration = Duration::from_secs(600);
/// How long a stream may be silent; thinking models send nothing for minutes on some servers.
const SILENCE: Duration = Duration::from_secs(300);

/// The providers behind the network.
pub(super) struct Live {
    /// Made when it is first needed, since it reads the system's certificates. `Err`: why there can be none.
    client: OnceLock<Result<genai::Client, String>>,
    targets: Targets,
}

impl Live {
    pub(super) fn new(config: &Config) -> Live {
        Live { client: OnceLock::new(), targets: Targets::new(config) }
    }

    /// Puts Gemini elsewhere; there is no setting for it.
    #[cfg(test)]
    pub(super) fn gemini_at(&mut self, base: &str) {
        self.targets.gemini_at(base);
    }

    pub(super) fn check(&self, model: &ModelName) -> Result<(), ModelError> {
        self.targets.of(model).map(drop)
    }

    async fn ask(&self, request: &Request, on_text: &mut (dyn FnMut(&str) + Send)) -> Result<Reply, ModelError> {
        let target = self.targets.of(&request.model)?;
        let client =
            self.client.get_or_init(client).as_ref().map_err(|why| ModelError::new(ErrorKind::Network, why.clone()))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let options = send::options(request, seen.clone());
        let chat = send::chat(request);
        let fault = |error| fault::of(error, &target, Timestamp::now());
        let opening = client.exec_chat_stream(target.service(), chat, Some(&options));
        let stream = opening.with_subscriber(NoSubscriber::default()).await.map_err(fault)?;
        match receive::listen(stream.stream, on_text).await {
            Ok(heard) => receive::reply(heard, &seen, request, &target),
            Err(error) => receive::blocked(&seen, request).ok_or_else(|| fault(error)),
        }
    }
}

impl Model for Live {
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a> {
        Box::pin(self.ask(request, on_text))
    }
}

fn client() -> Result<genai::Client, String> {
    let http =
        http::client().map_err(|error| format!("there is no HTTP client for models: {}", fault::root_cause(&error)))?;
    genai::Client::builder().with_reqwest(http).build().map_err(|_| "there is no client for models".to_owned())
}
