//! What tokens cost.
//!
//! Known models are built in (`prices/builtin.rs`, with dates and sources); `[prices]` of `octo.toml` overrides
//! and extends them. A model without a price costs an unknown amount, which is not the same as nothing.
//!
//! # `[prices]`
//!
//! One table per model, named as it is asked for; a name that ends in `*` stands for all that begin so. All
//! prices are US dollars per million tokens, with up to six decimals, as numbers or texts:
//!
//! ```toml
//! [prices."openai/my-model"]
//! input = 1.25          # what is neither read from a cache nor written to one
//! cached_read = 0.125   # left out: as `input`
//! cached_write = 1.25   # left out: as `input`
//! output = 10           # with the thoughts
//!
//! [prices."openai/my-model".over]   # left out: long prompts cost the same
//! prompt = 200000       # when the whole prompt has more tokens than this, the whole call costs:
//! input = 2.5
//! output = 15
//! ```
//!
//! The longest name that fits decides; the tables of `octo.toml` come before those built in. A name also fits
//! with a date behind it (`claude-sonnet-4-5-20250929`, `gpt-5-2025-08-07`), as providers name the model that
//! answered.

use serde_json::{Map, Value};

use super::{ModelName, Tokens};

mod builtin;
mod usd;

pub use usd::Usd;

/// Prices per million tokens, in micro-dollars: `3_000_000` is $3 per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Input outside of caches.
    pub input: u64,
    /// Input read from a cache.
    pub cached_read: u64,
    /// Input written to a cache.
    pub cached_write: u64,
    /// Output, thoughts included.
    pub output: u64,
}

/// What a call with a long prompt costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The same as a short one.
    Same,
    /// These rates, for the whole call, when the prompt has more than `prompt` tokens.
    Rates {
        /// The longest prompt that is short.
        prompt: u64,
        /// The rates above it.
        rates: Rates,
    },
    /// More, but nobody here knows how much, when the prompt has more than `prompt` tokens.
    Unknown {
        /// The longest prompt whose price is known.
        prompt: u64,
    },
}

/// The price of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// For all prompts, or for short ones.
    pub rates: Rates,
    /// For long ones.
    pub over: Over,
}

impl Price {
    /// What these tokens, of one call, cost; `None`: unknown for a prompt of this length.
    #[must_use]
    pub fn cost(&self, tokens: &Tokens) -> Option<Usd> {
        let rates = match self.over {
            Over::Rates { prompt, rates } if tokens.prompt() > prompt => rates,
            Over::Unknown { prompt } if tokens.prompt() > prompt => return None,
            Over::Same | Over::Rates { .. } | Over::Unknown { .. } => self.rates,
        };
        // Tokens times micro-dollars per million of them are millionths of a micro-dollar.
        let part = |count: u64, rate: u64| u128::from(count) * u128::from(rate);
        let sum = [
            part(tokens.input, rates.input),
            part(tokens.cached_read, rates.cached_read),
            part(tokens.cached_write, rates.cached_write),
            part(tokens.output, rates.output),
        ];
        let pico = sum.into_iter().fold(0_u128, u128::saturating_add);
        Some(Usd::from_pico(u64::try_from(pico).unwrap_or(u64::MAX)))
    }
}

/// The table of prices.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    own: Vec<(String, Price)>,
}

impl Prices {
    /// The table as built in.
    #[must_use]
    pub fn builtin() -> Prices {
        Prices::default()
    }

    /// The table with `[prices]` of `octo.toml` before it (`config.prices`: an object, or null). What makes no
    /// sense is left out, and named in the warnings.
    #[must_use]
    pub fn new(settings: &Value) -> (Prices, Vec<String>) {
        let (mut own, mut warnings) = (Vec::new(), Vec::new());
        match settings {
            Value::Null => {}
            Value::Object(tables) => {
                for (name, table) in tables {
                    match read(name, table) {
                        Ok(price) => own.push((name.clone(), price)),
                        Err(why) => warnings.push(format!("octo.toml: [prices.\"{}\"]: {why}", shown(name))),
                    }
                }
            }
            _ => warnings.push("octo.toml: `prices` is no table".to_owned()),
        }
        (Prices { own }, warnings)
    }

    /// The price of a model; `None`: unknown.
    #[must_use]
    pub fn of(&self, model: &ModelName) -> Option<Price> {
        let model = model.to_string();
        let own = self.own.iter().map(|(name, price)| (name.as_str(), price));
        best(own, &model).or_else(|| best(builtin::ROWS.iter().map(|(name, price)| (*name, price)), &model))
    }

    /// What the tokens of one call cost; `None`: unknown.
    ///
    /// Long prompts may have prices of their own, so the cost of several calls is the sum of their costs, and not
    /// the cost of their sum.
    #[must_use]
    pub fn cost(&self, model: &ModelName, tokens: &Tokens) -> Option<Usd> {
        self.of(model)?.cost(tokens)
    }
}

fn best<'a>(rows: impl Iterator<Item = (&'a str, &'a Price)>, model: &str) -> Option<Price> {
    let fitting = rows.filter(|(name, _)| fits(name, model));
    // A whole name comes before a pattern of the same length.
    fitting.max_by_key(|(name, _)| (name.trim_end_matches('*').len(), !name.ends_with('*'))).map(|(_, price)| *price)
}

fn fits(name: &str, model: &str) -> bool {
    if let Some(start) = name.strip_suffix('*') {
        return model.starts_with(start);
    }
    model.strip_prefix(name).is_some_and(|rest| rest.is_empty() || is_date(rest))
}

/// `-20250929` or `-2025-08-07`.
fn is_date(text: &str) -> bool {
    let Some(date) = text.strip_prefix('-') else { return false };
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "00000000" || shape == "0000-00-00"
}

fn read(name: &str, table: &Value) -> Result<Price, String> {
    let start = name.strip_suffix('*').unwrap_or(name);
    if start.contains('*') {
        return Err("a `*` may stand only at the end".to_owned());
    }
    if start != name && start.ends_with('/') {
        start.trim_end_matches('/').parse::<super::Provider>()?;
    } else {
        start.parse::<ModelName>()?;
    }
    let table = table.as_object().ok_or("is no table with `input` and `output`")?;
    let known = ["input", "cached_read", "cached_write", "output"];
    let rates = rates(table, &[&known[..], &["over"]].concat())?;
    let over = match table.get("over") {
        None => Over::Same,
        Some(Value::Object(over)) => {
            let wrong = "`over.prompt` is not a number of tokens";
            let prompt = over.get("prompt").and_then(Value::as_u64).ok_or(wrong)?;
            let above = rates_over(over, &[&known[..], &["prompt"]].concat())?;
            Over::Rates { prompt, rates: above }
        }
        Some(_) => return Err("`over` is no table".to_owned()),
    };
    Ok(Price { rates, over })
}

fn rates_over(table: &Map<String, Value>, known: &[&str]) -> Result<Rates, String> {
    rates(table, known).map_err(|why| format!("over: {why}"))
}

fn rates(table: &Map<String, Value>, known: &[&str]) -> Result<Rates, String> {
    if let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("there is no `{}`; there are: {}", shown(unknown), known.join(", ")));
    }
    let rate = |key: &str| -> Result<Option<u64>, String> {
        let text = match table.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(format!("`{key}` is no number of dollars")),
        };
        usd::decimal(&text, 6).map(Some).map_err(|why| format!("`{key}`: {why}"))
    };
    let input = rate("input")?.ok_or("`input` is missing")?;
    let output = rate("output")?.ok_or("`output` is missing")?;
    let cached_read = rate("cached_read")?.unwrap_or(input);
    let cached_write = rate("cached_write")?.unwrap_or(input);
    Ok(Rates { input, cached_read, cached_write, output })
}

/// A name as a warning quotes it.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}
