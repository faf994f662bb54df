//! What agents can do: the table of tools, and those that run in this process.
//!
//! ```text
//!  a model's call ── call::parse (name, JSON) ── Call ──┬── here(..): files, thoughts, the list   this module
//!                                                       └── the rest: the agents' loop, which has the tasks
//!  policy::decide says before, whether it may run, must be approved, or is denied
//! ```
//!
//! [`TOOLS`] is the whole truth about tools: names, schemas, what kind of effect they have. [`Folder`] is the only
//! way to files: nothing outside the task's folder can be reached, and nothing that is Octo's own (`guard.rs`).
//!
//! **What a tool says, also when it fails, is written for a model**: what happened, and what to do. It is bounded
//! ([`RESULT_MAX`]), and so are the time and memory that it takes ([`Limits`]). What was cut says where the whole is.
//!
//! **What a model never gets to read**: `.octo/**`; `.env` and `.env.*` (not `.env.example` and its like); keys of
//! people (`.ssh`, `.gnupg`, `.netrc`, `.git-credentials`, `id_rsa` ...) and `.git/config`, which can hold a token.
//! Other secrets of a project look like its other files, and are readable. **What it never writes**: all that, and
//! `.git`, `octo.toml`, `.mcp.json`, `.claude` and the team file, which decide what runs with the owner's rights.

use std::time::Duration;

mod call;
mod edit;
mod folder;
mod guard;
mod list;
mod output;
pub mod policy;
mod read;
mod search;
pub mod spec;
mod table;
#[cfg(test)]
mod tests;
mod todos;
mod walk;
mod write;

pub use call::*;
pub use folder::Folder;
pub use guard::Guard;
pub use output::cap;
pub use table::TOOLS;
pub use todos::{Status, TODOS_MAX, Todo, Todos};

/// The longest answer of a tool that runs here, in bytes: about a fifth of the tokens that an agent has by default.
pub const RESULT_MAX: usize = 32 << 10;

/// One tool.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name, as models see it.
    pub name: &'static str,
    /// What it does, for the model.
    pub about: &'static str,
    /// What kind of effect it has.
    pub class: Class,
    /// Which agents have it.
    pub set: Set,
    /// What it takes.
    pub params: &'static [spec::Param],
    /// A call that it takes, as JSON.
    pub example: &'static str,
}

impl Tool {
    /// The JSON schema of its arguments.
    #[must_use]
    pub fn schema(&self) -> serde_json::Value {
        spec::schema(self.params)
    }
}

/// What kind of effect a tool has. It decides what becomes of a call whose result was not recorded before a crash,
/// and, with the owner's policy, whether a call needs approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Changes nothing: may be run again.
    Read,
    /// Changes files inside the task's folder, each one at a time and whole.
    WriteInside,
    /// May change anything: never run again by itself.
    Effect,
    /// Changes only what Octo keeps, under the key of the call: the same call again is the same act.
    Internal,
}

/// Which agents have a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Every agent in a task.
    Always,
    /// Those with the toolset `filesystem`.
    Filesystem,
    /// Those with the toolset `shell`.
    Shell,
    /// Those with the toolset `think`.
    Think,
    /// Those with the toolset `todo`.
    Todo,
    /// Those with the toolset `background_agents`.
    BackgroundAgents,
    /// Those with sub-agents.
    Delegation,
    /// The supervisor agent, and whoever may dispatch tasks of any kind.
    Supervisor,
}

/// The tool of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// Why a tool did not do what was asked, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ToolError(String);

impl ToolError {
    /// Wraps the words.
    pub fn new(words: impl Into<String>) -> ToolError {
        ToolError(words.into())
    }
}

/// What one call may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may go through folders.
    pub within: Duration,
    /// How many names it may look at.
    pub entries: usize,
    /// How many files, or matching lines, it shows.
    pub shown: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { within: Duration::from_secs(10), entries: 200_000, shown: 1000 }
    }
}

/// Runs a call if it is one that runs in this process; it may block. `None`: it is one of those that need more.
#[must_use]
pub fn here(call: &Call, folder: &Folder, todos: &mut Todos, limits: Limits) -> Option<Result<String, ToolError>> {
    let said = match call {
        Call::ReadFile(args) => read::read_file(folder, args),
        Call::WriteFile(args) => write::write_file(folder, args),
        Call::EditFile(args) => edit::edit_file(folder, args),
        Call::ListFiles(args) => list::list_files(folder, args, limits),
        Call::SearchFiles(args) => search::search_files(folder, args, limits),
        Call::Think(_) => Ok("Noted.".to_owned()),
        Call::CreateTodos(args) => todos.create(&args.descriptions),
        Call::UpdateTodos(args) => todos.update(&args.updates),
        Call::ListTodos(_) => Ok(todos.list()),
        Call::Shell(_)
        | Call::TaskComplete(_)
        | Call::EscalateQuestion(_)
        | Call::DispatchBackground(_)
        | Call::RunBackgroundAgent(_)
        | Call::ListBackgroundAgents(_)
        | Call::ViewBackgroundAgent(_)
        | Call::StopBackgroundAgent(_)
        | Call::WaitBackgroundAgents(_)
        | Call::TransferTask(_) => return None,
    };
    let bounded = |text: String| cap(&text, RESULT_MAX, "the files themselves: ask for less at a time");
    Some(said.map(bounded).map_err(|e| ToolError::new(cap(&e.0, RESULT_MAX, "nowhere else"))))
}
