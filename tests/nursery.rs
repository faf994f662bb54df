//! The process that forks shims: it may die, hang or fail at any time, and no run is lost or started twice.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

mod harness;
#[path = "faults/inject.rs"]
#[allow(dead_code)] // shared with the tests of faults
mod inject;

use std::fs;
use std::path::PathBuf;

use harness::{World, process, scale, wait_for, wait_within};
use inject::{FORK, Fault, rule};
use rustix::process::Signal;

/// The daemon's nursery, if it lives.
fn nursery(world: &World) -> Option<u32> {
    let daemon = world.daemon_pid()?;
    let is_it = |pid: &u32| {
        process::parent(*pid) == Some(daemon)
            && process::alive(*pid)
            && process::cmdline(*pid).ends_with("octo-shim --nursery")
    };
    process::all().into_iter().find(is_it)
}

fn the_nursery(world: &World) -> u32 {
    wait_for("a nursery", || nursery(world).is_some());
    nursery(world).unwrap()
}

fn shim_of(world: &World, id: &str) -> u32 {
    let claim = fs::read(world.tasks_dir().join(id).join("run-1/claim.json")).unwrap();
    let claim: serde_json::Value = serde_json::from_slice(&claim).unwrap();
    u32::try_from(claim["shim"]["pid"].as_u64().unwrap()).unwrap()
}

fn link(pid: u32, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/{name}")).unwrap()
}

/// Commands that note that they ran; how often each did.
struct Batch {
    ids: Vec<String>,
    marks: Vec<PathBuf>,
}

impl Batch {
    fn start(world: &World, count: usize) -> Batch {
        let marks: Vec<PathBuf> = (0..count).map(|n| world.beside(&format!("ran-{n}"))).collect();
        let line = |(n, mark): (usize, &PathBuf)| format!("echo ran >>{}; exit {}\n", mark.display(), n % 3);
        let file = world.beside("batch");
        fs::write(&file, marks.iter().enumerate().map(line).collect::<String>()).unwrap();
        let out = world.octo(&["bg", "--batch", file.to_str().unwrap()]);
        assert_eq!(out.code, 0, "{out:?}");
        let ids: Vec<String> = String::from_utf8_lossy(&out.out).lines().map(str::to_owned).collect();
        assert_eq!(ids.len(), count, "{out:?}");
        Batch { ids, marks }
    }

    /// Each came to its own end, and ran once.
    fn check(&self, world: &World) {
        for (n, (id, mark)) in self.ids.iter().zip(&self.marks).enumerate() {
            let task = world.ended(id);
            assert_eq!(task["exit_code"], n % 3, "{task:#}");
            assert_eq!(fs::read_to_string(mark).unwrap(), "ran\n", "it did not run just once: {task:#}");
        }
    }
}

#[test]
fn a_forked_shim_looks_like_one_that_was_started_and_the_nursery_holds_nothing() {
    let world = World::new();
    world.start();
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    let (nursery, shim) = (the_nursery(&world), shim_of(&world, &id));
    assert_eq!(process::parent(shim), Some(nursery));
    let folder = world.tasks_dir().join(&id).join("run-1");
    let line = process::cmdline(shim);
    assert!(line.contains(&format!("octo-shim {} --cwd ", folder.display())), "{line}");
    assert!(line.ends_with(" -- /bin/sh -c -- exec sleep 1000"), "{line}");
    assert!(world.processes(&id).contains(&shim), "its environment names the run");
    assert_eq!(link(shim, "exe"), link(nursery, "exe"));
    for pid in [nursery, shim] {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
        assert_eq!(session, pid.to_string(), "a session of its own");
        assert_eq!(link(pid, "cwd"), PathBuf::from("/"));
        let own = process::private_kib(pid);
        assert!(own <= 300, "{pid} has {own} KiB of its own");
    }
    let open = |pid: u32| -> Vec<String> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        fds.filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.to_str()?.to_owned())).collect()
    };
    let held = open(nursery);
    assert_eq!(held.iter().filter(|f| *f == "/dev/null").count(), 3, "{held:?}");
    assert_eq!(held.iter().filter(|f| f.starts_with("socket:")).count(), 1, "{held:?}");
    assert_eq!(held.len(), 4, "{held:?}");
    let line = held.iter().find(|f| f.starts_with("socket:")).unwrap();
    assert!(!open(shim).contains(line), "the shim has a copy of the nursery's line");
}

#[test]
fn a_nursery_that_is_killed_in_the_middle_of_launches_loses_nothing_and_starts_nothing_twice() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "8")]);
    world.start();
    let long = world.bg("while [ ! -e go ]; do sleep 0.02; done; exit 7");
    world.until(&long, "running");
    let shim = shim_of(&world, &long);
    let mut kills = 0;
    for round in 0..scale(3, 12) {
        let batch = Batch::start(&world, 60);
        let enough = 5 + round * 3;
        wait_for("some of them to have run", || batch.marks.iter().filter(|m| m.exists()).count() > enough);
        if let Some(pid) = nursery(&world) {
            process::kill(pid, Signal::KILL);
            wait_for("its death", || !process::alive(pid));
            kills += 1;
        }
        // The next one is not started at once each time: in between shims are started one by one.
        batch.check(&world);
        batch.marks.iter().for_each(|mark| fs::remove_file(mark).unwrap());
    }
    assert!(kills > 0, "no nursery was there to be killed");
    assert!(process::alive(shim), "a shim went with its nursery");
    fs::write(world.path("go"), "").unwrap();
    assert_eq!(world.ended(&long)["exit_code"], 7);
}

#[test]
fn a_launch_that_a_nursery_took_to_its_death_is_launched_again_and_does_not_count() {
    let world = World::new();
    world.start();
    world.ended(&world.bg("true"));
    let pid = the_nursery(&world);
    process::kill(pid, Signal::STOP);
    wait_for("it to stop", || process::state(pid) == Some('T'));
    let batch = Batch::start(&world, 2);
    wait_for("the launches", || batch.ids.iter().all(|id| world.tasks_dir().join(id).join("run-1/lock").exists()));
    process::kill(pid, Signal::KILL);
    batch.check(&world);
    for id in &batch.ids {
        let task = world.task(id);
        assert_eq!((&task["run"], task.get("launches")), (&2.into(), None), "{task:#}");
    }
}

#[test]
fn the_nursery_goes_with_its_daemon_and_shims_do_not() {
    for end in [Signal::KILL, Signal::TERM] {
        let world = World::new();
        world.start();
        let id = world.bg("while [ ! -e go ]; do sleep 0.02; done; echo out; exit 5");
        world.until(&id, "running");
        let (first, shim, daemon) = (the_nursery(&world), shim_of(&world, &id), world.daemon_pid().unwrap());
        process::kill(daemon, end);
        wait_for("the daemon's end", || !process::alive(daemon));
        wait_for("the nursery's end", || !process::alive(first));
        assert!(process::alive(shim));
        fs::write(world.path("go"), "").unwrap();
        wait_for("the shim's end", || !process::alive(shim));
        world.start();
        let task = world.ended(&id);
        assert_eq!((&task["exit_code"], &task["result"], &task["run"]), (&5.into(), &"out\n".into(), &1.into()));
    }
}

#[test]
fn a_fork_that_fails_passes_and_its_task_runs_later() {
    let world = World::new();
    world.start();
    world.ended(&world.bg("true"));
    let fault = Fault::begin(the_nursery(&world), &rule(FORK, "EAGAIN", "1+"));
    let batch = Batch::start(&world, 3);
    // A run that was never begun is followed by the next one, as often as it takes.
    let tried = || batch.ids.iter().all(|id| world.task(id)["run"].as_u64().unwrap() >= 5);
    wait_within(std::time::Duration::from_secs(60), "many launches to fail", tried);
    assert!(batch.marks.iter().all(|mark| !mark.exists()));
    assert!(batch.ids.iter().all(|id| world.task(id).get("launches").is_none()), "they do not count");
    drop(fault);
    batch.check(&world);
}

#[test]
fn without_a_nursery_shims_are_started_one_by_one() {
    let mut world = World::new();
    world.replace_shim("#!/bin/sh\n[ \"$1\" = --nursery ] && exit 1\nexec @SHIM@ \"$@\"\n");
    world.start();
    Batch::start(&world, 12).check(&world);
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    assert_eq!(process::parent(shim_of(&world, &id)), world.daemon_pid());
    assert!(world.log().contains("one by one"), "{}", world.log());
}

#[test]
fn an_environment_that_no_socket_takes_at_once_arrives_whole() {
    let world = World::new();
    world.start();
    let mut command = world.octo_command(&["bg", "--wait", "env | grep -c ^BIG_; printf %s \"$BIG_7\" | wc -c"]);
    for n in 0..8 {
        command.env(format!("BIG_{n}"), "x".repeat(100_000));
    }
    let id = harness::run(command, b"").line();
    let task = world.ended(&id);
    assert_eq!(task["result"], "8\n100000\n", "{task:#}");
    assert!(nursery(&world).is_some());
}
