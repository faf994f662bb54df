//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod api;
pub mod claude;
pub mod command;
pub mod exec;
pub mod run;
pub mod shim;
pub mod store;
pub mod supervisor;
pub mod task;
#[doc(hidden)]
pub mod testkit;
pub mod watch;
