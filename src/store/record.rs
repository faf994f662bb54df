//! From a file's bytes to a [`Task`]: pure, strict, and never in doubt about whose record it is.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::AsFd;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::Marks;
use super::disk::{self, Unread};
use super::error::{ReadError, words};
use crate::task::{SCHEMA, Task, TaskId};

/// The largest record, in bytes; a larger one is neither read nor written.
pub const RECORD_MAX: u64 = 4 << 20;

/// The highest count that a record may hold: what JSON tools everywhere can hold, and far from overflow.
pub(super) const COUNT_MAX: u64 = 1 << 53;

/// The highest run number; the next one must still be a number.
const RUN_MAX: u32 = 1 << 31;

/// Why a record was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotARecord {
    pub(super) why: String,
    /// A newer Octo wrote it: it is left alone.
    pub(super) newer: bool,
}

/// The name of a task's record in `tasks/`.
pub(super) fn name(id: TaskId) -> String {
    format!("{id}.json")
}

/// Reads the bytes of `tasks/<id>.json` as the record of `id`.
///
/// # Errors
/// What is wrong with them, for people. A record of a newer schema is read when its fields fit.
pub fn parse_record(id: TaskId, bytes: &[u8]) -> Result<Task, String> {
    parse(id, bytes).map_err(|e| e.why)
}

pub(super) fn parse(id: TaskId, bytes: &[u8]) -> Result<Task, NotARecord> {
    strict(id, bytes).map_err(|why| match newer_schema(bytes) {
        Some(schema) => NotARecord { why: newer(schema), newer: true },
        None => NotARecord { why, newer: false },
    })
}

/// What is said of a record whose schema this version does not know.
pub(super) fn newer(schema: u64) -> String {
    format!("a newer Octo wrote it (schema {schema}, this one knows {SCHEMA})")
}

fn strict(id: TaskId, bytes: &[u8]) -> Result<Task, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|e| format!("it is not UTF-8 from byte {} on", e.valid_up_to()))?;
    let task: Task = serde_json::from_str(text).map_err(|e| format!("it is not a task record: {e}"))?;
    if task.id != id {
        return Err(format!("it says that it is the record of {}", task.id));
    }
    // Fields that the record knows cannot come twice (serde refuses that); others would silently win or lose.
    if !task.extra.is_empty()
        && let Some(key) = duplicate_key(text)
    {
        return Err(format!("its field `{key}` is there twice"));
    }
    counts_are_sane(&task)?;
    Ok(task)
}

fn counts_are_sane(task: &Task) -> Result<(), String> {
    let seqs = task.notices.iter().flat_map(|n| [("notices.rev", n.rev), ("notices.seq", n.seq)]);
    let counts = [("number", task.number), ("rev", task.rev)];
    if let Some((field, n)) = counts.into_iter().chain(seqs).find(|(_, n)| *n > COUNT_MAX) {
        return Err(format!("its field `{field}` is beyond all bounds ({n})"));
    }
    if task.run > RUN_MAX || task.launches > RUN_MAX {
        return Err(format!("its field `run` or `launches` is beyond all bounds ({}, {})", task.run, task.launches));
    }
    Ok(())
}

/// The first key that an object has twice.
fn duplicate_key(text: &str) -> Option<String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
            let mut seen = HashSet::new();
            let mut twice = None;
            while let Some(key) = map.next_key::<String>()? {
                map.next_value::<IgnoredAny>()?;
                if !seen.insert(key.clone()) && twice.is_none() {
                    twice = Some(key);
                }
            }
            Ok(twice)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Keys).ok().flatten()
}

/// The schema of an object that says to have a newer one.
fn newer_schema(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Peek {
        schema: u64,
    }
    let peek: Peek = serde_json::from_slice(bytes).ok()?;
    (peek.schema > u64::from(SCHEMA)).then_some(peek.schema)
}

/// The number and the sequence numbers that a damaged record seems to hold: they stay used.
pub(super) fn glimpse(bytes: &[u8]) -> Marks {
    let text = String::from_utf8_lossy(bytes);
    let highest = |field: &str| text.match_indices(field).filter_map(|(at, f)| number_at(&text, at + f.len())).max();
    Marks {
        numbers_used: highest("\"number\"").unwrap_or(0),
        seq_used: highest("\"seq\"").unwrap_or(0),
        ..Marks::default()
    }
}

fn number_at(text: &str, at: usize) -> Option<u64> {
    let rest = text.get(at..)?.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Why a record could not be loaded.
pub(super) enum NotLoaded {
    Missing,
    Bad(NotARecord, Vec<u8>),
    Io(rustix::io::Errno),
}

/// Reads and parses one record; a bad one's bytes come along.
pub(super) fn load(tasks: impl AsFd, id: TaskId) -> Result<Task, NotLoaded> {
    let bytes = disk::read_file(tasks, name(id).as_str(), RECORD_MAX).map_err(|e| match e {
        Unread::Missing => NotLoaded::Missing,
        Unread::Bad(why) => NotLoaded::Bad(NotARecord { why, newer: false }, Vec::new()),
        Unread::Io(errno) => NotLoaded::Io(errno),
    })?;
    parse(id, &bytes).map_err(|e| NotLoaded::Bad(e, bytes))
}

/// As [`load`], for callers outside the store.
pub(super) fn read(tasks: impl AsFd, id: TaskId) -> Result<Task, ReadError> {
    load(tasks, id).map_err(|e| match e {
        NotLoaded::Missing => ReadError::NotFound,
        NotLoaded::Bad(e, _) => ReadError::bad(e.why),
        NotLoaded::Io(errno) => ReadError::Io { why: format!("{} while reading tasks/{}", words(errno), name(id)) },
    })
}
