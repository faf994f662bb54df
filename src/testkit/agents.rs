//! Agents that never were: drivers that are entries in a map, and journals of which only what was used is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::exec::agent::{AgentReport, Agents, Report};
use crate::task::{Task, TaskId, Usage};

#[derive(Debug, Default)]
struct World {
    driven: BTreeMap<TaskId, u32>,
    launches: Vec<(TaskId, u32)>,
    stops: Vec<(TaskId, u32)>,
    stopped: Vec<(TaskId, u32)>,
    used: BTreeMap<TaskId, Usage>,
    deaf: bool,
}

/// The pretended agents; clones share one world. What was used survives a death, as journals do.
#[derive(Debug, Clone, Default)]
pub struct FakeAgents {
    world: Arc<Mutex<World>>,
}

impl FakeAgents {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon dies, and with it all drivers.
    pub fn die(&self) {
        let mut world = self.world();
        world.driven.clear();
        world.stopped.clear();
    }

    /// From now on stops are not heard, or are heard again.
    pub fn deaf(&self, deaf: bool) {
        self.world().deaf = deaf;
    }

    /// The agents that have a driver now, and in which run.
    #[must_use]
    pub fn driven(&self) -> Vec<(TaskId, u32)> {
        self.world().driven.iter().map(|(id, run)| (*id, *run)).collect()
    }

    /// The launches of drivers, in order.
    #[must_use]
    pub fn launches(&self) -> Vec<(TaskId, u32)> {
        self.world().launches.clone()
    }

    /// The stops, in order.
    #[must_use]
    pub fn stops(&self) -> Vec<(TaskId, u32)> {
        self.world().stops.clone()
    }

    /// The drivers that were stopped and have not said so yet.
    #[must_use]
    pub fn take_stopped(&self) -> Vec<(TaskId, u32)> {
        std::mem::take(&mut self.world().stopped)
    }

    /// An agent uses so much more: input and output tokens, dollars, one turn.
    pub fn uses(&self, id: TaskId, input: u64, output: u64, usd: Option<f64>) {
        let mut world = self.world();
        let used = world.used.entry(id).or_default();
        used.input_tokens += input;
        used.output_tokens += output;
        used.turns += 1;
        used.cost_usd = usd.map(|usd| usd + used.cost_usd.unwrap_or(0.0)).or(used.cost_usd);
    }

    /// The agent begins a journal of its own anew.
    pub fn begins_anew(&self, id: TaskId) {
        self.world().used.remove(&id);
    }

    /// The report of an agent; its driver leaves, unless it works on.
    #[must_use]
    pub fn report(&self, id: TaskId, run: u32, what: Report) -> AgentReport {
        let mut world = self.world();
        if what != Report::Working {
            world.driven.remove(&id);
        }
        let usage = world.used.get(&id).cloned().unwrap_or_default();
        AgentReport { id, run, usage, what }
    }
}

impl Agents for FakeAgents {
    fn launch(&self, task: &Task) {
        let mut world = self.world();
        if world.driven.insert(task.id, task.run) != Some(task.run) {
            world.launches.push((task.id, task.run));
        }
    }

    fn stop(&self, id: TaskId, run: u32) {
        let mut world = self.world();
        world.stops.push((id, run));
        if !world.deaf {
            world.driven.remove(&id);
            world.stopped.push((id, run));
        }
    }
}
