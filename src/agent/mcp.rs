//! The MCP servers of one agent: started or reached when the agent begins, and gone with it.
//!
//! ```text
//!  agent's loop ── Servers::call("files__look", ..) ── Server ──┬─ tether ─ a program's standard streams   child
//!                                                     (rmcp)    └─ streamable HTTP                         remote
//! ```
//!
//! **A server that cannot be reached is off**: its tools are not there, [`Servers::problems`] says why, and the
//! agent works without it. One that dies later is started again by the next call of one of its tools, once a call.
//! The list of tools stays the one of the beginning, since an agent's journal refers to it.
//!
//! **No call is made twice.** When a call was sent and its answer is lost, [`CallError::Unknown`] says so, and whoever
//! called decides. ([`CallError::NotDone`]: it never reached the server; [`CallError::Failed`]: the tool said so itself.)
//!
//! **Names** ([`Servers::tools`]) are `server__tool`, so that no server can pass a tool off as one of Octo's own or of
//! another server; they are the same at every start, whatever else is there (`names.rs`).
//!
//! **Every tool of a server is a [`CLASS`] of its own kind: it may change anything.** What a server's annotations say
//! (`readOnlyHint`) is the word of the server, whom nobody asked for approval, and decides nothing here.
//!
//! **Programs** run under a tether ([`crate::shim`]): they and whatever they start end with the agent, and with the
//! daemon, however it dies. For the API they are part of the agent's task, and have none of its owner's rights. Octo's
//! own secrets reach them only by name: where the file itself says `env: {NAME: ${env.NAME}}`.
//!
//! **What a server sends is bounded**: a message (16 MiB), its tools and their descriptions and schemas, a result
//! ([`RESULT_MAX`](super::tools::RESULT_MAX)), the time for everything. What it says on standard error goes into the
//! daemon's log at the level `debug`. Values that came from `${env.NAME}`, headers and addresses are in no message and
//! in no line of the log; the crate's own lines would quote them, which is what [`QUIET`] is for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::model::ToolSpec;
use super::team::{Kind, Toolset};
use super::tools::{Class, ToolError};

mod child;
mod expand;
mod link;
mod names;
mod remote;
mod said;
mod server;
mod tool;

#[cfg(test)]
mod tests;

use server::Server;

/// What kind of effect every tool of every MCP server counts as having.
pub const CLASS: Class = Class::Effect;

/// How long a server may usually take to start and to list its tools: `npx` may have to fetch it first.
pub const START_WITHIN: Duration = Duration::from_secs(60);

/// What a log's filter says so that the crate behind this module writes nothing: it quotes addresses, with the keys in
/// them, and what servers sent.
pub const QUIET: &str = "rmcp=off";

/// What servers need to know of their surroundings.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The environment of programs. Octo's own secrets in it are left out.
    pub env: &'a BTreeMap<OsString, OsString>,
    /// Finds the value of a variable that a file names as `${env.NAME}`.
    pub look_up: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The folder that programs run in: the agent's.
    pub cwd: &'a Path,
    /// The `octo-shim` program.
    pub shim: &'a Path,
    /// A run folder below `.octo/tasks/ID/` of the agent's task; it need not exist. Whoever is below it belongs to
    /// that task.
    pub mark: &'a Path,
    /// The soft limit of open files that programs get; `None`: the daemon's.
    pub open_files: Option<u64>,
    /// How long one server may take to start and to list its tools; usually [`START_WITHIN`].
    pub start_within: Duration,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the environment: it may hold anything.
        f.debug_struct("Surroundings").field("cwd", &self.cwd).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// Why a call has no result, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The tool, or its server, answered that it failed.
    #[error(transparent)]
    Failed(ToolError),
    /// The server never got the call.
    #[error(transparent)]
    NotDone(ToolError),
    /// The server may have got the call, and did not answer: it may have been done, or not.
    #[error(transparent)]
    Unknown(ToolError),
}

impl From<CallError> for ToolError {
    fn from(error: CallError) -> ToolError {
        match error {
            CallError::Failed(words) | CallError::NotDone(words) | CallError::Unknown(words) => words,
        }
    }
}

/// The MCP servers of one agent. Dropping it ends them.
#[derive(Debug, Default)]
pub struct Servers {
    servers: Vec<Server>,
    problems: Vec<String>,
}

impl Servers {
    /// Starts or reaches the MCP servers among these toolsets, all at the same time. Needs a Tokio runtime, which
    /// must go on running as long as they are used.
    pub async fn connect(toolsets: &[Toolset], here: &Surroundings<'_>) -> Servers {
        let wanted: Vec<_> = toolsets.iter().filter_map(|set| Some((mcp(set)?, set.tools.as_deref()))).collect();
        let labels = names::labels(wanted.iter().map(|(mcp, _)| *mcp));
        let starting = wanted.iter().zip(labels).map(|((mcp, only), label)| Server::start(mcp, *only, label, here));
        let mut all = Servers::default();
        for started in join_all(starting).await {
            match started {
                Ok((server, problems)) => {
                    all.servers.push(server);
                    all.problems.extend(problems);
                }
                Err(problem) => all.problems.push(problem),
            }
        }
        all
    }

    /// What the owner should know, one sentence each: servers that are off, tools that are left out, and why.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The tools of all servers, as models get them. Always the same list.
    #[must_use]
    pub fn tools(&self) -> Vec<ToolSpec> {
        self.servers.iter().flat_map(|server| server.tools.iter().map(|tool| tool.spec.clone())).collect()
    }

    /// Tells whether there is a tool of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.servers.iter().any(|server| server.tool(name).is_some())
    }

    /// Calls a tool by the name that models know it by. What it says is text of at most
    /// [`RESULT_MAX`](super::tools::RESULT_MAX) bytes.
    ///
    /// # Errors
    /// The tool failed; the server could not be reached; or its answer did not come `within` this time.
    pub async fn call(&self, name: &str, arguments: &Value, within: Duration) -> Result<String, CallError> {
        let Some((server, tool)) = self.servers.iter().find_map(|server| Some((server, server.tool(name)?))) else {
            let words = format!("there is no tool `{name}`: the MCP server that had it is off, or never had it");
            return Err(CallError::NotDone(ToolError::new(words)));
        };
        server.call(tool, arguments, within).await
    }
}

fn mcp(set: &Toolset) -> Option<&super::team::Mcp> {
    match &set.kind {
        Kind::Mcp(mcp) => Some(mcp),
        Kind::Think | Kind::Todo | Kind::Filesystem | Kind::Shell { .. } | Kind::BackgroundAgents => None,
    }
}
