//! `octo mcp` and `octo replay ID`: become `octod`, so that `octo` itself stays small.

use std::os::unix::process::CommandExt;

use super::{Failure, World};
use crate::command::{Refused, RefusedCode};

/// Becomes `octod` with these arguments; `what` says what cannot be had when that fails.
pub(super) fn become_it(world: &World, args: &[&str], what: &str) -> Result<(), Failure> {
    let mut octod = std::process::Command::new(&world.octod);
    if let Some(workspace) = &world.workspace {
        octod.arg("--workspace").arg(workspace);
    }
    let error = octod.args(args).exec();
    let message = format!("{what}: {}: {error}", world.octod.display());
    Err(Refused::new(RefusedCode::Unavailable, message).hint("`octod` belongs beside `octo`: install both").into())
}
