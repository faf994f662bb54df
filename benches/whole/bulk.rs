//! 2,000 tasks that do nothing, eight at a time.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Row;
use crate::world::World;
use crate::yard::{Spooler, durable_writes_a_second, spawns_a_second};

const TASKS: usize = 2000;
const SLOTS: usize = 8;
const ROUNDS: usize = 3;

pub(crate) fn bulk() -> Result<Vec<Row>> {
    let (mut ours, mut spawns, mut writes, mut theirs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        spawns.push(spawns_a_second()?);
        writes.push(durable_writes_a_second()?);
        theirs.extend(spooled()?);
        ours.push(octo()?);
    }
    let (ours, spawns, writes) = (middle(&mut ours), middle(&mut spawns), middle(&mut writes));
    let beside = format!("{spawns:.0} spawns/s / 2, {writes:.0} durable writes/s / 4");
    let limit = 0.5 * (spawns / 2.0).min(writes / 4.0);
    let mut rows =
        vec![Row::at_least("bulk by the machine", ours, "tasks/s", beside, limit, ">= 0.5 x the lower limit")];
    rows.push(if theirs.is_empty() {
        Row::figure("bulk by task-spooler", format!("{ours:.0} tasks/s"), "tsp is not installed".to_owned(), "faster")
    } else {
        let theirs = middle(&mut theirs);
        let beside = format!("task-spooler {theirs:.0} tasks/s");
        Row::at_least("bulk by task-spooler", ours, "tasks/s", beside, theirs, "faster")
    });
    Ok(rows)
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// One batch: from before the command until every task has ended.
fn octo() -> Result<f64> {
    let world = World::new("bulk", SLOTS)?;
    let file = world.file("batch");
    std::fs::write(&file, "true\n".repeat(TASKS))?;
    let began = Instant::now();
    world.time(&["bg", "--batch", &file.to_string_lossy()])?;
    world.until("2,000 tasks to end", || {
        // A look costs the daemon a moment; this is fine enough for what takes seconds.
        std::thread::sleep(Duration::from_millis(25));
        Ok(world.completed()? >= TASKS)
    })?;
    let took = began.elapsed();
    world.settle()?;
    Ok(TASKS as f64 / took.as_secs_f64())
}

/// The same with task-spooler, which takes one task per command.
fn spooled() -> Result<Option<f64>> {
    let Some(spooler) = Spooler::start(SLOTS)? else { return Ok(None) };
    let began = Instant::now();
    for _ in 0..TASKS {
        spooler.tsp(&["-n", "true"]).stderr(Stdio::null()).status()?;
    }
    while spooler.finished()? < TASKS {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Some(TASKS as f64 / began.elapsed().as_secs_f64()))
}
