//! The REPL.

use octo::cli::World;

pub(crate) fn run(_runtime: &tokio::runtime::Runtime, _world: World) -> u8 {
    0
}
