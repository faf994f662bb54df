//! A workspace with 100,000 tasks that have ended.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use octo::store::{Summary, parse_record};
use octo::task::{Stamp, Task, TaskId};

use crate::idle::kib;
use crate::world::World;
use crate::yard::{cli_start, median};
use crate::{Row, ms};

const TASKS: u64 = 100_000;
const ROUNDS: usize = 5;

pub(crate) fn many() -> Result<Vec<Row>> {
    let full = World::new("many", 3)?;
    generate(&full)?;
    let empty = World::new("none", 3)?;
    let cold = restart(&full)?;
    let (mut ready, mut reading) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        reading.push(read_all(&full.tasks())?);
        ready.push(restart(&full)?);
    }
    let memory = kib(full.daemon()?, "Pss")? as f64 / 1024.0;
    let (mut list, mut cli, mut submit, mut bare) = (vec![], vec![], vec![], vec![]);
    for _ in 0..40 {
        cli.push(cli_start()?);
        list.push(full.time(&["tasks"])?);
        bare.push(empty.time(&["bg", "true"])?);
        empty.settle_last()?;
        submit.push(full.time(&["bg", "true"])?);
        full.settle_last()?;
    }
    let (reading, cli, bare) = (median(&mut reading), median(&mut cli), median(&mut bare));
    let beside = format!("reading every record once {}", ms(reading));
    Ok(vec![
        Row::at_most("100k: ready", median(&mut ready), beside.clone(), reading / 2, "<= 0.5 x reading all"),
        Row::figure("100k: ready without index", ms(cold), beside, "no limit of its own"),
        Row::at_most(
            "100k: octo tasks",
            median(&mut list),
            format!("CLI start {}", ms(cli)),
            5 * cli,
            "<= 5 x CLI start",
        ),
        Row::at_most(
            "100k: submit",
            median(&mut submit),
            format!("with no tasks {}", ms(bare)),
            bare.mul_f64(1.1),
            "no slower (10 % for noise)",
        ),
        Row::below("100k: daemon PSS", memory, "MiB", 60.0),
    ])
}

impl World {
    /// Waits until the newest task is folded away, without listing 100,000 names.
    fn settle_last(&self) -> Result<()> {
        let listing: serde_json::Value = serde_json::from_str(&self.get("/background-agents?limit=1")?)?;
        let newest = listing["active"].get(0).or(listing["history"].get(0));
        let id = newest.and_then(|t| t["id"].as_str()).context("no task")?.to_owned();
        self.until("a task to be folded away", || Ok(!self.tasks().join(&id).exists()))
    }
}

/// Stops the daemon in good order; returns how long the next one takes to be ready.
fn restart(world: &World) -> Result<Duration> {
    world.says(&["stop"])?;
    world.start()
}

/// Makes 100,000 records after the model of one that the daemon wrote; there is no index of them.
fn generate(world: &World) -> Result<()> {
    let id = world.says(&["bg", "--wait", "echo one line of output"])?;
    world.settle()?;
    world.says(&["stop"])?;
    let id: TaskId = id.parse().map_err(|_| anyhow::anyhow!("no id: {id}"))?;
    let model = read(&world.tasks().join(format!("{id}.json")), id)?;
    let began = model.created_at.millis().unwrap_or_default();
    let mut known = HashSet::from([id]);
    for number in 2..=TASKS {
        // Among so many ids of 8 characters a few come twice.
        let (uuid, id) = std::iter::repeat_with(TaskId::random).find(|(_, id)| known.insert(*id)).context("no id")?;
        let mut task = Task { id, number, uuid: uuid.to_string(), key: format!("key-{number}"), ..model.clone() };
        let at = |ms: u64| Stamp::from_millis(began + i64::try_from(number * 10 + ms).unwrap_or_default());
        (task.created_at, task.started_at, task.completed_at) = (at(0), at(3), at(8));
        task.command = format!("make -C project-{number} all");
        for (step, notice) in task.notices.iter_mut().enumerate() {
            notice.seq = number + step as u64;
        }
        let mut text = serde_json::to_vec_pretty(&task)?;
        text.push(b'\n');
        fs::write(world.tasks().join(format!("{id}.json")), text)?;
    }
    // What the disk still has to write is not the daemon's to wait for.
    rustix::fs::syncfs(fs::File::open(world.tasks())?)?;
    let _ = fs::remove_file(world.octo_dir().join("index.jsonl"));
    world.start().map(drop)
}

fn read(path: &Path, id: TaskId) -> Result<Task> {
    match parse_record(id, &fs::read(path)?) {
        Ok(task) => Ok(task),
        Err(_) => bail!("{} is no record", path.display()),
    }
}

/// The yardstick: every record opened, read and parsed once, and what a list needs kept.
fn read_all(tasks: &Path) -> Result<Duration> {
    let began = Instant::now();
    let mut kept = Vec::with_capacity(100_000);
    for entry in fs::read_dir(tasks)? {
        let path = entry?.path();
        let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"));
        if let Some(id) = id.and_then(|n| n.parse().ok()) {
            kept.push(Summary::of(&read(&path, id)?));
        }
    }
    anyhow::ensure!(kept.len() as u64 >= TASKS, "{} records", kept.len());
    Ok(began.elapsed())
}
