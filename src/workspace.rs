//! The workspace folder and its `.octo/`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::command::{Refused, RefusedCode};

/// A workspace: the folder that holds `.octo/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The workspace folder.
    pub root: PathBuf,
    /// Its `.octo/`.
    pub octo: PathBuf,
}

impl Workspace {
    /// Finds the workspace: the named one, else the nearest with `.octo/`, else the current folder.
    ///
    /// # Errors
    /// A refusal when a named folder does not exist.
    pub fn find(
        named: Option<&Path>,
        env: Option<&OsStr>,
        cwd: &Path,
        home: Option<&Path>,
    ) -> Result<Workspace, Refused> {
        let at = |root: &Path| Workspace { root: root.to_owned(), octo: root.join(".octo") };
        if let Some(dir) = named.or(env.map(Path::new)) {
            let dir = cwd.join(dir);
            return dir
                .canonicalize()
                .map(|d| at(&d))
                .map_err(|e| Refused::new(RefusedCode::BadRequest, format!("the workspace {}: {e}", dir.display())));
        }
        let found = cwd.ancestors().find(|d| Some(*d) != home && d.join(".octo").is_dir());
        Ok(at(found.unwrap_or(cwd)))
    }
}

/// Connects to the daemon's socket.
///
/// # Errors
/// What `connect` says.
pub fn connect(ws: &Workspace) -> io::Result<UnixStream> {
    UnixStream::connect(ws.octo.join("octo.sock"))
}
