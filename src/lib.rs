//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod ancestry;
pub mod api;
mod bounded;
pub mod chat;
pub mod claude;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod doctor;
pub mod exec;
pub mod render;
pub mod run;
pub mod shim;
pub mod store;
pub mod supervisor;
pub mod task;
#[doc(hidden)]
pub mod testkit;
pub mod trust;
pub mod watch;
pub mod workspace;
