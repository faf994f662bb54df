//! Death at every boundary of the receiving loop: before and after each poll, each write, each application. Nothing
//! may be lost, and nothing may take effect twice.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use octo::command::Refused;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::bridge::api::{Api, Fail};
use crate::bridge::inbox::{Inbox, Past, Shelf, Stored};
use crate::bridge::receive::{Apply, Arrived, Receiver, Source};
use crate::fake::{BOT, Fake, Mischief};
use crate::world::{Ledger, receiver};

/// Counts boundaries; at one of them everything stops for ever, as it does when a process is killed.
#[derive(Debug)]
struct Fate {
    left: AtomicUsize,
    struck: Notify,
}

impl Fate {
    fn after(boundaries: usize) -> Arc<Fate> {
        Arc::new(Fate { left: AtomicUsize::new(boundaries), struck: Notify::new() })
    }

    async fn boundary(&self) {
        let before = self.left.load(Ordering::Relaxed);
        if before <= 1 {
            self.left.store(0, Ordering::Relaxed);
            self.struck.notify_one();
            std::future::pending::<()>().await;
        }
        self.left.store(before - 1, Ordering::Relaxed);
    }

    async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        self.boundary().await;
        let done = work.await;
        self.boundary().await;
        done
    }
}

struct Mortal<T> {
    inner: T,
    fate: Arc<Fate>,
    /// Says that updates are stored, and stores nothing.
    lies: bool,
}

impl Source for Mortal<Api> {
    fn bot(&self) -> i64 {
        self.inner.bot()
    }
    async fn claim(&self) -> Result<(), Fail> {
        self.fate.around(self.inner.claim()).await
    }
    async fn updates(&self, offset: Option<i64>) -> Result<Vec<Box<RawValue>>, Fail> {
        self.fate.around(self.inner.updates(offset)).await
    }
}

impl Shelf for Mortal<Inbox> {
    async fn open(&self) -> io::Result<(Past, Vec<Stored>)> {
        self.fate.around(self.inner.open()).await
    }
    async fn store(&self, updates: Vec<Stored>) -> io::Result<()> {
        if self.lies {
            return self.fate.around(async { Ok(()) }).await;
        }
        self.fate.around(self.inner.store(updates)).await
    }
    async fn remember(&self, past: Past) -> io::Result<()> {
        self.fate.around(self.inner.remember(past)).await
    }
    async fn remove(&self, updates: Vec<(i64, i64)>) {
        self.fate.around(self.inner.remove(updates)).await;
    }
}

impl Apply for Mortal<Ledger> {
    async fn apply(&self, arrived: &Arrived) -> Result<(), Refused> {
        self.fate.around(self.inner.apply(arrived)).await
    }
    async fn gap(&self, from: i64, to: i64) -> Result<(), Refused> {
        self.fate.around(self.inner.gap(from, to)).await
    }
}

struct Life {
    fake: Fake,
    ledger: Ledger,
    octo: tempfile::TempDir,
}

impl Life {
    fn new() -> Life {
        Life { fake: Fake::start(), ledger: Ledger::default(), octo: tempfile::tempdir().unwrap() }
    }

    fn mortal(
        &self,
        octo: &Path,
        fate: &Arc<Fate>,
        lies: bool,
    ) -> Receiver<Mortal<Api>, Mortal<Inbox>, Mortal<Ledger>> {
        let whole = receiver(&self.fake, octo, &self.ledger);
        let fate = || Arc::clone(fate);
        Receiver {
            source: Mortal { inner: whole.source, fate: fate(), lies },
            shelf: Mortal { inner: whole.shelf, fate: fate(), lies },
            apply: Mortal { inner: whole.apply, fate: fate(), lies },
            pace: whole.pace,
            place: None,
            condition: whole.condition,
        }
    }

    /// Lives until so many boundaries are passed, or all is confirmed and in effect; tells whether it was killed.
    async fn live(&self, boundaries: usize, effects: usize, lies: bool) -> bool {
        let fate = Fate::after(boundaries);
        let receiver = self.mortal(self.octo.path(), &fate, lies);
        let finished = async {
            self.fake.all_confirmed().await;
            if !lies {
                self.ledger.until("all", |there| there.len() >= effects).await;
            }
        };
        tokio::select! {
            biased;
            () = fate.struck.notified() => true,
            () = receiver.run() => false,
            () = finished => false,
        }
    }
}

fn chat(n: usize) -> i64 {
    1000 + i64::try_from(n % 3).unwrap_or(0)
}

/// Every update in effect once, and in each chat in order.
fn assert_whole(ledger: &Ledger, texts: &[String], context: &str) {
    let effects = ledger.effects();
    for who in 0..3 {
        let of = |all: &[String]| -> Vec<String> {
            all.iter().filter(|t| t[1..].parse::<usize>().is_ok_and(|n| n % 3 == who)).cloned().collect()
        };
        assert_eq!(of(&effects), of(texts), "chat {who}, {context}");
    }
}

async fn die_everywhere(mischief: Mischief) -> usize {
    let mut boundary = 1;
    loop {
        let life = Life::new();
        life.fake.mischief(mischief);
        let texts: Vec<String> = (0..7).map(|n| format!("m{n}")).collect();
        for (n, text) in texts[..4].iter().enumerate() {
            life.fake.say(chat(n), text);
        }
        // The first life may end here or there; the second brings the rest.
        let mut killed = life.live(boundary, 4, false).await;
        let first = killed;
        for (n, text) in texts.iter().enumerate().skip(4) {
            life.fake.say(chat(n), text);
        }
        killed = life.live(usize::MAX, texts.len(), false).await;
        assert!(!killed);
        assert_whole(&life.ledger, &texts, &format!("killed at boundary {boundary}"));
        for n in 0..7 {
            let times = life.ledger.brought(&format!("tg:{BOT}:{}", 700_000_001 + n * (1 + mischief.gap)));
            assert!((1..=2).contains(&times), "one death brings an update twice at most, not {times} times");
        }
        if !first {
            return boundary;
        }
        boundary += 1;
    }
}

#[tokio::test]
async fn death_at_every_boundary_loses_nothing() {
    let boundaries = die_everywhere(Mischief::default()).await;
    assert!(boundaries > 15, "only {boundaries} boundaries were tried");
}

#[tokio::test]
async fn death_at_every_boundary_while_the_server_repeats_and_reorders() {
    let boundaries = die_everywhere(Mischief { repeat: 3, reversed: true, gap: 2 }).await;
    assert!(boundaries > 15, "only {boundaries} boundaries were tried");
}

#[tokio::test]
async fn many_deaths_in_a_row() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let life = Life::new();
    let texts: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
    let (mut said, mut deaths) = (0, 0);
    while said < texts.len() {
        let more = (usize::try_from(next(12)).unwrap() + 1).min(texts.len() - said);
        life.fake.mischief(Mischief {
            repeat: usize::try_from(next(4)).unwrap(),
            reversed: next(2) == 0,
            gap: next(2),
        });
        for (n, text) in texts.iter().enumerate().skip(said).take(more) {
            life.fake.say(chat(n), text);
        }
        said += more;
        while life.live(usize::try_from(next(45)).unwrap() + 1, said, false).await {
            deaths += 1;
        }
    }
    assert_whole(&life.ledger, &texts, "at the end");
    assert_eq!(life.ledger.effects().len(), texts.len());
    assert!(deaths > 30, "only {deaths} deaths");
}

#[tokio::test]
async fn the_tests_notice_an_update_that_is_confirmed_and_not_kept() {
    let life = Life::new();
    life.ledger.refuse(Some("m"));
    for n in 0..3 {
        life.fake.say(chat(n), &format!("m{n}"));
    }
    assert!(!life.live(usize::MAX, 0, true).await);
    life.ledger.refuse(None);
    life.fake.say(chat(0), "m3");
    life.live(usize::MAX, 1, false).await;
    assert_eq!(life.ledger.effects(), ["m3"], "a shelf that stores nothing loses what cannot be applied at once");
}
