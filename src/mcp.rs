//! `octo mcp`: an MCP server on standard input and output, named `octo`. It is how a `claude` inside a task asks.
//!
//! ```text
//!  claude --MCP on stdio--> octo mcp ==exec==> octod mcp                          gate, server
//!                                                 |  escalate_question, permission
//!                                               Desk (a Client of the daemon)      desk
//!                                                 |  POST .../questions, GET .../questions/q1?wait=
//!                                               .octo/octo.sock --> octod --> the owner's channels
//! ```
//!
//! Inside a task it offers `escalate_question` and the permission handler `permission`, and nothing else: no tool
//! answers, starts or stops anything. Outside a task it offers no tool.
//!
//! It keeps nothing: a question lives in the daemon, and a wait for its answer goes on through any number of the
//! daemon's deaths. Where the request is cancelled or standard input closes, the wait ends without an answer; the
//! question stays as it is. Nothing but MCP is ever written to standard output.

mod choices;
mod desk;
mod gate;
mod permission;
mod server;
mod tools;

pub use desk::{ClientDesk, Desk};
pub use server::{Manner, Offer, SIGN_OF_LIFE, serve};

#[cfg(test)]
mod tests;
