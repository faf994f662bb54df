//! What a tool takes: its parameters as data, from which both its JSON schema and the check of a call are made.
//!
//! The schemas keep to what every provider understands: plain types, no unions, no references.

use serde_json::{Map, Value, json};

use super::ToolError;

/// The longest text that any parameter takes, in bytes.
const TEXT_MAX: usize = 4 << 20;

/// One parameter of a tool.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether a call must have it.
    pub required: bool,
    /// What it means, for the model.
    pub about: &'static str,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A text that says something.
    Words,
    /// A whole number within these bounds.
    Number(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// From one text to so many.
    Texts(u64),
    /// From one object to so many, with these fields.
    Objects(&'static [Param], u64),
}

/// The JSON schema of an object with these fields.
#[must_use]
pub fn schema(params: &[Param]) -> Value {
    let properties: Map<String, Value> = params
        .iter()
        .map(|param| {
            let mut of = kind_schema(param.kind);
            of["description"] = param.about.into();
            (param.name.to_owned(), of)
        })
        .collect();
    let required: Vec<&str> = params.iter().filter(|p| p.required).map(|p| p.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn kind_schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Words => json!({"type": "string", "minLength": 1}),
        Kind::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::Texts(most) => {
            json!({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": most})
        }
        Kind::Objects(fields, most) => {
            json!({"type": "array", "items": schema(fields), "minItems": 1, "maxItems": most})
        }
    }
}

/// What a kind takes, in words.
fn kind_words(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text".to_owned(),
        Kind::Words => "a text that is not empty".to_owned(),
        Kind::Number(least, most) => format!("a whole number from {least} to {most}"),
        Kind::Flag => "true or false".to_owned(),
        Kind::Choice(words) => format!("one of \"{}\"", words.join("\", \"")),
        Kind::Texts(most) => format!("a list of 1 to {most} texts that are not empty"),
        Kind::Objects(fields, most) => format!("a list of 1 to {most} objects {{{}}}", names(fields)),
    }
}

/// The names of parameters, with a `?` behind those that may be left out.
#[must_use]
pub fn names(params: &[Param]) -> String {
    let all: Vec<_> = params.iter().map(|p| format!("{}{}", p.name, if p.required { "" } else { "?" })).collect();
    all.join(", ")
}

/// Checks a call's arguments. Answers with them as an object in which what was given as null is left out.
///
/// # Errors
/// In words that say which argument is wrong and what would be right.
pub fn check(args: &Value, params: &[Param]) -> Result<Map<String, Value>, ToolError> {
    let given = match args {
        Value::Object(fields) => fields.clone(),
        // Some models send nothing, or an empty text, to a tool without arguments.
        Value::Null => Map::new(),
        Value::String(text) if text.trim().is_empty() => Map::new(),
        _ => return Err(ToolError::new("the arguments must be one JSON object")),
    };
    let mut kept = Map::new();
    for (name, value) in given {
        let Some(param) = params.iter().find(|p| p.name == name) else {
            let what =
                if params.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", names(params)) };
            return Err(ToolError::new(format!("there is no argument `{}`: {what}", shown(&name))));
        };
        if value.is_null() && !param.required {
            continue;
        }
        if let Some(text) = value.as_str()
            && text.len() > TEXT_MAX
        {
            return Err(ToolError::new(format!(
                "`{name}` has {} bytes, which is more than {TEXT_MAX}: use less",
                text.len()
            )));
        }
        let value = taken(value, param)?;
        kept.insert(name, value);
    }
    match params.iter().find(|p| p.required && !kept.contains_key(p.name)) {
        Some(missing) => Err(ToolError::new(format!("`{}` is missing: {}", missing.name, missing.about))),
        None => Ok(kept),
    }
}

/// The value as the tool is given it, if it is of the parameter's kind.
fn taken(value: Value, param: &Param) -> Result<Value, ToolError> {
    let within = |most: u64, len: usize| (1..=most).contains(&(len as u64));
    let fits = match param.kind {
        Kind::Text => value.is_string(),
        Kind::Words => value.as_str().is_some_and(|t| !t.trim().is_empty()),
        Kind::Number(least, most) => {
            // 10.0 is a whole number in JSON, and some models write it so.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be whole and small"
            )]
            let whole = value
                .as_u64()
                .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n)).map(|n| n as u64));
            match whole.filter(|n| (least..=most).contains(n)) {
                Some(n) => return Ok(n.into()),
                None => false,
            }
        }
        Kind::Flag => value.is_boolean(),
        Kind::Choice(words) => value.as_str().is_some_and(|t| words.contains(&t)),
        Kind::Texts(most) => value.as_array().is_some_and(|all| {
            within(most, all.len()) && all.iter().all(|t| t.as_str().is_some_and(|t| !t.trim().is_empty()))
        }),
        Kind::Objects(fields, most) => match value.as_array() {
            Some(all) if within(most, all.len()) => {
                let each = all.iter().map(|one| match one {
                    Value::Object(_) => check(one, fields).map(Value::Object),
                    _ => Err(ToolError::new(format!("an entry is no object {{{}}}", names(fields)))),
                });
                let all = each.collect::<Result<Vec<_>, _>>();
                return all.map(Value::Array).map_err(|e| ToolError::new(format!("in `{}`: {e}", param.name)));
            }
            _ => false,
        },
    };
    if fits {
        return Ok(value);
    }
    let (name, right) = (param.name, kind_words(param.kind));
    Err(ToolError::new(format!("`{name}` must be {right}, not {}", shown(&value.to_string()))))
}

/// The beginning of what a model wrote, for an error.
fn shown(text: &str) -> String {
    const MAX: usize = 80;
    if text.len() <= MAX {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(MAX)])
}
