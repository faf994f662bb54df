//! Killed at chosen points: before the n-th `openat`, `write`, `fsync`, ... of a start, a launch, an end, a
//! stop, a boot; and the shim at the points of its life. The same checks as in the soak hold after each.
//!
//! strace delivers the kill, so that a point is one system call and not a moment. `OCTO_CRASH_POINTS` says how
//! many points each of the four series takes, spread evenly over all that there are (default 12; the long form
//! is 1000: all of them).
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod common;
#[path = "crash_points/daemon.rs"]
mod daemon;
#[path = "crash_points/shim.rs"]
mod shim;
#[path = "crash_points/strace.rs"]
mod strace;

use common::number;

/// How many points a series takes.
fn wanted() -> usize {
    number("OCTO_CRASH_POINTS", 12) as usize
}

/// Takes `wanted` of the points, evenly.
fn spread<T: Clone>(points: &[T], wanted: usize) -> Vec<T> {
    let take = wanted.min(points.len());
    (0..take).map(|n| points[n * points.len() / take].clone()).collect()
}

#[test]
fn points_are_spread_evenly() {
    let points: Vec<u32> = (0..10).collect();
    assert_eq!(spread(&points, 5), [0, 2, 4, 6, 8]);
    assert_eq!(spread(&points, 99), points);
    assert!(spread(&points[..0], 3).is_empty());
}
