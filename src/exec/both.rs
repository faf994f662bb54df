//! Both kinds of tasks behind one executor: shell commands under shims, and agents inside the daemon.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::agent::Agents;
use super::{Executor, LaunchError, Look};
use crate::run::{self, Claim, Folded};
use crate::task::{Kind, Task, TaskId};

/// Sends each task to who runs it.
pub struct Executors<P> {
    process: P,
    agents: Arc<dyn Agents>,
    /// `.octo/tasks/`.
    tasks: PathBuf,
}

impl<P> std::fmt::Debug for Executors<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executors").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl<P> Executors<P> {
    /// Joins the two; `tasks` is the folder of the tasks' files.
    pub fn new(process: P, agents: Arc<dyn Agents>, tasks: PathBuf) -> Self {
        Executors { process, agents, tasks }
    }
}

impl<P: Executor> Executor for Executors<P> {
    fn look(&mut self, task: &Task) -> io::Result<Look> {
        self.process.look(task)
    }

    fn launch(&mut self, task: &Task) -> Result<(), LaunchError> {
        match task.kind {
            Kind::Process => self.process.launch(task),
            Kind::Agent => {
                if let Err(error) = run::unfold_agent(&self.tasks, task.id, task.run) {
                    tracing::warn!(id = %task.id, %error, "the transcript of an agent begins anew");
                }
                self.agents.launch(task);
                Ok(())
            }
        }
    }

    fn void(&mut self, id: TaskId, run: u32) -> io::Result<bool> {
        self.process.void(id, run)
    }

    fn adopt(&mut self, id: TaskId, run: u32, claim: &Claim) {
        self.process.adopt(id, run, claim);
    }

    fn stop(&mut self, id: TaskId, run: u32, claim: &Claim) {
        self.process.stop(id, run, claim);
    }

    fn stop_agent(&mut self, id: TaskId, run: u32) {
        self.agents.stop(id, run);
    }

    fn kill(&mut self, id: TaskId, run: u32, claim: &Claim) {
        self.process.kill(id, run, claim);
    }

    fn end_left(&mut self, id: TaskId, run: u32, claim: Option<Claim>) {
        self.process.end_left(id, run, claim);
    }

    fn tell_saved(&mut self, id: TaskId) {
        self.process.tell_saved(id);
    }

    fn wants_folders(&self) -> bool {
        self.process.wants_folders()
    }

    fn fold(&mut self, task: &Task) -> io::Result<bool> {
        match task.kind {
            Kind::Process => self.process.fold(task),
            Kind::Agent => Ok(run::fold_agent(&self.tasks, task.id)? == Folded::Done),
        }
    }

    /// The output of an agent is its transcript, which is kept anyway: `result` is its summary.
    fn preserve(&mut self, task: &Task) -> io::Result<()> {
        match task.kind {
            Kind::Process => self.process.preserve(task),
            Kind::Agent => Ok(()),
        }
    }

    fn remove_files(&mut self, id: TaskId) -> io::Result<bool> {
        self.process.remove_files(id)
    }
}
