//! What came from Telegram and is not done with: one file an update, and a memory of what was done.
//!
//! ```text
//! getUpdates ──> .octo/bots/telegram-inbox/<bot>-<id>.json ──> applied ──> .octo/bots/telegram-<bot>.json ──> removed
//!                stored: Telegram may forget it                            done: it may come again
//! ```
//!
//! An update may be in both places after a crash; the memory counts. In neither it is at Telegram still, or done more
//! than [`REMEMBERED`] ago.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::file::{self, Loaded};

/// How long an update that was done is remembered, in milliseconds. Telegram keeps updates for a day. It begins its
/// numbers anew after a week without updates, so that an older memory could take a new update for an old one.
pub(crate) const REMEMBERED: i64 = 6 * 24 * 60 * 60 * 1000;

/// Runs of numbers that were begun within this time share their moment, in milliseconds.
const SAME_MOMENT: i64 = 60 * 60 * 1000;

/// How many runs of numbers are remembered at most.
const RUNS: usize = 5000;

/// An update as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The bot that it came to.
    pub(crate) bot: i64,
    /// Its number.
    pub(crate) id: i64,
    /// When it came, in milliseconds since 1970.
    pub(crate) at: i64,
    /// All of it, byte for byte.
    pub(crate) update: Box<RawValue>,
}

/// Numbers in a row that were done at about one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    from: i64,
    to: i64,
    at: i64,
}

/// What is known of a bot's past.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Past {
    /// When its updates were asked for last with success, in milliseconds since 1970; 0: never.
    pub(crate) contact: i64,
    done: Vec<Run>,
}

impl Past {
    /// Tells whether an update was done.
    pub(crate) fn has(&self, id: i64) -> bool {
        self.done.iter().rev().any(|run| (run.from..=run.to).contains(&id))
    }

    /// Remembers an update as done.
    pub(crate) fn add(&mut self, id: i64, now: i64) {
        if self.has(id) {
            return;
        }
        let next = self.done.iter_mut().rev().find(|run| run.to.checked_add(1) == Some(id));
        match next.filter(|run| (0..SAME_MOMENT).contains(&(now - run.at))) {
            Some(run) => run.to = id,
            None => self.done.push(Run { from: id, to: id, at: now }),
        }
    }

    /// Forgets what is older than [`REMEMBERED`], and what is beyond all measure.
    pub(crate) fn forget(&mut self, now: i64) {
        // A run that began an hour later than it says is kept as long as if it had not.
        self.done.retain(|run| now - run.at < REMEMBERED);
        let surplus = self.done.len().saturating_sub(RUNS);
        self.done.drain(..surplus);
    }
}

/// Where updates are kept. Its calls may be dropped half-way: they then end by themselves.
pub(crate) trait Shelf {
    /// What is there from before: the past, and the updates that are stored and not done, in the order of arrival.
    fn open(&self) -> impl Future<Output = io::Result<(Past, Vec<Stored>)>> + Send;
    /// Stores updates; they are durable when this returns.
    fn store(&self, updates: Vec<Stored>) -> impl Future<Output = io::Result<()>> + Send;
    /// Saves the past; it is durable when this returns.
    fn remember(&self, past: Past) -> impl Future<Output = io::Result<()>> + Send;
    /// Takes away updates that the durable past holds.
    fn remove(&self, updates: Vec<(i64, i64)>) -> impl Future<Output = ()> + Send;
}

/// The shelf on disk.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    bot: i64,
    bots: PathBuf,
    folder: PathBuf,
    quarantine: PathBuf,
}

impl Inbox {
    /// The inbox of one bot in `.octo/`, which must be there.
    pub(crate) fn new(octo: &Path, bot: i64) -> Inbox {
        let bots = octo.join("bots");
        Inbox { bot, folder: bots.join("telegram-inbox"), bots, quarantine: octo.join("quarantine") }
    }

    fn past(&self) -> PathBuf {
        self.bots.join(format!("telegram-{}.json", self.bot))
    }

    fn file(&self, bot: i64, id: i64) -> PathBuf {
        self.folder.join(format!("{bot}-{id}.json"))
    }

    fn open_now(&self) -> io::Result<(Past, Vec<Stored>)> {
        file::folder(&self.bots)?;
        file::folder(&self.folder)?;
        file::tidy(&self.folder)?;
        let past = match file::load::<Past>(&self.past(), &self.quarantine)? {
            Loaded::Whole(past) => past,
            Loaded::Missing => Past::default(),
            Loaded::Damaged { why, kept } => {
                tracing::warn!(%why, kept = %kept.display(), "what Telegram's updates were done is not known");
                Past::default()
            }
        };
        let mut stored = Vec::new();
        let mut removed = false;
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some((bot, id)) = numbers(&path) else { continue };
            if bot == self.bot && past.has(id) {
                removed |= std::fs::remove_file(&path).is_ok();
                continue;
            }
            match file::load::<Stored>(&path, &self.quarantine) {
                Ok(Loaded::Whole(update)) if (update.bot, update.id) == (bot, id) => stored.push(update),
                Ok(Loaded::Whole(_)) => tracing::warn!(file = %path.display(), "not what its name says; left alone"),
                Ok(Loaded::Damaged { why, kept }) => {
                    tracing::warn!(%why, kept = %kept.display(), "a message from Telegram was damaged on disk");
                }
                Ok(Loaded::Missing) => {}
                Err(error) => tracing::warn!(%error, file = %path.display(), "a message from Telegram cannot be read"),
            }
        }
        if removed {
            // What is forgotten one day must not be able to come back.
            file::sync_folder(&self.folder)?;
        }
        stored.sort_by_key(|s| (s.at, s.id));
        Ok((past, stored))
    }

    fn store_now(&self, updates: Vec<Stored>) -> io::Result<()> {
        let files: Vec<_> = updates.into_iter().map(|u| (self.file(u.bot, u.id), u)).collect();
        file::save_all(&files)
    }

    fn remove_now(&self, updates: &[(i64, i64)]) {
        for (bot, id) in updates {
            // One that stays is known as done and removed at the next start.
            let _ = std::fs::remove_file(self.file(*bot, *id));
        }
    }
}

/// The bot and the number in a file's name.
fn numbers(path: &Path) -> Option<(i64, i64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    let (bot, id) = name.split_once('-')?;
    Some((bot.parse().ok()?, id.parse().ok()?))
}

/// Disks are slow at times, and the daemon's event loop has one thread.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

impl Shelf for Inbox {
    async fn open(&self) -> io::Result<(Past, Vec<Stored>)> {
        let inbox = self.clone();
        aside(move || inbox.open_now()).await
    }

    async fn store(&self, updates: Vec<Stored>) -> io::Result<()> {
        let inbox = self.clone();
        aside(move || inbox.store_now(updates)).await
    }

    async fn remember(&self, past: Past) -> io::Result<()> {
        let path = self.past();
        aside(move || file::save(&path, &past)).await
    }

    async fn remove(&self, updates: Vec<(i64, i64)>) {
        let inbox = self.clone();
        let done = aside(move || {
            inbox.remove_now(&updates);
            Ok(())
        });
        let _ = done.await;
    }
}
