//! Agents that run inside the daemon.
//!
//! ```text
//!   supervisor ──launch, stop──► hub ── one driver per agent: drive(State, World) ──► journal.jsonl
//!        ▲                        │                             │
//!        └── reports, questions, budgets, new tasks             ├── model   tools   mcp   shell (under shims)
//! ```
//!
//! * [`journal`] is what happened to an agent, a line for each thing; [`step`] folds it and says what comes next: pure.
//!   [`drive`] does that, one synced line before each act; [`compact`] makes conversations shorter.
//! * [`hub`] is where agents live in the daemon: it starts and stops drivers, and is the [`drive::World`] that is real.
//! * [`model`]: asking models, whoever serves them; demo models; what tokens cost.
//! * [`mcp`]: the MCP servers of an agent, and their tools.
//! * [`tools`] is what an agent can do: one table of tools with their schemas, the tools that run in this process
//!   (files inside the task's folder, notes), and the rules of what needs its owner's approval.
//! * [`mcp`]: the tools of MCP servers.
//! * [`team`] reads the YAML of docker-agent into agents with their models, instructions and toolsets.

pub mod compact;
pub mod drive;
mod http;
pub mod hub;
pub mod journal;
pub mod mcp;
pub mod model;
pub mod replay;
pub mod step;
pub mod team;
pub mod tools;
