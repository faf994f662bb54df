//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod ancestry;
mod bounded;
pub mod command;
pub mod config;
pub mod doctor;
pub mod task;
pub mod trust;
pub mod workspace;
