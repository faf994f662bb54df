//! The journal of an agent: one line for each thing that happened, synced before the next one is done.
//!
//! The conversation, what was used, what was asked and what is under way are all its fold ([`super::step::State`]);
//! nothing else is kept. **Lines are stored for years**: the rules of change are those of [`super::model::types`].
//!
//! ```text
//! began ─ asking ─ replied ─ started ─ returned ─ asking ─ replied ─ asked ── answered ─ started ─ returned ... ended
//!         └─ a request is on its way   └─ a tool is about to be run  └─ its owner is
//! ```
//!
//! A line that a crash cut off is the last one, and stands for something that was not done yet: it is cut away. A line
//! in the middle that cannot be read is damage, and the agent does not go on from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::model::prices::Usd;
use super::model::{Effort, Format, ModelName, Reply, Tokens, ToolSpec};
use super::tools::policy::Policy;
use crate::task::{Stamp, TaskId};

/// The file's name, in the task's folder.
pub const FILE: &str = "journal.jsonl";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written.
    pub at: Stamp,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What happens to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// The first line: what the agent is.
    Began(Box<Setup>),
    /// Somebody told it something.
    Told {
        /// Names this telling; the same key again is the same telling.
        key: String,
        /// Who.
        from: Source,
        /// What.
        text: String,
    },
    /// A model is about to be asked.
    Asking {
        /// [`super::model::Request::digest`].
        digest: String,
        /// Who.
        model: ModelName,
        /// How many tokens the prompt may have, as guessed: what the request costs if its reply is lost.
        prompt: u64,
        /// The most tokens that the reply may have.
        max_output: u32,
    },
    /// The model replied.
    Replied {
        /// What.
        reply: Box<Reply>,
        /// What it cost; `None`: nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Usd>,
    },
    /// The model could not be asked, or gave no reply.
    NoReply {
        /// Why, for people.
        why: String,
        /// What it used nevertheless.
        #[serde(default)]
        usage: Tokens,
    },
    /// A tool that has an effect, or that takes time, is about to be run.
    Started {
        /// The call.
        call: String,
    },
    /// A tool gave its result, or its call was refused.
    Returned {
        /// The call.
        call: String,
        /// What the model reads.
        text: String,
        /// It failed, or was not allowed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// The owner is about to be asked about a call.
    Asked {
        /// The call.
        call: String,
        /// The key of the question.
        key: String,
    },
    /// The owner answered.
    Answered {
        /// The call.
        call: String,
        /// What; `None`: the question closed without an answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Who; empty when nobody did.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
    },
    /// The conversation became too long and was made shorter.
    Compacted(Compaction),
    /// The owner chose another model.
    Model {
        /// Which.
        model: ModelName,
    },
    /// A later run goes on from here.
    WentOn {
        /// The run.
        run: u32,
    },
    /// The agent was stopped: it does not go on.
    Stopped,
    /// The agent is done.
    Ended {
        /// Well or not.
        ok: bool,
        /// Its result, or why it failed.
        text: String,
    },
}

/// Who says something to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "who", rename_all = "snake_case")]
pub enum Source {
    /// Whoever gave the task, or talks to it.
    Owner {
        /// The surface and user: `repl`, `telegram:4711`.
        by: String,
    },
    /// A task that it started has ended. The text is what the task said, which nobody checked.
    Task {
        /// Which.
        id: TaskId,
        /// How it ended.
        status: crate::task::Status,
    },
    /// Octo itself.
    Octo,
}

/// How a conversation was made shorter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Compaction {
    /// The results of these calls were left out.
    Results {
        /// The calls.
        calls: Vec<String>,
    },
    /// The messages between the first and `upto` became a summary.
    Summary {
        /// The index of the first message that stays.
        upto: usize,
        /// What the others said.
        text: String,
        /// What the summary used.
        #[serde(default)]
        usage: Tokens,
        /// What it cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Usd>,
    },
}

/// What an agent is: fixed when it begins, so that it goes on as it was, whatever the files say by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The format of the journal.
    pub v: Format,
    /// The run that began it.
    pub run: u32,
    /// Its name in its team; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// The team's file; `None`: there is no team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<PathBuf>,
    /// Whom it asks.
    pub model: ModelName,
    /// Whom it asks when that one does not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<ModelName>,
    /// Its instructions.
    pub system: String,
    /// Octo's own tools that it has, by name.
    pub tools: Vec<String>,
    /// The agents that it may start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sub_agents: Vec<String>,
    /// The tools of MCP servers that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp: Vec<ToolSpec>,
    /// What needs its owner's approval.
    pub policy: Policy,
    /// The folder that it works in.
    pub folder: String,
    /// How many agents stand above it, itself included: from 1.
    pub depth: usize,
    /// The most tokens of one reply.
    pub max_output: u32,
    /// How freely it chooses its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How much it thinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// It talks with its owner and has no end: the supervisor agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line in its middle cannot be read.
    #[error("{path}: line {line} cannot be read: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// Why.
        why: String,
    },
}

/// A journal that is open for writing. Whoever has it is the only one.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal in a task's folder, or makes it, and reads what is in it.
    ///
    /// # Errors
    /// When it cannot be read or is damaged; it is as it was then.
    pub fn open(folder: &Path) -> Result<(Journal, Vec<Line>), JournalError> {
        let path = folder.join(FILE);
        let io = |error| JournalError::Io { path: path.clone(), error };
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).map_err(io)?;
        if is_new {
            File::open(folder).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let (lines, whole) = parse(&bytes, &path)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).and_then(|()| file.sync_data()).map_err(io)?;
        }
        Ok((Journal { file, path }, lines))
    }

    /// Writes a line and syncs it: when this returns, it happened.
    ///
    /// # Errors
    /// When it cannot be written. It may be there nevertheless, so that the journal must be opened anew.
    pub fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let io = |error| JournalError::Io { path: self.path.clone(), error };
        let mut bytes = serde_json::to_vec(line).map_err(|e| io(e.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(io)
    }
}

/// Reads the journal in a task's folder, without a change to it; `None`: there is none.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read(folder: &Path) -> Result<Option<Vec<Line>>, JournalError> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => parse(&bytes, &path).map(|(lines, _)| Some(lines)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::Io { path, error }),
    }
}

/// The journals of all runs, oldest first; the last one is the present one.
///
/// # Errors
/// When one of them cannot be read or is damaged.
pub fn read_all(folder: &Path) -> Result<Vec<Vec<Line>>, JournalError> {
    let mut earlier: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|n| n.strip_prefix("journal.run-")?.strip_suffix(".jsonl")?.parse().ok());
        earlier.extend(run.map(|run| (run, entry.path())));
    }
    earlier.sort();
    let mut all = Vec::new();
    for (_, path) in earlier {
        let bytes = std::fs::read(&path).map_err(|error| JournalError::Io { path: path.clone(), error })?;
        all.push(parse(&bytes, &path)?.0);
    }
    all.extend(read(folder)?);
    Ok(all)
}

/// Puts the journal of a run aside, so that the next run begins anew.
///
/// # Errors
/// When it cannot be renamed.
pub fn put_aside(folder: &Path, run: u32) -> Result<(), JournalError> {
    let (from, to) = (folder.join(FILE), folder.join(format!("journal.run-{run}.jsonl")));
    let renamed = std::fs::rename(&from, &to).and_then(|()| File::open(folder)?.sync_all());
    renamed.map_err(|error| JournalError::Io { path: from, error })
}

/// The lines, and how many bytes of whole ones there are.
fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Line>, usize), JournalError> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut lines = Vec::new();
    let mut at = 0;
    for (index, text) in bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate() {
        match serde_json::from_slice(text) {
            Ok(line) => lines.push(line),
            // Blocks of a line can reach the disk in any order before its sync: only the last can be torn so.
            Err(_) if at + text.len() == whole && whole == bytes.len() => return Ok((lines, at)),
            Err(error) => {
                let why = error.to_string();
                return Err(JournalError::Damaged { path: path.to_owned(), line: index + 1, why });
            }
        }
        at += text.len();
    }
    Ok((lines, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { at: Stamp::from_millis(7), entry: Entry::Ended { ok: true, text: text.to_owned() } }
    }

    #[test]
    fn what_was_written_is_read_and_a_torn_end_is_cut_away() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, lines) = Journal::open(dir.path()).unwrap();
        assert!(lines.is_empty());
        journal.append(&line("a")).unwrap();
        journal.append(&line("b")).unwrap();
        drop(journal);
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(dir.path()).unwrap().unwrap(), [line("a")], "cut at {cut}");
            let (mut journal, lines) = Journal::open(dir.path()).unwrap();
            assert_eq!(lines, [line("a")]);
            journal.append(&line("c")).unwrap();
            assert_eq!(read(dir.path()).unwrap().unwrap(), [line("a"), line("c")]);
        }
        // Its blocks may have reached the disk in another order: the length is there, and the end is not.
        let mut holes = whole.clone();
        holes[first + 3..whole.len() - 1].fill(0);
        std::fs::write(&path, &holes).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().1, [line("a")]);
    }

    #[test]
    fn damage_in_the_middle_is_an_error_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let text = [line("a"), line("b"), line("c")].map(|l| serde_json::to_string(&l).unwrap() + "\n").concat();
        let damaged = text.replacen("\"b\"", "\"b", 1);
        std::fs::write(&path, &damaged).unwrap();
        let error = Journal::open(dir.path()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    }

    #[test]
    fn journals_of_earlier_runs_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for (run, text) in [(1, "one"), (2, "two"), (10, "ten")] {
            Journal::open(dir.path()).unwrap().0.append(&line(text)).unwrap();
            put_aside(dir.path(), run).unwrap();
        }
        assert_eq!(read(dir.path()).unwrap(), None);
        Journal::open(dir.path()).unwrap().0.append(&line("now")).unwrap();
        let all = read_all(dir.path()).unwrap();
        assert_eq!(all, [[line("one")], [line("two")], [line("ten")], [line("now")]]);
    }
}
