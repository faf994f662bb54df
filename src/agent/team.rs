//! Teams: the agents that a docker-agent YAML file describes.
//!
//! [`Team::read`] is pure: text in, team out. What is wrong in a way that leaves no sensible team is an error with
//! its line and what to do ([`TeamError`]). What merely cannot be used here is left out and told, once, with its line
//! ([`Team::warnings`]): keys that nobody knows, toolsets that need something that is not there, agents in
//! registries. So the same file works for both programs.
//!
//! A team may have circles (two agents that delegate to each other); what bounds them is the depth at run time
//! ([`DEPTH_MAX`], [`deeper`]).

use std::collections::BTreeMap;

mod keys;
mod models;
mod read;
#[cfg(test)]
mod tests;
mod toolsets;
mod yaml;

/// How many agents may stand above each other: whoever is dispatched counts one more than its parent.
pub const DEPTH_MAX: usize = 10;

/// Agents, as a file describes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Team {
    /// The agents, in the file's order.
    pub agents: Vec<Agent>,
    /// The one that starts when none is named: `root`, or the first.
    pub root: String,
    /// What is in the file and not used, each with its line; to be told once.
    pub warnings: Vec<Warning>,
}

/// One agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Its model; `None`: the one of Octo's settings.
    pub model: Option<Model>,
    /// The models to try when that one does not answer.
    pub fallback: Vec<Model>,
    /// What it is good for: what the agents that may dispatch it read.
    pub description: String,
    /// What it is told.
    pub instruction: String,
    /// The agents that it may dispatch, by name.
    pub sub_agents: Vec<String>,
    /// What it can do, besides what every agent can.
    pub toolsets: Vec<Toolset>,
    /// After how many turns it ends; `None`: Octo's default.
    pub max_iterations: Option<u64>,
    /// It is told today's date.
    pub add_date: bool,
    /// It is told about the system that it runs on.
    pub add_environment_info: bool,
}

/// A model as it is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// `provider/model`.
    pub name: String,
    /// Where the provider's API is, if not at its own address.
    pub base_url: Option<String>,
    /// The environment variable that holds the key, if not the provider's own.
    pub token_key: Option<String>,
    /// The most tokens of one answer.
    pub max_tokens: Option<u64>,
    /// The temperature.
    pub temperature: Option<f64>,
    /// The nucleus.
    pub top_p: Option<f64>,
}

/// Tools that an agent has.
#[derive(Debug, Clone, PartialEq)]
pub struct Toolset {
    /// Which.
    pub kind: Kind,
    /// Only these of them, by name; `None`: all.
    pub tools: Option<Vec<String>>,
    /// What the agent is told about them.
    pub instruction: String,
    /// The line where it stands.
    pub line: usize,
}

/// The kinds of toolsets that run here.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `think`.
    Think,
    /// `todo`.
    Todo,
    /// The tools for files.
    Filesystem,
    /// `shell`, with these variables set.
    Shell {
        /// Names and values; a value may have `${env.NAME}` in it.
        env: BTreeMap<String, String>,
    },
    /// The tools to dispatch sub-agents and to look after them.
    BackgroundAgents,
    /// An MCP server.
    Mcp(Mcp),
}

/// An MCP server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mcp {
    /// What its tools' names begin with.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
}

/// How an MCP server is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    /// A program, over its standard input and output.
    Command {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables; a value may have `${env.NAME}` in it.
        env: BTreeMap<String, String>,
    },
    /// An address.
    Remote {
        /// Where.
        url: String,
        /// `streamable`, or `sse`.
        transport: String,
        /// Headers; a value may have `${env.NAME}` in it.
        headers: BTreeMap<String, String>,
    },
}

impl Default for Reach {
    fn default() -> Reach {
        Reach::Command { command: String::new(), args: Vec::new(), env: BTreeMap::new() }
    }
}

/// What this installation has, as far as toolsets need it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Here {
    /// There is a `docker` with MCP gateway, so that `ref: docker:...` can run.
    pub docker: bool,
}

/// Something in the file that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its line, from 1.
    pub line: usize,
    /// What it is, and what that means.
    pub what: String,
}

/// Why a file gives no team.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}; {hint}")]
pub struct TeamError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
    /// What to do.
    pub hint: String,
}

/// What can be wrong with a team file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is no YAML that can be used.
    #[error("this is no YAML that Octo reads: {0}")]
    Yaml(String),
    /// A value is of the wrong kind.
    #[error("{0} must be {1}")]
    Kind(String, &'static str),
    /// Something that must be there is not.
    #[error("{0} has no `{1}`")]
    Missing(String, &'static str),
    /// There are no agents.
    #[error("the file has no agents")]
    NoAgents,
    /// An agent's name cannot be used.
    #[error("`{0}` is no name for an agent")]
    Name(String),
    /// An agent names a sub-agent that there is none of.
    #[error("agent `{agent}` names the sub-agent `{named}`, which is not in this file")]
    SubAgent {
        /// The agent.
        agent: String,
        /// What it names.
        named: String,
    },
    /// A model's name says nothing.
    #[error("there is no model `{0}`")]
    Model(String),
}

impl Team {
    /// Reads a team file.
    ///
    /// # Errors
    /// With its line, when the file gives no team that makes sense.
    pub fn read(text: &str, here: Here) -> Result<Team, TeamError> {
        read::team(text, here)
    }

    /// The agent of this name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// The agent to start with: the one that was named, else the root.
    ///
    /// # Errors
    /// When there is none of that name, in words that list those that are.
    pub fn start(&self, named: Option<&str>) -> Result<&Agent, String> {
        let name = named.unwrap_or(&self.root);
        self.agent(name).ok_or_else(|| {
            let all: Vec<_> = self.agents.iter().map(|a| a.name.as_str()).collect();
            format!("there is no agent `{name}`; available: {}", all.join(", "))
        })
    }

    /// The agent that `from` dispatches: only those that it declares as sub-agents can be.
    ///
    /// # Errors
    /// When `named` is none of them, in words for a model that list those that are.
    pub fn sub_agent(&self, from: &str, named: &str) -> Result<&Agent, String> {
        let declared = self.agent(from).map(|a| a.sub_agents.as_slice()).unwrap_or_default();
        let found = declared.iter().find(|name| *name == named).and_then(|name| self.agent(name));
        found.ok_or_else(|| match declared {
            [] => format!("agent `{from}` has no sub-agents, so it cannot dispatch `{named}`: do it yourself"),
            all => format!("`{named}` is no sub-agent of `{from}`; available: {}", all.join(", ")),
        })
    }
}

/// The depth of an agent that one at `depth` dispatches (the first has 1).
///
/// # Errors
/// When that would be more than [`DEPTH_MAX`], in words for a model.
pub fn deeper(depth: usize) -> Result<usize, String> {
    if depth < DEPTH_MAX {
        return Ok(depth + 1);
    }
    Err(format!("agents have dispatched agents {DEPTH_MAX} deep, and that is the most: do this task yourself"))
}
