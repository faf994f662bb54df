//! Watches runs for the moment something happens to them, and pokes the supervisor.
//!
//! One thread waits in `epoll` on two kinds of descriptors: the *poke socket* of every shim that this daemon
//! launched (a byte when the claim was won, one when `exit.json` appeared, end of file when the shim is
//! gone), and a *pidfd* of every shim that it adopted at a start. A poke says only "look at task X": what
//! happened is read from the facts on disk, and a slow sweep looks at every running task even if no poke
//! ever comes. Inotify would tell the same, but also of every write to a log in the same folder; it is
//! kept for those who follow a log.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::run::Claim;
use crate::supervisor::Pokes;
use crate::supervisor::core::Input;
use crate::task::TaskId;

#[derive(Debug)]
enum Source {
    /// The poke socket of a shim that this process launched and reaps.
    Socket { fd: OwnedFd, child: Child },
    /// An adopted shim.
    Pidfd { _fd: OwnedFd },
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    sources: HashMap<u64, (TaskId, Source)>,
    /// The sockets of shims that were not told yet that the end of their run is saved.
    untold: HashMap<TaskId, u64>,
}

/// The watching thread's front; clones share it.
#[derive(Debug, Clone)]
pub struct Watcher {
    epoll: Arc<OwnedFd>,
    state: Arc<Mutex<State>>,
    pokes: Pokes,
}

impl Watcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel has no more descriptors or threads.
    pub fn start(pokes: Pokes) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let watcher = Watcher { epoll, state: Arc::default(), pokes };
        let this = watcher.clone();
        std::thread::Builder::new().name("watcher".to_owned()).spawn(move || this.run())?;
        Ok(watcher)
    }

    /// Watches a run that was just launched.
    ///
    /// A shim whose socket cannot be watched gets a thread of its own that waits for it.
    ///
    /// # Errors
    /// When there is no thread either; the run is found by the sweep then.
    pub fn launched(&self, id: TaskId, pokes: OwnedFd, child: Child) -> io::Result<()> {
        let Err((error, source)) = self.add(id, Source::Socket { fd: pokes, child }) else { return Ok(()) };
        tracing::warn!(%id, %error, "a run has a thread of its own to wait for it");
        let pokes = self.pokes.clone();
        let wait = move || {
            if let Source::Socket { mut child, .. } = source {
                let _ = child.wait();
            }
            pokes.send(Input::Poke { id });
        };
        std::thread::Builder::new().name("waiter".to_owned()).spawn(wait).map(drop)
    }

    /// Tells the shim of a task, if this process launched it, that the end of its run is on disk in the record.
    /// It exits then; one that hears nothing syncs its own record first.
    pub fn tell_saved(&self, id: TaskId) {
        let mut state = self.lock();
        let Some(token) = state.untold.remove(&id) else { return };
        if let Some((_, Source::Socket { fd, .. })) = state.sources.get(&token) {
            let _ = rustix::net::send(fd, &[crate::run::SAVED], rustix::net::SendFlags::NOSIGNAL);
        }
    }

    /// Watches an adopted run.
    ///
    /// # Errors
    /// When the shim's process cannot be watched; the run is found by the sweep then.
    pub fn adopted(&self, id: TaskId, claim: &Claim) -> io::Result<()> {
        let Some(pid) = rustix::process::Pid::from_raw(claim.shim.pid) else { return Ok(()) };
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(fd) if crate::run::proc_start(claim.shim.pid) == Some(claim.shim.start) => {
                self.add(id, Source::Pidfd { _fd: fd }).map_err(|(error, _)| error)
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
        {
            let fd = match &source {
                Source::Socket { fd, .. } | Source::Pidfd { _fd: fd } => fd,
            };
            let added = epoll::add(&*self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN);
            if let Err(errno) = added {
                return Err((errno.into(), source));
            }
        }
        if matches!(source, Source::Socket { .. }) {
            state.untold.insert(id, token);
        }
        state.sources.insert(token, (id, source));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&*self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot watch runs any more; the sweep goes on");
                    return;
                }
            }
            for event in &events {
                self.fired(event.data.u64());
            }
        }
    }

    fn fired(&self, token: u64) {
        let mut gone = None;
        let mut state = self.lock();
        let Some((id, source)) = state.sources.get(&token) else { return };
        let id = *id;
        let over = match source {
            Source::Pidfd { .. } => true,
            Source::Socket { fd, .. } => {
                let mut bytes = [0_u8; 64];
                // Nothing to read is no end: end of file is, and a shim that left without reading.
                !matches!(rustix::io::read(fd, &mut bytes), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
            }
        };
        if over {
            gone = state.sources.remove(&token);
            if state.untold.get(&id) == Some(&token) {
                state.untold.remove(&id);
            }
            // Closing alone does not take it out: a process that was just forked may still have a copy, and
            // then it would be reported again and again.
            if let Some((_, Source::Socket { fd, .. } | Source::Pidfd { _fd: fd })) = &gone {
                let _ = epoll::delete(&*self.epoll, fd);
            }
        }
        drop(state);
        if let Some((_, Source::Socket { mut child, .. })) = gone {
            // The socket closes as the shim exits: this wait is over at once, and leaves no zombie.
            if let Err(error) = child.wait() {
                tracing::warn!(%id, %error, "could not reap a shim");
            }
        }
        self.pokes.send(Input::Poke { id });
    }
}
