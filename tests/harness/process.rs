//! What `/proc` tells of processes.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Sends a signal to a process that cannot have ended unseen: one of the test's own children, or one that
/// a process which still lives has not reaped. For all others there is [`signal_if`].
pub(crate) fn kill(pid: u32, signal: Signal) {
    signal_if(pid, signal, || true);
}

/// Sends a signal to the process that has this number, if `still` holds after the process was taken hold of:
/// a number is used again within moments, and nobody else's process must be hit.
pub(crate) fn signal_if(pid: u32, signal: Signal, still: impl FnOnce() -> bool) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Ok(held) = pidfd_open(pid, PidfdFlags::empty())
        && still()
    {
        let _ = pidfd_send_signal(&held, signal);
    }
}

/// The letter of its state; `None` when it is gone.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

pub(crate) fn alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// When it started, in ticks since boot (field 22 of its `stat`).
pub(crate) fn start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()
}

pub(crate) fn all() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The processes whose environment holds every one of these `NAME=value` entries.
pub(crate) fn carrying(marks: &[String]) -> Vec<u32> {
    all().into_iter().filter(|pid| carries(*pid, marks) && alive(*pid)).collect()
}

/// Whether its environment holds every one of these entries.
pub(crate) fn carries(pid: u32, marks: &[String]) -> bool {
    let Ok(env) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    marks.iter().all(|mark| env.split(|b| *b == 0).any(|entry| entry == mark.as_bytes()))
}

/// Signals every process that carries these entries, but the test itself; tells how many it found.
pub(crate) fn signal_carrying(marks: &[String], signal: Signal) -> usize {
    let mut found = carrying(marks);
    found.retain(|pid| *pid != std::process::id());
    for pid in &found {
        signal_if(*pid, signal, || carries(*pid, marks));
    }
    found.len()
}

/// The words of its command line.
pub(crate) fn cmdline(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// A line of `/proc/<pid>/<file>` such as `VmRSS:` or `Pss:`, in KiB.
pub(crate) fn kib(pid: u32, file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or("0");
    line.trim_start_matches(':').split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The memory that is this process's own, in KiB.
pub(crate) fn private_kib(pid: u32) -> u64 {
    kib(pid, "smaps_rollup", "Private_Clean:") + kib(pid, "smaps_rollup", "Private_Dirty:")
}
