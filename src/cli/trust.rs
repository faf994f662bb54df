//! `octo trust`: accepts what came with a clone, after saying what it is.

use super::{Failure, World};
use crate::render::sanitize;

pub(super) async fn run(world: &World) -> Result<(), Failure> {
    let accepted = world.client()?.trust().await?;
    if accepted.is_empty() {
        return world.print("there is nothing that waits to be trusted\n");
    }
    let mut out = String::from("trusted from now on:\n");
    let settings = accepted.iter().any(|what| what.contains("settings file"));
    for what in accepted {
        out.push_str(&format!("  {}\n", sanitize::line(&what)));
    }
    if settings {
        out.push_str("settings are read when the daemon starts: `octo stop`, and the next command uses them\n");
    }
    world.print(out)
}
