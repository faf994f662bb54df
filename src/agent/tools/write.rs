//! `write_file`, and how a file is replaced: whole, at once, durably, with the rights it had.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::call::WriteFile;
use super::folder::{CHANGED, Folder, Place, id, words};
use super::guard::Watch;
use super::{ToolError, edit};

/// The longest file that is edited, or compared with what replaces it, in bytes.
pub(super) const TEXT_MAX: u64 = 4 << 20;

/// How temporary files begin, which a power cut can leave behind; they are not listed.
pub(super) const TEMPORARY: &str = ".octo-tmp-";

/// Creates or replaces a file.
pub(super) fn write_file(folder: &Folder, args: &WriteFile) -> Result<String, ToolError> {
    let watch = folder.watch();
    let place = writable(folder, &args.path, &watch)?;
    let old = match place.stat {
        Some(_) => text_of(folder, &place, &watch).ok(),
        None => None,
    };
    if old.as_ref() == Some(&args.content) {
        return Ok(format!("`{}` has exactly this content already.", place.said));
    }
    replace(folder, &place, args.content.as_bytes())?;
    let (lines, bytes) = (args.content.lines().count(), args.content.len());
    let size = format!("{lines} lines, {bytes} bytes");
    Ok(match (place.stat, old) {
        (None, _) => format!("Created `{}` ({size}).", place.said),
        (Some(_), None) => format!("Replaced `{}` ({size}); what it had was no text.", place.said),
        (Some(_), Some(old)) => {
            format!("Replaced `{}` ({size}).\n{}", place.said, edit::diff(&place.path(), &old, &args.content))
        }
    })
}

/// Looks for a file that is to be written, and may be.
pub(super) fn writable(folder: &Folder, said: &str, watch: &Watch) -> Result<Place, ToolError> {
    let place = folder.look(said)?;
    if let Some(why) = watch.forbids_write(&place.names, &place.ids) {
        return Err(place.error(format_args!("cannot be written: {why}. Go on without it, or ask the owner")));
    }
    folder.must_be_file(&place)?;
    Ok(place)
}

/// The whole text of a file.
pub(super) fn text_of(folder: &Folder, place: &Place, watch: &Watch) -> Result<String, ToolError> {
    let file = folder.open_file(place, watch)?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(|e| place.error(format_args!("cannot be read: {e}")))?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(place.error(format_args!("has more than {TEXT_MAX} bytes: use another tool for such files")));
    }
    if bytes.contains(&0) {
        return Err(place.error("is a binary file, not text: use another tool for such files"));
    }
    String::from_utf8(bytes).map_err(|_| place.error("is no UTF-8 text: use another tool for such files"))
}

/// Replaces what is at a place, or makes it, if it is still what was judged. Afterwards it is durable.
pub(super) fn replace(folder: &Folder, place: &Place, bytes: &[u8]) -> Result<(), ToolError> {
    let failed = |e: Errno| place.error(words(e));
    let Some((name, above)) = place.names.split_last() else {
        return Err(place.error("is the task's folder, not a file"));
    };
    let above: PathBuf = above.iter().collect();
    let parent = folders(folder, &above).map_err(failed)?;
    if let Some(stat) = &place.stat {
        // A rename would replace a file that nobody may write.
        rustix::fs::accessat(&parent, name, rustix::fs::Access::WRITE_OK, AtFlags::empty())
            .map_err(|_| place.error("is read-only: ask the owner, or write another file"))?;
        debug_assert_eq!(place.ids.last(), Some(&id(stat)));
    }
    let temporary = Temporary::write(&parent, place.stat.as_ref(), bytes).map_err(failed)?;
    is_unchanged(folder, place, &parent, &above, name)?;
    let renamed = match place.stat {
        Some(_) => rustix::fs::renameat(&parent, &temporary.name, &parent, name),
        None => rename_new(&parent, &temporary.name, name),
    };
    match renamed {
        Err(Errno::EXIST) => return Err(place.error(CHANGED)),
        other => other.map_err(failed)?,
    }
    temporary.keep();
    rustix::fs::fsync(&parent).map_err(failed)
}

/// Some file systems cannot refuse to replace; there, what appears in this very moment is replaced.
fn rename_new(parent: &OwnedFd, from: &str, to: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(parent, from, parent, to),
        other => other,
    }
}

/// The folder that `path` leads to; those that are missing are made.
fn folders(folder: &Folder, path: &Path) -> Result<OwnedFd, Errno> {
    let open = |path: &Path| folder.plainly(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    match open(path) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut made = PathBuf::new();
    let mut parent = open(&made)?;
    for name in path {
        made.push(name);
        parent = match open(&made) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) => rustix::fs::fsync(&parent)?,
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                open(&made)?
            }
            other => other?,
        };
    }
    Ok(parent)
}

/// Tells whether a place is still what was judged, and its folder still where it was.
fn is_unchanged(folder: &Folder, place: &Place, parent: &OwnedFd, above: &Path, name: &OsStr) -> Result<(), ToolError> {
    let failed = |e: Errno| place.error(words(e));
    let there = folder.plainly(above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let same = |a: &Stat, b: &Stat| id(a) == id(b);
    let (now, before) = (rustix::fs::fstat(&there).map_err(failed)?, rustix::fs::fstat(parent).map_err(failed)?);
    let file = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(stat),
        Err(Errno::NOENT) => None,
        Err(e) => return Err(failed(e)),
    };
    let unchanged = match (&place.stat, &file) {
        (None, None) => true,
        (Some(judged), Some(found)) => {
            let times = |s: &Stat| (s.st_mtime, s.st_mtime_nsec, s.st_size);
            same(judged, found) && times(judged) == times(found)
        }
        _ => false,
    };
    if unchanged && same(&now, &before) { Ok(()) } else { Err(place.error(CHANGED)) }
}

/// A file beside the one that it is to replace; removed unless it was kept.
struct Temporary<'a> {
    parent: &'a OwnedFd,
    name: String,
    kept: bool,
}

impl<'a> Temporary<'a> {
    /// Writes it, durably, with the rights of the file that it is to replace.
    fn write(parent: &'a OwnedFd, old: Option<&Stat>, bytes: &[u8]) -> Result<Temporary<'a>, Errno> {
        let name = format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if old.is_some() { 0o600 } else { 0o666 });
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(parent.as_fd(), &name, flags, mode, beneath)?;
        let temporary = Temporary { parent, name, kept: false };
        let mut file = File::from(fd);
        let os_error = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
        file.write_all(bytes).map_err(os_error)?;
        if let Some(old) = old {
            // The group, where the system lets us; then the rights, which changing it can take away. As whenever a
            // file is written, it does not keep the right to run as its owner.
            let _ = rustix::fs::fchown(&file, None, Some(rustix::fs::Gid::from_raw(old.st_gid)));
            rustix::fs::fchmod(&file, Mode::from_raw_mode(old.st_mode & 0o777))?;
        }
        file.sync_data().map_err(os_error)?;
        Ok(temporary)
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = rustix::fs::unlinkat(self.parent, &self.name, AtFlags::empty());
        }
    }
}
