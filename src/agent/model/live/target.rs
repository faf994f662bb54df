//! Where each provider is, and with which key.

use genai::adapter::AdapterKind;
use genai::resolver::{AuthData, Endpoint};
use genai::{ModelIden, ServiceTarget};

use crate::agent::model::{ErrorKind, ModelError, ModelName, Provider, key_setting};
use crate::config::{Config, Secret};

/// All providers.
pub(super) struct Targets {
    anthropic: Place,
    openai: Place,
    gemini: Place,
    ollama: Place,
}

struct Place {
    /// Ends in a slash.
    base: String,
    key: Secret,
    /// Whether it is the provider's own address, which takes nobody without a key.
    own: bool,
}

/// Whom one request goes to.
pub(super) struct Target {
    pub(super) model: ModelName,
    base: String,
    key: Secret,
}

impl Targets {
    pub(super) fn new(config: &Config) -> Targets {
        Targets {
            anthropic: Place {
                base: with_version(&config.anthropic_base_url, "https://api.anthropic.com/"),
                key: config.anthropic_api_key.clone(),
                own: config.anthropic_base_url.is_empty(),
            },
            openai: Place {
                base: as_given(&config.openai_base_url, "https://api.openai.com/v1/"),
                key: config.openai_api_key.clone(),
                own: config.openai_base_url.is_empty(),
            },
            gemini: Place {
                base: "https://generativelanguage.googleapis.com/v1beta/".to_owned(),
                key: config.gemini_api_key.clone(),
                own: true,
            },
            ollama: Place { base: ollama(&config.ollama_host), key: Secret::default(), own: false },
        }
    }

    /// Puts Gemini elsewhere; there is no setting for it.
    #[cfg(test)]
    pub(super) fn gemini_at(&mut self, base: &str) {
        base.clone_into(&mut self.gemini.base);
    }

    pub(super) fn of(&self, model: &ModelName) -> Result<Target, ModelError> {
        let place = match model.provider() {
            Provider::Anthropic => &self.anthropic,
            Provider::OpenAi => &self.openai,
            Provider::Gemini => &self.gemini,
            Provider::Ollama => &self.ollama,
            Provider::Demo => {
                return Err(ModelError::new(ErrorKind::Invalid, "demo models are not asked over a network"));
            }
        };
        if place.own
            && place.key.is_empty()
            && let Some(setting) = key_setting(model.provider())
        {
            let message = format!(
                "{model} needs a key: set {setting} in the environment or in .env (or try a model that needs none: \
                 OCTO_MODEL=demo/tour)"
            );
            return Err(ModelError::new(ErrorKind::NoKey, message));
        }
        Ok(Target { model: model.clone(), base: place.base.clone(), key: place.key.clone() })
    }
}

impl Target {
    /// As the crate wants it.
    pub(super) fn service(&self) -> ServiceTarget {
        let kind = match self.model.provider() {
            Provider::Anthropic => AdapterKind::Anthropic,
            Provider::OpenAi | Provider::Demo => AdapterKind::OpenAI,
            Provider::Gemini => AdapterKind::Gemini,
            Provider::Ollama => AdapterKind::Ollama,
        };
        // Servers on one's own machine take any key, but the crate wants one.
        let key = if self.key.is_empty() { "none" } else { self.key.expose() };
        ServiceTarget {
            endpoint: Endpoint::from_owned(self.base.as_str()),
            auth: AuthData::from_single(key),
            model: ModelIden::new(kind, self.model.model()),
        }
    }

    /// Scheme, host and port, as an error may show them.
    pub(super) fn shown_address(&self) -> String {
        let Ok(url) = reqwest::Url::parse(&self.base) else { return "an address that is none".to_owned() };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
    }

    /// Texts that no error may hold: the key, and a password in the address.
    pub(super) fn secrets(&self) -> Vec<String> {
        let url = reqwest::Url::parse(&self.base).ok();
        let password = url.and_then(|url| url.password().map(str::to_owned));
        [Some(self.key.expose().to_owned()), password].into_iter().flatten().filter(|s| !s.is_empty()).collect()
    }
}

/// Anthropic's addresses are given without `/v1`, as its own programs take them; one that has it is fine, too.
fn with_version(given: &str, default: &str) -> String {
    let base = if given.is_empty() { default } else { given }.trim_end_matches('/');
    if base.ends_with("/v1") { format!("{base}/") } else { format!("{base}/v1/") }
}

/// OpenAI's are given with whatever path the server has; one with no path at all means `/v1`.
fn as_given(given: &str, default: &str) -> String {
    let given = if given.is_empty() { default } else { given };
    let (path, query) = given.split_at(given.find('?').unwrap_or(given.len()));
    let path = path.trim_end_matches('/');
    let bare = reqwest::Url::parse(path).is_ok_and(|url| url.path() == "/") && query.is_empty();
    if bare { format!("{path}/v1/") } else { format!("{path}/{query}") }
}

/// `OLLAMA_HOST` may be a host, a host with a port, or an address; and where a server listens on all interfaces
/// one reaches it on the loopback one.
fn ollama(given: &str) -> String {
    const PORT: u16 = 11434;
    let given = given.trim().trim_end_matches('/');
    let given = if given.is_empty() { "127.0.0.1" } else { given };
    let full = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
    let Ok(mut url) = reqwest::Url::parse(&full) else { return format!("{full}/") };
    if url.host_str() == Some("0.0.0.0") {
        url.set_host(Some("127.0.0.1")).ok();
    }
    let has_port = full.rsplit_once(':').is_some_and(|(_, end)| end.trim_end_matches('/').parse::<u16>().is_ok());
    if !has_port && url.scheme() == "http" {
        url.set_port(Some(PORT)).ok();
    }
    let base = url.to_string();
    if base.ends_with('/') { base } else { format!("{base}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_their_programs_take_them() {
        assert_eq!(with_version("", "https://api.anthropic.com/"), "https://api.anthropic.com/v1/");
        assert_eq!(with_version("http://127.0.0.1:9/", "x"), "http://127.0.0.1:9/v1/");
        assert_eq!(with_version("http://127.0.0.1:9/v1", "x"), "http://127.0.0.1:9/v1/");
        assert_eq!(as_given("", "https://api.openai.com/v1/"), "https://api.openai.com/v1/");
        assert_eq!(as_given("http://localhost:8000", "x"), "http://localhost:8000/v1/");
        assert_eq!(as_given("http://localhost:8000/api/openai/", "x"), "http://localhost:8000/api/openai/");
        assert_eq!(as_given("https://x.test/openai?api-version=1", "x"), "https://x.test/openai/?api-version=1");
        assert_eq!(ollama(""), "http://127.0.0.1:11434/");
        assert_eq!(ollama("0.0.0.0"), "http://127.0.0.1:11434/");
        assert_eq!(ollama("box:8080"), "http://box:8080/");
        assert_eq!(ollama("http://box"), "http://box:11434/");
        assert_eq!(ollama("https://box/ollama/"), "https://box/ollama/");
    }
}
