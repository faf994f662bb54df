//! How long to wait: pauses between tries that grow, and a pace that allows a small burst.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses that double from the first to the longest. Each is up to a quarter shorter than that, at random, so that
/// not everybody comes back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Pauses within these bounds.
    pub(crate) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, tries: 0 }
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(self.tries)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        whole - whole.mul_f64(0.25 * random())
    }

    /// All went well: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// At random between 0 and 1.
fn random() -> f64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    f64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) / f64::from(u32::MAX)
}

/// So many at once, and after that one in each interval.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again.
    full: Option<Instant>,
}

impl Bucket {
    /// A full bucket of `burst`, which regains one in each interval.
    pub(crate) fn new(interval: Duration, burst: u32) -> Bucket {
        Bucket { interval, burst: burst.max(1), full: None }
    }

    /// Takes one and says when it may be used: now, or later.
    pub(crate) fn take(&mut self, now: Instant) -> Instant {
        let full = self.full.unwrap_or(now).max(now);
        self.full = Some(full + self.interval);
        let ahead = self.interval * (self.burst - 1);
        now + (full - now).saturating_sub(ahead)
    }
}
