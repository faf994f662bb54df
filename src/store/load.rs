//! What a start reads: the names in `tasks/`, the index, and the records that are unsettled or not in it.
//!
//! The order matters. First the journal is redone, and `tasks/` is synced, so that nobody acts on a record that a
//! power cut could still take back. Then names are listed once; a record without a folder (an agent: with or without) that has a line in
//! the index is neither opened nor looked at.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::disk::{self, Unread};
use super::error::{StoreError, words};
use super::index::{self, Line};
use super::record::{self, NotARecord, NotLoaded};
use super::{Loaded, Marks, Problem, Store, Summary, Write, env, locked};
use crate::task::{Kind, TaskId};

/// How far beyond the healthy records a number from a damaged file may be to be believed.
const GAP: u64 = 10_000;

/// The names in `tasks/`.
#[derive(Debug, Default)]
struct Listing {
    /// `<id>.json`, sorted by id.
    records: Vec<Record>,
    /// `<id>/`, sorted.
    folders: Vec<TaskId>,
    /// Other names that end in `.json`.
    odd: Vec<OsString>,
    /// Our own temps of a process that died.
    temps: Vec<CString>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    id: TaskId,
    kind: FileType,
    folder: bool,
    /// Where its summary is, if it had a line.
    slot: Option<u32>,
    /// The line still holds.
    trusted: bool,
}

impl Record {
    /// Whether a line of the index may stand for the record: the folder of a process may hold a run that is not
    /// folded away yet, that of an agent always holds its journal.
    fn may_stand(&self, line: &Summary) -> bool {
        self.kind == FileType::RegularFile && (!self.folder || line.kind == Kind::Agent)
    }
}

impl Listing {
    fn take(tasks: impl AsFd) -> rustix::io::Result<Self> {
        let mut listing = Listing::default();
        disk::list(tasks, |name, kind| listing.sort_in(name, kind))?;
        listing.records.sort_unstable_by_key(|r| r.id);
        listing.folders.sort_unstable();
        for record in &mut listing.records {
            record.folder = listing.folders.binary_search(&record.id).is_ok();
        }
        listing.odd.sort_unstable();
        Ok(listing)
    }

    fn sort_in(&mut self, name: &CStr, kind: FileType) {
        let text = name.to_str().unwrap_or("");
        if let Some(id) = text.strip_suffix(".json").and_then(|stem| stem.parse().ok()) {
            self.records.push(Record { id, kind, folder: false, slot: None, trusted: false });
        } else if let Ok(id) = text.parse::<TaskId>() {
            if kind == FileType::Directory {
                self.folders.push(id);
            }
        } else if disk::is_temp(text, |stem| stem.parse::<TaskId>().is_ok()) {
            self.temps.push(name.to_owned());
        } else if name.to_bytes().ends_with(b".json") && !name.to_bytes().starts_with(b".") {
            self.odd.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }

    fn at(&self, id: TaskId) -> Option<usize> {
        self.records.binary_search_by_key(&id, |r| r.id).ok()
    }

    fn find_mut(&mut self, id: TaskId) -> Option<&mut Record> {
        self.at(id).and_then(|at| self.records.get_mut(at))
    }
}

impl Store {
    /// Reads what is on disk; once, at the start, under the daemon's lock.
    ///
    /// Files that cannot be understood are set aside and reported; so are numbers that only they or removed
    /// tasks had used. Temps that a dead process left behind are deleted.
    ///
    /// # Errors
    /// Only when nothing can be known: `tasks/` cannot be synced or listed, or the process is out of
    /// descriptors or memory. No content of any file is an error.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let redone = self.redo()?;
        let (mut out, healthy) = self.load_all()?;
        out.problems.extend(redone);
        *locked(&self.marks) = out.marks;
        if out.marks != healthy {
            // The next start may not see these files any more. If this fails, the numbers are still right now.
            let _ = self.save(&[Write::Marks(out.marks)], &[]);
        }
        Ok(out)
    }

    /// What is there, and the marks that will still be seen at the next start.
    fn load_all(&self) -> Result<(Loaded, Marks), StoreError> {
        let _still = locked(&self.moving);
        let mut out = Loaded::default();
        let mut listing = self.synced_listing()?;
        self.sweep(&listing.temps);
        let kept_marks = self.load_marks(&mut out.problems);
        let mut upkeep = self.load_index(&mut listing, &mut out.ended);
        for name in &listing.odd {
            out.problems.push(self.set_aside(name, "its name is not that of a task record (8 hex characters)"));
        }
        self.load_records(&listing, &mut out, &mut upkeep)?;
        if !out.problems.is_empty() {
            self.sync_moves();
        }
        self.keep_index(&out.ended, upkeep.index);
        self.hand_over_unnumbered(&mut out);
        // What was handed over keeps its order: first what the index knew.
        out.live.sort_by_key(|task| task.number);
        // A folder whose record could not be redone or read is no stray one.
        let frozen = locked(&self.frozen).clone();
        let stray = |id: &&TaskId| listing.at(**id).is_none() && !frozen.contains(*id);
        out.stray_folders.extend(listing.folders.iter().filter(stray));
        out.stray_folders.sort_unstable();
        let seen = out.live.iter().map(Summary::of).map(|s| marks_of(&s)).chain(out.ended.iter().map(marks_of));
        let healthy = seen.fold(kept_marks, Marks::max);
        out.marks = believable(&upkeep.doubtful, healthy);
        Ok((out, healthy))
    }

    /// Lists `tasks/` after a sync of it, and of the environments that its records name.
    fn synced_listing(&self) -> Result<Listing, StoreError> {
        for (dir, name) in [(&self.envs, "env"), (&self.tasks, "tasks")] {
            let path = self.path.join(name);
            disk::sync(dir).map_err(|e| StoreError::io(e, format!("syncing the folder {}", path.display())))?;
        }
        Listing::take(&self.tasks)
            .map_err(|e| StoreError::io(e, format!("listing the folder {}", self.path.join("tasks").display())))
    }

    /// Ended tasks without a number of their own (the ancestor's, copied or edited ones) are handed over whole,
    /// so that they can be given one: lists and references go by it. All that share a number are, since only the
    /// whole record tells which of them is of this installation and keeps it.
    fn hand_over_unnumbered(&self, out: &mut Loaded) {
        let mut taken = HashSet::with_capacity(out.ended.len());
        let numbers = out.live.iter().map(|task| task.number).chain(out.ended.iter().map(|s| s.number));
        let shared: HashSet<u64> = numbers.filter(|number| *number == 0 || !taken.insert(*number)).collect();
        let (numbered, others) =
            std::mem::take(&mut out.ended).into_iter().partition(|s| s.number != 0 && !shared.contains(&s.number));
        out.ended = numbered;
        for summary in others {
            match record::load(&self.tasks, summary.id) {
                Ok(task) => out.live.push(task),
                // It went bad since it was listed: the check in the background tells what there is to tell.
                Err(_) => out.ended.push(summary),
            }
        }
    }

    fn sweep(&self, temps: &[CString]) {
        let remove = |dir: &std::os::fd::OwnedFd, name: &CStr| {
            let _ = disk::retry(|| rustix::fs::unlinkat(dir, name, AtFlags::empty()));
        };
        for name in temps {
            remove(&self.tasks, name);
        }
        for (dir, is_stem) in
            [(&self.envs, env::is_digest as fn(&str) -> bool), (&self.octo, |s| matches!(s, "marks" | "index"))]
        {
            let mut old = Vec::new();
            let _ = disk::list(dir, |name, _| {
                if name.to_str().is_ok_and(|n| disk::is_temp(n, is_stem)) {
                    old.push(name.to_owned());
                }
            });
            old.iter().for_each(|name| remove(dir, name));
        }
    }

    fn load_marks(&self, problems: &mut Vec<Problem>) -> Marks {
        const NAME: &str = "marks.json";
        let why = match disk::read_file(&self.octo, NAME, 1 << 16) {
            Err(Unread::Missing) => return Marks::default(),
            Err(Unread::Io(errno)) => words(errno),
            Err(Unread::Bad(why)) => why,
            Ok(bytes) => match serde_json::from_slice::<Marks>(&bytes) {
                Ok(marks) if marks.numbers_used.max(marks.seq_used) <= record::COUNT_MAX => return marks,
                Ok(_) => "its marks are beyond all bounds".to_owned(),
                Err(e) => format!("it does not hold marks: {e}"),
            },
        };
        let kept = match self.rename_free(self.octo.as_fd(), OsStr::new(NAME), NAME) {
            Ok(new) => self.path.join("quarantine").join(new),
            Err(_) => self.path.join(NAME),
        };
        problems.push(Problem { file: NAME.to_owned(), why, kept });
        Marks::default()
    }

    /// Reads the index into `ended`; records whose line holds are marked as trusted.
    fn load_index(&self, listing: &mut Listing, ended: &mut Vec<Summary>) -> Upkeep {
        let (mut doubtful, mut others) = (Vec::new(), Vec::new());
        let mut used = 0;
        let marker = index::marker(&self.tasks).ok();
        let lines = marker.as_deref().and_then(|marker| {
            index::read(&self.octo, marker, |line| match line {
                Line::Gone(id) => {
                    if let Some(record) = listing.find_mut(id) {
                        record.trusted = false;
                    }
                }
                Line::Ended(summary) => match listing.find_mut(summary.id).filter(|r| r.may_stand(&summary)) {
                    None => {
                        doubtful.push(marks_of(&summary));
                        others.push(summary.id);
                    }
                    Some(record) => {
                        record.trusted = true;
                        put(ended, &mut record.slot, summary);
                    }
                },
            })
        });
        let mut holds = vec![false; ended.len()];
        for record in listing.records.iter().filter(|r| r.trusted) {
            if let Some(hold) = record.slot.and_then(|slot| holds.get_mut(slot as usize)) {
                *hold = true;
                used += 1;
            }
        }
        let mut holds = holds.into_iter();
        ended.retain(|_| holds.next().unwrap_or(false));
        Upkeep { index: IndexUpkeep { marker, lines, used, others }, doubtful }
    }

    fn load_records(&self, listing: &Listing, out: &mut Loaded, upkeep: &mut Upkeep) -> Result<(), StoreError> {
        for record in listing.records.iter().filter(|r| !r.trusted) {
            let name = record::name(record.id);
            let name = OsStr::new(&name);
            let loaded = match record.kind {
                FileType::RegularFile | FileType::Unknown => record::load(&self.tasks, record.id),
                other => {
                    Err(NotLoaded::Bad(NotARecord { why: not_a_file(other).to_owned(), newer: false }, Vec::new()))
                }
            };
            match loaded {
                Ok(task) if record.folder || !task.status.is_ended() || task.owes_notices() => out.live.push(task),
                Ok(task) => out.ended.push(Summary::of(&task)),
                Err(NotLoaded::Missing) => {}
                Err(NotLoaded::Io(e @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM))) => {
                    return Err(StoreError::io(e, format!("reading tasks/{}", name.display())));
                }
                // It may well be a healthy record of a live task: its folder is not called a stray one.
                Err(NotLoaded::Io(e)) => out.problems.push(self.leave(name, words(e))),
                Err(NotLoaded::Bad(not, _)) if not.newer => out.problems.push(self.leave(name, not.why)),
                Err(NotLoaded::Bad(not, bytes)) => {
                    upkeep.doubtful.push(record::glimpse(&bytes));
                    out.problems.push(self.set_aside(name, &not.why));
                    out.stray_folders.extend(Some(record.id).filter(|_| record.folder));
                }
            }
        }
        Ok(())
    }

    /// Brings the index up to date: appended to, or written anew when a third of it is of no use.
    fn keep_index(&self, ended: &[Summary], upkeep: IndexUpkeep) {
        let Some(marker) = upkeep.marker else { return };
        let mut index = locked(&self.index);
        let fresh = ended.get(upkeep.used..).unwrap_or_default();
        let known = ended.get(..upkeep.used).unwrap_or_default();
        match upkeep.lines {
            Some(lines) if (lines - upkeep.used.min(lines)) * 3 <= lines && fresh.len() * 3 <= lines => {
                let lines: HashSet<TaskId> = known.iter().map(|s| s.id).chain(upkeep.others).collect();
                index.resume(lines, fresh.iter());
            }
            _ => index.rewrite(&marker, ended),
        }
    }
}

/// What the start learned of the index and of numbers that no healthy record shows.
struct Upkeep {
    index: IndexUpkeep,
    /// Marks from index lines and damaged records.
    doubtful: Vec<Marks>,
}

struct IndexUpkeep {
    /// `None`: the folder's marker cannot be had, so there is no index.
    marker: Option<String>,
    /// How many lines there are; `None`: no index.
    lines: Option<usize>,
    /// How many of them hold: as many summaries, the first ones, come from the index.
    used: usize,
    /// Tasks that have a line which does not count now but might later: it must be taken back as well.
    others: Vec<TaskId>,
}

/// The highest of the doubtful marks that are not absurdly far from the healthy ones.
fn believable(doubtful: &[Marks], healthy: Marks) -> Marks {
    let near = |n: u64, known: u64| if n <= known.saturating_add(GAP) { n } else { 0 };
    doubtful.iter().fold(healthy, |sum, m| {
        sum.max(Marks {
            numbers_used: near(m.numbers_used, healthy.numbers_used),
            seq_used: near(m.seq_used, healthy.seq_used),
            ..Marks::default()
        })
    })
}

fn marks_of(summary: &Summary) -> Marks {
    Marks { numbers_used: summary.number, seq_used: summary.last_seq, ..Marks::default() }
}

fn put(ended: &mut Vec<Summary>, slot: &mut Option<u32>, summary: Summary) {
    match slot.and_then(|slot| ended.get_mut(slot as usize)) {
        Some(old) => *old = summary,
        None => {
            *slot = u32::try_from(ended.len()).ok();
            ended.push(summary);
        }
    }
}

fn not_a_file(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "it is a folder",
        FileType::Symlink => "it is a symbolic link",
        FileType::Fifo => "it is a FIFO",
        FileType::Socket => "it is a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "it is a device",
        FileType::RegularFile | FileType::Unknown => "it is not a regular file",
    }
}
