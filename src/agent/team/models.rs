//! Which models a file means.

use std::collections::BTreeMap;

use super::keys::{MODEL, PROVIDER};
use super::read::{Fields, Reader};
use super::yaml::Field;
use super::{Model, Problem, TeamError};

fn missing(fields: &Fields<'_>, key: &'static str, hint: &str) -> TeamError {
    let problem = Problem::Missing(fields.what.to_owned(), key);
    TeamError { line: fields.line, problem, hint: hint.to_owned() }
}

impl Model {
    /// The model, asked as the file says.
    fn with(self, fields: &Fields<'_>) -> Result<Model, TeamError> {
        Ok(Model {
            base_url: fields.text("base_url")?.or(self.base_url),
            token_key: fields.text("token_key")?.or(self.token_key),
            max_tokens: fields.number("max_tokens")?.or(self.max_tokens),
            temperature: fields.fraction("temperature")?.or(self.temperature),
            top_p: fields.fraction("top_p")?.or(self.top_p),
            name: self.name,
        })
    }
}

const PROVIDERS: &str = "add one: anthropic, openai, google, ollama, ...";

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
            let mut others: Vec<&Field> = Vec::new();
            for field in Fields::of(node, "`models`")?.each() {
                let what = format!("model `{}`", field.key);
                let fields = Fields::of(&field.value, &what)?;
                reader.check(&fields, &[&MODEL]);
                let Some(provider) = fields.text("provider")?.or(fields.text("type")?) else {
                    others.push(field);
                    continue;
                };
                let hint = "add the provider's name for it";
                let model = fields.text("model")?.ok_or_else(|| missing(&fields, "model", hint))?;
                let model = models.of_provider(&provider, &model).with(&fields)?;
                models.models.insert(field.key.clone(), model);
            }
            models.read_others(reader, others)?;
        }
        Ok(models)
    }

    /// Reads the models that stand for others, which may again stand for others.
    fn read_others(&mut self, reader: &mut Reader, mut others: Vec<&Field>) -> Result<(), TeamError> {
        while !others.is_empty() {
            let before = others.len();
            let mut left = Vec::new();
            for field in others {
                let what = format!("model `{}`", field.key);
                let fields = Fields::of(&field.value, &what)?;
                let name = fields.text("model")?.ok_or_else(|| missing(&fields, "provider", PROVIDERS))?;
                let first = name.split(',').next().unwrap_or_default().trim();
                if !first.contains('/') && !self.models.contains_key(first) {
                    left.push(field);
                    continue;
                }
                if let Some(model) = self.named(reader, &name, fields.line)? {
                    self.models.insert(field.key.clone(), model.with(&fields)?);
                }
            }
            // None of those that are left stands for one that is known.
            if let Some(field) = left.first().filter(|_| left.len() == before) {
                let what = format!("model `{}`", field.key);
                return Err(missing(&Fields::of(&field.value, &what)?, "provider", PROVIDERS));
            }
            others = left;
        }
        Ok(())
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
