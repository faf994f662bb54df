//! Variables in what a file says about a server: `${env.NAME}`, and `${NAME}` and `$NAME` as docker-agent's older
//! files have them.

/// The values that were put in, so that no message tells them.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Vec<String>);

/// Values shorter than this are no secrets, and are found in too many words.
const SHORTEST: usize = 6;

impl Secrets {
    /// The text without the values.
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), "[hidden]"))
    }

    pub(super) fn add(&mut self, value: &str) {
        if value.len() >= SHORTEST && !self.0.iter().any(|known| known == value) {
            self.0.push(value.to_owned());
            // The longest first: one may be a part of another.
            self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }
}

/// Which forms count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forms {
    /// `${env.NAME}` alone; every other `$` is left as it is.
    Env,
    /// `${env.NAME}` and `${NAME}`.
    Braces,
    /// Those, and `$NAME`.
    All,
}

/// Puts variables in their places.
///
/// # Errors
/// What is wrong: a variable that is not set, or braces that hold no name.
pub(super) fn expand(
    text: &str,
    forms: Forms,
    look_up: &dyn Fn(&str) -> Option<String>,
    secrets: &mut Secrets,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braces = after.strip_prefix('{').filter(|inside| forms != Forms::Env || inside.starts_with("env."));
        let (name, end) = if let Some(inside) = braces {
            let Some(close) = inside.find('}') else { return Err(format!("`{text}` has a `${{` without its `}}`")) };
            let name = inside[..close].trim();
            let name = name.strip_prefix("env.").unwrap_or(name);
            if name_len(name) != name.len() || name.is_empty() {
                return Err(format!("`${{{}}}` is no variable: only `${{env.NAME}}` is understood", &inside[..close]));
            }
            (name, close + 2)
        } else {
            let len = if forms == Forms::All { name_len(after) } else { 0 };
            (&after[..len], len)
        };
        if name.is_empty() {
            out.push('$');
        } else {
            let value = look_up(name).ok_or_else(|| format!("the variable {name} is not set"))?;
            secrets.add(&value);
            out.push_str(&value);
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    Ok(out)
}

/// How many bytes at the beginning are a variable's name.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}
