//! Agents: models that work on a task with tools, in the daemon.
//!
//! * [`model`]: asking models, whoever serves them; demo models; what tokens cost.

pub mod model;
