//! Going through folders: in order, without following links, honouring `.gitignore`, within limits.
//!
//! Rules of folders above the task's are not read, as nothing there is.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use globset::{GlobBuilder, GlobMatcher};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::FileType;

use super::folder::{Folder, Place, words};
use super::guard::{Watch, fold};
use super::write::TEMPORARY;
use super::{Limits, ToolError};

/// How deep folders are gone into.
const DEPTH_MAX: usize = 100;

/// The longest `.gitignore` that is read, in bytes.
const IGNORE_MAX: u64 = 1 << 20;

/// Never gone into: what is in them is git's, or Octo's own.
const PASSED_BY: &[&str] = &[".git", ".octo"];

/// Something that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The path from the task's folder.
    pub(super) path: PathBuf,
    /// What it is; a link is a link.
    pub(super) kind: FileType,
}

/// Why not everything was looked at; nothing: everything was.
#[derive(Debug, Default)]
pub(super) struct Left {
    stopped: Option<String>,
    unread: usize,
}

impl Left {
    /// Says that it was stopped, and why.
    pub(super) fn stop(&mut self, why: impl Into<String>) {
        self.stopped.get_or_insert(why.into());
    }

    /// In words, each a line in brackets; nothing to say: empty.
    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        if let Some(why) = &self.stopped {
            let _ = writeln!(text, "[Stopped {why}: there may be more. Ask for a folder further down, or less.]");
        }
        if self.unread > 0 {
            let _ = writeln!(text, "[{} folders could not be looked into.]", self.unread);
        }
        text
    }
}

/// Goes through a folder, and those below it if so wished. Files come before what is in folders beside them; all in
/// the order of their names.
pub(super) fn walk(
    folder: &Folder,
    watch: &Watch,
    start: &Place,
    recursive: bool,
    limits: Limits,
    mut visit: impl FnMut(&Found) -> ControlFlow<String>,
) -> Result<Left, ToolError> {
    let until = Instant::now() + limits.within;
    let mut entries_left = limits.entries;
    let mut left = Left::default();
    let top: PathBuf = start.names.iter().collect();
    let mut rules = Rules::read(folder, watch, None, Path::new(""));
    for above in prefixes(&start.names) {
        rules = Rules::read(folder, watch, Some(rules), &above);
    }
    let mut open = vec![(top.clone(), rules, 0)];
    while let Some((path, rules, depth)) = open.pop() {
        let (entries, all) = match folder.entries(&path, entries_left) {
            Ok(entries) => entries,
            Err(e) if path == top => return Err(start.error(words(e))),
            Err(_) => {
                left.unread += 1;
                continue;
            }
        };
        entries_left -= entries.len();
        let mut below = Vec::new();
        for entry in entries {
            if Instant::now() >= until {
                left.stop(format!("after {} seconds", limits.within.as_secs_f32()));
                return Ok(left);
            }
            let found = Found { path: path.join(&entry.name), kind: entry.kind };
            if is_passed_by(&entry.name) || rules.ignore(&found.path, found.kind.is_dir()) {
                continue;
            }
            if let ControlFlow::Break(why) = visit(&found) {
                left.stop(why);
                return Ok(left);
            }
            if found.kind.is_dir() && recursive && depth < DEPTH_MAX {
                below.push(found.path);
            }
        }
        if !all {
            left.stop(format!("after {} names", limits.entries));
            return Ok(left);
        }
        for path in below.into_iter().rev() {
            let rules = Rules::read(folder, watch, Some(Rc::clone(&rules)), &path);
            open.push((path, rules, depth + 1));
        }
    }
    Ok(left)
}

/// The folders on the way to a folder, that one last.
fn prefixes(names: &[std::ffi::OsString]) -> impl Iterator<Item = PathBuf> + '_ {
    (1..=names.len()).map(|n| names[..n].iter().collect())
}

fn is_passed_by(name: &OsStr) -> bool {
    PASSED_BY.contains(&fold(name).as_str()) || name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// The rules of a folder's `.gitignore`, and those of the folders above it.
#[derive(Debug)]
struct Rules {
    own: Option<Gitignore>,
    above: Option<Rc<Rules>>,
}

impl Rules {
    /// Reads a folder's `.gitignore`; one that cannot be read has no rules.
    fn read(folder: &Folder, watch: &Watch, above: Option<Rc<Rules>>, path: &Path) -> Rc<Rules> {
        let own = text_of_rules(folder, watch, path).and_then(|text| {
            // The rules' paths begin at an imagined root, so that no folder's name is taken for a file's.
            let mut builder = GitignoreBuilder::new(Path::new("/").join(path));
            for line in text.lines() {
                // A line that is no rule is no rule; the others count.
                let _ = builder.add_line(None, line);
            }
            builder.build().ok()
        });
        Rc::new(Rules { own, above })
    }

    /// Tells whether a path is ignored: the nearest rules that name it decide.
    fn ignore(&self, path: &Path, is_folder: bool) -> bool {
        let rooted = Path::new("/").join(path);
        let mut rules = Some(self);
        while let Some(these) = rules {
            match these.own.as_ref().map_or(Match::None, |own| own.matched(&rooted, is_folder)) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => rules = these.above.as_deref(),
            }
        }
        false
    }
}

fn text_of_rules(folder: &Folder, watch: &Watch, path: &Path) -> Option<String> {
    let place = folder.find(path.join(".gitignore").to_str()?, watch).ok()?;
    let file = folder.open_file(&place, watch).ok()?;
    let mut bytes = Vec::new();
    file.take(IGNORE_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Which files a glob means: one without a slash means names, one with a slash means paths from `top`.
#[derive(Debug)]
pub(super) struct Glob {
    matcher: GlobMatcher,
    by_path: bool,
    top: PathBuf,
}

impl Glob {
    /// Reads a glob.
    pub(super) fn new(glob: &str, start: &Place) -> Result<Glob, ToolError> {
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        let matcher = GlobBuilder::new(glob).literal_separator(true).build().map_err(|e| {
            ToolError::new(format!(
                "`{glob}` is no glob: {}. `*` stands for any part of a name, `**` for folders",
                e.kind()
            ))
        })?;
        let top = start.names.iter().collect();
        Ok(Glob { matcher: matcher.compile_matcher(), by_path: glob.contains('/'), top })
    }

    /// Tells whether it means paths, and so folders further down.
    pub(super) fn is_of_paths(&self) -> bool {
        self.by_path
    }

    pub(super) fn matches(&self, path: &Path) -> bool {
        let part = if self.by_path { path.strip_prefix(&self.top).ok() } else { path.file_name().map(Path::new) };
        part.is_some_and(|part| self.matcher.is_match(part))
    }
}
