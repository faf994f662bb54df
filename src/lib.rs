//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod chat;
pub mod cli;
pub mod client;
pub mod command;
pub mod render;
pub mod task;
pub mod workspace;
