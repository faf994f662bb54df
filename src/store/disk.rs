//! Single steps on the disk: every system call of the store that writes is here or in its caller's commit.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, Result};

/// How often an interrupted call is repeated: for ever would hang on a file system that always says so.
const INTERRUPTS: usize = 32;

/// How many names are tried for a temp: only leftovers of a dead process with our number can be in the way.
const NAMES: usize = 64;

static NEXT_TEMP: AtomicU64 = AtomicU64::new(0);

/// Repeats a call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..INTERRUPTS {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}

/// A new file's content, on disk under a temp name; deleted again unless it is put in place.
#[derive(Debug)]
pub(super) struct Temp<'d> {
    dir: BorrowedFd<'d>,
    name: String,
}

impl<'d> Temp<'d> {
    /// Writes `bytes` into a new temp file `.<stem>.<pid>.<n>.tmp` and closes it, with or without a sync.
    pub(super) fn write(dir: BorrowedFd<'d>, stem: &str, bytes: &[u8], synced: bool) -> Result<Self> {
        let (temp, file) = Temp::create(dir, stem, OFlags::empty())?;
        write_all(&file, bytes)?;
        if synced {
            sync(&file)?;
        }
        Ok(temp)
    }

    /// As [`Temp::write`] without a sync, into a file of this folder that is needed no more; an error when it is
    /// not ours alone, or somebody else has it open.
    pub(super) fn write_again(dir: BorrowedFd<'d>, name: String, bytes: &[u8]) -> Result<Self> {
        // From here on it is a temp: it is deleted when anything goes wrong.
        let temp = Temp { dir, name };
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = retry(|| rustix::fs::openat(dir, temp.name.as_str(), flags, Mode::empty()))?;
        let stat = rustix::fs::fstat(&file)?;
        let ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & 0o7777 == 0o600
            && stat.st_nlink == 1
            && stat.st_uid == rustix::process::geteuid().as_raw();
        if !ours || !crate::lease::is_alone(&file) {
            return Err(Errno::BUSY);
        }
        write_all(&file, bytes)?;
        // Not emptied first: some file systems take that for a careless replacement and write it out at the close.
        if u64::try_from(stat.st_size).is_ok_and(|old| old > bytes.len() as u64) {
            retry(|| rustix::fs::ftruncate(&file, bytes.len() as u64))?;
        }
        Ok(temp)
    }

    /// Makes an empty temp file, open for writing.
    pub(super) fn create(dir: BorrowedFd<'d>, stem: &str, more: OFlags) -> Result<(Self, OwnedFd)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        for _ in 0..NAMES {
            let n = NEXT_TEMP.fetch_add(1, Ordering::Relaxed);
            let name = format!(".{stem}.{}.{n}.tmp", std::process::id());
            match retry(|| rustix::fs::openat(dir, name.as_str(), flags, Mode::from_raw_mode(0o600))) {
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
                Ok(file) => return Ok((Temp { dir, name }, file)),
            }
        }
        Err(Errno::EXIST)
    }

    /// Renames it to its real name; the folder still has to be synced.
    pub(super) fn put(self, name: &str) -> Result<()> {
        let dir = self.dir;
        self.put_into(dir, name)
    }

    /// Gives it a second, real name that nothing may have yet; the temp name goes.
    pub(super) fn link(&self, name: &str) -> Result<()> {
        retry(|| rustix::fs::linkat(self.dir, self.name.as_str(), self.dir, name, AtFlags::empty()))
    }

    /// As [`Temp::put`], into another folder.
    pub(super) fn put_into(mut self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        retry(|| rustix::fs::renameat(self.dir, self.name.as_str(), dir, name))?;
        self.name.clear();
        Ok(())
    }
}

impl Temp<'_> {
    /// Tells whether it lies in this folder.
    pub(super) fn is_in(&self, dir: BorrowedFd<'_>) -> bool {
        self.dir.as_raw_fd() == dir.as_raw_fd()
    }

    /// As [`Temp::put_into`]. What had the name before, if anything, is a temp from now on, and is returned.
    pub(super) fn exchange(self, dir: BorrowedFd<'_>, name: &str) -> Result<Option<Self>> {
        let swap = || rustix::fs::renameat_with(self.dir, self.name.as_str(), dir, name, RenameFlags::EXCHANGE);
        match retry(swap) {
            Ok(()) => Ok(Some(self)),
            // There is no such file yet, or the file system cannot do that.
            Err(_) => self.put_into(dir, name).map(|()| None),
        }
    }

    /// Moves it to another folder under the name that it has, which is returned; nobody deletes it any more.
    pub(super) fn rename_into(mut self, dir: BorrowedFd<'_>) -> Result<String> {
        if !self.is_in(dir) {
            retry(|| rustix::fs::renameat(self.dir, self.name.as_str(), dir, self.name.as_str()))?;
        }
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        // Best effort: what stays behind is collected at the next start.
        let _ = retry(|| rustix::fs::unlinkat(self.dir, self.name.as_str(), AtFlags::empty()));
    }
}

/// Tells whether `name` is one that [`Temp::write`] makes for a stem that `is_stem` knows.
pub(super) fn is_temp(name: &str, is_stem: impl Fn(&str) -> bool) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let Some(middle) = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp")) else { return false };
    let mut parts = middle.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(stem), Some(pid), Some(n), None) => is_stem(stem) && number(pid) && number(n),
        _ => false,
    }
}

/// Writes everything, however many calls it takes.
pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match retry(|| rustix::io::write(file, bytes))? {
            0 => return Err(Errno::IO),
            n => bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Writes everything at a place in the file.
pub(super) fn write_all_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        match retry(|| rustix::io::pwrite(file, bytes, at))? {
            0 => return Err(Errno::IO),
            n => {
                bytes = bytes.get(n..).unwrap_or_default();
                at += n as u64;
            }
        }
    }
    Ok(())
}

/// A file for the standard library's readers and writers, which repeat an interrupted call for ever.
#[derive(Debug)]
pub(super) struct Stream(pub(super) OwnedFd);

impl std::io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        retry(|| rustix::io::read(&self.0, &mut *buffer)).map_err(for_good)
    }
}

impl std::io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        retry(|| rustix::io::write(&self.0, bytes)).map_err(for_good)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn for_good(errno: Errno) -> std::io::Error {
    if errno == Errno::INTR { std::io::Error::other("interrupted again and again") } else { errno.into() }
}

/// Syncs a file or folder.
pub(super) fn sync(fd: impl AsFd) -> Result<()> {
    retry(|| rustix::fs::fsync(&fd))
}

/// Opens a file for reading, without following a link and without waiting for a FIFO's other end.
pub(super) fn open_file(dir: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat(&dir, name, flags, Mode::empty()))
}

/// Opens a folder without following a link.
pub(super) fn open_dir(dir: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat(&dir, name, flags, Mode::empty()))
}

/// Why a file's bytes cannot be had.
pub(super) enum Unread {
    /// It is not there.
    Missing,
    /// It is no regular file, or too large: it will not get better.
    Bad(String),
    /// The system could not read it just now.
    Io(Errno),
}

/// Reads a regular file of at most `max` bytes.
pub(super) fn read_file(
    dir: impl AsFd,
    name: impl rustix::path::Arg + Copy,
    max: u64,
) -> std::result::Result<Vec<u8>, Unread> {
    let file = open_file(dir, name).map_err(|e| match e {
        Errno::NOENT => Unread::Missing,
        Errno::LOOP => Unread::Bad("it is a symbolic link".to_owned()),
        Errno::NXIO | Errno::NODEV => Unread::Bad("it is not a regular file".to_owned()),
        e => Unread::Io(e),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(Unread::Io)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Unread::Bad("it is not a regular file".to_owned()));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let too_large = || Unread::Bad(format!("it is larger than {max} bytes"));
    if size > max {
        return Err(too_large());
    }
    read_to_end(&file, size, max).map_err(Unread::Io)?.ok_or_else(too_large)
}

/// Reads to the end; `None` when there is more than `max`.
fn read_to_end(file: &OwnedFd, size: u64, max: u64) -> Result<Option<Vec<u8>>> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    // One byte more than expected, so that the end of the file is seen without another round of growing.
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(max).saturating_add(1)];
    let mut len = 0;
    loop {
        if len == bytes.len() {
            bytes.resize(len.saturating_mul(2), 0);
        }
        let Some(room) = bytes.get_mut(len..) else { return Ok(None) };
        match retry(|| rustix::io::read(file, &mut *room))? {
            0 => break,
            n => len += n,
        }
        if len > max {
            return Ok(None);
        }
    }
    bytes.truncate(len);
    Ok(Some(bytes))
}

/// Calls `each` with the name and type of everything in a folder.
pub(super) fn list(dir: impl AsFd, mut each: impl FnMut(&CStr, FileType)) -> Result<()> {
    let mut entries = retry(|| Dir::read_from(&dir))?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            // Some file systems do not tell in the listing.
            if let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                kind = FileType::from_raw_mode(stat.st_mode);
            }
        }
        each(name, kind);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_temps_are_taken_for_temps() {
        let ours = |name: &str| is_temp(name, |s| s == "ab12cd34");
        assert!(ours(".ab12cd34.77.0.tmp"));
        let others = ["ab12cd34.77.0.tmp", ".ab12cd34.77.tmp", ".ab12cd34.7x.0.tmp", ".ab12cd34..0.tmp"];
        for other in others.into_iter().chain([".ab12cd34.77.0.1.tmp", ".zb12cd34.77.0.tmp", ".tmp", ".ab12cd34.swp"]) {
            assert!(!ours(other), "{other}");
        }
    }

    #[test]
    fn a_call_that_is_always_interrupted_fails_in_the_end() {
        let mut calls = 0;
        let result: Result<()> = retry(|| {
            calls += 1;
            Err(Errno::INTR)
        });
        assert_eq!((result, calls), (Err(Errno::INTR), INTERRUPTS + 1));
        assert_ne!(for_good(Errno::INTR).kind(), std::io::ErrorKind::Interrupted);
    }
}
