//! Who is heard: one update of Telegram's becomes one [`Heard`]. Whatever is not known to be a message or a tap of an
//! allowed person in their own private chat is nothing.

use std::collections::BTreeSet;

use octo::render::sanitize;
use serde_json::Value;
use teloxide::types::{
    CallbackQuery, Chat, ChatMemberKind, ChatMemberUpdated, InlineKeyboardButtonKind, MaybeInaccessibleMessage,
    MediaKind, Message, MessageCommon, MessageKind, Update, UpdateKind, User,
};

use super::text::cut;

/// What Telegram says instead of a person: "Telegram" itself, the anonymous administrator of a group, the channel
/// of a group.
const NOBODY: [i64; 3] = [777_000, 1_087_968_824, 136_817_688];

/// The longest name that is kept, in UTF-16 units.
const NAME_MAX: usize = 64;

/// The longest text of a stranger that is looked at: a pairing code is much shorter.
const STRANGER_TEXT_MAX: usize = 64;

/// What an update says, once it is clear that its sender may say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An allowed user wrote.
    Text(Text),
    /// An allowed user tapped a button of this bot's.
    Tap(Tap),
    /// Somebody else wrote: for pairing only; nothing else may come of it.
    Stranger {
        /// The user's number.
        id: i64,
        /// The name that the user goes by; anybody may choose any.
        name: String,
        /// The beginning of what was written.
        text: String,
    },
    /// An allowed user blocked the bot.
    Blocked(i64),
    /// An allowed user unblocked it.
    Back(i64),
    /// Nothing that counts, and why.
    Nothing(&'static str),
}

/// A message of an allowed user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// Who wrote; the number of the private chat as well.
    pub(crate) user: i64,
    /// The name that the user goes by.
    pub(crate) name: String,
    /// The private chat.
    pub(crate) chat: i64,
    /// The message.
    pub(crate) message: i32,
    /// What was written.
    pub(crate) text: String,
    /// What it replies to, in the same chat.
    pub(crate) reply: Option<Replied>,
    /// When, in seconds since 1970, by Telegram's clock.
    pub(crate) at: i64,
}

/// The message that a reply is to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Replied {
    /// Its number.
    pub(crate) message: i32,
    /// Whether this bot wrote it.
    pub(crate) own: bool,
    /// The callback data of its buttons; only of the bot's own messages.
    pub(crate) data: Vec<String>,
}

/// A tap of an allowed user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Who tapped.
    pub(crate) user: i64,
    /// The private chat.
    pub(crate) chat: i64,
    /// The message with the button.
    pub(crate) message: i32,
    /// What answers it.
    pub(crate) callback: String,
    /// The button's data, still sealed.
    pub(crate) data: String,
}

/// The rules.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    bot: i64,
    allowed: BTreeSet<i64>,
}

type Refusal = &'static str;

impl Gate {
    /// `bot`: the bot's own number; `allowed`: the users that are heard.
    pub(crate) fn new(bot: i64, allowed: impl IntoIterator<Item = i64>) -> Self {
        Gate { bot, allowed: allowed.into_iter().filter(|id| *id > 0).collect() }
    }

    /// Tells whether a user is heard.
    pub(crate) fn allows(&self, user: i64) -> bool {
        self.allowed.contains(&user) && user != self.bot && !NOBODY.contains(&user)
    }

    /// Hears one user more, or one less.
    pub(crate) fn set_allowed(&mut self, allowed: impl IntoIterator<Item = i64>) {
        self.allowed = allowed.into_iter().filter(|id| *id > 0).collect();
    }

    /// What an update says.
    pub(crate) fn hear(&self, update: &Update) -> Heard {
        let heard = match &update.kind {
            UpdateKind::Message(message) => self.message(message),
            UpdateKind::CallbackQuery(query) => self.tap(query),
            UpdateKind::MyChatMember(change) => self.member(change),
            UpdateKind::EditedMessage(_) => Err("an edited message"),
            _ => Err("an update of another kind"),
        };
        heard.unwrap_or_else(Heard::Nothing)
    }

    /// What an update says. `raw` is all of it: servers of older versions mark what is forwarded in ways that the types
    /// do not know, and who knows what newer ones do.
    pub(crate) fn arrived(&self, update: &Update, raw: &Value) -> Heard {
        let marked =
            raw.get("message").and_then(Value::as_object).is_some_and(|m| m.keys().any(|k| k.starts_with("forward")));
        if marked { Heard::Nothing("forwarded") } else { self.hear(update) }
    }

    /// The person that a user is, if it is one.
    fn person(&self, user: &User) -> Result<i64, Refusal> {
        let id = i64::try_from(user.id.0).map_err(|_| "a user's number that cannot be")?;
        if user.is_bot || id == self.bot {
            return Err("a bot");
        }
        if id <= 0 || NOBODY.contains(&id) {
            return Err("nobody in particular");
        }
        Ok(id)
    }

    /// The person whose private chat with the bot this is.
    fn alone_with(&self, chat: &Chat, user: &User) -> Result<i64, Refusal> {
        if !chat.is_private() {
            return Err("not in a private chat");
        }
        let id = self.person(user)?;
        if chat.id.0 == id { Ok(id) } else { Err("in somebody else's chat") }
    }

    fn message(&self, message: &Message) -> Result<Heard, Refusal> {
        let from = message.from.as_ref().ok_or("without a sender")?;
        let user = self.alone_with(&message.chat, from)?;
        if message.sender_chat.is_some() {
            return Err("in the name of a chat");
        }
        if message.via_bot.is_some() || message.sender_business_bot.is_some() {
            return Err("through a bot");
        }
        let MessageKind::Common(common) = &message.kind else { return Err("a service message") };
        plainly_said(common)?;
        let MediaKind::Text(text) = &common.media_kind else {
            return Err("no text");
        };
        let name = name_of(from);
        if !self.allows(user) {
            let text = text.text.chars().take(STRANGER_TEXT_MAX).collect();
            return Ok(Heard::Stranger { id: user, name, text });
        }
        let reply = common.reply_to_message.as_deref().filter(|r| r.chat.id == message.chat.id);
        Ok(Heard::Text(Text {
            user,
            name,
            chat: message.chat.id.0,
            message: message.id.0,
            text: text.text.clone(),
            reply: reply.map(|r| self.replied(r)),
            at: message.date.timestamp(),
        }))
    }

    fn replied(&self, message: &Message) -> Replied {
        let own = self.wrote(message);
        let markup = message.reply_markup().filter(|_| own);
        let buttons = markup.into_iter().flat_map(|m| m.inline_keyboard.iter().flatten());
        let data = buttons.filter_map(|b| match &b.kind {
            InlineKeyboardButtonKind::CallbackData(data) => Some(data.clone()),
            _ => None,
        });
        Replied { message: message.id.0, own, data: data.collect() }
    }

    /// Tells whether this bot wrote a message, itself and here.
    fn wrote(&self, message: &Message) -> bool {
        let by = message.from.as_ref().is_some_and(|u| u.is_bot && i64::try_from(u.id.0) == Ok(self.bot));
        by && message.via_bot.is_none() && message.sender_chat.is_none() && message.forward_origin().is_none()
    }

    fn tap(&self, query: &CallbackQuery) -> Result<Heard, Refusal> {
        if query.inline_message_id.is_some() {
            return Err("a tap on an inline message");
        }
        let message = query.message.as_ref().ok_or("a tap on no message")?;
        let user = self.alone_with(message.chat(), &query.from)?;
        // What Telegram does not show any more is judged by its data and the task's state alone, as all are.
        if let MaybeInaccessibleMessage::Regular(message) = message {
            if !self.wrote(message) {
                return Err("a tap on somebody else's message");
            }
            if matches!(&message.kind, MessageKind::Common(common) if common.business_connection_id.is_some()) {
                return Err("a tap in a business chat");
            }
        }
        if !self.allows(user) {
            return Err("a stranger's tap");
        }
        let data = query.data.as_ref().ok_or("a tap without data")?;
        Ok(Heard::Tap(Tap {
            user,
            chat: message.chat().id.0,
            message: message.id().0,
            callback: query.id.0.clone(),
            data: data.clone(),
        }))
    }

    fn member(&self, change: &ChatMemberUpdated) -> Result<Heard, Refusal> {
        let user = self.alone_with(&change.chat, &change.from)?;
        let about = &change.new_chat_member;
        if i64::try_from(about.user.id.0) != Ok(self.bot) {
            return Err("about another member");
        }
        if !self.allows(user) {
            return Err("a stranger's coming and going");
        }
        match about.kind {
            ChatMemberKind::Banned(_) | ChatMemberKind::Left => Ok(Heard::Blocked(user)),
            ChatMemberKind::Member(_) => Ok(Heard::Back(user)),
            ChatMemberKind::Owner(_) | ChatMemberKind::Administrator(_) | ChatMemberKind::Restricted(_) => {
                Err("a rank that private chats do not have")
            }
        }
    }
}

/// Written here and now, by the sender's own hand.
fn plainly_said(common: &MessageCommon) -> Result<(), Refusal> {
    if common.forward_origin.is_some() || common.is_automatic_forward {
        return Err("forwarded");
    }
    if common.edit_date.is_some() {
        return Err("an edited message");
    }
    if common.business_connection_id.is_some() {
        return Err("in a business chat");
    }
    if common.author_signature.is_some() {
        return Err("signed in the name of a chat");
    }
    Ok(())
}

fn name_of(user: &User) -> String {
    cut(&sanitize::line(&user.full_name()), NAME_MAX)
}

#[cfg(test)]
#[path = "gate/tests.rs"]
pub(crate) mod tests;
