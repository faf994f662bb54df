//! The durable `getUpdates` loop: no message is lost, and none is applied twice.
//!
//! ```text
//!            ┌──────────────────── a new batch is asked for ────────────────────┐
//!            ▼                                                                  │
//!   poll (confirms the last batch) ──> store in the inbox ──> apply ──> remember, remove
//! ```
//!
//! Telegram forgets an update when a poll comes with a higher offset, and that is sent only when the whole batch is
//! in the inbox or done. What is in the inbox is applied under a key of bot and number, and whatever
//! applies it makes that key count once. So a death at any point costs at most a repetition that changes nothing.
//!
//! An offset is used once and then dropped: Telegram remembers what was confirmed, and after a week without updates it
//! picks the next number at random, so that an old offset would confirm what nobody has read.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use octo::command::Refused;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use teloxide::payloads::DeleteWebhook;
use teloxide::requests::Payload;
use teloxide::types::{AllowedUpdate, Update};
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{Api, Fail};
use super::backlog::Backlog;
use super::condition::{Condition, Polling};
use super::inbox::Shelf;
use super::lock::{BotLock, Place};
use super::wait::Backoff;

/// An update that is to be applied.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    /// `tg:<bot>:<update id>`: the same for the same update, however often it comes.
    pub(crate) key: String,
    /// What it says.
    pub(crate) update: Update,
    /// All of it.
    pub(crate) raw: Value,
}

/// What is done with updates.
pub(crate) trait Apply {
    /// Applies an update, durably. It may be called again with the same key, also after it was done, and must then
    /// change nothing. An error means that it cannot be done at the moment; what will never be possible is to be
    /// told to the person, and is done.
    fn apply(&self, arrived: &Arrived) -> impl Future<Output = Result<(), Refused>> + Send;

    /// Tells the owner that messages which were sent between these moments (milliseconds since 1970) may be lost.
    fn gap(&self, from: i64, to: i64) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// Where updates come from.
pub(crate) trait Source {
    /// The bot's number.
    fn bot(&self) -> i64;
    /// Sees to it that updates are given to whoever asks. None is dropped.
    fn claim(&self) -> impl Future<Output = Result<(), Fail>> + Send;
    /// Waits for updates; with an offset all that are lower are confirmed.
    fn updates(&self, offset: Option<i64>) -> impl Future<Output = Result<Vec<Box<RawValue>>, Fail>> + Send;
}

/// Durations of the loop, and its clock.
#[derive(Clone)]
pub(crate) struct Pace {
    /// The first and the longest pause after an error of the network.
    pub(crate) network: (Duration, Duration),
    /// The same when somebody else polls.
    pub(crate) conflict: (Duration, Duration),
    /// The same when the token is refused.
    pub(crate) token: (Duration, Duration),
    /// The same when an update cannot be applied or stored.
    pub(crate) apply: (Duration, Duration),
    /// How often an update is tried before those after it go on.
    pub(crate) tries: u32,
    /// How long one try may take.
    pub(crate) limit: Duration,
    /// How often the lock is tried.
    pub(crate) lock: Duration,
    /// Milliseconds since 1970.
    pub(crate) now: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Default for Pace {
    fn default() -> Pace {
        let s = Duration::from_secs;
        Pace {
            network: (s(1), s(60)),
            conflict: (s(5), s(60)),
            token: (s(60), s(300)),
            apply: (s(1), s(60)),
            tries: 5,
            limit: s(30),
            lock: super::lock::EVERY,
            now: Arc::new(|| jiff::Timestamp::now().as_millisecond()),
        }
    }
}

/// An offset this old is not used any more: the numbers may have begun anew.
const OFFSET_LIFE: Duration = Duration::from_secs(3600);

/// A poll that brought nothing after less than this was not held.
const HELD: Duration = Duration::from_secs(1);

/// With so many updates that cannot be applied, more are left at Telegram.
const CROWD: usize = 1000;

/// Receives the updates of one bot.
pub(crate) struct Receiver<S, I, A> {
    pub(crate) source: S,
    pub(crate) shelf: I,
    pub(crate) apply: A,
    pub(crate) pace: Pace,
    /// The lock on the bot; `None`: nobody else can have it.
    pub(crate) place: Option<Place>,
    /// How it goes, for whoever wants to know.
    pub(crate) condition: watch::Sender<Condition>,
}

impl<S: Source + Sync, I: Shelf + Sync, A: Apply + Sync> Receiver<S, I, A> {
    /// Receives for ever. It may be dropped at any point.
    pub(crate) async fn run(&self) {
        let (past, stored) = self.opened().await;
        let mut backlog = Backlog::new(self, past, stored);
        loop {
            let lock = backlog.meanwhile(self.turn()).await;
            self.poll(&mut backlog, lock.as_ref()).await;
        }
    }

    /// Says how it goes.
    pub(crate) fn set(&self, polling: Polling) {
        self.condition.send_if_modified(|c| {
            let is_new = c.polling != polling;
            c.polling = polling;
            is_new
        });
    }

    async fn opened(&self) -> (super::inbox::Past, Vec<super::inbox::Stored>) {
        let mut pauses = backoff(self.pace.apply);
        loop {
            match self.shelf.open().await {
                Ok(there) => return there,
                Err(error) => self.set(Polling::Storage(error.to_string())),
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Waits for the right to poll.
    async fn turn(&self) -> Option<BotLock> {
        let place = self.place.as_ref()?;
        let told = |what: Result<super::lock::Holder, io::Error>| match what {
            Ok(holder) => self.set(Polling::Elsewhere(holder.workspace)),
            Err(error) => self.set(Polling::Storage(error.to_string())),
        };
        Some(place.wait(self.pace.lock, told).await)
    }

    /// Polls as long as the lock keeps others out.
    async fn poll(&self, backlog: &mut Backlog<'_, S, I, A>, lock: Option<&BotLock>) {
        let mut pauses = Pauses::new(&self.pace);
        let mut offset: Option<(i64, Instant)> = None;
        let mut claimed = false;
        while lock.is_none_or(BotLock::is_intact) {
            if backlog.len() >= CROWD {
                backlog.meanwhile(tokio::time::sleep(self.pace.apply.0)).await;
                continue;
            }
            let confirms = offset.filter(|(_, at)| at.elapsed() < OFFSET_LIFE).map(|(id, _)| id);
            let asked = async {
                if !claimed {
                    self.source.claim().await?;
                }
                let mut updates = pin!(self.source.updates(confirms));
                match tokio::time::timeout(HELD, &mut updates).await {
                    Ok(batch) => batch,
                    Err(_) => {
                        // Who is kept waiting was let in: nobody need wait for the first message to know that.
                        self.set(Polling::Well);
                        updates.await
                    }
                }
            };
            let since = Instant::now();
            let batch = match backlog.meanwhile(asked).await {
                Ok(batch) => batch,
                Err(fail) => {
                    // Whatever the reason: a webhook may have been set meanwhile.
                    claimed = false;
                    let pause = pauses.after(&fail);
                    self.set(Polling::from(fail));
                    backlog.meanwhile(tokio::time::sleep(pause)).await;
                    continue;
                }
            };
            claimed = true;
            offset = None;
            pauses.reset();
            backlog.contact().await;
            backlog.forget_gap();
            // A server that does not hold polls would be asked without a pause.
            let is_held = batch.is_empty() && since.elapsed() >= HELD;
            match backlog.take(batch).await {
                Ok(taken) => {
                    self.set(Polling::Well);
                    pauses.storage.reset();
                    offset = taken.next.map(|id| (id, Instant::now()));
                    // What came before a death of the daemon is known already, and is confirmed at once.
                    let confirms_more = taken.next.is_some_and(|next| confirms.is_none_or(|before| next > before));
                    if is_held || taken.new > 0 || confirms_more {
                        pauses.odd.reset();
                    } else {
                        // Nothing, or only what came before or has no number and so cannot be confirmed.
                        backlog.meanwhile(tokio::time::sleep(pauses.odd.next())).await;
                    }
                }
                Err(error) => {
                    self.set(Polling::Storage(error.to_string()));
                    backlog.meanwhile(tokio::time::sleep(pauses.storage.next())).await;
                }
            }
        }
    }
}

fn backoff((first, longest): (Duration, Duration)) -> Backoff {
    Backoff::new(first, longest)
}

/// A growing pause for each kind of trouble.
struct Pauses {
    network: Backoff,
    conflict: Backoff,
    token: Backoff,
    storage: Backoff,
    odd: Backoff,
}

impl Pauses {
    fn new(pace: &Pace) -> Pauses {
        Pauses {
            network: backoff(pace.network),
            conflict: backoff(pace.conflict),
            token: backoff(pace.token),
            storage: backoff(pace.apply),
            odd: backoff(pace.network),
        }
    }

    fn after(&mut self, fail: &Fail) -> Duration {
        match fail {
            Fail::TooMany(wait) => *wait,
            Fail::Conflict(_) => self.conflict.next(),
            Fail::Token(_) => self.token.next(),
            Fail::Passing(_) | Fail::Moved(_) | Fail::Refused(..) => self.network.next(),
        }
    }

    fn reset(&mut self) {
        self.network.reset();
        self.conflict.reset();
        self.token.reset();
    }
}

/// How long Telegram holds a poll when there is nothing, in seconds, and how long the whole call may then take.
const POLL: u32 = 50;
const POLL_LIMIT: Duration = Duration::from_secs(65);

/// How long any other call may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// What is asked for: an edited message is no answer, and nothing else is meant for a bot like this.
const KINDS: [AllowedUpdate; 3] = [AllowedUpdate::Message, AllowedUpdate::CallbackQuery, AllowedUpdate::MyChatMember];

/// The request for updates. Not teloxide's: the numbers may be larger than its offset.
#[derive(Debug, Serialize)]
struct GetUpdates {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    limit: u8,
    timeout: u32,
    allowed_updates: [AllowedUpdate; 3],
}

impl Payload for GetUpdates {
    type Output = Vec<Box<RawValue>>;
    const NAME: &'static str = "GetUpdates";
}

impl Source for Api {
    fn bot(&self) -> i64 {
        self.id()
    }

    async fn claim(&self) -> Result<(), Fail> {
        self.call(&DeleteWebhook::new(), CALL_LIMIT).await.map(drop)
    }

    async fn updates(&self, offset: Option<i64>) -> Result<Vec<Box<RawValue>>, Fail> {
        let result =
            self.call(&GetUpdates { offset, limit: 100, timeout: POLL, allowed_updates: KINDS }, POLL_LIMIT).await?;
        serde_json::from_str(result.get()).map_err(|_| Fail::Passing("updates that are no list".to_owned()))
    }
}

/// The number of an update, also of one that makes no other sense.
pub(crate) fn number(update: &RawValue) -> Option<i64> {
    #[derive(Deserialize)]
    struct Numbered {
        update_id: i64,
    }
    serde_json::from_str::<Numbered>(update.get()).ok().map(|n| n.update_id)
}
