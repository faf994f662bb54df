//! Launching a run: make its folder, lock it, hand the lock to a shim.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::dir::{LOCK, RunDir, take_lock};

/// What to launch.
///
/// There is no `Debug`: the environment may hold its owner's keys.
#[derive(Clone)]
pub struct LaunchSpec {
    /// The `octo-shim` program.
    pub shim: PathBuf,
    /// The command as words, for example `sh`, `-c`, the command line.
    pub argv: Vec<OsString>,
    /// The folder it runs in; absolute.
    pub cwd: PathBuf,
    /// The child's whole environment, `OCTO_TASK_ID`, `OCTO_RUN` and `OCTO_WORKSPACE` included. It
    /// travels as the shim's own environment, so that nothing of it stands in a file or on a command line.
    pub env: Vec<(OsString, OsString)>,
    /// Leaves alone what the command left behind at a natural end.
    pub leave_children: bool,
    /// How many bytes the log may have before the run is stopped; 0: no limit.
    pub log_quota: u64,
    /// The command's soft limit of open files; `None`: the caller's own.
    pub open_files: Option<u64>,
}

/// A shim that was launched.
#[derive(Debug)]
pub struct Launched {
    /// The shim's process; its launcher reaps it. Dropping this neither ends nor reaps it.
    pub child: Child,
    /// The socket on which the shim pokes: `c` after the command was released, `x` after `exit.json`
    /// appeared, `!` and a sentence if it could not begin; closed when it has exited. These are hints
    /// that come early, never facts: facts are in the run folder. Reading never blocks.
    ///
    /// [`SAVED`], written here once the record's end is on disk, tells the shim that `exit.json` need not be
    /// synced any more; one that hears nothing for a while, or finds this end closed, syncs it.
    pub pokes: OwnedFd,
}

/// What tells a shim that the end of its run is on disk in the task's record.
pub const SAVED: u8 = b'k';

impl RunDir {
    /// Makes the run's folder and starts a shim in it that holds its lock. When this returns, in
    /// whatever way, the caller's copy of the lock is closed.
    ///
    /// That the run may begin must be on disk before (see the sync table of [`crate::run`]); nothing is synced
    /// here. It is synchronous, and takes about as long as any spawn.
    ///
    /// # Errors
    /// When the folder exists already (such a run is judged by its facts, not launched again), cannot
    /// be made, or the shim cannot be started. What was made stays and is judged by the verdict.
    pub fn launch(&self, spec: &LaunchSpec) -> io::Result<Launched> {
        let mut folders = DirBuilder::new();
        folders.mode(0o700);
        // Of the first run the task has no folder yet.
        match folders.create(self.path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                folders.create(self.task_dir())?;
                folders.create(self.path())?;
            }
            other => other?,
        }
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path().join(LOCK))?;
        take_lock(&lock)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (pokes, poker) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let mut command = self.command(spec)?;
        command.stdin(lock).stdout(poker).stderr(Stdio::null());
        let child = command.spawn()?;
        Ok(Launched { child, pokes })
    }

    /// The shim's command line; its `stdin` is still to be set.
    fn command(&self, spec: &LaunchSpec) -> io::Result<Command> {
        let mut command = Command::new(&spec.shim);
        command.arg(std::path::absolute(self.path())?).arg("--cwd").arg(&spec.cwd);
        command.arg("--quota").arg(spec.log_quota.to_string());
        if spec.leave_children {
            command.arg("--leave-children");
        }
        if let Some(limit) = spec.open_files {
            command.arg("--open-files").arg(limit.to_string());
        }
        command.arg("--").args(&spec.argv).env_clear().envs(spec.env.iter().map(|(k, v)| (k, v)));
        Ok(command)
    }
}
