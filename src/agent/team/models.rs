//! Which models a file means.

use std::collections::BTreeMap;

use super::keys::{MODEL, PROVIDER};
use super::read::{Fields, Reader};
use super::{Model, Problem, TeamError};

/// The name that means: whichever model this installation has.
const AUTO: &str = "auto";

/// The models and providers that a file describes.
pub(super) struct Models {
    models: BTreeMap<String, Model>,
    providers: BTreeMap<String, Provider>,
}

struct Provider {
    base_url: Option<String>,
    token_key: Option<String>,
}

impl Models {
    /// Reads `providers` and `models`.
    pub(super) fn read(reader: &mut Reader, top: &Fields<'_>) -> Result<Models, TeamError> {
        let mut models = Models { models: BTreeMap::new(), providers: BTreeMap::new() };
        if let Some(node) = top.get("providers") {
            for field in Fields::of(node, "`providers`")?.each() {
                let what = format!("provider `{}`", field.key);
                let fields = Fields::of(&field.value, &what)?;
                reader.check(&fields, &[&PROVIDER]);
                let provider = Provider { base_url: fields.text("base_url")?, token_key: fields.text("token_key")? };
                models.providers.insert(field.key.clone(), provider);
            }
        }
        if let Some(node) = top.get("models") {
            for field in Fields::of(node, "`models`")?.each() {
                let what = format!("model `{}`", field.key);
                let fields = Fields::of(&field.value, &what)?;
                reader.check(&fields, &[&MODEL]);
                let model = models.described(&fields)?;
                models.models.insert(field.key.clone(), model);
            }
        }
        Ok(models)
    }

    fn described(&self, fields: &Fields<'_>) -> Result<Model, TeamError> {
        let missing = |key: &'static str, hint: &str| TeamError {
            line: fields.line,
            problem: Problem::Missing(fields.what.to_owned(), key),
            hint: hint.to_owned(),
        };
        let provider = fields.text("provider")?;
        let provider =
            provider.ok_or_else(|| missing("provider", "add one: anthropic, openai, google, ollama, ..."))?;
        let model = fields.text("model")?.ok_or_else(|| missing("model", "add the provider's name for it"))?;
        let by_provider = self.of_provider(&provider, &model);
        Ok(Model {
            base_url: fields.text("base_url")?.or(by_provider.base_url),
            token_key: fields.text("token_key")?.or(by_provider.token_key),
            max_tokens: fields.number("max_tokens")?,
            temperature: fields.fraction("temperature")?,
            top_p: fields.fraction("top_p")?,
            name: by_provider.name,
        })
    }

    fn of_provider(&self, provider: &str, model: &str) -> Model {
        let described = self.providers.get(provider);
        Model {
            name: format!("{}/{}", provider.trim(), model.trim()),
            base_url: described.and_then(|p| p.base_url.clone()),
            token_key: described.and_then(|p| p.token_key.clone()),
            ..Model::default()
        }
    }

    /// The model of an agent; `None`: the one of Octo's settings.
    pub(super) fn of_agent(&self, reader: &mut Reader, agent: &Fields<'_>) -> Result<Option<Model>, TeamError> {
        match (agent.text("model")?, agent.get("model")) {
            (Some(name), Some(node)) => self.named(reader, &name, node.line),
            _ => Ok(None),
        }
    }

    /// The model that a name means: one of the file's own, or `provider/model`. Of several, the first.
    pub(super) fn named(&self, reader: &mut Reader, name: &str, line: usize) -> Result<Option<Model>, TeamError> {
        let mut names = name.split(',').map(str::trim).filter(|n| !n.is_empty());
        let first = names.next().unwrap_or_default();
        if names.next().is_some() {
            reader.warn(line, format!("`{name}` names several models to take turns: the first, `{first}`, is used"));
        }
        if first == AUTO {
            return Ok(None);
        }
        if let Some(model) = self.models.get(first) {
            return Ok(Some(model.clone()));
        }
        match first.split_once('/') {
            Some((provider, model)) if !provider.trim().is_empty() && !model.trim().is_empty() => {
                Ok(Some(self.of_provider(provider, model)))
            }
            _ => Err(self.unknown(first, line)),
        }
    }

    fn unknown(&self, name: &str, line: usize) -> TeamError {
        let own: Vec<_> = self.models.keys().map(String::as_str).collect();
        let own = if own.is_empty() { String::new() } else { format!(", or one of this file's: {}", own.join(", ")) };
        let hint = format!("write `provider/model`, such as anthropic/claude-sonnet-4-5{own}");
        TeamError { line, problem: Problem::Model(name.to_owned()), hint }
    }
}
