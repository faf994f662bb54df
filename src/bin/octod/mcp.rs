//! `octod mcp`: the MCP server of `octo mcp`. Gathers its surroundings; what it does is in the library.

use std::path::{Path, PathBuf};

use octo::ancestry;
use octo::client::{Client, Door};
use octo::command::TaskRef;
use octo::config::ClaudeBridge;
use octo::mcp::{self, ClientDesk, Manner, Offer, Questions, Tasks};
use octo::workspace::Workspace;
use rmcp::transport::async_rw::AsyncRwTransport;

use super::Args;
use super::run::{Failure, found};

/// Serves one client on standard input and output.
pub(crate) fn serve(args: &Args) -> Result<(), Failure> {
    let offer = offer(args)?;
    let failed = |why: String| Failure::new(3, format!("the MCP server ended: {why}"), "its client speaks no MCP");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(3, format!("no event loop: {e}"), "raise the limit of open files"))?;
    let result = runtime.block_on(async {
        let (read, write) = rmcp::transport::stdio_pipes();
        let manner = Manner { folder: Box::new(folder_of_parent), sign_of_life: mcp::SIGN_OF_LIFE };
        mcp::serve(offer, manner, AsyncRwTransport::new(read, write)).await
    });
    // A read of standard input may still block a thread.
    runtime.shutdown_background();
    result.map_err(failed)
}

fn offer(args: &Args) -> Result<Offer<ClientDesk>, Failure> {
    let workspace = found(args)?;
    let octod = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("octod"));
    let task = own_task(&workspace);
    let inside_task = task.is_some();
    let client = Client::new(Door { workspace, octod, inside_task }, "mcp");
    let Some(task) = task else { return Ok(Offer { questions: None, tasks: Some(Tasks::of_owner(client)) }) };
    let bridge = set("OCTO_CLAUDE_BRIDGE").and_then(|word| word.parse::<ClaudeBridge>().ok()).unwrap_or_default();
    let desk = ClientDesk::new(client.clone(), task.clone());
    let questions = match bridge {
        ClaudeBridge::Off => None,
        ClaudeBridge::Questions => Some(Questions { desk, permissions: false }),
        ClaudeBridge::Full => Some(Questions { desk, permissions: true }),
    };
    Ok(Offer { questions, tasks: Some(Tasks::of_task(client, task)) })
}

/// The task of this workspace that this process is part of, as its environment says, or else its ancestors.
fn own_task(workspace: &Workspace) -> Option<TaskRef> {
    let is_this = |root: &str| {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        real(Path::new(root)) == real(&workspace.root)
    };
    let named = set("OCTO_TASK_ID").filter(|_| set("OCTO_WORKSPACE").is_none_or(|root| is_this(&root)));
    if let Some(id) = named {
        return Some(TaskRef(id));
    }
    let above = ancestry::shims_above(std::process::id().cast_signed()).unwrap_or_default();
    above.into_iter().find(|shim| shim.workspace == workspace.root).map(|shim| TaskRef(shim.task.to_string()))
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of the `claude` that started this server: it may have changed it since.
fn folder_of_parent() -> PathBuf {
    let parent = std::fs::read_link(format!("/proc/{}/cwd", std::os::unix::process::parent_id()));
    parent.or_else(|_| std::env::current_dir()).unwrap_or_default()
}
