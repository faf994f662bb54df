//! The daemon's points.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::strace::{self, CALLS, Tracer, inject, points};
use super::{spread, wanted};
use crate::common::checker::{End, Findings, Kind, Known, Plan, check};
use crate::common::world::{Daemon, has_ended};
use crate::common::{World, wait_until};

/// One series of kills in one world.
struct Series {
    world: World,
    history: Vec<Known>,
    reached: usize,
    tried: usize,
}

impl Series {
    fn new() -> Series {
        let mut world = World::new();
        world.set("BG_MAX_CONCURRENT", "4");
        Series { world, history: Vec::new(), reached: 0, tried: 0 }
    }

    /// Sends the start of a task; an answer binds the daemon.
    fn submit(&mut self, at: usize) {
        let plan = &self.history[at].plan;
        let body = plan.request(&self.world, &[]).to_string();
        let Ok(answer) = self.world.ask("POST", "/background-agents/start", &body) else { return };
        let id = answer.json()["instanceId"].as_str().map(str::to_owned);
        assert!(id.is_some(), "{}: {}", plan.key, String::from_utf8_lossy(&answer.body));
        let known = &mut self.history[at];
        assert!(known.id.is_none() || known.id == id, "{}: another task for the same key", known.plan.key);
        known.id = id;
    }

    fn add(&mut self, plan: Plan) -> usize {
        self.history.push(Known::new(plan));
        self.history.len() - 1
    }

    /// After a kill: the same key again is the same task, and it ends as it should.
    fn recover(&mut self, at: usize) {
        let mut daemon = self.world.spawn_daemon();
        assert!(daemon.ready(), "{}: {}", self.history[at].plan.key, self.world.complaints());
        self.submit(at);
        let known = &mut self.history[at];
        let id = known.id.clone().expect("a start was answered");
        if known.plan.end == End::Never {
            known.stopped = true;
            let _ = self.world.ask("POST", &format!("/background-agents/{id}/stop"), "");
        }
        self.world.end_of(&id);
        daemon.kill();
    }

    /// Compares everything, and says how it went.
    fn finish(mut self, what: &str) -> usize {
        let mut findings = Findings::default();
        self.world.start();
        check(&self.world, &mut self.history, false, &mut findings);
        let left = [self.world.left_over(), self.world.left_files()].concat();
        left.into_iter().for_each(|what| findings.add(Kind::LeftOver, what));
        println!("crash points, {what}: tried={} reached={} {findings}", self.tried, self.reached);
        findings.assert_none();
        assert!(self.reached * 10 >= self.tried * 6, "too few points were reached: {} of {}", self.reached, self.tried);
        self.reached
    }
}

/// The thread that saves, launches and judges.
fn supervisor(daemon: &Daemon) -> i32 {
    let is_it = |dir: &Path| fs::read_to_string(dir.join("comm")).is_ok_and(|name| name.trim() == "supervisor");
    let find = || {
        let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().flatten();
        threads.map(|t| t.path()).find(|dir| is_it(dir))
    };
    // A thread gives itself its name when it first runs.
    wait_until("the supervisor thread", || find().is_some());
    find().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// What one task's life puts the daemon through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// A start, a launch, an end by itself, the fold.
    End,
    /// A start, a launch, a cancel.
    Stop,
}

impl Scene {
    fn plan(self, key: String) -> Plan {
        Plan::new(key, if self == Scene::End { End::Code(7) } else { End::Never })
    }

    /// Plays it until the daemon is dead or the task's files are folded away.
    fn play(self, series: &mut Series, at: usize, daemon: &mut Daemon) {
        series.submit(at);
        if self == Scene::Stop {
            let running = |series: &Series, id: &str| {
                let answer = series.world.ask("GET", &format!("/background-agents/{id}"), "");
                answer.is_ok_and(|a| a.json()["status"] == "running")
                    && series.world.runs(&series.history[at].plan.key) > 0
            };
            if let Some(id) = series.history[at].id.clone() {
                wait_until("the run", || ended(daemon) || running(series, &id));
                series.history[at].stopped = true;
                let _ = series.world.ask("POST", &format!("/background-agents/{id}/stop"), "");
            }
        }
        let Some(id) = series.history[at].id.clone() else { return };
        let over = |world: &World| {
            let answer = world.ask("GET", &format!("/background-agents/{id}"), "");
            answer.is_ok_and(|a| has_ended(&a.json())) && !world.tasks_dir().join(&id).exists()
        };
        wait_until("the end of the scene", || ended(daemon) || over(&series.world));
    }
}

fn ended(daemon: &mut Daemon) -> bool {
    daemon.child.try_wait().unwrap().is_some()
}

/// Kills the supervisor thread's process before each of its calls in a scene.
fn kill_in(scene: Scene, what: &str) {
    let mut series = Series::new();
    let trace = series.world.beside("trace");
    let mut daemon = series.world.spawn_daemon();
    assert!(daemon.ready());
    let at = series.add(scene.plan("profile".into()));
    let tracer = Tracer::attach(supervisor(&daemon), &trace, &["-e".into(), format!("trace={CALLS}")]);
    scene.play(&mut series, at, &mut daemon);
    let all = points(&tracer.trace(), |_| true);
    daemon.kill();
    assert!(all.len() > 40, "a scene has more calls than {all:?}");
    for point in spread(&all, wanted()) {
        series.tried += 1;
        let mut daemon = series.world.spawn_daemon();
        assert!(daemon.ready(), "{}", series.world.complaints());
        let at = series.add(scene.plan(format!("{what}-{point}")));
        let tracer = Tracer::attach(supervisor(&daemon), &trace, &inject(&point));
        scene.play(&mut series, at, &mut daemon);
        series.reached += usize::from(ended(&mut daemon));
        drop(tracer);
        daemon.kill();
        series.recover(at);
    }
    let all = all.len();
    println!("crash points, {what}: {all} in all");
    series.finish(what);
}

#[test]
fn a_kill_before_any_call_of_submit_launch_exit_and_save_loses_nothing() {
    kill_in(Scene::End, "end");
}

#[test]
fn a_kill_before_any_call_of_a_cancel_loses_nothing() {
    kill_in(Scene::Stop, "stop");
}

/// Starts a daemon under strace, from its first instruction.
fn boot(world: &World, trace: &Path, words: &[String]) -> Daemon {
    let plain = strace::command();
    let mut command = world.command(plain.get_program());
    command.args(["-f", "-qq", "-b", "execve", "-o"]).arg(trace).args(words).args(world.daemon_words());
    world.spawn_as_daemon(command)
}

/// Leaves a run that goes on, one that ends while nobody looks, and one that waits for a slot.
fn leave_work(series: &mut Series, name: &str) -> Vec<usize> {
    let mut daemon = series.world.spawn_daemon();
    assert!(daemon.ready(), "{}", series.world.complaints());
    let mut tasks = Vec::new();
    for (n, millis) in [300, 0, 100, 50, 0, 0].into_iter().enumerate() {
        let plan = Plan { millis, ..Plan::new(format!("boot-{name}-{n}"), End::Code(if n % 2 == 0 { 0 } else { 3 })) };
        let at = series.add(plan);
        series.submit(at);
        tasks.push(at);
    }
    daemon.kill();
    tasks
}

/// A boot that is killed before each call from the first look into `.octo/` on.
#[test]
fn a_kill_before_any_call_of_a_boot_loses_nothing() {
    let mut series = Series::new();
    let trace = series.world.beside("trace");
    let tasks = leave_work(&mut series, "profile");
    let mut daemon = boot(&series.world, &trace, &["-e".into(), format!("trace={CALLS}")]);
    assert!(daemon.ready(), "{}", series.world.complaints());
    stop_traced(&series.world, daemon);
    let all = points(&main_thread(&trace), |line| line.contains("/.octo"));
    assert!(all.len() > 40, "a boot has more calls than {all:?}");
    tasks.into_iter().for_each(|at| series.recover(at));
    for point in spread(&all, wanted()) {
        series.tried += 1;
        let tasks = leave_work(&mut series, &point.to_string());
        let mut daemon = boot(&series.world, &trace, &inject(&point));
        let ready = daemon.ready();
        // The other threads have their n-th call as well; give them the chance while work is there.
        if ready {
            wait_until("the work or the kill", || ended(&mut daemon) || at_rest(&series.world));
        }
        series.reached += usize::from(!ready || ended(&mut daemon));
        stop_traced(&series.world, daemon);
        tasks.into_iter().for_each(|at| series.recover(at));
    }
    println!("crash points, boot: {} in all", all.len());
    series.finish("boot");
}

fn at_rest(world: &World) -> bool {
    let listing = world.ask("GET", "/background-agents?limit=1", "").map(|a| a.json()).unwrap_or(json!(null));
    listing["active"].as_array().is_some_and(Vec::is_empty)
}

/// The trace of the first thread, without the thread numbers.
fn main_thread(trace: &Path) -> String {
    let text = fs::read_to_string(trace).unwrap();
    let first = text.split(' ').next().unwrap_or_default().to_owned();
    let lines = text.lines().filter_map(|l| l.strip_prefix(&first)).map(str::trim_start);
    lines.collect::<Vec<_>>().join("\n")
}

/// Kills a daemon that runs below strace, and waits for both.
fn stop_traced(world: &World, mut daemon: Daemon) {
    world.kill_daemons();
    wait_until("strace to end", || ended(&mut daemon));
}
