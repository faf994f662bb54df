//! One call of the Bot API: what is asked, what came of it, and no word of the token in either.
//!
//! Payloads and their wire shape are teloxide's, and so is the HTTP client. The answer is read here: what the HTTP
//! status and the description say together decides whether a call may be repeated, and an answer that
//! teloxide's types do not fit must not make a message that was sent look as if it were not.

use std::fmt;
use std::time::Duration;

use octo::config::Secret;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use teloxide::Bot;
use teloxide::requests::Payload;

/// Where Telegram's own server is.
const TELEGRAM: &str = "https://api.telegram.org";

/// How long a 429 without a time is waited for.
const UNTOLD_WAIT: Duration = Duration::from_secs(5);

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fail {
    /// Too many calls: wait so long.
    TooMany(Duration),
    /// Whatever may pass by itself: the network, a time-out, an error of the server, an answer of somebody else.
    /// The call may have been carried out.
    Passing(String),
    /// Somebody else gets the updates: another poll, or a webhook.
    Conflict(String),
    /// The token is refused.
    Token(String),
    /// The chat has this number now.
    Moved(i64),
    /// Telegram will not do it; its status and words.
    Refused(u16, String),
}

/// A bot at a Bot API server. `Debug` shows no token.
#[derive(Clone)]
pub(crate) struct Api {
    bot: Bot,
    base: String,
    id: i64,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base).field("bot", &self.id).finish_non_exhaustive()
    }
}

/// What the Bot API answers, whatever the method.
#[derive(Debug, Deserialize)]
struct Envelope {
    ok: bool,
    result: Option<Box<RawValue>>,
    error_code: Option<u16>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Api {
    /// A bot by its token, at the server with this address; empty: Telegram's own.
    ///
    /// # Errors
    /// In words, which hold nothing of the token: it is none, or the address is none.
    pub(crate) fn new(token: &Secret, url: &str) -> Result<Api, String> {
        let token = token.expose();
        let number = token.split_once(':').and_then(|(id, _)| id.parse::<i64>().ok());
        let usable = token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-'));
        let id =
            number.filter(|_| usable).ok_or("TELEGRAM_BOT_TOKEN is no bot token: BotFather gives one like 123:AbC")?;
        let base = if url.is_empty() { TELEGRAM } else { url.trim_end_matches('/') };
        let mut client = teloxide::net::default_reqwest_settings().referer(false);
        if is_loopback(base) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|e| format!("there can be no connection to Telegram: {e}"))?;
        let bot = Bot::with_client(token, client);
        let parsed = base.parse().map_err(|_| format!("TELEGRAM_API_URL `{base}` is no address"))?;
        Ok(Api { bot: bot.set_api_url(parsed), base: base.to_owned(), id })
    }

    /// The bot's number.
    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// Calls a method and returns its result; the whole call may take `limit`.
    pub(crate) async fn call<P>(&self, payload: &P, limit: Duration) -> Result<Box<RawValue>, Fail>
    where
        P: Payload + Serialize,
    {
        let body = serde_json::to_vec(payload).map_err(|e| Fail::Refused(0, e.to_string()))?;
        self.post(P::NAME, "application/json", body, limit).await
    }

    /// As [`Api::call`] with a body that is written already.
    pub(crate) async fn post(
        &self,
        method: &str,
        kind: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Box<RawValue>, Fail> {
        let url = format!("{}/bot{}/{method}", self.base, self.bot.token());
        let request = self.bot.client().post(url).header("content-type", kind).timeout(limit).body(body);
        let sent = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok((status, response.bytes().await?))
        };
        match sent.await {
            Ok((status, bytes)) => self.read(status, &String::from_utf8_lossy(&bytes)),
            Err(error) => {
                let error: teloxide::RequestError = error;
                Err(Fail::Passing(self.scrub(&causes(&error))))
            }
        }
    }

    fn read(&self, status: u16, body: &str) -> Result<Box<RawValue>, Fail> {
        let Ok(envelope) = serde_json::from_str::<Envelope>(body) else {
            return Err(Fail::Passing(format!("an answer that is not the Bot API's (HTTP {status})")));
        };
        match envelope.result {
            Some(result) if envelope.ok => return Ok(result),
            _ => {}
        }
        let code = envelope.error_code.unwrap_or(status);
        let text = self.scrub(&envelope.description);
        Err(match (code, envelope.parameters) {
            (_, Parameters { migrate_to_chat_id: Some(chat), .. }) => Fail::Moved(chat),
            (429, Parameters { retry_after, .. }) => {
                Fail::TooMany(retry_after.map_or(UNTOLD_WAIT, Duration::from_secs))
            }
            (401, _) if text.starts_with("Unauthorized:") => Fail::Refused(403, text),
            // A token that cannot be one is answered as an address that is not there.
            (401 | 404, _) => Fail::Token(text),
            (409, _) => Fail::Conflict(text),
            (400..=499, _) => Fail::Refused(code, text),
            _ => Fail::Passing(format!("{text} (HTTP {code})")),
        })
    }

    /// A text without the token, also where somebody else put the token into it.
    pub(crate) fn scrub(&self, text: &str) -> String {
        scrub(text, self.bot.token())
    }
}

/// A server on this computer is not reached through a proxy.
fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// What stands where a token was.
const HIDDEN: &str = "<token>";

/// Takes a token out of a text, in every form in which an address can hold it, and anything else that looks like one.
pub(crate) fn scrub(text: &str, token: &str) -> String {
    let mut text = text.to_owned();
    if !token.is_empty() {
        let secret = token.split_once(':').map_or(token, |(_, secret)| secret);
        for form in [token, &token.replace(':', "%3A"), &token.replace(':', "%3a"), secret] {
            if form.len() >= 3 {
                text = text.replace(form, HIDDEN);
            }
        }
    }
    hide_lookalikes(&text)
}

/// A number, a colon, and at least 30 letters of a token's alphabet.
fn hide_lookalikes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let colon = [":", "%3A", "%3a"].into_iter().find(|c| rest[digits..].starts_with(c)).map_or(0, str::len);
        let secret = digits + colon;
        let letters =
            rest[secret..].bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
        if colon > 0 && digits >= 5 && letters >= 30 {
            clean.push_str(HIDDEN);
            rest = &rest[secret + letters..];
        } else {
            clean.push_str(&rest[..digits]);
            rest = &rest[digits..];
        }
    }
    clean.push_str(rest);
    clean
}
