use serde_json::{Value, json};

use super::*;

/// The bot of the tests.
pub(crate) const BOT: i64 = 99_000_111;
/// Who may talk to it.
pub(crate) const ANN: i64 = 4711;

pub(crate) fn gate() -> Gate {
    Gate::new(BOT, [ANN, 4712])
}

/// Read from text, as the bridge does: teloxide understands no update that comes from a [`Value`].
pub(crate) fn update(value: Value) -> Update {
    serde_json::from_str(&value.to_string()).unwrap()
}

pub(crate) fn user(id: i64) -> Value {
    json!({"id": id, "is_bot": false, "first_name": "Ann"})
}

pub(crate) fn bot() -> Value {
    json!({"id": BOT, "is_bot": true, "first_name": "Octo", "username": "octo_bot"})
}

pub(crate) fn private(id: i64) -> Value {
    json!({"id": id, "type": "private", "first_name": "Ann"})
}

/// A plain message of Ann's.
pub(crate) fn message(text: &str) -> Value {
    json!({"update_id": 1, "message": {"message_id": 5, "date": 1_763_632_800, "chat": private(ANN), "from": user(ANN), "text": text}})
}

/// A tap of Ann's on a message of the bot's.
pub(crate) fn tap(data: &str) -> Value {
    json!({"update_id": 2, "callback_query": {"id": "cb1", "from": user(ANN), "chat_instance": "1", "data": data,
        "message": {"message_id": 6, "date": 1_763_632_800, "chat": private(ANN), "from": bot(), "text": "card"}}})
}

pub(crate) fn with(mut value: Value, path: &str, new: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[key] = new;
    value
}

#[test]
fn a_message_of_an_allowed_user_is_heard_whole() {
    let heard = gate().hear(&update(message("/bg make")));
    let text = Text {
        user: ANN,
        name: "Ann".to_owned(),
        chat: ANN,
        message: 5,
        text: "/bg make".to_owned(),
        reply: None,
        at: 1_763_632_800,
    };
    assert_eq!(heard, Heard::Text(text));
}

#[test]
fn a_reply_carries_the_bots_own_buttons_and_nobody_elses() {
    let keyboard = json!({"inline_keyboard": [[{"text": "yes", "callback_data": "d1"}, {"text": "x", "url": "https://x.y/"}], [{"text": "no", "callback_data": "d2"}]]});
    let card = json!({"message_id": 6, "date": 1, "chat": private(ANN), "from": bot(), "text": "card", "reply_markup": keyboard});
    let replied =
        |card: &Value| match gate().hear(&update(with(message("yes"), "/message/reply_to_message", card.clone()))) {
            Heard::Text(text) => text.reply,
            other => panic!("{other:?}"),
        };
    let own = Replied { message: 6, own: true, data: vec!["d1".to_owned(), "d2".to_owned()] };
    assert_eq!(replied(&card), Some(own));
    let foreign = Replied { message: 6, own: false, data: vec![] };
    for other in [
        with(json!({"c": card}), "/c/from", user(ANN)),
        with(
            json!({"c": card}),
            "/c/from",
            json!({"id": 5, "is_bot": true, "first_name": "Octo", "username": "octo_bot"}),
        ),
        with(json!({"c": card}), "/c/via_bot", bot()),
        with(json!({"c": card}), "/c/forward_origin", json!({"type": "user", "date": 1, "sender_user": bot()})),
    ] {
        assert_eq!(replied(&other["c"]), Some(foreign.clone()), "{other}");
    }
    let elsewhere = with(json!({"c": card}), "/c/chat", private(4712));
    assert_eq!(replied(&elsewhere["c"]), None);
}

#[test]
fn a_tap_is_heard_also_on_a_message_that_is_not_shown_any_more() {
    let heard = Tap { user: ANN, chat: ANN, message: 6, callback: "cb1".to_owned(), data: "d1".to_owned() };
    assert_eq!(gate().hear(&update(tap("d1"))), Heard::Tap(heard.clone()));
    let old = with(tap("d1"), "/callback_query/message", json!({"message_id": 6, "date": 0, "chat": private(ANN)}));
    assert_eq!(gate().hear(&update(old)), Heard::Tap(heard));
}

#[test]
fn strangers_are_known_by_number_and_heard_for_pairing_only() {
    let long = with(
        message(&"x".repeat(500)),
        "/message/from",
        json!({"id": 5, "is_bot": false, "first_name": "A\u{202e}nn\n", "username": "ann"}),
    );
    let long = with(long, "/message/chat", private(5));
    let stranger = Heard::Stranger { id: 5, name: "Ann".to_owned(), text: "x".repeat(64) };
    assert_eq!(gate().hear(&update(long.clone())), stranger);
    assert_eq!(
        Gate::new(BOT, []).hear(&update(message("x"))),
        Heard::Stranger { id: ANN, name: "Ann".to_owned(), text: "x".to_owned() }
    );
    let forwarded =
        with(long, "/message/forward_origin", json!({"type": "hidden_user", "date": 1, "sender_user_name": "x"}));
    assert!(matches!(gate().hear(&update(forwarded)), Heard::Nothing("forwarded")));
}

#[test]
fn numbers_that_are_no_person_are_never_allowed() {
    let all = Gate::new(BOT, [BOT, 777_000, 1_087_968_824, 136_817_688, -5, 0, ANN]);
    for id in [BOT, 777_000, 1_087_968_824, 136_817_688, -5, 0] {
        assert!(!all.allows(id), "{id}");
    }
    assert!(all.allows(ANN));
}

#[test]
fn what_older_servers_mark_as_forwarded_is_nothing() {
    assert!(matches!(gate().arrived(&update(message("/bg id")), &message("/bg id")), Heard::Text(_)));
    assert!(matches!(gate().arrived(&update(tap("d")), &tap("d")), Heard::Tap(_)));
    for (key, value) in [
        ("forward_date", json!(1)),
        ("forward_from", user(5)),
        ("forward_sender_name", json!("x")),
        ("forward_from_chat", json!({"id": -5, "type": "channel", "title": "x"})),
        ("forward_origin", json!({"type": "of a newer kind"})),
    ] {
        let forwarded = with(message("/bg id"), &format!("/message/{key}"), value);
        assert_eq!(gate().arrived(&update(forwarded.clone()), &forwarded), Heard::Nothing("forwarded"), "{key}");
    }
}

#[test]
fn blocking_and_coming_back_are_noticed() {
    let change = |status: Value, from: i64, about: Value| {
        let member = |status: &Value| {
            let mut m = json!({"user": about});
            for (k, v) in status.as_object().unwrap() {
                m[k] = v.clone();
            }
            m
        };
        update(json!({"update_id": 3, "my_chat_member": {"chat": private(from), "from": user(from), "date": 1,
            "old_chat_member": member(&json!({"status": "member"})), "new_chat_member": member(&status)}}))
    };
    let (kicked, back) = (json!({"status": "kicked", "until_date": 0}), json!({"status": "member"}));
    assert_eq!(gate().hear(&change(kicked.clone(), ANN, bot())), Heard::Blocked(ANN));
    assert_eq!(gate().hear(&change(back.clone(), ANN, bot())), Heard::Back(ANN));
    assert!(matches!(gate().hear(&change(kicked, 5, bot())), Heard::Nothing(_)));
    assert!(matches!(gate().hear(&change(back, ANN, user(5))), Heard::Nothing(_)));
}

/// Each of these, in its place in an honest message, makes it nothing.
pub(crate) fn spoilers() -> Vec<(&'static str, Value)> {
    let group = json!({"id": -100, "type": "group", "title": "g"});
    vec![
        ("/message/chat", group.clone()),
        ("/message/chat", json!({"id": -1001, "type": "supergroup", "title": "g"})),
        ("/message/chat", json!({"id": -1002, "type": "channel", "title": "g"})),
        ("/message/chat", json!({"id": ANN, "type": "group", "title": "g"})),
        ("/message/chat", private(4712)),
        ("/message/chat", private(5)),
        ("/message/from", user(4712)),
        ("/message/from", user(5)),
        ("/message/from", Value::Null),
        ("/message/from", json!({"id": ANN, "is_bot": true, "first_name": "Ann"})),
        ("/message/from", bot()),
        ("/message/from", user(777_000)),
        ("/message/from", user(1_087_968_824)),
        ("/message/from", json!({"id": u64::MAX, "is_bot": false, "first_name": "x"})),
        ("/message/sender_chat", group),
        ("/message/sender_chat", private(ANN)),
        ("/message/via_bot", json!({"id": 5, "is_bot": true, "first_name": "x"})),
        ("/message/via_bot", bot()),
        ("/message/sender_business_bot", bot()),
        ("/message/business_connection_id", json!("b1")),
        ("/message/author_signature", json!("owner")),
        ("/message/is_automatic_forward", json!(true)),
        ("/message/edit_date", json!(1_763_632_900)),
        ("/message/forward_origin", json!({"type": "user", "date": 1, "sender_user": user(ANN)})),
        ("/message/forward_origin", json!({"type": "hidden_user", "date": 1, "sender_user_name": "Ann"})),
        (
            "/message/forward_origin",
            json!({"type": "chat", "date": 1, "sender_chat": {"id": -5, "type": "group", "title": "x"}}),
        ),
        ("/message/forward_origin", json!({"type": "of a newer kind", "date": 1})),
        ("/message/text", Value::Null),
    ]
}

#[test]
fn whatever_is_not_plainly_said_is_nothing() {
    for (path, value) in spoilers() {
        let heard = gate().hear(&update(with(message("/bg id"), path, value.clone())));
        assert!(matches!(heard, Heard::Nothing(_)), "{path} {value}: {heard:?}");
    }
    for kind in ["edited_message", "channel_post", "edited_channel_post", "business_message", "edited_business_message"]
    {
        let heard = gate().hear(&update(json!({"update_id": 1, kind: message("/bg id")["message"]})));
        assert!(matches!(heard, Heard::Nothing(_)), "{kind}: {heard:?}");
    }
    for other in [
        json!({"update_id": 1, "inline_query": {"id": "1", "from": user(ANN), "query": "/bg id", "offset": ""}}),
        json!({"update_id": 1, "chosen_inline_result": {"result_id": "1", "from": user(ANN), "query": "/bg id"}}),
        json!({"update_id": 1, "something_new": {"from": user(ANN), "text": "/bg id"}}),
        json!({"update_id": 1, "message": {"text": "/bg id"}}),
        with(message("x"), "/message/text", json!(["a"])),
    ] {
        assert!(matches!(gate().hear(&update(other.clone())), Heard::Nothing(_)), "{other}");
    }
    let photo = json!([{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1, "file_size": 1}]);
    let mut captioned = with(message("x"), "/message/photo", photo);
    captioned["message"]["caption"] = json!("/bg id");
    captioned["message"].as_object_mut().unwrap().remove("text");
    assert_eq!(gate().hear(&update(captioned)), Heard::Nothing("no text"));
}

/// The same for taps.
pub(crate) fn tap_spoilers() -> Vec<(&'static str, Value)> {
    vec![
        ("/callback_query/from", user(4712)),
        ("/callback_query/from", user(5)),
        ("/callback_query/from", json!({"id": ANN, "is_bot": true, "first_name": "Ann"})),
        ("/callback_query/from", user(777_000)),
        ("/callback_query/message", Value::Null),
        ("/callback_query/message/chat", private(4712)),
        ("/callback_query/message/chat", json!({"id": -100, "type": "group", "title": "g"})),
        ("/callback_query/message/chat", json!({"id": ANN, "type": "supergroup", "title": "g"})),
        ("/callback_query/message/from", user(ANN)),
        ("/callback_query/message/from", json!({"id": 5, "is_bot": true, "first_name": "other"})),
        ("/callback_query/message/from", Value::Null),
        ("/callback_query/message/via_bot", bot()),
        ("/callback_query/message/sender_chat", private(ANN)),
        ("/callback_query/message/forward_origin", json!({"type": "user", "date": 1, "sender_user": bot()})),
        ("/callback_query/message/business_connection_id", json!("b")),
        ("/callback_query/inline_message_id", json!("i")),
        ("/callback_query/data", Value::Null),
        ("/callback_query/message", json!({"message_id": 6, "date": 0, "chat": private(4712)})),
        (
            "/callback_query/message",
            json!({"message_id": 6, "date": 0, "chat": {"id": -100, "type": "group", "title": "g"}}),
        ),
    ]
}

#[test]
fn taps_from_elsewhere_are_nothing() {
    for (path, value) in tap_spoilers() {
        let heard = gate().hear(&update(with(tap("d"), path, value.clone())));
        assert!(matches!(heard, Heard::Nothing(_)), "{path} {value}: {heard:?}");
    }
    let game = with(with(tap("d"), "/callback_query/data", Value::Null), "/callback_query/game_short_name", json!("g"));
    assert!(matches!(gate().hear(&update(game)), Heard::Nothing(_)));
}
