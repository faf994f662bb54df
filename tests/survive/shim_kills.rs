//! Shims are killed too: then nobody saw the end, which is said, and nothing runs again unasked.

use std::fmt;

use rustix::process::Signal;

use crate::common::checker::{End, Findings, Kind, Known, Plan, check};
use crate::common::world::has_ended;
use crate::common::{LONG, Rng, World, holds_within, number, pause, processes};

/// How a series of kills went.
pub(crate) struct Killed {
    kills: u64,
    interrupted: usize,
    pub(crate) findings: Findings,
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kills={} interrupted={} {}", self.kills, self.interrupted, self.findings)
    }
}

/// Kills the shim of each of `tasks` tasks, at random moments of its life.
pub(crate) fn run(tasks: u64, seed: u64, broken: &str) -> Killed {
    let mut world = World::new();
    world.set("OCTO_BREAK", broken);
    world.start();
    let (mut rng, mut history) = (Rng::new(seed), Vec::new());
    let mut killed = Killed { kills: 0, interrupted: 0, findings: Findings::default() };
    for n in 0..tasks {
        let end = if rng.percent(50) { End::Never } else { End::Code(rng.pick(&[0, 7])) };
        let plan = Plan { millis: rng.below(50), leaves: rng.percent(30), ..Plan::new(format!("shim-{n}"), end) };
        let mut known = Known::new(plan);
        let id = world.bg_with(known.plan.request(&world, &[]));
        killed.kills += kill_shims_until_end(&world, &id, &mut rng, &mut killed.findings);
        let record = world.record(&id);
        if record["status"] == "interrupted" {
            killed.interrupted += 1;
            for pid in processes::with_variable("OCTO_TASK_ID", id.as_bytes()) {
                killed.findings.add(Kind::LeftOver, processes::describe(pid));
            }
        }
        known.id = Some(id);
        history.push(known);
    }
    check(&world, &mut history, true, &mut killed.findings);
    // What is broken on purpose leaves things behind for ever.
    if broken.is_empty() {
        let left = [world.left_over(), world.left_files()].concat();
        left.into_iter().for_each(|what| killed.findings.add(Kind::LeftOver, what));
    }
    killed
}

/// Kills the task's shim, and that of the next run if the first had not begun; how many it killed.
fn kill_shims_until_end(world: &World, id: &str, rng: &mut Rng, findings: &mut Findings) -> u64 {
    let mut kills = 0;
    let ended = holds_within(LONG, || {
        // A record that is gone would be an end that nobody can be told of; the check says so.
        if has_ended(&world.record(id)) {
            return true;
        }
        if let Some(shim) = processes::shim_of(world.root(), id) {
            pause(rng.up_to(30));
            let still = || processes::is_shim(shim, world.root());
            kills += u64::from(processes::signal_if(shim, Signal::KILL, still));
        }
        false
    });
    if !ended {
        findings.add(Kind::Lost, format!("task {id} does not end after {kills} kills: {}", world.record(id)));
    }
    kills
}

/// `OCTO_SHIM_KILLS` tasks (default 30), each with its shim killed.
#[test]
fn a_killed_shim_is_an_interruption_and_never_a_success() {
    let tasks = number("OCTO_SHIM_KILLS", 30);
    let killed = run(tasks, number("OCTO_SOAK_SEED", 1), "");
    println!("shim kills: tasks={tasks} {killed}");
    killed.findings.assert_none();
    assert!(killed.interrupted > 0, "no kill met a running command: {killed}");
}
