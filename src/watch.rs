//! Watches runs for the moment something happens to them. The supervisor's thread does its waiting here.
//!
//! It waits in `epoll` on three kinds of descriptors: the *poke socket* of every shim that this daemon
//! launched (a byte when the claim was won, one when `exit.json` appeared, end of file when the shim is
//! gone), a *pidfd* of every shim that it adopted at a start, and one *eventfd*, by which whoever put
//! something into the supervisor's inbox wakes it. A poke says only "look at task X": what happened is read
//! from the facts on disk, and a slow sweep looks at every running task even if no poke ever comes. Inotify
//! would tell the same, but also of every write to a log in the same folder; it is kept for those who follow
//! a log.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::Errno;

use crate::run::{Claim, Launched, NOT_FORKED, Origin, RunDir, SAVED};
use crate::supervisor::Pokes;
use crate::supervisor::core::Input;
use crate::task::TaskId;

/// The eventfd's token; those of runs count from 1.
const BELL: u64 = 0;

/// How long the thread sleeps at a time when it cannot wait as it should.
const BLIND: Duration = Duration::from_millis(100);

/// How long the lock of a shim that is dying may take to fall.
const DYING: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Source {
    /// The poke socket of a shim that this process launched.
    Socket(Box<Shim>),
    /// An adopted shim.
    Pidfd(OwnedFd),
}

/// A shim that this process launched.
#[derive(Debug)]
struct Shim {
    pokes: OwnedFd,
    /// Its process, when it is to be reaped here.
    child: Option<Child>,
    origin: Option<Origin>,
    dir: RunDir,
    since: Instant,
    /// Whether it has said anything yet.
    heard: bool,
    /// Whether it has said that the run's end is recorded.
    ended: bool,
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Socket(shim) => shim.pokes.as_fd(),
            Source::Pidfd(fd) => fd.as_fd(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    sources: HashMap<u64, (TaskId, Source)>,
    /// The sockets of shims that were not told yet that the end of their run is saved.
    untold: HashMap<TaskId, u64>,
}

/// What runs are watched by; clones share it.
#[derive(Debug, Clone)]
pub struct Watcher {
    epoll: Arc<OwnedFd>,
    bell: Arc<Bell>,
    state: Arc<Mutex<State>>,
    pokes: Pokes,
}

/// Wakes the thread that waits in [`Watcher::wait`].
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only when it was rung so often that it rings anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Watcher {
    /// Makes one that watches nothing yet. `pokes` leads to whoever waits.
    ///
    /// # Errors
    /// When the kernel has no more descriptors.
    pub fn new(pokes: Pokes) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Every ring is an edge: it need not be read to be heard again.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), flags)?;
        Ok(Watcher { epoll: Arc::new(epoll), bell: Arc::new(Bell(bell)), state: Arc::default(), pokes })
    }

    /// What wakes the waiting thread; it is heard even when it rings before the wait.
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Waits until something happens to a run, the bell rings or time is up, and adds what that means to
    /// `inputs`: nothing, unless it was a run. To be called by one thread.
    pub fn wait(&self, timeout: Duration, inputs: &mut Vec<Input>) {
        // Whole milliseconds are what the kernel takes; less than one would be no wait at all.
        let millis = i64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
        let timeout = Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&*self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "cannot watch runs any more; the sweep goes on");
                std::thread::park_timeout(BLIND.min(Duration::from_millis(millis.unsigned_abs())));
            }
        }
        for event in events.iter().map(|event| event.data.u64()).filter(|token| *token != BELL) {
            inputs.extend(self.fired(event));
        }
    }

    /// Watches a run that was just launched.
    ///
    /// A shim whose socket cannot be watched gets a thread of its own that waits for it.
    ///
    /// # Errors
    /// When there is no thread either; the run is found by the sweep then.
    pub fn launched(&self, dir: RunDir, launched: Launched) -> io::Result<()> {
        let Launched { child, pokes, origin } = launched;
        let id = dir.id();
        let shim = Shim { pokes, child, origin, dir, since: Instant::now(), heard: false, ended: false };
        let Err((error, source)) = self.add(id, Source::Socket(Box::new(shim))) else { return Ok(()) };
        tracing::warn!(%id, %error, "a run has a thread of its own to wait for it");
        let pokes = self.pokes.clone();
        let wait = move || {
            if let Source::Socket(mut shim) = source {
                let input = loop {
                    let _ = poll(&mut [PollFd::new(&shim.pokes, PollFlags::IN)], None);
                    match shim.says(id) {
                        Said::Look | Said::Claimed => pokes.send(Input::Poke { id }),
                        Said::Nothing => {}
                        Said::Gone(input) => break *input,
                    }
                };
                shim.reap(id);
                pokes.send(input);
            }
        };
        std::thread::Builder::new().name("waiter".to_owned()).spawn(wait).map(drop)
    }

    /// Tells the shim of a task, if this process launched it, that the end of its run is on disk in the record.
    /// It exits then; one that hears nothing syncs its own record first.
    pub fn tell_saved(&self, id: TaskId) {
        let mut state = self.lock();
        let Some(token) = state.untold.remove(&id) else { return };
        if let Some((_, Source::Socket(shim))) = state.sources.get(&token) {
            let _ = rustix::net::send(&shim.pokes, &[SAVED], rustix::net::SendFlags::NOSIGNAL);
        }
    }

    /// Whether the shim of a task was asked of a nursery longer than `patience` ago and has said nothing yet.
    #[must_use]
    pub fn is_silent(&self, id: TaskId, patience: Duration) -> bool {
        let state = self.lock();
        let source = state.untold.get(&id).and_then(|token| state.sources.get(token));
        let Some((_, Source::Socket(shim))) = source else { return false };
        shim.origin.is_some() && !shim.heard && shim.since.elapsed() >= patience
    }

    /// Watches an adopted run.
    ///
    /// # Errors
    /// When the shim's process cannot be watched; the run is found by the sweep then.
    pub fn adopted(&self, id: TaskId, claim: &Claim) -> io::Result<()> {
        let Some(pid) = rustix::process::Pid::from_raw(claim.shim.pid) else { return Ok(()) };
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(fd) if crate::run::proc_start(claim.shim.pid) == Some(claim.shim.start) => {
                self.add(id, Source::Pidfd(fd)).map_err(|(error, _)| error)
            }
            // It is gone already: that is news.
            Ok(_) | Err(Errno::SRCH) => {
                self.pokes.send(Input::Poke { id });
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the source back when it cannot be watched.
    fn add(&self, id: TaskId, source: Source) -> Result<(), (io::Error, Source)> {
        let mut state = self.lock();
        state.next += 1;
        let token = state.next;
        let added = epoll::add(&*self.epoll, &source, epoll::EventData::new_u64(token), epoll::EventFlags::IN);
        if let Err(errno) = added {
            return Err((errno.into(), source));
        }
        if matches!(source, Source::Socket(_)) {
            state.untold.insert(id, token);
        }
        state.sources.insert(token, (id, source));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it means that a source has something to say.
    fn fired(&self, token: u64) -> Option<Input> {
        let mut state = self.lock();
        let (id, source) = state.sources.get_mut(&token)?;
        let id = *id;
        let input = match source {
            Source::Pidfd(_) => Input::Poke { id },
            Source::Socket(shim) => match shim.says(id) {
                Said::Look => return Some(Input::Poke { id }),
                Said::Claimed => return Some(Input::Claimed { id }),
                Said::Nothing => return None,
                Said::Gone(input) => *input,
            },
        };
        let gone = state.sources.remove(&token);
        if state.untold.get(&id) == Some(&token) {
            state.untold.remove(&id);
        }
        drop(state);
        if let Some((_, source)) = gone {
            // Closing alone does not take it out: a process that was just forked may still have a copy, and
            // then it would be reported again and again.
            let _ = epoll::delete(&*self.epoll, &source);
            if let Source::Socket(mut shim) = source {
                shim.reap(id);
            }
        }
        Some(input)
    }
}

/// What a poke socket says.
enum Said {
    /// Something happened to the run.
    Look,
    /// The command was released, and nothing else is known.
    Claimed,
    /// It spoke too soon.
    Nothing,
    /// It is over with the shim, and that is to be made of it.
    Gone(Box<Input>),
}

impl Shim {
    fn says(&mut self, id: TaskId) -> Said {
        let mut bytes = [0_u8; 64];
        match rustix::io::read(&self.pokes, &mut bytes) {
            Ok(n @ 1..) => {
                self.heard = true;
                self.ended |= bytes[..n].contains(&b'x');
                match bytes.get(..n) {
                    Some([NOT_FORKED, number @ ..]) => Said::Gone(Box::new(self.not_forked(id, number))),
                    Some([b'c']) => Said::Claimed,
                    _ => Said::Look,
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => Said::Nothing,
            // End of file, or a shim that left without reading. One that never was is no defect of its run.
            _ if !self.heard && self.origin.as_ref().is_some_and(Origin::is_dead) => {
                Said::Gone(Box::new(self.failed(id, "the process that starts shims was ended".to_owned())))
            }
            _ => Said::Gone(Box::new(Input::Poke { id })),
        }
    }

    fn not_forked(&self, id: TaskId, number: &[u8]) -> Input {
        let number = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok());
        self.failed(id, number.map_or("no process".to_owned(), |n| io::Error::from_raw_os_error(n).to_string()))
    }

    /// The machine was short of something, which passes.
    fn failed(&self, id: TaskId, why: String) -> Input {
        let run = self.dir.run();
        tracing::warn!(%id, run, error = %why, "a launch failed");
        Input::LaunchFailed { id, run, why, passing: true }
    }

    /// The socket closes as the shim exits: the wait for that is over at once, and leaves no zombie. One that
    /// ended by itself let go of its lock before; one that was killed loses both in any order.
    fn reap(&mut self, id: TaskId) {
        match self.child.as_mut().map(Child::wait) {
            Some(Err(error)) => tracing::warn!(%id, %error, "could not reap a shim"),
            None if !self.ended => self.dir.await_free(DYING),
            Some(Ok(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher() -> (Watcher, tokio::sync::mpsc::UnboundedReceiver<Input>) {
        let (pokes, inputs) = Pokes::channel();
        (Watcher::new(pokes).unwrap(), inputs)
    }

    /// A watched shim that is this test: its end of the poke socket.
    fn shim(watcher: &Watcher, id: TaskId) -> OwnedFd {
        let (pokes, poker) = crate::run::socket_pair().unwrap();
        let dir = RunDir::new(std::path::Path::new("/nowhere"), id, 3);
        watcher.launched(dir, Launched { child: None, pokes, origin: None }).unwrap();
        poker
    }

    fn next(watcher: &Watcher) -> Vec<Input> {
        let mut inputs = Vec::new();
        watcher.wait(Duration::from_secs(60), &mut inputs);
        inputs
    }

    #[test]
    fn a_ring_ends_the_wait_each_time_and_means_nothing_by_itself() {
        let (watcher, _inputs) = watcher();
        let began = Instant::now();
        for _ in 0..3 {
            watcher.bell().wake();
            assert!(next(&watcher).is_empty());
        }
        let ringing = watcher.bell();
        let other = std::thread::spawn(move || ringing.wake());
        assert!(next(&watcher).is_empty());
        other.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "a ring was not heard");
    }

    #[test]
    fn a_poke_and_the_end_of_a_shim_are_looks_at_its_run() {
        let (watcher, _inputs) = watcher();
        let id = TaskId::random().1;
        let poker = shim(&watcher, id);
        rustix::io::write(&poker, b"c").unwrap();
        assert!(matches!(next(&watcher)[..], [Input::Claimed { id: found }] if found == id));
        rustix::io::write(&poker, b"x").unwrap();
        assert!(matches!(next(&watcher)[..], [Input::Poke { id: found }] if found == id));
        watcher.tell_saved(id);
        watcher.tell_saved(id);
        drop(poker);
        assert!(matches!(next(&watcher)[..], [Input::Poke { id: found }] if found == id));
        assert!(watcher.lock().sources.is_empty() && watcher.lock().untold.is_empty());
    }

    #[test]
    fn a_fork_that_failed_is_a_launch_that_failed_for_a_while() {
        let (watcher, _inputs) = watcher();
        let id = TaskId::random().1;
        let poker = shim(&watcher, id);
        rustix::io::write(&poker, b"f11").unwrap();
        drop(poker);
        let inputs = next(&watcher);
        let [Input::LaunchFailed { id: found, run: 3, why, passing: true }] = &inputs[..] else { panic!("{inputs:?}") };
        assert!(*found == id && why.contains("temporarily unavailable"), "{why}");
        assert!(watcher.lock().sources.is_empty(), "its end is no news");
    }
}
