//! Agents: what Octo adds to a step of theirs, and what many of them cost.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::Stdio;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use expectrl::{Expect, Session};
use serde_json::json;

use crate::idle::{cpu, kib};
use crate::model::{Manner, Model, Seen};
use crate::world::{Place, World};
use crate::yard::{cli_start, median, share};
use crate::{Row, ms};

/// A world whose agents ask this model.
fn world(name: &str, slots: usize, model: &Model) -> Result<World> {
    let mut world = World::empty(name, slots)?;
    world.set("OPENAI_BASE_URL", &model.url);
    world.set("OPENAI_API_KEY", "key-of-a-bench");
    world.set("NO_PROXY", "127.0.0.1");
    world.set("OCTO_GLOBAL_BUDGET", "1000000000");
    fs::write(world.root().join("notes.txt"), "the sea is wide\n")?;
    world.start()?;
    Ok(world)
}

/// Turns of the agent whose steps are measured.
const STEPS: usize = 200;

/// About as long as a line of an agent's journal.
const LINE: usize = 300;

/// What the machine itself needs to add a line durably to a file.
fn durable_append(seen: &Seen) {
    static FILE: OnceLock<Option<Mutex<(Place, File)>>> = OnceLock::new();
    let open = || {
        let place = Place::new("step-append").ok()?;
        let file = OpenOptions::new().append(true).create(true).open(place.path().join("lines")).ok()?;
        Some(Mutex::new((place, file)))
    };
    let Some(file) = FILE.get_or_init(open) else { return };
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let began = Instant::now();
    let mut line = vec![b'x'; LINE];
    line[LINE - 1] = b'\n';
    if file.1.write_all(&line).and_then(|()| file.1.sync_data()).is_ok() {
        seen.note(began.elapsed());
    }
}

/// From a model's reply until it is asked again, with the run of a tool that reads between.
pub(crate) fn step() -> Result<Vec<Row>> {
    let manner = Manner { turns: STEPS, pieces: 3, pause: Duration::ZERO, meanwhile: durable_append };
    let model = Model::start(manner)?;
    let world = world("step", 3, &model)?;
    let daemon = world.daemon()?;
    let before = cpu(daemon)?;
    let words = ["agent", "--model", "openai/bench", "--max-turns", "1000", "--budget-tokens", "1000000000"];
    let id = world.says(&[&words[..], &["Read the notes again and again."]].concat())?;
    world.says(&["task", &id, "wait"])?;
    let spent = cpu(daemon)?.saturating_sub(before);
    let journal = fs::read_to_string(world.tasks().join(&id).join("journal.jsonl"))?;
    let lines = journal.lines().filter(|line| !line.contains("\"type\":\"began\""));
    let (count, bytes) = lines.fold((0, 0), |(count, bytes), line| (count + 1, bytes + line.len() + 1));
    let (mut gaps, mut append) = (model.seen.gaps(), model.seen.noted());
    anyhow::ensure!(gaps.len() == STEPS, "{} of {STEPS} steps were seen", gaps.len());
    let steps = u32::try_from(STEPS)?;
    let (last, p95) = (gaps.clone(), share(&mut gaps, 0.95));
    let beside = format!(
        "durable append {}; {:.1} lines of {} B, CPU {} a step",
        ms(median(&mut append)),
        f64::from(count) / f64::from(steps),
        bytes / usize::try_from(count)?,
        ms(spent / steps),
    );
    let limit = Duration::from_millis(3);
    let more = format!(
        "the first {} of them {}, the last {}",
        STEPS / 4,
        ms(median(&mut last[..STEPS / 4].to_vec())),
        ms(median(&mut last[STEPS - STEPS / 4..].to_vec()))
    );
    Ok(vec![
        Row::at_most("a step of an agent", median(&mut gaps), beside, limit, "<= 3 ms, median"),
        Row::figure("a step of an agent, p95", ms(p95), more, "a figure"),
    ])
}

/// Agents at once.
const MANY: usize = 50;

/// How often a list is asked for at least, while they work.
const LOOKS: usize = 30;

/// 50 agents whose models are slow.
pub(crate) fn agents() -> Result<Vec<Row>> {
    let pause = Duration::from_millis(100);
    let model = Model::start(Manner { turns: 4, pieces: 20, pause, meanwhile: |_| {} })?;
    let world = world("agents", MANY, &model)?;
    let daemon = world.daemon()?;
    let empty = rss(daemon, "VmRSS")?;
    let mut repl = Repl::open(&world)?;
    let one = json!({ "type": "agent", "task": "Read the notes again and again.", "model": "openai/bench" });
    world.post("/background-agents/start", &json!(vec![one; MANY]).to_string())?;
    world.until("all agents to run", || world.count("running").map(|n| n == MANY))?;
    let (mut lists, mut typed, mut cli, mut pss) = (vec![], vec![], vec![], 0);
    while world.completed()? == 0 {
        lists.push(world.time(&["tasks"])?);
        cli.push(cli_start()?);
        typed.push(repl.tasks()?);
        pss = pss.max(kib(daemon, "Pss")?);
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::ensure!(lists.len() >= LOOKS, "they ended after {} looks", lists.len());
    world.until("all agents to be done", || world.completed().map(|n| n == MANY))?;
    let peak = rss(daemon, "VmHWM")?;
    let beside = format!("before them {empty:.1} MiB; PSS at most {:.1} MiB", pss as f64 / 1024.0);
    let looks = format!("median {}, of {} looks; CLI start p95 ", ms(median(&mut lists)), lists.len());
    let limit = Duration::from_millis(50);
    let cli = ms(share(&mut cli, 0.95));
    let of_typed = format!("median {}", ms(median(&mut typed)));
    Ok(vec![
        Row { yardstick: beside, ..Row::below("50 agents: daemon's peak RSS", peak, "MiB", 120.0) },
        Row::at_most("50 agents: octo tasks", share(&mut lists, 0.95), looks + &cli, limit, "<= 50 ms, p95"),
        Row::at_most("50 agents: REPL /tasks", share(&mut typed, 0.95), of_typed, limit, "<= 50 ms, p95"),
    ])
}

/// A figure of a process's status, in MiB.
fn rss(pid: i32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}:"))).context("no such figure")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// The REPL, in a terminal.
struct Repl(expectrl::session::OsSession);

impl Repl {
    fn open(world: &World) -> Result<Repl> {
        let mut command = world.octo(&[]);
        // The terminal is put in their place.
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).env("TERM", "xterm");
        let mut repl = Session::spawn(command)?;
        repl.set_expect_timeout(Some(Duration::from_secs(20)));
        repl.expect("octo> ")?;
        Ok(Repl(repl))
    }

    /// From Enter after `/tasks` until the list is there and the prompt is back.
    fn tasks(&mut self) -> Result<Duration> {
        // The prompt is drawn again for what is typed: what was read before is not what is waited for.
        self.0.send("/tasks")?;
        self.0.expect("/tasks")?;
        let began = Instant::now();
        self.0.send("\r")?;
        self.0.expect("▶ #")?;
        self.0.expect("more active")?;
        self.0.expect("octo> ")?;
        Ok(began.elapsed())
    }
}
