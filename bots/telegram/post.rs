//! What the bridge wants done at the Bot API, and what became of it: the words between what decides (`hands.rs`,
//! `card.rs`) and what sends (`sender.rs`).

/// One button of an inline keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// What it says; Telegram cuts it on narrow screens.
    pub(crate) text: String,
    /// What a tap sends back; at most 64 bytes, signed.
    pub(crate) data: String,
}

/// The rows of an inline keyboard; empty: none (an edit takes it away).
pub(crate) type Keys = Vec<Vec<Key>>;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Post {
    /// Send a message.
    Message {
        /// The private chat; its number is the user's.
        chat: i64,
        /// The text in Telegram's HTML; at most 4,096 UTF-16 units after parsing.
        html: String,
        /// Its buttons.
        keys: Keys,
        /// The message that it answers, if that is still there.
        reply_to: Option<i32>,
        /// Without sound.
        silent: bool,
        /// Opens the reply field at the user's side: a question that wants free text.
        force_reply: bool,
    },
    /// Change a message in place.
    Edit {
        /// The chat.
        chat: i64,
        /// The message.
        message: i32,
        /// Its new text.
        html: String,
        /// Its new buttons.
        keys: Keys,
    },
    /// Delete a message.
    Delete {
        /// The chat.
        chat: i64,
        /// The message.
        message: i32,
    },
    /// Send a file.
    Document {
        /// The chat.
        chat: i64,
        /// Its name.
        name: String,
        /// What is in it.
        bytes: Vec<u8>,
        /// The text below it, in HTML.
        caption: String,
    },
    /// Answer a tap: the words that appear for a moment.
    Toast {
        /// The tap.
        callback: String,
        /// At most 200 characters; may be empty.
        text: String,
        /// As a box that must be closed.
        alert: bool,
    },
}

/// What became of it, once that is certain: whatever may pass by itself was tried again before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// Sent; the message's number in the chat.
    Sent(i32),
    /// Done (edits, deletions, toasts); also an edit that changes nothing.
    Done,
    /// Telegram will not do it, however often it is asked.
    Refused(Why),
}

/// Why Telegram will not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// The user blocked the bot, never opened the chat, or is gone.
    Unreachable(String),
    /// The message to edit or delete is gone or too old, or the tap is.
    Gone,
    /// The chat moved to this one, which nobody has approved.
    Moved(i64),
    /// Anything else, in Telegram's words.
    Other(String),
}
