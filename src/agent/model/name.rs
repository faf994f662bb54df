//! What models are called: `provider/model`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who serves a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's Chat Completions API, or any server that speaks it.
    OpenAi,
    /// Google's Gemini API.
    Gemini,
    /// Ollama, on one's own machine.
    Ollama,
    /// No model at all: a program that plays one, without key and network.
    Demo,
}

impl Provider {
    /// All of them, in the order in which messages list them.
    pub const ALL: [Provider; 5] =
        [Provider::Anthropic, Provider::OpenAi, Provider::Gemini, Provider::Ollama, Provider::Demo];

    /// The word before the slash.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Provider::Anthropic => "anthropic",
            Provider::OpenAi => "openai",
            Provider::Gemini => "gemini",
            Provider::Ollama => "ollama",
            Provider::Demo => "demo",
        }
    }

    /// What people call it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Provider::Anthropic => "Anthropic",
            Provider::OpenAi => "OpenAI",
            Provider::Gemini => "Gemini",
            Provider::Ollama => "Ollama",
            Provider::Demo => "the demo",
        }
    }
}

impl FromStr for Provider {
    type Err = String;

    /// Reads the word, in any case; `google` is another word for `gemini`.
    fn from_str(text: &str) -> Result<Provider, String> {
        let word = text.to_ascii_lowercase();
        let word = if word == "google" { "gemini" } else { &word };
        Provider::ALL.into_iter().find(|p| p.word() == word).ok_or_else(|| {
            let known: Vec<&str> = Provider::ALL.iter().map(|p| p.word()).collect();
            let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
            format!("there is no provider `{shown}`; there are: {}", known.join(", "))
        })
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The name of a model, `provider/model`; as JSON, that text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    provider: Provider,
    model: String,
}

impl ModelName {
    /// Joins the two halves, as a team's YAML has them (`provider: openai`, `model: gpt-5`).
    ///
    /// # Errors
    /// When the model's half is empty, longer than 200 characters, or holds what no model's name holds.
    pub fn new(provider: Provider, model: &str) -> Result<ModelName, String> {
        const LONGEST: usize = 200;
        let fine = |c: char| c.is_ascii_graphic() && !"?#%\\\"'<>`".contains(c);
        if model.is_empty() || model.len() > LONGEST {
            return Err(format!("`{provider}/` needs the name of a model behind it"));
        }
        // The name becomes a part of an address at some providers.
        if !model.chars().all(fine) || model.split('/').any(|part| part.is_empty() || part == "..") {
            let shown: String = model.chars().filter(|c| !c.is_control()).collect();
            return Err(format!("`{shown}` cannot be the name of a model"));
        }
        Ok(ModelName { provider, model: model.to_owned() })
    }

    /// Who serves it.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// What the provider calls it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

impl FromStr for ModelName {
    type Err = String;

    /// Reads `provider/model`, or `provider:model`; whichever of the two signs comes first divides them.
    fn from_str(text: &str) -> Result<ModelName, String> {
        let text = text.trim();
        let Some((provider, model)) = text.split_once(['/', ':']) else {
            let known: Vec<&str> = Provider::ALL.iter().map(|p| p.word()).collect();
            let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(format!(
                "`{shown}` does not say whose model it is; write `provider/model` with one of: {}",
                known.join(", ")
            ));
        };
        ModelName::new(provider.parse()?, model)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ModelName, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
