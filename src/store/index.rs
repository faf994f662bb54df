//! `index.jsonl`: one line per ended task, so that a start need not open every record.
//!
//! The first line is the header: a version and a marker of the very `tasks/` folder that the lines are about
//! (a copied or cloned index is not believed). Then lines of two kinds: a [`Summary`], and a bare id, which
//! takes back what was said of that task before. The last line of a task wins. Whatever does not parse is
//! skipped; its task is then read from its record.
//!
//! Summaries are appended without a sync: losing some costs a few reads. Taking back is synced, since an old
//! line would be believed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

use super::Summary;
use super::disk::{self, Stream, Temp};
use crate::task::TaskId;

const NAME: &str = "index.jsonl";

/// Goes up whenever a line changes its meaning.
const VERSION: u32 = 2;

/// The longest line; a real one has some 300 bytes.
const LINE_MAX: usize = 4096;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    octo_index: u32,
    tasks: String,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// This task ended so.
    Ended(Summary),
    /// What was said of it no longer holds.
    Gone(TaskId),
}

impl Line {
    fn parse(line: &[u8]) -> Option<Line> {
        match line.first()? {
            b'"' => serde_json::from_slice(line).ok().map(Line::Gone),
            _ => serde_json::from_slice(line).ok().filter(|s: &Summary| s.status.is_ended()).map(Line::Ended),
        }
    }
}

/// The marker of a `tasks/` folder: its inode and when it was made.
pub(super) fn marker(tasks: impl AsFd) -> Result<String> {
    let flags = StatxFlags::INO | StatxFlags::BTIME;
    let stat = rustix::fs::statx(tasks, c"", AtFlags::EMPTY_PATH, flags)?;
    Ok(format!("{}.{}.{}", stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}

/// Reads the lines of the index that belong to this `tasks/` folder; returns how many lines there are, good
/// or not, or `None` when there is no such index.
pub(super) fn read(octo: impl AsFd, marker: &str, mut each: impl FnMut(Line)) -> Option<usize> {
    let file = disk::open_file(octo, NAME).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut lines = Lines { reader: BufReader::with_capacity(1 << 16, Stream(file)), line: Vec::new() };
    let header: Header = serde_json::from_slice(lines.next()?.ok()?).ok()?;
    if header.octo_index != VERSION || header.tasks != marker {
        return None;
    }
    let mut count = 0;
    while let Some(line) = lines.next() {
        count += 1;
        if let Some(line) = line.ok().and_then(Line::parse) {
            each(line);
        }
    }
    Some(count)
}

/// Complete lines of bounded length, without their ends; a line that is torn or too long is an error.
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
}

/// A line that cannot be used.
struct Unusable;

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Option<std::result::Result<&[u8], Unusable>> {
        self.line.clear();
        // An error in the middle ends the index: the rest is read from the records.
        let n = (&mut self.reader).take(LINE_MAX as u64).read_until(b'\n', &mut self.line).ok()?;
        if n == 0 {
            return None;
        }
        if self.line.pop_if(|last| *last == b'\n').is_none() {
            self.reader.skip_until(b'\n').ok()?;
            return Some(Err(Unusable));
        }
        Some(Ok(&self.line))
    }
}

/// Deletes the index: what it says may be older than the records.
pub(super) fn forget(octo: &OwnedFd) {
    let _ = disk::retry(|| rustix::fs::unlinkat(octo, NAME, AtFlags::empty()));
    let _ = disk::sync(octo);
}

/// The index while the daemon runs.
#[derive(Debug)]
pub(super) struct Index {
    octo: OwnedFd,
    /// `None` until it was loaded, and after it failed: then nothing is written before the next start.
    file: Option<Stream>,
    /// The tasks that have a line.
    lines: HashSet<TaskId>,
    /// A line was cut short: the next one begins with a line end.
    torn: bool,
    /// The file stands under its name for good.
    named: bool,
}

impl Index {
    pub(super) fn new(octo: OwnedFd) -> Self {
        Index { octo, file: None, lines: HashSet::new(), torn: false, named: false }
    }

    /// Goes on with the index that was read: `lines` have one there, `fresh` get one now.
    pub(super) fn resume<'a>(&mut self, lines: HashSet<TaskId>, fresh: impl Iterator<Item = &'a Summary>) {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = disk::retry(|| rustix::fs::openat(&self.octo, NAME, flags, Mode::empty()));
        self.file = file.ok().map(Stream);
        self.lines = lines;
        // Whether the last line is whole is not known; an empty one does no harm.
        self.torn = true;
        self.named = false;
        for summary in fresh {
            self.note(summary);
        }
    }

    /// Writes the index anew. Failing is no error: there is none then until the next start.
    pub(super) fn rewrite(&mut self, marker: &str, summaries: &[Summary]) {
        self.file = self.written(marker, summaries).ok();
        self.lines = if self.file.is_some() { summaries.iter().map(|s| s.id).collect() } else { HashSet::new() };
        self.torn = false;
        self.named = false;
        if self.file.is_none() {
            self.give_up();
        }
    }

    fn written(&self, marker: &str, summaries: &[Summary]) -> std::io::Result<Stream> {
        let (temp, fd) = Temp::create(self.octo.as_fd(), "index", OFlags::APPEND)?;
        let mut out = BufWriter::with_capacity(1 << 16, Stream(fd));
        serde_json::to_writer(&mut out, &Header { octo_index: VERSION, tasks: marker.to_owned() })?;
        out.write_all(b"\n")?;
        for summary in summaries {
            serde_json::to_writer(&mut out, summary)?;
            out.write_all(b"\n")?;
        }
        let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        // A folder of that name would be in the way; it is nothing of ours.
        temp.put(NAME)?;
        Ok(file)
    }

    /// Appends the line of an ended task.
    pub(super) fn note(&mut self, summary: &Summary) {
        let Some(file) = &mut self.file else { return };
        let mut line = Vec::with_capacity(256);
        if self.torn {
            line.push(b'\n');
        }
        if serde_json::to_writer(&mut line, summary).is_err() {
            return;
        }
        line.push(b'\n');
        self.torn = file.write_all(&line).is_err();
        if !self.torn {
            self.lines.insert(summary.id);
        }
    }

    /// Takes back the lines of these tasks, durably; if that cannot be done, the index is deleted.
    pub(super) fn take_back(&mut self, ids: impl Iterator<Item = TaskId>) {
        let ids: Vec<TaskId> = ids.filter(|id| self.lines.contains(id)).collect();
        if ids.is_empty() {
            return;
        }
        if self.append_gone(&ids).is_err() {
            self.give_up();
        }
        for id in &ids {
            self.lines.remove(id);
        }
    }

    fn append_gone(&mut self, ids: &[TaskId]) -> Result<()> {
        let mut text = String::from(if self.torn { "\n" } else { "" });
        for id in ids {
            text.push_str(&format!("\"{id}\"\n"));
        }
        let file = self.file.as_mut().ok_or(Errno::BADF)?;
        self.torn = true;
        file.write_all(text.as_bytes()).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        self.torn = false;
        disk::retry(|| rustix::fs::fdatasync(&file.0))?;
        if !self.named {
            disk::sync(&self.octo)?;
            self.named = true;
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.file = None;
        self.lines = HashSet::new();
        forget(&self.octo);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Stamp, Status, Task};

    fn ended(id: &str) -> Summary {
        let mut task = Task::new(id.parse().unwrap(), 1, Stamp::from_millis(1));
        task.status = Status::Completed;
        Summary::of(&task)
    }

    #[test]
    fn only_whole_lines_of_ended_tasks_are_believed() {
        let good = serde_json::to_vec(&ended("ab12cd34")).unwrap();
        assert_eq!(Line::parse(&good), Some(Line::Ended(ended("ab12cd34"))));
        assert_eq!(Line::parse(b"\"ab12cd34\""), Some(Line::Gone("ab12cd34".parse().unwrap())));
        for cut in 0..good.len() {
            assert_eq!(Line::parse(&good[..cut]), None, "{cut}");
        }
        let running = String::from_utf8(good).unwrap().replace("completed", "running");
        assert_eq!(Line::parse(running.as_bytes()), None);
    }

    #[test]
    fn long_and_torn_lines_are_passed_over() {
        let text = format!("a\n{}\nb\n\ntorn", "x".repeat(3 * LINE_MAX));
        let mut lines = Lines { reader: BufReader::with_capacity(7, text.as_bytes()), line: Vec::new() };
        let mut seen = Vec::new();
        while let Some(line) = lines.next() {
            seen.push(line.map(|l| String::from_utf8_lossy(l).into_owned()).unwrap_or_else(|Unusable| "?".to_owned()));
        }
        assert_eq!(seen, ["a", "?", "b", "", "?"]);
    }
}
