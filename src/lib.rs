//! Octo: a supervisor daemon for background work that nothing can lose.

pub mod claude;
pub mod command;
pub mod store;
pub mod task;
#[doc(hidden)]
pub mod testkit;
