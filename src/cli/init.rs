//! `octo init`: makes the current folder a workspace.

use std::fs::File;
use std::io::{ErrorKind, Write as _};

use super::{Failure, World};
use crate::command::{Refused, RefusedCode};
use crate::config;
use crate::workspace::Workspace;

pub(super) fn run(world: &World) -> Result<(), Failure> {
    // Here, and not in a workspace further up: that is what this command is for.
    let here = world.workspace.clone().map_or_else(|| world.cwd().map(ToOwned::to_owned), Ok)?;
    let workspace = Workspace::find(Some(&here), None, world.cwd()?, None)?;
    let existed = workspace.octo.is_dir();
    workspace.create()?;
    let mut said = match existed {
        true => format!("{} is a workspace already\n", workspace.root.display()),
        false => format!("{} is a workspace now\n", workspace.root.display()),
    };
    let path = workspace.root.join("octo.toml");
    match File::options()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut f| f.write_all(config::octo_toml().as_bytes()))
    {
        Ok(()) => said.push_str(&format!("wrote {}: every setting, commented out\n", path.display())),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => {
            let message = format!("{} cannot be written: {e}", path.display());
            return Err(Refused::new(RefusedCode::Storage, message).hint("check the folder's permissions").into());
        }
    }
    world.print(said)
}
