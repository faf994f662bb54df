//! What the tests of the whole program share: a world of its own for each, a way to talk to its daemon, and
//! the checker that compares what a client knows with what Octo says.
//!
//! ```text
//!   test ── World ──spawns──> octod (killed at will) ──> octo-shim ──> commands, each marks a side file
//!     └──── http ──────────────┘ socket                                        │
//!     └──── checker <── what the client knows, what the daemon says ───────────┘
//! ```
// Each test file uses a part of this.
#![allow(dead_code, unused_imports)]

pub(crate) mod checker;
pub(crate) mod http;
pub(crate) mod processes;
pub(crate) mod rng;
pub(crate) mod world;

use std::time::{Duration, Instant};

pub(crate) use rng::Rng;
pub(crate) use world::World;

/// Long enough for a loaded machine; nothing here waits for time to pass.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; panics with `what` when it does not within a minute.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(LONG, condition), "waited {LONG:?} for {what}");
}

/// Tells whether `condition` comes to hold within `limit`.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause(Duration::from_millis(2));
    }
}

/// Lets a little time pass: between two looks at a condition, or before a kill that comes at random.
#[allow(clippy::disallowed_methods)] // the pause itself
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A number from the environment: how long a long test is to be.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}
