//! `octo-shim`: one small process per run, (`--nursery`) the one that forks them, and (`RUNDIR --tether`) one per
//! MCP server of an agent; started by the daemon, never by hand. With `--wait` it waits in the place of an `octo`.
//! See `octo::shim`.
//!
//! The C library calls `main` directly: what Rust's own start-up does first (a signal stack, a look at the
//! memory map, a guard page) is of no use to a program that is over in a moment or asleep for hours, and
//! costs each of them time and memory.
#![no_main]
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;

/// The entry that the C library calls.
// SAFETY: no other function of this program has the name.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let mut words = (1..count).map(|n| {
        // SAFETY: the C library hands over `argc` pointers to strings that live as long as the process.
        let word = unsafe { CStr::from_ptr(*argv.add(n)) };
        OsString::from(OsStr::from_bytes(word.to_bytes()))
    });
    match words.next() {
        Some(word) if word == "--version" => {
            let said = writeln!(std::io::stdout(), "octo-shim {}", env!("CARGO_PKG_VERSION"));
            c_int::from(said.is_err())
        }
        Some(word) if word == "--wait" => octo::shim::wait(words),
        Some(word) if word == "--nursery" => octo::shim::nursery() as c_int,
        first => match words.next() {
            Some(word) if word == octo::shim::TETHER => octo::shim::tether(words),
            second => octo::shim::run(first.into_iter().chain(second).chain(words)) as c_int,
        },
    }
}
