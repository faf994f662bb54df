//! End to end: the real `claude` CLI against a local mock of the model API, a phone at a Bot API server that is not
//! ours, and the official inspector of MCP.
//!
//! These tests need programs from npm, so they run only when asked for:
//!
//! ```text
//! tests/e2e/setup.sh && cargo test --test e2e -- --ignored
//! ```
//!
//! Nothing leaves the machine: `tests/e2e/bin/claude` gives the CLI a home of its own and the mock's address.

// Helpers of tests fail by panicking, too.
#![allow(missing_docs, clippy::unwrap_used)]

mod asks;
mod botapi;
#[path = "../telegram/fake.rs"]
mod fake;
mod inspector;
mod main_job;
mod mock;
mod phone;
mod telegram;
mod world;
mod wrapper;
