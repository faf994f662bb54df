//! `.octo/lock`: at most one daemon per workspace.
//!
//! It is an open-file-description lock, so it falls with the last copy of the descriptor however the
//! daemon dies, and no process number has to be believed. Two traps were met in practice. A lock file
//! that is removed and made anew can be locked a second time: so the locked file's inode is compared
//! with the path's after locking. And a child that was just forked keeps a copy of the descriptor until
//! it executes its program: so a start tries for a while before it believes that somebody is there.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::Workspace;

/// How long to wait between two tries: far below what a person notices, far above what a try costs.
const PAUSE: Duration = Duration::from_millis(10);

/// A holder that takes connections after this time is a living daemon that means to stay: what a killed one
/// leaves behind (a lock in a child that it had just forked) is gone by then, and never takes any.
const SETTLED: Duration = Duration::from_millis(500);

/// No honest lock file is longer.
const CONTENT_MAX: usize = 4096;

/// Who holds the workspace, as it wrote itself down. It is for messages: only the lock decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// The daemon's process; `None` when it could not write it (full disk) or is about to.
    pub pid: Option<i32>,
    /// Its start time in clock ticks since boot; 0 when unknown.
    pub start: u64,
    /// The boot in which these numbers mean something.
    pub boot_id: String,
    /// Its version.
    pub version: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "octod {} (pid {pid})", self.version),
            None => f.write_str("another daemon"),
        }
    }
}

/// Why the lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// Another daemon has the workspace (exit code 5).
    #[error("{0} holds this workspace")]
    Held(Holder),
    /// The lock file cannot be used (exit code 3).
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AcquireError {
    /// The exit code of a daemon that could not start for this reason.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            AcquireError::Held(_) => 5,
            AcquireError::Unusable { .. } => 3,
        }
    }
}

/// The right to be the workspace's daemon, for as long as this value lives.
#[derive(Debug)]
pub struct DaemonLock {
    file: File,
    path: PathBuf,
}

impl DaemonLock {
    /// Takes the lock, trying for `patience`; once at least. Blocks the calling thread meanwhile.
    ///
    /// # Errors
    /// [`AcquireError::Held`] when another process still has it after that time, or half a second has passed
    /// and it takes connections.
    pub fn acquire(ws: &Workspace, patience: Duration) -> Result<DaemonLock, AcquireError> {
        let path = ws.octo.join("lock");
        let began = Instant::now();
        let lives = || began.elapsed() >= SETTLED && super::connect(ws).is_ok();
        loop {
            match Self::attempt(&path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) if began.elapsed() >= patience || lives() => {
                    return Err(AcquireError::Held(holder(ws).unwrap_or_default()));
                }
                Ok(None) => wait_a_little(),
                Err(source) => return Err(AcquireError::Unusable { path, source }),
            }
        }
    }

    /// `None`: held, or the file was changed for another one between opening and locking.
    fn attempt(path: &Path) -> io::Result<Option<DaemonLock>> {
        let mut open = File::options();
        open.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = open.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file; move it away"));
        }
        Self::lock(file, path)
    }

    pub(super) fn lock(file: File, path: &Path) -> io::Result<Option<DaemonLock>> {
        if !try_lock(&file)? {
            return Ok(None);
        }
        let lock = DaemonLock { file, path: path.to_owned() };
        if !lock.is_intact() {
            return Ok(None);
        }
        lock.sign();
        Ok(Some(lock))
    }

    /// Tells whether the lock file is still the one at its path. If not, `.octo/` was removed or replaced
    /// under the daemon, and the lock keeps nobody out any more.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), fs::symlink_metadata(&self.path)) else { return false };
        ours.dev() == there.dev() && ours.ino() == there.ino()
    }

    /// What a child that was just forked has: a copy of the descriptor, under the same lock.
    #[cfg(test)]
    pub(super) fn duplicate(&self) -> File {
        self.file.try_clone().unwrap()
    }

    /// Writes who we are. A full disk must not stop the start: the file is then left empty, since what an
    /// earlier daemon wrote would name the wrong process.
    fn sign(&self) {
        let pid = std::process::id().cast_signed();
        let me = Holder {
            pid: Some(pid),
            start: crate::run::proc_start(pid).unwrap_or_default(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let text = serde_json::to_string(&me).unwrap_or_default() + "\n";
        let written = self.file.write_all_at(text.as_bytes(), 0).and_then(|()| self.file.set_len(text.len() as u64));
        if written.is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

/// Says who holds the workspace; `None` when nobody does. Takes nothing, so it disturbs no start.
#[must_use]
pub fn holder(ws: &Workspace) -> Option<Holder> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags).open(ws.octo.join("lock")).ok()?;
    if !file.metadata().ok()?.is_file() || !is_locked(&file).ok()? {
        return None;
    }
    let mut text = [0; CONTENT_MAX];
    let n = file.read_at(&mut text, 0).unwrap_or_default();
    Some(serde_json::from_slice(&text[..n]).unwrap_or_default())
}

/// Tries to take an open-file-description lock on the whole file; `false` when somebody else has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Tells whether somebody else's open file description holds a lock on the file.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut answer = whole_file();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut answer))?;
    Ok(i32::from(answer.l_type) != libc::F_UNLCK)
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[allow(clippy::disallowed_methods, reason = "before the daemon runs; a lock that falls announces itself to nobody")]
fn wait_a_little() {
    std::thread::sleep(PAUSE);
}
