//! `octod replay`: prints what happened in a task. Gathers the record and the journals; how it is told is in the library.

use std::io::Write as _;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use octo::agent::{journal, replay};
use octo::client::{Client, Door};
use octo::command::TaskRef;

use super::Args;
use super::run::{Failure, found};

/// Prints the story of one task.
pub(crate) fn print(args: &Args, reference: &str) -> Result<(), Failure> {
    let workspace = found(args)?;
    let octod = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("octod"));
    let inside_task = std::env::var_os("OCTO_TASK_ID").is_some_and(|id| !id.is_empty());
    let client = Client::new(Door { workspace: workspace.clone(), octod, inside_task }, "cli");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(3, format!("no event loop: {e}"), "raise the limit of open files"))?;
    let task = runtime.block_on(client.get(&TaskRef(reference.to_owned())));
    let task = task.map_err(|refused| Failure::new(refused.code.exit(), refused.message, refused.hint))?;
    let folder = workspace.octo.join("tasks").join(task.id.as_str());
    let journals = journal::read_all(&folder).map_err(|error| {
        Failure::new(1, error.to_string(), "the record is whole: `octo task ID` shows it; the journal is kept as it is")
    })?;
    let story = replay::story(&task, &journals, &TimeZone::system());
    let mut out = std::io::stdout().lock();
    // A reader that has left has seen enough.
    let _ = out.write_all(story.as_bytes()).and_then(|()| out.flush());
    Ok(())
}
