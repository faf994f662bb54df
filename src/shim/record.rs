//! What a shim leaves on disk: the claim, and how the run ended.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, fallocate, fstat, fsync, ftruncate, linkat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use crate::run::dir::{CLAIM, EXIT, ExitFile, LOCK, LOG, run_name, take_lock};
use crate::run::spare::{SPARE_EXIT, SPARE_LOG};
use crate::run::{Claim, Exit};

/// Space kept for `exit.json`; a record of an end is a few hundred bytes.
const RESERVED: u64 = 4096;

/// The open run folder, with the space for the record of the end.
pub(super) struct Folder {
    dir: OwnedFd,
    /// Which run it is.
    of: String,
    /// Names of this shim's temporary files, so that a second shim in the folder cannot touch them.
    temp_claim: String,
    temp_exit: String,
    reserved: File,
    /// Whether the reserved file is longer than its content.
    padded: bool,
    /// Whether the reserved file still has its temporary name.
    fresh: bool,
}

impl Folder {
    /// Opens the run folder and reserves the space. Never makes a folder.
    pub(super) fn open(path: &std::path::Path) -> io::Result<Folder> {
        let dir = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let me = std::process::id();
        let temp_exit = format!("exit.{me}.tmp");
        let (reserved, used) = match use_again(&dir, &temp_exit) {
            Some(file) => (file, true),
            None => (create(&dir, &temp_exit)?, false),
        };
        let padded = reserve(&reserved).inspect_err(|_| remove(&dir, &temp_exit))? || used;
        let of = run_name(path);
        Ok(Folder { dir, of, temp_claim: format!("claim.{me}.tmp"), temp_exit, reserved, padded, fresh: true })
    }

    /// Opens the log for the command's output.
    pub(super) fn open_log(&self) -> io::Result<File> {
        // An earlier run in this folder may have left an empty one.
        let _ = renameat(&self.dir, SPARE_LOG, &self.dir, LOG);
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(openat(&self.dir, LOG, flags, owner_only())?.into())
    }

    /// Tries to win the right to run the command. `false`: somebody else did.
    ///
    /// The claim stands in the lock's own file, which gets a second name: that saves the disk a file that
    /// would be made and deleted at once. A shim that does not hold the lock (there should be none) does not
    /// touch that file and links one of its own.
    ///
    /// The content is not synced (see the sync table of [`crate::run`]); the link is, by the sync of the folder.
    pub(super) fn claim(&self, claim: &Claim, lock: &OwnedFd) -> io::Result<bool> {
        if crate::sabotage::broken("no_claim") {
            return Ok(true);
        }
        let text = serde_json::to_vec(claim).map_err(io::Error::other)?;
        // Taking a lock that is held already changes nothing.
        if take_lock(lock).is_ok() {
            if rustix::io::pwrite(lock, &text, 0)? != text.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            // An earlier run in this folder may have written more.
            if u64::try_from(fstat(lock)?.st_size).is_ok_and(|size| size > text.len() as u64) {
                ftruncate(lock, text.len() as u64)?;
            }
            return self.link(LOCK);
        }
        let mut file = create(&self.dir, &self.temp_claim)?;
        let won = file.write_all(&text).and_then(|()| self.link(&self.temp_claim));
        remove(&self.dir, &self.temp_claim);
        won
    }

    fn link(&self, from: &str) -> io::Result<bool> {
        match linkat(&self.dir, from, &self.dir, CLAIM, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the reserved space back when there will be no end to record.
    pub(super) fn give_up(self) {
        remove(&self.dir, &self.temp_exit);
    }

    /// Writes `exit.json` and does not return before the end is on disk, however long that takes. `poke` is
    /// called as soon as it can be read; when that returns true, the end is on disk in the task's record and
    /// this file has served its purpose. Gives up only when the folder itself was deleted.
    pub(super) fn record_end(mut self, exit: &Exit, mut poke: impl FnMut() -> bool) {
        let file = ExitFile { of: Some(self.of.clone()), exit: exit.clone() };
        let text = serde_json::to_vec(&file).unwrap_or_default();
        while let Err(_trouble) = self.try_record(&text, &mut poke) {
            if fstat(&self.dir).is_ok_and(|s| s.st_nlink == 0) {
                return;
            }
            #[allow(clippy::disallowed_methods)] // a disk that is full or failing announces nothing to wait for
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn try_record(&mut self, text: &[u8], poke: &mut impl FnMut() -> bool) -> io::Result<()> {
        if !self.fresh {
            // Renamed, but a sync failed, which may have dropped what was written: only a new file is trusted.
            self.reserved = create(&self.dir, &self.temp_exit)?;
            (self.fresh, self.padded) = (true, false);
        }
        rustix::io::pwrite(&self.reserved, text, 0)
            .map_err(io::Error::from)
            .and_then(|n| if n == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) })?;
        if self.padded {
            ftruncate(&self.reserved, text.len() as u64)?;
        }
        renameat(&self.dir, &self.temp_exit, &self.dir, EXIT)?;
        self.fresh = false;
        if poke() {
            return Ok(());
        }
        fsync(&self.reserved)?;
        fsync(&self.dir)?;
        // The folder's own name, and that of the task's folder in `tasks/`.
        for parent in ["..", "../.."] {
            fsync(openat(&self.dir, parent, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
        }
        Ok(())
    }
}

fn owner_only() -> Mode {
    Mode::RUSR | Mode::WUSR
}

/// Makes a temporary file anew; one of the same name is litter of a shim long dead.
fn create(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match openat(dir, name, flags, owner_only()) {
        Err(Errno::EXIST) => {
            remove(dir, name);
            Ok(openat(dir, name, flags, owner_only())?.into())
        }
        made => Ok(made?.into()),
    }
}

/// Takes the file that an earlier run in this folder used; its space is there already.
fn use_again(dir: &OwnedFd, name: &str) -> Option<File> {
    renameat(dir, SPARE_EXIT, dir, name).ok()?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    openat(dir, name, flags, Mode::empty()).ok().map(File::from)
}

fn remove(dir: &OwnedFd, name: &str) {
    let _ = unlinkat(dir, name, AtFlags::empty());
}

/// Reserves the space, by writing where the file system cannot do it otherwise. Tells whether it wrote: then
/// the file is longer than what is to stand in it.
fn reserve(file: &File) -> io::Result<bool> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, RESERVED) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(rustix::io::pwrite(file, &[0; RESERVED as usize], 0).map(|_| true)?),
        other => Ok(other.map(|()| false)?),
    }
}
