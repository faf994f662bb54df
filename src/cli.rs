//! The command line: clap's types, and one small file per command.
//!
//! `src/bin/octo.rs` gathers the [`World`] (environment, terminal, output) and calls [`run`]; a command
//! asks the daemon through the [`Client`](crate::client::Client) and prints what
//! [`render`](crate::render) makes of the answer.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use futures_util::FutureExt as _;

use crate::command::{Refused, RefusedCode};
use crate::render::sanitize;

mod agent;
mod ask;
mod bg;
mod completions;
mod daemon;
mod doctor;
mod init;
mod logs;
mod octod;
mod pair;
mod resume;
mod start;
mod status;
mod stop;
mod task;
mod tasks;
mod trust;
mod usage;
mod wait;
mod world;

pub use agent::AgentArgs;
pub use bg::BgArgs;
pub use logs::{LogsArgs, print_logs};
pub use resume::answer;
pub use start::start_one;
pub use task::show;
pub use usage::NoCommand;
pub use world::{CLI, Terminal, World};

/// Supervises background commands that nothing can lose.
#[derive(Debug, Parser)]
#[command(name = "octo", version, about, max_term_width = 100)]
#[command(after_help = "Without a command: the REPL (or, with input from a pipe, one command a line).\n\
    ID is a task's id, any unambiguous prefix of it, or its number. DUR is 90, 90s, 10m, 2h, 1d.")]
pub struct Cli {
    /// The workspace folder [default: OCTO_WORKSPACE, else the nearest folder with .octo/]
    #[arg(long, global = true, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Runs the supervisor
    Daemon {
        /// Goes to the background and returns when the daemon is ready
        #[arg(long)]
        detach: bool,
    },
    /// Shows the daemon: slots in use, settings and where they came from, bridges
    Status {
        /// Prints one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stops the daemon; tasks go on
    Stop {
        /// Stops all tasks too
        #[arg(long)]
        kill_tasks: bool,
    },
    /// Runs a command in the background; prints its id
    Bg(BgArgs),
    /// Gives an agent a job in plain words; prints the task's id
    #[command(after_help = "A model is needed: OCTO_MODEL, the team's own, or --model; `--model demo/tour` needs no \
        key.\nExample:  octo agent --budget-tokens 20000 'run all the tests and fix any failures'")]
    Agent(Box<AgentArgs>),
    /// Lists tasks: active ones, then the newest ended
    Tasks(tasks::TasksArgs),
    /// Shows one task, or does something with it
    #[command(args_conflicts_with_subcommands = false)]
    Task(task::TaskArgs),
    /// Serves MCP on standard input and output: how `claude` inside a task asks
    Mcp,
    /// Tells step by step what an agent did: what it was told, said, called and got
    Replay {
        /// The task: its id, a prefix of it, or its number
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Inside a task: asks its owner, waits, and prints the answer alone
    #[command(
        after_help = "Without an answer (the time-out ran out, or the task ended) nothing is printed and the exit \
        code is 124.\nExample:  [ \"$(octo ask --choice yes --choice no 'Deploy?')\" = yes ] && ./deploy"
    )]
    Ask(ask::AskArgs),
    /// Makes the current folder a workspace
    Init,
    /// Accepts records and settings files that came from elsewhere
    Trust,
    /// Looks at what the promises stand on here, and says what to do
    Doctor {
        /// Prints one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Lets a person talk to a chat bot of yours
    Pair {
        /// The bot's kind
        bridge: pair::Bridge,
    },
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// It was refused; the person is still to be told.
    Refused(Refused),
    /// All was said; just the exit code is left.
    Quiet(u8),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::Refused(refused)
    }
}

/// Exit code: the task (or command) failed.
pub const FAILED: u8 = 1;
/// Exit code: the time-out ran out.
pub const TIMED_OUT: u8 = 124;

/// Does what a command line asks and returns the exit code; errors are told on the world's stderr.
///
/// All of it blocks: no event loop is made for one command.
#[must_use]
pub fn run(world: &World, verb: Verb) -> u8 {
    match act(world, verb).now_or_never() {
        Some(Ok(())) => 0,
        Some(Err(failure)) => report(world, &failure),
        None => report(world, &Refused::new(RefusedCode::Internal, "the command waits for nothing").into()),
    }
}

async fn act(world: &World, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Daemon { detach } => daemon::run(world, detach),
        Verb::Status { json } => status::run(world, json).await,
        Verb::Stop { kill_tasks } => stop::run(world, kill_tasks).await,
        Verb::Bg(args) => bg::run(world, args).await,
        Verb::Agent(args) => agent::run(world, *args).await,
        Verb::Tasks(args) => tasks::run(world, args).await,
        Verb::Task(args) => task::run(world, args).await,
        Verb::Mcp => octod::become_it(world, &["mcp"], "the MCP server cannot be started"),
        Verb::Replay { id } => octod::become_it(world, &["replay", "--", &id], "the journal cannot be told"),
        Verb::Ask(args) => ask::run(world, args).await,
        Verb::Init => init::run(world),
        Verb::Trust => trust::run(world).await,
        Verb::Doctor { json } => doctor::run(world, json),
        Verb::Pair { bridge } => pair::run(world, bridge).await,
        Verb::Completions { shell } => completions::run(world, shell),
    }
}

/// Tells a failure and returns its exit code.
pub fn report(world: &World, failure: &Failure) -> u8 {
    match failure {
        Failure::Quiet(code) => *code,
        Failure::Refused(refused) => {
            world.warn(&error_text(refused));
            refused.code.exit()
        }
    }
}

/// `error: what happened` and `hint: what to do`, each line ended.
#[must_use]
pub fn error_text(refused: &Refused) -> String {
    let hint = if refused.hint.is_empty() { refused.code.usual_hint() } else { &refused.hint };
    let (message, hint) = (sanitize::text(refused.message.trim_end()), sanitize::text(hint.trim_end()));
    format!("error: {message}\nhint: {hint}\n")
}

#[cfg(test)]
mod tests;
