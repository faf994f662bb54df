//! `octo completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure, World};

pub(super) fn run(world: &World, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "octo", &mut script);
    world.print(script)
}
