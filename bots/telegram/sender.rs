//! Sends what the bridge wants to say: each chat in order and at its pace, and again until it is certain.
//!
//! ```text
//! post ──> a lane for each chat ──┐ one after the other, a message a second
//!   `────> taps, at once ─────────┴──> 30 calls a second in all ──> Bot API
//! ```
//!
//! A message whose sending was not confirmed is sent again, since Telegram knows no key for it: it may then be seen
//! twice, and is never lost. Whatever may pass by itself is tried for ever; the caller sees only what is certain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use teloxide::payloads::SetMyCommands;
use teloxide::types::BotCommand;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::api::{Api, Fail};
use super::post::{Post, Posted, Why};
use super::request::{self, Form, Limits, Verdict};
use super::wait::{Backoff, Bucket};

/// How fast, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// The time between two posts to one chat, and how many may go at once.
    pub(crate) chat: (Duration, u32),
    /// The same for all calls together.
    pub(crate) all: (Duration, u32),
    /// The first and the longest pause after a failure.
    pub(crate) again: (Duration, Duration),
    /// How long one call may take.
    pub(crate) limits: Limits,
}

impl Default for Pace {
    fn default() -> Pace {
        let s = Duration::from_secs;
        Pace {
            chat: (s(1), 4),
            all: (Duration::from_millis(35), 5),
            again: (s(1), s(60)),
            limits: Limits { call: s(20), upload: s(90) },
        }
    }
}

struct Job {
    post: Post,
    reply: oneshot::Sender<Posted>,
}

/// Why a post was given up: the daemon leaves.
struct Leaving;

struct Shared {
    api: Api,
    pace: Pace,
    all: Mutex<Bucket>,
    trouble: watch::Sender<Option<String>>,
    leaving: watch::Sender<bool>,
}

#[derive(Default)]
struct Running {
    lanes: HashMap<i64, mpsc::UnboundedSender<Job>>,
    tasks: JoinSet<()>,
}

/// Sends posts. All ends when it is dropped; [`Sender::close`] lets what is on the wire come to its end.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// A sender for a bot. It needs a running event loop.
    pub(crate) fn new(api: Api, pace: Pace) -> Sender {
        let all = Mutex::new(Bucket::new(pace.all.0, pace.all.1));
        let (trouble, leaving) = (watch::Sender::new(None), watch::Sender::new(false));
        Sender { shared: Arc::new(Shared { api, pace, all, trouble, leaving }), running: Mutex::default() }
    }

    /// Posts and says what became of it. Posts to one chat are sent in the order of these calls, not of the waiting
    /// for them. A post whose future is dropped is not begun; one that is on the wire goes on.
    ///
    /// The future never ends when the sender is closed before the post is certain.
    pub(crate) fn post(&self, post: Post) -> impl Future<Output = Posted> + Send + use<> {
        let (reply, became) = oneshot::channel();
        self.enqueue(Job { post, reply });
        async move {
            match became.await {
                Ok(posted) => posted,
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn enqueue(&self, job: Job) {
        let mut running = held(&self.running);
        while running.tasks.try_join_next().is_some() {}
        if *self.shared.leaving.borrow() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let Some(chat) = chat(&job.post) else {
            // A tap's answer must not wait behind messages: it counts for seconds only.
            running.tasks.spawn(async move { shared.carry(job, None).await.unwrap_or(()) });
            return;
        };
        let Running { lanes, tasks } = &mut *running;
        // A lane ends early only by a defect; the chat then gets a new one.
        lanes.retain(|_, lane| !lane.is_closed());
        let lane = lanes.entry(chat).or_insert_with(|| {
            // Unbounded: whoever posts waits for what became of it, or keeps the post elsewhere.
            let (lane, jobs) = mpsc::unbounded_channel();
            tasks.spawn(shared.lane(jobs));
            lane
        });
        let _ = lane.send(job);
    }

    /// Registers the commands that Telegram shows as a menu: names and what they do.
    ///
    /// # Errors
    /// Telegram's words when it does not take them.
    pub(crate) async fn register(&self, commands: &[(&str, &str)]) -> Result<(), String> {
        let commands = commands.iter().map(|(name, what)| BotCommand::new(*name, *what));
        let payload = SetMyCommands::new(commands);
        let mut pauses = Backoff::new(self.shared.pace.again.0, self.shared.pace.again.1);
        loop {
            let fail = match self.shared.api.call(&payload, self.shared.pace.limits.call).await {
                Ok(_) => return Ok(()),
                Err(Fail::Refused(_, why)) => return Err(why),
                Err(fail) => fail,
            };
            tokio::time::sleep(self.shared.pause(&fail, &mut pauses)).await;
        }
    }

    /// What keeps messages from being sent at the moment; `None`: nothing that is known.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.subscribe()
    }

    /// Begins nothing more, and lets calls that were begun end within `grace`.
    pub(crate) async fn close(&self, grace: Duration) {
        let mut tasks = {
            let mut running = held(&self.running);
            let _ = self.shared.leaving.send_replace(true);
            running.lanes.clear();
            std::mem::take(&mut running.tasks)
        };
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(grace, all).await;
    }
}

/// The chat whose order and pace a post keeps.
fn chat(post: &Post) -> Option<i64> {
    match post {
        Post::Message { chat, .. }
        | Post::Edit { chat, .. }
        | Post::Delete { chat, .. }
        | Post::Document { chat, .. } => Some(*chat),
        Post::Toast { .. } => None,
    }
}

impl Shared {
    async fn lane(self: Arc<Self>, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut pace = Bucket::new(self.pace.chat.0, self.pace.chat.1);
        while let Some(job) = jobs.recv().await {
            if self.carry(job, Some(&mut pace)).await.is_err() {
                return;
            }
        }
    }

    async fn carry(&self, job: Job, pace: Option<&mut Bucket>) -> Result<(), Leaving> {
        if job.reply.is_closed() {
            return Ok(());
        }
        let posted = self.deliver(&job.post, pace).await?;
        let _ = job.reply.send(posted);
        Ok(())
    }

    /// Asks until it is certain what became of it.
    async fn deliver(&self, post: &Post, mut pace: Option<&mut Bucket>) -> Result<Posted, Leaving> {
        let mut pauses = Backoff::new(self.pace.again.0, self.pace.again.1);
        let mut form = Form::Html;
        loop {
            if let Some(pace) = pace.as_deref_mut() {
                let turn = pace.take(Instant::now());
                self.wait(turn).await?;
            }
            let turn = held(&self.all).take(Instant::now());
            self.wait(turn).await?;
            let fail = match request::ask(&self.api, post, form, self.pace.limits).await {
                Ok(posted) => {
                    self.say(None);
                    return Ok(posted);
                }
                Err(Fail::Refused(code, text)) => {
                    self.say(None);
                    match request::judge(post, form, code, &text) {
                        Verdict::Final(posted) => return Ok(posted),
                        Verdict::Again(other) => form = other,
                    }
                    continue;
                }
                Err(Fail::Moved(chat)) => return Ok(Posted::Refused(Why::Moved(chat))),
                Err(fail) => fail,
            };
            let pause = self.pause(&fail, &mut pauses);
            self.wait(Instant::now() + pause).await?;
        }
    }

    /// How long to wait after a failure that may pass.
    fn pause(&self, fail: &Fail, pauses: &mut Backoff) -> Duration {
        match fail {
            // The chat is asked to be quieter; that is no trouble.
            Fail::TooMany(wait) => return *wait,
            Fail::Token(_) => {
                self.say(Some("Telegram refuses TELEGRAM_BOT_TOKEN; get a new one from BotFather".to_owned()));
                return self.pace.again.1;
            }
            Fail::Passing(why) | Fail::Conflict(why) | Fail::Refused(_, why) => {
                self.say(Some(format!("Telegram cannot be reached: {why}")));
            }
            Fail::Moved(_) => {}
        }
        pauses.next()
    }

    fn say(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|t| {
            let is_new = *t != trouble;
            *t = trouble;
            is_new
        });
    }

    /// Waits for a moment, or for the end.
    async fn wait(&self, until: Instant) -> Result<(), Leaving> {
        let mut leaving = self.leaving.subscribe();
        if *leaving.borrow_and_update() {
            return Err(Leaving);
        }
        if until <= Instant::now() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => Ok(()),
            _ = leaving.changed() => Err(Leaving),
        }
    }
}
