//! At a start: what the journal says and the record files do not show yet is done again.
//!
//! | the files are | what is redone |
//! |---|---|
//! | as the last daemon left them (same boot, same mount) | the last frame, unless it is known to be applied |
//! | as a power cut left them, or nobody knows | every frame |
//!
//! Redoing changes nothing that is there already: a record with the same or a higher `rev` stays. A record
//! file that makes no sense is set aside first, unless it is what a power cut leaves of an unsynced file. A run that may have begun, and of whose folder the power cut left nothing, gets a claim
//! whose processes are not known: the verdict then is that it was cut off, and it is not run again unasked.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::disk::{self, Temp, Unread};
use super::error::{StoreError, words};
use super::index;
use super::journal::{self, Entry, Old};
use super::record::{self, NotLoaded};
use super::{Problem, Store, locked};
use crate::run::{Claim, LockFact, ProcId, RunDir};
use crate::task::TaskId;

/// What all segments together say.
#[derive(Debug, Default)]
struct Told {
    /// The last word on each record; `None`: removed.
    records: BTreeMap<TaskId, Option<Vec<u8>>>,
    /// Runs that may have begun, whether or not they have ended since.
    launched: BTreeMap<TaskId, u32>,
    /// The same, of segments that a power cut may have come after.
    uncertain: BTreeMap<TaskId, u32>,
}

impl Store {
    /// Redoes what has to be redone and begins a new segment. What goes wrong with single files is reported.
    ///
    /// # Errors
    /// When the journal cannot be read just now: nobody knows then what the records should be.
    pub(super) fn redo(&self) -> Result<Vec<Problem>, StoreError> {
        let numbers = journal::segments(&self.octo)
            .map_err(|e| StoreError::io(e, format!("listing the folder {}", self.path.display())))?;
        let mut problems = Vec::new();
        let mut told = Told::default();
        let segments = self.read_segments(&numbers, &mut problems)?;
        // What a failed sync of the file system may have lost is older than the segment that notes it.
        let doubtful = segments.iter().rposition(|old| old.header.doubtful).unwrap_or(0);
        let here = journal::place(&self.octo, &self.tasks);
        for (at, old) in segments.into_iter().enumerate() {
            let as_left = old.header.place == here && at >= doubtful;
            take_in(old, as_left, &mut told);
        }
        let mut done = true;
        let mut changed = false;
        for (id, word) in &told.records {
            match self.redo_record(*id, word.as_deref(), &mut problems) {
                Ok(was_missing) => changed |= was_missing,
                Err(errno) => {
                    done = false;
                    let why = format!("{} while redoing a save of it", words(errno));
                    problems.push(self.leave(OsStr::new(&record::name(*id)), why));
                }
            }
        }
        if changed {
            // Lines may be about what a record said before.
            index::forget(&self.octo);
        }
        told.launched.retain(|id, run| self.may_run(*id, *run));
        for (id, run) in told.uncertain.iter().filter(|(id, run)| told.launched.get(id) == Some(run)) {
            if let Err(errno) = self.claim_lost_run(*id, *run) {
                done = false;
                let why = format!("{} while noting that its run {run} may have begun", words(errno));
                problems.push(self.leave(OsStr::new(&record::name(*id)), why));
            }
        }
        let next = numbers.last().map_or(0, |last| last + 1);
        locked(&self.journal).begin(next, told.launched, done && !numbers.is_empty());
        Ok(problems)
    }

    fn read_segments(&self, numbers: &[u64], problems: &mut Vec<Problem>) -> Result<Vec<Old>, StoreError> {
        let mut segments = Vec::new();
        for number in numbers {
            let name = journal::name(*number);
            let old = match disk::read_file(&self.octo, name.as_str(), journal::SEGMENT_MAX) {
                Ok(bytes) => journal::parse(&bytes),
                Err(Unread::Missing) => continue,
                Err(Unread::Bad(why)) => Err(why),
                Err(Unread::Io(e)) => {
                    return Err(StoreError::io(e, format!("reading {}", self.path.join(name).display())));
                }
            };
            match old {
                Ok(old) => segments.extend(old),
                Err(why) => {
                    let kept = match self.rename_free(self.octo.as_fd(), OsStr::new(&name), &name) {
                        Ok(new) => self.path.join("quarantine").join(new),
                        Err(_) => self.path.join(&name),
                    };
                    problems.push(Problem { file: name, why, kept });
                }
            }
        }
        Ok(segments)
    }

    /// Makes a record what the journal says; tells whether it was not that before.
    fn redo_record(&self, id: TaskId, word: Option<&[u8]>, problems: &mut Vec<Problem>) -> rustix::io::Result<bool> {
        let name = record::name(id);
        let Some(bytes) = word else {
            return match disk::retry(|| rustix::fs::unlinkat(&self.tasks, name.as_str(), AtFlags::empty())) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(e) => Err(e),
            };
        };
        let rev = record::parse(id, bytes).map(|task| task.rev);
        match record::load(&self.tasks, id) {
            Ok(there) if rev.as_ref().map_or(true, |rev| there.rev >= *rev) => return Ok(false),
            Ok(_) | Err(NotLoaded::Missing) => {}
            Err(NotLoaded::Io(e)) => return Err(e),
            Err(NotLoaded::Bad(not, _)) if not.newer => return Ok(false),
            Err(NotLoaded::Bad(not, bytes)) => match self.remains(&name, &bytes) {
                Remains::Nothing => {}
                Remains::OfThePowerCut => drop(self.set_aside(OsStr::new(&name), &not.why)),
                Remains::OfSomebody => problems.push(self.set_aside(OsStr::new(&name), &not.why)),
            },
        }
        Temp::write(self.tasks.as_fd(), id.as_str(), bytes, false)?.put(&name)?;
        Ok(true)
    }

    /// What a bad record is that the journal has a good one for.
    fn remains(&self, name: &str, bytes: &[u8]) -> Remains {
        let Ok(stat) = rustix::fs::statat(&self.tasks, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Remains::OfSomebody;
        };
        let whole = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
            && u64::try_from(stat.st_size).is_ok_and(|size| size == bytes.len() as u64);
        let clock = |id| rustix::time::clock_gettime(id).tv_sec;
        let started = clock(rustix::time::ClockId::Realtime) - clock(rustix::time::ClockId::Boottime);
        if whole && (bytes.iter().all(|b| *b == 0) || is_of_another(bytes)) {
            Remains::Nothing
        } else if whole && stat.st_ctime < started {
            Remains::OfThePowerCut
        } else {
            Remains::OfSomebody
        }
    }

    /// Tells whether a record still waits for the end of this run.
    fn may_run(&self, id: TaskId, run: u32) -> bool {
        record::load(&self.tasks, id).is_ok_and(|task| task.run.max(1) == run && !task.status.is_ended())
    }

    /// Gives a run that may have begun, and that left nothing, a claim of which nothing is known.
    fn claim_lost_run(&self, id: TaskId, run: u32) -> rustix::io::Result<()> {
        let dir = RunDir::new(&self.path.join("tasks"), id, run);
        if dir.facts().is_ok_and(|facts| facts.lock == LockFact::Held) {
            return Ok(());
        }
        let task = self.folder(&self.tasks, id.as_str())?;
        let folder = self.folder(&task, &format!("run-{run}"))?;
        for fact in ["claim.json", "exit.json"] {
            if rustix::fs::statat(&folder, fact, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Ok(());
            }
        }
        let nobody = ProcId { pid: 0, start: 0 };
        let claim = Claim {
            shim: nobody,
            child: nobody,
            boot_id: "lost".to_owned(),
            at: crate::run::dir::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let text = serde_json::to_vec(&claim).map_err(|_| Errno::INVAL)?;
        // A shim may live all the same, where nobody can tell one mount from another: who links first has the claim.
        match Temp::write(folder.as_fd(), "claim", &text, false)?.link("claim.json") {
            Err(Errno::EXIST) => Ok(()),
            linked => linked,
        }
    }

    fn folder(&self, dir: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
        match disk::retry(|| rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))) {
            Ok(()) | Err(Errno::EXIST) => disk::open_dir(dir, name),
            Err(e) => Err(e),
        }
    }
}

/// What is in the place of a record.
enum Remains {
    /// Nothing, zeros, or the record of another task (files are used again): an unsynced file after a power cut.
    Nothing,
    /// Something that nobody has touched since this machine started. It is kept, and no more is said of it.
    OfThePowerCut,
    /// Somebody's work.
    OfSomebody,
}

/// Takes a segment in, after all older ones. `as_left`: the files show what its frames say, but perhaps the last.
fn take_in(old: Old, as_left: bool, told: &mut Told) {
    let mut launched = old.header.launched;
    let applied = if as_left { old.frames.len() - usize::from(!old.applied && !old.frames.is_empty()) } else { 0 };
    for (at, frame) in old.frames.into_iter().enumerate() {
        for entry in frame {
            match entry {
                Entry::Launch(id, run) => drop(launched.insert(id, run)),
                Entry::Put { id, record } if at >= applied => drop(told.records.insert(id, Some(record))),
                Entry::Remove(id) if at >= applied => drop(told.records.insert(id, None)),
                // The files show it already, and with it that no older word holds any more.
                Entry::Put { id, .. } | Entry::Remove(id) => drop(told.records.remove(&id)),
            }
        }
    }
    if !as_left {
        told.uncertain.extend(launched.iter().map(|(id, run)| (*id, *run)));
    }
    told.launched.extend(launched);
}

/// Tells whether a bad record is a good one of another task: files are used again, and a power cut may keep what
/// was written to one but not its new name.
fn is_of_another(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Named {
        id: TaskId,
    }
    serde_json::from_slice(bytes).is_ok_and(|named: Named| record::parse(named.id, bytes).is_ok())
}
