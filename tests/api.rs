//! The HTTP API of the socket: routes, statuses, typed errors, logs, live updates, batches, notices, rights,
//! and ten thousand requests that make no sense.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "api/extremes.rs"]
mod extremes;
#[path = "api/follow.rs"]
mod follow;
#[path = "api/fuzz.rs"]
mod fuzz;
mod harness;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/logs.rs"]
mod logs;
#[path = "api/questions.rs"]
mod questions;
#[path = "api/rights.rs"]
mod rights;
#[path = "api/routes.rs"]
mod routes;
#[path = "api/start.rs"]
mod start;
#[path = "api/ws.rs"]
mod ws;
