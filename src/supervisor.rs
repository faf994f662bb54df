//! The supervisor: ONE thread owns all state; everyone else holds a [`Handle`].
//!
//! ```text
//!   API handlers ──Ask/Query──►┐                         ┌──► store (group commit)
//!   sweeps, disk ──Input──────►│ driver thread: Engine ──┤
//!   shims ────epoll: Poke─────►┘   (core + store + exec) └──► executor (shims)
//!                                        │
//!                                        └── Ring ──► doorbell (broadcast): "look at task X again"
//! ```
//!
//! The driver is a plain thread, not a task: what it does (fsync, spawn, small reads) blocks by nature,
//! and while it saves, the next commands gather in its inbox: that is the group commit. It sleeps in the
//! watcher's `epoll`, so that what happens to a run reaches it without a detour; the inbox rings a bell there.
//! The doorbell carries no news, only where to look; whoever lags reads the truth again. Who waits for a task's
//! end is told without it (`waiters.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::command::{Actor, Refused, RefusedCode};
use crate::exec::Executor;
use crate::store::{Persist, Store};
use crate::task::{Task, TaskId};
use crate::watch::Watcher;

pub mod audit;
pub mod core;
mod driver;
pub mod engine;
mod waiters;

use self::core::{Ask, Core, Input, Reply};
pub use driver::{DiskProbe, now};
pub use waiters::Fits;
use waiters::Waiter;

/// Where somebody should look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A task changed (or was removed).
    Task {
        /// Which.
        id: TaskId,
    },
    /// A notice was raised.
    Notice {
        /// Its sequence number.
        seq: u64,
    },
    /// The daemon is leaving.
    Leaving,
}

/// Requests that may wait in the inbox. One turn drains them all, so that this many share one sync of the
/// folder; more callers than this wait their turn, which is what a full disk queue means anyway.
const INBOX: usize = 1024;

/// Rings that a slow listener may lag behind before it has to read everything again.
const BELL: usize = 4096;

type Look = Box<dyn FnOnce(&Core) + Send>;

/// What the driver's inbox takes.
pub(crate) enum Message {
    Ask { actor: Actor, ask: Ask, reply: oneshot::Sender<Result<Reply, Refused>> },
    Query(Look),
    Wait(Waiter),
    Note(Box<dyn FnOnce(&mut Core) + Send>),
    Input(Input),
    Quit(oneshot::Sender<()>),
}

/// A sender of inputs for watchers and executors: cheap to clone, never blocks.
#[derive(Debug, Clone)]
pub struct Pokes(mpsc::UnboundedSender<Input>);

impl Pokes {
    /// Sends an input to the driver. After the driver has left it goes nowhere: facts are on disk.
    pub fn send(&self, input: Input) {
        let _ = self.0.send(input);
    }

    /// A pair for an executor that is built before the supervisor starts.
    #[must_use]
    pub fn channel() -> (Pokes, mpsc::UnboundedReceiver<Input>) {
        // Unbounded: at most a few inputs per running task are under way, and slots bound those.
        let (tx, rx) = mpsc::unbounded_channel();
        (Pokes(tx), rx)
    }
}

/// The way to the supervisor.
#[derive(Debug, Clone)]
pub struct Handle {
    tx: mpsc::Sender<Message>,
    bell: broadcast::Sender<Event>,
    store: Arc<Store>,
}

impl Handle {
    /// Asks for something; the answer comes when it is durable.
    ///
    /// # Errors
    /// What the core refuses, or [`RefusedCode::Unavailable`] when the supervisor has left.
    pub async fn ask(&self, actor: Actor, ask: Ask) -> Result<Reply, Refused> {
        let (reply, answer) = oneshot::channel();
        self.tx.send(Message::Ask { actor, ask, reply }).await.map_err(|_| leaving())?;
        answer.await.map_err(|_| leaving())?
    }

    /// Looks something up in the state.
    ///
    /// # Errors
    /// [`RefusedCode::Unavailable`] when the supervisor has left.
    pub async fn query<T, F>(&self, look: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&Core) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |core| {
            let _ = reply.send(look(core));
        });
        self.tx.send(Message::Query(look)).await.map_err(|_| leaving())?;
        answer.await.map_err(|_| leaving())
    }

    /// Waits until a task's record fits, and returns it as it was saved. `None`: it is no live task (any more),
    /// or it may fit: look at it again.
    ///
    /// # Errors
    /// [`RefusedCode::Unavailable`] when the supervisor has left.
    pub async fn when(&self, id: TaskId, fits: Fits) -> Result<Option<Box<Task>>, Refused> {
        let (reply, answer) = oneshot::channel();
        self.tx.send(Message::Wait(Waiter { id, fits, reply })).await.map_err(|_| leaving())?;
        answer.await.map_err(|_| leaving())
    }

    /// Hands something to the core that needs no answer.
    pub async fn note(&self, note: impl FnOnce(&mut Core) + Send + 'static) {
        let _ = self.tx.send(Message::Note(Box::new(note))).await;
    }

    /// Hands an input to the core.
    pub async fn input(&self, input: Input) {
        let _ = self.tx.send(Message::Input(input)).await;
    }

    /// Listens to the doorbell from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.bell.subscribe()
    }

    /// Tells everybody who listens that the daemon is about to leave: long polls answer at once.
    pub fn ring_leaving(&self) {
        let _ = self.bell.send(Event::Leaving);
    }

    /// The store, for reading records.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Lets the driver finish its turn and leave. Tasks go on.
    pub async fn quit(&self) {
        let (done, left) = oneshot::channel();
        if self.tx.send(Message::Quit(done)).await.is_ok() {
            let _ = left.await;
        }
    }
}

/// The refusal of a daemon that is on its way out.
#[must_use]
pub fn leaving() -> Refused {
    Refused::new(RefusedCode::Unavailable, "the daemon is leaving").hint("try again; the next command starts a new one")
}

/// Starts the driver thread.
///
/// # Errors
/// When the thread cannot be made.
pub fn start<E: Executor + Send + 'static>(
    core: Core,
    store: Arc<Store>,
    exec: E,
    pokes: mpsc::UnboundedReceiver<Input>,
    watcher: Watcher,
    disk: DiskProbe,
) -> std::io::Result<Handle>
where
    Arc<Store>: Persist,
{
    let (tx, rx) = mpsc::channel(INBOX);
    let (bell, _) = broadcast::channel(BELL);
    let thread = std::thread::Builder::new().name("supervisor".to_owned());
    #[cfg(debug_assertions)]
    if crate::sabotage::broken("told_before_saved") {
        let engine = engine::Engine::new(core, crate::sabotage::Late::new(Arc::clone(&store)), exec);
        let driver = driver::Driver::new(engine, rx, pokes, watcher, bell.clone(), disk);
        thread.spawn(move || driver.run())?;
        return Ok(Handle { tx, bell, store });
    }
    let engine = engine::Engine::new(core, Arc::clone(&store), exec);
    let driver = driver::Driver::new(engine, rx, pokes, watcher, bell.clone(), disk);
    thread.spawn(move || driver.run())?;
    Ok(Handle { tx, bell, store })
}

/// How often the disk is measured while tasks run and it is not nearly empty.
const DISK_EVERY: Duration = Duration::from_secs(10);
