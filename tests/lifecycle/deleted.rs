//! A workspace that is deleted under its daemon.

use crate::harness::{World, process, wait_for};

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
    wait_for("the daemon that nobody can reach leaves", || !process::alive(old));
    std::fs::write(world.path("go"), "").unwrap();
    world.octo(&["task", &id, "wait"]).exits(1);
    assert_eq!(world.task(&id)["exit_code"], 3);
}
