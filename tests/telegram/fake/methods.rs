//! What each method does to the chats.

use serde_json::{Value, json};

use super::{Inner, chat_of, html};

/// Every method that the server knows, in Telegram's spelling.
pub(super) const METHODS: [&str; 12] = [
    "getMe",
    "getUpdates",
    "sendMessage",
    "editMessageText",
    "editMessageReplyMarkup",
    "deleteMessage",
    "answerCallbackQuery",
    "sendDocument",
    "setMyCommands",
    "deleteWebhook",
    "sendChatAction",
    "getChat",
];

/// The most UTF-16 units that a message shows, and a caption.
const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;

/// What a method answers.
pub(super) type Outcome = Result<Value, Refusal>;

/// What Telegram says when it does not do it.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) parameters: Value,
}

impl Refusal {
    pub(super) fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into(), parameters: Value::Null }
    }

    fn bad(text: impl std::fmt::Display) -> Refusal {
        Refusal::new(400, format!("Bad Request: {text}"))
    }
}

/// Does it.
pub(super) fn carry_out(inner: &mut Inner, method: &str, params: &Value) -> Outcome {
    match method {
        "getMe" => Ok(inner.me()),
        "deleteWebhook" => {
            inner.webhook = false;
            if params["drop_pending_updates"] == json!(true) {
                inner.queue.clear();
            }
            Ok(json!(true))
        }
        "setMyCommands" => {
            inner.commands = params["commands"].clone();
            Ok(json!(true))
        }
        "answerCallbackQuery" => inner.answer_tap(params),
        _ => {
            let chat = inner.writable(chat_of(params))?;
            match method {
                "sendMessage" => inner.send(chat, params),
                "sendDocument" => inner.document(chat, params),
                "editMessageText" | "editMessageReplyMarkup" => inner.edit(chat, params, method == "editMessageText"),
                "deleteMessage" => {
                    let key = (chat, number(params));
                    inner.messages.remove(&key).ok_or_else(|| Refusal::bad("message to delete not found"))?;
                    Ok(json!(true))
                }
                "getChat" => Ok(inner.chat(chat)),
                _ => Ok(json!(true)),
            }
        }
    }
}

fn number(params: &Value) -> i32 {
    params["message_id"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
}

/// The text as it is shown, and its entities.
fn shown(text: &str, mode: &Value) -> Result<(String, Vec<Value>), Refusal> {
    match mode.as_str() {
        None => Ok((text.to_owned(), Vec::new())),
        Some(mode) if mode.eq_ignore_ascii_case("html") => {
            html::parse(text).map_err(|why| Refusal::bad(format!("can't parse entities: {why}")))
        }
        Some(_) => Err(Refusal::bad("unsupported parse_mode")),
    }
}

/// Looks at buttons as Telegram does. `Null`: there are none.
fn keyboard(markup: &Value) -> Result<Value, Refusal> {
    if markup.is_null() || markup["force_reply"] == json!(true) {
        return Ok(Value::Null);
    }
    let Some(rows) = markup["inline_keyboard"].as_array() else {
        return Err(Refusal::bad("object expected as reply markup"));
    };
    for row in rows {
        let row = row.as_array().ok_or_else(|| Refusal::bad("Array of InlineKeyboardButton expected"))?;
        for button in row {
            if button["text"].as_str().is_none_or(str::is_empty) {
                return Err(Refusal::bad("inline keyboard button text must be non-empty"));
            }
            match button["callback_data"].as_str() {
                Some(data) if (1..=64).contains(&data.len()) => {}
                Some(_) => return Err(Refusal::bad("BUTTON_DATA_INVALID")),
                None => return Err(Refusal::bad("Text buttons are unallowed in the inline keyboard")),
            }
        }
    }
    let empty = rows.iter().all(|r| r.as_array().is_none_or(Vec::is_empty));
    Ok(if empty { Value::Null } else { markup.clone() })
}

impl Inner {
    pub(super) fn me(&self) -> Value {
        json!({
            "id": self.bot, "is_bot": true, "first_name": "Octo", "username": "octo_test_bot",
            "can_join_groups": false, "can_read_all_group_messages": false, "supports_inline_queries": false,
            "can_connect_to_business": false, "has_main_web_app": false,
        })
    }

    pub(super) fn chat(&self, chat: i64) -> Value {
        json!({"id": chat, "type": "private", "first_name": self.users.get(&chat)})
    }

    fn writable(&self, chat: i64) -> Result<i64, Refusal> {
        if !self.users.contains_key(&chat) {
            return Err(Refusal::bad("chat not found"));
        }
        if self.blocked.contains(&chat) {
            return Err(Refusal::new(403, "Forbidden: bot was blocked by the user"));
        }
        Ok(chat)
    }

    /// Puts a message of the bot or of a user into a chat.
    pub(super) fn put(&mut self, chat: i64, from: Value, more: Value) -> Value {
        self.last_message += 1;
        let date = jiff::Timestamp::now().as_second();
        let mut message = json!({"message_id": self.last_message, "from": from, "chat": self.chat(chat), "date": date});
        if let (Some(message), Value::Object(more)) = (message.as_object_mut(), more) {
            message.extend(more);
        }
        self.messages.insert((chat, self.last_message), message.clone());
        message
    }

    /// What a message holds beside its text.
    fn around(&self, chat: i64, params: &Value) -> Result<Value, Refusal> {
        let mut more = json!({});
        let keys = keyboard(&params["reply_markup"])?;
        if !keys.is_null() {
            more["reply_markup"] = keys;
        }
        let reply = &params["reply_parameters"];
        if !reply.is_null() {
            match self.messages.get(&(chat, number(reply))) {
                Some(original) => more["reply_to_message"] = original.clone(),
                None if reply["allow_sending_without_reply"] == json!(true) => {}
                None => return Err(Refusal::bad("message to be replied not found")),
            }
        }
        Ok(more)
    }

    fn send(&mut self, chat: i64, params: &Value) -> Outcome {
        let (text, entities) = shown(params["text"].as_str().unwrap_or_default(), &params["parse_mode"])?;
        if text.trim().is_empty() {
            return Err(Refusal::bad("message text is empty"));
        }
        if html::units(&text) > TEXT_MAX {
            return Err(Refusal::bad("message is too long"));
        }
        let mut more = self.around(chat, params)?;
        more["text"] = json!(text);
        if !entities.is_empty() {
            more["entities"] = json!(entities);
        }
        Ok(self.put(chat, self.me(), more))
    }

    fn document(&mut self, chat: i64, params: &Value) -> Outcome {
        let Some(content) = params["document"].as_str() else {
            return Err(Refusal::bad("there is no document in the request"));
        };
        if content.is_empty() {
            return Err(Refusal::bad("file must be non-empty"));
        }
        let (caption, _) = shown(params["caption"].as_str().unwrap_or_default(), &params["parse_mode"])?;
        if html::units(&caption) > CAPTION_MAX {
            return Err(Refusal::bad("message caption is too long"));
        }
        let mut more = self.around(chat, params)?;
        more["caption"] = json!(caption);
        more["document"] = json!({
            "file_id": "BQACAgIAAx", "file_unique_id": "AgADx", "file_name": params["document_name"],
            "file_size": content.len(),
        });
        Ok(self.put(chat, self.me(), more))
    }

    fn edit(&mut self, chat: i64, params: &Value, with_text: bool) -> Outcome {
        let key = (chat, number(params));
        let Some(old) = self.messages.get(&key).cloned() else {
            return Err(Refusal::bad("message to edit not found"));
        };
        if old["from"]["id"] != json!(self.bot) {
            return Err(Refusal::bad("message can't be edited"));
        }
        let mut new = old.clone();
        let parts = new.as_object_mut().unwrap();
        if with_text {
            let (text, entities) = shown(params["text"].as_str().unwrap_or_default(), &params["parse_mode"])?;
            if text.trim().is_empty() {
                return Err(Refusal::bad("message text is empty"));
            }
            if html::units(&text) > TEXT_MAX {
                return Err(Refusal::bad("MESSAGE_TOO_LONG"));
            }
            parts.insert("text".to_owned(), json!(text));
            parts.remove("entities");
            if !entities.is_empty() {
                parts.insert("entities".to_owned(), json!(entities));
            }
        }
        parts.remove("reply_markup");
        let keys = keyboard(&params["reply_markup"])?;
        if !keys.is_null() {
            parts.insert("reply_markup".to_owned(), keys);
        }
        let same = |part: &str| new[part] == old[part];
        if same("text") && same("entities") && same("reply_markup") {
            return Err(Refusal::bad(
                "message is not modified: specified new message content and reply markup are exactly the same as a \
                 current content and reply markup of the message",
            ));
        }
        self.messages.insert(key, new.clone());
        Ok(new)
    }

    fn answer_tap(&mut self, params: &Value) -> Outcome {
        if params["text"].as_str().is_some_and(|t| t.chars().count() > 200) {
            return Err(Refusal::bad("MESSAGE_TOO_LONG"));
        }
        let tap = params["callback_query_id"].as_str().unwrap_or_default();
        match self.taps.get_mut(tap) {
            Some(answered @ false) => {
                *answered = true;
                Ok(json!(true))
            }
            _ => Err(Refusal::bad("query is too old and response timeout expired or query ID is invalid")),
        }
    }
}
