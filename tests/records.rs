//! Whatever lies in `.octo/tasks/` under the name of a record: the daemon starts, the healthy tasks are all
//! there, and each bad file is kept byte for byte and reported once.
//!
//! Short form: 500 mutated records; with `OCTO_LONG=1`: 2,000.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

mod harness;
#[path = "records/mutate.rs"]
mod mutate;
#[path = "records/odd_files.rs"]
mod odd_files;
#[path = "records/trust.rs"]
mod trust;
