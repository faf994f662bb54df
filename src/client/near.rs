//! A log that is followed in its own file.
//!
//! The log of a running task is a file on this machine, and this user's: who follows it there has a line as
//! soon as it is written, and the daemon has nothing to do with it. It only says when the task has ended.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::thread::JoinHandle;

use futures_util::FutureExt as _;
use hyper::body::Bytes;
use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use super::wait::Waited;
use super::{Client, Patience};
use crate::command::{Refused, RefusedCode, TaskRef};
use crate::run::RunDir;
use crate::task::Task;

/// How much is read at a time.
const READ: usize = 64 * 1024;

/// A log that is followed in its own file.
#[derive(Debug)]
pub(super) struct Near {
    file: File,
    grown: OwnedFd,
    /// Ends when the waiting thread has its answer.
    told: OwnedFd,
    waiter: Option<JoinHandle<Result<Waited, Refused>>>,
    run: u32,
    end: Option<Result<Box<Task>, Refused>>,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// Bytes of the log.
    Bytes(Bytes),
    /// The task has ended, and this was all of its log.
    End(Box<Task>),
    /// The task is at another run by now.
    Elsewhere,
}

impl Near {
    /// Opens the log of a running task, and lets a thread wait for its end. `None`: it cannot be followed here.
    pub(super) fn open(client: &Client, task: &Task) -> Option<Near> {
        if task.status.is_ended() {
            return None;
        }
        let run = task.run.max(1);
        let path = RunDir::new(&client.workspace().octo.join("tasks"), task.id, run).log_path();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let grown = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        // By descriptor: the name may be another file's by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&grown, path, inotify::WatchFlags::MODIFY).ok()?;
        let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        let (client, id) = (client.patience(Patience::Forever), TaskRef(task.id.to_string()));
        let wait = move || {
            let answer = client.wait(&id, None, |_, _| {}).now_or_never();
            drop(tell);
            answer.unwrap_or_else(|| Err(Refused::new(RefusedCode::Internal, "a wait that should block did not")))
        };
        let waiter = std::thread::Builder::new().name("wait".to_owned()).spawn(wait).ok()?;
        Some(Near { file, grown, told, waiter: Some(waiter), run, end: None })
    }

    /// What follows after the first `at` bytes of the log; blocks until there is something.
    ///
    /// # Errors
    /// The daemon's refusal, or that the file cannot be read.
    pub(super) fn next(&mut self, at: u64) -> Result<Next, Refused> {
        let failed = |e: io::Error| Refused::new(RefusedCode::Storage, format!("the log cannot be read: {e}"));
        let mut bytes = vec![0; READ];
        loop {
            let n = self.file.read_at(&mut bytes, at).map_err(failed)?;
            if n > 0 {
                bytes.truncate(n);
                return Ok(Next::Bytes(bytes.into()));
            }
            match self.end.take() {
                Some(Ok(task)) if task.run.max(1) == self.run => return Ok(Next::End(task)),
                Some(Ok(_)) => return Ok(Next::Elsewhere),
                Some(Err(refused)) => return Err(refused),
                None => self.wait().map_err(failed)?,
            }
            // What was written until then is read first.
            if let Some(waiter) = self.waiter.take_if(|waiter| waiter.is_finished()) {
                self.end = match waiter.join() {
                    Ok(Ok(Waited::Ended(task))) => Some(Ok(task)),
                    Ok(Err(refused)) => Some(Err(refused)),
                    Ok(Ok(Waited::TimedOut)) | Err(_) => return Ok(Next::Elsewhere),
                };
            }
        }
    }

    /// Waits until the log has grown or the task has ended.
    fn wait(&self) -> io::Result<()> {
        let (grown, told) = (self.grown.as_fd(), self.told.as_fd());
        let mut fds = [PollFd::new(&grown, PollFlags::IN), PollFd::new(&told, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [grown, told] = fds.map(|fd| !fd.revents().is_empty());
        if grown {
            let mut buffer = [MaybeUninit::uninit(); 1024];
            let mut events = inotify::Reader::new(&self.grown, &mut buffer);
            while events.next().is_ok() {}
        }
        if told {
            // The pipe closes in the thread's last moments.
            while self.waiter.as_ref().is_some_and(|waiter| !waiter.is_finished()) {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}
