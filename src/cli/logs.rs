//! `octo task ID logs`: a task's output.
//!
//! Into a file or a pipe it goes byte for byte; on a terminal it is [sanitised](crate::render::sanitize).

use clap::Args;

use super::{Failure, World};
use crate::client::{Client, LogEvent, LogQuery};
use crate::command::TaskRef;
use crate::render::sanitize::Sanitizer;
use crate::render::{Paint, thousands};

/// Lines of the end that a terminal gets unless the caller says how many.
const TERMINAL_LINES: u64 = 200;

/// The options of `octo task ID logs`.
#[derive(Debug, Clone, Default, Args)]
pub struct LogsArgs {
    /// Goes on with what the task writes, until it ends
    #[arg(short, long)]
    pub follow: bool,
    /// Just the last N lines; 0: all [default: all, on a terminal 200]
    #[arg(long, value_name = "N")]
    pub lines: Option<u64>,
}

/// Prints the output.
///
/// # Errors
/// The daemon's refusal, or that standard output cannot be written.
pub async fn print_logs(world: &World, client: &Client, task: &TaskRef, args: LogsArgs) -> Result<(), Failure> {
    let terminal = world.terminal.is_one;
    let lines = args.lines.or(terminal.then_some(TERMINAL_LINES)).filter(|n| *n > 0);
    let mut log = client.logs(task, LogQuery { from: None, lines, follow: args.follow }).await?;
    let mut cleaner = terminal.then(Sanitizer::default);
    let mut told = false;
    let mut line_open = false;
    while let Some(event) = log.next().await? {
        let LogEvent::Bytes(bytes) = event else { continue };
        let Some(cleaner) = &mut cleaner else {
            world.print(&bytes)?;
            continue;
        };
        if !told && log.starts_at > 0 && args.lines.is_none() {
            let line = format!("… {} bytes before these; `--lines 0` shows all", thousands(log.starts_at));
            world.print(format!("{}\n", world.view().paint(Paint::Dim, &line)))?;
        }
        told = true;
        let mut clean = String::with_capacity(bytes.len());
        cleaner.push(&bytes, &mut clean);
        line_open = if clean.is_empty() { line_open } else { !clean.ends_with('\n') };
        world.print(clean)?;
    }
    let mut rest = String::new();
    if let Some(mut cleaner) = cleaner {
        cleaner.finish(&mut rest);
        if line_open || !rest.is_empty() {
            rest.push('\n');
        }
    }
    world.print(rest)
}
