//! The journal: one sync for everything that a turn saves.
//!
//! ```text
//!   .octo/journal-7:  [header] [frame 0] [frame 1] ... [frame n] "applied\n"  zeros ...
//!                                └ put <id> <bytes>, remove <id>, launch <id> <run>
//! ```
//!
//! A save appends one *frame*, syncs this one file, and only then puts the record files in their places,
//! without a sync. So a frame is all or nothing, whatever dies when, and its entries are durable together.
//! The space is written with zeros beforehand: the sync of a frame is one write and one flush of the disk, and
//! no change of any file's size or name has to reach the disk with it.
//!
//! After a frame's entries are in their places the word `applied` is written behind it; the next frame
//! overwrites it. A start that finds the files as the last daemon left them (the same boot, the same mount)
//! redoes only a last frame without that word; after a power cut it redoes all frames (`redo.rs`).
//!
//! A *segment* that has grown over [`ROTATE`] is followed by a new one, and a thread of its own then lets the
//! system sync everything (`syncfs`) and deletes the older segments. `launch` entries of runs that have not
//! ended are carried over into each new segment's header.
//!
//! A frame that could not be written or synced is overwritten with `applied`, and the next save begins a new
//! segment: what a failed sync left behind is not trusted.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::disk;
use crate::task::TaskId;

/// Goes up whenever the format changes.
const VERSION: u32 = 1;

const MAGIC: &[u8; 4] = b"OCJ1";

/// Magic, length of the payload, number of the frame, digest.
const HEAD: usize = 4 + 4 + 8 + 16;

/// Stands behind the last frame when all frames are applied; as long as a frame's head can be told from it.
const APPLIED: &[u8; 8] = b"applied\n";

/// How much of a new segment is written with zeros.
const FIRST: usize = 256 << 10;

/// By how much it grows at a time.
const GROW: usize = 1 << 20;

/// Room for less than this is not worth a write of its own.
const FILL_MIN: usize = 4096;

/// A segment longer than this is followed by a new one.
const ROTATE: u64 = 4 << 20;

/// No segment has such a number; there must always be a next one.
const NUMBER_MAX: u64 = 1 << 53;

/// The largest segment that is read again, in bytes; a batch of some ten thousand records fits.
pub(super) const SEGMENT_MAX: u64 = 512 << 20;

/// A segment longer than this is followed by a new one even while a checkpoint is under way.
const TOO_LONG: u64 = SEGMENT_MAX / 4;

/// The first line of a segment, as the payload of its frame 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    octo_journal: u32,
    /// What tells this segment's frames from those of any other file.
    id: String,
    /// The boot and the mount in which it is written; see [`place`].
    pub(super) place: String,
    /// Runs that may have begun and have not ended.
    pub(super) launched: BTreeMap<TaskId, u32>,
    /// The system failed to write something out before: what older segments say may be lost, whatever the files
    /// look like.
    #[serde(default)]
    pub(super) doubtful: bool,
}

/// One thing that a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The record of a task, as the bytes of its file.
    Put {
        /// The task.
        id: TaskId,
        /// Its record.
        record: Vec<u8>,
    },
    /// A record is removed.
    Remove(TaskId),
    /// This run may begin from now on.
    Launch(TaskId, u32),
}

/// A frame in the making.
#[derive(Debug, Default)]
pub(super) struct Frame {
    payload: Vec<u8>,
    /// What it does to the set of launched runs.
    launched: Vec<(TaskId, Option<u32>)>,
}

impl Frame {
    /// Adds a record; `over`: none of its runs may still be under way.
    pub(super) fn put(&mut self, id: TaskId, record: &[u8], over: bool) {
        self.payload.extend_from_slice(format!("put {id} {}\n", record.len()).as_bytes());
        self.payload.extend_from_slice(record);
        self.payload.push(b'\n');
        if over {
            self.launched.push((id, None));
        }
    }

    /// Adds a removal.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.payload.extend_from_slice(format!("remove {id}\n").as_bytes());
        self.launched.push((id, None));
    }

    /// Adds a launch.
    pub(super) fn launch(&mut self, id: TaskId, run: u32) {
        self.payload.extend_from_slice(format!("launch {id} {run}\n").as_bytes());
        self.launched.push((id, Some(run)));
    }

    /// Tells whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }
}

/// A frame that could not be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) errno: Errno,
    /// No start finds it; else a power cut may bring it back.
    pub(super) gone: bool,
}

/// The journal while the daemon runs.
#[derive(Debug)]
pub(super) struct Journal {
    octo: OwnedFd,
    tasks: OwnedFd,
    current: Option<Segment>,
    next: u64,
    launched: BTreeMap<TaskId, u32>,
    /// A checkpoint is under way.
    checkpoint: Arc<AtomicBool>,
    /// A checkpoint failed.
    failed: Arc<AtomicBool>,
    /// Older segments are needed by the next start: no checkpoint deletes them.
    keep_old: bool,
}

/// The segment that is written now.
#[derive(Debug)]
struct Segment {
    file: OwnedFd,
    id: String,
    frames: u64,
    /// Where the last frame begins.
    last: u64,
    /// Where the next frame goes.
    end: u64,
    /// How far the file is written with zeros or frames.
    filled: u64,
}

impl Journal {
    pub(super) fn new(octo: OwnedFd, tasks: OwnedFd) -> Self {
        let (checkpoint, failed) = (Arc::default(), Arc::default());
        Journal { octo, tasks, current: None, next: 0, launched: BTreeMap::new(), checkpoint, failed, keep_old: false }
    }

    /// Begins a segment after those that a start found; when they were `redone`, they are deleted as soon as
    /// everything is on disk. Where it cannot be begun now, the first save tries again.
    pub(super) fn begin(&mut self, next: u64, launched: BTreeMap<TaskId, u32>, redone: bool) {
        self.next = next;
        self.launched = launched;
        self.keep_old = !redone;
        match self.create() {
            Ok(segment) => self.current = Some(segment),
            Err(errno) => tracing::warn!(%errno, "no journal could be begun; the first save tries again"),
        }
        if self.current.is_some() {
            self.start_checkpoint();
        }
    }

    /// Appends a frame and syncs it: from now on its entries hold, whatever happens.
    ///
    /// # Errors
    /// When it cannot be written or synced; then none of its entries holds, if [`Failed::gone`] says so.
    pub(super) fn append(&mut self, frame: &Frame) -> std::result::Result<(), Failed> {
        let sure = |errno| Failed { errno, gone: true };
        let end = self.current.as_ref().map_or(0, |segment| segment.end);
        let full = end > ROTATE && (end > TOO_LONG || !self.checkpoint.load(Ordering::Acquire));
        // What follows must be told apart from what a failed sync may have lost.
        let doubtful = !self.keep_old && self.failed.load(Ordering::Acquire);
        self.keep_old |= doubtful;
        if full || doubtful || self.current.is_none() {
            self.current = Some(self.create().map_err(sure)?);
            self.start_checkpoint();
        }
        let Some(segment) = &mut self.current else { return Err(sure(Errno::IO)) };
        if segment.end + (HEAD + frame.payload.len() + APPLIED.len()) as u64 > SEGMENT_MAX {
            return Err(sure(Errno::FBIG));
        }
        if let Err(errno) = segment.append(&frame.payload) {
            let gone = segment.void().is_ok();
            self.current = None;
            return Err(Failed { errno, gone });
        }
        for (id, run) in &frame.launched {
            match run {
                Some(run) => drop(self.launched.insert(*id, *run)),
                None => drop(self.launched.remove(id)),
            }
        }
        Ok(())
    }

    /// Notes that the entries of all frames are in their places.
    pub(super) fn applied(&mut self) {
        if let Some(segment) = &self.current {
            // Without it a start looks at the last frame once more.
            let _ = disk::write_all_at(&segment.file, APPLIED, segment.end);
        }
    }

    fn create(&mut self) -> Result<Segment> {
        let header = Header {
            octo_journal: VERSION,
            id: uuid::Uuid::new_v4().simple().to_string(),
            place: place(&self.octo, &self.tasks),
            launched: self.launched.clone(),
            doubtful: self.failed.load(Ordering::Acquire),
        };
        let name = name(self.next);
        self.next += 1;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.octo, name.as_str(), flags, Mode::from_raw_mode(0o600));
        let file = disk::retry(open)?;
        let begun = Segment::begin(file, &header).and_then(|segment| disk::sync(&self.octo).map(|()| segment));
        if begun.is_err() {
            let _ = disk::retry(|| rustix::fs::unlinkat(&self.octo, name.as_str(), AtFlags::empty()));
        }
        begun
    }

    /// Lets a thread sync the file system and delete all segments before the present one.
    fn start_checkpoint(&mut self) {
        let keep = self.next.saturating_sub(1);
        if keep == 0 || self.keep_old {
            return;
        }
        let (Ok(octo), Ok(tasks)) = (self.octo.try_clone(), self.tasks.try_clone()) else { return };
        if self.checkpoint.swap(true, Ordering::AcqRel) {
            return;
        }
        let (running, failed) = (Arc::clone(&self.checkpoint), Arc::clone(&self.failed));
        let job = move || {
            if let Err(errno) = delete_before(&octo, &tasks, keep) {
                tracing::warn!(%errno, "the file system could not be synced; the journal is kept");
                failed.store(true, Ordering::Release);
            }
            running.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("checkpoint".to_owned()).spawn(job).is_err() {
            self.checkpoint.store(false, Ordering::Release);
        }
    }
}

impl Segment {
    fn begin(file: OwnedFd, header: &Header) -> Result<Segment> {
        let mut segment = Segment { file, id: header.id.clone(), frames: 0, last: 0, end: 0, filled: 0 };
        let payload = serde_json::to_vec(header).map_err(|_| Errno::INVAL)?;
        segment.write(&payload, FIRST)?;
        disk::write_all_at(&segment.file, APPLIED, segment.end)?;
        disk::sync(&segment.file)?;
        Ok(segment)
    }

    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.write(payload, GROW)?;
        if crate::sabotage::broken("no_folder_fsync") {
            return Ok(());
        }
        disk::retry(|| rustix::fs::fdatasync(&self.file))
    }

    /// Writes a frame at the end, and zeros behind it when the space runs out.
    fn write(&mut self, payload: &[u8], grow: usize) -> Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + payload.len() + APPLIED.len());
        self.last = self.end;
        let length = u32::try_from(payload.len()).map_err(|_| Errno::FBIG)?;
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.frames.to_le_bytes());
        bytes.extend_from_slice(&digest(&self.id, self.frames, payload));
        bytes.extend_from_slice(payload);
        let after = self.end + bytes.len() as u64;
        disk::write_all_at(&self.file, &bytes, self.end)?;
        if after + APPLIED.len() as u64 > self.filled {
            self.filled = self.fill(after, grow);
        }
        self.end = after;
        self.frames += 1;
        Ok(())
    }

    /// Writes zeros from `at` on, fewer where the disk has less room; returns where they end.
    fn fill(&self, at: u64, mut grow: usize) -> u64 {
        let zeros = vec![0; grow];
        while grow >= FILL_MIN {
            if disk::write_all_at(&self.file, zeros.get(..grow).unwrap_or_default(), at).is_ok() {
                return at + grow as u64;
            }
            // What was written of them is given back: others need that room more.
            let _ = disk::retry(|| rustix::fs::ftruncate(&self.file, at));
            grow /= 4;
        }
        at
    }

    /// Takes back the frame that was written last, or was to be, and the room behind it: no start must find it.
    fn void(&mut self) -> Result<()> {
        disk::write_all_at(&self.file, APPLIED, self.last)?;
        disk::retry(|| rustix::fs::ftruncate(&self.file, self.last + APPLIED.len() as u64))?;
        disk::retry(|| rustix::fs::fdatasync(&self.file))
    }
}

/// A segment that an earlier daemon wrote.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) header: Header,
    pub(super) frames: Vec<Vec<Entry>>,
    /// Whether the entries of all frames are known to be in their places, as long as the place is the same.
    pub(super) applied: bool,
}

/// Reads a segment; `None` when it holds no whole header: then nothing was ever acknowledged by it.
///
/// # Errors
/// What is wrong with it, for people. A torn last frame is not wrong: it was never acknowledged.
pub(super) fn parse(bytes: &[u8]) -> std::result::Result<Option<Old>, String> {
    let Some(first) = Raw::take(bytes) else { return Ok(None) };
    let Ok(header) = serde_json::from_slice::<Header>(first.payload) else { return Ok(None) };
    if !first.is(&header.id, 0) {
        return Ok(None);
    }
    if header.octo_journal != VERSION {
        return Err(format!("another version of Octo wrote it (format {})", header.octo_journal));
    }
    let (mut frames, mut rest) = (Vec::new(), first.rest);
    while let Some(raw) = Raw::take(rest).filter(|raw| raw.is(&header.id, frames.len() as u64 + 1)) {
        frames.push(entries(raw.payload).ok_or_else(|| "a frame of it makes no sense".to_owned())?);
        rest = raw.rest;
    }
    Ok(Some(Old { header, frames, applied: rest.starts_with(APPLIED) }))
}

/// What may be a frame.
struct Raw<'a> {
    number: u64,
    digest: [u8; 16],
    payload: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Raw<'a> {
    fn take(bytes: &'a [u8]) -> Option<Raw<'a>> {
        let bytes = bytes.strip_prefix(MAGIC)?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (number, bytes) = bytes.split_first_chunk()?;
        let (digest, bytes) = bytes.split_first_chunk()?;
        let (payload, rest) = bytes.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        Some(Raw { number: u64::from_le_bytes(*number), digest: *digest, payload, rest })
    }

    /// Tells whether it is whole, and the one that belongs here.
    fn is(&self, id: &str, number: u64) -> bool {
        self.number == number && self.digest == digest(id, number, self.payload)
    }
}

/// Tells a whole frame of this very segment from torn ones and from what lay on the disk before.
fn digest(id: &str, number: u64, payload: &[u8]) -> [u8; 16] {
    let sum = Sha256::new().chain_update(id).chain_update(number.to_le_bytes()).chain_update(payload).finalize();
    let mut digest = [0; 16];
    digest.iter_mut().zip(sum).for_each(|(to, from)| *to = from);
    digest
}

/// Takes a frame's payload apart.
fn entries(mut payload: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !payload.is_empty() {
        let end = payload.iter().position(|b| *b == b'\n')?;
        let (line, rest) = payload.split_at_checked(end)?;
        payload = rest.get(1..)?;
        let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
        entries.push(match words[..] {
            ["put", id, length] => {
                let (record, rest) = payload.split_at_checked(length.parse().ok()?)?;
                payload = rest.strip_prefix(b"\n")?;
                Entry::Put { id: id.parse().ok()?, record: record.to_vec() }
            }
            ["remove", id] => Entry::Remove(id.parse().ok()?),
            ["launch", id, run] => Entry::Launch(id.parse().ok()?, run.parse().ok()?),
            _ => return None,
        });
    }
    Some(entries)
}

/// The file of a segment.
pub(super) fn name(number: u64) -> String {
    format!("journal-{number}")
}

/// The numbers of the segments in `.octo/`, in order.
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn segments(octo: &OwnedFd) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    disk::list(octo, |name, _| {
        let number = name.to_str().ok().and_then(|n| n.strip_prefix("journal-")).and_then(|n| n.parse().ok());
        // A name that we would not give is nobody's segment.
        numbers.extend(number.filter(|n: &u64| *n < NUMBER_MAX && name.to_bytes() == self::name(*n).as_bytes()));
    })?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn delete_before(octo: &OwnedFd, tasks: &OwnedFd, keep: u64) -> Result<()> {
    disk::retry(|| rustix::fs::syncfs(octo))?;
    if rustix::fs::fstat(octo)?.st_dev != rustix::fs::fstat(tasks)?.st_dev {
        disk::retry(|| rustix::fs::syncfs(tasks))?;
    }
    for number in segments(octo)?.into_iter().filter(|n| *n < keep) {
        disk::retry(|| rustix::fs::unlinkat(octo, name(number).as_str(), AtFlags::empty()))?;
    }
    Ok(())
}

/// Names the boot and the mounts of `.octo/` and its `tasks/`: as long as all are the same, what was written
/// without a sync is there. Where the kernel has no numbers for mounts that are never used twice (before 6.8), every
/// start has a place of its own.
pub(super) fn place(octo: &OwnedFd, tasks: &OwnedFd) -> String {
    const MNT_ID_UNIQUE: u32 = 0x4000;
    let mount = |dir: &OwnedFd| {
        let stat = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::from_bits_retain(MNT_ID_UNIQUE));
        stat.ok().filter(|stat| stat.stx_mask & MNT_ID_UNIQUE != 0).map(|stat| stat.stx_mnt_id)
    };
    match (crate::run::boot_id(), mount(octo), mount(tasks)) {
        (Ok(boot), Some(octo), Some(tasks)) => format!("{boot} {octo} {tasks}"),
        _ => format!("unknown {}", uuid::Uuid::new_v4()),
    }
}

#[cfg(test)]
mod tests;
