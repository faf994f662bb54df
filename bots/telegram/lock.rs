//! One daemon of a user polls one bot: two polls of one bot end each other, and each would get half of the messages.
//!
//! It is an open-file-description lock on a file in the user's state folder, so it falls with the daemon however that
//! dies. What is written in the file is for messages only. Another computer of the user is not seen by it; there the
//! Bot API itself says that somebody else polls.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

/// How often a daemon that only sends looks whether it may poll: soon enough for a person who stopped the other one.
pub(crate) const EVERY: Duration = Duration::from_secs(3);

/// No honest lock file is longer.
const CONTENT_MAX: usize = 8192;

/// The folder for locks: the user's state folder, or the data folder where the system knows no other. `None`: there is
/// no home folder.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "octo")?;
    Some(dirs.state_dir().unwrap_or(dirs.data_dir()).to_owned())
}

/// Where the lock on one bot is, and who asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    path: PathBuf,
    workspace: PathBuf,
}

/// Who polls the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The workspace of the daemon that polls; empty: it could not write it down.
    pub(crate) workspace: PathBuf,
}

/// The right to poll, as long as this value lives.
#[derive(Debug)]
pub(crate) struct BotLock {
    file: File,
    path: PathBuf,
}

impl Place {
    /// The lock on the bot with this number, in `folder`, asked for by the daemon of `workspace`.
    pub(crate) fn new(folder: &Path, bot: i64, workspace: &Path) -> Place {
        Place { path: folder.join(format!("telegram-{bot}.lock")), workspace: workspace.to_owned() }
    }

    /// Tries once.
    ///
    /// # Errors
    /// When there can be no lock file.
    pub(crate) fn attempt(&self) -> io::Result<Result<BotLock, Holder>> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut open = File::options();
        open.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = open.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("{} is no regular file; move it away", self.path.display())));
        }
        if !try_lock(&file)? {
            return Ok(Err(holder(&file)));
        }
        let lock = BotLock { file, path: self.path.clone() };
        if !lock.is_intact() {
            // The file was changed for another one between opening and locking.
            return Ok(Err(holder(&lock.file)));
        }
        lock.sign(&self.workspace);
        Ok(Ok(lock))
    }

    /// Waits until the right to poll is ours, and looks every `every`. `told` hears what is in the way each time.
    pub(crate) async fn wait(&self, every: Duration, mut told: impl FnMut(Result<Holder, io::Error>)) -> BotLock {
        loop {
            match self.attempt() {
                Ok(Ok(lock)) => return lock,
                Ok(Err(holder)) => told(Ok(holder)),
                Err(error) => told(Err(error)),
            }
            tokio::time::sleep(every).await;
        }
    }
}

impl BotLock {
    /// Tells whether the lock file is still the one at its path; if not, this lock keeps nobody out any more.
    pub(crate) fn is_intact(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), fs::symlink_metadata(&self.path)) else { return false };
        ours.dev() == there.dev() && ours.ino() == there.ino()
    }

    /// Writes which workspace polls. Where that is not possible (full disk) the file is left empty: what an earlier
    /// daemon wrote would name the wrong one.
    fn sign(&self, workspace: &Path) {
        use std::os::unix::ffi::OsStrExt as _;
        let text = workspace.as_os_str().as_bytes();
        let written = self.file.write_all_at(text, 0).and_then(|()| self.file.set_len(text.len() as u64));
        if written.is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

fn holder(file: &File) -> Holder {
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = vec![0; CONTENT_MAX];
    let n = file.read_at(&mut text, 0).unwrap_or(0);
    Holder { workspace: PathBuf::from(std::ffi::OsStr::from_bytes(&text[..n])) }
}

/// Tries to take an open-file-description lock on the whole file; `false` when somebody else has it.
fn try_lock(file: &File) -> io::Result<bool> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
