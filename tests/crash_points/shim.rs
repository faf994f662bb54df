//! The shim's points: whatever it was about to do, its task is never lost, never run twice, never a success
//! that nobody saw, and its command does not stay behind.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::json;

use super::strace::{CALLS, Point, Tracer, inject, points};
use super::{spread, wanted};
use crate::common::checker::{End, Findings, Kind, Known, Plan, check};
use crate::common::world::has_ended;
use crate::common::{World, processes, wait_until};

/// Starts a task whose shim stops before it does anything; its id and the shim's process.
fn start_held(world: &World, known: &mut Known) -> (String, i32) {
    let mut request = known.plan.request(world, &[]);
    request["env_overrides"] = json!({ "OCTO_SHIM_HOLD": "before_lock" });
    let id = world.bg_with(request);
    known.id = Some(id.clone());
    let held = || processes::shim_of(world.root(), &id).filter(|pid| processes::stopped(*pid));
    wait_until("the shim to hold", || held().is_some());
    (id.clone(), held().expect("it holds"))
}

/// Lets the held shim go under strace; its end, and whether strace killed it.
fn play(world: &World, id: &str, shim: i32, words: &[String]) -> (bool, String) {
    let tracer = Tracer::attach(shim, &world.beside("trace"), words);
    processes::signal(shim, Signal::CONT);
    // A shim that died before its claim has a successor, which holds as well.
    wait_until("the task's end", || {
        if let Some(next) = processes::shim_of(world.root(), id).filter(|pid| *pid != shim) {
            processes::signal_if(next, Signal::CONT, || processes::is_shim(next, world.root()));
        }
        has_ended(&world.record(id))
    });
    wait_until("the first shim's end", || !processes::alive(shim));
    let trace = tracer.trace();
    (trace.contains("killed by SIGKILL"), trace)
}

#[test]
fn a_shim_killed_before_any_of_its_calls_is_never_a_success_and_never_runs_twice() {
    let mut world = World::new();
    world.start();
    let plan = |key: String| Plan { leaves: true, millis: 5, ..Plan::new(key, End::Code(7)) };
    let mut history = vec![Known::new(plan("profile".into()))];
    let (id, shim) = start_held(&world, &mut history[0]);
    let (_, trace) = play(&world, &id, shim, &["-e".into(), format!("trace={CALLS}")]);
    let all = points(&trace, |_| true);
    assert!(all.len() > 40, "a shim has more calls than {all:?}");
    let (mut reached, mut ends) = (0, BTreeMap::<String, usize>::new());
    let chosen: Vec<Point> = spread(&all, wanted());
    let mut findings = Findings::default();
    for point in &chosen {
        let mut known = Known::new(plan(format!("shim-{point}")));
        let (id, shim) = start_held(&world, &mut known);
        let (killed, _) = play(&world, &id, shim, &inject(point));
        reached += usize::from(killed);
        let record = world.record(&id);
        let status = record["status"].as_str().unwrap().to_owned();
        if status == "interrupted" {
            for pid in processes::with_variable("OCTO_TASK_ID", id.as_bytes()) {
                findings.add(Kind::LeftOver, format!("{point}: {}", processes::describe(pid)));
            }
        }
        *ends.entry(format!("{status} in run {}", record["run"])).or_default() += 1;
        history.push(known);
    }
    check(&world, &mut history, true, &mut findings);
    let left = [world.left_over(), world.left_files()].concat();
    left.into_iter().for_each(|what| findings.add(Kind::LeftOver, what));
    println!(
        "crash points, shim: {} in all, tried={} reached={reached} ends={ends:?} {findings}",
        all.len(),
        chosen.len()
    );
    findings.assert_none();
    assert!(reached * 10 >= chosen.len() * 6, "too few points were reached: {reached} of {}", chosen.len());
}
