//! Every system call may fail: `strace --inject` on the daemon and on shims, full and read-only file systems,
//! few descriptors. Nothing panics, every command gets a clear answer, nothing acknowledged is lost, and all is
//! well within 5 s after the fault ends.
//!
//! Needs `strace`; the tests with small file systems also need root (or `OCTO_NO_MOUNT=1`).

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "faults/daemon.rs"]
mod daemon;
#[path = "faults/descriptors.rs"]
mod descriptors;
#[path = "faults/full_disk.rs"]
mod full_disk;
mod harness;
#[path = "faults/inject.rs"]
mod inject;
#[path = "faults/shim.rs"]
mod shim;
#[path = "faults/start.rs"]
mod start;
