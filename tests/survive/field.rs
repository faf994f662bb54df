//! What has gone wrong in the field with other supervisors of background agents, each as a test of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;

use crate::common::world::{OCTO, OCTOD, SHIM, has_ended, quoted};
use crate::common::{World, processes, wait_until};

/// A task that marks its side file and waits for `go-on`, to end with 7.
fn waiting_task(world: &World, name: &str) -> String {
    let go_on = quoted(&world.side("go-on"));
    let text = format!(
        "echo $$ >> {}; echo begun; while [ ! -e {go_on} ]; do sleep 0.05; done; echo ended; exit 7",
        quoted(&world.side(name))
    );
    world.bg_with(json!({ "command": text, "name": name }))
}

/// A service manager restarts the daemon: every worker died with it, since they were in its control group.
/// The shipped unit says `KillMode=process`, and what that means, the end of the daemon's process alone, by
/// TERM or by KILL, harms no task.
#[test]
fn a_restart_by_the_service_manager_kills_no_worker() {
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/octod.service")).unwrap();
    let settings: Vec<&str> = unit.lines().map(str::trim).filter(|l| !l.starts_with('#')).collect();
    assert!(settings.contains(&"KillMode=process"), "{unit}");
    assert!(!settings.iter().any(|l| l.starts_with("ExecStop")), "a stop would be more than a signal: {unit}");
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "5");
    world.start();
    let ids: Vec<String> = (0..5).map(|n| waiting_task(&world, &format!("worker-{n}"))).collect();
    let pids: Vec<String> = (0..5).map(|n| world.wait_for_line(&format!("worker-{n}"))).collect();
    for signal in [Signal::TERM, Signal::KILL] {
        let daemon = world.daemons()[0];
        processes::signal(daemon, signal);
        wait_until("the daemon's end", || !processes::alive(daemon));
        assert!(pids.iter().all(|pid| processes::alive(pid.parse().unwrap())), "{signal:?} took workers along");
        world.restart_after_kill();
    }
    fs::write(world.side("go-on"), "").unwrap();
    for (n, id) in ids.iter().enumerate() {
        let record = world.end_of(id);
        assert_eq!((&record["status"], &record["exit_code"], &record["run"]), (&json!("failed"), &json!(7), &json!(1)));
        assert_eq!(world.log(id), b"begun\nended\n");
        assert_eq!(world.runs(&format!("worker-{n}")), 1);
    }
}

/// Copies the three programs, as an installation does.
fn install(into: &Path) -> PathBuf {
    fs::create_dir_all(into).unwrap();
    for program in [OCTO, OCTOD, SHIM] {
        let to = into.join(Path::new(program).file_name().unwrap());
        let temp = to.with_extension("new");
        fs::copy(program, &temp).unwrap();
        fs::set_permissions(&temp, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(temp, to).unwrap();
    }
    into.join("octod")
}

/// An upgrade killed the workers: here the programs are replaced under a running daemon and its tasks, and the
/// new daemon at the same path takes all of them over.
#[test]
fn an_upgrade_adopts_the_tasks_of_the_old_daemon() {
    let mut world = World::new();
    world.octod = install(&world.beside("bin"));
    let old = world.start();
    let ids = ["one", "two"].map(|name| waiting_task(&world, name));
    let pids = ["one", "two"].map(|name| world.wait_for_line(name));
    install(&world.beside("bin"));
    // What runs is not disturbed by the new files: the old daemon still starts tasks, with the new shim.
    let third = waiting_task(&world, "three");
    world.wait_for_line("three");
    assert!(world.octo(&["stop"]).status.success());
    wait_until("the old daemon's end", || !processes::alive(old));
    assert!(pids.iter().all(|pid| processes::alive(pid.parse().unwrap())));
    world.restart_after_kill();
    for id in ids.iter().chain([&third]) {
        assert_eq!(world.status(id), "running");
    }
    fs::write(world.side("go-on"), "").unwrap();
    for (id, name) in ids.iter().chain([&third]).zip(["one", "two", "three"]) {
        assert_eq!(world.end_of(id)["exit_code"], 7);
        assert_eq!((world.log(id), world.runs(name)), (b"begun\nended\n".to_vec(), 1));
    }
}

/// Workers leaked over restarts, and were adopted for ever: 64 of them, 7 GB. Here no process outlives its
/// task, over restarts in every phase.
#[test]
fn restarts_leak_no_process() {
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "8");
    world.start();
    for round in 0..10 {
        let children = "sleep 600 & setsid -f sleep 600; (setsid sleep 600 &)";
        world.bg(&format!("{children}; exit {}", round % 3));
        let cancelled = world.bg(&format!("{children}; exec sleep 600"));
        wait_until("the run", || world.status(&cancelled) == "running");
        world.cancel(&cancelled);
        if round % 2 == 0 {
            world.restart();
        }
    }
    wait_until("every task to end", || world.records().iter().all(has_ended));
    assert_eq!(world.left_over(), Vec::<String>::new());
    assert!(processes::shims(world.root()).is_empty());
    assert_eq!(world.records().len(), 20);
}

/// A finished session was started again at each restart, for ever.
#[test]
fn a_finished_task_is_never_run_again() {
    let mut world = World::new();
    world.start();
    let ends = ["exit 0", "exit 3", "kill -9 $$"];
    let task = |(n, end): (usize, &&str)| {
        world.bg(&format!("echo run >> {}; {end}", quoted(&world.side(&format!("done-{n}")))))
    };
    let ids: Vec<String> = ends.iter().enumerate().map(task).collect();
    let before: Vec<_> = ids.iter().map(|id| world.end_of(id)).collect();
    for _ in 0..10 {
        world.restart();
        let after: Vec<_> = ids.iter().map(|id| world.record(id)).collect();
        assert_eq!(after, before, "a restart changed the record of an ended task");
    }
    // One more task from end to end: whatever a boot has under way is done by then.
    let last = world.bg("true");
    world.end_of(&last);
    assert!((0..ends.len()).all(|n| world.runs(&format!("done-{n}")) == 1));
    assert!(ids.iter().all(|id| world.record(id)["run"] == 1));
}

/// A deleted working folder made the daemon and its worker crash in a loop at each restart.
#[test]
fn a_deleted_working_folder_is_a_failed_launch_and_no_crash_loop() {
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "1");
    world.start();
    let folder = world.beside("soon-gone");
    fs::create_dir(&folder).unwrap();
    let first = waiting_task(&world, "first");
    world.wait_for_line("first");
    let mark = quoted(&world.side("ran"));
    let second = world.bg_with(json!({ "command": format!("echo run >> {mark}"), "cwd": folder }));
    fs::remove_dir(&folder).unwrap();
    let daemon = world.restart();
    fs::write(world.side("go-on"), "").unwrap();
    world.end_of(&first);
    let record = world.end_of(&second);
    assert_eq!(record["status"], "failed");
    assert!(record["error"].as_str().unwrap().starts_with("launch"), "{record}");
    assert_eq!(world.runs("ran"), 0);
    assert_eq!(world.daemons(), [daemon], "the daemon itself goes on");
    for _ in 0..3 {
        world.restart();
        assert_eq!(world.record(&second), record, "it is not tried again");
    }
    assert_eq!(world.end_of(&world.bg("true"))["status"], "completed");
}
