//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod command;
pub mod run;
pub mod shim;
pub mod task;
