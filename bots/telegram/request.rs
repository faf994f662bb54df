//! A post as a request of the Bot API, and what the answer to it means.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use teloxide::payloads::{
    AnswerCallbackQuery, AnswerCallbackQuerySetters as _, DeleteMessage, EditMessageText, EditMessageTextSetters as _,
    SendMessage, SendMessageSetters as _,
};
use teloxide::types::{
    CallbackQueryId, ChatId, ForceReply, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, MessageId,
    ParseMode, ReplyMarkup, ReplyParameters,
};

use super::api::{Api, Fail};
use super::plain::{cut, plain};
use super::post::{Keys, Post, Posted, Why};

/// The most UTF-16 units of a message, of a file's caption, and of the words for a tap.
const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;
const TOAST_MAX: usize = 200;

/// How the text of a post is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Html,
    /// Without formatting, since that was not understood.
    Plain,
    /// Without formatting and cut, since it is too long.
    Cut,
}

/// How long a call may take, and an upload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) call: Duration,
    pub(crate) upload: Duration,
}

/// What is to be done about a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ask again like this.
    Again(Form),
    /// That is the end of it.
    Final(Posted),
}

fn written(html: &str, form: Form, most: usize) -> String {
    match form {
        Form::Html => html.to_owned(),
        Form::Plain => plain(html),
        Form::Cut => cut(&plain(html), most),
    }
}

fn no_preview() -> LinkPreviewOptions {
    LinkPreviewOptions {
        is_disabled: true,
        url: None,
        prefer_small_media: false,
        prefer_large_media: false,
        show_above_text: false,
    }
}

fn keyboard(keys: &Keys) -> Option<InlineKeyboardMarkup> {
    let row = |row: &Vec<super::post::Key>| -> Vec<InlineKeyboardButton> {
        row.iter().map(|k| InlineKeyboardButton::callback(k.text.clone(), k.data.clone())).collect()
    };
    (!keys.is_empty()).then(|| InlineKeyboardMarkup::new(keys.iter().map(row)))
}

/// Asks once.
pub(crate) async fn ask(api: &Api, post: &Post, form: Form, limits: Limits) -> Result<Posted, Fail> {
    match post {
        Post::Message { chat, html, keys, reply_to, silent, force_reply } => {
            let mut message = SendMessage::new(ChatId(*chat), written(html, form, TEXT_MAX))
                .link_preview_options(no_preview())
                .disable_notification(*silent);
            if form == Form::Html {
                message = message.parse_mode(ParseMode::Html);
            }
            if let Some(to) = reply_to {
                let parameters = ReplyParameters::new(MessageId(*to)).allow_sending_without_reply();
                message = message.reply_parameters(parameters);
            }
            if let Some(keys) = keyboard(keys) {
                message = message.reply_markup(ReplyMarkup::InlineKeyboard(keys));
            } else if *force_reply {
                message = message.reply_markup(ReplyMarkup::ForceReply(ForceReply::new()));
            }
            api.call(&message, limits.call).await.map(|result| sent(&result))
        }
        Post::Edit { chat, message, html, keys } => {
            let mut edit = EditMessageText::new(ChatId(*chat), MessageId(*message), written(html, form, TEXT_MAX))
                .link_preview_options(no_preview());
            if form == Form::Html {
                edit = edit.parse_mode(ParseMode::Html);
            }
            if let Some(keys) = keyboard(keys) {
                edit = edit.reply_markup(keys);
            }
            api.call(&edit, limits.call).await.map(|_| Posted::Done)
        }
        Post::Delete { chat, message } => {
            let delete = DeleteMessage::new(ChatId(*chat), MessageId(*message));
            api.call(&delete, limits.call).await.map(|_| Posted::Done)
        }
        Post::Document { chat, name, bytes, caption } => {
            let mut fields = vec![
                ("chat_id", chat.to_string()),
                ("caption", written(caption, form, CAPTION_MAX)),
                ("disable_content_type_detection", "true".to_owned()),
            ];
            if form == Form::Html {
                fields.push(("parse_mode", "HTML".to_owned()));
            }
            let (kind, body) = multipart(&fields, name, bytes);
            api.post("SendDocument", &kind, body, limits.upload).await.map(|result| sent(&result))
        }
        Post::Toast { callback, text, alert } => {
            let mut answer = AnswerCallbackQuery::new(CallbackQueryId(callback.clone())).show_alert(*alert);
            if !text.is_empty() {
                answer = answer.text(cut(text, TOAST_MAX));
            }
            api.call(&answer, limits.call).await.map(|_| Posted::Done)
        }
    }
}

/// The number of the message that was sent. Whatever else is odd about the answer: it was sent.
fn sent(result: &RawValue) -> Posted {
    #[derive(Deserialize)]
    struct Numbered {
        message_id: i32,
    }
    serde_json::from_str::<Numbered>(result.get()).map_or(Posted::Done, |m| Posted::Sent(m.message_id))
}

/// A form with a file. Returns its content type and its body.
fn multipart(fields: &[(&str, String)], name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    let boundary = format!("octo-{}", uuid::Uuid::new_v4().simple());
    let mut body = Vec::with_capacity(bytes.len() + 1024);
    for (field, value) in fields {
        let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let name: String =
        name.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\' | '/') { '_' } else { c }).collect();
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"document\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// What Telegram's refusal of a post means.
pub(crate) fn judge(post: &Post, form: Form, code: u16, text: &str) -> Verdict {
    let says = |words: &[&str]| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|w| text.contains(w))
    };
    let refused = |why| Verdict::Final(Posted::Refused(why));
    if form == Form::Html && says(&["can't parse entities", "can't parse message caption"]) {
        return Verdict::Again(Form::Plain);
    }
    if form != Form::Cut && says(&["message is too long", "message_too_long", "caption is too long"]) {
        return Verdict::Again(Form::Cut);
    }
    if says(&["message is not modified"]) {
        return Verdict::Final(Posted::Done);
    }
    if code == 403 || says(&["chat not found", "peer_id_invalid", "user not found", "user is deactivated"]) {
        return refused(Why::Unreachable(text.to_owned()));
    }
    let gone: &[&str] = match post {
        Post::Message { .. } | Post::Document { .. } => &[],
        Post::Edit { .. } => &["message to edit not found", "message can't be edited", "message_id_invalid"],
        Post::Delete { .. } => &["message to delete not found", "message can't be deleted", "message_id_invalid"],
        Post::Toast { .. } => &["query is too old", "query id is invalid", "query_id_invalid"],
    };
    if says(gone) {
        return refused(Why::Gone);
    }
    refused(Why::Other(text.to_owned()))
}
