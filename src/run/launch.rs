//! Launching a run: make its folder, lock it, hand the lock to a shim.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::dir::{LOCK, RunDir, take_lock};
use super::nursery::{Nursery, Origin};
use super::spare::Spares;

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
    /// The shim's process, when it is a child of the caller, who reaps it then. Dropping this neither ends
    /// nor reaps it. One that was forked by a nursery is reaped by nobody and leaves no zombie.
    pub child: Option<Child>,
    /// The socket on which the shim pokes: `c` after the command was released, `x` after `exit.json`
    /// appeared, `!` and a sentence if it could not begin; `f` and an error's number when there is no shim
    /// because the nursery could not fork; closed when it has exited. These are hints that come early, never
    /// facts: facts are in the run folder. Reading never blocks.
    ///
    /// [`SAVED`], written here once the record's end is on disk, tells the shim that `exit.json` need not be
    /// synced any more; one that hears nothing for a while, or finds this end closed, syncs it.
    pub pokes: OwnedFd,
    /// The nursery that was asked to fork it. If that is dead and the socket was closed without a word, there
    /// was no shim.
    pub origin: Option<Origin>,
}

/// What tells a shim that the end of its run is on disk in the task's record.
pub const SAVED: u8 = b'k';

impl LaunchSpec {
    /// The shim's command line for the run folder `dir`, after the program's name.
    pub(super) fn words(&self, dir: &Path) -> Vec<OsString> {
        let mut words = vec![dir.into(), "--cwd".into(), self.cwd.clone().into()];
        words.extend(["--quota".into(), self.log_quota.to_string().into()]);
        if self.leave_children {
            words.push("--leave-children".into());
        }
        if let Some(limit) = self.open_files {
            words.extend(["--open-files".into(), limit.to_string().into()]);
        }
        words.push("--".into());
        words.extend(self.argv.iter().cloned());
        words
    }
}

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
        let lock = self.make()?;
        self.start(spec, lock)
    }

    /// As [`RunDir::launch`], but with a used folder if there is one, and the shim is forked by the nursery if
    /// that takes it, which is not waited for.
    ///
    /// # Errors
    /// As [`RunDir::launch`]. A fork that fails is told on the poke socket.
    pub fn launch_in(&self, nursery: &mut Nursery, spares: &mut Spares, spec: &LaunchSpec) -> io::Result<Launched> {
        let lock = spares.place(self).map_or_else(|| self.make(), Ok)?;
        match nursery.launch(&std::path::absolute(self.path())?, spec, &lock) {
            Some(launched) => Ok(launched),
            None => self.start(spec, lock),
        }
    }

    /// Makes the folder, and takes its lock.
    fn make(&self) -> io::Result<File> {
        let mut folders = DirBuilder::new();
        folders.mode(0o700);
        match folders.create(self.path()) {
            // Of the first run the task has no folder yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                folders.create(self.task_dir())?;
                folders.create(self.path())?;
            }
            made => made?,
        }
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path().join(LOCK))?;
        take_lock(&lock)?;
        Ok(lock)
    }

    /// Starts the program, with the lock as its standard input.
    fn start(&self, spec: &LaunchSpec, lock: File) -> io::Result<Launched> {
        let (pokes, poker) = socket_pair()?;
        let mut command = Command::new(&spec.shim);
        command.args(spec.words(&std::path::absolute(self.path())?));
        command.env_clear().envs(spec.env.iter().map(|(k, v)| (k, v)));
        command.stdin(lock).stdout(poker).stderr(Stdio::null());
        Ok(Launched { child: Some(command.spawn()?), pokes, origin: None })
    }
}

/// The two ends of a poke socket: the daemon's and the shim's.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}
