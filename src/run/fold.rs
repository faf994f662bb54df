//! Cleaning up: folding a run away, removing a task's files, emptying the trash.
//!
//! Nothing is moved or deleted unless a probe finds its lock free, and `lock` and `claim.json` go last:
//! a shim that wakes up late still meets them and gives up.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::LockFact;
use super::dir::{CLAIM, LOCK, RunDir, now, probe, sync_dir};
use crate::task::TaskId;

/// `.octo/spare/`: used folders and files that wait for their next use.
pub(crate) const SPARE: &str = "spare";

/// How a clean-up went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// Nothing of it is left.
    Done,
    /// Some process holds the lock: try again later.
    StillHeld,
}

impl RunDir {
    /// Folds the run's folder away: into `.octo/trash/`, and deletes it there. With `keep_log` the log
    /// becomes [`RunDir::kept_log_path`] first, and is safe there from a power cut before anything goes.
    /// May be repeated after a crash at any point; a run that is gone already is `Done`.
    ///
    /// Only for runs whose record's end is on disk, or that were given up for a later run.
    ///
    /// # Errors
    /// When something cannot be moved or deleted; what is left stands where the next try finds it.
    pub fn fold(&self, keep_log: bool) -> io::Result<Folded> {
        if probe(&self.path().join(LOCK))? == LockFact::Held {
            return Ok(Folded::StillHeld);
        }
        if keep_log && (rename_if_there(&self.log_path(), &self.kept_log_path())? || self.path().exists()) {
            sync_dir(&self.tasks)?;
        }
        if let Some(trash) = self.to_trash()? {
            hold("fold");
            delete_folder(&trash)?;
        }
        remove_if_empty(&self.task_dir())?;
        Ok(Folded::Done)
    }
}

impl RunDir {
    /// Moves the folder to the trash; tells where it is now, or that there was none.
    fn to_trash(&self) -> io::Result<Option<PathBuf>> {
        let name = trash_name(&format!("{}.run-{}", self.id, self.run));
        let trash = trash_folder(&self.tasks).join(&name);
        match fs::rename(self.path(), &trash) {
            Ok(()) => return Ok(Some(trash)),
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            // There is no such run, or no trash yet.
            Err(_) => {}
        }
        let trash = trash_place(&self.tasks, &name)?;
        Ok(rename_if_there(self.path(), &trash)?.then_some(trash))
    }
}

/// The runs of a task that have a folder, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn run_folders(tasks: &Path, id: TaskId) -> io::Result<Vec<u32>> {
    let mut runs = Vec::new();
    for name in names(&tasks.join(id.as_str()))? {
        runs.extend(name.to_str().and_then(|n| n.strip_prefix("run-")).and_then(|n| n.parse::<u32>().ok()));
    }
    runs.sort_unstable();
    Ok(runs)
}

/// Removes all that a removed task left behind: run folders, kept logs, and whatever else its folder
/// holds. May be repeated.
///
/// # Errors
/// As [`RunDir::fold`].
pub fn remove_task_files(tasks: &Path, id: TaskId) -> io::Result<Folded> {
    let mut all = Folded::Done;
    for run in run_folders(tasks, id)? {
        if RunDir::new(tasks, id, run).fold(false)? == Folded::StillHeld {
            all = Folded::StillHeld;
        }
    }
    let prefix = format!("{id}.run-");
    for name in names(tasks)? {
        if name.to_str().is_some_and(|n| n.starts_with(&prefix) && n.ends_with(".log")) {
            ignore_absent(fs::remove_file(tasks.join(name)))?;
        }
    }
    let folder = tasks.join(id.as_str());
    if all == Folded::StillHeld || is_held(&folder)? {
        return Ok(Folded::StillHeld);
    }
    let trash = trash_place(tasks, &trash_name(id.as_str()))?;
    if rename_if_there(&folder, &trash)? {
        delete_folder(&trash)?;
    }
    Ok(Folded::Done)
}

/// Deletes what an earlier daemon had moved to `.octo/trash/` and not deleted yet, and the used folders and files
/// that it kept in `.octo/spare/`. To be called at boot, under the daemon's lock. A folder in which a lock is held
/// stays for the next boot.
///
/// # Errors
/// When something cannot be deleted.
pub fn empty_trash(octo: &Path) -> io::Result<()> {
    for folder in ["trash", SPARE] {
        let folder = octo.join(folder);
        for name in names(&folder)? {
            let path = folder.join(name);
            if !path.symlink_metadata()?.is_dir() {
                ignore_absent(fs::remove_file(&path))?;
            } else if !is_held(&path)? {
                delete_folder(&path)?;
            }
        }
    }
    Ok(())
}

fn trash_folder(tasks: &Path) -> PathBuf {
    tasks.parent().unwrap_or(tasks).join("trash")
}

/// A name that nothing in the trash has.
pub(super) fn trash_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let moment = now().millis().unwrap_or_default();
    format!("{name}.{}.{moment}.{count}", std::process::id())
}

/// A place in the trash, which is made if it is missing.
pub(super) fn trash_place(tasks: &Path, name: &str) -> io::Result<PathBuf> {
    place_in(trash_folder(tasks), name)
}

/// A place among what is used again; the folder is made if it is missing.
pub(super) fn spare_place(tasks: &Path, name: &str) -> io::Result<PathBuf> {
    place_in(tasks.parent().unwrap_or(tasks).join(SPARE), name)
}

fn place_in(folder: PathBuf, name: &str) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(folder.join(name)),
    }
}

/// The names in a folder; none when it does not exist.
pub(super) fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| e.map(|e| e.file_name())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Deletes a folder, its `lock` and `claim.json` last.
pub(super) fn delete_folder(folder: &Path) -> io::Result<()> {
    let (last, first): (Vec<_>, Vec<_>) = names(folder)?.into_iter().partition(|n| n == CLAIM || n == LOCK);
    for name in first.into_iter().chain(last) {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            // What is no file says so in one way or another.
            Err(_) if path.symlink_metadata().is_ok_and(|m| m.is_dir()) => delete_folder(&path)?,
            other => ignore_absent(other)?,
        }
    }
    ignore_absent(fs::remove_dir(folder))
}

/// Tells whether any file named `lock` in or below the folder is held.
pub(super) fn is_held(folder: &Path) -> io::Result<bool> {
    if probe(&folder.join(LOCK))? == LockFact::Held {
        return Ok(true);
    }
    for name in names(folder)? {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok_and(|m| m.is_dir()) && is_held(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn rename_if_there(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound && from.symlink_metadata().is_err() => Ok(false),
        Err(e) => Err(e),
    }
}

fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Ok(()),
        other => other,
    }
}

pub(super) fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Stops this process at a named point if a test asked for it; in release builds it does nothing.
fn hold(point: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("OCTO_HOLD").is_some_and(|v| v == point) {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}
