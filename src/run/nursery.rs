//! The daemon's half of the nursery: one process that forks shims, so that none has to be loaded anew.
//!
//! ```text
//!   octod ──[words, length] + lock + poke socket (+ memory file)──► octo-shim --nursery ──fork──► the shim
//!     └──────────── poke socket: first the words and the environment, later pokes ────────────────┘
//! ```
//!
//! A launch is one message to the nursery and waits for nothing. What the shim is to do travels through its
//! poke socket, which is filled before the message is sent, or in a memory file if it is long; the nursery
//! reads none of it. It forks, closes its copies and goes on. [`crate::shim`] has its other half.
//!
//! Nothing depends on the nursery: a launch that it cannot take is done by starting the program, and a launch
//! that it took with it to its end shows as a closed socket and a free lock without a claim. It is killed
//! without harm to any shim.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    send, sendmsg, socketpair,
};

use super::launch::{LaunchSpec, Launched, socket_pair};

/// The word on the shim's command line that makes a nursery of it.
pub(crate) const NURSERY: &str = "--nursery";

/// What a nursery says when it is ready: another version's is not talked to.
pub(crate) const HELLO: &str = concat!("octo-shim ", env!("CARGO_PKG_VERSION"), " nursery");

/// The first byte on a poke socket, before the error's number in decimal, when there is no shim because the
/// fork failed.
pub(crate) const NOT_FORKED: u8 = b'f';

/// Room for the shim's command line: the program, the run folder, and as much of the rest as fits.
pub(crate) const TITLE_ROOM: usize = 12 * 1024;

/// Room for the variables that mark a process of a run.
pub(crate) const MARKS_ROOM: usize = 6 * 1024;

/// Longer orders travel in a memory file: a socket takes this much at once, whatever its limits are.
const SHORT: usize = 48 * 1024;

/// How long a nursery may take to say that it is ready.
const READY_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// A nursery is started at most this often; in between shims are started one by one.
const START_EVERY: Duration = Duration::from_secs(10);

/// How long a nursery that just died may take to look dead.
const DYING: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How to reach the nursery, if there is one.
#[derive(Debug)]
pub struct Nursery {
    shim: PathBuf,
    line: Option<Line>,
    /// When one was started last.
    started: Option<Instant>,
    /// Nurseries that were given up and are not reaped yet.
    given_up: Vec<Child>,
}

/// The connection to one nursery.
#[derive(Debug)]
struct Line {
    socket: Arc<OwnedFd>,
    child: Child,
    /// Whether it has said that it is ready.
    ready: bool,
}

/// Which nursery forked a shim.
#[derive(Debug, Clone)]
pub struct Origin(Arc<OwnedFd>);

impl Origin {
    /// Tells whether that nursery is dead. Asked about one that lives, it waits for 20 ms to see it die.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        // It says nothing after its first word: what can be read is its end.
        matches!(poll(&mut [PollFd::new(&*self.0, PollFlags::IN)], Some(&DYING)), Ok(1..))
    }
}

impl Nursery {
    /// Starts a nursery of the program `shim`. One that cannot be started is tried again later.
    #[must_use]
    pub fn start(shim: &Path) -> Nursery {
        let mut nursery = Nursery { shim: shim.to_owned(), line: None, started: None, given_up: Vec::new() };
        nursery.begin();
        nursery
    }

    /// The process that forks at present; `None` when there is none.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.line.as_ref().map(|line| line.child.id())
    }

    /// Has nothing more to do with the present nursery, for example because it does not work. What it was
    /// told and has not begun may still begin, or be lost: facts in run folders tell.
    pub fn give_up(&mut self) {
        if let Some(mut line) = self.line.take() {
            let _ = line.child.kill();
            self.given_up.push(line.child);
        }
    }

    /// Has a shim forked. `None`: it was not asked, and the shim is to be started otherwise.
    pub(super) fn launch(&mut self, dir: &Path, spec: &LaunchSpec, lock: &File) -> Option<Launched> {
        let order = Order::new(dir, spec)?;
        for _ in 0..2 {
            let line = self.line()?;
            match line.ask(&order, lock.as_fd()) {
                Ok(launched) => return Some(launched),
                Err(error) if is_gone(&error) => {
                    tracing::warn!(%error, "the nursery of shims is gone");
                    self.give_up();
                }
                Err(error) => {
                    tracing::debug!(%error, "the nursery of shims takes nothing now");
                    return None;
                }
            }
        }
        None
    }

    /// A nursery that is ready.
    fn line(&mut self) -> Option<&mut Line> {
        if self.line.is_none() {
            self.begin();
        }
        let line = self.line.as_mut()?;
        if !line.ready {
            line.ready = line.says_ready();
            if !line.ready {
                tracing::warn!("the nursery of shims does not begin: shims are started one by one for a while");
                self.give_up();
            }
        }
        self.line.as_mut()
    }

    fn begin(&mut self) {
        self.given_up.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if self.started.is_some_and(|at| at.elapsed() < START_EVERY) {
            return;
        }
        self.started = Some(Instant::now());
        match Line::open(&self.shim) {
            Ok(line) => self.line = Some(line),
            Err(error) => tracing::warn!(%error, "no nursery of shims: they are started one by one for a while"),
        }
    }
}

impl Drop for Nursery {
    /// It would find the end of its line anyway; so it is gone, and reaped, when its owner goes on.
    fn drop(&mut self) {
        self.give_up();
        for child in &mut self.given_up {
            let _ = child.wait();
        }
    }
}

/// Tells whether an error says that nobody is at the other end.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

impl Line {
    fn open(shim: &Path) -> io::Result<Line> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(shim);
        // The forked shims write their own command lines and marks over these.
        command.args([NURSERY, &" ".repeat(TITLE_ROOM)]).env_clear().env("OCTO_NURSERY", " ".repeat(MARKS_ROOM));
        command.current_dir("/").stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Line { socket: Arc::new(ours), child: command.spawn()?, ready: false })
    }

    fn says_ready(&self) -> bool {
        let mut said = [0; HELLO.len() + 1];
        matches!(poll(&mut [PollFd::new(&*self.socket, PollFlags::IN)], Some(&READY_WITHIN)), Ok(1..))
            && recv(&*self.socket, &mut said, RecvFlags::DONTWAIT)
                .is_ok_and(|(n, _)| said.get(..n) == Some(HELLO.as_bytes()))
    }

    /// Sends one order, without waiting for anything.
    fn ask(&self, order: &Order, lock: BorrowedFd<'_>) -> io::Result<Launched> {
        let (pokes, poker) = socket_pair()?;
        let quiet = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let file = if order.bytes.len() > SHORT {
            let mut file = File::from(rustix::fs::memfd_create("octo-launch", MemfdFlags::CLOEXEC)?);
            file.write_all(&order.bytes)?;
            Some(file)
        } else {
            if send(&pokes, &order.bytes, quiet)? != order.bytes.len() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            None
        };
        let with_file = [lock, poker.as_fd(), file.as_ref().map_or(lock, AsFd::as_fd)];
        let fds = if file.is_some() { &with_file[..] } else { &with_file[..2] };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(fds));
        sendmsg(&*self.socket, &[IoSlice::new(&order.head())], &mut control, quiet)?;
        Ok(Launched { child: None, pokes, origin: Some(Origin(Arc::clone(&self.socket))) })
    }
}

/// What a shim is told: its command line, then the command's environment, each word with a NUL after it.
struct Order {
    bytes: Vec<u8>,
    /// How much of it is the command line.
    line: usize,
}

impl Order {
    /// `None` when a word holds a NUL.
    fn new(dir: &Path, spec: &LaunchSpec) -> Option<Order> {
        let mut order = Order { bytes: Vec::with_capacity(8 * 1024), line: 0 };
        order.word(&[spec.shim.as_os_str()])?;
        for word in spec.words(dir) {
            order.word(&[&word])?;
        }
        order.line = order.bytes.len();
        for (name, value) in &spec.env {
            order.word(&[name, OsStr::new("="), value])?;
        }
        Some(order)
    }

    fn word(&mut self, parts: &[&OsStr]) -> Option<()> {
        let from = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        if self.bytes[from..].contains(&0) {
            return None;
        }
        self.bytes.push(0);
        Some(())
    }

    fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&(self.line as u64).to_ne_bytes());
        head[8..].copy_from_slice(&(self.bytes.len() as u64).to_ne_bytes());
        head
    }
}

/// The message to the nursery: how long the command line is, and how long that and the environment.
pub(crate) const HEAD: usize = 16;

/// Reads such a message.
pub(crate) fn lengths(head: &[u8; HEAD]) -> Option<(usize, usize)> {
    let (line, all) = head.split_at(8);
    let number = |bytes: &[u8]| usize::try_from(u64::from_ne_bytes(bytes.try_into().ok()?)).ok();
    number(line).zip(number(all)).filter(|(line, all)| line <= all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LaunchSpec {
        LaunchSpec {
            shim: "/bin/octo-shim".into(),
            argv: vec!["sh".into(), "-c".into(), String::new().into()],
            cwd: "/w".into(),
            env: vec![("A".into(), "1".into()), ("B".into(), "".into())],
            leave_children: false,
            log_quota: 7,
            open_files: Some(9),
        }
    }

    #[test]
    fn an_order_holds_the_command_line_and_the_environment() {
        let order = Order::new(Path::new("/r"), &spec()).unwrap();
        let (line, all) = lengths(&order.head()).unwrap();
        let said = b"/bin/octo-shim\0/r\0--cwd\0/w\0--quota\x007\0--open-files\x009\0--\0sh\0-c\0\0".as_slice();
        assert_eq!(&order.bytes[..line], said);
        assert_eq!(&order.bytes[line..all], b"A=1\0B=\0");
    }

    #[test]
    fn a_word_that_holds_a_nul_is_no_order() {
        let mut bad = spec();
        bad.env[1].1 = "a\0b".into();
        assert!(Order::new(Path::new("/r"), &bad).is_none());
    }

    #[test]
    fn a_head_that_contradicts_itself_is_not_read() {
        let order = Order { bytes: vec![0; 3], line: 4 };
        assert_eq!(lengths(&order.head()), None);
    }
}
