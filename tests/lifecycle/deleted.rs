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
