//! How the receiving half is, in words for `octo status`.

use std::path::PathBuf;

use super::api::Fail;

/// How polling goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Polling {
    /// It was not tried yet.
    #[default]
    Starting,
    /// Updates come in.
    Well,
    /// Another daemon of this user polls this bot, for that workspace; this one only sends.
    Elsewhere(PathBuf),
    /// Somebody polls this bot from elsewhere.
    Conflict(String),
    /// Telegram refuses the token.
    Token,
    /// Telegram is not reached, or does not answer as it should.
    Unreachable(String),
    /// What came cannot be kept here.
    Storage(String),
}

impl From<Fail> for Polling {
    fn from(fail: Fail) -> Polling {
        match fail {
            Fail::TooMany(wait) => Polling::Unreachable(format!("it wants {} s of silence", wait.as_secs())),
            Fail::Passing(why) | Fail::Refused(_, why) => Polling::Unreachable(why),
            Fail::Conflict(why) => Polling::Conflict(why),
            Fail::Token(_) => Polling::Token,
            Fail::Moved(_) => Polling::Unreachable("an answer that makes no sense".to_owned()),
        }
    }
}

/// How receiving goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// How polling goes.
    pub(crate) polling: Polling,
    /// Updates that came and could not be applied so far.
    pub(crate) waiting: usize,
    /// Messages sent between these moments (milliseconds since 1970) may be lost.
    pub(crate) gap: Option<(i64, i64)>,
}

impl Condition {
    /// One word or two: `polling`, `sending only`, `token refused`, `not reachable`.
    pub(crate) fn health(&self) -> &'static str {
        match self.polling {
            Polling::Starting => "starting",
            Polling::Well => "polling",
            Polling::Elsewhere(_) => "sending only",
            Polling::Conflict(_) => "conflict",
            Polling::Token => "token refused",
            Polling::Unreachable(_) => "not reachable",
            Polling::Storage(_) => "cannot store",
        }
    }

    /// What is wrong and what to do, in sentences; empty: nothing.
    pub(crate) fn problem(&self) -> String {
        let mut sentences = Vec::new();
        match &self.polling {
            Polling::Starting | Polling::Well => {}
            Polling::Elsewhere(workspace) if workspace.as_os_str().is_empty() => {
                sentences.push("another daemon of yours polls this bot; messages to it go there".to_owned());
            }
            Polling::Elsewhere(workspace) => {
                sentences.push(format!("the daemon of {} polls this bot; messages to it go there", workspace.display()))
            }
            Polling::Conflict(why) => sentences.push(format!(
                "somebody else polls this bot ({why}); stop that program, or revoke the token at BotFather if you know \
                 of none"
            )),
            Polling::Token => {
                sentences.push("Telegram refuses TELEGRAM_BOT_TOKEN; get a new one from BotFather".to_owned());
            }
            Polling::Unreachable(why) => sentences.push(format!("Telegram cannot be reached: {why}")),
            Polling::Storage(why) => sentences.push(format!("messages from Telegram cannot be kept: {why}")),
        }
        if self.waiting > 0 {
            sentences.push(format!("{} messages from Telegram could not be acted on yet", self.waiting));
        }
        if let Some((from, to)) = self.gap {
            sentences.push(format!("messages sent between {} and {} may be lost", moment(from), moment(to)));
        }
        sentences.join("; ")
    }
}

/// A moment (milliseconds since 1970) as people read it, in UTC.
pub(crate) fn moment(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
