//! Real shims under real signals: every window of the process-and-lock model, held open by SIGSTOP.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "shim/clean_up.rs"]
mod clean_up;
#[path = "shim/ends.rs"]
mod ends;
#[path = "shim/spares.rs"]
mod spares;
#[path = "shim/trees.rs"]
mod trees;
#[path = "shim/windows.rs"]
mod windows;
#[path = "shim/world.rs"]
mod world;
