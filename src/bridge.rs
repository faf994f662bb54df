//! What the daemon and its push bridges share beside the API: the bridges' health and the pairing of users.
//!
//! A bridge (`bots/telegram.rs`) is a client of the API like any other: it reads what is owed, sends it, and leaves
//! receipts. Only two things are handed over in memory, since neither may outlive the daemon: how each bridge is,
//! for `octo status`, and a pairing code that is open at the moment.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// How a bridge is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Health {
    /// The bridge: `telegram`.
    pub name: String,
    /// One word or two: `polling`, `sending only`, `not reachable`.
    pub health: String,
    /// Why it is not well, and what to do; empty when it is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Notices that it still owes, and that could not be delivered so far.
    pub owed: usize,
}

/// A user who sent the pairing code and waits to be confirmed in the terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    /// The user's number on the bridge.
    pub id: i64,
    /// The name that the user goes by there; anybody may choose any.
    pub name: String,
}

/// How long a pairing code counts.
pub const PAIRING_LIFE: Duration = Duration::from_secs(300);

/// How many wrong codes end a pairing.
const PAIRING_TRIES: u32 = 5;

/// The letters of codes: none that looks like another.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

#[derive(Debug)]
struct Pairing {
    code: String,
    until: Instant,
    tries: u32,
    candidate: Option<Candidate>,
    accepted: bool,
}

/// What is shared.
#[derive(Debug, Default)]
pub struct Board {
    health: Mutex<BTreeMap<String, Health>>,
    pairing: Mutex<BTreeMap<String, Pairing>>,
    changed: Notify,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Takes note of how a bridge is.
    pub fn set_health(&self, health: Health) {
        held(&self.health).insert(health.name.clone(), health);
    }

    /// How every bridge is.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        held(&self.health).values().cloned().collect()
    }

    /// Whether there is such a bridge in this daemon.
    #[must_use]
    pub fn has(&self, bridge: &str) -> bool {
        held(&self.health).contains_key(bridge)
    }

    /// Opens a pairing and returns its code, 8 letters, once usable within [`PAIRING_LIFE`]; an earlier one ends.
    #[must_use]
    pub fn open_pairing(&self, bridge: &str) -> String {
        let random = uuid::Uuid::new_v4();
        // The fixed bits of the UUID's version and variant are in bytes 6 and 8.
        let bytes = random.as_bytes();
        let drawn = bytes[..6].iter().chain(&bytes[9..11]);
        let code: String = drawn.map(|b| char::from(LETTERS[usize::from(b % 32)])).collect();
        let pairing = Pairing {
            code: code.clone(),
            until: Instant::now() + PAIRING_LIFE,
            tries: 0,
            candidate: None,
            accepted: false,
        };
        held(&self.pairing).insert(bridge.to_owned(), pairing);
        self.changed.notify_waiters();
        code
    }

    /// A stranger said something: tells whether it was the open code. Wrong codes count only when they look like
    /// one, and five of them end the pairing.
    #[must_use]
    pub fn try_code(&self, bridge: &str, said: &str, who: Candidate) -> bool {
        let mut pairings = held(&self.pairing);
        let Some(pairing) = pairings.get_mut(bridge) else { return false };
        if pairing.until <= Instant::now() {
            pairings.remove(bridge);
            return false;
        }
        let said = said.trim().to_uppercase();
        let looks_like_one = said.len() == pairing.code.len() && said.bytes().all(|b| LETTERS.contains(&b));
        if !looks_like_one || pairing.candidate.is_some() {
            return false;
        }
        if said != pairing.code {
            pairing.tries += 1;
            if pairing.tries >= PAIRING_TRIES {
                pairings.remove(bridge);
            }
            return false;
        }
        pairing.candidate = Some(who);
        drop(pairings);
        self.changed.notify_waiters();
        true
    }

    /// Waits until somebody sent the code. `None`: the pairing ended, or `wait` did.
    pub async fn candidate(&self, bridge: &str, wait: Duration) -> Option<Candidate> {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            {
                let pairings = held(&self.pairing);
                let pairing = pairings.get(bridge).filter(|p| p.until > Instant::now())?;
                if let Some(candidate) = &pairing.candidate {
                    return Some(candidate.clone());
                }
            }
            if tokio::time::timeout_at(end, changed).await.is_err() {
                return None;
            }
        }
    }

    /// Whether a pairing is open.
    #[must_use]
    pub fn is_pairing(&self, bridge: &str) -> bool {
        held(&self.pairing).get(bridge).is_some_and(|p| p.until > Instant::now())
    }

    /// Ends a pairing as its owner decided in the terminal; tells whether there was a candidate to decide on.
    pub fn decide(&self, bridge: &str, accept: bool) -> bool {
        let mut pairings = held(&self.pairing);
        let there = pairings.get_mut(bridge).filter(|p| p.candidate.is_some() && p.until > Instant::now());
        let decided = match there {
            Some(pairing) if accept => {
                pairing.accepted = true;
                true
            }
            Some(_) => {
                pairings.remove(bridge);
                true
            }
            None => false,
        };
        drop(pairings);
        self.changed.notify_waiters();
        decided
    }

    /// Waits for ever for the next user whom the owner accepted, and takes that pairing away.
    pub async fn accepted(&self, bridge: &str) -> Candidate {
        loop {
            let changed = self.changed.notified();
            {
                let mut pairings = held(&self.pairing);
                if pairings.get(bridge).is_some_and(|p| p.accepted)
                    && let Some(candidate) = pairings.remove(bridge).and_then(|p| p.candidate)
                {
                    return candidate;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Candidate {
        Candidate { id: 4711, name: "Ann".to_owned() }
    }

    #[tokio::test]
    async fn who_knows_the_code_is_shown_and_only_the_owner_lets_in() {
        let board = Board::default();
        assert!(!board.try_code("telegram", "AAAAAAAA", ann()));
        let code = board.open_pairing("telegram");
        assert_eq!(code.len(), 8);
        assert!(board.try_code("telegram", &format!(" {} ", code.to_lowercase()), ann()));
        assert!(!board.try_code("telegram", &code, Candidate { id: 1, name: String::new() }), "one use");
        assert_eq!(board.candidate("telegram", Duration::ZERO).await, Some(ann()));
        assert!(board.decide("telegram", true));
        assert_eq!(board.accepted("telegram").await, ann());
        assert!(!board.is_pairing("telegram"));
    }

    #[test]
    fn five_wrong_codes_end_it_and_chatter_does_not_count() {
        let board = Board::default();
        let code = board.open_pairing("telegram");
        for said in ["hello", "/start", "", "what is this?", "AAAA-BBB"] {
            assert!(!board.try_code("telegram", said, ann()));
        }
        assert!(board.is_pairing("telegram"));
        let wrong = if code == "ZZZZZZZZ" { "YYYYYYYY" } else { "ZZZZZZZZ" };
        for _ in 0..5 {
            assert!(board.is_pairing("telegram"));
            assert!(!board.try_code("telegram", wrong, ann()));
        }
        assert!(!board.is_pairing("telegram"));
        assert!(!board.try_code("telegram", &code, ann()));
    }

    #[test]
    fn a_refused_user_is_gone() {
        let board = Board::default();
        let code = board.open_pairing("telegram");
        assert!(!board.decide("telegram", true), "nobody sent it yet");
        assert!(board.try_code("telegram", &code, ann()));
        assert!(board.decide("telegram", false));
        assert!(!board.is_pairing("telegram"));
    }
}
