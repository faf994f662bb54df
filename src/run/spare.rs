//! Used folders for new runs: a folder with its files costs a disk more to make and delete than to use again.
//!
//! ```text
//!   tasks/<id>/run-1/{lock, claim.json, exit.json, out.log} ──fold──► spare/<n>/run-1/{lock, *.spare}
//!                                                                          └──launch──► tasks/<next id>/run-1/
//! ```
//!
//! Only what nobody else has open is used again: the lock's file, which a probe found free, that of `exit.json`
//! with its reserved space, and the log's if it is empty and no other descriptor of it is open. The folder
//! leaves `tasks/` before anything in it changes, and comes back whole, so a death in between leaves either
//! nothing there or a folder as a fresh one. The next start deletes what lies in `spare/`.
//!
//! A power cut may bring the old names in such a folder back, on a file system that does not keep the order
//! of changes. An old `claim.json` makes the run one that was cut off, which it is; `exit.json` names its run,
//! and one of another run counts as none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

use super::dir::{CLAIM, EXIT, LOCK, LOG, RunDir, probe, take_lock};
use super::fold::{delete_folder, ignore_absent, names, spare_place, trash_name};
use super::{Folded, LockFact};

/// What `exit.json` is called while it waits for its next use.
pub(crate) const SPARE_EXIT: &str = "exit.spare";

/// What `out.log` is called while it waits for its next use; it is empty then.
pub(crate) const SPARE_LOG: &str = "log.spare";

/// How many are kept: as many runs begin before others have ended.
const KEPT: usize = 16;

/// The first run of a task, the only one that gets a used folder.
const FIRST: &str = "run-1";

/// The folders that wait for a run.
#[derive(Debug, Default)]
pub struct Spares {
    free: Vec<PathBuf>,
}

impl Spares {
    /// Tells whether there is room for another one.
    #[must_use]
    pub fn want_more(&self) -> bool {
        self.free.len() < KEPT
    }

    /// Puts a used folder in the run's place; `None`: there is none that fits.
    pub(super) fn place(&mut self, dir: &RunDir) -> Option<File> {
        if !dir.path().ends_with(FIRST) {
            return None;
        }
        let spare = self.free.pop()?;
        if fs::rename(&spare, dir.task_dir()).is_err() {
            // The task may have a folder already. A spare that somebody tidied away is none any more.
            self.free.extend(Some(spare).filter(|spare| spare.exists()));
            return None;
        }
        let lock = open_file(&dir.path().join(LOCK));
        lock.and_then(|lock| take_lock(&lock).map(|()| lock)).ok()
    }
}

impl RunDir {
    /// As [`RunDir::fold`] for a run without a log to keep, whose folder `spares` may get. `None`: the folder is
    /// not one of those that can be used again; it is to be folded.
    ///
    /// # Errors
    /// When the lock cannot be probed or `spare/` cannot be made.
    pub fn fold_into(&self, spares: &mut Spares) -> io::Result<Option<Folded>> {
        if !spares.want_more() || !self.path().ends_with(FIRST) {
            return Ok(None);
        }
        if probe(&self.path().join(LOCK))? == LockFact::Held {
            return Ok(Some(Folded::StillHeld));
        }
        if !self.can_be_used_again()? {
            return Ok(None);
        }
        let spare = spare_place(&self.tasks, &trash_name("run"))?;
        if fs::rename(self.task_dir(), &spare).is_err() {
            return Ok(None);
        }
        match clean(&spare.join(FIRST)) {
            Ok(()) => spares.free.push(spare),
            // Out of the way it is; the next start deletes what is left.
            Err(_) => drop(delete_folder(&spare)),
        }
        Ok(Some(Folded::Done))
    }

    /// Tells whether the task has this run's folder only, and that the usual files only.
    fn can_be_used_again(&self) -> io::Result<bool> {
        let runs = names(&self.task_dir())?;
        let files = names(self.path())?;
        let usual = |name: &std::ffi::OsString| [LOCK, CLAIM, EXIT, LOG].iter().any(|known| name == known);
        Ok(runs == [FIRST] && files.iter().all(usual) && files.iter().any(|name| name == LOCK))
    }
}

fn clean(run: &Path) -> io::Result<()> {
    ignore_absent(fs::remove_file(run.join(CLAIM)))?;
    let log = run.join(LOG);
    if is_unused(&log) {
        fs::rename(log, run.join(SPARE_LOG))?;
    } else {
        ignore_absent(fs::remove_file(log))?;
    }
    ignore_absent(fs::rename(run.join(EXIT), run.join(SPARE_EXIT)))
}

/// Tells whether a log is empty and nobody else has it open. One that holds something is not emptied: some file
/// systems take that for a careless replacement and write the next content out at once.
fn is_unused(log: &Path) -> bool {
    let Ok(file) = open_file(log) else { return false };
    let ours = |m: fs::Metadata| m.is_file() && m.len() == 0 && m.nlink() == 1 && m.mode() & 0o7777 == 0o600;
    file.metadata().is_ok_and(ours) && crate::lease::is_alone(&file)
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}
