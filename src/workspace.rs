//! STAND-IN
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Refused, RefusedCode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub root: PathBuf,
    pub octo: PathBuf,
}

impl Workspace {
    pub fn find(
        named: Option<&Path>,
        env: Option<&std::ffi::OsStr>,
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
    pub fn create(&self) -> Result<(), Refused> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.octo)
            .map_err(|e| Refused::new(RefusedCode::Storage, e.to_string()))
    }
    pub fn socket(&self) -> PathBuf {
        self.octo.join("octo.sock")
    }
}
pub fn connect(ws: &Workspace) -> io::Result<UnixStream> {
    UnixStream::connect(ws.socket())
}
pub fn bind(ws: &Workspace) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(ws.socket());
    UnixListener::bind(ws.socket())
}
pub fn same(a: &Path, b: &Path) -> bool {
    a == b
}
#[derive(Debug)]
pub struct DaemonLock(#[allow(dead_code)] std::fs::File);
#[derive(Debug, thiserror::Error)]
#[error("another daemon holds the workspace")]
pub struct Held;
impl DaemonLock {
    pub fn acquire(ws: &Workspace, patience: Duration) -> Result<DaemonLock, Held> {
        let f = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(ws.octo.join("lock"))
            .map_err(|_| Held)?;
        let t = std::time::Instant::now();
        loop {
            if rustix::fs::flock(&f, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(DaemonLock(f));
            }
            if t.elapsed() > patience {
                return Err(Held);
            }
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
