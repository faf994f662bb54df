//! What the daemon keeps in memory of an ended task: small, since there may be 100,000 of them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::task::{Hour, Kind, Stamp, Status, Task, TaskId};

/// The longest title, in characters.
pub const TITLE_MAX: usize = 100;

/// The longest title, in bytes: keeps 100,000 titles in any script within bounds.
const TITLE_BYTES: usize = 160;

/// An ended task in brief: what lists, prefixes, keys and environments need without opening its record.
///
/// Its serde names are short because a start parses one line of them per ended task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The task.
    #[serde(rename = "i")]
    pub id: TaskId,
    /// Its number; 0: not numbered yet.
    #[serde(rename = "n")]
    pub number: u64,
    /// How it ended.
    #[serde(rename = "s")]
    pub status: Status,
    /// Process or agent.
    #[serde(rename = "k")]
    pub kind: Kind,
    /// When it was accepted, in milliseconds since 1970; 0: not known.
    #[serde(rename = "c")]
    pub created_ms: i64,
    /// When its last run began, in milliseconds since 1970; 0: never.
    #[serde(rename = "b")]
    pub started_ms: i64,
    /// When it ended, in milliseconds since 1970; 0: not known.
    #[serde(rename = "e")]
    pub completed_ms: i64,
    /// The first line of [`Task::title`], at most [`TITLE_MAX`] characters.
    #[serde(rename = "t")]
    pub title: Box<str>,
    /// [`key_hash`] of the submitter's key; 0: none.
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    pub key_hash: u64,
    /// The highest sequence number of its notices; 0: none.
    #[serde(rename = "q", default, skip_serializing_if = "is_zero")]
    pub last_seq: u64,
    /// The numbers of its other notices (a retried task has one for each end); nearly always none.
    #[serde(rename = "Q", default, skip_serializing_if = "no_seqs")]
    pub earlier_seqs: Box<[u64]>,
    /// [`env_key`] of the environment that it names; 0: none.
    #[serde(rename = "v", default, skip_serializing_if = "is_zero")]
    pub env: u64,
    /// The command's exit code.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What budgets need to know of it; most tasks have nothing of the kind.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Box<Spent>>,
}

/// What an ended task used, who started it, and what it and those that it started may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Who started it.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// Tokens that it used.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
    /// What it cost, in millionths of a millionth of a dollar.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub cost: u64,
    /// How many tokens it may use.
    #[serde(rename = "T", default, skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u64>,
    /// How much it may cost, in millionths of a millionth of a dollar.
    #[serde(rename = "D", default, skip_serializing_if = "Option::is_none")]
    pub budget_cost: Option<u64>,
    /// Its last day, by hours.
    #[serde(rename = "h", default, skip_serializing_if = "no_hours")]
    pub hours: Box<[Hour]>,
    /// It is a conversation, which no list shows.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    pub chat: bool,
}

impl Spent {
    /// What a record says; `None`: nothing of the kind.
    #[must_use]
    pub fn of(task: &Task) -> Option<Box<Self>> {
        let spent = Spent {
            parent: task.parent,
            tokens: task.usage.tokens(),
            cost: task.usage.cost_usd.map_or(0, pico),
            budget_tokens: task.budget.tokens,
            budget_cost: task.budget.usd.map(pico),
            hours: task.hours.iter().copied().collect(),
            chat: task.is_chat(),
        };
        (spent != Spent::default()).then(|| Box::new(spent))
    }
}

/// Dollars in millionths of a millionth, as nearly as a record tells them.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of this kind stays within bounds")]
pub fn pico(usd: f64) -> u64 {
    (usd * 1e12).round() as u64
}

impl Summary {
    /// The summary of a record.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let last_seq = task.notices.iter().map(|n| n.seq).max().unwrap_or(0);
        Summary {
            id: task.id,
            number: task.number,
            status: task.status,
            kind: task.kind,
            created_ms: millis(&task.created_at),
            started_ms: millis(&task.started_at),
            completed_ms: millis(&task.completed_at),
            title: brief(task.title()),
            key_hash: key_hash(&task.key),
            last_seq,
            earlier_seqs: task.notices.iter().map(|n| n.seq).filter(|seq| *seq != last_seq).collect(),
            env: env_key(&task.env),
            exit_code: task.exit_code,
            spent: Spent::of(task),
        }
    }
}

#[allow(clippy::borrowed_box, reason = "serde hands over the field as it is")]
fn no_seqs(seqs: &Box<[u64]>) -> bool {
    seqs.is_empty()
}

#[allow(clippy::borrowed_box, reason = "serde hands over the field as it is")]
fn no_hours(hours: &Box<[Hour]>) -> bool {
    hours.is_empty()
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn millis(stamp: &Stamp) -> i64 {
    stamp.millis().unwrap_or(0)
}

fn brief(title: &str) -> Box<str> {
    let line = title.trim_start().lines().next().unwrap_or("").trim_end();
    let end = line
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take(TITLE_MAX)
        .take_while(|end| *end <= TITLE_BYTES)
        .last()
        .unwrap_or(0);
    line.get(..end).unwrap_or("").into()
}

/// A stable hash of an idempotency key; 0 for none. Equal hashes are only a hint: compare the records.
#[must_use]
pub fn key_hash(key: &str) -> u64 {
    hash(key)
}

/// A stable hash of an environment's digest; 0 for none. Counting by it keeps an environment at worst too long.
#[must_use]
pub fn env_key(digest: &str) -> u64 {
    hash(digest)
}

fn hash(text: &str) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let digest = Sha256::digest(text.as_bytes());
    let head = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    head.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(&*brief("make all\nrm -r x"), "make all");
        assert_eq!(&*brief("\n\n  make all \t\nx"), "make all");
        assert_eq!(brief(&"x".repeat(500)).chars().count(), TITLE_MAX);
        let wide = brief(&"語".repeat(500));
        assert!(wide.len() <= TITLE_BYTES && wide.len() > TITLE_BYTES - 3 && wide.chars().all(|c| c == '語'));
        assert_eq!(&*brief(""), "");
    }

    #[test]
    fn a_summary_holds_what_lists_show_and_survives_its_line() {
        let mut task = Task::new("ab12cd34".parse().unwrap(), 7, Stamp::from_millis(1000));
        task.command = "echo \"é\"\necho".to_owned();
        task.key = "k".to_owned();
        task.env = "d".repeat(64);
        task.exit_code = Some(3);
        assert_eq!(Summary::of(&task).spent, None);
        task.parent = Some("cd34ab12".parse().unwrap());
        task.usage.input_tokens = 12;
        task.budget.usd = Some(0.5);
        task.hours = vec![Hour { hour: 495_000, tokens: 12 }];
        let of = Summary::of(&task);
        let spent = of.spent.as_ref().unwrap();
        assert_eq!((spent.tokens, spent.budget_cost, spent.hours.len()), (12, Some(500_000_000_000), 1));
        assert_eq!((of.number, of.created_ms, of.completed_ms, &*of.title), (7, 1000, 0, "echo \"é\""));
        assert_ne!((of.key_hash, of.env), (0, 0));
        let line = serde_json::to_string(&of).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Summary>(&line).unwrap(), of);
    }

    #[test]
    fn a_hundred_thousand_summaries_fit_in_35_mib() {
        // The longest title costs its bytes and at most 16 for the allocator.
        let each = std::mem::size_of::<Summary>() + TITLE_BYTES + 16;
        assert!(each * 100_000 <= 35 << 20, "{each} bytes each");
        // An agent that worked for two hours has more, in two allocations.
        let agent = std::mem::size_of::<Spent>() + 2 * std::mem::size_of::<Hour>() + 32;
        assert!(agent * 100_000 <= 20 << 20, "{agent} bytes more");
    }
}
