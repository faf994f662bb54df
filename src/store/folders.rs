//! Opening `.octo`: its folders are made when missing, and refused when somebody else could write there.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::disk;
use super::error::StoreError;
use super::index::Index;
use super::journal::Journal;
use super::{Marks, Store};
use crate::run::SPARE;

/// What lies in `.octo/` besides files.
const FOLDERS: [&str; 7] = ["tasks", "env", "quarantine", "trash", SPARE, "bots", "bin"];

impl Store {
    /// Opens the store of a workspace, making what is missing of its folders (0700).
    ///
    /// # Errors
    /// When a folder cannot be made, opened or synced, is a symbolic link, belongs to another user, or can be
    /// written by others.
    pub fn open(octo: &Path) -> Result<Store, StoreError> {
        make(rustix::fs::CWD, octo, octo)?;
        let fd = open_own(rustix::fs::CWD, octo, octo)?;
        for name in FOLDERS {
            make(&fd, Path::new(name), &octo.join(name))?;
        }
        let folder = |name: &str| open_own(&fd, Path::new(name), &octo.join(name));
        for name in ["trash", "bots", "bin"] {
            folder(name)?;
        }
        let (tasks, envs, quarantine) = (folder("tasks")?, folder("env")?, folder("quarantine")?);
        let spare = folder(SPARE)?;
        ignore_from_git(&fd)
            .map_err(|e| StoreError::io(e, format!("writing {}", octo.join(".gitignore").display())))?;
        sync_entries(&fd, octo)?;
        let copy = |fd: &OwnedFd| {
            fd.try_clone().map_err(|e| {
                let errno = Errno::from_io_error(&e).unwrap_or(Errno::MFILE);
                StoreError::io(errno, format!("opening {}", octo.display()))
            })
        };
        let (index, journal) = (Index::new(copy(&fd)?), Journal::new(copy(&fd)?, copy(&tasks)?));
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev).ok();
        let tasks_elsewhere = device(&tasks) != device(&spare);
        Ok(Store {
            path: octo.to_owned(),
            octo: fd,
            tasks,
            envs,
            quarantine,
            moving: Mutex::new(()),
            frozen: Mutex::new(HashSet::new()),
            durable_envs: Mutex::new(HashSet::new()),
            index: Mutex::new(index),
            spare,
            tasks_elsewhere,
            writers: OnceLock::new(),
            used: Mutex::default(),
            journal: Mutex::new(journal),
            marks: Mutex::new(Marks::default()),
        })
    }
}

impl Store {
    /// Tells whether `.octo` still lies where it was opened.
    ///
    /// # Errors
    /// When it was deleted, moved or replaced while the daemon runs. Running tasks go on; nothing is made anew.
    pub fn in_place(&self) -> Result<(), StoreError> {
        let ours = rustix::fs::fstat(&self.tasks);
        let named = rustix::fs::statat(rustix::fs::CWD, self.path.join("tasks"), AtFlags::SYMLINK_NOFOLLOW);
        let at = self.path.display();
        match (ours, named) {
            (Ok(ours), Ok(named)) if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino) => Ok(()),
            (Ok(ours), _) if ours.st_nlink == 0 => Err(StoreError::new(
                format!("the folder {at}/tasks was deleted while the daemon runs"),
                "running tasks go on, but nothing can be saved; put the folder back from a backup and start again",
            )),
            (_, Err(e)) if e != Errno::NOENT => Err(StoreError::io(e, format!("looking at {at}/tasks"))),
            _ => Err(StoreError::new(
                format!("the folder {at} was moved or replaced while the daemon runs"),
                "move it back, or stop the daemon and start it in the new place",
            )),
        }
    }
}

fn make(dir: impl AsFd, name: &Path, shown: &Path) -> Result<(), StoreError> {
    match disk::retry(|| rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700))) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(StoreError::io(e, format!("making the folder {}", shown.display()))),
    }
}

fn open_own(dir: impl AsFd, name: &Path, shown: &Path) -> Result<OwnedFd, StoreError> {
    let at = shown.display();
    let fd = disk::open_dir(dir, name).map_err(|e| match e {
        Errno::LOOP | Errno::NOTDIR => StoreError::new(
            format!("{at} is a symbolic link or no folder"),
            format!("move it away (`mv {at} {at}.old`), then start again"),
        ),
        e => StoreError::io(e, format!("opening the folder {at}")),
    })?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| StoreError::io(e, format!("looking at the folder {at}")))?;
    check(&stat, shown)?;
    Ok(fd)
}

fn check(stat: &Stat, shown: &Path) -> Result<(), StoreError> {
    let at = shown.display();
    let me = rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(StoreError::new(format!("{at} is no folder"), "move it away, then start again"));
    }
    if stat.st_uid != me {
        return Err(StoreError::new(
            format!("{at} belongs to another user (uid {}, you are {me})", stat.st_uid),
            "work in a folder of your own, or name one with --workspace",
        ));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(StoreError::new(
            format!("other users may write to {at} (mode {:03o})", stat.st_mode & 0o777),
            format!("look at what lies in it, then close it with `chmod go-w {at}`"),
        ));
    }
    Ok(())
}

fn ignore_from_git(octo: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(octo, ".gitignore", flags, Mode::from_raw_mode(0o600));
    match disk::retry(open) {
        Ok(file) => disk::write_all(&file, b"*\n"),
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes the folders themselves durable: without it the first accepted task could vanish with its folder.
fn sync_entries(octo: &OwnedFd, path: &Path) -> Result<(), StoreError> {
    disk::sync(octo).map_err(|e| StoreError::io(e, format!("syncing the folder {}", path.display())))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A workspace that we may search but not read cannot be synced by us; that is no reason not to start.
    if let Ok(parent) = disk::open_dir(rustix::fs::CWD, parent) {
        let _ = disk::sync(&parent);
    }
    Ok(())
}
