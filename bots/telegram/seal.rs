//! What buttons send back, sealed: a client may send any data, so only what this daemon wrote, for this user in this
//! chat, counts. What it asks for is then decided by the state of the task, never by the button.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use octo::task::TaskId;
use sha2::Sha256;

/// The bytes of a seal that are kept: 96 bits.
const TAG: usize = 12;

/// The longest callback data that Telegram takes, in bytes.
pub(crate) const DATA_MAX: usize = 64;

/// The longest id of a question that fits.
const QUESTION_MAX: usize = 24;

/// What a button is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Button {
    /// One about a task.
    Task(TaskId, What),
    /// Runs the command that came with this update.
    Run(u32),
    /// Drops it.
    Drop(u32),
    /// Tells what happened lately.
    Recap,
}

/// What is to be done with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Answers a question with one of its choices, counted from 0.
    Answer(String, u16),
    /// Shows what a question is about: the whole action, or the task.
    Show(String),
    /// Stops this run.
    Cancel(u32),
    /// Runs it again after this run.
    Retry(u32),
    /// Raises this budget, by its [mark](octo::render::budget_mark).
    Raise(u32),
    /// Shows its output.
    Logs,
}

/// The key that seals the buttons of one bot. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Seal {
    key: [u8; 32],
    bot: i64,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal(bot {})", self.bot)
    }
}

impl Seal {
    /// `key`: random bytes that only this daemon knows.
    pub(crate) fn new(key: [u8; 32], bot: i64) -> Self {
        Seal { key, bot }
    }

    /// The data of a button for a user in a chat; at most [`DATA_MAX`] bytes.
    /// `None` when the question's id does not fit: such a button cannot be made.
    pub(crate) fn close(&self, chat: i64, user: i64, button: &Button) -> Option<String> {
        let (subject, what) = words(button)?;
        let tag = self.mac(chat, user, &subject, &what).finalize().into_bytes();
        let data = format!("1:{subject}:{what}:{}", URL_SAFE_NO_PAD.encode(&tag[..TAG]));
        (data.len() <= DATA_MAX).then_some(data)
    }

    /// What a tap of a user in a chat asks for; `None` when this daemon did not write it, or not for them.
    pub(crate) fn open(&self, chat: i64, user: i64, data: &str) -> Option<Button> {
        if data.len() > DATA_MAX {
            return None;
        }
        let mut fields = data.split(':');
        let (version, subject, what, tag) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        if version != "1" || fields.next().is_some() || tag.len() != TAG {
            return None;
        }
        // In constant time.
        self.mac(chat, user, subject, what).verify_truncated_left(&tag).ok()?;
        read(subject, what)
    }

    /// Each part goes in with its length, so that no two buttons have the same bytes.
    fn mac(&self, chat: i64, user: i64, subject: &str, what: &str) -> Hmac<Sha256> {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length");
        let parts = ["octo telegram 1", &self.bot.to_string(), &chat.to_string(), &user.to_string(), subject, what];
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

/// The two middle fields of a button's data.
fn words(button: &Button) -> Option<(String, String)> {
    let question = |id: &str| {
        let fine = !id.is_empty() && id.len() <= QUESTION_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric());
        fine.then(|| id.to_owned())
    };
    Some(match button {
        Button::Task(task, what) => {
            let what = match what {
                What::Answer(id, option) => format!("a{}.{option}", question(id)?),
                What::Show(id) => format!("s{}", question(id)?),
                What::Cancel(run) => format!("c{run}"),
                What::Retry(run) => format!("r{run}"),
                What::Raise(mark) => format!("b{mark}"),
                What::Logs => "l".to_owned(),
            };
            (task.to_string(), what)
        }
        Button::Run(update) => (format!("{update:08x}"), "run".to_owned()),
        Button::Drop(update) => (format!("{update:08x}"), "drop".to_owned()),
        Button::Recap => ("00000000".to_owned(), "recap".to_owned()),
    })
}

/// The button that has these fields.
fn read(subject: &str, what: &str) -> Option<Button> {
    match what {
        "run" => return u32::from_str_radix(subject, 16).ok().map(Button::Run),
        "drop" => return u32::from_str_radix(subject, 16).ok().map(Button::Drop),
        "recap" => return Some(Button::Recap),
        _ => {}
    }
    let (kind, rest) = what.split_at_checked(1)?;
    let what = match kind {
        "a" => {
            let (question, option) = rest.split_once('.')?;
            What::Answer(question.to_owned(), option.parse().ok()?)
        }
        "s" => What::Show(rest.to_owned()),
        "c" => What::Cancel(rest.parse().ok()?),
        "r" => What::Retry(rest.parse().ok()?),
        "b" => What::Raise(rest.parse().ok()?),
        "l" if rest.is_empty() => What::Logs,
        _ => return None,
    };
    Some(Button::Task(subject.parse().ok()?, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal::new([7; 32], 99)
    }

    fn id() -> TaskId {
        "c4b1e09a".parse().unwrap()
    }

    fn buttons() -> Vec<Button> {
        let task = |what| Button::Task(id(), what);
        vec![
            task(What::Answer("q1".to_owned(), 0)),
            task(What::Answer("q1".to_owned(), 1)),
            task(What::Answer("q11".to_owned(), 0)),
            task(What::Answer("q".repeat(QUESTION_MAX), 999)),
            task(What::Show("q1".to_owned())),
            task(What::Cancel(1)),
            task(What::Cancel(u32::MAX)),
            task(What::Retry(1)),
            task(What::Raise(1)),
            task(What::Raise(u32::MAX)),
            task(What::Logs),
            Button::Run(u32::MAX),
            Button::Run(7),
            Button::Drop(7),
            Button::Recap,
        ]
    }

    #[test]
    fn what_was_closed_opens_for_the_same_user_and_chat_only() {
        let mut all = std::collections::HashSet::new();
        for button in buttons() {
            let data = seal().close(4711, 4711, &button).unwrap();
            assert!(data.len() <= DATA_MAX && data.is_ascii(), "{data}");
            assert_eq!(seal().open(4711, 4711, &data), Some(button.clone()));
            assert!(all.insert(data.clone()), "two buttons with one data");
            for (chat, user) in [(4712, 4711), (4711, 4712), (4712, 4712), (-4711, 4711), (0, 0)] {
                assert_eq!(seal().open(chat, user, &data), None);
            }
            assert_eq!(Seal::new([7; 32], 98).open(4711, 4711, &data), None, "another bot");
            assert_eq!(Seal::new([8; 32], 99).open(4711, 4711, &data), None, "another key");
        }
    }

    #[test]
    fn no_changed_byte_and_no_shorter_seal_passes() {
        for button in buttons() {
            let data = seal().close(1, 1, &button).unwrap();
            for at in 0..data.len() {
                for other in ["0", "1", "a", ":", "-", "A", "."] {
                    let mut changed = data.clone();
                    changed.replace_range(at..=at, other);
                    assert!(changed == data || seal().open(1, 1, &changed).is_none(), "{data} {changed}");
                }
                assert_eq!(seal().open(1, 1, &data[..at]), None, "{data} cut at {at}");
            }
            for more in ["", ":", "A", "AA", "=", ":x"] {
                assert!(more.is_empty() || seal().open(1, 1, &format!("{data}{more}")).is_none());
            }
        }
    }

    #[test]
    fn ids_that_would_not_fit_make_no_button() {
        for bad in ["", "q:1", "q.1", "é", &"q".repeat(QUESTION_MAX + 1)] {
            assert_eq!(seal().close(1, 1, &Button::Task(id(), What::Show(bad.to_owned()))), None);
        }
        assert_eq!(format!("{:?}", seal()), "Seal(bot 99)");
    }

    proptest! {
        #[test]
        fn nothing_that_was_made_up_opens(data in "1:[0-9a-f]{8}:(a|s|c|r|b|l)[a-z0-9.]{0,8}:[A-Za-z0-9_-]{16}", any in any::<String>()) {
            prop_assert_eq!(seal().open(1, 1, &data), None);
            prop_assert_eq!(seal().open(1, 1, &any), None);
        }
    }
}
