//! The models that the settings give access to.

use std::path::Path;
use std::sync::Arc;

use super::demo::Demo;
use super::live::Live;
use super::{Calling, Model, ModelError, ModelName, Provider, Request};
use crate::config::Config;

/// All models at once: a request goes to whoever serves its model.
///
/// It holds the keys, so it has no way to show what is in it. Made anew when the settings change.
#[derive(Clone)]
pub struct Models {
    live: Arc<Live>,
    demo: Arc<Demo>,
}

impl Models {
    /// Takes keys and addresses from the settings; `folder` is where the files of `demo/script:FILE` are looked
    /// for, the workspace.
    #[must_use]
    pub fn new(config: &Config, folder: &Path) -> Models {
        Models { live: Arc::new(Live::new(config)), demo: Arc::new(Demo::new(folder)) }
    }

    /// With Gemini elsewhere; there is no setting for it.
    #[cfg(test)]
    pub(super) fn with_gemini_at(config: &Config, base: &str) -> Models {
        let mut live = Live::new(config);
        live.gemini_at(base);
        Models { live: Arc::new(live), demo: Arc::new(Demo::new(Path::new("."))) }
    }

    /// Tells beforehand what a call would fail with for want of a key, or for a demo that does not exist.
    ///
    /// # Errors
    /// With what to set.
    pub fn check(&self, model: &ModelName) -> Result<(), ModelError> {
        match model.provider() {
            Provider::Demo => self.demo.check(model),
            Provider::Anthropic | Provider::OpenAi | Provider::Gemini | Provider::Ollama => self.live.check(model),
        }
    }
}

impl Model for Models {
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a> {
        match request.model.provider() {
            Provider::Demo => self.demo.call(request, on_text),
            Provider::Anthropic | Provider::OpenAi | Provider::Gemini | Provider::Ollama => {
                self.live.call(request, on_text)
            }
        }
    }
}
