//! `octo mcp`: becomes `octod mcp`, so that `octo` itself stays small.

use std::os::unix::process::CommandExt;

use super::{Failure, World};
use crate::command::{Refused, RefusedCode};

pub(super) fn run(world: &World) -> Result<(), Failure> {
    let mut octod = std::process::Command::new(&world.octod);
    if let Some(workspace) = &world.workspace {
        octod.arg("--workspace").arg(workspace);
    }
    let error = octod.arg("mcp").exec();
    let message = format!("the MCP server cannot be started: {}: {error}", world.octod.display());
    Err(Refused::new(RefusedCode::Unavailable, message).hint("`octod` belongs beside `octo`: install both").into())
}
