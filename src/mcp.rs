//! `octo mcp`: an MCP server on standard input and output, named `octo`. It is how a `claude` inside a task asks, and
//! how programs of the workspace's owner (editors, agents) start background tasks and look after them.
//!
//! ```text
//!  client --MCP on stdio--> octo mcp ==exec==> octod mcp                          gate, server
//!                              inside a task      |         outside
//!                  escalate_question, permission  |  dispatch_background, list_, view_, stop_background_agent,
//!                                           desk  |  wait_background_agents       tasks
//!                                                 |  the Client of every surface
//!                                               .octo/octo.sock --> octod --> the owner's channels
//! ```
//!
//! Inside a task it offers `escalate_question` and the permission handler `permission`, and nothing else; a task that
//! was started with `--allow-dispatch` also gets the tools for tasks, which show it those that it started itself.
//! Nowhere does a tool answer a question. The daemon holds all callers to the same, whatever is offered here.
//!
//! It keeps nothing: questions and tasks live in the daemon, and a wait goes on through any number of the daemon's
//! deaths. Where a request is cancelled or standard input closes, the wait ends; questions and tasks stay as they are.
//! A start goes by a key made of the request, so that a request that is sent again starts nothing again. Nothing but
//! MCP is ever written to standard output.

mod choices;
mod desk;
mod gate;
mod permission;
mod server;
mod tasks;
mod tools;

pub use desk::{ClientDesk, Desk};
pub use server::{Manner, Offer, Questions, SIGN_OF_LIFE, serve};
pub use tasks::Tasks;

#[cfg(test)]
mod tests;
