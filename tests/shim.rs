//! Real shims under real signals: every window of the process-and-lock model, held open by SIGSTOP.

use octo::run::{Exit, ExitReason, LockFact};

#[path = "shim/mod.rs"]
mod world;
use world::{World, wait_for};

#[test]
fn a_command_ends_and_its_code_output_and_length_are_recorded() {
    let world = World::new();
    let mut shim = world.launch("echo out; echo err >&2; exit 7");
    let exit = shim.end();
    assert_eq!(shim.log(), "out\nerr\n");
    let at = exit.at.clone();
    assert!(at.millis().is_some());
    assert_eq!(exit, Exit { code: Some(7), signal: None, reason: None, error: None, at, log_bytes: 8 });
    assert_eq!(shim.pokes(), "cx");
}
