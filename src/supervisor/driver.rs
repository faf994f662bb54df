//! The driver thread: waits for something to happen or to fall due, and gives the engine its turns.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};

use super::core::{Core, Input, Now, Reply, RequestId};
use super::engine::{Engine, Out};
use super::waiters::Waiters;
use super::{DISK_EVERY, Event, Message};
use crate::command::Refused;
use crate::exec::Executor;
use crate::run::RunDir;
use crate::store::Persist;
use crate::task::TaskId;
use crate::watch::Watcher;

/// The moment, by both clocks.
#[must_use]
pub fn now() -> Now {
    let wall = jiff::Timestamp::now().as_millisecond();
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot = u64::try_from(boot.tv_sec).unwrap_or(0) * 1000 + u64::try_from(boot.tv_nsec).unwrap_or(0) / 1_000_000;
    Now { wall, boot }
}

/// Measures the free space of the workspace's disk and finds the task that writes most.
#[derive(Debug)]
pub struct DiskProbe {
    tasks: PathBuf,
    sizes: HashMap<TaskId, u64>,
    was_low: bool,
    ample: bool,
}

/// With more free bytes than this (and more than 5 %) it takes a while until the disk is full.
const DISK_AMPLE: u64 = 16 * 1024 * 1024 * 1024;

/// Below this many free bytes no new task starts.
pub(super) const DISK_MIN: u64 = 64 * 1024 * 1024;

impl DiskProbe {
    /// A probe for the file system that holds `tasks`.
    #[must_use]
    pub fn new(tasks: &Path) -> Self {
        DiskProbe { tasks: tasks.to_owned(), sizes: HashMap::new(), was_low: false, ample: false }
    }

    /// Whether less than 64 MiB or 1 % is free.
    fn is_low(&mut self) -> bool {
        let Ok(fs) = rustix::fs::statvfs(&self.tasks) else { return false };
        let free = fs.f_bavail.saturating_mul(fs.f_frsize);
        let all = fs.f_blocks.saturating_mul(fs.f_frsize);
        self.ample = free > DISK_AMPLE && free > all / 20;
        all > 0 && (free < DISK_MIN.min(all / 2) || free < all / 100)
    }

    /// How long the last measurement is good for.
    fn pause(&self) -> Duration {
        if self.ample { DISK_EVERY * 3 } else { DISK_EVERY }
    }

    fn measure(&mut self, running: impl Iterator<Item = (TaskId, u32)>) -> Option<Input> {
        let low = self.is_low();
        let was_low = std::mem::replace(&mut self.was_low, low);
        let mut writer = None;
        if low {
            let mut most = 0;
            let mut sizes = HashMap::new();
            for (id, run) in running {
                let log = RunDir::new(&self.tasks, id, run).log_path();
                let size = std::fs::metadata(log).map(|m| m.blocks() * 512).unwrap_or(0);
                let grown = size.saturating_sub(self.sizes.get(&id).copied().unwrap_or(0));
                if grown > most {
                    (most, writer) = (grown, Some(id));
                }
                sizes.insert(id, size);
            }
            self.sizes = sizes;
        }
        (low || was_low).then_some(Input::Disk { low, writer })
    }
}

/// Who waits for an answer.
type Waiting = HashMap<RequestId, oneshot::Sender<Result<Reply, Refused>>>;

pub(super) struct Driver<S, E> {
    engine: Engine<S, E>,
    inbox: mpsc::Receiver<Message>,
    pokes: mpsc::UnboundedReceiver<Input>,
    watcher: Watcher,
    /// What the watcher saw in the last wait.
    seen: Vec<Input>,
    bell: broadcast::Sender<Event>,
    waiting: Waiting,
    waiters: Waiters,
    next_request: RequestId,
    disk: DiskProbe,
    disk_due: Instant,
    quit: Option<oneshot::Sender<()>>,
}

enum Woken {
    Message(Message),
    Input(Input),
    /// Something happened to runs, or something is due.
    Due,
    Closed,
}

impl<S: Persist, E: Executor> Driver<S, E> {
    pub(super) fn new(
        engine: Engine<S, E>,
        inbox: mpsc::Receiver<Message>,
        pokes: mpsc::UnboundedReceiver<Input>,
        watcher: Watcher,
        bell: broadcast::Sender<Event>,
        disk: DiskProbe,
    ) -> Self {
        Driver {
            engine,
            inbox,
            pokes,
            watcher,
            seen: Vec::new(),
            bell,
            waiting: HashMap::new(),
            waiters: Waiters::default(),
            next_request: 0,
            disk,
            disk_due: Instant::now(),
            quit: None,
        }
    }

    pub(super) fn run(mut self) {
        let waker = Waker::from(self.watcher.bell());
        self.turn();
        while self.quit.is_none() {
            match self.wait(&waker) {
                Woken::Message(message) => self.message(message),
                Woken::Input(input) => self.engine.core.step(input, now()),
                Woken::Due => {}
                Woken::Closed => break,
            }
            self.drain();
            self.turn();
        }
        let _ = self.bell.send(Event::Leaving);
        if let Some(done) = self.quit.take() {
            let _ = done.send(());
        }
    }

    /// Sleeps until something arrives, happens to a run or is due. The thread waits by itself: the runtime's
    /// timers would wake one of its workers at every turn.
    fn wait(&mut self, waker: &Waker) -> Woken {
        let due = Instant::now() + self.timeout();
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(input) = self.pokes.poll_recv(&mut context) {
                return input.map_or(Woken::Closed, Woken::Input);
            }
            if let Poll::Ready(message) = self.inbox.poll_recv(&mut context) {
                return message.map_or(Woken::Closed, Woken::Message);
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.seen.is_empty() {
                return Woken::Due;
            }
            self.watcher.wait(left, &mut self.seen);
        }
    }

    /// How long nothing is due. An idle daemon sleeps for an hour at a time.
    fn timeout(&self) -> Duration {
        let mut wait = Duration::from_secs(3600);
        if let Some(due) = self.engine.core.next_due() {
            wait = wait.min(Duration::from_millis(due.saturating_sub(now().boot)));
        }
        if self.engine.core.busy() || self.disk.was_low {
            wait = wait.min(self.disk_due.saturating_duration_since(Instant::now()));
        }
        wait
    }

    /// Takes everything else that has arrived: it shares the next save.
    fn drain(&mut self) {
        if self.seen.is_empty() {
            // However full the inbox is, runs are heard in each turn.
            self.watcher.wait(Duration::ZERO, &mut self.seen);
        }
        for input in self.seen.drain(..) {
            self.engine.core.step(input, now());
        }
        while let Ok(input) = self.pokes.try_recv() {
            self.engine.core.step(input, now());
        }
        while self.quit.is_none()
            && let Ok(message) = self.inbox.try_recv()
        {
            self.message(message);
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Ask { actor, ask, reply } => {
                self.next_request += 1;
                let request = self.next_request;
                self.waiting.insert(request, reply);
                if let Some(out) = self.engine.ask(request, actor, ask, now()) {
                    tell(&self.engine.core, &mut self.waiting, &mut self.waiters, &self.bell, out);
                }
            }
            Message::Query(look) => look(&self.engine.core),
            Message::Wait(waiter) => self.waiters.add(&self.engine.core, waiter),
            Message::Note(note) => note(&mut self.engine.core),
            Message::Input(input) => self.engine.core.step(input, now()),
            Message::Quit(done) => self.quit = Some(done),
        }
    }

    fn turn(&mut self) {
        if Instant::now() >= self.disk_due {
            if let Some(input) = self.disk.measure(self.engine.core.running_runs()) {
                self.engine.core.step(input, now());
            }
            self.disk_due = Instant::now() + self.disk.pause();
        }
        let Driver { engine, waiting, waiters, bell, .. } = self;
        engine.turn_telling(now(), |core, out| tell(core, waiting, waiters, bell, out));
    }
}

fn tell(core: &Core, waiting: &mut Waiting, waiters: &mut Waiters, bell: &broadcast::Sender<Event>, out: Out) {
    match out {
        Out::Reply { request, result } => {
            if let Some(reply) = waiting.remove(&request) {
                let _ = reply.send(result);
            }
        }
        Out::Ring(event) => {
            waiters.rung(core, event);
            // No listener is no error: a doorbell may ring in an empty house.
            let _ = bell.send(event);
        }
    }
}
