//! Sending: what goes on the wire, the order of each chat, and every fault.

use std::time::Duration;

use serde_json::json;

use crate::bridge::post::{Key, Post, Posted, Why};
use crate::bridge::request::Limits;
use crate::bridge::sender::{Pace, Sender};
use crate::fake::{Call, Fake, Fault};
use crate::world::api;

const ANN: i64 = 4711;
const BOB: i64 = 4712;

fn fast() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        chat: (ms(1), 100),
        all: (ms(1), 100),
        again: (ms(5), ms(20)),
        limits: Limits { call: ms(500), upload: ms(500) },
    }
}

fn setting() -> (Fake, Sender) {
    let fake = Fake::start();
    fake.user(ANN, "Ann");
    fake.user(BOB, "Bob");
    let sender = Sender::new(api(&fake), fast());
    (fake, sender)
}

fn message(chat: i64, html: &str) -> Post {
    Post::Message { chat, html: html.to_owned(), keys: Vec::new(), reply_to: None, silent: false, force_reply: false }
}

fn edit(message: i32, html: &str) -> Post {
    Post::Edit { chat: ANN, message, html: html.to_owned(), keys: Vec::new() }
}

fn toast(callback: &str) -> Post {
    Post::Toast { callback: callback.to_owned(), text: "Noted.".to_owned(), alert: false }
}

fn document(name: &str, text: &str, caption: &str) -> Post {
    Post::Document { chat: ANN, name: name.to_owned(), bytes: text.as_bytes().to_vec(), caption: caption.to_owned() }
}

fn keys(words: &[&str]) -> Vec<Vec<Key>> {
    vec![words.iter().map(|w| Key { text: (*w).to_owned(), data: format!("data-{w}") }).collect()]
}

fn number(posted: &Posted) -> i32 {
    match posted {
        Posted::Sent(number) => *number,
        other => panic!("not sent: {other:?}"),
    }
}

/// It ends at some time, whatever it waits for.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("it never ended"))
}

#[tokio::test]
async fn a_message_looks_as_it_should() {
    let (fake, sender) = setting();
    let asked = fake.draft(ANN, "which one?")["message_id"].as_i64().unwrap();
    let post = Post::Message {
        chat: ANN,
        html: "<b>Delete?</b> a &lt; b https://example.org".to_owned(),
        keys: keys(&["Yes", "No"]),
        reply_to: Some(i32::try_from(asked).unwrap()),
        silent: true,
        force_reply: false,
    };
    let sent = number(&soon(sender.post(post)).await);
    let shown = fake.message(ANN, sent).unwrap();
    assert_eq!(shown["text"], "Delete? a < b https://example.org");
    assert_eq!(shown["entities"], json!([{"type": "bold", "offset": 0, "length": 7}]));
    assert_eq!(shown["reply_to_message"]["message_id"], asked);
    assert_eq!(shown["reply_markup"]["inline_keyboard"][0][1], json!({"text": "No", "callback_data": "data-No"}));
    let params = &fake.calls_of("sendMessage")[0].params;
    assert_eq!(params["link_preview_options"]["is_disabled"], true);
    assert_eq!((&params["parse_mode"], &params["disable_notification"]), (&json!("HTML"), &json!(true)));
    let mut ask = message(ANN, "Which name?");
    if let Post::Message { force_reply, reply_to, .. } = &mut ask {
        // A message that is gone is no reason not to ask.
        (*force_reply, *reply_to) = (true, Some(1));
    }
    number(&soon(sender.post(ask)).await);
    assert_eq!(fake.calls_of("sendMessage")[1].params["reply_markup"]["force_reply"], true);
}

#[tokio::test]
async fn a_card_is_changed_in_place_and_taken_away() {
    let (fake, sender) = setting();
    let mut card = message(ANN, "asked");
    if let Post::Message { keys: k, .. } = &mut card {
        *k = keys(&["Yes"]);
    }
    let card = number(&soon(sender.post(card)).await);
    assert_eq!(soon(sender.post(edit(card, "<i>answered</i>"))).await, Posted::Done);
    let shown = fake.message(ANN, card).unwrap();
    assert_eq!((&shown["text"], shown.get("reply_markup")), (&json!("answered"), None));
    assert_eq!(soon(sender.post(edit(card, "<i>answered</i>"))).await, Posted::Done, "nothing to change is done");
    assert_eq!(soon(sender.post(Post::Delete { chat: ANN, message: card })).await, Posted::Done);
    assert_eq!(fake.message(ANN, card), None);
    assert_eq!(soon(sender.post(edit(card, "again"))).await, Posted::Refused(Why::Gone));
    assert_eq!(soon(sender.post(Post::Delete { chat: ANN, message: card })).await, Posted::Refused(Why::Gone));
    let theirs = i32::try_from(fake.draft(ANN, "hers")["message_id"].as_i64().unwrap()).unwrap();
    assert_eq!(soon(sender.post(edit(theirs, "mine"))).await, Posted::Refused(Why::Gone));
}

#[tokio::test]
async fn a_tap_is_answered_once() {
    let (fake, sender) = setting();
    let tap = fake.tap_data(ANN, 1, "x");
    assert_eq!(soon(sender.post(toast(&tap))).await, Posted::Done);
    assert_eq!(fake.calls_of("answerCallbackQuery")[0].text(), "Noted.");
    assert_eq!(soon(sender.post(toast(&tap))).await, Posted::Refused(Why::Gone));
    let tap = fake.tap_data(ANN, 1, "x");
    let long = Post::Toast { callback: tap, text: "long ".repeat(100), alert: true };
    assert_eq!(soon(sender.post(long)).await, Posted::Done);
}

#[tokio::test]
async fn a_file_arrives_whole() {
    let (fake, sender) = setting();
    let text = "line 1\r\n\r\n--boundary\nlast line\n";
    let sent = number(&soon(sender.post(document("build\".log", text, "<b>Log</b> of a &amp; b"))).await);
    let params = &fake.calls_of("sendDocument")[0].params;
    assert_eq!((&params["document"], &params["document_name"]), (&json!(text), &json!("build_.log")));
    assert_eq!(fake.message(ANN, sent).unwrap()["caption"], "Log of a & b");
    let sent = number(&soon(sender.post(document("x.log", text, &"c".repeat(2000)))).await);
    let caption = fake.message(ANN, sent).unwrap()["caption"].as_str().unwrap().to_owned();
    assert_eq!((caption.chars().count(), caption.ends_with('…')), (1024, true));
    let empty = soon(sender.post(document("x.log", "", ""))).await;
    assert!(matches!(empty, Posted::Refused(Why::Other(_))), "{empty:?}");
}

#[tokio::test]
async fn whatever_may_pass_is_tried_until_it_has() {
    let faults = [
        Fault::internal(),
        Fault::bad_gateway(),
        Fault::Reset,
        Fault::Silent,
        Fault::too_many(0),
        Fault::conflict(),
        Fault::unauthorized(),
    ];
    for fault in faults {
        let (fake, sender) = setting();
        fake.fault("sendMessage", 3, fault.clone());
        let sent = number(&soon(sender.post(message(ANN, "at last"))).await);
        assert_eq!(fake.message(ANN, sent).unwrap()["text"], "at last");
        let calls = fake.calls_of("sendMessage");
        assert_eq!(calls.iter().map(|c| c.done).collect::<Vec<_>>(), [false, false, false, true], "{fault:?}");
    }
}

#[tokio::test]
async fn what_was_done_and_not_confirmed_is_seen_twice_and_not_lost() {
    for fault in [Fault::DoneThenSilent, Fault::DoneThenReset] {
        let (fake, sender) = setting();
        fake.fault("sendMessage", 1, fault);
        let sent = number(&soon(sender.post(message(ANN, "once or twice"))).await);
        assert_eq!(fake.calls_of("sendMessage").iter().filter(|c| c.done).count(), 2);
        assert!(fake.message(ANN, sent).is_some() && fake.message(ANN, sent - 1).is_some());
    }
}

#[tokio::test]
async fn a_quiet_chat_holds_up_no_other() {
    let (fake, sender) = setting();
    fake.fault_in(ANN, "sendMessage", 1, Fault::too_many(1));
    let first = sender.post(message(ANN, "a1"));
    let second = sender.post(message(ANN, "a2"));
    let (other, tap) = (sender.post(message(BOB, "b1")), fake.tap_data(ANN, 1, "x"));
    number(&soon(other).await);
    assert_eq!(soon(sender.post(toast(&tap))).await, Posted::Done, "a tap waits behind no message");
    assert!(fake.calls_of("sendMessage").iter().all(|c| c.chat() == BOB || !c.done), "Ann's still wait");
    assert!(number(&soon(first).await) < number(&soon(second).await));
    let anns: Vec<Call> = fake.calls_of("sendMessage").into_iter().filter(|c| c.chat() == ANN).collect();
    assert_eq!(anns.iter().map(Call::text).collect::<Vec<_>>(), ["a1", "a1", "a2"], "in order");
    assert!(anns[1].at - anns[0].at >= Duration::from_secs(1), "as long as Telegram wanted");
}

#[tokio::test]
async fn what_telegram_does_not_understand_is_sent_as_plain_text() {
    let (fake, sender) = setting();
    let posted = soon(sender.post(message(ANN, "<b>bold</b> <x>1 &lt; 2</x>"))).await;
    assert_eq!(fake.message(ANN, number(&posted)).unwrap()["text"], "bold <x>1 < 2</x>");
    let edited = soon(sender.post(edit(number(&posted), "<b>open"))).await;
    assert_eq!(edited, Posted::Done);
    assert_eq!(fake.message(ANN, number(&posted)).unwrap()["text"], "open");
    fake.fault("sendMessage", 2, Fault::no_entities());
    let never = soon(sender.post(message(ANN, "x"))).await;
    assert!(matches!(&never, Posted::Refused(Why::Other(why)) if why.contains("can't parse")), "{never:?}");
    assert_eq!(fake.calls_of("sendMessage").len(), 4, "once more, not for ever");
}

#[tokio::test]
async fn what_is_too_long_is_cut() {
    let (fake, sender) = setting();
    let long = format!("<b>{}</b>", "😀".repeat(3000));
    let sent = number(&soon(sender.post(message(ANN, &long))).await);
    let shown = fake.message(ANN, sent).unwrap()["text"].as_str().unwrap().to_owned();
    assert_eq!((shown.encode_utf16().count(), shown.ends_with('…')), (4095, true), "no half a character");
    assert_eq!(soon(sender.post(edit(sent, &"y".repeat(5000)))).await, Posted::Done);
    let shown = fake.message(ANN, sent).unwrap()["text"].as_str().unwrap().to_owned();
    assert_eq!(shown.encode_utf16().count(), 4096);
    let fits = format!("<b>{}</b>", "z".repeat(4096));
    let sent = number(&soon(sender.post(message(ANN, &fits))).await);
    assert!(fake.message(ANN, sent).unwrap()["entities"].is_array(), "what just fits keeps its form");
}

#[tokio::test]
async fn what_telegram_will_never_do_is_said_at_once() {
    let (fake, sender) = setting();
    let unreachable = |posted: &Posted| matches!(posted, Posted::Refused(Why::Unreachable(_)));
    assert!(unreachable(&soon(sender.post(message(99, "nobody"))).await));
    fake.block(ANN, true);
    let blocked = soon(sender.post(message(ANN, "x"))).await;
    assert_eq!(
        blocked,
        Posted::Refused(Why::Unreachable("Forbidden: bot was blocked by the user".to_owned())),
        "in Telegram's words"
    );
    fake.block(ANN, false);
    for fault in [Fault::blocked(), Fault::no_chat()] {
        fake.fault("sendMessage", 1, fault);
        assert!(unreachable(&soon(sender.post(message(ANN, "x"))).await));
    }
    fake.fault("sendMessage", 1, Fault::moved(-100_123));
    assert_eq!(soon(sender.post(message(ANN, "x"))).await, Posted::Refused(Why::Moved(-100_123)));
    let mut odd = message(ANN, "x");
    if let Post::Message { keys: k, .. } = &mut odd {
        *k = vec![vec![Key { text: "too much".to_owned(), data: "x".repeat(65) }]];
    }
    let odd = soon(sender.post(odd)).await;
    assert_eq!(odd, Posted::Refused(Why::Other("Bad Request: BUTTON_DATA_INVALID".to_owned())));
    assert!(matches!(soon(sender.post(message(ANN, " "))).await, Posted::Refused(Why::Other(_))));
    number(&soon(sender.post(message(ANN, "and it goes on"))).await);
}

#[tokio::test]
async fn trouble_is_said_and_taken_back() {
    let (fake, sender) = setting();
    let mut trouble = sender.trouble();
    fake.revoke();
    let post = sender.post(message(ANN, "with a new token"));
    let said = soon(trouble.wait_for(Option::is_some)).await.unwrap().clone();
    assert!(said.unwrap().contains("refuses TELEGRAM_BOT_TOKEN"));
    fake.fault("sendMessage", 1, Fault::bad_gateway());
    fake.unrevoke();
    number(&soon(post).await);
    assert_eq!(*trouble.borrow(), None);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_begun() {
    let (fake, sender) = setting();
    fake.fault("sendMessage", 3, Fault::internal());
    let first = sender.post(message(ANN, "first"));
    let dropped = sender.post(message(ANN, "dropped"));
    let last = sender.post(message(ANN, "last"));
    drop(dropped);
    number(&soon(first).await);
    number(&soon(last).await);
    assert!(fake.calls_of("sendMessage").iter().all(|c| c.text() != "dropped"));
}

#[tokio::test]
async fn leaving_lets_end_what_is_on_the_wire_and_begins_nothing() {
    let (fake, sender) = setting();
    fake.fault_in(BOB, "sendMessage", usize::MAX, Fault::internal());
    let never = sender.post(message(BOB, "tried again and again"));
    let tried = |calls: &[Call]| (calls.len() > 1).then_some(());
    fake.until("tries", tried).await;
    let behind = sender.post(message(BOB, "never begun"));
    let done = sender.post(message(ANN, "on the wire"));
    fake.until("Ann's", |calls| calls.iter().any(|c| c.chat() == ANN).then_some(())).await;
    soon(sender.close(Duration::from_secs(30))).await;
    number(&soon(done).await);
    let later = sender.post(message(ANN, "after the end"));
    let all = async {
        tokio::select! { _ = never => {}, _ = behind => {}, _ = later => {} }
    };
    assert!(tokio::time::timeout(Duration::from_millis(50), all).await.is_err(), "nothing is certain about them");
    let begun: Vec<Call> = fake.calls_of("sendMessage");
    assert!(begun.iter().all(|c| c.text() != "never begun" && c.text() != "after the end"));
}

#[tokio::test]
async fn commands_are_registered_through_trouble() {
    let (fake, sender) = setting();
    fake.fault("setMyCommands", 2, Fault::bad_gateway());
    soon(sender.register(&[("tasks", "What runs"), ("status", "How Octo is")])).await.unwrap();
    assert_eq!(fake.commands()[1], json!({"command": "status", "description": "How Octo is"}));
}

#[test]
fn a_burst_goes_at_once_and_the_rest_at_its_pace() {
    use crate::bridge::wait::{Backoff, Bucket};
    let second = Duration::from_secs(1);
    let now = tokio::time::Instant::now();
    let mut bucket = Bucket::new(second, 3);
    let waits: Vec<u64> = (0..6).map(|_| (bucket.take(now) - now).as_secs()).collect();
    assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
    let later = now + second * 100;
    assert_eq!((0..4).map(|_| (bucket.take(later) - later).as_secs()).collect::<Vec<_>>(), [0, 0, 0, 1]);
    let default = Pace::default();
    assert!(default.chat.0 >= second && default.all.0 * 30 >= second, "Telegram's limits");
    let mut pauses = Backoff::new(second, second * 60);
    let all: Vec<f64> = (0..12).map(|_| pauses.next().as_secs_f64()).collect();
    for (n, pause) in all.iter().enumerate() {
        let whole = f64::from(2_u32.pow(u32::try_from(n).unwrap())).min(60.0);
        assert!((whole * 0.75..=whole).contains(pause), "{all:?}");
    }
    pauses.reset();
    assert!(pauses.next() <= second);
}
