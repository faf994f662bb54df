//! What the tests share: fast paces, a ledger that updates are applied to, and receivers that can be killed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use octo::command::{Refused, RefusedCode};
use octo::config::Secret;
use tokio::sync::watch;

use crate::bridge::api::Api;
use crate::bridge::condition::Condition;
use crate::bridge::inbox::Inbox;
use crate::bridge::receive::{Apply, Arrived, Pace, Receiver};
use crate::fake::{BOT, Fake, TOKEN};

/// A fixed moment: 2026-11-21 12:00 UTC.
pub(crate) const NOON: i64 = 1_795_262_400_000;

pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) fn api(fake: &Fake) -> Api {
    Api::new(&Secret::new(TOKEN), &fake.url()).unwrap_or_else(|e| panic!("{e}"))
}

/// What stands for the daemon's core: it takes each key once, and outlives every receiver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Books>);

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// How often each key was brought.
    pub(crate) brought: Mutex<HashMap<String, u32>>,
    /// The texts and the data that took effect, in order.
    pub(crate) effects: Mutex<Vec<String>>,
    /// Moments that the owner was told of.
    pub(crate) gaps: Mutex<Vec<(i64, i64)>>,
    /// So many tellings of a gap are refused first.
    pub(crate) deaf: AtomicU32,
    /// Whatever holds this text is refused.
    pub(crate) refuses: Mutex<Option<String>>,
    /// It panics instead.
    pub(crate) panics: AtomicBool,
    pub(crate) changed: watch::Sender<()>,
}

impl std::ops::Deref for Ledger {
    type Target = Books;
    fn deref(&self) -> &Books {
        &self.0
    }
}

fn refused() -> Refused {
    Refused::new(RefusedCode::Storage, "the store is degraded")
}

impl Ledger {
    pub(crate) fn effects(&self) -> Vec<String> {
        self.effects.lock().map(|e| e.clone()).unwrap_or_default()
    }

    pub(crate) fn brought(&self, key: &str) -> u32 {
        self.brought.lock().ok().and_then(|b| b.get(key).copied()).unwrap_or(0)
    }

    pub(crate) fn refuse(&self, what: Option<&str>) {
        if let Ok(mut refuses) = self.refuses.lock() {
            *refuses = what.map(str::to_owned);
        }
    }

    /// Waits until the effects are as they should be.
    pub(crate) async fn until(&self, what: &str, mut wanted: impl FnMut(&[String]) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if wanted(&self.effects()) {
                    return;
                }
                let _ = changed.changed().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), wait).await.is_err() {
            panic!("never came: {what}; effects: {:#?}", self.effects());
        }
    }

    pub(crate) async fn has(&self, texts: &[&str]) {
        self.until(&format!("{texts:?}"), |effects| texts.iter().all(|t| effects.iter().any(|e| e == t))).await;
    }
}

impl Apply for Ledger {
    async fn apply(&self, arrived: &Arrived) -> Result<(), Refused> {
        let raw = &arrived.raw;
        let text = raw["message"]["text"].as_str().or_else(|| raw["callback_query"]["data"].as_str());
        let text = text.unwrap_or("?").to_owned();
        let first = {
            let mut brought = self.brought.lock().map_err(|_| refused())?;
            let times = brought.entry(arrived.key.clone()).or_default();
            *times += 1;
            *times == 1
        };
        self.changed.send_replace(());
        if self.refuses.lock().is_ok_and(|r| r.as_ref().is_some_and(|r| text.contains(r.as_str()))) {
            // A refusal leaves no trace of the key.
            if let Ok(mut brought) = self.brought.lock() {
                brought.insert(arrived.key.clone(), 0);
            }
            assert!(!self.panics.load(Ordering::Relaxed), "a defect, on purpose");
            return Err(refused());
        }
        if first {
            self.effects.lock().map_err(|_| refused())?.push(text);
        }
        self.changed.send_replace(());
        Ok(())
    }

    async fn gap(&self, from: i64, to: i64) -> Result<(), Refused> {
        if self.deaf.load(Ordering::Relaxed) > 0 {
            self.deaf.fetch_sub(1, Ordering::Relaxed);
            return Err(refused());
        }
        self.gaps.lock().map_err(|_| refused())?.push((from, to));
        self.changed.send_replace(());
        Ok(())
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Clone)]
pub(crate) struct Clock(pub(crate) Arc<AtomicI64>);

impl Clock {
    pub(crate) fn noon() -> Clock {
        Clock(Arc::new(AtomicI64::new(NOON)))
    }

    pub(crate) fn set(&self, at: i64) {
        self.0.store(at, Ordering::Relaxed);
    }
}

/// The loop's durations, a hundred times shorter.
pub(crate) fn pace(clock: &Clock) -> Pace {
    let ms = Duration::from_millis;
    let clock = Arc::clone(&clock.0);
    Pace {
        network: (ms(5), ms(20)),
        conflict: (ms(5), ms(20)),
        token: (ms(5), ms(20)),
        apply: (ms(5), ms(20)),
        tries: 3,
        limit: Duration::from_secs(5),
        lock: ms(10),
        now: Arc::new(move || clock.load(Ordering::Relaxed)),
    }
}

/// A receiver for the fake's bot in a folder.
pub(crate) fn receiver(fake: &Fake, octo: &Path, ledger: &Ledger) -> Receiver<Api, Inbox, Ledger> {
    Receiver {
        source: api(fake),
        shelf: Inbox::new(octo, BOT),
        apply: ledger.clone(),
        pace: pace(&Clock::noon()),
        place: None,
        condition: watch::Sender::new(Condition::default()),
    }
}

/// A task that ends when this is dropped, wherever it is.
pub(crate) struct Alive(tokio::task::JoinHandle<()>);

impl Alive {
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static) -> Alive {
        Alive(tokio::spawn(work))
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a receiver; returns it with a look at its condition.
pub(crate) fn start<S, I, A>(receiver: Receiver<S, I, A>) -> (Alive, watch::Receiver<Condition>)
where
    S: crate::bridge::receive::Source + Send + Sync + 'static,
    I: crate::bridge::inbox::Shelf + Send + Sync + 'static,
    A: Apply + Send + Sync + 'static,
{
    let condition = receiver.condition.subscribe();
    (Alive::new(async move { receiver.run().await }), condition)
}

/// Waits until the condition is such.
pub(crate) async fn until(
    condition: &mut watch::Receiver<Condition>,
    what: &str,
    wanted: impl FnMut(&Condition) -> bool,
) -> Condition {
    let waited = tokio::time::timeout(Duration::from_secs(60), condition.wait_for(wanted)).await;
    let found = waited.ok().and_then(Result::ok).map(|there| there.clone());
    found.unwrap_or_else(|| panic!("never came: {what}; it is {:?}", condition.borrow()))
}
