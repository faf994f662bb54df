//! How a task is run: the executor launches runs, looks at the facts they leave on disk, and stops them.
//!
//! The supervisor's engine calls an [`Executor`] from its own thread, only after the saves that an
//! effect depends on are durable. Everything here is synchronous and short; the one slow job, ending
//! what a dead run left behind, goes to a thread and comes back as an input.

use std::io;

use crate::run::{Claim, Facts};
use crate::task::{Task, TaskId, Usage};

pub mod agent;
mod both;
pub mod process;

pub use both::Executors;

/// What was found when a run was looked at.
#[derive(Debug, Clone)]
pub struct Look {
    /// The run's facts, read in the order of the model: lock, claim, exit.
    pub facts: Facts,
    /// What the run said, when it has ended or been cut off.
    pub report: Report,
}

/// What a run's output says about its outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The end of the output, or the result that the command itself reported.
    pub result: String,
    /// Why the command failed in its own words, even if its exit code is 0.
    pub failed: Option<String>,
    /// It failed because it used up the budget that it was given.
    pub over_budget: bool,
    /// What it used of models, when it said so.
    pub usage: Option<Usage>,
    /// The session that can be resumed, when it said so.
    pub session_id: String,
}

/// Why a launch did not happen.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct LaunchError {
    /// What went wrong, for people.
    pub why: String,
    /// The machine was short of something (processes, memory, descriptors, disk): it is tried again and
    /// does not count against the task.
    pub passing: bool,
}

/// Runs tasks of one kind.
pub trait Executor {
    /// Reads the facts of the task's present run, and its report if it is over.
    ///
    /// # Errors
    /// When a fact could not be read (not: when there is none); it is looked at again later.
    fn look(&mut self, task: &Task) -> io::Result<Look>;

    /// Starts the task's present run. On return the shim holds the lock or is about to, or has failed; a failure
    /// that shows later comes as `Input::LaunchFailed`.
    ///
    /// # Errors
    /// [`LaunchError`] when no shim was started.
    fn launch(&mut self, task: &Task) -> Result<(), LaunchError>;

    /// Starts several runs; one result for each, in order.
    fn launch_all(&mut self, tasks: &[&Task]) -> Vec<Result<(), LaunchError>> {
        tasks.iter().map(|task| self.launch(task)).collect()
    }

    /// Tries to win the run's claim with a void one; true when it was won and is durable.
    ///
    /// # Errors
    /// When the claim could not be tried.
    fn void(&mut self, id: TaskId, run: u32) -> io::Result<bool>;

    /// Watches an adopted run for its end.
    fn adopt(&mut self, id: TaskId, run: u32, claim: &Claim);

    /// Asks the run's shim to stop (SIGTERM).
    fn stop(&mut self, id: TaskId, run: u32, claim: &Claim);

    /// Stops the driver of an agent's run; a report of it follows.
    fn stop_agent(&mut self, id: TaskId, run: u32);

    /// Ends a shim that did not obey (CONT, then KILL).
    fn kill(&mut self, id: TaskId, run: u32, claim: &Claim);

    /// Ends what a dead run left behind, in the background; `Input::LeftEnded` follows.
    fn end_left(&mut self, id: TaskId, run: u32, claim: Option<Claim>);

    /// Tells the shim of the task's run, if it is one of this daemon's, that the end is on disk in the record.
    fn tell_saved(&mut self, id: TaskId);

    /// Whether a folder that is folded away now would be used again for one of the next runs.
    fn wants_folders(&self) -> bool {
        false
    }

    /// Folds the task's run folders away; false when a run's lock is still held.
    ///
    /// # Errors
    /// When files could not be moved; it is tried again later.
    fn fold(&mut self, task: &Task) -> io::Result<bool>;

    /// Keeps the output of an ended run that lives in `result` alone, before a retry clears it.
    ///
    /// # Errors
    /// When the file could not be written; the retry is refused then.
    fn preserve(&mut self, task: &Task) -> io::Result<()>;

    /// Deletes all files of a removed task; false when a run's lock is still held.
    ///
    /// # Errors
    /// When files could not be deleted; it is tried again later.
    fn remove_files(&mut self, id: TaskId) -> io::Result<bool>;
}
