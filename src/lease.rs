//! Whether a file is open anywhere else: what nobody else has open can be emptied and used again.
//!
//! The kernel tells by granting a write lease (`fcntl(2)`, `F_SETLEASE`), which it does only for a file with no
//! other open descriptor. The lease is given back at once. Where there are no leases, the answer is no.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc::{F_SETLEASE, F_UNLCK, F_WRLCK, SIGURG, c_int, fcntl};

/// Not in the C library's bindings: which signal tells that somebody wants the file (`fcntl(2)`).
const F_SETSIG: c_int = 10;

/// Tells whether `fd`, open for writing, is the only descriptor of its file.
pub(crate) fn is_alone(fd: impl AsFd) -> bool {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: these calls take numbers only and touch no memory. Somebody who opens the file between the last
    // two has this process sent a SIGURG, which does nothing unless it is asked for; SIGIO would end it.
    unsafe {
        fcntl(fd, F_SETSIG, SIGURG) == 0
            && fcntl(fd, F_SETLEASE, c_int::from(F_WRLCK as i16)) == 0
            && fcntl(fd, F_SETLEASE, c_int::from(F_UNLCK as i16)) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn another_descriptor_anywhere_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        if !is_alone(&file) {
            eprintln!("skipped: no leases on this file system");
            return;
        }
        let reader = File::open(&path).unwrap();
        assert!(!is_alone(&file), "somebody reads it");
        drop(reader);
        let other = file.try_clone().unwrap();
        assert!(is_alone(&file), "a copy of the same descriptor is no other open");
        drop(other);
        let writer = File::options().append(true).open(&path).unwrap();
        assert!(!is_alone(&file), "somebody writes it");
        drop(writer);
        let child = std::process::Command::new("sleep").arg("1000").stdin(File::open(&path).unwrap()).spawn();
        let mut child = child.unwrap();
        assert!(!is_alone(&file), "another process has it");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_alone(&file));
    }
}
