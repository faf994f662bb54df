//! The nursery: a shim that was loaded once and forks all others. Its daemon's half is `src/run/nursery.rs`.
//!
//! It has one thread, holds nothing but its end of the line to its daemon, waits for nobody and ignores
//! SIGCHLD, so that no shim needs to be reaped. End of file on the line (its daemon died or let it go) ends it
//! at once; what it forked goes on. Like every shim it has left the daemon's session.
//!
//! A forked shim is told by the kernel's tables from the nursery by its own command line and by the marks of
//! its run in its environment; both are written in place, over room that the nursery was started with.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::ForkResult;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use super::{Done, Poker, sys};
use crate::run::nursery::{HEAD, HELLO, NOT_FORKED, lengths};

/// The variables that mark a process of a run.
const MARKS: [&[u8]; 3] = [b"OCTO_TASK_ID=", b"OCTO_RUN=", b"OCTO_WORKSPACE="];

/// Forks shims until the daemon lets go. To be called by `octo-shim` alone, first of all and in a process
/// with one thread.
pub fn nursery() -> Done {
    sys::close_inherited();
    match open() {
        Ok((line, room)) => {
            serve(&line, room);
            Done::Recorded
        }
        Err(_) => Done::CouldNotBegin,
    }
}

/// Sets up what all shims have in common, and says that it is ready.
fn open() -> io::Result<(OwnedFd, sys::Room)> {
    sys::own_signals()?;
    sys::reap_nobody(true);
    let line = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    super::null_stdio()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout())?;
    let _ = rustix::process::setsid();
    // A call that fails here would fail in every shim; and what it read stays read.
    crate::run::boot_id()?;
    let room = sys::Room::of_this_process()?;
    let named = room.line.iter().enumerate().filter(|(_, byte)| **byte == 0).nth(1).map_or(0, |(at, _)| at);
    room.line[named..].fill(0);
    room.environment.fill(0);
    send(&line, HELLO.as_bytes(), SendFlags::NOSIGNAL)?;
    Ok((line, room))
}

fn serve(line: &OwnedFd, mut room: sys::Room) {
    loop {
        let order = match receive(line) {
            Ok(Some(order)) => order,
            // Nothing that could be begun: the daemon finds the socket closed and the lock free.
            Err(Errno::INVAL) => continue,
            Ok(None) | Err(_) => return,
        };
        match sys::fork() {
            Ok(ForkResult::Child) => {
                sys::reap_nobody(false);
                sys::close_copy(line);
                let done = become_shim(order, &mut room);
                sys::exit_now(done as i32);
            }
            Ok(ForkResult::Parent { .. }) => {}
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(0).to_string();
                let _ = rustix::io::write(&order.poker, &[&[NOT_FORKED], number.as_bytes()].concat());
            }
        }
    }
}

/// One launch, as the daemon sent it.
struct Order {
    lock: OwnedFd,
    poker: OwnedFd,
    /// Where the words are, if not in the poke socket.
    file: Option<OwnedFd>,
    /// How long the command line is, and how long that and the environment.
    lengths: (usize, usize),
}

/// Waits for an order; `None` at the end of the line, [`Errno::INVAL`] for one that makes no sense.
fn receive(line: &OwnedFd) -> rustix::io::Result<Option<Order>> {
    let mut head = [0; HEAD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match recvmsg(line, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            got => break got?,
        }
    };
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let mut fds = fds.next().into_iter().flatten();
    if got.bytes == 0 {
        return Ok(None);
    }
    let (lock, poker, file) = (fds.next(), fds.next(), fds.next());
    match (lock, poker, lengths(&head)) {
        (Some(lock), Some(poker), Some(lengths)) if got.bytes == HEAD => Ok(Some(Order { lock, poker, file, lengths })),
        _ => Err(Errno::INVAL),
    }
}

/// The forked side: takes its orders, looks like a shim, and is one.
fn become_shim(order: Order, room: &mut sys::Room) -> Done {
    let pokes = Poker(order.poker);
    let words = match read(order.file, pokes.0.as_fd(), order.lengths.1) {
        Ok(words) => words,
        Err(error) => {
            pokes.complain(&format!("its orders cannot be read: {error}"));
            return Done::CouldNotBegin;
        }
    };
    let (line, environment) = words.split_at(order.lengths.0);
    write_title(room.line, line);
    write_marks(room.environment, environment);
    sys::set_environment(environment);
    let words = line.split_inclusive(|byte| *byte == 0).skip(1);
    let words = words.map(|word| OsString::from(OsStr::from_bytes(word.strip_suffix(&[0]).unwrap_or(word))));
    super::begin(order.lock, pokes, words)
}

/// Reads the words. They live as long as the process: its environment points to them.
fn read(file: Option<OwnedFd>, poker: std::os::fd::BorrowedFd<'_>, length: usize) -> io::Result<&'static [u8]> {
    let mut words = vec![0; length];
    match file {
        Some(file) => {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
            File::from(file).read_exact(&mut words)?;
        }
        None => {
            let mut from = 0;
            while from < length {
                match rustix::io::read(poker, &mut words[from..]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => from += n,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(words.leak())
}

/// Shows a command line, as much of it as there is room for; the last byte is zero.
fn write_title(room: &mut [u8], line: &[u8]) {
    let fits = line.len().min(room.len().saturating_sub(1));
    room[..fits].copy_from_slice(&line[..fits]);
    // What is zero already is not written to: its memory stays shared.
    room[fits..].iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = 0);
}

/// Shows those variables by which processes of a run are found, each that there is room for.
fn write_marks(room: &mut [u8], environment: &[u8]) {
    let mut at = 0;
    for word in environment.split_inclusive(|byte| *byte == 0) {
        if MARKS.iter().any(|mark| word.starts_with(mark)) && at + word.len() <= room.len() {
            room[at..at + word.len()].copy_from_slice(word);
            at += word.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_that_is_too_long_is_cut_and_ends_with_a_zero() {
        let mut room = [0; 6];
        write_title(&mut room, b"ab\0cdefgh\0");
        assert_eq!(&room, b"ab\0cd\0");
        let mut room = *b"xx\0yy\0";
        write_title(&mut room, b"ab\0");
        assert_eq!(&room, b"ab\0\0\0\0");
    }

    #[test]
    fn only_the_marks_of_the_run_are_shown() {
        let mut room = [0; 40];
        write_marks(&mut room, b"KEY=secret\0OCTO_RUN=1\0OCTO_TASK_ID=x\0OCTO_WORKSPACE=/far/too/long/for/it\0");
        assert_eq!(&room[..], b"OCTO_RUN=1\0OCTO_TASK_ID=x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
