//! `octo status`: how the daemon is; never starts one.

use super::{Failure, World};
use crate::render;

pub(super) async fn run(world: &World, json: bool) -> Result<(), Failure> {
    let status = world.client()?.only_connect().status().await?;
    if json {
        return world.print_json(&status);
    }
    world.print(render::report(&status, "`octo tasks` lists them", &world.view()))
}
