//! Runs that never were: an executor whose shims are entries in a map.
//!
//! The map plays the world outside the daemon: it outlives an engine, so that a test can let one die and
//! boot another on what is left. Every start of a command is counted.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::exec::{Executor, LaunchError, Look, Report};
use crate::run::{Claim, ClaimFact, Exit, ExitFact, ExitReason, Facts, LockFact, ProcId};
use crate::task::{Stamp, Task, TaskId, Usage};

/// Where a pretended run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// A shim holds the lock and has not claimed yet.
    Starting,
    /// The daemon won the claim.
    Void,
    /// The command runs.
    Running,
    /// It ended, and the shim is gone.
    Ended(Exit),
    /// The shim was killed.
    Killed,
    /// Its folder was folded away.
    Folded,
}

#[derive(Debug, Default)]
struct World {
    runs: BTreeMap<(TaskId, u32), RunState>,
    started: BTreeMap<(TaskId, u32), u32>,
    swept: Vec<(TaskId, u32)>,
    removed: Vec<TaskId>,
    stops: Vec<(TaskId, u32)>,
    kills: Vec<(TaskId, u32)>,
    told: Vec<TaskId>,
    failures: Vec<LaunchError>,
    slow: bool,
    used: BTreeMap<(TaskId, u32), Usage>,
    held: bool,
    blind: u32,
}

/// The pretended executor; clones share one world.
#[derive(Debug, Clone, Default)]
pub struct FakeRuns {
    world: Arc<Mutex<World>>,
}

impl FakeRuns {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on launched shims do not claim until [`FakeRuns::claim`].
    pub fn slow(&self, slow: bool) {
        self.world().slow = slow;
    }

    /// From now on ended shims hold their locks, so that nothing can be folded away, or let go of them.
    pub fn hold(&self, held: bool) {
        self.world().held = held;
    }

    /// The next `n` looks fail.
    pub fn fail_looks(&self, n: u32) {
        self.world().blind = n;
    }

    /// The next launches fail so, the last one given first.
    pub fn fail_launches(&self, errors: Vec<LaunchError>) {
        self.world().failures = errors;
    }

    /// A starting shim claims its run, if it still can; the command starts then.
    pub fn claim(&self, id: TaskId, run: u32) -> bool {
        let mut world = self.world();
        let state = world.runs.get_mut(&(id, run));
        let Some(state @ RunState::Starting) = state else { return false };
        *state = RunState::Running;
        *world.started.entry((id, run)).or_default() += 1;
        true
    }

    /// The command ends by itself.
    pub fn finish(&self, id: TaskId, run: u32, code: i32) {
        self.end(id, run, exit(Some(code), None, None));
    }

    /// The command says in the end that it used so many tokens, as claude does.
    pub fn says_it_used(&self, id: TaskId, run: u32, input: u64, output: u64) {
        let usage = Usage { input_tokens: input, output_tokens: output, turns: 1, ..Usage::default() };
        self.world().used.insert((id, run), usage);
    }

    /// The shim obeys a stop.
    pub fn obey(&self, id: TaskId, run: u32) {
        self.end(id, run, exit(None, Some(15), Some(ExitReason::Stop)));
    }

    fn end(&self, id: TaskId, run: u32, exit: Exit) {
        if let Some(state @ RunState::Running) = self.world().runs.get_mut(&(id, run)) {
            *state = RunState::Ended(exit);
        }
    }

    /// The shim is killed from outside.
    pub fn kill_shim(&self, id: TaskId, run: u32) {
        if let Some(state @ (RunState::Running | RunState::Starting)) = self.world().runs.get_mut(&(id, run)) {
            *state = RunState::Killed;
        }
    }

    /// The state of a run; `None` when it was never launched.
    #[must_use]
    pub fn state(&self, id: TaskId, run: u32) -> Option<RunState> {
        self.world().runs.get(&(id, run)).cloned()
    }

    /// Runs whose command runs now.
    #[must_use]
    pub fn running(&self) -> Vec<(TaskId, u32)> {
        self.world().runs.iter().filter(|(_, s)| **s == RunState::Running).map(|(k, _)| *k).collect()
    }

    /// How often the command of a run was started.
    #[must_use]
    pub fn started(&self, id: TaskId, run: u32) -> u32 {
        self.world().started.get(&(id, run)).copied().unwrap_or(0)
    }

    /// How often a command was started in all, by run.
    #[must_use]
    pub fn all_started(&self) -> BTreeMap<(TaskId, u32), u32> {
        self.world().started.clone()
    }

    /// The stops that were sent.
    #[must_use]
    pub fn stops(&self) -> Vec<(TaskId, u32)> {
        self.world().stops.clone()
    }

    /// The shims that were killed by the daemon.
    #[must_use]
    pub fn kills(&self) -> Vec<(TaskId, u32)> {
        self.world().kills.clone()
    }

    /// The dead runs whose leftovers the daemon asked to end, since the last call.
    #[must_use]
    pub fn take_swept(&self) -> Vec<(TaskId, u32)> {
        std::mem::take(&mut self.world().swept)
    }

    /// The tasks whose shims were told that the end is saved.
    #[must_use]
    pub fn told(&self) -> Vec<TaskId> {
        self.world().told.clone()
    }

    /// The removed tasks whose files were deleted.
    #[must_use]
    pub fn removed(&self) -> Vec<TaskId> {
        self.world().removed.clone()
    }
}

fn exit(code: Option<i32>, signal: Option<i32>, reason: Option<ExitReason>) -> Exit {
    Exit { code, signal, reason, error: None, at: Stamp::default(), log_bytes: 0 }
}

/// The claim of every pretended run.
fn claim() -> Claim {
    let nobody = ProcId { pid: 0, start: 0 };
    Claim { shim: nobody, child: nobody, boot_id: "pretended".into(), at: Stamp::from_millis(1), version: "0".into() }
}

fn facts(state: Option<&RunState>) -> Facts {
    let (folder, lock, claim, exit) = match state {
        None | Some(RunState::Folded) => (false, LockFact::Free, ClaimFact::None, ExitFact::None),
        Some(RunState::Starting) => (true, LockFact::Held, ClaimFact::None, ExitFact::None),
        Some(RunState::Void) => (true, LockFact::Free, ClaimFact::Void, ExitFact::None),
        Some(RunState::Running) => (true, LockFact::Held, ClaimFact::Real(claim()), ExitFact::None),
        Some(RunState::Ended(exit)) => (true, LockFact::Free, ClaimFact::Real(claim()), ExitFact::Ended(exit.clone())),
        Some(RunState::Killed) => (true, LockFact::Free, ClaimFact::Real(claim()), ExitFact::None),
    };
    Facts { folder, lock, claim, exit }
}

impl Executor for FakeRuns {
    fn look(&mut self, task: &Task) -> io::Result<Look> {
        let mut world = self.world();
        if world.blind > 0 {
            world.blind -= 1;
            return Err(io::ErrorKind::Other.into());
        }
        let facts = facts(world.runs.get(&(task.id, task.run)));
        let result = if matches!(facts.exit, ExitFact::Ended(_)) { format!("run {}", task.run) } else { String::new() };
        let usage = world.used.get(&(task.id, task.run)).filter(|_| !result.is_empty()).cloned();
        Ok(Look { facts, report: Report { result, usage, ..Report::default() } })
    }

    fn launch(&mut self, task: &Task) -> Result<(), LaunchError> {
        let mut world = self.world();
        if let Some(error) = world.failures.pop() {
            return Err(error);
        }
        let slow = world.slow;
        let key = (task.id, task.run);
        if world.runs.contains_key(&key) {
            return Err(LaunchError { why: "there is a run folder".into(), passing: true });
        }
        world.runs.insert(key, RunState::Starting);
        drop(world);
        if !slow {
            self.claim(task.id, task.run);
        }
        Ok(())
    }

    fn void(&mut self, id: TaskId, run: u32) -> io::Result<bool> {
        let mut world = self.world();
        match world.runs.get_mut(&(id, run)) {
            Some(state @ RunState::Starting) => {
                *state = RunState::Void;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn adopt(&mut self, _: TaskId, _: u32, _: &Claim) {}

    fn stop(&mut self, id: TaskId, run: u32, _: &Claim) {
        self.world().stops.push((id, run));
    }

    fn stop_agent(&mut self, _: TaskId, _: u32) {}

    fn kill(&mut self, id: TaskId, run: u32, _: &Claim) {
        self.world().kills.push((id, run));
        self.kill_shim(id, run);
    }

    fn end_left(&mut self, id: TaskId, run: u32, _: Option<Claim>) {
        self.world().swept.push((id, run));
    }

    fn tell_saved(&mut self, id: TaskId) {
        self.world().told.push(id);
    }

    fn fold(&mut self, task: &Task) -> io::Result<bool> {
        let mut world = self.world();
        if world.held {
            return Ok(false);
        }
        for ((id, _), state) in &mut world.runs {
            if *id == task.id {
                *state = RunState::Folded;
            }
        }
        Ok(true)
    }

    fn preserve(&mut self, _: &Task) -> io::Result<()> {
        Ok(())
    }

    fn remove_files(&mut self, id: TaskId) -> io::Result<bool> {
        self.world().removed.push(id);
        Ok(true)
    }
}
