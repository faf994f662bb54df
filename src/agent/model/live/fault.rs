//! What went wrong, in our own kinds and in words without secrets.

use std::error::Error as StdError;
use std::time::Duration;

use genai::Error as GenError;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::target::Target;
use crate::agent::model::{ErrorKind, ModelError, key_setting};

/// The most of a provider's own words that an error quotes.
const LONGEST: usize = 300;

/// Translates an error of the crate.
pub(super) fn of(error: GenError, target: &Target, now: Timestamp) -> ModelError {
    let fault = match error {
        GenError::WebStream { error, .. } => return of_stream(error, target, now),
        GenError::HttpError { status, body, headers, .. } => {
            of_status(status.as_u16(), &body, Some(&headers), target, now)
        }
        GenError::ChatResponse { body, .. } => of_event(&body, target, now),
        GenError::StreamParse { .. } | GenError::JsonValueExt(_) | GenError::SerdeJson(_) => {
            let title = target.model.provider().title();
            ModelError::new(ErrorKind::Malformed, format!("the answer of {title} cannot be read"))
        }
        other => {
            let words = clean(&other.to_string(), target);
            ModelError::new(ErrorKind::Invalid, format!("{} cannot be asked: {words}", target.model))
        }
    };
    ModelError { message: clean_secrets(&fault.message, target), ..fault }
}

fn of_stream(error: Box<dyn StdError + Send + Sync>, target: &Target, now: Timestamp) -> ModelError {
    let error = match error.downcast::<GenError>() {
        Ok(error) => return of(*error, target, now),
        Err(error) => error,
    };
    let title = target.model.provider().title();
    let place = target.shown_address();
    match error.downcast::<reqwest::Error>() {
        Ok(error) if error.is_body() || error.is_decode() => {
            let message = format!("the answer of {title} broke off before its end: {}", root_cause(error.as_ref()));
            ModelError::new(ErrorKind::Cut, clean_secrets(&message, target))
        }
        Ok(error) => {
            let message = format!("{title} cannot be reached at {place}: {}", root_cause(error.as_ref()));
            ModelError::new(ErrorKind::Network, clean_secrets(&message, target))
        }
        Err(error) if error.to_string().contains("timed out") => {
            ModelError::new(ErrorKind::Network, format!("{title} at {place} was silent for too long"))
        }
        Err(_) => ModelError::new(ErrorKind::Malformed, format!("the answer of {title} cannot be read")),
    }
}

/// The innermost reason, which never names an address with its credentials.
pub(super) fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        // An error of the client itself would quote the address.
        None => "the request failed".to_owned(),
    }
}

/// An HTTP status other than success.
pub(super) fn of_status(
    status: u16,
    body: &str,
    headers: Option<&HeaderMap>,
    target: &Target,
    now: Timestamp,
) -> ModelError {
    let parsed: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let words = words_of(&parsed).unwrap_or_else(|| plain(body));
    let wait = headers.and_then(|h| wait_of(h, now)).or_else(|| wait_in_body(&parsed));
    let code = code_of(&parsed);
    classify(Some(status), &code, &clean(&words, target), wait, target, now)
}

/// An error inside a stream that began well.
fn of_event(body: &Value, target: &Target, now: Timestamp) -> ModelError {
    let words = words_of(body).unwrap_or_default();
    let code = code_of(body);
    let inner = body.get("error").unwrap_or(body);
    let number = inner.get("code").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
    let status = number.filter(|n| (400..600).contains(n)).or_else(|| status_of_code(&code));
    classify(status, &code, &clean(&words, target), wait_in_body(body), target, now)
}

fn classify(
    status: Option<u16>,
    code: &str,
    words: &str,
    wait: Option<Duration>,
    target: &Target,
    now: Timestamp,
) -> ModelError {
    let provider = target.model.provider();
    let title = provider.title();
    let place = target.shown_address();
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    let lower = format!("{code} {words}").to_ascii_lowercase();
    let has = |any: &[&str]| any.iter().any(|needle| lower.contains(needle));
    let error = |kind, message: String| ModelError { kind, message, retry_after: wait };
    let refused_key = || match key_setting(provider) {
        Some(setting) => format!("{title} at {place} does not accept the key in {setting}"),
        None => format!("{title} at {place} wants a key, and there is no setting for one"),
    };
    if has(&["insufficient_quota", "credit balance", "billing_error", "billing_hard_limit"]) || status == Some(402) {
        return error(ErrorKind::NoCredit, format!("the account at {title} has no credit left{said}"));
    }
    match status {
        Some(401) => error(ErrorKind::BadKey, refused_key()),
        Some(400 | 403) if has(&["api key not valid", "api_key_invalid", "invalid api key", "invalid x-api-key"]) => {
            error(ErrorKind::BadKey, refused_key())
        }
        Some(429) => ModelError::rate_limited(format!("{title} limits the rate of requests{said}"), wait, now),
        Some(413) => {
            error(ErrorKind::ContextOverflow, format!("the conversation is too long for {}{said}", target.model))
        }
        Some(400 | 422) if has(OVERFLOW) => {
            error(ErrorKind::ContextOverflow, format!("the conversation is too long for {}{said}", target.model))
        }
        Some(503 | 529) => error(ErrorKind::Overloaded, format!("{title} has too much to do{said}")),
        Some(status @ (408 | 425 | 500..)) => {
            error(ErrorKind::Server(status), format!("{title} failed ({status}){said}"))
        }
        Some(404) => {
            error(ErrorKind::Refused(404), format!("{title} at {place} has no {}{said}", target.model.model()))
        }
        Some(status) => error(ErrorKind::Refused(status), format!("{title} refuses the request ({status}){said}")),
        None => error(ErrorKind::Server(500), format!("{title} failed in the midst of its answer{said}")),
    }
}

/// How providers and servers say that a conversation is too long.
const OVERFLOW: &[&str] = &[
    "prompt is too long",
    "context_length_exceeded",
    "maximum context length",
    "exceed context limit",
    "exceeds the context",
    "exceed_context_size",
    "context window",
    "input token count",
    "too many tokens",
];

/// The status that a word stands for, where an error came without one.
fn status_of_code(code: &str) -> Option<u16> {
    Some(match code {
        "overloaded_error" | "UNAVAILABLE" | "overloaded" => 529,
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" | "tokens" | "requests" => 429,
        "api_error" | "server_error" | "internal_server_error" | "INTERNAL" => 500,
        "timeout_error" => 504,
        "invalid_request_error" | "context_length_exceeded" | "INVALID_ARGUMENT" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        _ => return None,
    })
}

/// The word for the error: `error.type`, `error.code` or Gemini's `error.status`, whichever says more.
fn code_of(body: &Value) -> String {
    let inner = body.get("error").unwrap_or(body);
    let word = |key: &str| inner.get(key).and_then(Value::as_str).map(str::to_owned);
    let found = [word("code"), word("type"), word("status")];
    let known = found.iter().flatten().find(|w| status_of_code(w).is_some() || w.contains("quota"));
    known.or_else(|| found.iter().flatten().next()).cloned().unwrap_or_default()
}

fn words_of(body: &Value) -> Option<String> {
    let at = ["/error/message", "/message", "/error", "/detail"];
    at.iter().find_map(|path| body.pointer(path).and_then(Value::as_str)).map(str::to_owned)
}

/// A body that is no JSON: some words of it, unless it is a page.
fn plain(body: &str) -> String {
    if body.trim_start().starts_with('<') { String::new() } else { body.trim().to_owned() }
}

/// How long the headers ask to wait.
fn wait_of(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    if let Some(after) = text("retry-after") {
        if let Ok(seconds) = after.parse::<f64>() {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let date = jiff::fmt::rfc2822::parse(after).ok()?;
        return Some(until(date.timestamp(), now));
    }
    // Without that, the latest reset among the limits that are used up.
    let limits = ["anthropic-ratelimit-requests", "anthropic-ratelimit-tokens", "anthropic-ratelimit-input-tokens"];
    let anthropic = limits.iter().filter(|limit| text(&format!("{limit}-remaining")) == Some("0"));
    let anthropic = anthropic.filter_map(|limit| text(&format!("{limit}-reset"))?.parse::<Timestamp>().ok());
    let anthropic = anthropic.map(|at| until(at, now));
    let kinds = ["requests", "tokens"];
    let openai = kinds.iter().filter(|kind| text(&format!("x-ratelimit-remaining-{kind}")) == Some("0"));
    let openai = openai.filter_map(|kind| span(text(&format!("x-ratelimit-reset-{kind}"))?));
    anthropic.chain(openai).max()
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// OpenAI's stretches of time: `6m0s`, `1.5s`, `20ms`.
fn span(text: &str) -> Option<Duration> {
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        sum += number
            * match &rest[digits..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(sum).ok().filter(|_| !text.is_empty())
}

/// Gemini tells it in the body: `error.details[].retryDelay = "34s"`.
fn wait_in_body(body: &Value) -> Option<Duration> {
    let details = body.pointer("/error/details")?.as_array()?;
    details.iter().find_map(|detail| span(detail.get("retryDelay")?.as_str()?))
}

/// A provider's words as an error may quote them: one short line without secrets.
fn clean(words: &str, target: &Target) -> String {
    let line: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let line = clean_secrets(&line, target);
    let mut short: String = line.chars().take(LONGEST).collect();
    if short.len() < line.len() {
        short.push_str("...");
    }
    short
}

/// Providers repeat keys in their answers, sometimes with stars in them.
fn clean_secrets(text: &str, target: &Target) -> String {
    let mut text = text.to_owned();
    for secret in target.secrets() {
        text = text.replace(&secret, "***");
    }
    let is_key = |word: &str| {
        let start = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        ["sk-", "AIza", "xai-"].iter().any(|prefix| start.starts_with(prefix)) && start.len() > 8
    };
    let words = text.split(' ').map(|word| if is_key(word) { "***" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_time_are_read_as_providers_write_them() {
        assert_eq!(span("6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(span("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(span("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(span("1h2m"), Some(Duration::from_secs(3720)));
        assert_eq!(span(""), None);
        assert_eq!(span("soon"), None);
        assert_eq!(span("5"), None);
    }

    #[test]
    fn waits_are_found_in_headers() {
        let now: Timestamp = "2026-11-21T18:00:00Z".parse().unwrap();
        let wait = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
            wait_of(&HeaderMap::from_iter(pairs), now)
        };
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        let date = [("retry-after", "Sat, 21 Nov 2026 18:01:30 GMT")];
        assert_eq!(wait(&date), Some(Duration::from_secs(90)));
        let past = [("retry-after", "Sat, 21 Nov 2026 17:01:30 GMT")];
        assert_eq!(wait(&past), Some(Duration::ZERO));
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "12"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T19:00:00Z"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-21T18:00:20Z"),
        ];
        assert_eq!(wait(&anthropic), Some(Duration::from_secs(20)));
        let openai = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m0s")];
        assert_eq!(wait(&openai), Some(Duration::from_secs(60)));
        assert_eq!(wait(&[("retry-after", "-5")]), None);
    }

    fn target(provider: &str) -> Target {
        let config = crate::config::Config {
            openai_api_key: crate::config::Secret::new("gw-very-secret"),
            gemini_api_key: crate::config::Secret::new("gw-very-secret"),
            ..crate::config::Config::default()
        };
        super::super::target::Targets::new(&config).of(&format!("{provider}/x").parse().unwrap()).unwrap()
    }

    proptest::proptest! {
        /// Whatever a server says: an error in one short line, and never the key.
        #[test]
        fn no_body_makes_it_fall_or_tell_the_key(
            status in 100_u16..600,
            before in ".{0,400}",
            field in proptest::sample::select(vec!["message", "detail", "code", "type", "status", "details"]),
            as_json: bool,
        ) {
            let text = format!("{before}gw-very-secret,sk-ant-very-secret");
            let body = if as_json { serde_json::json!({"error": {field: text}}) } else { Value::String(text.clone()) };
            let now = Timestamp::now();
            for provider in ["openai", "gemini", "ollama"] {
                let target = target(provider);
                let raw = if as_json { body.to_string() } else { text.clone() };
                for error in [of_status(status, &raw, None, &target, now), of_event(&body, &target, now)] {
                    if provider != "ollama" {
                        proptest::prop_assert!(!error.message.contains("gw-very-secret"), "{}", error.message);
                    }
                    proptest::prop_assert!(error.message.lines().count() == 1 && error.message.chars().count() < 600);
                }
            }
        }
    }
}
