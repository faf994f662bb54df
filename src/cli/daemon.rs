//! `octo daemon`: becomes `octod`.

use std::os::unix::process::CommandExt;

use super::{Failure, World};
use crate::command::{Refused, RefusedCode};

pub(super) fn run(world: &World, detach: bool) -> Result<(), Failure> {
    let mut octod = std::process::Command::new(&world.octod);
    octod.arg("--workspace").arg(&world.workspace()?.root);
    if detach {
        octod.arg("--detach");
    }
    let error = octod.exec();
    let message = format!("the daemon cannot be started: {}: {error}", world.octod.display());
    Err(Refused::new(RefusedCode::Unavailable, message).hint("`octod` belongs beside `octo`: install both").into())
}
