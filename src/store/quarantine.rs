//! Setting files aside: renamed, never opened, never overwritten, and told of.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::{Errno, Result};

use super::disk;
use super::error::words;
use super::{Problem, Store, locked};
use crate::task::TaskId;

/// How much of a file's name is kept: with the time and the counter it must fit into 255 bytes.
const NAME_KEPT: usize = 200;

/// How many files of one name may be set aside in one second.
const TRIES: u32 = 10_000;

impl Store {
    /// Moves a file of `tasks/` to `.octo/quarantine/` and says where it is now.
    ///
    /// `name_in_tasks` may lead into task folders (`ab12cd34/run-1/claim.json`); links are not followed. A
    /// record of a newer Octo stays in its place, and so does what cannot be moved: its record is then never
    /// overwritten.
    pub fn quarantine(&self, name_in_tasks: &str, why: &str) -> Problem {
        let _still = locked(&self.moving);
        let problem = self.set_aside(OsStr::new(name_in_tasks), why);
        self.sync_moves();
        problem
    }

    /// As [`Store::quarantine`], for callers that hold the lock and sync later.
    pub(super) fn set_aside(&self, name: &OsStr, why: &str) -> Problem {
        let file = format!("tasks/{}", name.to_string_lossy());
        let id = record_id(name);
        let frozen = id.is_some_and(|id| locked(&self.frozen).contains(&id));
        let moved = if frozen { Err(Errno::BUSY) } else { self.move_away(name) };
        let (why, kept) = match moved {
            Ok(new) => (why.to_owned(), self.path.join("quarantine").join(new)),
            Err(e) => {
                let moving = if frozen { String::new() } else { format!(" (it could not be moved: {})", words(e)) };
                self.freeze(id);
                (format!("{why}{moving}"), self.path.join("tasks").join(name))
            }
        };
        Problem { file, why, kept }
    }

    /// Reports a file that stays where it is, and sees to it that it is not overwritten.
    pub(super) fn leave(&self, name: &OsStr, why: String) -> Problem {
        self.freeze(record_id(name));
        let file = format!("tasks/{}", name.to_string_lossy());
        Problem { file, why, kept: self.path.join("tasks").join(name) }
    }

    fn freeze(&self, id: Option<TaskId>) {
        if let Some(id) = id {
            locked(&self.frozen).insert(id);
        }
    }

    /// Makes moves durable; if that fails, the files are moved again at the next start.
    pub(super) fn sync_moves(&self) {
        let _ = disk::sync(&self.quarantine);
        let _ = disk::sync(&self.tasks);
    }

    fn move_away(&self, name: &OsStr) -> Result<String> {
        let path = Path::new(name);
        let last = path.file_name().ok_or(Errno::INVAL)?;
        let deeper = self.walk(path.parent().unwrap_or(Path::new("")))?;
        let from = deeper.as_ref().map_or(self.tasks.as_fd(), OwnedFd::as_fd);
        self.rename_free(from, last, &flat(name))
    }

    /// Opens a folder below `tasks/` step by step, so that no link on the way is followed.
    fn walk(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let mut at: Option<OwnedFd> = None;
        for step in path.components() {
            let std::path::Component::Normal(step) = step else { return Err(Errno::INVAL) };
            let dir = at.as_ref().map_or(self.tasks.as_fd(), OwnedFd::as_fd);
            at = Some(disk::open_dir(dir, step)?);
        }
        Ok(at)
    }

    /// Moves a file into quarantine under the first free name that begins with `flat`.
    pub(super) fn rename_free(&self, from: BorrowedFd<'_>, last: &OsStr, flat: &str) -> Result<String> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        for n in 0..TRIES {
            let new = format!("{flat}.{now}.{n}");
            match disk::retry(|| rename_new(from, last, self.quarantine.as_fd(), &new)) {
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
                Ok(()) => return Ok(new),
            }
        }
        Err(Errno::EXIST)
    }
}

/// Renames without replacing anything, also where the file system has no such call.
fn rename_new(from: BorrowedFd<'_>, old: &OsStr, to: BorrowedFd<'_>, new: &str) -> Result<()> {
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        done => return done,
    }
    match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(from, old, to, new),
        Err(e) => Err(e),
        Ok(_) => Err(Errno::EXIST),
    }
}

/// A name without folders, in UTF-8, short enough to be made longer.
fn flat(name: &OsStr) -> String {
    let mut flat: String =
        name.to_string_lossy().chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    let mut end = flat.len().min(NAME_KEPT);
    while !flat.is_char_boundary(end) {
        end -= 1;
    }
    flat.truncate(end);
    flat
}

/// The task whose record has this name.
pub(super) fn record_id(name: &OsStr) -> Option<TaskId> {
    std::str::from_utf8(name.as_bytes()).ok()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_one_that_fits() {
        assert_eq!(flat(OsStr::new("ab12cd34/run-1/claim.json")), "ab12cd34_run-1_claim.json");
        assert_eq!(flat(OsStr::from_bytes(b"\xff\n.json")), "\u{fffd}_.json");
        let long = flat(OsStr::new(&"語".repeat(80)));
        assert!(long.len() <= NAME_KEPT && long.chars().all(|c| c == '語'));
    }
}
