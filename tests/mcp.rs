//! MCP in both directions: `octo mcp` as other programs see it, and the servers that agents use.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

mod harness;
#[path = "mcp/owner.rs"]
mod owner;
#[path = "mcp/remote.rs"]
mod remote;
#[path = "mcp/server.rs"]
mod server;
#[path = "mcp/servers.rs"]
mod servers;
#[path = "mcp/task.rs"]
mod task;
