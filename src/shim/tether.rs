//! The tether: a shim for a program that is to end with the daemon instead of outliving it, such as an MCP
//! server of an agent.
//!
//! ```text
//!   octod ──► octo-shim RUNDIR --tether PID [--open-files N] -- ARGV...     subreaper, own session, one thread
//!     ╎               └─► the program: own group, the standard streams that octod made for it
//!     ╎ pidfd: octod's death
//! ```
//!
//! It ends when the program has. A SIGTERM, and the death of process PID, which must be the one that started it,
//! end the program: by then its standard input is at its end, so it gets a moment to leave by itself; then the whole
//! tree gets TERM and CONT, and then KILL until none is left. So nothing outlives the daemon, however it dies. Where
//! the tether itself is killed, the program is killed with it.
//!
//! RUNDIR need not exist. It stands there for [`crate::ancestry`]: a program below a tether belongs to that task,
//! and has none of its owner's rights.

use std::ffi::{CString, OsString};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{Pid, PidfdFlags, WaitIdStatus, getppid, pidfd_open, umask};

use super::child::{Child, Plan};
use super::{detach, null_stdio, sys, tree};

/// The word, after the run folder, that makes a shim a tether.
pub const TETHER: &str = "--tether";

/// How long a program whose standard input was closed may take to leave by itself.
const MOMENT: Duration = Duration::from_secs(1);
/// How long its tree may take to go, after TERM.
const GRACE: Duration = Duration::from_secs(2);
/// Exit code of a tether that could not start its program; why is on standard error.
const NOT_STARTED: i32 = 126;

/// Does the whole work of one tether; `words` is the command line after the word [`TETHER`]. Returns the exit code:
/// the program's own, 128 and the signal that ended it, or 126 when it was not started. To be called by
/// `octo-shim` alone, as its first act and in a process with one thread.
pub fn tether(words: impl Iterator<Item = OsString>) -> i32 {
    sys::close_inherited();
    work(words).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "octo-shim: {error}");
        NOT_STARTED
    })
}

fn work(words: impl Iterator<Item = OsString>) -> io::Result<i32> {
    sys::own_signals()?;
    let Orders { daemon, open_files, argv } =
        parse(words).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    // If the daemon lives, it is the parent: had it died, another process would be.
    let death = pidfd_open(daemon, PidfdFlags::empty())?;
    if getppid() != Some(daemon) {
        return Ok(0);
    }
    detach()?;
    let signals = SignalFd::with_flags(&sys::awaited(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mask = umask(Mode::RWXG | Mode::RWXO);
    let here = std::env::current_dir()?;
    let plan = Plan { argv: &argv, cwd: &here, log: None, umask: mask, open_files };
    let mut child = Child::fork(&plan, &[&death])?;
    // The program alone holds them: who reads its output sees the end when it ends.
    null_stdio()?;
    child.release()?;
    let _ = std::env::set_current_dir(Path::new("/"));
    watch(&child, &death, &signals);
    let status = child.reap();
    match child.launch_error() {
        Some(why) => Err(io::Error::other(why)),
        None => Ok(exit_code(status)),
    }
}

struct Orders {
    daemon: Pid,
    /// The program's soft limit of open files, when it is not to be the daemon's own.
    open_files: Option<u64>,
    argv: Vec<CString>,
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Orders, &'static str> {
    let daemon = words.next().and_then(|word| Pid::from_raw(word.to_str()?.parse().ok()?));
    let daemon = daemon.ok_or("the daemon's process is missing")?;
    let mut word = words.next();
    let mut open_files = None;
    if word.as_ref().is_some_and(|word| word == "--open-files") {
        let limit = words.next().and_then(|word| word.to_str()?.parse().ok());
        open_files = Some(limit.ok_or("--open-files has no number")?);
        word = words.next();
    }
    if word.is_none_or(|word| word != "--") {
        return Err("`--` and the command are missing");
    }
    let argv: Result<Vec<_>, _> = words.map(|word| CString::new(word.into_vec())).collect();
    let argv = argv.map_err(|_| "the command holds a NUL byte")?;
    if argv.is_empty() { Err("the command is missing") } else { Ok(Orders { daemon, open_files, argv }) }
}

/// Returns when the program has ended and nothing of its tree is left.
fn watch(child: &Child, death: &OwnedFd, signals: &SignalFd) {
    let mut leave_until: Option<Instant> = None;
    loop {
        if child.has_ended() {
            if !tree::nothing_left(child.pid) {
                tree::end_all(child, GRACE);
            }
            return;
        }
        let left = leave_until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return tree::end_all(child, GRACE);
        }
        let ends = wait(death, signals, left, child.pid);
        if ends && leave_until.is_none() {
            leave_until = Some(Instant::now() + MOMENT);
        }
    }
}

/// Waits for whatever comes next, at most `left`; tells whether it is a reason to end the program.
fn wait(death: &OwnedFd, signals: &SignalFd, left: Option<Duration>, child: Pid) -> bool {
    let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::new(death, PollFlags::IN)];
    // Once it is to end, the daemon's death says nothing new.
    let watched = if left.is_some() { 1 } else { 2 };
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    let _ = poll(&mut fds[..watched], timeout.as_ref());
    let died = watched == 2 && !fds[1].revents().is_empty();
    let mut asked = false;
    while let Some(signal) = sys::await_signal(Some(Duration::ZERO)) {
        asked |= signal == Signal::SIGTERM;
    }
    tree::reap_orphans(child);
    died || asked
}

fn exit_code(status: Option<WaitIdStatus>) -> i32 {
    let Some(status) = status else { return 0 };
    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or(0)
}
