//! What comes out of a task: its output, its end, its lines as they are written.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::fake::{STAMPER, clock};
use crate::world::{Place, World};
use crate::yard::{Spooler, durable_write, median, run};
use crate::{Row, ms};

const GIB: &str = "head -c 1G /dev/zero";

/// A task that writes 1 GiB.
pub(crate) fn output() -> Result<Vec<Row>> {
    let world = World::new("output", 3)?;
    let place = Place::new("output-file")?;
    let (mut ours, mut plain) = (vec![], vec![]);
    for _ in 0..5 {
        let file = place.path().join("out");
        plain.push(run(Path::new("/bin/sh"), &["-c", &format!("{GIB} > {}", file.display())])?);
        fs::remove_file(file)?;
        let began = Instant::now();
        world.time(&["bg", "--wait", GIB])?;
        ours.push(began.elapsed());
        world.settle()?;
        for entry in fs::read_dir(world.tasks())?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".log") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    let (ours, plain) = (median(&mut ours), median(&mut plain));
    let rate = |time: Duration| 1024.0 / time.as_secs_f64();
    let beside = format!("cmd > file {:.0} MiB/s", rate(plain));
    let limit = 0.85 * rate(plain);
    Ok(vec![Row::at_least("1 GiB of output", rate(ours), "MiB/s", beside, limit, ">= 0.85 x cmd > file")])
}

const WAITS: usize = 30;

/// From a command's end until whoever waits for its task is told.
pub(crate) fn wait() -> Result<Vec<Row>> {
    let world = World::new("wait", 3)?;
    let place = Place::new("wait-write")?;
    let spooler = Spooler::start(3)?;
    let (mut ours, mut theirs, mut write) = (vec![], vec![], vec![]);
    for round in 0..WAITS {
        write.push(durable_write(place.path(), &format!("r{round}"))?);
        let gate = Gate::new(&world, round)?;
        let id = world.says(&["bg", &gate.command()])?;
        ours.push(gate.open(&mut world.octo(&["task", &id, "wait"]))?);
        world.settle()?;
        if let Some(spooler) = &spooler {
            // Without a terminal it tells no id; `-w` alone waits for the newest.
            spooler.says(&["-n", "sh", "-c", &gate.command()])?;
            theirs.push(gate.open(&mut spooler.tsp(&["-w"]))?);
        }
    }
    let (ours, write) = (median(&mut ours), median(&mut write));
    if theirs.is_empty() {
        let beside = format!("tsp is not installed; durable write {}", ms(write));
        return Ok(vec![Row::figure("end to wait's return", ms(ours), beside, "< tsp -w + one durable write")]);
    }
    let theirs = median(&mut theirs);
    let beside = format!("tsp -w {} + durable write {}", ms(theirs), ms(write));
    Ok(vec![Row::at_most("end to wait's return", ours, beside, theirs + write, "< tsp -w + one durable write")])
}

/// A FIFO at which a command waits for its end.
struct Gate(std::path::PathBuf);

impl Gate {
    fn new(world: &World, round: usize) -> Result<Gate> {
        let path = world.file(&format!("gate{round}"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )?;
        Ok(Gate(path))
    }

    /// What ends as soon as the gate opens.
    fn command(&self) -> String {
        format!("read x < {}", self.0.display()) + " || :"
    }

    /// Lets `waiter` begin to wait, ends the command, and tells how long the waiter took to return.
    fn open(&self, waiter: &mut Command) -> Result<Duration> {
        // Returns when the command has opened the other end.
        let gate = OpenOptions::new().write(true).open(&self.0)?;
        let mut waiter = waiter.spawn()?;
        // Long enough for any client to have begun to wait; that cannot be seen from outside.
        std::thread::sleep(Duration::from_millis(60));
        let began = Instant::now();
        drop(gate);
        waiter.wait()?;
        Ok(began.elapsed())
    }
}

const LINES: usize = 200;

/// From a task's write of a line until a reader of its log has it.
pub(crate) fn follow() -> Result<Vec<Row>> {
    let world = World::new("follow", 3)?;
    let me = std::env::current_exe()?;
    let line = format!("{} {STAMPER} {LINES}", me.display());
    let (mut ours, mut piped) = (vec![], vec![]);
    for _ in 0..3 {
        let mut pipe = Command::new("/bin/sh");
        pipe.args(["-c", &format!("{line} | cat")]);
        piped.extend(delays(&mut pipe)?);
        // It must not begin before it is followed: the first lines would all come at once.
        let id = world.says(&["bg", &format!("sleep 0.3; {line}")])?;
        ours.extend(delays(&mut world.octo(&["task", &id, "logs", "-f"]))?);
    }
    let (ours, piped) = (median(&mut ours), median(&mut piped));
    let beside = format!("through a pipe and cat {}", ms(piped));
    Ok(vec![Row::at_most("follow a line", ours, beside, 2 * piped, "<= 2 x a bare pipe")])
}

fn delays(reader: &mut Command) -> Result<Vec<Duration>> {
    let mut child = reader.stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().context("no stdout")?;
    let mut delays = Vec::with_capacity(LINES);
    for line in BufReader::new(out).lines() {
        let line = line?;
        let now = clock();
        let written: u64 = line.trim().parse().with_context(|| format!("no stamp: {line}"))?;
        delays.push(Duration::from_nanos(now.saturating_sub(written)));
    }
    child.wait()?;
    anyhow::ensure!(delays.len() == LINES, "{} of {LINES} lines came", delays.len());
    Ok(delays)
}
