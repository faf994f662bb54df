//! A workspace that is deleted under its daemon.

use std::time::Duration;

use crate::harness::{World, process, wait_for, wait_within};

/// Less than the daemon's pause between two looks: within it, it must have been told.
const TOLD: Duration = Duration::from_secs(20);

#[test]
fn the_daemon_of_a_deleted_workspace_leaves_and_does_not_stay_for_ever() {
    let world = World::new();
    let old = world.start();
    let id = world.bg("echo before");
    world.ended(&id);
    std::fs::remove_dir_all(world.octo_dir()).unwrap();
    // The next command makes a new workspace with a daemon of its own: for a moment there are two.
    world.bg("echo after");
    assert_ne!(world.daemon_pid(), Some(old));
    wait_for("the daemon of the deleted workspace leaves", || !process::alive(old));
    world.octo(&["status"]).exits(0);
}

#[test]
fn a_deleted_socket_locks_nobody_out_for_long() {
    let world = World::new();
    let old = world.start();
    let id = world.bg("while [ ! -e go ]; do sleep 0.02; done; exit 3");
    world.until(&id, "running");
    std::fs::remove_file(world.socket()).unwrap();
    wait_within(TOLD, "the daemon that nobody can reach leaves", || !process::alive(old));
    std::fs::write(world.path("go"), "").unwrap();
    world.octo(&["task", &id, "wait"]).exits(1);
    assert_eq!(world.task(&id)["exit_code"], 3);
}

#[test]
fn a_daemon_without_tasks_leaves_with_its_socket() {
    let world = World::new();
    let pid = world.start();
    std::fs::rename(world.socket(), world.octo_dir().join("elsewhere")).unwrap();
    wait_within(TOLD, "the daemon that nobody can reach leaves", || !process::alive(pid));
}

#[test]
fn settings_that_change_are_told_of_once() {
    let world = World::new();
    let problems = || -> Vec<String> { serde_json::from_value(world.status()["problems"].clone()).unwrap() };
    let (dotenv, toml) = (world.path(".env"), world.path("octo.toml"));
    let unchanged = "OCTO_LOG=info\n";
    std::fs::write(&dotenv, unchanged).unwrap();
    std::fs::write(&toml, "").unwrap();
    world.start();
    let before = problems();
    let told = |name: &str| {
        let said = format!("settings in {name} changed; restart the daemon to use them (");
        wait_within(TOLD, "the change of a settings file to be told", || {
            problems().iter().any(|p| p.starts_with(&said))
        });
    };
    // Written, but with what it held.
    std::fs::write(&dotenv, unchanged).unwrap();
    // In place, and then again: it is told already.
    std::fs::write(&toml, "[core]\n").unwrap();
    told("octo.toml");
    assert_eq!(problems().len(), before.len() + 1, "{:?}", problems());
    std::fs::write(&toml, "[other]\n").unwrap();
    // As editors do it.
    std::fs::write(world.path("new"), "OCTO_LOG=debug\n").unwrap();
    std::fs::rename(world.path("new"), &dotenv).unwrap();
    told(".env");
    assert_eq!(problems().len(), before.len() + 2, "{:?}", problems());
    world.stop();
    world.start();
    assert!(!problems().iter().any(|p| p.contains("changed; restart")), "{:?}", problems());
}
