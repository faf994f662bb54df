//! What lies between receiving and done: updates that were received and wait to be applied, and the past.

use std::collections::HashSet;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::FutureExt as _;
use octo::command::{Refused, RefusedCode};
use serde_json::Value;
use serde_json::value::RawValue;
use teloxide::types::{Update, UpdateKind};
use tokio::time::Instant;

use super::inbox::{Past, Shelf, Stored};
use super::receive::{Apply, Arrived, Receiver, Source, number};
use super::wait::Backoff;

/// Telegram keeps what nobody asks for as long as this, in milliseconds.
const KEPT: i64 = 24 * 60 * 60 * 1000;

/// How old the saved moment of the last contact may become, in milliseconds: an idle daemon writes seldom.
const CONTACT_AGE: i64 = 10 * 60 * 1000;

/// An update on its way.
struct Waiting {
    stored: Stored,
    /// The chat whose order it keeps.
    chat: Option<i64>,
    /// Whether it is in the inbox.
    kept: bool,
    done: bool,
    tries: u32,
    due: Instant,
    pauses: Backoff,
}

/// What a batch was.
pub(crate) struct Taken {
    /// The offset that confirms it; `None`: nothing in it has a number.
    pub(crate) next: Option<i64>,
    /// How many updates of it had not come before.
    pub(crate) new: usize,
}

/// Whatever was received and is not done.
pub(crate) struct Backlog<'a, S, I, A> {
    receiver: &'a Receiver<S, I, A>,
    past: Past,
    saved_contact: i64,
    waiting: Vec<Waiting>,
}

impl<'a, S: Source + Sync, I: Shelf + Sync, A: Apply + Sync> Backlog<'a, S, I, A> {
    /// Begins with what was there from before.
    pub(crate) fn new(receiver: &'a Receiver<S, I, A>, past: Past, stored: Vec<Stored>) -> Self {
        let saved_contact = past.contact;
        let mut backlog = Backlog { receiver, past, saved_contact, waiting: Vec::new() };
        backlog.waiting = stored.into_iter().map(|stored| backlog.fresh(stored, true)).collect();
        backlog
    }

    /// How many updates are not done.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn fresh(&self, stored: Stored, kept: bool) -> Waiting {
        let (first, longest) = self.receiver.pace.apply;
        let chat = chat(&stored.update);
        let pauses = Backoff::new(first, longest);
        Waiting { stored, chat, kept, done: false, tries: 0, due: Instant::now(), pauses }
    }

    fn now(&self) -> i64 {
        (self.receiver.pace.now)()
    }

    /// Waits for something else and applies what falls due meanwhile.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let due = self.due();
            let falls_due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut work => return done,
                () = falls_due => self.round().await,
            }
        }
    }

    /// The updates that may be applied now or later, in order: of each chat those up to the first that holds up the
    /// rest of it.
    fn open(&self) -> Vec<usize> {
        let mut held = HashSet::new();
        let mut open = Vec::new();
        for (n, waiting) in self.waiting.iter().enumerate() {
            if waiting.done {
                open.push(n);
            } else if !held.contains(&waiting.chat) {
                open.push(n);
                if waiting.tries < self.receiver.pace.tries {
                    held.insert(waiting.chat);
                }
            }
        }
        open
    }

    fn due(&self) -> Option<Instant> {
        self.open().into_iter().map(|n| self.waiting[n].due).min()
    }

    /// Takes a batch: it may be confirmed when this returns.
    ///
    /// # Errors
    /// When it can neither be stored nor applied; it must then not be confirmed.
    pub(crate) async fn take(&mut self, batch: Vec<Box<RawValue>>) -> io::Result<Taken> {
        let (bot, at) = (self.receiver.source.bot(), self.now());
        let mut batch: Vec<(i64, Box<RawValue>)> = batch
            .into_iter()
            .filter_map(|update| {
                let id = number(&update);
                if id.is_none() {
                    tracing::warn!("something came from Telegram that is no update");
                }
                Some((id?, update))
            })
            .collect();
        batch.sort_by_key(|(id, _)| *id);
        batch.dedup_by_key(|(id, _)| *id);
        let ids: Vec<i64> = batch.iter().map(|(id, _)| *id).collect();
        let mut new = 0;
        for (id, update) in batch {
            if self.past.has(id) || self.find(id).is_some() {
                continue;
            }
            new += 1;
            let fresh = self.fresh(Stored { bot, id, at, update }, false);
            self.waiting.push(fresh);
        }
        let stored = self.store().await;
        self.round().await;
        let safe = |id: i64| self.past.has(id) || self.find(id).is_some_and(|w| w.kept || w.done);
        if !ids.iter().all(|id| safe(*id)) {
            stored?;
        }
        Ok(Taken { next: ids.last().map(|id| id.saturating_add(1)), new })
    }

    fn find(&self, id: i64) -> Option<&Waiting> {
        let bot = self.receiver.source.bot();
        self.waiting.iter().find(|w| w.stored.id == id && w.stored.bot == bot)
    }

    async fn store(&mut self) -> io::Result<()> {
        let loose = |w: &&mut Waiting| !w.kept && !w.done;
        let updates: Vec<Stored> = self.waiting.iter_mut().filter(loose).map(|w| w.stored.clone()).collect();
        if updates.is_empty() {
            return Ok(());
        }
        self.receiver.shelf.store(updates).await?;
        self.waiting.iter_mut().filter(loose).for_each(|w| w.kept = true);
        Ok(())
    }

    /// Applies what is due, once each, and remembers what is done.
    async fn round(&mut self) {
        let mut applied = HashSet::new();
        // A done one lets the next of its chat go on, so that what is open is looked at anew after each.
        while let Some(n) = self.open().into_iter().find(|n| {
            let w = &self.waiting[*n];
            !w.done && w.due <= Instant::now() && !applied.contains(&(w.stored.bot, w.stored.id))
        }) {
            let stored = &self.waiting[n].stored;
            applied.insert((stored.bot, stored.id));
            let result = self.apply(stored).await;
            let waiting = &mut self.waiting[n];
            match result {
                Ok(()) => waiting.done = true,
                Err(refused) => {
                    waiting.tries = waiting.tries.saturating_add(1);
                    waiting.due = Instant::now() + waiting.pauses.next();
                    tracing::warn!(update = waiting.stored.id, %refused, "a message from Telegram waits");
                }
            }
        }
        self.clear().await;
        let undone = self.waiting.iter().filter(|w| !w.done && w.tries > 0).count();
        self.receiver.condition.send_if_modified(|c| std::mem::replace(&mut c.waiting, undone) != undone);
    }

    /// Remembers what is done, then takes it away.
    async fn clear(&mut self) {
        let now = self.now();
        let bot = self.receiver.source.bot();
        let done: Vec<(i64, i64)> =
            self.waiting.iter().filter(|w| w.done).map(|w| (w.stored.bot, w.stored.id)).collect();
        if done.is_empty() {
            return;
        }
        for (_, id) in done.iter().filter(|(b, _)| *b == bot) {
            self.past.add(*id, now);
        }
        if let Err(error) = self.remember().await {
            tracing::warn!(%error, "what was done with messages from Telegram cannot be saved");
            for waiting in self.waiting.iter_mut().filter(|w| w.done) {
                waiting.due = Instant::now() + waiting.pauses.next();
            }
            return;
        }
        self.receiver.shelf.remove(done).await;
        self.waiting.retain(|w| !w.done);
    }

    async fn remember(&mut self) -> io::Result<()> {
        self.past.forget(self.now());
        self.receiver.shelf.remember(self.past.clone()).await?;
        self.saved_contact = self.past.contact;
        Ok(())
    }

    /// Applies one update. Whatever goes wrong in there ends here.
    async fn apply(&self, stored: &Stored) -> Result<(), Refused> {
        let raw = stored.update.get();
        let Some((update, value)) = understood(raw) else {
            tracing::warn!(update = stored.id, "an update that makes no sense was left out");
            return Ok(());
        };
        let key = format!("tg:{}:{}", stored.bot, stored.id);
        let arrived = Arrived { key, at: stored.at, update, raw: value };
        let applying = AssertUnwindSafe(self.receiver.apply.apply(&arrived)).catch_unwind();
        self.limited(async {
            applying.await.unwrap_or_else(|_| Err(Refused::new(RefusedCode::Internal, "a defect in Octo")))
        })
        .await
    }

    async fn limited(&self, work: impl Future<Output = Result<(), Refused>>) -> Result<(), Refused> {
        let late = |_| Err(Refused::new(RefusedCode::Unavailable, "it took too long"));
        tokio::time::timeout(self.receiver.pace.limit, work).await.unwrap_or_else(late)
    }

    /// Telegram answered: tells the owner when that had not been so for longer than Telegram keeps messages.
    pub(crate) async fn contact(&mut self) {
        let now = self.now();
        let last = self.past.contact;
        if last > 0 && now - last > KEPT {
            let (from, to) = (last, now - KEPT);
            if let Err(refused) = self.limited(self.receiver.apply.gap(from, to)).await {
                // The old moment stays, so that it is tried again after the next poll.
                tracing::warn!(%refused, "the owner could not be told of messages that may be lost");
                return;
            }
            self.receiver.condition.send_modify(|c| c.gap = Some((from, to)));
        }
        self.past.contact = now;
        if (now - self.saved_contact).abs() > CONTACT_AGE
            && let Err(error) = self.remember().await
        {
            tracing::warn!(%error, "when Telegram was reached cannot be saved");
        }
    }

    /// A day after a gap everybody has seen it.
    pub(crate) fn forget_gap(&self) {
        let now = self.now();
        let is_old = |gap: Option<(i64, i64)>| gap.is_some_and(|(_, to)| now - to > 2 * KEPT);
        self.receiver.condition.send_if_modified(|c| {
            let old = is_old(c.gap);
            if old {
                c.gap = None;
            }
            old
        });
    }
}

/// An update, if teloxide knows what it is.
fn understood(raw: &str) -> Option<(Update, Value)> {
    let update: Update = serde_json::from_str(raw).ok()?;
    let value = serde_json::from_str(raw).ok()?;
    (!matches!(update.kind, UpdateKind::Error(_))).then_some((update, value))
}

/// The chat of an update; those without one are in one order of their own.
fn chat(update: &RawValue) -> Option<i64> {
    let value: Value = serde_json::from_str(update.get()).ok()?;
    let inner = value.as_object()?.iter().find(|(name, _)| *name != "update_id")?.1;
    inner["chat"]["id"].as_i64().or_else(|| inner["from"]["id"].as_i64())
}
