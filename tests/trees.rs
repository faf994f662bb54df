//! Ten shapes of process tree: cancel, time-out and natural end leave nothing behind, and nobody else's
//! process is harmed.
//!
//! Each shape 3 times for each way to end; with `OCTO_LONG=1` 20 times.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

mod harness;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{World, process, scale, wait_for, wait_within};
use rustix::process::Signal;

/// What a tree looks like: a name and a shell line. Each writes `up` into `$MARK` when it stands, and then
/// goes on for ever, or, with `$END` set, ends its first process.
const SHAPES: [(&str, &str); 10] = [
    ("plain", "echo up >$MARK; finish"),
    ("child_group", "set -m; sleep 1000 & sleep 1000 & echo up >$MARK; finish"),
    ("setsid", "setsid sleep 1000 & setsid setsid sleep 1000 & echo up >$MARK; finish"),
    ("double_fork", "sh -c 'setsid sh -c \"sleep 1000 & exit\" & exit'; echo up >$MARK; finish"),
    (
        "ignores_term",
        "python3 -c '\nimport signal, time\nfor s in (15, 2, 1): signal.signal(s, signal.SIG_IGN)\nopen(\"'$MARK'\", \"w\").write(\"up\")\ntime.sleep(1000)' & wait_up; finish",
    ),
    (
        "respawner",
        "python3 -c '\nimport os, time, signal\nfor s in (15, 2, 1): signal.signal(s, signal.SIG_IGN)\nopen(\"'$MARK'\", \"w\").write(\"up\")\nwhile True:\n  if os.fork() > 0: os._exit(0)\n  os.setsid()\n  time.sleep(0.01)' & wait_up; finish",
    ),
    ("stopped", "sleep 1000 & kill -STOP $!; sh -c 'kill -STOP $$' & echo up >$MARK; finish"),
    ("ptraced", "strace -f -o /dev/null sleep 1000 & sleep 0.3; echo up >$MARK; finish"),
    ("nohup", "nohup sleep 1000 >/dev/null 2>&1 & bash -c 'sleep 1000 & disown -a'; echo up >$MARK; finish"),
    ("holds_the_pipe", "(trap '' HUP; exec sleep 1000) 2>&1 | (trap '' HUP; cat) & echo up >$MARK; finish"),
];

const PRELUDE: &str = "wait_up() { while [ ! -s $MARK ]; do sleep 0.02; done; }
finish() { if [ -n \"$END\" ]; then exit 0; fi; while :; do sleep 1000; done; }
";

/// How a task comes to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Cancel,
    TimeOut,
    Natural,
}

/// Everything that goes within the ladder: 10 s after a stop, 5 s after a natural end, and 1 s.
fn ladder(way: Way) -> Duration {
    Duration::from_secs(if way == Way::Natural { 5 } else { 10 } + 1)
}

fn run_shapes(way: Way) {
    let world = World::with(&[("BG_MAX_CONCURRENT", "64")]);
    world.start();
    let bystanders = Bystanders::start(&world);
    for round in 0..scale(3, 20) {
        let mut tasks = Vec::new();
        for (name, line) in SHAPES {
            let mark = world.beside(&format!("{name}.{round}"));
            let setting = format!("MARK={}", mark.display());
            let end = if way == Way::Natural { "END=1" } else { "END=" };
            let mut options = vec!["--env", &setting, "--env", end, "--name", name];
            if way == Way::TimeOut {
                options.extend(["--timeout", "3s"]);
            }
            let began = Instant::now();
            tasks.push((name, mark, began, world.bg_with(&options, &format!("{PRELUDE}{line}"))));
        }
        for (name, mark, ..) in &tasks {
            wait_for(&format!("{name} to stand"), || std::fs::read(mark).is_ok_and(|t| t.starts_with(b"up")));
        }
        let asked = Instant::now();
        if way == Way::Cancel {
            for (.., id) in &tasks {
                world.octo(&["task", id, "cancel"]).exits(0);
            }
        }
        for (name, _, began, id) in &tasks {
            let task = world.ended(id);
            let expected = match way {
                Way::Cancel => "cancelled",
                Way::TimeOut => "failed",
                Way::Natural => "completed",
            };
            assert_eq!(task["status"], expected, "{name}, {way:?}, round {round}: {task:#}");
            // The record says so when nothing is left, not before.
            let left: Vec<String> =
                world.processes(id).into_iter().map(process::cmdline).filter(|c| !c.is_empty()).collect();
            let left: Vec<&String> = left.iter().filter(|c| !c.contains("octo-shim")).collect();
            assert!(left.is_empty(), "{name}, {way:?}, round {round}: left: {left:?}");
            let since = if way == Way::Cancel { asked } else { *began };
            let limit = ladder(way) + Duration::from_secs(if way == Way::TimeOut { 3 } else { 0 });
            // Twice the ladder is the machine's share: thirty trees die at once, on two processors.
            assert!(since.elapsed() < limit * 2, "{name}, {way:?}: {:?}", since.elapsed());
        }
        wait_within(ladder(way), "the shims to go", || tasks.iter().all(|(.., id)| world.processes(id).is_empty()));
    }
    bystanders.check();
    eprintln!("{way:?}: {} shapes x {} ended, nothing left", SHAPES.len(), scale(3, 20));
}

#[test]
fn cancel_leaves_nothing_of_any_shape() {
    run_shapes(Way::Cancel);
}

#[test]
fn a_time_out_leaves_nothing_of_any_shape() {
    run_shapes(Way::TimeOut);
}

#[test]
fn a_natural_end_leaves_nothing_of_any_shape() {
    run_shapes(Way::Natural);
}

/// Processes that look as if they belonged to Octo and do not.
struct Bystanders(Vec<(&'static str, Child)>);

impl Bystanders {
    fn start(world: &World) -> Bystanders {
        let start = |name, mut command: Command| (name, command.stdin(Stdio::piped()).spawn().unwrap());
        let shell = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", line]).current_dir(world.root());
            command
        };
        std::fs::copy("/bin/sleep", world.beside("octo-shim")).unwrap();
        let mut look_alike = Command::new(world.beside("octo-shim"));
        look_alike.arg("1000");
        let reader = shell("exec 3<.octo 4<.octo/lock; cd .octo/tasks; exec sleep 1000");
        let mut other_task = shell("exec sleep 1000");
        other_task.env("OCTO_TASK_ID", "ab12cd34").env("OCTO_WORKSPACE", world.root()).env("OCTO_RUN", "1");
        let mut other_workspace = shell("exec sleep 1000");
        other_workspace.env("OCTO_TASK_ID", "ab12cd34").env("OCTO_WORKSPACE", "/somewhere/else").env("OCTO_RUN", "1");
        Bystanders(vec![
            start("a program named octo-shim", look_alike),
            start("a reader of the folder", reader),
            start("a process of a task that is not there", other_task),
            start("a process of another workspace's task", other_workspace),
        ])
    }

    fn check(mut self) {
        for (name, child) in &mut self.0 {
            assert!(child.try_wait().unwrap().is_none(), "{name} was killed");
        }
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_shim_that_was_killed_takes_its_tree_along_and_nobody_else() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "64")]);
    world.start();
    let bystanders = Bystanders::start(&world);
    for (name, line) in SHAPES {
        let mark = world.beside(name);
        let setting = format!("MARK={}", mark.display());
        let id = world.bg_with(&["--env", &setting, "--env", "END="], &format!("{PRELUDE}{line}"));
        wait_for(&format!("{name} to stand"), || std::fs::read(&mark).is_ok_and(|t| t.starts_with(b"up")));
        let claim: serde_json::Value =
            serde_json::from_slice(&std::fs::read(world.tasks_dir().join(&id).join("run-1/claim.json")).unwrap())
                .unwrap();
        kill_shim(&claim);
        assert_eq!(world.ended(&id)["status"], "interrupted", "{name}");
        wait_within(Duration::from_secs(10), &format!("nothing to be left of {name}"), || {
            world.processes(&id).is_empty()
        });
    }
    bystanders.check();
}

/// Kills the shim that a claim names; its number.
fn kill_shim(claim: &serde_json::Value) -> u32 {
    let shim = u32::try_from(claim["shim"]["pid"].as_u64().unwrap()).unwrap();
    process::signal_if(shim, Signal::KILL, || process::start(shim) == claim["shim"]["start"].as_u64());
    shim
}

#[test]
fn a_reused_process_number_is_not_signalled() {
    // A claim that names a live stranger: right number, wrong start time. Cancel must not touch it.
    let world = World::new();
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    world.kill_daemon();
    let claim_path = world.tasks_dir().join(&id).join("run-1/claim.json");
    let mut claim: serde_json::Value = serde_json::from_slice(&std::fs::read(&claim_path).unwrap()).unwrap();
    let shim = kill_shim(&claim);
    // Start times are counted in ticks of 10 ms: one of the same tick would be the same process to anybody.
    let claimed = ["shim", "child"].map(|who| claim[who]["start"].as_u64().unwrap());
    let mut stranger = None;
    wait_for("a stranger that began later", || {
        let mut one = Command::new("sleep").arg("1000").process_group_here().spawn().unwrap();
        if claimed.contains(&process::start(one.id()).unwrap()) {
            one.kill().unwrap();
            one.wait().unwrap();
            return false;
        }
        stranger = Some(one);
        true
    });
    let mut stranger = stranger.unwrap();
    for who in ["shim", "child"] {
        claim[who]["pid"] = stranger.id().into();
    }
    wait_for("the shim's death", || !process::alive(shim));
    let mut file = std::fs::File::create(&claim_path).unwrap();
    file.write_all(claim.to_string().as_bytes()).unwrap();
    world.start();
    assert_eq!(world.ended(&id)["status"], "interrupted");
    wait_for("nothing to be left", || world.processes(&id).is_empty());
    let gone = stranger.try_wait().unwrap();
    assert!(gone.is_none(), "a stranger was killed: {gone:?}");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

trait GroupHere {
    fn process_group_here(&mut self) -> &mut Self;
}

impl GroupHere for Command {
    fn process_group_here(&mut self) -> &mut Self {
        use std::os::unix::process::CommandExt as _;
        self.process_group(0)
    }
}
