//! Tells what is owed: reads it, has it sent, leaves receipts.
//!
//! ```text
//! owed ──> a page ──tell──> errands, in each chat's order ──> receipts
//!                     └───> held in the book, which is saved ──> receipts ... later one digest
//! ```
//!
//! A receipt says that somebody has the notice, or that nobody ever can. While no chat can be reached there is none: it
//! stays owed. A receipt that could not be saved is left again, and the notice is not told again for that.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use octo::client::Trouble;
use octo::command::{NoticeItem, Owed, Receipt, RefusedCode};
use octo::task::Delivery;

use super::calls::exactly;
use super::errand::Errand;
use super::hands::Hands;
use super::run::{Bridge, Fate, NAME, now};
use super::tell::{self, Load, Teller, Telling};
use super::wait::Backoff;

/// How long one look for what is owed is held open.
const OWED: Duration = Duration::from_secs(50);

/// How long it may stay unnoticed that a chat can be reached again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct Pump<'a> {
    bridge: &'a Bridge,
    /// Notices that were told and whose receipts could not be saved so far, by number.
    told: HashMap<u64, Delivery>,
    pauses: Backoff,
}

impl<'a> Pump<'a> {
    pub(super) fn new(bridge: &'a Bridge) -> Self {
        let pauses = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        Pump { bridge, told: HashMap::new(), pauses }
    }

    /// Tells for ever.
    pub(super) async fn run(mut self) {
        let mut news = self.bridge.news.subscribe();
        loop {
            let page = match self.bridge.client.owed(NAME, self.patience()).await {
                Ok(page) => page,
                Err(trouble) => {
                    if !matches!(&trouble, Trouble::Refused(r) if r.code == RefusedCode::Unavailable) {
                        tracing::warn!(?trouble, "what is owed cannot be read");
                    }
                    tokio::time::sleep(self.pauses.next()).await;
                    continue;
                }
            };
            news.borrow_and_update();
            let chats = self.bridge.chats();
            if chats.is_empty() && !self.bridge.users().is_empty() {
                // Nobody can be told now.
                if page.total > 0 || !self.bridge.book().held().0.is_empty() {
                    let _ = tokio::time::timeout(LOOK_AGAIN, news.changed()).await;
                }
                continue;
            }
            let nothing_more = page.total == 0;
            if self.page(&chats, page).await {
                self.pauses.reset();
            } else {
                tokio::time::sleep(self.pauses.next()).await;
            }
            if nothing_more {
                self.digest(&chats).await;
            }
        }
    }

    /// How long to wait for something to tell: not past the end of quiet hours while something is held.
    fn patience(&self) -> Duration {
        if self.bridge.book().held().0.is_empty() {
            return OWED;
        }
        let until = self.teller(&[]).quiet_until();
        let left = until.map_or(0, |at| (at - now()).max(0));
        // A second later: the hours are over then by every clock.
        OWED.min(Duration::from_millis(left.unsigned_abs()) + Duration::from_secs(1))
    }

    fn teller<'b>(&'b self, chats: &'b [i64]) -> Teller<'b> {
        let Hands { seal, mask, rules, .. } = &self.bridge.hands;
        Teller { chats, seal, mask, tz: &rules.tz, quiet: self.bridge.quiet, now: now() }
    }

    /// Tells what is new on a page and leaves receipts; true when all of them were saved.
    async fn page(&mut self, chats: &[i64], page: Owed) -> bool {
        let load = Load::of(&page);
        let owed: Vec<(octo::task::TaskId, u64)> =
            page.notices.iter().map(|item| (item.task.id, item.notice.seq)).collect();
        let new = page.notices.into_iter().filter(|item| !self.told.contains_key(&item.notice.seq)).collect();
        let told = self.tell(chats, load, new).await;
        self.told.extend(told);
        self.bridge.keep().await;
        let receipt = |&(task, seq): &(_, u64)| self.told.get(&seq).map(|d| Receipt { task, seq, delivery: *d });
        let receipts: Vec<Receipt> = owed.iter().filter_map(receipt).collect();
        if receipts.is_empty() {
            return owed.is_empty();
        }
        match self.bridge.client.receipts(NAME, receipts).await {
            Ok(()) => {
                self.told.retain(|told, _| !owed.iter().any(|(_, seq)| seq == told));
                true
            }
            Err(refused) => {
                tracing::warn!(%refused, "receipts could not be left");
                false
            }
        }
    }

    /// Tells notices. Those of one task wait for each other. Returns what became of those that are dealt with.
    async fn tell(&self, chats: &[i64], load: Load, items: Vec<NoticeItem>) -> Vec<(u64, Delivery)> {
        let (mut under_way, mut tasks, mut told) = (FuturesUnordered::new(), HashSet::new(), Vec::new());
        for item in items {
            if !tasks.insert(item.task.id) {
                while let Some(done) = under_way.next().await {
                    told.extend(done);
                }
                tasks = HashSet::from([item.task.id]);
            }
            let telling = self.decide(chats, load, &item);
            under_way.push(async move {
                let delivery = if chats.is_empty() { Some(Delivery::Dropped) } else { self.carry_out(telling).await };
                delivery.map(|delivery| (item.notice.seq, delivery))
            });
        }
        while let Some(done) = under_way.next().await {
            told.extend(done);
        }
        told
    }

    fn decide(&self, chats: &[i64], load: Load, item: &NoticeItem) -> Telling {
        let mut book = self.bridge.book();
        let telling = self.teller(chats).tell(item, load, &book);
        if matches!(telling, Telling::Hold(_)) {
            book.hold(item.task.id, item.notice.seq, item.notice.kind);
        }
        telling
    }

    /// What the receipt says; `None`: the notice stays owed.
    async fn carry_out(&self, telling: Telling) -> Option<Delivery> {
        match telling {
            Telling::Now(errands) if errands.is_empty() => Some(Delivery::Sent),
            Telling::Now(errands) => {
                let fates = self.all(errands).await;
                match fates {
                    _ if fates.contains(&Fate::Done) => Some(Delivery::Sent),
                    _ if fates.contains(&Fate::Unreachable) => None,
                    _ => Some(Delivery::Dropped),
                }
            }
            Telling::Hold(errands) => {
                // The book answers for it from here on, so it must be on disk.
                let is_safe = self.bridge.keep().await;
                self.all(errands).await;
                is_safe.then_some(Delivery::Sent)
            }
        }
    }

    /// Each is put into its chat's lane now, so that their order is that of the notices.
    async fn all(&self, errands: Vec<Errand>) -> Vec<Fate> {
        join_all(errands.into_iter().map(|errand| self.bridge.run(errand))).await
    }

    /// Tells in one message what was held back.
    async fn digest(&self, chats: &[i64]) {
        if chats.is_empty() || self.bridge.book().held().0.is_empty() || self.teller(chats).quiet_until().is_some() {
            return;
        }
        let wanted = Teller::wanted(&self.bridge.book());
        let mut items = Vec::new();
        for (task, seq) in wanted {
            if let Ok(task) = self.bridge.client.get(&exactly(task)).await {
                items.extend(tell::item_of(task, seq));
            }
        }
        let errands = self.teller(chats).digest(&items, &self.bridge.book());
        if self.all(errands).await.contains(&Fate::Unreachable) && self.bridge.chats().is_empty() {
            return;
        }
        self.bridge.book().forget_held();
        self.bridge.keep().await;
    }
}
