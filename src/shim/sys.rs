//! The system calls that have no safe wrapper. Everything unsafe of the shim is here.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::ForkResult;

/// Signals that the shim ignores: they are meant for a terminal's programs, or (SIGPIPE) come from a
/// daemon that has died.
const IGNORED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGPIPE,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The signals that the shim waits for.
pub(super) fn awaited() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM].into_iter().collect()
}

/// Gives every signal its default disposition, whatever the shim or its launcher had set. The C
/// library's function would leave out the two signals that it keeps for itself.
fn default_signals() {
    let plain = [0u64; 4];
    for number in 1..=64 {
        // SAFETY: a kernel `sigaction` of zeros (not larger than this on any machine) is the default
        // disposition and runs no code of ours; signals that cannot be set are refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, plain.as_ptr(), ptr::null::<u64>(), 8) };
    }
}

/// Sets the shim's signals up: from here on SIGTERM and SIGCHLD wait until [`await_signal`] takes them.
pub(super) fn own_signals() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&awaited()), None)?;
    default_signals();
    for signal in IGNORED {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(signal as libc::c_int, libc::SIG_IGN) };
    }
    Ok(())
}

/// Gives a process that is about to run a foreign program its signals as a shell would. A forked copy of
/// the shim has those that the shim ignores to give back; [`own_signals`] did the others.
pub(super) fn plain_signals() -> io::Result<()> {
    for signal in IGNORED {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { libc::signal(signal as libc::c_int, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Takes one waiting SIGTERM or SIGCHLD; waits for one at most `timeout` (`None`: without end).
/// Returns `None` when time ran out or another signal came between.
pub(super) fn await_signal(timeout: Option<Duration>) -> Option<Signal> {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let set = awaited();
    let spec_at = spec.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the set and the time live until the call returns; no details of the signal are asked for.
    let number = unsafe { libc::sigtimedwait(set.as_ref(), ptr::null_mut(), spec_at) };
    Signal::try_from(number).ok()
}

/// Forks. The shim has one thread, so the child may do whatever the parent may.
pub(super) fn fork() -> io::Result<ForkResult> {
    // SAFETY: this process has a single thread; no lock can be held by another one.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Closes every descriptor above the three standard ones, whoever forgot it open.
pub(super) fn close_inherited() {
    // SAFETY: called first of all, when no value of this process owns such a descriptor yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Ends a forked child at once: no clean-up of what belongs to its parent.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is always sound.
    unsafe { libc::_exit(code) }
}

/// Lets ended children vanish by themselves, or makes them wait to be reaped again.
pub(super) fn reap_nobody(yes: bool) {
    // SAFETY: neither disposition runs any code of ours.
    unsafe { libc::signal(libc::SIGCHLD, if yes { libc::SIG_IGN } else { libc::SIG_DFL }) };
}

/// The memory that `/proc/PID/cmdline` and `/proc/PID/environ` show.
pub(super) struct Room {
    pub(super) line: &'static mut [u8],
    pub(super) environment: &'static mut [u8],
}

impl Room {
    /// Finds it for this process. To be called once; what stood there is lost to whoever looks for it.
    pub(super) fn of_this_process() -> io::Result<Room> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let after = stat.rsplit(") ").next().unwrap_or_default();
        let fields: Vec<usize> = after.split_ascii_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
        // Fields 48 to 51; the first one after the name is field 3.
        let Some(&[line, line_end, environment, environment_end]) = fields.get(45..49) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let area = |from: usize, to: usize| {
            if from == 0 || to < from {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            // SAFETY: the kernel put the words there, in memory that is this process's own and stays mapped
            // and writable as long as it lives. Nothing else refers to it: the shim's own words and its
            // environment are taken from elsewhere before anybody asks for them.
            Ok(unsafe { std::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(from), to - from) })
        };
        Ok(Room { line: area(line, line_end)?, environment: area(environment, environment_end)? })
    }
}

unsafe extern "C" {
    /// The C library's list of this process's variables.
    #[allow(non_upper_case_globals)]
    static mut environ: *const *const libc::c_char;
}

/// Makes these words (each with a NUL after it) the environment of this process.
pub(super) fn set_environment(words: &'static [u8]) {
    let words = words.split_inclusive(|byte| *byte == 0).filter(|word| word.ends_with(&[0]));
    let list: Vec<*const libc::c_char> = words.map(|word| word.as_ptr().cast()).chain([ptr::null()]).collect();
    // SAFETY: this process has a single thread; list and words live as long as it does, and nobody writes to
    // a variable's text in place.
    unsafe { environ = list.leak().as_ptr() };
}

/// Takes a variable out of this process's environment, which is the child's to be.
#[cfg(debug_assertions)]
pub(super) fn take_variable(name: &str) -> Option<std::ffi::OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: this process has a single thread.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// Closes a forked child's copy of a descriptor that its parent goes on using.
pub(super) fn close_copy(fd: &std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd;
    // SAFETY: only called in a forked child that ends by `exit_now` or exec, so that the owner of the
    // descriptor in this copy of the memory is never dropped and never used again.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Sets the soft limit of open files: the daemon raises its own, and a command that uses `select` must not
/// inherit that.
pub(super) fn limit_open_files(soft: u64) -> io::Result<()> {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = Some(limit.maximum.map_or(soft, |hard| soft.min(hard)));
    if limit.current == wanted {
        return Ok(());
    }
    limit.current = wanted;
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?)
}
