//! The fake server itself: a test against it is worth as much as it resembles Telegram.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bridge::api::{Api, Fail};
use crate::fake::{Fake, html};
use crate::world::api;

const ANN: i64 = 4711;

async fn call(api: &Api, method: &str, params: Value) -> Result<Value, Fail> {
    let result = api.post(method, "application/json", params.to_string().into_bytes(), Duration::from_secs(30)).await;
    result.map(|r| serde_json::from_str(r.get()).unwrap())
}

fn ids(updates: &Value) -> Vec<u64> {
    updates.as_array().unwrap().iter().map(|u| u["update_id"].as_u64().unwrap() - 700_000_000).collect()
}

fn text_of(fail: &Fail) -> &str {
    match fail {
        Fail::Refused(400, text) => text.strip_prefix("Bad Request: ").unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn updates_are_confirmed_by_a_higher_offset_only() {
    let fake = Fake::start();
    let api = api(&fake);
    for n in 0..5 {
        fake.say(ANN, &format!("m{n}"));
    }
    let get = |params| call(&api, "getUpdates", params);
    assert_eq!(ids(&get(json!({})).await.unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(ids(&get(json!({"limit": 2})).await.unwrap()), [1, 2]);
    assert_eq!(ids(&get(json!({"offset": 700_000_001})).await.unwrap()), [1, 2, 3, 4, 5], "equal confirms nothing");
    assert_eq!(ids(&get(json!({"offset": 700_000_003})).await.unwrap()), [3, 4, 5]);
    assert_eq!(ids(&get(json!({})).await.unwrap()), [3, 4, 5]);
    assert_eq!(ids(&get(json!({"offset": -2})).await.unwrap()), [4, 5], "all before is forgotten");
    assert_eq!(ids(&get(json!({})).await.unwrap()), [4, 5]);
    assert_eq!(ids(&get(json!({"offset": 700_000_006})).await.unwrap()), [0; 0]);
    assert_eq!(fake.unconfirmed(), 0);
    get(json!({"allowed_updates": ["callback_query"]})).await.unwrap();
    fake.say(ANN, "not asked for");
    let tap = fake.tap_data(ANN, 101, "x");
    let seen = get(json!({})).await.unwrap();
    assert_eq!((ids(&seen).len(), &seen[0]["callback_query"]["id"]), (1, &json!(tap)), "it is remembered");
}

#[tokio::test]
async fn a_poll_is_held_until_something_comes_or_another_one_does() {
    let fake = Fake::start();
    let (first, second) = (api(&fake), api(&fake));
    let held = tokio::spawn(async move { call(&first, "getUpdates", json!({"timeout": 50})).await });
    fake.polled(1).await;
    let newer = tokio::spawn(async move { call(&second, "GetUpdates", json!({"timeout": 50})).await });
    fake.polled(2).await;
    assert!(matches!(held.await.unwrap(), Err(Fail::Conflict(_))));
    fake.say(ANN, "hello");
    assert_eq!(ids(&newer.await.unwrap().unwrap()), [1]);
    fake.set_webhook();
    let api = api(&fake);
    assert!(matches!(call(&api, "getUpdates", json!({})).await, Err(Fail::Conflict(why)) if why.contains("webhook")));
    call(&api, "deleteWebhook", json!({"drop_pending_updates": true})).await.unwrap();
    assert_eq!(ids(&call(&api, "getUpdates", json!({})).await.unwrap()), [0; 0]);
}

#[tokio::test]
async fn it_refuses_what_telegram_refuses() {
    let fake = Fake::start();
    fake.user(ANN, "Ann");
    let api = api(&fake);
    let send = |more: Value| {
        let mut params = json!({"chat_id": ANN, "text": "x"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call(&api, "sendMessage", params)
    };
    let keys = |data: &str| json!({"reply_markup": {"inline_keyboard": [[{"text": "k", "callback_data": data}]]}});
    let refused = [
        (json!({"chat_id": 1}), "chat not found"),
        (json!({"text": ""}), "message text is empty"),
        (json!({"text": "<b></b>", "parse_mode": "HTML"}), "message text is empty"),
        (json!({"text": "x".repeat(4097)}), "message is too long"),
        (json!({"text": "😀".repeat(2049)}), "message is too long"),
        (keys(&"x".repeat(65)), "BUTTON_DATA_INVALID"),
        (keys(""), "BUTTON_DATA_INVALID"),
        (json!({"reply_markup": {"inline": 1}}), "object expected as reply markup"),
        (json!({"reply_parameters": {"message_id": 5}}), "message to be replied not found"),
        (json!({"text": "a < b", "parse_mode": "HTML"}), "can't parse entities: Unclosed start tag at byte offset 2"),
    ];
    for (params, why) in refused {
        assert_eq!(text_of(&send(params.clone()).await.unwrap_err()), why, "{params}");
    }
    let long = json!({"text": format!("<b>{}</b>", "&lt;".repeat(4096)), "parse_mode": "HTML"});
    assert!(send(long).await.is_ok(), "it counts after parsing");
    assert!(send(keys(&"x".repeat(64))).await.is_ok());
    let lenient = json!({"reply_parameters": {"message_id": 5, "allow_sending_without_reply": true}});
    assert!(send(lenient).await.is_ok());
    assert!(matches!(call(&api, "sendMesage", json!({})).await, Err(Fail::Token(_))), "404");
    assert_eq!(call(&api, "GetMe", json!({})).await.unwrap()["is_bot"], true);
}

#[tokio::test]
async fn a_user_taps_what_is_there() {
    let fake = Fake::start();
    fake.user(ANN, "Ann");
    let api = api(&fake);
    let keys = json!({"inline_keyboard": [[{"text": "Yes", "callback_data": "1:y"}]]});
    let sent = call(&api, "sendMessage", json!({"chat_id": ANN, "text": "?", "reply_markup": keys})).await.unwrap();
    let message = i32::try_from(sent["message_id"].as_i64().unwrap()).unwrap();
    let tap = fake.tap(ANN, message, "Yes");
    let reply = fake.reply(ANN, message, "why?");
    let updates = call(&api, "getUpdates", json!({})).await.unwrap();
    for update in updates.as_array().unwrap() {
        // From a text: teloxide takes borrowed names of fields only.
        let read: teloxide::types::Update = serde_json::from_str(&update.to_string()).unwrap();
        assert!(!matches!(read.kind, teloxide::types::UpdateKind::Error(_)), "{update}");
    }
    assert_eq!(updates[0]["callback_query"]["data"], "1:y");
    assert_eq!(updates[1]["message"]["reply_to_message"]["message_id"], message);
    assert_eq!(updates[1]["message"]["message_id"], reply);
    let markup = json!({"chat_id": ANN, "message_id": message});
    assert!(call(&api, "editMessageReplyMarkup", markup.clone()).await.unwrap().get("reply_markup").is_none());
    let same = call(&api, "editMessageReplyMarkup", markup).await.unwrap_err();
    assert!(text_of(&same).starts_with("message is not modified"));
    fake.forget_taps();
    let late = call(&api, "answerCallbackQuery", json!({"callback_query_id": tap})).await.unwrap_err();
    assert!(text_of(&late).starts_with("query is too old"));
}

#[test]
fn a_test_that_blocks_can_wait_too() {
    let fake = Fake::start();
    fake.user(ANN, "Ann");
    let bot = api(&fake);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call(&bot, "sendChatAction", json!({"chat_id": ANN, "action": "typing"}))).unwrap();
    });
    let seen = fake.wait_for("an action", |calls| calls.iter().find(|c| c.method == "sendChatAction").cloned());
    assert_eq!((seen.chat(), seen.done, seen.status), (ANN, true, 200));
    thread.join().unwrap();
}

#[test]
fn html_is_read_as_telegram_reads_it() {
    let text = |source: &str| html::parse(source).map(|(text, _)| text);
    assert_eq!(text("a &amp; b &#39;c&#x27; &nbsp; > d").unwrap(), "a & b 'c' &nbsp; > d");
    assert_eq!(text("<pre><code class=\"language-sh\">ls</code></pre>").unwrap(), "ls");
    assert_eq!(text("<blockquote expandable>q</blockquote>").unwrap(), "q");
    for (source, why) in [
        ("<p>x</p>", "Unsupported start tag \"p\" at byte offset 0"),
        ("<b>x", "Can't find end tag corresponding to start tag \"b\""),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b><i>x</b></i>", "Unmatched end tag at byte offset 7, expected \"</i>\", found \"</b>\""),
    ] {
        assert_eq!(html::parse(source).unwrap_err(), why);
    }
}
