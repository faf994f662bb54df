//! A daemon that has nothing to do, and one that comes back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::world::World;
use crate::yard::{cli_start, median};
use crate::{Row, ms};

const TASKS: usize = 100;
const WATCHED: Duration = Duration::from_secs(60);

/// 100 tasks that sleep, watched for a minute.
pub(crate) fn idle() -> Result<Vec<Row>> {
    let world = World::new("idle", TASKS)?;
    let file = world.file("batch");
    fs::write(&file, "exec sleep 1000\n".repeat(TASKS))?;
    world.time(&["bg", "--batch", &file.to_string_lossy()])?;
    let daemon = world.daemon()?;
    world.until("100 tasks to run", || Ok(shims(&world)?.len() == TASKS && all_claimed(&world)?))?;
    // What is put off after a start (the lazy saves, the sweep for damaged records) is over by then.
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu(daemon)?;
    std::thread::sleep(WATCHED);
    let spent = cpu(daemon)?.saturating_sub(before).mul_f64(60.0 / WATCHED.as_secs_f64());
    let mut private = Vec::new();
    for shim in shims(&world)? {
        private.push(kib(shim, "Private_Clean")? + kib(shim, "Private_Dirty")?);
    }
    private.sort_unstable();
    let largest = private.last().copied().context("no shims")?;
    let mib = kib(daemon, "Pss")? as f64 / 1024.0;
    Ok(vec![
        Row::below("idle: CPU a minute", spent.as_secs_f64() * 1e3, "ms", 2.0),
        Row::below("idle: daemon PSS", mib, "MiB", 25.0),
        Row::below("idle: largest shim, private", largest as f64, "KiB", 300.0),
    ])
}

fn all_claimed(world: &World) -> Result<bool> {
    let claims = fs::read_dir(world.tasks())?.flatten().filter(|e| e.path().join("run-1/claim.json").exists());
    Ok(claims.count() == TASKS)
}

/// CPU time of all threads, exact to the nanosecond.
pub(crate) fn cpu(pid: i32) -> Result<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat"))?;
        total += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).context("no schedstat")?;
    }
    Ok(Duration::from_nanos(total))
}

/// A figure of `smaps_rollup`, in KiB.
pub(crate) fn kib(pid: i32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|l| l.starts_with(&format!("{name}:"))).context("no such figure")?;
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).context("no number")
}

/// The workspace's shims: `octo-shim RUNDIR ...`. A child that was just forked does not count.
fn shims(world: &World) -> Result<Vec<i32>> {
    let tasks = world.tasks();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let run = line.split(|b| *b == 0).nth(1).unwrap_or_default();
        let parent = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<i32>().ok()
        };
        if Path::new(OsStr::from_bytes(run)).starts_with(&tasks) {
            found.push((pid, parent()));
        }
    }
    let is_shim = |(_, parent): &&(i32, Option<i32>)| !found.iter().any(|(pid, _)| Some(*pid) == *parent);
    Ok(found.iter().filter(is_shim).map(|(pid, _)| *pid).collect())
}

/// A daemon that was killed, until its successor is ready.
pub(crate) fn ready_again() -> Result<Vec<Row>> {
    let world = World::new("ready", 3)?;
    for _ in 0..3 {
        world.says(&["bg", "exec sleep 1000"])?;
    }
    let (mut ours, mut cli) = (vec![], vec![]);
    for _ in 0..15 {
        cli.push(cli_start()?);
        let pid = rustix::process::Pid::from_raw(world.daemon()?).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        world.until("the daemon to be gone", || Ok(rustix::process::test_kill_process(pid).is_err()))?;
        ours.push(world.start()?);
    }
    let cli = median(&mut cli);
    let beside = format!("CLI start {}", ms(cli));
    Ok(vec![Row::at_most("ready after kill -9", median(&mut ours), beside, 20 * cli, "<= 20 x CLI start")])
}
