//! Agents that run inside the daemon: their parts.
//!
//! * [`tools`] is what an agent can do: one table of tools with their schemas, the tools that run in this process
//!   (files inside the task's folder, notes), and the rules of what needs its owner's approval.
//! * [`team`] reads the YAML of docker-agent into agents with their models, instructions and toolsets.
//!
//! Only `octod` uses this module.

pub mod team;
pub mod tools;
