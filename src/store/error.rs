//! What can go wrong in the store, in words for people.

use rustix::io::Errno;

/// A write that did not become durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SaveError {
    /// What happened, for people: `no space left on device while saving tasks/ab12cd34.json`.
    pub message: String,
    /// The new file may be there after all (only the sync of its folder failed): it counts as not saved, and
    /// must be saved again before anything else is done about it.
    pub maybe_visible: bool,
}

impl SaveError {
    /// A write that left no trace.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        SaveError { message: message.into(), maybe_visible: false }
    }

    /// A system call that failed while `doing` something.
    pub(super) fn io(errno: Errno, doing: impl std::fmt::Display) -> Self {
        SaveError::new(format!("{} while {doing}", words(errno)))
    }
}

/// A record or environment that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// The file is not what it should be.
    #[error("{why}")]
    Bad {
        /// What is wrong with it.
        why: String,
    },
    /// The file could not be read just now (out of descriptors, a failing disk); nothing is known about it.
    #[error("{why}")]
    Io {
        /// What the system said.
        why: String,
    },
}

impl ReadError {
    pub(super) fn bad(why: impl Into<String>) -> Self {
        ReadError::Bad { why: why.into() }
    }
}

/// A store that cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What happened.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl StoreError {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        StoreError { message: message.into(), hint: hint.into() }
    }

    pub(super) fn io(errno: Errno, doing: impl std::fmt::Display) -> Self {
        let hint = match errno {
            Errno::ROFS => "make the file system writable, then start again",
            Errno::NOSPC | Errno::DQUOT => "free some space, then start again",
            Errno::ACCESS | Errno::PERM => "check who owns the folder and its permissions",
            Errno::MFILE | Errno::NFILE => "raise the limit of open files (`ulimit -n`), then start again",
            _ => "check the disk and its file system (`dmesg` may say more)",
        };
        StoreError::new(format!("{} while {doing}", words(errno)), hint)
    }
}

/// The system's words for an error, to be followed by `while ...`: `no space left on device`.
pub(super) fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_sentences() {
        assert_eq!(
            SaveError::io(Errno::NOSPC, "saving tasks/ab12cd34.json").to_string(),
            "no space left on device while saving tasks/ab12cd34.json"
        );
        assert_eq!(words(Errno::IO), "input/output error");
    }
}
