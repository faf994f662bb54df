//! `read_file`: a part of a text file, its lines numbered.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use super::call::ReadFile;
use super::folder::Folder;
use super::{RESULT_MAX, ToolError};

/// How many lines are read when the call does not say.
const LINES: u64 = 2000;

/// How much of one line is shown, in bytes.
const LINE_MAX: usize = 2000;

/// How far into a file is read, in bytes.
const REACH: u64 = 256 << 20;

/// Room for the remarks below the lines.
const REMARKS: usize = 512;

/// Reads a part of a file.
pub(super) fn read_file(folder: &Folder, args: &ReadFile) -> Result<String, ToolError> {
    let watch = folder.watch();
    let place = folder.find(&args.path, &watch)?;
    let file = folder.open_file(&place, &watch)?;
    let size = file.metadata().map(|m| m.len()).unwrap_or_default();
    let (from, count) = (args.offset.unwrap_or(1).max(1), args.limit.unwrap_or(LINES));
    let part = Part::read(file, from, count)
        .map_err(|e| place.error(format_args!("cannot be read: {e}")))?
        .map_err(|why| place.error(format_args!("{why} ({size} bytes). Use another tool for such files")))?;
    if part.shown == 0 && from > 1 {
        let lines = part.seen;
        return Err(place.error(format_args!("has {lines} lines, so there is none at offset {from}")));
    }
    Ok(part.told(from))
}

/// What was read.
#[derive(Debug, Default)]
struct Part {
    text: String,
    /// How many lines are in `text`.
    shown: u64,
    /// How many lines were gone through.
    seen: u64,
    /// There are more lines than these.
    more: bool,
    crlf: bool,
    /// The file's last line was read, and nothing ends it.
    open_end: bool,
    /// The file is too long to be read further.
    too_long: bool,
}

impl Part {
    /// The inner error: why it is no text.
    fn read(file: File, from: u64, count: u64) -> io::Result<Result<Part, &'static str>> {
        let mut reader = BufReader::new(file.take(REACH));
        let mut part = Part::default();
        let mut line = Line::default();
        while line.read(&mut reader)? {
            if part.shown >= count || part.text.len() > RESULT_MAX - LINE_MAX - REMARKS {
                part.more = true;
                return Ok(Ok(part));
            }
            part.seen += 1;
            if line.kept.contains(&0) {
                return Ok(Err("is a binary file, not text"));
            }
            if part.seen < from {
                continue;
            }
            let kept = match std::str::from_utf8(&line.kept) {
                Ok(text) => text,
                // The end of what was kept may lie within a character.
                Err(e) if line.cut > 0 && e.error_len().is_none() => {
                    std::str::from_utf8(&line.kept[..e.valid_up_to()]).unwrap_or_default()
                }
                Err(_) => return Ok(Err("is no UTF-8 text")),
            };
            let text = kept.strip_prefix('\u{feff}').filter(|_| part.seen == 1).unwrap_or(kept);
            let cut = if line.cut > 0 { format!(" [... {} more bytes in this line]", line.cut) } else { String::new() };
            let _ = writeln!(part.text, "{:>6}\t{text}{cut}", part.seen);
            part.shown += 1;
            part.crlf |= line.crlf;
            part.open_end = !line.ended;
        }
        part.too_long = reader.into_inner().limit() == 0;
        Ok(Ok(part))
    }

    fn told(self, from: u64) -> String {
        let mut text = self.text;
        if self.shown == 0 {
            text.push_str("[The file is empty.]\n");
        }
        if self.more {
            let (last, next) = (from + self.shown - 1, from + self.shown);
            let _ = writeln!(text, "[Lines {from} to {last}. There are more: read on with offset {next}.]");
        } else if self.too_long {
            text.push_str("[The file is too long to be read further: search_files finds what is in it.]\n");
        } else if self.open_end {
            text.push_str("[No line end at the end of the file.]\n");
        }
        if self.crlf {
            text.push_str("[Lines end with CR LF; edit_file keeps that.]\n");
        }
        text
    }
}

/// One line: as much of it as is shown.
#[derive(Debug, Default)]
struct Line {
    kept: Vec<u8>,
    /// How many bytes of it were not kept.
    cut: u64,
    ended: bool,
    crlf: bool,
}

impl Line {
    /// Reads the next line without its end; `false`: there is none.
    fn read(&mut self, reader: &mut impl BufRead) -> io::Result<bool> {
        *self = Line { kept: std::mem::take(&mut self.kept), ..Line::default() };
        self.kept.clear();
        let mut any = false;
        let mut last = 0;
        loop {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = buffer.iter().position(|b| *b == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            let room = LINE_MAX.saturating_sub(self.kept.len()).min(piece.len());
            self.kept.extend_from_slice(&piece[..room]);
            self.cut += (piece.len() - room) as u64;
            last = piece.last().copied().unwrap_or(last);
            let used = end.map_or(piece.len(), |at| at + 1);
            reader.consume(used);
            if end.is_some() {
                self.ended = true;
                self.crlf = last == b'\r';
                if self.crlf && self.cut == 0 {
                    self.kept.pop();
                }
                return Ok(true);
            }
        }
    }
}
