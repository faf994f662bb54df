//! Ending the command's processes: its group and every descendant.
//!
//! The shim is a subreaper, so whatever loses its parent becomes the shim's own child; nothing below it
//! can leave. Its own children can be reaped by nobody else, so their list is exact. What a process leaves
//! behind is on that list before the process is seen dead: once a list holds only processes that were
//! seen dead before it was read, nothing is left and nothing new can appear.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};

use super::child::Child;
use super::sys;
use crate::run::proc::{Stat, children, own_children};

/// The longest pause between two looks while processes are being ended; their deaths wake the shim earlier.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Takes dead orphans off the process table. The command itself is left alone.
pub(super) fn reap_orphans(command: Pid) {
    for pid in own_children().into_iter().filter_map(Pid::from_raw).filter(|p| *p != command) {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// Tells whether the dead command left no process behind. One short read in the usual case.
pub(super) fn nothing_left(command: Pid) -> bool {
    own_children() == [command.as_raw_pid()]
}

/// Ends the command and all its descendants: TERM and CONT, `grace`, then KILL until none is left.
/// Returns when the command is a zombie (for its caller to reap) and nothing else lives that this user
/// may signal.
pub(super) fn end_all(child: &Child, grace: Duration) {
    signal_all(child.pid, &[Signal::TERM, Signal::CONT]);
    let deadline = Instant::now() + grace;
    loop {
        if child.has_ended() && signal_all(child.pid, &[]) == 0 {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        sys::await_signal(Some(left.min(PAUSE_MAX)));
    }
    let mut pause = Duration::from_millis(1);
    while !child.has_ended() || signal_all(child.pid, &[]) > 0 {
        signal_all(child.pid, &[Signal::KILL]);
        sys::await_signal(Some(pause));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Sends `signals` to the command's group and to every descendant outside of it; reaps orphans that are
/// dead. Returns how many descendants lived when it looked; 0 means that none is left and none can come,
/// provided that the command had ended before.
fn signal_all(command: Pid, signals: &[Signal]) -> usize {
    reap_orphans(command);
    let me = std::process::id() as i32;
    // The whole tree is known before the first signal: afterwards its branches move to the shim.
    let own = own_children();
    let tree = descendants(me, &own);
    for signal in signals {
        // The command is not reaped yet, so the group's number is its own.
        let _ = kill_process_group(command, *signal);
    }
    // A member of the group has its signals now: a second TERM means "at once" to some programs.
    let lives = |found: &&Found| found.group == command.as_raw_pid() || signal_one(found, me, signals);
    let alive = tree.iter().filter(lives).count();
    // One that was seen dead may have left a child after the list was read: that one is listed by now.
    alive.max(usize::from(own_children().iter().any(|pid| !own.contains(pid))))
}

/// A descendant, as it was found.
struct Found {
    pid: i32,
    parent: i32,
    group: i32,
}

/// All living descendants of `me` by way of its children `own`, however deep.
fn descendants(me: i32, own: &[i32]) -> Vec<Found> {
    let mut tree = Vec::new();
    let mut queue: Vec<(i32, i32)> = own.iter().map(|pid| (me, *pid)).collect();
    while let Some((parent, pid)) = queue.pop() {
        let grandchildren = children(pid);
        // Looked at after its children were read: were the number used again, they would be foreign.
        let Some(stat) = descendant(pid, parent, me) else { continue };
        queue.extend(grandchildren.into_iter().map(|grandchild| (pid, grandchild)));
        if !stat.is_dead() {
            tree.push(Found { pid, parent, group: stat.group });
        }
    }
    tree
}

/// Looks at a process that was found as a child of `parent`. If that one died meanwhile, the orphan has
/// come to the shim; with any other parent the number was used again.
fn descendant(pid: i32, parent: i32, me: i32) -> Option<Stat> {
    Stat::of(pid).filter(|s| s.parent == parent || s.parent == me)
}

/// Signals one descendant if it is still the one that was found. `false`: it is gone, or runs as
/// another user (after `sudo`, say) and is out of reach; waiting for such a one would never end.
fn signal_one(found: &Found, me: i32, signals: &[Signal]) -> bool {
    let Some(raw) = Pid::from_raw(found.pid) else { return false };
    let handle = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => handle,
        // No descriptor to spare: it lives, and the next look tries again.
        Err(e) => return e != Errno::SRCH,
    };
    let is_same = descendant(found.pid, found.parent, me).is_some();
    is_same && signals.iter().all(|signal| pidfd_send_signal(&handle, *signal).is_ok())
}
