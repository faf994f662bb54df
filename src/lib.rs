//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod claude;
pub mod command;
pub mod task;
