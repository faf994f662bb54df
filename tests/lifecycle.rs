//! The contract for process tasks, seen from outside: the command line, the record on disk, the exit codes.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "lifecycle/deleted.rs"]
mod deleted;
#[path = "lifecycle/deputy.rs"]
mod deputy;
#[path = "lifecycle/ends.rs"]
mod ends;
#[path = "lifecycle/files.rs"]
mod files;
#[path = "lifecycle/follow.rs"]
mod follow;
mod harness;
#[path = "lifecycle/names.rs"]
mod names;
#[path = "lifecycle/options.rs"]
mod options;
#[path = "lifecycle/queue.rs"]
mod queue;
#[path = "lifecycle/service.rs"]
mod service;
