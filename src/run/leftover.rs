//! Signals from the daemon: to a shim, and to what is left of a run whose shim is gone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, kill_process_group, pidfd_open, pidfd_send_signal};

use super::dir::RunDir;
use super::proc::{Stat, all, boot_id, environment, holds, unless_short};
use super::{Claim, ProcId};

/// How many walks may be repeated because processes vanished under them.
const MISSES: usize = 24;

/// How long the end of a killed run may take before it is reported as not done.
const PATIENCE: Duration = Duration::from_secs(10);

impl RunDir {
    /// Sends `signal` to the shim that `claim` names. `false`: that process is gone (or this is another
    /// boot), and nothing was signalled.
    ///
    /// # Errors
    /// When the signal is not permitted, or `/proc` cannot be read.
    pub fn signal_shim(&self, claim: &Claim, signal: Signal) -> io::Result<bool> {
        let Some(handle) = open_checked(claim.shim, &claim.boot_id)? else { return Ok(false) };
        send(&handle, signal)
    }

    /// Kills what is left of this run when its shim is gone: the group of the claim's child, if that
    /// child still leads it in this boot, and every process of this user that carries this task, run
    /// and workspace in its environment. Never signals the caller itself. Repeats until nothing is
    /// left, and tells how many processes it found by their environment.
    ///
    /// It blocks while it works: some milliseconds, at most 10 s.
    ///
    /// # Errors
    /// `TimedOut` when some are still there after 10 s (they hang in the kernel); or when `/proc` cannot
    /// be read.
    pub fn end_what_is_left(&self, claim: Option<&Claim>, workspace: &Path) -> io::Result<usize> {
        if let Some(claim) = claim {
            kill_group(claim)?;
        }
        let marks = self.marks(workspace);
        let deadline = Instant::now() + PATIENCE;
        let (mut killed, mut quiet, mut missed) = (0, 0, 0);
        let mut mute = BTreeSet::new();
        loop {
            let Swept { struck, vanished, mute: seen } = kill_marked(&marks)?;
            // What ended, or was in the middle of an exec, before it was looked at may have been of this run and
            // have left a child: look again. Not for ever, since other people's processes come and go as well.
            let missing = vanished || !seen.is_subset(&mute);
            mute = seen;
            missed += usize::from(missing);
            quiet = match struck.is_empty() {
                false => 0,
                true if missing && missed < MISSES => quiet,
                true => quiet + 1,
            };
            if quiet == 2 {
                return Ok(killed);
            }
            killed += struck.len();
            for handle in &struck {
                wait_gone(handle, deadline.saturating_duration_since(Instant::now()))?;
            }
            if Instant::now() >= deadline {
                let text = format!("{} processes of task {} do not go away after SIGKILL", struck.len(), self.id);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }

    /// The entries of the environment that mark a process as one of this run.
    fn marks(&self, workspace: &Path) -> Vec<Vec<u8>> {
        let entry = |name: &str, value: &OsStr| [name.as_bytes(), b"=", value.as_bytes()].concat();
        vec![
            entry("OCTO_TASK_ID", OsStr::new(self.id.as_str())),
            entry("OCTO_RUN", OsStr::new(&self.run.to_string())),
            entry("OCTO_WORKSPACE", workspace.as_os_str()),
        ]
    }
}

/// Opens the process and only then looks whether it is still the one that is meant.
fn open_checked(id: ProcId, boot: &str) -> io::Result<Option<OwnedFd>> {
    if boot != boot_id()? {
        return Ok(None);
    }
    let Some(handle) = open(id.pid)? else { return Ok(None) };
    let same = Stat::read(id.pid)?.is_some_and(|s| s.start == id.start && !s.is_dead());
    Ok(same.then_some(handle))
}

fn open(pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn send(handle: &OwnedFd, signal: Signal) -> io::Result<bool> {
    match pidfd_send_signal(handle, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Kills the child's group while the child still leads it. A zombie leads it too, and keeps its number.
fn kill_group(claim: &Claim) -> io::Result<()> {
    if claim.boot_id != boot_id()? || claim.child.pid <= 1 {
        return Ok(());
    }
    let Some(_handle) = open(claim.child.pid)? else { return Ok(()) };
    let leads = |s: Stat| s.start == claim.child.start && s.group == claim.child.pid;
    let Some(group) = Pid::from_raw(claim.child.pid) else { return Ok(()) };
    if Stat::read(claim.child.pid)?.is_some_and(leads) {
        match kill_process_group(group, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// What one walk over all processes did.
#[derive(Default)]
struct Swept {
    struck: Vec<OwnedFd>,
    /// Some process was gone before it was looked at.
    vanished: bool,
    /// Those that showed no environment.
    mute: BTreeSet<i32>,
}

/// Kills every marked process of this user but the caller.
fn kill_marked(marks: &[Vec<u8>]) -> io::Result<Swept> {
    let (me, user) = (std::process::id() as i32, geteuid().as_raw());
    let mut swept = Swept::default();
    // The newest first (its number is the highest, as a rule): who forks and exits all the time is the newest, and
    // gone a moment later.
    for pid in all()?.into_iter().rev() {
        let owner = unless_short(std::fs::metadata(format!("/proc/{pid}")))?.map(|m| m.uid());
        if pid == me || owner.is_some_and(|owner| owner != user) {
            continue;
        }
        let environ = environment(pid)?;
        swept.vanished |= environ.is_none();
        let Some(environ) = environ else { continue };
        if environ.is_empty() {
            swept.mute.insert(pid);
        }
        if !holds(&environ, marks) {
            continue;
        }
        // Only what is held is looked at again, and signalled.
        let handle = open(pid)?;
        let struck = match &handle {
            Some(handle) => environment(pid)?.is_some_and(|e| holds(&e, marks)) && send(handle, Signal::KILL)?,
            None => false,
        };
        swept.vanished |= !struck;
        swept.struck.extend(handle.filter(|_| struck));
    }
    Ok(swept)
}

/// Waits until the process has ended (a pidfd is readable then), at most `left`.
fn wait_gone(handle: &OwnedFd, left: Duration) -> io::Result<()> {
    let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
