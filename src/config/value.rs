//! What values mean: the types of settings and how their texts are read.
//!
//! Every reader takes trimmed text and answers with the value, or with the end of the sentence
//! "NAME `text` ...", which tells a person what would be right.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that must not be shown. `Debug` says only whether there is any.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text; empty: there is none.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one place that must send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(not set)" } else { "Secret(set)" })
    }
}

/// Makes an enum whose words are its whole text form.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Its word, as settings write it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok($name::$variant),)+
                    _ => Err(format!("is none of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

choices! {
    /// How far `claude` commands are wired to Octo.
    ClaudeBridge {
        /// Not at all.
        Off = "off",
        /// They can ask questions.
        Questions = "questions",
        /// Their requests for permission come to the owner, too.
        #[default]
        Full = "full",
    }
}

choices! {
    /// What an agent's shell call needs.
    ShellPolicy {
        /// The owner's approval.
        #[default]
        Ask = "ask",
        /// Nothing.
        Allow = "allow",
        /// It is never run.
        Deny = "deny",
    }
}

choices! {
    /// What a command typed on Telegram needs before it runs.
    TelegramRun {
        /// It never runs.
        Off = "off",
        /// A tap on its card.
        #[default]
        Ask = "ask",
        /// Nothing.
        On = "on",
    }
}

/// A daily stretch of local time; it may cross midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// When it begins, in minutes after midnight.
    pub from: u16,
    /// When it ends, in minutes after midnight; never equal to `from`.
    pub until: u16,
}

impl QuietHours {
    /// Tells whether the minute of the day (0..1440) is quiet; the end itself is not.
    #[must_use]
    pub fn holds(&self, minute: u16) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

pub(super) fn count(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let wanted = if most == u64::MAX { format!("from {least} up") } else { format!("from {least} to {most}") };
    let n = text.replace('_', "").parse::<u64>();
    n.ok().filter(|n| (least..=most).contains(n)).ok_or(format!("is not a whole number {wanted}"))
}

pub(super) fn choice<T: FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

/// One line of text without control characters.
pub(super) fn line(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) { Err("holds control characters".to_owned()) } else { Ok(text.to_owned()) }
}

/// Keys go into HTTP headers and addresses, where spaces and line ends would break out.
pub(super) fn secret(text: &str) -> Result<(), String> {
    let fine = text.chars().all(|c| c.is_ascii_graphic());
    if fine { Ok(()) } else { Err("holds spaces, control or non-ASCII characters".to_owned()) }
}

pub(super) fn shell_words(text: &str) -> Result<String, String> {
    shell_words::split(text).map_err(|_| "has a quote that is not closed".to_owned())?;
    if text.contains('\0') { Err("holds a NUL byte".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn model(text: &str) -> Result<String, String> {
    let named = text.split_once('/').is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty());
    if text.is_empty() || (named && !text.contains(char::is_whitespace)) {
        line(text)
    } else {
        Err("does not look like `provider/model`".to_owned())
    }
}

pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fine = rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && r.chars().all(|c| c.is_ascii_graphic()));
    if text.is_empty() || fine { Ok(text.to_owned()) } else { Err("is no http:// or https:// address".to_owned()) }
}

/// An address may carry a name and a password, which are nobody else's business; a mistyped one as well.
pub(super) fn without_credentials(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if !scheme.is_empty() || rest[..at].contains(':') => format!("{scheme}***@{}", &rest[at + 1..]),
        Some(_) | None => text.to_owned(),
    }
}

pub(super) fn user_ids(text: &str) -> Result<Vec<i64>, String> {
    let words = text.split([',', ' ']).map(str::trim).filter(|w| !w.is_empty());
    let ids: Result<Vec<i64>, _> = words.map(str::parse).collect();
    ids.ok()
        .filter(|ids| ids.iter().all(|id| *id > 0))
        .ok_or("is not a list of numeric user ids (names can be taken over by others, so they are not used)".to_owned())
}

pub(super) fn loopback(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = text.strip_prefix("http://").unwrap_or(text);
    let text = text.strip_prefix("localhost:").unwrap_or(text);
    if let Ok(port) = text.parse::<u16>() {
        return Ok(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    }
    let address: SocketAddr = text.parse().map_err(|_| "is neither a port nor a loopback address with a port")?;
    if address.ip().is_loopback() {
        Ok(Some(address))
    } else {
        Err("is not a loopback address (127.0.0.1 or [::1]); the panel is never open to the network".to_owned())
    }
}

pub(super) fn quiet_hours(text: &str) -> Result<Option<QuietHours>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let hours = text.split_once('-').and_then(|(a, b)| Some((minute(a.trim())?, minute(b.trim())?)));
    match hours {
        Some((from, until)) if from != until => Ok(Some(QuietHours { from, until })),
        _ => Err("is not a stretch of time such as `22:00-07:00`".to_owned()),
    }
}

/// Stretches of time, in seconds, each longer than the one before; `off`: none.
pub(super) fn reminders(text: &str) -> Result<Vec<u64>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(Vec::new());
    }
    let read = |word: &str| crate::render::parse_duration(word.trim()).ok().filter(|s| *s > 0);
    let stretches: Option<Vec<u64>> = text.split(',').map(read).collect();
    match stretches {
        Some(s) if s.len() <= 20 && s.is_sorted_by(|a, b| a < b) => Ok(s),
        _ => Err("is not a list of growing times such as `10m,1h,6h`, or `off`".to_owned()),
    }
}

fn minute(text: &str) -> Option<u16> {
    let (h, m) = text.split_once(':').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.len() <= 2 && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(h) || !digits(m) {
        return None;
    }
    let (h, m): (u16, u16) = (h.parse().ok()?, m.parse().ok()?);
    (h < 24 && m < 60).then_some(h * 60 + m)
}

/// Bytes; units count in 1024s, with or without `iB` behind them.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        "t" | "tb" | "tib" => Some(40),
        _ => None,
    };
    let number = digits.replace('_', "").parse::<u64>().ok();
    let bytes = number.zip(shift).and_then(|(n, s)| n.checked_mul(1 << s)).filter(|n| *n > 0);
    bytes.ok_or("is not a size such as `500MiB` or `4GiB`".to_owned())
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is no log filter such as `info` or `octo=debug`".to_owned()),
    }
}
