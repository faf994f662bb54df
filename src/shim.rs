//! The shim: one small process per run, between the daemon and the command. It outlives the daemon.
//!
//! ```text
//!   octod ──► octo-shim --nursery ──fork: the lock, the poke socket──► octo-shim RUNDIR --cwd D -- ARGV...
//!                                                             │ subreaper, own session, one thread
//!                                                             └─► the command: own group, stdin /dev/null,
//!                                                                 stdout and stderr run-N/out.log
//! ```
//!
//! The model it belongs to, with the reasons, is told in [`crate::run`]. It is forked by the nursery
//! (`shim/nursery.rs`), or, where there is none, started by the daemon with the lock as standard input and the poke
//! socket as standard output. Its own environment is the command's, so that nothing secret stands on a command line or in a file.
//!
//! 1. *Begin.* Its signals wait from the first moment on. A forked one reads its orders from the poke socket
//!    and takes on its own name in `/proc`; one that was started takes the lock off its standard input. It
//!    leaves the session, reserves the space for `exit.json`, opens the log and forks the command's process,
//!    which closes its copy of the lock and waits on a pipe; end of file there means that the shim died, and
//!    it exits.
//! 2. *Claim.* It links `claim.json`. Lost: it kills the waiting child, takes its temporary files away
//!    and exits. Won: it releases the child, unless a SIGTERM came, which makes it an end with the reason
//!    `stop` and no run. It pokes `c`.
//! 3. *Watch.* It sleeps until a child ends, SIGTERM comes, or the log's size is to be looked at. The
//!    command's end is seen without reaping it, so that the group's number stays its own. What else
//!    becomes its child is reaped on the way.
//! 4. *End.* A natural end with nothing left behind takes one look. What was left behind gets TERM and
//!    CONT, 5 s, then KILL until none is left (`--leave-children` lets it be). A stop, and a log over its
//!    quota, do the same to the whole tree with 10 s. Members of the group get one TERM, all others one
//!    each; then only KILL is repeated.
//! 5. *Record.* `exit.json` takes the reserved space, so that a full disk cannot lose it; a shim that
//!    cannot write it tries again each second and holds its lock until it can. Poke `x` comes before the
//!    syncs, the lock falls after them, and then the poke socket closes.
//!
//! A shim for a program that is *not* to outlive the daemon is a tether (`shim/tether.rs`). With `--wait` the program
//! does something else: it waits for a task's end in the place of an `octo` (`shim/wait.rs`).
//!
//! In builds with debug assertions `OCTO_SHIM_HOLD=before_lock|before_claim|before_exit` makes it stop
//! itself there, for tests; the variable never reaches the command.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::WaitIdStatus;

use crate::run::dir::now;
use crate::run::{Claim, Exit, ExitReason, ProcId, SAVED, boot_id, proc_start};

mod args;
mod child;
mod nursery;
mod record;
mod sys;
mod tether;
mod tree;
mod wait;

use args::Args;
use child::{Child, Plan};
use record::Folder;

pub use nursery::nursery;
pub use tether::{TETHER, tether};
pub use wait::wait;

/// How long what a command left behind may take to go, after TERM.
const GRACE_AT_END: Duration = Duration::from_secs(5);
/// How long a stopped command may take to go, after TERM.
const GRACE_AT_STOP: Duration = Duration::from_secs(10);
/// How often the log's size is looked at: at first and while it grows, and at most, while it does not.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// How a shim's work went; the process's exit code. Nobody decides anything by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The run ended and is recorded.
    Recorded = 0,
    /// Somebody else holds the claim: the command was not run.
    Lost = 1,
    /// The command line made no sense.
    Usage = 2,
    /// It could not begin: no claim was made and the command was not run.
    CouldNotBegin = 3,
}

/// Does the whole work of one shim; `words` is the command line after the program's name. To be called
/// by `octo-shim` alone, first of all and in a process with one thread: it changes the process's
/// signals, descriptors, session and working folder.
pub fn run(words: impl Iterator<Item = OsString>) -> Done {
    sys::close_inherited();
    let Ok((lock, pokes)) = take_over() else { return Done::CouldNotBegin };
    begin(lock, pokes, words)
}

/// Takes the lock and the poke socket off the standard descriptors, so that nothing this process starts can
/// inherit them.
fn take_over() -> io::Result<(OwnedFd, Poker)> {
    sys::own_signals()?;
    let lock = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let pokes = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    null_stdio()?;
    Ok((lock, Poker(pokes)))
}

/// Puts `/dev/null` on standard input and output.
fn null_stdio() -> io::Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?)
}

/// The work, with lock and poke socket in safe places and the command's environment as this process's own.
fn begin(lock: OwnedFd, pokes: Poker, words: impl Iterator<Item = OsString>) -> Done {
    let hold = Hold::taken();
    hold.at("before_lock");
    let worked = detach().map_err(|e| (Done::CouldNotBegin, e.to_string()));
    let worked = worked.and_then(|()| Args::parse(words).map_err(|why| (Done::Usage, why.to_owned())));
    let worked = worked.and_then(|args| {
        let shim = Shim { args: &args, lock: &lock, pokes: &pokes, hold: &hold };
        shim.work().map_err(|e| (Done::CouldNotBegin, e.to_string()))
    });
    let done = worked.unwrap_or_else(|(done, why)| {
        pokes.complain(&why);
        done
    });
    // Who sees the socket close finds the lock free.
    drop(lock);
    drop(pokes);
    done
}

/// Leaves the session of whoever started it, and becomes the one to whom orphans below it come.
fn detach() -> io::Result<()> {
    // Fails only for a leader of a group, which a shim that was spawned or forked is not.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    if crate::sabotage::broken("daemon_as_parent") {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    Ok(())
}

/// What one shim works with.
struct Shim<'a> {
    args: &'a Args,
    lock: &'a OwnedFd,
    pokes: &'a Poker,
    hold: &'a Hold,
}

impl Shim<'_> {
    /// Folder, child, claim, command, end: in this order, each on disk before the next may be seen.
    fn work(&self) -> io::Result<Done> {
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let folder = Folder::open(&self.args.dir)?;
        let (log, child) = match self.make_child(&folder, umask) {
            Ok(made) => made,
            Err(e) => {
                folder.give_up();
                return Err(e);
            }
        };
        self.hold.at("before_claim");
        let won = claim_of(&child).and_then(|claim| folder.claim(&claim, self.lock));
        if !matches!(won, Ok(true)) {
            child.discard();
            folder.give_up();
            return won.map(|_| Done::Lost);
        }
        let exit = self.run_claimed(&log, child);
        self.hold.at("before_exit");
        folder.record_end(&exit, || {
            self.pokes.poke(b'x');
            self.pokes.says_saved()
        });
        Ok(Done::Recorded)
    }

    fn make_child(&self, folder: &Folder, umask: Mode) -> io::Result<(File, Child)> {
        let log = folder.open_log()?;
        let plan = Plan {
            argv: &self.args.argv,
            cwd: &self.args.cwd,
            log: Some(&log),
            umask,
            open_files: self.args.open_files,
        };
        let child = Child::fork(&plan, &[self.lock, &self.pokes.0])?;
        // A shim that lives long should not keep a folder busy that its owner may want to unmount.
        let _ = std::env::set_current_dir("/");
        Ok((log, child))
    }

    /// Runs the command to its end, unless something speaks against its release.
    fn run_claimed(&self, log: &File, mut child: Child) -> Exit {
        if stop_waits() {
            let status = child.discard();
            return Exit { reason: Some(ExitReason::Stop), ..ended(status, log) };
        }
        if let Err(e) = child.release() {
            child.discard();
            return Exit { error: Some(format!("launch: the command cannot be released: {e}")), ..ended(None, log) };
        }
        self.pokes.poke(b'c');
        let reason = self.watch(log, &child);
        let status = child.reap();
        match child.launch_error() {
            Some(why) => Exit { error: Some(format!("launch: {why}")), reason, ..ended(None, log) },
            None => Exit { reason, ..ended(status, log) },
        }
    }

    /// Waits for the command's end, a stop or a log that is too long; leaves nothing but a zombie.
    fn watch(&self, log: &File, child: &Child) -> Option<ExitReason> {
        let mut gauge = Gauge::new(self.args.quota, Instant::now());
        let mut reason = None;
        loop {
            // This comes first: a command that ended by itself was not stopped.
            if child.has_ended() {
                if !self.args.leave_children && !tree::nothing_left(child.pid) {
                    tree::end_all(child, GRACE_AT_END);
                }
                return None;
            }
            if reason.is_some() {
                tree::end_all(child, GRACE_AT_STOP);
                return reason;
            }
            match sys::await_signal(gauge.pause(Instant::now())) {
                Some(Signal::SIGTERM) => reason = Some(ExitReason::Stop),
                // Usually it is the command that ended, and the look at the top of the loop says so.
                Some(_) if child.has_ended() => {}
                Some(_) => tree::reap_orphans(child.pid),
                None => {}
            }
            if gauge.is_over(Instant::now(), || size(log)) {
                reason = reason.or(Some(ExitReason::LogQuota));
            }
        }
    }
}

/// The claim of this shim for its waiting child.
fn claim_of(child: &Child) -> io::Result<Claim> {
    let id = |pid: i32| proc_start(pid).map(|start| ProcId { pid, start });
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the waiting child is gone, or /proc is not mounted");
    Ok(Claim {
        shim: id(rustix::process::getpid().as_raw_pid()).ok_or_else(gone)?,
        child: id(child.pid.as_raw_pid()).ok_or_else(gone)?,
        boot_id: boot_id()?,
        at: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Tells whether a SIGTERM came before the release.
fn stop_waits() -> bool {
    std::iter::from_fn(|| sys::await_signal(Some(Duration::ZERO))).any(|s| s == Signal::SIGTERM)
}

/// The end of a process, as its status tells it.
fn ended(status: Option<WaitIdStatus>, log: &File) -> Exit {
    Exit {
        code: status.as_ref().and_then(WaitIdStatus::exit_status),
        signal: status.as_ref().and_then(WaitIdStatus::terminating_signal),
        reason: None,
        error: None,
        at: now(),
        log_bytes: size(log),
    }
}

fn size(log: &File) -> u64 {
    log.metadata().map_or(0, |m| m.len())
}

/// Decides when to look at the log's size: every second while it grows, ever more seldom while it does
/// not, so that an idle shim is hardly ever awake.
struct Gauge {
    quota: u64,
    seen: u64,
    pause: Duration,
    due: Instant,
}

impl Gauge {
    fn new(quota: u64, now: Instant) -> Self {
        Gauge { quota, seen: 0, pause: LOOK.0, due: now + LOOK.0 }
    }

    /// How long to wait for the next look; `None` without a quota.
    fn pause(&self, now: Instant) -> Option<Duration> {
        (self.quota > 0).then(|| self.due.saturating_duration_since(now))
    }

    /// Looks at the size if that is due; tells whether it is over the quota.
    fn is_over(&mut self, now: Instant, size: impl FnOnce() -> u64) -> bool {
        if self.quota == 0 || now < self.due {
            return false;
        }
        let size = size();
        self.pause = if size == self.seen { (self.pause * 2).min(LOOK.1) } else { LOOK.0 };
        self.due = now + self.pause;
        self.seen = size;
        size > self.quota
    }
}

/// How long the daemon may take to say that it saved the end: longer than a save takes on a busy disk.
const SAVED_WITHIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// This end of the socket to the daemon. What goes in is a hint; that nobody reads it is no error.
struct Poker(OwnedFd);

impl Poker {
    fn poke(&self, byte: u8) {
        let _ = rustix::io::write(&self.0, &[byte]);
    }

    /// Waits a moment for the word that the record's end is on disk. A daemon that is gone is no wait.
    fn says_saved(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let mut word = [0];
        matches!(poll(&mut fds, Some(&SAVED_WITHIN)), Ok(1))
            && matches!(rustix::io::read(&self.0, &mut word), Ok(1))
            && word == [SAVED]
    }

    fn complain(&self, why: &str) {
        let _ = rustix::io::write(&self.0, format!("!{why}").as_bytes());
    }
}

/// Where a test wants the shim to stop; in release builds nowhere.
struct Hold(Option<OsString>);

impl Hold {
    /// Reads the wish from the environment and removes it there, since that is the command's.
    fn taken() -> Hold {
        #[cfg(debug_assertions)]
        return Hold(sys::take_variable("OCTO_SHIM_HOLD"));
        #[cfg(not(debug_assertions))]
        Hold(None)
    }

    fn at(&self, point: &str) {
        if self.0.as_deref().is_some_and(|wish| wish == point) {
            let _ = nix::sys::signal::raise(Signal::SIGSTOP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_looks_seldom_at_a_quiet_log_and_often_at_a_growing_one() {
        let mut now = Instant::now();
        let mut gauge = Gauge::new(100, now);
        let mut look = |size, over: bool| {
            assert!(!gauge.is_over(now, || unreachable!("too early")));
            now += gauge.pause(now).unwrap();
            assert_eq!(gauge.is_over(now, || size), over);
            gauge.pause(now).unwrap().as_secs()
        };
        let pauses = [0, 0, 0, 50, 50, 100].map(|size| look(size, false));
        assert_eq!(pauses, [2, 4, 5, 1, 2, 1]);
        look(101, true);
    }

    #[test]
    fn without_a_quota_nothing_is_looked_at() {
        let now = Instant::now();
        let mut gauge = Gauge::new(0, now);
        assert_eq!(gauge.pause(now), None);
        assert!(!gauge.is_over(now + LOOK.1, || unreachable!("no quota")));
    }
}
