//! Conversations: what their owner says, kept until the agent has heard it.
//!
//! An agent's journal has one writer, its driver, and words in the midst of a turn would stand between calls and their
//! results. So words go into `tasks/<id>/inbox.jsonl` first, synced before anybody is told that they arrived. The
//! driver takes them into the journal when a turn is over, by their keys, once each; when it has them all, the inbox is
//! emptied.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::blocking;
use super::transcript::Watchers;
use crate::agent::drive::{Lost, Telling};
use crate::agent::journal::Source;
use crate::agent::model::ModelName;
use crate::agent::step::State;
use crate::run::dir::sync_dir;

/// The file, in the task's folder.
pub(super) const FILE: &str = "inbox.jsonl";

/// What somebody who listens may lag behind, in pieces of text.
const HEARD: usize = 4096;

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    key: String,
    by: String,
    text: String,
    /// The model that is to answer from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<ModelName>,
}

/// One conversation, as both sides have it.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    watchers: Watchers,
    /// `None`: the file was not read yet.
    words: Mutex<Option<Vec<Word>>>,
}

impl Inbox {
    /// The inbox in a task's folder. There is one of it in a daemon.
    pub(super) fn new(folder: &Path) -> Inbox {
        let (watchers, _) = broadcast::channel(HEARD);
        Inbox { shared: Arc::new(Shared { folder: folder.to_owned(), watchers, words: Mutex::new(None) }) }
    }

    /// Whom to tell what the agent says.
    pub(super) fn watchers(&self) -> &Watchers {
        &self.shared.watchers
    }

    /// Keeps what was said; when this returns, it is durable. The same key again is the same word.
    pub(super) fn put(&self, key: &str, by: &str, text: &str, model: Option<ModelName>) -> io::Result<()> {
        let mut words = self.shared.lock()?;
        let words = words.get_or_insert_default();
        if words.iter().any(|word| word.key == key) {
            return Ok(());
        }
        let word = Word { key: key.to_owned(), by: by.to_owned(), text: text.to_owned(), model };
        let mut line = serde_json::to_vec(&word)?;
        line.push(b'\n');
        let path = self.shared.folder.join(FILE);
        let is_new = !path.exists();
        let mut file = open(&path)?;
        // What a crash cut off is no word; the next one begins a line of its own.
        let size = file.metadata()?.len();
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            let _ = file.set_len(size);
            return Err(error);
        }
        if is_new {
            sync_dir(&self.shared.folder)?;
        }
        words.push(word);
        Ok(())
    }

    /// What the agent has not heard yet, in order. When it has heard all, the inbox is emptied.
    pub(super) fn words(&self, state: &State) -> Result<Vec<Telling>, Lost> {
        blocking(|| self.unheard(state)).map_err(|error| Lost(format!("what was said cannot be read: {error}")))
    }

    /// The model that the newest of the words asks for.
    pub(super) fn model(&self) -> Option<ModelName> {
        let words = blocking(|| self.shared.lock()).ok()?;
        words.iter().flatten().rev().find_map(|word| word.model.clone())
    }

    fn unheard(&self, state: &State) -> io::Result<Vec<Telling>> {
        let mut words = self.shared.lock()?;
        let words = words.get_or_insert_default();
        if !words.is_empty() && words.iter().all(|word| state.heard(&word.key)) {
            open(&self.shared.folder.join(FILE))?.set_len(0)?;
            words.clear();
        }
        let fresh = words.iter().filter(|word| !state.heard(&word.key));
        Ok(fresh
            .map(|word| Telling {
                key: word.key.clone(),
                from: Source::Owner { by: word.by.clone() },
                text: word.text.clone(),
            })
            .collect())
    }
}

impl Shared {
    fn lock(&self) -> io::Result<MutexGuard<'_, Option<Vec<Word>>>> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.is_none() {
            *words = Some(read(&self.folder.join(FILE))?);
        }
        Ok(words)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Reads the whole words; what a crash cut off is cut away.
fn read(path: &Path) -> io::Result<Vec<Word>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(whole as u64)?;
        file.sync_data()?;
    }
    let lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    // A line that makes no sense was never acknowledged: its sync failed.
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(folder: &Path) -> Vec<String> {
        read(&folder.join(FILE)).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_kept_once_each_and_a_torn_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(dir.path());
        inbox.put("a", "repl", "one", None).unwrap();
        inbox.put("b", "repl", "two\nlines", None).unwrap();
        inbox.put("a", "repl", "one", None).unwrap();
        assert_eq!(texts(dir.path()), ["one", "two\nlines"]);
        OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap().write_all(b"{\"key\":\"c\"").unwrap();
        let inbox = Inbox::new(dir.path());
        inbox.put("d", "repl", "three", None).unwrap();
        inbox.put("b", "repl", "two again", None).unwrap();
        assert_eq!(texts(dir.path()), ["one", "two\nlines", "three"]);
    }
}
