//! What agents' file tools leave alone, whatever it is called.
//!
//! A name counts at any depth, as file systems that ignore case or invisible characters see it; and the very files
//! of the workspace count under every name, as their inodes do: through hard links, other mounts, and folders whose
//! file system has names of its own.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The identity of a file: its device and its inode.
pub(super) type Id = (u64, u64);

/// Nobody reads what is below these.
const SECRET_FOLDERS: &[&str] = &[".octo", ".ssh", ".gnupg"];

/// Nobody reads these, nor what would be below them.
const SECRET_FILES: &[&str] =
    &[".netrc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];

/// Files of settings that are there to be read.
const EXAMPLES: &[&str] = &[".env.example", ".env.sample", ".env.template", ".env.dist", ".env.schema"];

/// Agents do not write these, nor what is below them.
const FIXED: &[&str] = &[".git", "git~1", "octo.toml", ".mcp.json", ".claude"];

/// Settings of git, which can hold a token.
const GIT_SETTINGS: &[&str] = &["config", "config.worktree"];

/// The most files of `.octo/` that are compared with a file that has several names.
const COMPARED_MAX: usize = 200_000;

/// What is kept from agents in one workspace.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    workspace: PathBuf,
    team: Option<PathBuf>,
}

impl Guard {
    /// The files of this workspace, and its team file if it has one.
    #[must_use]
    pub fn new(workspace: &Path, team: Option<&Path>) -> Guard {
        Guard { workspace: workspace.to_owned(), team: team.map(Path::to_owned) }
    }

    /// Looks which files that are now, also those of the task's folder.
    pub(super) fn look(&self, folder: &Path) -> Watch {
        let mut watch = Watch { octo: self.workspace.join(".octo"), ..Watch::default() };
        let id = |path: PathBuf| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        for base in [&self.workspace, folder] {
            watch.secret.extend([".octo", ".env"].iter().filter_map(|name| id(base.join(name))));
            watch.fixed.extend(FIXED.iter().filter_map(|name| id(base.join(name))));
        }
        if let Some(team) = &self.team {
            watch.fixed.extend(id(team.clone()));
            let inside = team.strip_prefix(folder).ok();
            watch.team = inside.map(|names| names.iter().map(fold).collect());
        }
        watch
    }
}

/// What is kept from agents, for the time of one call.
#[derive(Debug, Default)]
pub(super) struct Watch {
    secret: HashSet<Id>,
    fixed: HashSet<Id>,
    octo: PathBuf,
    /// The folded names that lead from the task's folder to the team file: it may not be there yet.
    team: Option<Vec<String>>,
    linked: OnceCell<Option<HashSet<Id>>>,
}

impl Watch {
    /// Why a file must not be read: `names` lead to it from the task's folder, `ids` are what they are.
    pub(super) fn forbids_read(&self, names: &[OsString], ids: &[Id]) -> Option<&'static str> {
        let folded: Vec<String> = names.iter().map(|n| fold(n)).collect();
        let has = |list: &[&str]| folded.iter().any(|n| list.contains(&n.as_str()));
        if folded.iter().any(|n| n == ".octo") || ids.iter().any(|id| self.secret.contains(id)) {
            return Some("it is Octo's own, which agents do not read");
        }
        if folded.last().is_some_and(|n| is_env(n)) {
            return Some("it holds secrets, which agents do not read");
        }
        if has(SECRET_FOLDERS) || has(SECRET_FILES) {
            return Some("it holds keys, which agents do not read");
        }
        let in_git = folded.iter().any(|n| matches!(n.as_str(), ".git" | "git~1"));
        if in_git && folded.last().is_some_and(|n| GIT_SETTINGS.contains(&n.as_str())) {
            return Some("it can hold a token, so agents do not read it");
        }
        None
    }

    /// Why a file must not be written or made.
    pub(super) fn forbids_write(&self, names: &[OsString], ids: &[Id]) -> Option<&'static str> {
        if let Some(why) = self.forbids_read(names, ids) {
            return Some(why);
        }
        let folded: Vec<String> = names.iter().map(|n| fold(n)).collect();
        let fixed = folded.iter().any(|n| is_env(n) || FIXED.contains(&n.as_str()));
        if fixed || ids.iter().any(|id| self.fixed.contains(id)) || self.team.as_ref() == Some(&folded) {
            return Some("it decides what runs with the owner's rights, so only the owner changes it");
        }
        None
    }

    /// Tells whether a file that has several names has one below `.octo/`, or that cannot be told.
    pub(super) fn is_linked_from_octo(&self, id: Id) -> bool {
        let linked = self.linked.get_or_init(|| linked_below(&self.octo));
        linked.as_ref().is_none_or(|ids| ids.contains(&id))
    }
}

/// The files below a folder that have several names; `None`: there are too many to tell.
fn linked_below(folder: &Path) -> Option<HashSet<Id>> {
    let (mut found, mut open, mut seen) = (HashSet::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > COMPARED_MAX {
                return None;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.nlink() > 1 {
                found.insert((meta.dev(), meta.ino()));
            }
        }
    }
    Some(found)
}

/// Tells whether a folded name is that of a file of secret settings.
fn is_env(folded: &str) -> bool {
    folded == ".env" || (folded.starts_with(".env.") && !EXAMPLES.contains(&folded))
}

/// A name as the most forgiving file system sees it: without case, invisible characters, spaces and dots at its end,
/// or the name of a stream.
pub(super) fn fold(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let visible: String = name.chars().filter(|c| !is_ignorable(*c)).collect();
    let folded = visible.to_uppercase().to_lowercase();
    let whole = folded.split(':').next().unwrap_or_default();
    whole.trim_end_matches(['.', ' ']).to_owned()
}

/// Unicode's `Default_Ignorable_Code_Point`.
fn is_ignorable(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
        | 0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFF8
        | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}
