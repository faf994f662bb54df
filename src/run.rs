//! Processes and locks.

use serde::{Deserialize, Serialize};

use crate::task::Stamp;

pub(crate) mod dir;
mod fold;
mod launch;
mod leftover;
pub(crate) mod proc;
mod verdict;

pub use dir::RunDir;
pub use fold::{Folded, empty_trash, remove_task_files, run_folders};
pub use launch::{LaunchSpec, Launched};
pub use proc::{boot_id, proc_start};
pub use rustix::process::Signal;
pub use verdict::{START_PATIENCE, Verdict, verdict};

/// A process, named so that it cannot be taken for another one of the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcId {
    /// Its number.
    pub pid: i32,
    /// When it started: field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start: u64,
}

/// `claim.json`: who won the right to run the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The shim.
    pub shim: ProcId,
    /// The command's process, leader of its own group, which waits until the claim is on disk.
    pub child: ProcId,
    /// The boot in which these numbers mean something.
    pub boot_id: String,
    /// When it was claimed.
    pub at: Stamp,
    /// The shim's version.
    pub version: String,
}

/// What a shim acted on when it ended a run itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// It was told to stop (SIGTERM).
    Stop,
    /// The log grew over its quota.
    LogQuota,
}

/// `exit.json`: how a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The command's exit code, if it exited.
    #[serde(default)]
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Why the shim ended it; none: it ended by itself.
    #[serde(default)]
    pub reason: Option<ExitReason>,
    /// Why the command could not be started at all: `launch: ...`. Then there is neither code nor signal.
    #[serde(default)]
    pub error: Option<String>,
    /// When it ended.
    pub at: Stamp,
    /// How long the log was then, in bytes.
    #[serde(default)]
    pub log_bytes: u64,
}

/// Whether some process holds the run's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFact {
    /// Somebody does: the shim, or for a moment a process that was just forked.
    Held,
    /// Nobody does, and nobody ever will again.
    Free,
}

/// What `claim.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimFact {
    /// There is none.
    None,
    /// A shim won it.
    Real(Claim),
    /// The daemon won it: the command never runs.
    Void,
    /// There is one that makes no sense. It counts as a real one whose processes are not known.
    Unreadable,
}

/// What `exit.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitFact {
    /// There is none.
    None,
    /// The run ended so.
    Ended(Exit),
    /// There is one that makes no sense. It counts as none.
    Unreadable,
}

/// All that the disk tells about a run, read in the order lock, claim, exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether the run has a folder.
    pub folder: bool,
    /// The lock.
    pub lock: LockFact,
    /// The claim.
    pub claim: ClaimFact,
    /// The end.
    pub exit: ExitFact,
}
