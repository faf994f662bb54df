//! `octod`: the supervisor daemon. Wiring, signals, exit codes; what it does is in the library.

use std::process::ExitCode;

use clap::Parser;

#[path = "octod/changes.rs"]
mod changes;
#[path = "octod/mcp.rs"]
mod mcp;
#[path = "octod/replay.rs"]
mod replay;
#[path = "octod/run.rs"]
mod run;
#[path = "../../bots/telegram.rs"]
mod telegram;

/// The supervisor daemon of one workspace. `octo daemon` starts it.
#[derive(Debug, Parser)]
#[command(name = "octod", version, about)]
struct Args {
    /// The workspace folder; default: $OCTO_WORKSPACE, else the nearest one above.
    #[arg(long, global = true, value_name = "DIR")]
    workspace: Option<std::path::PathBuf>,
    /// Return when the daemon is ready and let it go on by itself.
    #[arg(long)]
    detach: bool,
    /// Says `ready` on standard output, then closes it (used by --detach).
    #[arg(long, hide = true)]
    tell: bool,
    /// Something else than the daemon.
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What this program is beside the daemon: what `octo` is too small for.
#[derive(Debug, clap::Subcommand)]
enum Instead {
    /// The MCP server on standard input and output
    Mcp,
    /// Tells what happened in a task, step by step
    Replay {
        /// The task: its id, a prefix of it, or its number
        id: String,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.instead {
        Some(Instead::Mcp) => mcp::serve(&args),
        Some(Instead::Replay { id }) => replay::print(&args, id),
        None if args.detach => run::detach(&args),
        None => run::daemon(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
