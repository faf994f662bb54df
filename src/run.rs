//! Runs: the folders, locks, claims and verdicts by which no accepted task vanishes and no run starts twice.
//!
//! ```text
//!   octod ──launch──► shim ──fork──► child, waiting ──release──► the command
//!     │                │ holds run-N/lock for its whole life
//!     │                │ links run-N/claim.json before the release
//!     │                └ writes run-N/exit.json after the end
//!     └─facts(), verdict()──► run-N/           (nothing else passes from a shim to a daemon)
//! ```
//!
//! The daemon and a shim share no memory and no connection that matters. Each may die at any instant;
//! what one has to know of the other it reads from the run's folder. The poke pipe ([`Launched::pokes`])
//! only says *look now*. This module is the daemon's half; [`crate::shim`] is the other one.
//!
//! # Ancestry
//!
//! A daemon starts one *nursery*, an `octo-shim` that was loaded once and forks a shim for each launch. It is
//! a child of the daemon, in a session of its own, holds neither locks nor folders, reaps nobody, and ends
//! when its line to the daemon closes. Only a daemon starts one, so no task is ever above it. A daemon whose
//! nursery does not work starts shims itself.
//!
//! A shim is a child of the nursery (or the daemon) that began it, in a session of its own, and outlives
//! both. What `/proc` tells of it is the same in both cases: its program, its command line with the run
//! folder, and in its environment the marks of its run. The command is the shim's child and leads its own process group before the claim is written, so that the
//! claim names a group. The shim is a subreaper: every descendant of the command stays below it.
//!
//! # The lock
//!
//! Liveness is a lock, never a process number. [`RunDir::launch`] makes `run-N/`, opens its `lock`
//! close-on-exec, takes an open-file-description lock on it, sends that descriptor to the nursery (or hands it
//! to the shim as its standard input) and closes its own copy. So the lock is held without a gap from before
//! the shim exists until the last copy is closed: on the way it is the message that holds it, then the
//! nursery until it has forked, one launch at a time. A nursery that dies with a message takes the lock along,
//! and the run never started. The shim has it close-on-exec (off descriptor 0, before it forks), and the
//! waiting child closes its copy first of all: no command ever holds it. A probe opens the file anew
//! and asks `F_OFD_GETLK`, which takes nothing. It may say *held* a moment too long (a copy in a process
//! that was forked and not executed yet), which is only a delay; it never says *free* too early.
//!
//! The lock of a run folder is taken once. While a launch is under way (from the folder to the closed
//! copy, that is: during `launch`) the caller decides nothing about that task. A shim lets go of the lock
//! before it closes its poke socket, so that who sees the one finds the other.
//!
//! # The claim is a fence
//!
//! `claim.json` is made by `link`, which only one can win. The shim writes a real one into the lock's own
//! file, which only the holder of the lock may write to, and gives that file its second name before it releases
//! the child. Whoever decides that a run *never started* must first win the claim with a void one
//! ([`RunDir::void`]); a shim that comes later loses, kills its waiting child and exits silently. A shim
//! never makes a folder. The record says `running` only after a real claim was seen; therefore a
//! `running` record without a claim is a run that was cut off, not one that never started.
//!
//! # The verdict
//!
//! [`verdict()`] is one pure function, used at boot, on a poke and on the sweep, never on a record that
//! has ended. [`RunDir::facts`] reads lock, claim, exit in this order: a free lock makes final what is
//! read after it.
//!
//! | exit.json | claim | lock | the record | verdict |
//! |---|---|---|---|---|
//! | yes | any | any | any | [`Verdict::Ended`] |
//! | no | real | held | any | [`Verdict::Running`] |
//! | no | real | free | any | [`Verdict::CutOff`] |
//! | no | void | any | dispatched | [`Verdict::NeverStarted`] |
//! | no | none | held | dispatched | [`Verdict::Starting`]; with a stop, or after 30 s, [`Verdict::VoidFirst`] |
//! | no | none | free | dispatched | [`Verdict::VoidFirst`] |
//! | no folder at all ||| dispatched | [`Verdict::NotSpawned`] |
//! | no | none or void | free | seen to run | [`Verdict::CutOff`] |
//! | no | none | held | seen to run | [`Verdict::Running`] (somebody deleted its claim) |
//! | no | void | held | seen to run | [`Verdict::CutOff`] |
//!
//! An unreadable claim counts as a real one whose processes are not known, an unreadable `exit.json` as
//! none. Either is moved to quarantine only after the record's end is on disk.
//!
//! # The end, a stop
//!
//! [`crate::shim`] tells both. A stop is an intent in the record, sent by [`RunDir::signal_shim`] as
//! SIGTERM, and sent again at every boot. A shim that has not ended 20 s later gets CONT, then KILL, and
//! then the run is one that was cut off: [`RunDir::end_what_is_left`] comes before its end is saved.
//! That one kills the child's group if the claim's child still leads it in this boot, and every process
//! of this user whose environment carries this task, run and workspace.
//!
//! # Cleaning up
//!
//! [`RunDir::fold`] moves a run's folder to the trash only when a probe finds the lock free, and deletes
//! `lock` and `claim.json` last, so that a shim that wakes up late still loses. The daemon folds a run
//! only after the record's end is on disk, and when nothing else is going on; a few folders are cleaned and used
//! again at once (`spare.rs`).
//!
//! # Which fact proves what after a power cut
//!
//! No process survives a power cut, so every lock is free afterwards. What counts is what the table
//! above then reads.
//!
//! | fact | put on disk by | what it proves; what its loss means |
//! |---|---|---|
//! | `launch <id> N` in the journal | the store, in the same sync as the record's acceptance or as the end that freed the slot; the launch waits for it | that run N may have begun. After a power cut a start gives such a run a claim of unknown processes if nothing is left of its folder: it is *cut off*, and no run starts twice |
//! | `tasks/<id>/`, `run-N/`, `claim.json` | nobody; the system in its own time, and a checkpoint before the journal forgets the launch | the same as the journal's `launch`. After a death of the daemon alone they are all there, and the table above reads them |
//! | a void claim | its own sync, then one of `run-N/`, before anybody acts on it | the command never ran. Its loss harms nobody: the shim it was meant for is gone too |
//! | `exit.json` | the shim, with the folders above it, after the rename and the poke, before its lock falls; but not when the daemon that launched it says meanwhile ([`SAVED`]) that the record's end is on disk: then nobody asks this file again | how the run ended. Lost while the record does not tell the end either: *cut off*, never a success and never a second run |
//! | the space for `exit.json` | nobody; it is only reserved | nothing: it holds while the machine is up, and later nobody writes there |
//! | a kept log's name | `fold` syncs `tasks/` before the folder is moved | that the log is not lost with its folder |
//! | moves to the trash, deletions | nobody | undone, they are done again: `fold` may be repeated |
//! | `out.log` | nobody | logs survive the daemon, not a power cut |
//!
//! So a run costs no sync of its own: its launch shares the one of its acceptance or of another run's end, and
//! its end shares one with whatever happens at the same time. A shim whose daemon is gone or slow (a second)
//! syncs `exit.json` and all folders on the way to it itself.

use serde::{Deserialize, Serialize};

use crate::task::Stamp;

mod agent;
pub(crate) mod dir;
mod fold;
mod launch;
mod leftover;
pub(crate) mod nursery;
pub(crate) mod proc;
pub(crate) mod spare;
mod verdict;

pub use agent::{CALLS, fold_agent, unfold_agent};
pub use dir::RunDir;
pub(crate) use fold::SPARE;
pub use fold::{Folded, empty_trash, remove_task_files, run_folders};
#[cfg(test)]
pub(crate) use launch::socket_pair;
pub use launch::{LaunchSpec, Launched, SAVED};
pub(crate) use nursery::NOT_FORKED;
pub use nursery::{Nursery, Origin};
pub use proc::{boot_id, proc_start};
pub use rustix::process::Signal;
pub use spare::Spares;
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
