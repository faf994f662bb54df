//! The task's folder: the only way of agents' tools to files.
//!
//! The folder is opened once. A path is first resolved name by name, symbolic links included, to the plain names
//! that lead to it ([`Folder::look`]); those names are what the guard judges. Then the file is opened by exactly
//! these names in one `openat2`, which follows no link and leaves the folder nowhere (`RESOLVE_BENEATH`,
//! `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`), and must be the very file that was judged. So whoever swaps a
//! folder for a link in between gets an error, not another file.
//!
//! Devices, pipes and sockets are recognised before they are opened, and nothing is ever waited for.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::ToolError;
use super::guard::{Guard, Id, Watch};

/// How many symbolic links one path may lead through.
const LINKS_MAX: usize = 40;

/// The longest path that is taken, in bytes.
const PATH_MAX: usize = 4096;

/// How a file is opened that was judged: by its plain names, from the folder, through no link.
const PLAINLY: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// A task's folder, opened once.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    path: PathBuf,
    guard: Guard,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Place {
    /// The path as it was given, for messages.
    pub(super) said: String,
    /// The plain names that lead to it from the folder; none: the folder itself.
    pub(super) names: Vec<OsString>,
    /// What the names are that exist, in their order.
    pub(super) ids: Vec<Id>,
    /// What is there; `None`: nothing (and `names` may be longer than `ids` by more than one).
    pub(super) stat: Option<Stat>,
    /// It was written as a folder is, with a slash at its end.
    pub(super) as_folder: bool,
}

impl Place {
    /// The path from the folder, for the system and for people.
    pub(super) fn path(&self) -> PathBuf {
        if self.names.is_empty() { PathBuf::from(".") } else { self.names.iter().collect() }
    }

    /// What it is.
    pub(super) fn kind(&self) -> Option<FileType> {
        self.stat.map(|s| FileType::from_raw_mode(s.st_mode))
    }

    pub(super) fn error(&self, words: impl std::fmt::Display) -> ToolError {
        ToolError::new(format!("`{}` {words}", self.said))
    }
}

/// The identity of what was looked at.
pub(super) fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

impl Folder {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it is none, or cannot be opened, or lies within a `.octo/`.
    pub fn open(path: &Path, guard: Guard) -> std::io::Result<Folder> {
        let path = std::fs::canonicalize(path)?;
        if path.iter().any(|name| name == crate::workspace::OCTO_DIR) {
            return Err(std::io::Error::other("agents do not work in Octo's own folder"));
        }
        let root = openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Folder { root, path, guard })
    }

    /// Where it was when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept from agents, looked up for one call.
    pub(super) fn watch(&self) -> Watch {
        self.guard.look(&self.path)
    }

    /// Opens by plain names.
    pub(super) fn plainly(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(&self.root, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode, PLAINLY)
    }

    /// Finds out what a path leads to. Nothing is opened but for looking.
    ///
    /// # Errors
    /// When it leads out of the folder, through something that is no folder, or in circles.
    pub(super) fn look(&self, said: &str) -> Result<Place, ToolError> {
        let error = |words: &str| ToolError::new(format!("`{}` {words}", said.escape_debug()));
        if said.len() > PATH_MAX {
            return Err(ToolError::new(format!("the path has {} bytes: use at most {PATH_MAX}", said.len())));
        }
        if said.contains('\0') {
            return Err(error("has a NUL character in it, which no path has"));
        }
        let outside = || {
            error(
                "leads out of the task's folder. Only files inside it can be used: give a path relative to that folder",
            )
        };
        let mut place = Place {
            said: said.to_owned(),
            names: Vec::new(),
            ids: Vec::new(),
            stat: None,
            as_folder: said.ends_with('/'),
        };
        let mut left = self.names_of(Path::new(said)).ok_or_else(outside)?.1;
        let (mut links, mut missing) = (0, false);
        while let Some(name) = left.pop_front() {
            if name == ".." {
                if missing {
                    return Err(error("goes through a folder that does not exist"));
                }
                place.names.pop().ok_or_else(outside)?;
                place.ids.truncate(place.names.len());
                continue;
            }
            place.names.push(name);
            if missing {
                continue;
            }
            let fd = match self.plainly(&place.path(), OFlags::PATH, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    missing = true;
                    continue;
                }
                Err(Errno::NOTDIR) => return Err(error("goes through something that is no folder")),
                Err(errno) => return Err(error(&words(errno))),
            };
            let stat = fstat(&fd).map_err(|e| error(&words(e)))?;
            if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                place.ids.push(id(&stat));
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(error("goes through too many symbolic links, perhaps in a circle"));
            }
            let target = readlinkat(&fd, c"", Vec::new()).map_err(|e| error(&words(e)))?;
            let target = OsString::from_vec(target.into_bytes());
            place.names.pop();
            place.as_folder |= left.is_empty() && target.as_bytes().ends_with(b"/");
            let (from_root, mut names) = self.names_of(Path::new(&target)).ok_or_else(outside)?;
            if from_root {
                place.names.clear();
                place.ids.clear();
            }
            names.extend(left);
            left = names;
        }
        if !missing {
            let fd = self.plainly(&place.path(), OFlags::PATH, Mode::empty()).map_err(|e| error(&words(e)))?;
            let stat = fstat(&fd).map_err(|e| error(&words(e)))?;
            if place.ids.last().is_some_and(|judged| *judged != id(&stat)) {
                return Err(error(CHANGED));
            }
            place.stat = Some(stat);
        }
        Ok(place)
    }

    /// The names of a path, without `.`; and whether they begin at the folder. An absolute path counts when it is
    /// one below the folder's own. `None`: it is another one.
    fn names_of(&self, path: &Path) -> Option<(bool, VecDeque<OsString>)> {
        let inside = if path.is_absolute() { path.strip_prefix(&self.path).ok()? } else { path };
        let names = inside.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        });
        Some((path.is_absolute(), names.collect()))
    }

    /// Looks for something that is to be read.
    ///
    /// # Errors
    /// When it is not there, or not for agents.
    pub(super) fn find(&self, said: &str, watch: &Watch) -> Result<Place, ToolError> {
        let place = self.look(said)?;
        if let Some(why) = watch.forbids_read(&place.names, &place.ids) {
            return Err(place.error(format_args!("cannot be read: {why}. Go on without it, or ask the owner")));
        }
        if place.stat.is_none() {
            return Err(place.error("does not exist. list_files shows what there is"));
        }
        Ok(place)
    }

    /// Opens a file that was found, for reading.
    ///
    /// # Errors
    /// When it is no regular file, has another name that is not for agents, or was swapped.
    pub(super) fn open_file(&self, place: &Place, watch: &Watch) -> Result<File, ToolError> {
        self.must_be_file(place)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.plainly(&place.path(), flags, Mode::empty()).map_err(|e| place.error(words(e)))?;
        let stat = fstat(&fd).map_err(|e| place.error(words(e)))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() || place.ids.last() != Some(&id(&stat)) {
            return Err(place.error(CHANGED));
        }
        if stat.st_nlink > 1 && watch.is_linked_from_octo(id(&stat)) {
            return Err(place.error("cannot be read: it is another name of a file of Octo's own"));
        }
        Ok(File::from(fd))
    }

    /// # Errors
    /// When it is there, and no regular file.
    pub(super) fn must_be_file(&self, place: &Place) -> Result<(), ToolError> {
        match place.kind() {
            Some(FileType::Directory) => Err(place.error("is a folder. list_files shows what is in it")),
            Some(kind) if !kind.is_file() => Err(place.error(format_args!(
                "is {}, not a file: it is not touched",
                match kind {
                    FileType::Fifo => "a pipe",
                    FileType::Socket => "a socket",
                    FileType::CharacterDevice | FileType::BlockDevice => "a device",
                    _ => "something else",
                }
            ))),
            _ if place.as_folder => Err(place.error("has a slash at its end, so it would be a folder: leave that out")),
            _ => Ok(()),
        }
    }

    /// The names in a folder, sorted, with their kinds: at most `max`, and whether these are all. The kind of a
    /// link is that of a link.
    pub(super) fn entries(&self, names: &Path, max: usize) -> Result<(Vec<Entry>, bool), Errno> {
        let fd = self.plainly(names, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() >= max {
                return Ok((entries, false));
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(fd.as_fd(), &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
                    stat.map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode))
                }
                kind => kind,
            };
            entries.push(Entry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((entries, true))
    }
}

/// A name in a folder.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name.
    pub(super) name: OsString,
    /// What it is.
    pub(super) kind: FileType,
}

/// What is said when something was swapped between judging and opening.
pub(super) const CHANGED: &str = "was changed by somebody else at this moment: try again";

/// The end of the sentence "`path` ...".
pub(super) fn words(errno: Errno) -> String {
    match errno {
        // A link where a plain name was a moment ago; or the kernel could not tell.
        Errno::LOOP | Errno::AGAIN | Errno::XDEV => CHANGED.to_owned(),
        Errno::NOENT => "is not there any more: list_files shows what there is".to_owned(),
        Errno::ACCESS | Errno::PERM => "cannot be used: Octo's user has no right to it".to_owned(),
        Errno::NAMETOOLONG => "has a name that is too long for this file system".to_owned(),
        Errno::NOSPC | Errno::DQUOT => "cannot be written: the disk is full".to_owned(),
        Errno::ROFS => "cannot be written: the file system is read-only".to_owned(),
        other => format!("cannot be used: {other}"),
    }
}
