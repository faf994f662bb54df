//! Looking at processes through `/proc`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub(crate) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// `S`, `R`, `T`, `Z`, ...; `None` when there is no such process.
pub(crate) fn state(pid: i32) -> Option<char> {
    fields(pid)?.first()?.chars().next()
}

pub(crate) fn alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

pub(crate) fn stopped(pid: i32) -> bool {
    matches!(state(pid), Some('T' | 't'))
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    fields(pid)?.get(1)?.parse().ok()
}

pub(crate) fn ancestors(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut at = pid;
    while let Some(up) = parent(at).filter(|p| *p > 0 && !found.contains(p)) {
        found.push(up);
        at = up;
    }
    found
}

pub(crate) fn words(pid: i32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}

pub(crate) fn program(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Processes that carry `NAME=value` in their environment; the dead do not count.
pub(crate) fn with_variable(name: &str, value: &[u8]) -> Vec<i32> {
    all().into_iter().filter(|pid| has_variable(*pid, name, value) && alive(*pid)).collect()
}

pub(crate) fn has_variable(pid: i32, name: &str, value: &[u8]) -> bool {
    let entry = [name.as_bytes(), b"=", value].concat();
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| env.split(|b| *b == 0).any(|e| e == entry))
}

/// Daemons of the workspace, by their command line: `octod ... --workspace ROOT ...`.
pub(crate) fn daemons(workspace: &Path) -> Vec<i32> {
    all().into_iter().filter(|pid| is_daemon(*pid, workspace)).collect()
}

pub(crate) fn is_daemon(pid: i32, workspace: &Path) -> bool {
    let root = workspace.as_os_str().as_bytes();
    program(pid) == "octod"
        && words(pid).iter().any(|w| w == root)
        && !words(pid).iter().any(|w| w == b"--detach")
        && alive(pid)
}

/// Shims that are below the workspace, by their command line: `octo-shim RUNDIR ...`.
pub(crate) fn shims(workspace: &Path) -> Vec<i32> {
    all().into_iter().filter(|pid| is_shim(*pid, workspace)).collect()
}

pub(crate) fn is_shim(pid: i32, workspace: &Path) -> bool {
    let root = workspace.join(".octo");
    let root = root.as_os_str().as_bytes();
    program(pid) == "octo-shim" && words(pid).get(1).is_some_and(|dir| dir.starts_with(root)) && alive(pid)
}

/// The shim of a task, not the child that it has just forked.
pub(crate) fn shim_of(workspace: &Path, id: &str) -> Option<i32> {
    let shims = shims(workspace);
    let of_task = |pid: &&i32| {
        let dir = words(**pid).get(1).cloned().unwrap_or_default();
        dir.windows(id.len()).any(|w| w == id.as_bytes())
    };
    shims.iter().filter(of_task).find(|pid| !parent(**pid).is_some_and(|up| shims.contains(&up))).copied()
}

/// What is above this process: shims of the workspace among its ancestors.
pub(crate) fn shims_above(pid: i32, workspace: &Path) -> Vec<i32> {
    let shims = shims(workspace);
    ancestors(pid).into_iter().filter(|up| shims.contains(up)).collect()
}

/// Sends a signal to a process that cannot have ended unseen, such as a child; false when it is gone. For
/// all others there is [`signal_if`].
pub(crate) fn signal(pid: i32, signal: Signal) -> bool {
    signal_if(pid, signal, || true)
}

/// Sends a signal to the process that has this number, if `still` holds after the process was taken hold of:
/// a number is used again within moments, and nobody else's process must be hit. False: nothing was sent.
pub(crate) fn signal_if(pid: i32, signal: Signal, still: impl FnOnce() -> bool) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    still() && pidfd_send_signal(held, signal).is_ok()
}

pub(crate) fn describe(pid: i32) -> String {
    let words: Vec<String> = words(pid).iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    format!("{pid} ({}) {:?} {}", program(pid), state(pid), words.join(" "))
}
