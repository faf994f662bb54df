//! `octo`: the command line and the REPL. Gathers the surroundings, hands over, exits.

use std::cell::{OnceCell, RefCell};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use octo::cli::{Cli, NoCommand, Terminal, World, error_text};

#[path = "../../bots/repl.rs"]
mod repl;

fn main() -> ExitCode {
    // A task's `claude` is a link to this program; nothing may come before it.
    if octo::claude::called_as_claude(std::env::args_os().next().as_deref()) {
        return octo::claude::run_wrapper();
    }
    let cli = match Cli::read(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(NoCommand::Asked(text)) => text.exit(),
        Err(NoCommand::Refused(refused)) => {
            eprint!("{}", error_text(&refused));
            return ExitCode::from(refused.code.exit());
        }
    };
    let world = world(cli.workspace);
    if let Some(verb) = cli.verb {
        let code = octo::cli::run(&world, verb);
        // Everything was flushed: whoever waits for this process need not wait until it has cleaned up.
        std::process::exit(code.into());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: no event loop: {e}\nhint: raise the limit of open files");
            return ExitCode::FAILURE;
        }
    };
    let code = repl::run(&runtime, world, history());
    // Whatever still runs on a helper thread (a blocked read) must not hold the exit up.
    runtime.shutdown_background();
    ExitCode::from(code)
}

fn world(workspace: Option<PathBuf>) -> World {
    World {
        workspace,
        cwd: std::env::current_dir(),
        home: std::env::home_dir(),
        vars: std::env::vars_os().collect(),
        octod: octod(),
        surface: octo::cli::CLI,
        terminal: terminal(),
        out: RefCell::new(Box::new(std::io::stdout())),
        data: directories::ProjectDirs::from("", "", "octo").map(|d| d.data_dir().to_owned()),
        exe: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("octo")),
        err: RefCell::new(Box::new(std::io::stderr())),
        found: OnceCell::new(),
    }
}

/// The daemon's program: beside this one, else whatever PATH finds.
fn octod() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("octod")));
    beside.filter(|p| p.exists()).unwrap_or_else(|| PathBuf::from("octod"))
}

/// Where the REPL keeps what was typed: the user's data folder.
fn history() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "octo").map(|dirs| dirs.data_dir().join("history"))
}

fn terminal() -> Terminal {
    if !std::io::stdout().is_terminal() {
        return Terminal::default();
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    Terminal {
        is_one: true,
        width: || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)),
        colour: set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb"),
    }
}
