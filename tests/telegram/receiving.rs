//! Receiving, while everything is alive: what is asked for, what is confirmed, and every fault that passes.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::bridge::condition::{Condition, Polling};
use crate::bridge::inbox::{Inbox, Past, Shelf, Stored};
use crate::bridge::lock::Place;
use crate::bridge::receive::number;
use crate::fake::{BOT, Fake, Fault, Mischief};
use crate::world::{Clock, HOUR, Ledger, NOON, pace, receiver, start, until};

struct Setting {
    fake: Fake,
    dir: TempDir,
    ledger: Ledger,
}

fn setting() -> Setting {
    Setting { fake: Fake::start(), dir: tempfile::tempdir().unwrap(), ledger: Ledger::default() }
}

impl Setting {
    fn run(&self) -> (crate::world::Alive, tokio::sync::watch::Receiver<Condition>) {
        start(receiver(&self.fake, self.dir.path(), &self.ledger))
    }

    /// Waits until these files, and no others, are in the inbox.
    async fn inbox_is(&self, wanted: &[String]) {
        let is = async {
            while self.inbox() != wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), is).await;
        assert!(waited.is_ok(), "never came: {wanted:?}; it is {:?}", self.inbox());
    }

    fn inbox(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("bots/telegram-inbox")).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn it_asks_as_telegram_wants_and_confirms_only_what_is_done() {
    let s = setting();
    s.fake.set_webhook();
    s.fake.say(4711, "sent while off");
    let (alive, mut condition) = s.run();
    s.ledger.has(&["sent while off"]).await;
    s.fake.all_confirmed().await;
    s.fake.say(4711, "second");
    s.ledger.has(&["second"]).await;
    s.fake.all_confirmed().await;
    until(&mut condition, "well", |c| c.polling == Polling::Well).await;
    s.fake.polled(3).await;
    s.inbox_is(&[]).await;
    alive.kill().await;
    let calls = s.fake.calls();
    assert_eq!(calls[0].method, "deleteWebhook");
    assert_ne!(calls[0].params["drop_pending_updates"], json!(true));
    let polls = s.fake.calls_of("getUpdates");
    assert_eq!(polls[0].params["allowed_updates"], json!(["message", "callback_query", "my_chat_member"]));
    assert_eq!((&polls[0].params["limit"], &polls[0].params["timeout"]), (&json!(100), &json!(50)));
    assert!(polls[0].params.get("offset").is_none(), "an old offset could be above all new numbers");
    assert_eq!(polls[1].params["offset"], json!(700_000_002), "this confirms the first");
}

#[tokio::test]
async fn repeated_reversed_and_missing_numbers_change_nothing() {
    let s = setting();
    s.fake.mischief(Mischief { repeat: 7, reversed: true, gap: 3 });
    let (_alive, _) = s.run();
    let texts: Vec<String> = (0..60).map(|n| format!("m{n}")).collect();
    for (n, text) in texts.iter().enumerate() {
        s.fake.say(1000 + i64::try_from(n % 3).unwrap(), text);
        if n % 20 == 19 {
            s.fake.all_confirmed().await;
        }
    }
    s.ledger.until("all", |effects| effects.len() == texts.len()).await;
    s.fake.all_confirmed().await;
    assert_eq!(s.ledger.effects(), texts, "in the order in which they were written");
    assert!(s.ledger.brought.lock().unwrap().values().all(|times| *times == 1), "and each brought once");
}

#[tokio::test]
async fn after_a_week_the_numbers_may_begin_anywhere() {
    let s = setting();
    s.fake.hold(Duration::from_millis(1));
    let (_alive, _) = s.run();
    s.fake.say(4711, "before");
    s.fake.all_confirmed().await;
    // A week of polls that bring nothing. If they still came with an offset, it would confirm what comes now unread.
    let polls = u64::try_from(s.fake.calls_of("getUpdates").len()).unwrap();
    s.fake.polled(polls + 4).await;
    s.fake.jump_to(41);
    s.fake.say(4711, "after, with a low number");
    s.ledger.has(&["after, with a low number"]).await;
    let last = |c: &crate::fake::Call| c.params["offset"] == json!(42);
    s.fake.until("its confirmation", |calls| calls.iter().any(last).then_some(())).await;
    let offsets: Vec<i64> = s.fake.calls_of("getUpdates").iter().filter_map(|c| c.params["offset"].as_i64()).collect();
    assert_eq!(offsets, [700_000_002, 42], "each is used once");
}

#[tokio::test]
async fn what_makes_no_sense_is_confirmed_and_left_out() {
    let s = setting();
    s.fake.raw("something_new", json!({"a": 1}));
    s.fake.raw("message", json!({"some fields": "are missing"}));
    s.fake.raw_item(json!({"update_id": 600_000_003}));
    s.fake.raw_item(json!({"update_id": 99_999_999_999_i64, "message": 7}));
    s.fake.say(4711, "sense");
    let (_alive, mut condition) = s.run();
    s.ledger.has(&["sense"]).await;
    s.fake.all_confirmed().await;
    assert_eq!(s.ledger.effects(), ["sense"]);
    let condition = until(&mut condition, "well", |c| c.polling == Polling::Well).await;
    assert_eq!((condition.waiting, condition.problem().as_str()), (0, ""));
}

#[tokio::test]
async fn what_has_no_number_does_not_make_it_spin() {
    let s = setting();
    s.fake.raw_item(json!("no update at all"));
    let (_alive, _) = s.run();
    s.fake.polled(3).await;
    s.fake.say(4711, "goes on");
    s.ledger.has(&["goes on"]).await;
}

#[test]
fn a_number_is_found_where_the_rest_cannot_be_read() {
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    assert_eq!(number(&raw(r#"{"message": {"text": "cut in half: \ud83d"}, "update_id": 7}"#)), Some(7));
    let deep = format!(r#"{{"update_id": 8, "message": {}{}}}"#, "[".repeat(100), "]".repeat(100));
    assert_eq!(number(&raw(&deep)), Some(8));
    assert_eq!(number(&raw("[]")), None);
}

#[tokio::test]
async fn every_fault_is_named_and_passes() {
    let faults = [
        (Fault::conflict(), "conflict"),
        (Fault::unauthorized(), "token refused"),
        (Fault::internal(), "not reachable"),
        (Fault::bad_gateway(), "not reachable"),
        (Fault::Reset, "not reachable"),
        (Fault::DoneThenReset, "not reachable"),
        (Fault::too_many(0), "not reachable"),
    ];
    for (fault, word) in faults {
        let s = setting();
        s.fake.say(4711, "hello");
        s.fake.fault("getUpdates", usize::MAX, fault.clone());
        let (_alive, mut condition) = s.run();
        let ill = until(&mut condition, word, |c| c.health() == word).await;
        assert!(!ill.problem().is_empty(), "{fault:?}");
        s.fake.until("many tries", |calls| (calls.len() > 6).then_some(())).await;
        assert_eq!(s.ledger.effects(), [""; 0]);
        s.fake.heal();
        s.ledger.has(&["hello"]).await;
        until(&mut condition, "well", |c| c.health() == "polling" && c.problem().is_empty()).await;
        s.fake.all_confirmed().await;
        assert_eq!(s.ledger.effects(), ["hello"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_poll_that_another_one_ended_is_taken_up_again() {
    let s = setting();
    let (_alive, mut condition) = s.run();
    s.fake.polled(1).await;
    let other = crate::world::api(&s.fake);
    let body = json!({"timeout": 0}).to_string().into_bytes();
    other.post("getUpdates", "application/json", body, Duration::from_secs(9)).await.unwrap();
    until(&mut condition, "conflict", |c| c.health() == "conflict").await;
    s.fake.polled(3).await;
    s.fake.say(4711, "to the one that stays");
    s.ledger.has(&["to the one that stays"]).await;
}

#[tokio::test]
async fn what_cannot_be_applied_holds_up_its_chat_for_a_while_only() {
    let s = setting();
    s.ledger.refuse(Some("bad"));
    s.fake.say(1, "bad");
    s.fake.say(1, "after it");
    s.fake.say(2, "another chat");
    let (alive, mut condition) = s.run();
    s.ledger.has(&["another chat", "after it"]).await;
    assert_eq!(s.ledger.effects(), ["another chat", "after it"], "its own chat waited for the tries");
    s.fake.all_confirmed().await;
    let ill = until(&mut condition, "one waits", |c| c.waiting == 1).await;
    assert!(ill.problem().contains("1 messages from Telegram"), "{}", ill.problem());
    s.inbox_is(&[format!("{BOT}-700000001.json")]).await;
    alive.kill().await;
    s.ledger.refuse(None);
    let (_alive, mut condition) = s.run();
    s.ledger.has(&["bad"]).await;
    until(&mut condition, "none waits", |c| c.waiting == 0).await;
    s.inbox_is(&[]).await;
}

#[tokio::test]
async fn a_defect_in_what_applies_is_no_end() {
    let s = setting();
    s.ledger.refuse(Some("bomb"));
    s.ledger.panics.store(true, Ordering::Relaxed);
    s.fake.say(1, "bomb");
    s.fake.say(2, "fine");
    let (_alive, mut condition) = s.run();
    s.ledger.has(&["fine"]).await;
    until(&mut condition, "it waits", |c| c.waiting == 1).await;
    s.ledger.refuse(None);
    s.ledger.has(&["bomb"]).await;
}

/// A shelf that cannot store for a while.
struct Full {
    inbox: Inbox,
    full: std::sync::Arc<Mutex<bool>>,
}

impl Full {
    fn check(&self) -> std::io::Result<()> {
        if *self.full.lock().unwrap() { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Shelf for Full {
    async fn open(&self) -> std::io::Result<(Past, Vec<Stored>)> {
        self.inbox.open().await
    }
    async fn store(&self, updates: Vec<Stored>) -> std::io::Result<()> {
        self.check()?;
        self.inbox.store(updates).await
    }
    async fn remember(&self, past: Past) -> std::io::Result<()> {
        self.check()?;
        self.inbox.remember(past).await
    }
    async fn remove(&self, updates: Vec<(i64, i64)>) {
        self.inbox.remove(updates).await;
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_confirmed_that_is_not_done() {
    let s = setting();
    let full = std::sync::Arc::new(Mutex::new(true));
    let whole = receiver(&s.fake, s.dir.path(), &s.ledger);
    let shelf = Full { inbox: Inbox::new(s.dir.path(), BOT), full: std::sync::Arc::clone(&full) };
    let (source, apply, pace, condition) = (whole.source, whole.apply, whole.pace, whole.condition);
    let (_alive, mut condition) =
        start(crate::bridge::receive::Receiver { source, shelf, apply, pace, place: None, condition });
    // What can be applied at once needs no place.
    s.fake.say(1, "applied at once");
    s.ledger.has(&["applied at once"]).await;
    s.fake.all_confirmed().await;
    s.ledger.refuse(Some("degraded"));
    s.fake.say(1, "degraded");
    s.fake.say(2, "goes through");
    s.ledger.has(&["goes through"]).await;
    until(&mut condition, "cannot store", |c| c.health() == "cannot store").await;
    assert!(s.fake.unconfirmed() > 0, "the one that is neither stored nor done is Telegram's still");
    *full.lock().unwrap() = false;
    s.fake.all_confirmed().await;
    s.ledger.refuse(None);
    s.ledger.has(&["degraded"]).await;
    until(&mut condition, "well", |c| c.health() == "polling" && c.waiting == 0).await;
    let times = s.ledger.brought.lock().unwrap().clone();
    assert!(times.values().all(|t| *t == 1), "{times:?}");
}

#[tokio::test]
async fn a_hole_of_more_than_a_day_is_told_once() {
    let s = setting();
    let clock = Clock::noon();
    let run = || {
        let mut receiver = receiver(&s.fake, s.dir.path(), &s.ledger);
        receiver.pace = pace(&clock);
        start(receiver)
    };
    let (alive, _) = run();
    s.fake.say(4711, "first");
    s.ledger.has(&["first"]).await;
    s.fake.all_confirmed().await;
    alive.kill().await;
    // Off for an hour: Telegram kept everything.
    clock.set(NOON + HOUR);
    let (alive, mut condition) = run();
    s.fake.say(4711, "second");
    s.fake.all_confirmed().await;
    until(&mut condition, "well", |c| c.polling == Polling::Well).await;
    alive.kill().await;
    assert_eq!(s.ledger.gaps.lock().unwrap().clone(), []);
    clock.set(NOON + 49 * HOUR);
    s.ledger.deaf.store(2, Ordering::Relaxed);
    s.fake.say(4711, "third");
    let (alive, mut condition) = run();
    s.ledger.has(&["third"]).await;
    s.fake.say(4711, "fourth");
    s.ledger.has(&["fourth"]).await;
    s.fake.say(4711, "fifth");
    let gap = until(&mut condition, "the hole", |c| c.gap.is_some()).await;
    assert!(gap.problem().contains("sent between 2026-11-21 13:00 UTC and 2026-11-22 13:00 UTC"), "{}", gap.problem());
    s.fake.all_confirmed().await;
    alive.kill().await;
    let (_alive, mut condition) = run();
    s.fake.say(4711, "sixth");
    s.ledger.has(&["sixth"]).await;
    until(&mut condition, "well", |c| c.polling == Polling::Well).await;
    assert_eq!(s.ledger.gaps.lock().unwrap().clone(), [(NOON + HOUR, NOON + 25 * HOUR)], "once");
}

#[tokio::test]
async fn one_daemon_polls_and_the_next_takes_over() {
    let s = setting();
    let locks = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut first = receiver(&s.fake, s.dir.path(), &s.ledger);
    first.place = Some(Place::new(locks.path(), BOT, s.dir.path()));
    let ledger = Ledger::default();
    let mut second = receiver(&s.fake, other.path(), &ledger);
    second.place = Some(Place::new(locks.path(), BOT, other.path()));
    let (alive, mut condition) = start(first);
    until(&mut condition, "starting or well", |_| true).await;
    s.fake.polled(1).await;
    let (_second, mut waits) = start(second);
    let there = until(&mut waits, "sending only", |c| c.health() == "sending only").await;
    assert!(there.problem().contains(&s.dir.path().display().to_string()), "{}", there.problem());
    s.fake.say(1, "to the first");
    s.ledger.has(&["to the first"]).await;
    s.fake.all_confirmed().await;
    alive.kill().await;
    s.fake.say(1, "to the second");
    ledger.has(&["to the second"]).await;
    until(&mut waits, "polling", |c| c.health() == "polling").await;
    assert_eq!(ledger.effects(), ["to the second"]);
}
