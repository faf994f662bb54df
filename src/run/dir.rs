//! One run's folder: its paths, its facts, and the void claim.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Claim, ClaimFact, Exit, ExitFact, Facts, LockFact};
use crate::task::{Stamp, TaskId};

/// The names inside a run folder.
pub(crate) const LOCK: &str = "lock";
pub(crate) const CLAIM: &str = "claim.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const LOG: &str = "out.log";

/// Where the runs of an agent's own commands are, in its task's folder.
pub(crate) const CALLS: &str = "calls";

/// Claims and exits are a few hundred bytes; whatever is larger was not written by a shim.
const FACT_MAX: u64 = 64 * 1024;

/// The folder of one run of one task: `tasks/<id>/run-N/`. Holds names only, no open file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    pub(super) tasks: PathBuf,
    pub(super) id: TaskId,
    pub(super) run: u32,
    path: PathBuf,
}

impl RunDir {
    /// Names run `run` of task `id` below `tasks` (`.octo/tasks`). Touches nothing.
    #[must_use]
    pub fn new(tasks: &Path, id: TaskId, run: u32) -> Self {
        let path = tasks.join(id.as_str()).join(format!("run-{run}"));
        RunDir { tasks: tasks.to_owned(), id, run, path }
    }

    /// Names a run of a command that the agent of a task runs by itself: `tasks/<id>/calls/<call>/run-<nth>/`. What
    /// runs there is marked as a part of run `run` of the task. Touches nothing.
    #[must_use]
    pub fn of_call(tasks: &Path, id: TaskId, run: u32, call: &str, nth: u32) -> Self {
        let path = tasks.join(id.as_str()).join(CALLS).join(call).join(format!("run-{nth}"));
        RunDir { tasks: tasks.to_owned(), id, run, path }
    }

    /// The task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The command's output, as long as the run is not folded away.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where [`RunDir::fold`] leaves a log that is kept: `tasks/<id>.run-N.log`.
    #[must_use]
    pub fn kept_log_path(&self) -> PathBuf {
        self.tasks.join(format!("{}.run-{}.log", self.id, self.run))
    }

    /// `tasks/<id>/`.
    pub(super) fn task_dir(&self) -> PathBuf {
        self.tasks.join(self.id.as_str())
    }

    /// Reads the facts in the order that makes them one picture: lock, claim, exit. A free lock makes
    /// final what is read after it. Takes nothing and changes nothing.
    ///
    /// # Errors
    /// When they cannot be read at present (no more descriptors, no permission to look). Files that are
    /// there but make no sense are no error: they are `Unreadable`.
    pub fn facts(&self) -> io::Result<Facts> {
        let lock = probe(&self.path.join(LOCK))?;
        let folder = lock == LockFact::Held || self.path.is_dir();
        let claim = match read_fact::<ClaimFile>(&self.path.join(CLAIM))? {
            None => ClaimFact::None,
            Some(Some(ClaimFile::Void { void: true })) => ClaimFact::Void,
            Some(Some(ClaimFile::Real(claim))) => ClaimFact::Real(claim),
            Some(_) => ClaimFact::Unreadable,
        };
        Ok(Facts { folder, lock, claim, exit: self.exit()? })
    }

    /// Reads the last of the facts alone: when there is an end, it decides, whatever the others are.
    ///
    /// # Errors
    /// As [`RunDir::facts`].
    pub fn exit(&self) -> io::Result<ExitFact> {
        Ok(match read_fact::<ExitFile>(&self.path.join(EXIT))? {
            None => ExitFact::None,
            Some(Some(file)) if file.of.as_ref().is_some_and(|of| *of != run_name(&self.path)) => ExitFact::None,
            Some(Some(file)) => ExitFact::Ended(file.exit),
            Some(None) => ExitFact::Unreadable,
        })
    }

    /// Waits for the lock to fall when its holder is known to be on its way out; at most `patience`.
    pub(crate) fn await_free(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let lock = self.path.join(LOCK);
        while matches!(probe(&lock), Ok(LockFact::Held)) && Instant::now() < deadline {
            #[allow(clippy::disallowed_methods)] // the end of a lock announces nothing to wait for
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Tries to win the claim with a void one, so that no shim can ever run this run's command.
    /// `true`: won, and on disk. `false`: somebody else has claimed the run; read the facts anew.
    ///
    /// # Errors
    /// When the folder is gone or cannot be written. The claim may be void all the same; ask again.
    pub fn void(&self) -> io::Result<bool> {
        let temp = self.path.join(format!("void.{}.tmp", std::process::id()));
        match fs::remove_file(&temp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let won = self.link_void(&temp);
        let _ = fs::remove_file(&temp);
        if won? {
            sync_dir(&self.path)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn link_void(&self, temp: &Path) -> io::Result<bool> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
        let void = serde_json::json!({ "void": true, "at": now(), "version": env!("CARGO_PKG_VERSION") });
        file.write_all(void.to_string().as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(temp, self.path.join(CLAIM)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// What `claim.json` may hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum ClaimFile {
    Void { void: bool },
    Real(Claim),
}

/// What `exit.json` holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExitFile {
    /// The run whose end it is, as [`run_name`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<String>,
    /// The end.
    #[serde(flatten)]
    pub(crate) exit: Exit,
}

/// `<id>/run-N`, from the path of a run's folder.
pub(crate) fn run_name(path: &Path) -> String {
    let last = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{}/{}", path.parent().map(last).unwrap_or_default(), last(path))
}

/// The present time as a stamp.
pub(crate) fn now() -> Stamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Stamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Makes what happened in a folder (names made, renamed, removed) survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Opens a file for reading, without following a link or waiting for a FIFO's other end.
fn open_plain(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn whole_file_lock() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Takes the lock of an open file description. It falls when the last copy of the descriptor closes,
/// in whatever process that is.
pub(crate) fn take_lock(file: impl std::os::fd::AsFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file_lock()))?;
    Ok(())
}

/// Asks whether somebody holds the lock, through a fresh descriptor and without taking anything. A
/// lock file that does not exist was never handed to a shim: free.
pub(super) fn probe(path: &Path) -> io::Result<LockFact> {
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(e) if is_absent(&e) => return Ok(LockFact::Free),
        Err(e) => return Err(e),
    };
    let mut lock = whole_file_lock();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(if lock.l_type == libc::F_UNLCK as i16 { LockFact::Free } else { LockFact::Held })
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads one fact: absent, there but senseless, or its value.
fn read_fact<T: DeserializeOwned>(path: &Path) -> io::Result<Option<Option<T>>> {
    // Room for any real fact at once; `read_to_end` would begin with 32 bytes.
    let mut bytes = Vec::with_capacity(1024);
    match open_plain(path).and_then(|f| f.take(FACT_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(serde_json::from_slice(&bytes).ok())),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) if is_shortage(&e) => Err(e),
        Err(_) => Ok(Some(None)),
    }
}

/// Tells whether the error says something about this process at this moment, and nothing about the file.
pub(crate) fn is_shortage(e: &io::Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
    e.raw_os_error().is_some_and(|code| passing.iter().any(|p| p.raw_os_error() == code))
}
