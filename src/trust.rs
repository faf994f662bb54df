//! What came with a clone is shown, not used, until its owner says `octo trust`.
//!
//! A `.octo/` or a settings file decides which commands run, and a repository can ship both. So each
//! installation has a random id, in the user's data folder where no repository reaches: records carry it
//! as their mark, and `.octo/workspace.json`, which keeps what was trusted, is believed only under it.
//! A settings file that git tracks, or that another user owns, is used only with exactly the content
//! that was trusted; a record without the mark likewise.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::command::{Refused, RefusedCode};
use crate::config::{DOTENV, OCTO_TOML, read_settings_file, team_of_toml};
use crate::task::{Stamp, TaskId};
use crate::workspace::Workspace;

mod git;
#[cfg(test)]
mod tests;

/// The file of an installation's id, in the user's data folder.
const INSTALLATION: &str = "installation";

/// What `workspace.json` may be long: 100,000 trusted records fit.
const SIZE_MAX: u64 = 16 << 20;

/// A longer record is no record (the store refuses it as well).
const RECORD_MAX: u64 = 4 << 20;

/// The id of this installation: 32 random hex characters, made once in the user's data folder.
///
/// # Errors
/// When the folder or the file cannot be made or read. Without an id nothing that needs trust is used.
pub fn installation(data_dir: &Path) -> io::Result<String> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let path = data_dir.join(INSTALLATION);
    if let Some(id) = read_id(&path)? {
        return Ok(id);
    }
    let mut temp = tempfile::Builder::new().prefix(".installation.").suffix(".tmp").tempfile_in(data_dir)?;
    writeln!(temp, "{}", uuid::Uuid::new_v4().simple())?;
    temp.as_file().sync_all()?;
    match temp.persist_noclobber(&path) {
        Ok(_) => {}
        // Another start was faster: its id counts for both.
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e.error),
    }
    File::open(data_dir)?.sync_all()?;
    read_id(&path)?.ok_or_else(|| io::Error::other(format!("{} holds no id; remove it", path.display())))
}

/// The mark of records in one workspace: this installation's id bound to the very folder `.octo`.
///
/// A clone or copy of the workspace is another folder, so its records are foreign there even to the same
/// user, and no run of the original is started a second time. A workspace that is moved keeps its mark (its
/// inode moves along); one that is restored from a backup asks for `octo trust`. And since the mark stands
/// in every record, it must be of no use anywhere else.
///
/// # Errors
/// When `.octo` cannot be looked at.
pub fn bound(installation: &str, ws: &Workspace) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = fs::symlink_metadata(&ws.octo)?.ino();
    let digest = digest(format!("{installation}/{inode}").as_bytes());
    Ok(digest.get(..32).unwrap_or(&digest).to_owned())
}

/// `None` when there is no file. One without a proper id (a power cut in its first second) is moved aside.
fn read_id(path: &Path) -> io::Result<Option<String>> {
    let Some((bytes, _)) = read_settings_file(path)? else { return Ok(None) };
    let id = String::from_utf8_lossy(&bytes).trim().to_owned();
    if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Some(id));
    }
    fs::rename(path, path.with_extension("bad"))?;
    Ok(None)
}

/// `.octo/workspace.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct WorkspaceFile {
    mark: String,
    created_at: Stamp,
    trusted: Trusted,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// What was trusted: names with the SHA-256 of the content that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Trusted {
    files: BTreeMap<String, String>,
    records: BTreeMap<String, String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// What this workspace may use of what lies in it.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// This installation's mark: what new records carry.
    pub mark: String,
    /// The mark of the installation that made this `.octo/`, when it was another one.
    pub foreign: Option<String>,
    /// What was wrong with `workspace.json`, in words; empty: nothing.
    pub problem: String,
    trusted: Trusted,
}

impl Trust {
    /// Reads what was trusted. It never fails: what cannot be read or was written under another mark
    /// trusts nothing, and [`Trust::problem`] or [`Trust::foreign`] says so.
    #[must_use]
    pub fn load(ws: &Workspace, installation: &str) -> Trust {
        let mut trust = Trust { mark: installation.to_owned(), ..Trust::default() };
        match read_workspace_file(ws) {
            Ok(Some(file)) if !installation.is_empty() && file.mark == installation => trust.trusted = file.trusted,
            Ok(Some(file)) => trust.foreign = Some(file.mark),
            Ok(None) => {}
            Err(e) => trust.problem = format!("{} cannot be read: {e}", path_of(ws).display()),
        }
        trust
    }

    /// Writes `workspace.json` with this installation's mark if there is none yet. It trusts nothing.
    ///
    /// # Errors
    /// When the file cannot be written. The daemon may start all the same.
    pub fn establish(&self, ws: &Workspace, now: &Stamp) -> io::Result<()> {
        match fs::symlink_metadata(path_of(ws)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file =
                    WorkspaceFile { mark: self.mark.clone(), created_at: now.clone(), ..WorkspaceFile::default() };
                write_workspace_file(ws, &file)
            }
            _ => Ok(()),
        }
    }

    /// Tells whether a settings file may be used; `owner` is the user id that it belongs to.
    ///
    /// # Errors
    /// Why not, as the end of the sentence "it is not used: ...".
    pub fn permits(&self, ws: &Workspace, path: &Path, bytes: &[u8], owner: u32) -> Result<(), String> {
        if self.trusted.files.get(&name_of(ws, path)) == Some(&digest(bytes)) {
            return Ok(());
        }
        let me = rustix::process::geteuid().as_raw();
        if owner != me && owner != 0 {
            return Err(format!("it belongs to user {owner}"));
        }
        match git::tracks(path) {
            git::Tracked::No => Ok(()),
            git::Tracked::Yes => Err("git tracks it, so it may have come from somebody else".to_owned()),
            git::Tracked::Unknown(why) => Err(format!("git tracks it, as far as can be told ({why})")),
        }
    }

    /// Tells whether a record may be used (run, retried, signalled), not just shown: it carries this
    /// installation's mark, or it was trusted with exactly these bytes.
    #[must_use]
    pub fn accepts_record(&self, id: TaskId, mark: &str, bytes: &[u8]) -> bool {
        (!self.mark.is_empty() && mark == self.mark)
            || self.trusted.records.get(id.as_str()).is_some_and(|sha| *sha == digest(bytes))
    }
}

impl Trust {
    /// The tasks whose records were trusted and are still exactly what was trusted.
    #[must_use]
    pub fn records(&self, ws: &Workspace) -> HashSet<TaskId> {
        let unchanged = |(id, sha): (&String, &String)| {
            let id: TaskId = id.parse().ok()?;
            let bytes = read_bounded(&ws.octo.join("tasks").join(format!("{id}.json")), RECORD_MAX).ok()?;
            (digest(&bytes) == *sha).then_some(id)
        };
        self.trusted.records.iter().filter_map(unchanged).collect()
    }
}

/// Something in the workspace that waits for `octo trust`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its name: a file relative to the workspace, or a task id.
    pub name: String,
    /// The SHA-256 of its content, in hex.
    pub sha256: String,
    /// Why it is not used by itself.
    pub why: String,
    /// Whether it is a record (else a settings file).
    pub record: bool,
}

/// Lists what is not used until it is trusted. `team` is a team file named outside of `octo.toml`.
#[must_use]
pub fn pending(ws: &Workspace, trust: &Trust, team: Option<&Path>) -> Vec<Pending> {
    let mut paths: Vec<PathBuf> = [DOTENV, OCTO_TOML].map(|n| ws.root.join(n)).to_vec();
    let toml = read_settings_file(&ws.root.join(OCTO_TOML)).ok().flatten();
    paths.extend(toml.and_then(|(bytes, _)| team_of_toml(&bytes)).map(|t| ws.root.join(t)));
    paths.extend(team.map(|t| ws.root.join(t)));
    paths.dedup();
    let mut found = Vec::new();
    for path in paths {
        let Ok(Some((bytes, owner))) = read_settings_file(&path) else { continue };
        if let Err(why) = trust.permits(ws, &path, &bytes, owner) {
            found.push(Pending { name: name_of(ws, &path), sha256: digest(&bytes), why, record: false });
        }
    }
    found.extend(foreign_records(ws, trust));
    found
}

/// Trusts everything in the workspace as it is now, and says in words what that was; empty: nothing waited.
///
/// # Errors
/// When `workspace.json` cannot be written.
pub fn trust_all(ws: &Workspace, installation: &str, team: Option<&Path>, now: &Stamp) -> Result<Vec<String>, Refused> {
    let trust = Trust::load(ws, installation);
    let waiting = pending(ws, &trust, team);
    if waiting.is_empty() && trust.foreign.is_none() && trust.problem.is_empty() {
        return Ok(Vec::new());
    }
    let old = read_workspace_file(ws).ok().flatten().filter(|f| f.mark == installation);
    let mut file = old.unwrap_or_else(|| WorkspaceFile { created_at: now.clone(), ..WorkspaceFile::default() });
    file.mark = installation.to_owned();
    let mut words = Vec::new();
    for item in waiting {
        let what = if item.record { "the task record" } else { "the settings file" };
        words.push(format!("{what} {} as it is now (sha256 {}...): {}", item.name, &item.sha256[..12], item.why));
        let list = if item.record { &mut file.trusted.records } else { &mut file.trusted.files };
        list.insert(item.name, item.sha256);
    }
    write_workspace_file(ws, &file).map_err(|e| {
        Refused::new(RefusedCode::Storage, format!("{} cannot be written: {e}", path_of(ws).display()))
            .hint("nothing was trusted; see `octo doctor`")
    })?;
    if trust.foreign.is_some() {
        words.push("the workspace itself, which another installation made, is this installation's now".to_owned());
    }
    Ok(words)
}

fn foreign_records(ws: &Workspace, trust: &Trust) -> Vec<Pending> {
    let Ok(entries) = fs::read_dir(ws.octo.join("tasks")) else { return Vec::new() };
    let mut found: Vec<Pending> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let id: TaskId = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            let bytes = read_bounded(&entry.path(), RECORD_MAX).ok()?;
            let mark = mark_of(&bytes)?;
            if trust.accepts_record(id, &mark, &bytes) {
                return None;
            }
            let why = if mark.is_empty() { "it carries no mark" } else { "another installation wrote it" };
            Some(Pending { name: id.to_string(), sha256: digest(&bytes), why: why.to_owned(), record: true })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The mark of a record, empty without one; `None` when it is no record.
fn mark_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Marked {
        #[serde(default)]
        mark: String,
    }
    serde_json::from_slice::<Marked>(bytes).ok().map(|m| m.mark)
}

fn path_of(ws: &Workspace) -> PathBuf {
    ws.octo.join("workspace.json")
}

fn name_of(ws: &Workspace, path: &Path) -> String {
    path.strip_prefix(&ws.root).unwrap_or(path).to_string_lossy().into_owned()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn read_workspace_file(ws: &Workspace) -> io::Result<Option<WorkspaceFile>> {
    match read_bounded(&path_of(ws), SIZE_MAX) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads a file of `.octo/`: no symbolic links, no pipes, nothing endless.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > most {
        return Err(io::Error::other("it is no regular file, or too long"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_workspace_file(ws: &Workspace, file: &WorkspaceFile) -> io::Result<()> {
    let mut temp = tempfile::Builder::new().prefix(".workspace.").suffix(".tmp").tempfile_in(&ws.octo)?;
    serde_json::to_writer_pretty(&mut temp, file)?;
    temp.write_all(b"\n")?;
    temp.as_file().sync_all()?;
    temp.persist(path_of(ws)).map_err(|e| e.error)?;
    File::open(&ws.octo)?.sync_all()
}
