//! `octo-shim --wait`: waits for a task's end in the place of an `octo`.
//!
//! ```text
//!   octo task ID wait ──asks, then execs──► octo-shim --wait OCTO ARGS...
//!        ▲                                      │ the answer: the task completed ──► exit 0
//!        └──────execs OCTO ARGS: anything else──┘
//! ```
//!
//! Whoever waits for a task waits for the process that tells it, too: for its pages to be read again, for an answer
//! to be taken apart, for a large program to be torn down. This one is small. It knows one answer, which is most
//! often the one that comes; all others (another end, a question, no answer in time, a daemon that died) are
//! `octo`'s, which asks again and sees for itself.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;

use nix::unistd::execv;

use crate::command::STATUS_HEADER;
use crate::task::Status;

/// More than the head of any answer with a record.
const HEAD_MAX: usize = 4096;

/// Reads the answer that comes on standard input and returns the exit code 0 when it says that the task has
/// completed. Otherwise this process becomes the program that `words` are: its path and its arguments.
pub fn wait(words: impl Iterator<Item = OsString>) -> i32 {
    if answer().is_some_and(|head| has_completed(&head)) {
        return 0;
    }
    let failed = become_octo(words);
    let _ = writeln!(std::io::stderr(), "error: octo cannot be started again: {failed}\nhint: run it once more");
    1
}

/// The beginning of the answer, up to the end of its head. `None`: it was cut off, did not come in time, or
/// somebody stopped this process meanwhile.
fn answer() -> Option<Vec<u8>> {
    let mut bytes = [0; HEAD_MAX];
    let mut used = 0;
    loop {
        match rustix::io::read(rustix::stdio::stdin(), bytes.get_mut(used..)?) {
            Ok(0) | Err(_) => return None,
            Ok(n) => used += n,
        }
        let read = bytes.get(..used)?;
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(read[..end].to_vec());
        }
    }
}

/// Whether the answer is a record, and one of a task that completed.
fn has_completed(head: &[u8]) -> bool {
    let mut lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let ok = lines.next().is_some_and(|line| line.starts_with(b"HTTP/1.1 200 "));
    let mut status = lines.filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(STATUS_HEADER.as_bytes()).then(|| value[1..].trim_ascii())
    });
    ok && status.next() == Some(Status::Completed.word().as_bytes())
}

/// Executes the program; returns when that failed.
fn become_octo(words: impl Iterator<Item = OsString>) -> nix::Error {
    let Ok(words) = words.map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>() else {
        return nix::Error::EINVAL;
    };
    let Some(program) = words.first() else { return nix::Error::EINVAL };
    // The connection must not stay open in a program that knows nothing of it.
    match File::open("/dev/null").map_err(|e| nix::Error::from_raw(e.raw_os_error().unwrap_or(0))) {
        Ok(null) => {
            if let Err(error) = rustix::stdio::dup2_stdin(null) {
                return nix::Error::from_raw(error.raw_os_error());
            }
        }
        Err(error) => return error,
    }
    match execv(program, &words) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn just_a_record_of_a_task_that_completed_is_an_end_in_success() {
        for (head, good) in [
            ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-octo-status: completed", true),
            ("HTTP/1.1 200 OK\r\nX-Octo-Status:completed\r\ndate: x", true),
            ("HTTP/1.1 200 OK\r\nx-octo-status: failed", false),
            ("HTTP/1.1 200 OK\r\nx-octo-status: running\r\nx-octo-status: completed", false),
            ("HTTP/1.1 200 OK\r\ncontent-type: x-octo-status: completed", false),
            ("HTTP/1.1 200 OK\r\nx-octo-status", false),
            ("HTTP/1.1 503 Service Unavailable\r\nx-octo-status: completed", false),
            ("x-octo-status: completed", false),
            ("", false),
        ] {
            assert_eq!(has_completed(head.as_bytes()), good, "{head}");
        }
    }
}
