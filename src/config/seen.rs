//! Whether the settings files still are what the daemon read.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::files::read_settings_file;
use super::{DOTENV, OCTO_TOML};
use crate::workspace::Workspace;

/// What the settings files of a workspace held at one moment.
#[derive(Debug)]
pub struct Seen {
    /// The workspace's folder, open: its path may later be that of another one. `None`: it cannot be opened.
    root: Option<File>,
    files: Vec<(&'static str, Option<[u8; 32]>)>,
}

impl Seen {
    /// Looks at the files as they are now.
    #[must_use]
    pub fn now(ws: &Workspace) -> Seen {
        let root = File::open(&ws.root).ok();
        let files = [DOTENV, OCTO_TOML].map(|name| (name, root.as_ref().and_then(|root| digest(root, name))));
        Seen { root, files: files.into() }
    }

    /// The paths of those that were there, for whoever wants to watch them.
    #[must_use]
    pub fn paths(&self, ws: &Workspace) -> Vec<PathBuf> {
        self.files.iter().filter(|(_, was)| was.is_some()).map(|(name, _)| ws.root.join(name)).collect()
    }

    /// Whether one of them holds something else now, perhaps just for the moment in which it is written. Reads them.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.files.iter().any(|(name, was)| self.differs_from(name, was.as_ref()))
    }

    /// The names of those that hold something else now. Each change is told once. Reads them.
    pub fn changed(&mut self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        let Some(root) = &self.root else { return changed };
        for (name, was) in &mut self.files {
            let now = digest(root, name);
            if now != *was {
                *was = now;
                changed.push(*name);
            }
        }
        changed
    }

    fn differs_from(&self, name: &str, was: Option<&[u8; 32]>) -> bool {
        self.root.as_ref().is_some_and(|root| digest(root, name).as_ref() != was)
    }
}

/// A file's contents in short; `None` when there is none, or none that can be read.
fn digest(root: &File, name: &str) -> Option<[u8; 32]> {
    let path = Path::new("/proc/self/fd").join(root.as_raw_fd().to_string()).join(name);
    read_settings_file(&path).ok().flatten().map(|(bytes, _)| Sha256::digest(bytes).into())
}
