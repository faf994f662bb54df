//! Whose child is a process? Tells the owner's own clients from processes inside tasks.
//!
//! The daemon asks for every peer of its socket, and at its own start; a client asks before it starts a
//! daemon. A shim is a subreaper, so whatever a task does to detach stays below its shim, and a walk over
//! parents finds it. This is a hurdle, not a wall: `at`, `cron` or a tmux server that already runs lead
//! out of the tree, and a process may ask another one to speak for it.
//!
//! A process number is not a process. A parent that is older than its child was its parent all along, since
//! the number of one that died goes to a younger process; where the ages do not prove that, the child is
//! read again after its parent, and a chain that changed underfoot is walked anew.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

use crate::run::dir::is_shortage;
use crate::run::proc::{Stat, unless_short};
use crate::task::TaskId;
use crate::workspace::{OCTO_DIR, Workspace};

/// The file name of the shim's program.
const SHIM: &str = "octo-shim";

/// More ancestors than any real process has.
const DEEPEST: usize = 10_000;

/// How often a walk that was disturbed begins again before the answer is "cannot be seen".
const WALKS: usize = 16;

/// A shim found at or above a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimAbove {
    /// The shim's process.
    pub pid: i32,
    /// The workspace folder that its run folder lies in.
    pub workspace: PathBuf,
    /// The task.
    pub task: TaskId,
    /// The run; counts from 1.
    pub run: u32,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Not inside a task of this workspace.
    Owner,
    /// Inside this task; `None` when the process could not be looked at, and so might be in any.
    Task(Option<TaskId>),
    /// This process is too short of descriptors or memory to look: it may be told apart a moment later.
    Untold,
}

/// Lists the shims at or above the process `pid`, the nearest first; empty when there is none, or when
/// the process cannot be seen.
///
/// # Errors
/// When this process is too short of descriptors or memory to look.
pub fn shims_above(pid: i32) -> io::Result<Vec<ShimAbove>> {
    walk(pid, false).map(Option::unwrap_or_default)
}

/// Tells who the process `pid` is to the workspace. `None`, or a number that is no process here (a peer in
/// another pid namespace shows as 0), is a task that cannot be told.
///
/// Prefer [`peer`], which cannot be fooled by a number that was used again.
#[must_use]
pub fn peer_task(pid: Option<i32>, ws: &Workspace) -> Peer {
    let Some(pid) = pid.filter(|p| *p > 0) else { return Peer::Task(None) };
    told(walk(pid, false), ws)
}

fn told(shims: io::Result<Option<Vec<ShimAbove>>>, ws: &Workspace) -> Peer {
    match shims {
        Err(_) => Peer::Untold,
        Ok(None) => Peer::Task(None),
        Ok(Some(shims)) => match shims.into_iter().find(|s| s.workspace == ws.root) {
            Some(shim) => Peer::Task(Some(shim.task)),
            None => Peer::Owner,
        },
    }
}

/// Tells who is at the other end of a Unix socket, from what the kernel noted when it connected.
///
/// Where the kernel hands out a descriptor of the peer's process (Linux 6.5 and newer), a peer that has
/// exited meanwhile, whose number may be another process by now, is a task that cannot be told.
#[must_use]
pub fn peer(stream: &impl AsFd, ws: &Workspace) -> Peer {
    let pid = getsockopt(stream, sockopt::PeerCredentials).ok().map(|c| c.pid());
    match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(fd) => {
            let Some(pid) = pid.filter(|p| *p > 0) else { return Peer::Task(None) };
            let found = told(walk(pid, true), ws);
            if has_exited(&fd) { Peer::Task(None) } else { found }
        }
        // Older kernels do not know the option; a peer that is gone altogether gives other errors.
        Err(nix::Error::ENOPROTOOPT) => peer_task(pid, ws),
        Err(e) if is_shortage(&e.into()) => Peer::Untold,
        Err(_) => Peer::Task(None),
    }
}

/// A pidfd becomes readable when its process ends.
fn has_exited(pidfd: &impl AsFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

/// One process of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    parent: i32,
    start: u64,
}

impl Link {
    fn of(pid: i32) -> io::Result<Option<Link>> {
        Ok(Stat::read(pid)?.map(|stat| Link { parent: stat.parent, start: stat.start }))
    }
}

/// The shims from `pid` upwards; `None` when the process cannot be seen. `held`: the caller holds a descriptor
/// of the process and sees afterwards that it lived all the time, so that its number cannot have been used again.
fn walk(pid: i32, held: bool) -> io::Result<Option<Vec<ShimAbove>>> {
    (0..WALKS).find_map(|_| walk_once(pid, held).transpose()).transpose()
}

/// `None`: some process on the way went away or changed its parent.
///
/// An ancestor that stays but cannot be read belongs to another user on a machine that hides those
/// (`hidepid`): the chain ends there. A shim of this user is never hidden from this user. What could not be read
/// for want of descriptors or memory is an error: it proves nothing, least of all that there is no shim.
fn walk_once(pid: i32, held: bool) -> io::Result<Option<Vec<ShimAbove>>> {
    let mut shims = Vec::from_iter(shim_at(pid)?);
    let Some(first) = Link::of(pid)? else { return Ok(None) };
    let (mut at, mut link) = (pid, first);
    for _ in 0..DEEPEST {
        // Its age is read after its name: what proves the one proves the other.
        let shim = if link.parent > 1 { shim_at(link.parent)? } else { None };
        let above = if link.parent > 1 { Link::of(link.parent)? } else { None };
        let proven = above.is_some_and(|above| above.start < link.start);
        if !proven && Link::of(at)? != Some(link) {
            return Ok(None);
        }
        shims.extend(shim);
        match above {
            Some(next) => (at, link) = (link.parent, next),
            None => break,
        }
    }
    // The number that was asked for must still be the process that the walk began with.
    let same = held || Link::of(pid)?.is_some_and(|last| last.start == first.start);
    Ok(same.then_some(shims))
}

fn shim_at(pid: i32) -> io::Result<Option<ShimAbove>> {
    // The program's name and a run folder stand at the beginning of a shim's line, however long the rest is.
    let mut argv = [0; 16 * 1024];
    let read = unless_short(File::open(format!("/proc/{pid}/cmdline")).and_then(|mut f| f.read(&mut argv)))?;
    let mut short = None;
    let exe = || {
        unless_short(fs::read_link(format!("/proc/{pid}/exe"))).unwrap_or_else(|error| {
            short = Some(error);
            None
        })
    };
    let found = read.and_then(|n| recognise(exe, argv.get(..n)?));
    match short {
        Some(error) => Err(error),
        None => Ok(found.map(|shim| ShimAbove { pid, ..shim })),
    }
}

/// The rule: the program or its first word is `octo-shim`, and the next word is a run folder. The program is
/// looked at only where the words leave that open.
fn recognise(exe: impl FnOnce() -> Option<PathBuf>, cmdline: &[u8]) -> Option<ShimAbove> {
    let mut words = cmdline.split(|b| *b == 0).map(OsStr::from_bytes);
    let named = Path::new(words.next()?);
    let run_folder = Path::new(words.next()?);
    let (workspace, task, run) = read_run_folder(run_folder)?;
    if !(is_shim_program(named) || exe().is_some_and(|exe| is_shim_program(&exe))) {
        return None;
    }
    Some(ShimAbove { pid: 0, workspace, task, run })
}

/// A program that was replaced while it runs (an upgrade) shows as `... (deleted)`.
fn is_shim_program(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.strip_suffix(b" (deleted)").unwrap_or(name) == SHIM.as_bytes()
}

/// Takes `WORKSPACE/.octo/tasks/ID/.../run-N` apart. An agent's shell calls lie deeper than a task's own runs.
fn read_run_folder(path: &Path) -> Option<(PathBuf, TaskId, u32)> {
    if !path.is_absolute() {
        return None;
    }
    let run = path.file_name()?.to_str()?.strip_prefix("run-")?.parse().ok()?;
    let parts: Vec<Component<'_>> = path.components().collect();
    let is = |at: usize, name: &str| parts.get(at).is_some_and(|c| c.as_os_str() == name);
    let octo = (0..parts.len().checked_sub(3)?).rev().find(|i| is(*i, OCTO_DIR) && is(i + 1, "tasks"))?;
    let task = parts.get(octo + 2)?.as_os_str().to_str()?.parse().ok()?;
    Some((parts[..octo].iter().collect(), task, run))
}

#[cfg(test)]
mod tests;
