//! Output, names and commands that mean harm: the daemon does not grow, and no control byte of a task reaches
//! the terminal.
//!
//! The long line has 256 MiB; with `OCTO_LONG=1` 1 GiB.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "hostile/bulk.rs"]
mod bulk;
mod harness;
#[path = "hostile/terminal.rs"]
mod terminal;
