//! `search_files`: lines that match a regular expression.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use grep_matcher::LineTerminator;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use rustix::fs::FileType;

use super::call::SearchFiles;
use super::folder::Folder;
use super::walk::{Glob, Left, walk};
use super::{Limits, RESULT_MAX, ToolError};

/// How much of one line is shown, in bytes.
const LINE_MAX: usize = 400;

/// How far into one file is searched, in bytes.
const REACH: u64 = 64 << 20;

/// The most memory that one search takes for a file's lines, in bytes.
const HEAP: usize = 4 << 20;

/// The largest compiled expression, in bytes.
const EXPRESSION_MAX: usize = 4 << 20;

/// Room for the remarks below the lines.
const REMARKS: usize = 1024;

/// Searches files.
pub(super) fn search_files(folder: &Folder, args: &SearchFiles, limits: Limits) -> Result<String, ToolError> {
    let watch = folder.watch();
    let place = folder.find(args.path.as_deref().unwrap_or("."), &watch)?;
    let matcher = expression(&args.pattern)?;
    let glob = args.glob.as_deref().map(|glob| Glob::new(glob, &place)).transpose()?;
    let context = usize::try_from(args.context.unwrap_or_default()).unwrap_or_default();
    let mut searcher = SearcherBuilder::new()
        .line_terminator(LineTerminator::crlf())
        .before_context(context)
        .after_context(context)
        .heap_limit(Some(HEAP))
        .binary_detection(BinaryDetection::quit(0))
        .build();
    let mut lines = Lines::new(context > 0, limits);
    let mut left = Left::default();
    if place.kind().is_some_and(FileType::is_dir) {
        left = walk(folder, &watch, &place, true, limits, |found| {
            if !found.kind.is_file() || glob.as_ref().is_some_and(|glob| !glob.matches(&found.path)) {
                return ControlFlow::Continue(());
            }
            let at = found.path.to_str().and_then(|path| folder.find(path, &watch).ok());
            match at.and_then(|at| folder.open_file(&at, &watch).ok()) {
                Some(file) => lines.search(&mut searcher, &matcher, file, &found.path),
                None => lines.unread += 1,
            }
            lines.stopped.clone().map_or(ControlFlow::Continue(()), ControlFlow::Break)
        })?;
    } else {
        lines.search(&mut searcher, &matcher, folder.open_file(&place, &watch)?, &place.path());
        lines.stopped.iter().for_each(|why| left.stop(why.as_str()));
    }
    Ok(lines.told(&left))
}

fn expression(pattern: &str) -> Result<RegexMatcher, ToolError> {
    let mut builder = RegexMatcherBuilder::new();
    builder.crlf(true).size_limit(EXPRESSION_MAX).dfa_size_limit(EXPRESSION_MAX);
    builder.build(pattern).map_err(|e| {
        ToolError::new(format!(
            "`pattern` is not taken: {e}\nIt is a regular expression over single lines (Rust syntax, no look-around, no \
             back-references); put \\ before characters that are meant as they are, such as ( ) [ ] {{ }} . * + ? |"
        ))
    })
}

/// The lines that were found, and how the search went.
#[derive(Debug)]
struct Lines {
    text: String,
    separate: bool,
    until: Instant,
    within: Duration,
    most: usize,
    matches: usize,
    files: usize,
    binary: usize,
    unread: usize,
    partly: usize,
    stopped: Option<String>,
}

impl Lines {
    fn new(separate: bool, limits: Limits) -> Lines {
        Lines {
            text: String::new(),
            separate,
            until: Instant::now() + limits.within,
            within: limits.within,
            most: limits.shown,
            matches: 0,
            files: 0,
            binary: 0,
            unread: 0,
            partly: 0,
            stopped: None,
        }
    }

    /// Searches one file.
    fn search(&mut self, searcher: &mut Searcher, matcher: &RegexMatcher, file: File, path: &Path) {
        let before = self.matches;
        let mut reader = Bounded { file: file.take(REACH), until: self.until, late: false };
        let name = path.display().to_string().escape_debug().to_string();
        let searched = searcher.search_reader(matcher, &mut reader, InFile { lines: self, name: &name });
        if reader.late {
            self.stopped.get_or_insert(format!("after {} seconds", self.within.as_secs_f32()));
        } else if searched.is_err() {
            self.unread += 1;
        } else if reader.file.limit() == 0 {
            self.partly += 1;
        }
        if self.matches > before {
            self.files += 1;
        }
    }

    /// Adds a line; `mark` is `:` for one that matches and `-` for one around it. `false`: there is room for no more.
    fn add(&mut self, name: &str, number: Option<u64>, mark: char, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\r', '\n']);
        let shown = &line[..line.floor_char_boundary(LINE_MAX)];
        let dots = if shown.len() < line.len() { " [...]" } else { "" };
        let number = number.unwrap_or_default();
        if self.text.len() + name.len() + shown.len() > RESULT_MAX - REMARKS {
            self.stopped.get_or_insert(format!("after {} matching lines", self.matches));
            return false;
        }
        let _ = writeln!(self.text, "{name}{mark}{number}{mark} {shown}{dots}");
        true
    }

    fn told(mut self, left: &Left) -> String {
        let summary = match self.matches {
            0 => "[No line matches.]".to_owned(),
            n => format!("[{n} matching lines in {} files.]", self.files),
        };
        let text = &mut self.text;
        let _ = writeln!(text, "{summary}");
        for (count, what) in [
            (self.binary, "files were searched only up to where they turn out to be binary"),
            (self.partly, "files are so large that only their beginning was searched"),
            (self.unread, "files could not be read, or are not for agents, and were not searched"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "[{count} {what}.]");
            }
        }
        self.text + &left.told()
    }
}

/// What the searcher tells of one file.
struct InFile<'a> {
    lines: &'a mut Lines,
    name: &'a str,
}

impl Sink for InFile<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        if self.lines.matches >= self.lines.most {
            self.lines.stopped.get_or_insert(format!("after {} matching lines", self.lines.most));
            return Ok(false);
        }
        let added = self.lines.add(self.name, found.line_number(), ':', found.bytes());
        self.lines.matches += usize::from(added);
        Ok(added)
    }

    fn context(&mut self, _: &Searcher, around: &SinkContext<'_>) -> io::Result<bool> {
        Ok(self.lines.add(self.name, around.line_number(), '-', around.bytes()))
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if self.lines.separate {
            self.lines.text.push_str("--\n");
        }
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> io::Result<bool> {
        self.lines.binary += 1;
        Ok(true)
    }
}

/// A file that ends when the time is over.
struct Bounded {
    file: io::Take<File>,
    until: Instant,
    late: bool,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.late = Instant::now() >= self.until;
        if self.late { Ok(0) } else { self.file.read(buffer) }
    }
}
