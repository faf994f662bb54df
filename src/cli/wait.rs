//! `octo task ID wait` and `--wait`: until a task has ended.

use super::{FAILED, Failure, TIMED_OUT, World};
use crate::client::{Deputy, Vigil, Waited};
use crate::command::TaskRef;
use crate::render::{self, Room, Tongue, View, duration, name_of, took, why};
use crate::task::{Question, Status, Task};

/// Waits for the end, in this process or a deputy; exits 0 when the task completed, 1 otherwise, 124 when the time
/// ran out.
pub(super) async fn run(world: &World, task: &TaskRef, vigil: Vigil) -> Result<(), Failure> {
    match keep(world, task, vigil, world.deputy()).await? {
        Some(task) => verdict(world, &task),
        None => Err(Failure::Quiet(TIMED_OUT)),
    }
}

/// Waits for the end, telling questions that arise; `None` when the time ran out.
pub(super) async fn until_end(world: &World, task: &TaskRef) -> Result<Option<Task>, Failure> {
    keep(world, task, Vigil::default(), None).await
}

async fn keep(world: &World, task: &TaskRef, vigil: Vigil, deputy: Option<Deputy>) -> Result<Option<Task>, Failure> {
    let tell = |task: &Task, question: &Question| world.warn(&question_text(task, question));
    match world.client()?.keep(task, vigil, deputy, tell).await? {
        Waited::Ended(task) => Ok(Some(*task)),
        Waited::TimedOut => Ok(None),
    }
}

/// Success for `completed`; any other end is told and is the exit code 1.
pub(super) fn verdict(world: &World, task: &Task) -> Result<(), Failure> {
    if task.status == Status::Completed {
        return Ok(());
    }
    let why = why(task);
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    let after = took(task, world.view().now).map(|ms| format!(" after {}", duration(ms))).unwrap_or_default();
    world.warn(&format!("error: task {}: {}{why}{after}\n", name_of(task), task.status));
    world.warn(&format!("hint: `octo task {}` shows it, `octo task {} logs` its output\n", task.id, task.id));
    Err(Failure::Quiet(FAILED))
}

/// The whole question, and the line that answers it.
fn question_text(task: &Task, question: &Question) -> String {
    // Standard error is no terminal that is known here: nothing is painted or cut to its width.
    render::question(task, question, Tongue::Shell, Room::NEW, &View::plain(jiff::Timestamp::now().as_millisecond()))
}
