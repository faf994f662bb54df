//! Agents that run inside the daemon: their parts.
//!
//! * [`model`]: asking models, whoever serves them; demo models; what tokens cost.
//! * [`mcp`]: the MCP servers of an agent, and their tools.
//! * [`tools`] is what an agent can do: one table of tools with their schemas, the tools that run in this process
//!   (files inside the task's folder, notes), and the rules of what needs its owner's approval.
//! * [`team`] reads the YAML of docker-agent into agents with their models, instructions and toolsets.
//!
//! The loop that makes an agent of them is not written yet: nothing in the daemon uses this module.

pub mod compact;
pub mod drive;
pub mod journal;
pub mod mcp;
pub mod model;
pub mod replay;
pub mod step;
pub mod team;
pub mod tools;
