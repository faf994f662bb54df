//! Playing the user, and the whims of the queue.

use serde_json::{Value, json};

use super::{Fake, Inner, Mischief};

impl Inner {
    fn user(&self, user: i64) -> Value {
        json!({"id": user, "is_bot": false, "first_name": self.users.get(&user), "language_code": "en"})
    }

    /// A message of a user, who thereby opens the chat.
    fn said(&mut self, user: i64, text: &str, to: Option<i32>) -> Value {
        self.users.entry(user).or_insert_with(|| format!("User {user}"));
        let mut more = json!({"text": text});
        if let Some(original) = to.and_then(|to| self.messages.get(&(user, to))) {
            more["reply_to_message"] = original.clone();
        }
        if text.starts_with('/') {
            let length = text.split_whitespace().next().map_or(0, str::len);
            more["entities"] = json!([{"type": "bot_command", "offset": 0, "length": length}]);
        }
        let from = self.user(user);
        self.put(user, from, more)
    }
}

fn message_id(message: &Value) -> i32 {
    message["message_id"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
}

impl Fake {
    /// Makes a user known under a name: one who has opened the chat with the bot.
    pub(crate) fn user(&self, user: i64, name: &str) {
        self.world.held().users.insert(user, name.to_owned());
    }

    /// The user blocks the bot, or takes that back.
    pub(crate) fn block(&self, user: i64, blocked: bool) {
        let mut inner = self.world.held();
        if blocked {
            inner.blocked.insert(user);
        } else {
            inner.blocked.remove(&user);
        }
    }

    /// The user writes; returns the message's number.
    pub(crate) fn say(&self, user: i64, text: &str) -> i32 {
        self.write(user, text, None)
    }

    /// The user replies to a message; returns the number of the reply.
    pub(crate) fn reply(&self, user: i64, to: i32, text: &str) -> i32 {
        self.write(user, text, Some(to))
    }

    fn write(&self, user: i64, text: &str, to: Option<i32>) -> i32 {
        let number = {
            let mut inner = self.world.held();
            let message = inner.said(user, text, to);
            inner.queue("message", message.clone());
            message_id(&message)
        };
        self.world.tell();
        number
    }

    /// The user taps the button that says `button`; returns the tap's number. Panics when there is none.
    pub(crate) fn tap(&self, user: i64, message: i32, button: &str) -> String {
        let shown = self.message(user, message).unwrap_or_else(|| panic!("there is no message {message}"));
        let rows = shown["reply_markup"]["inline_keyboard"].as_array().cloned().unwrap_or_default();
        let keys: Vec<Value> = rows.iter().filter_map(Value::as_array).flatten().cloned().collect();
        let key = keys.iter().find(|k| k["text"] == json!(button));
        let key = key.unwrap_or_else(|| panic!("no button {button:?} among {keys:?}"));
        self.tap_data(user, message, key["callback_data"].as_str().unwrap_or_default())
    }

    /// A client of the user's sends this data as a tap, whatever the buttons are; returns the tap's number.
    pub(crate) fn tap_data(&self, user: i64, message: i32, data: &str) -> String {
        let tap = {
            let mut inner = self.world.held();
            inner.last_tap += 1;
            let tap = format!("{}", 4_382_000_000_000_000_u64 + inner.last_tap);
            inner.taps.insert(tap.clone(), false);
            let shown = inner.messages.get(&(user, message)).cloned();
            let query = json!({
                "id": tap, "from": inner.user(user), "message": shown, "chat_instance": "-3141592653589793",
                "data": data,
            });
            inner.queue("callback_query", query);
            tap
        };
        self.world.tell();
        tap
    }

    /// Telegram forgets the taps that were not answered in time.
    pub(crate) fn forget_taps(&self) {
        self.world.held().taps.clear();
    }

    /// Puts an update of this kind into the queue, also one that the bot did not ask for; returns its number.
    pub(crate) fn raw(&self, kind: &str, what: Value) -> u64 {
        let number = {
            let mut inner = self.world.held();
            let allowed = inner.allowed.take();
            let number = inner.queue(kind, what);
            inner.allowed = allowed;
            number
        };
        self.world.tell();
        number
    }

    /// Puts anything at all into the queue.
    pub(crate) fn raw_item(&self, item: Value) {
        self.world.held().queue.push(item);
        self.world.tell();
    }

    /// A message of a user as Telegram would describe it, to be changed and sent as [`Fake::raw`].
    pub(crate) fn draft(&self, user: i64, text: &str) -> Value {
        self.world.held().said(user, text, None)
    }

    /// The number of the next update: after a week without one Telegram picks it at random.
    pub(crate) fn jump_to(&self, number: u64) {
        self.world.held().next_update = number;
    }

    /// The number that the next update will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.world.held().next_update
    }

    /// The queue misbehaves from now on.
    pub(crate) fn mischief(&self, mischief: Mischief) {
        self.world.held().mischief = mischief;
    }

    /// Polls end after this time at the latest.
    pub(crate) fn hold(&self, most: std::time::Duration) {
        self.world.held().hold = Some(most);
    }

    /// Somebody set a webhook.
    pub(crate) fn set_webhook(&self) {
        self.world.held().webhook = true;
    }

    /// The owner made a new token: the old one is refused.
    pub(crate) fn revoke(&self) {
        self.world.held().token = "revoked".to_owned();
    }

    /// The token counts again.
    pub(crate) fn unrevoke(&self) {
        self.world.held().token = super::TOKEN.to_owned();
    }
}
