//! What `/proc` tells of processes.

use std::fs;

use rustix::process::{Pid, Signal};

pub(crate) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
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

pub(crate) fn all() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The processes whose environment holds every one of these `NAME=value` entries.
pub(crate) fn carrying(marks: &[String]) -> Vec<u32> {
    let carries = |pid: &u32| {
        let Ok(env) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        marks.iter().all(|mark| env.split(|b| *b == 0).any(|entry| entry == mark.as_bytes())) && alive(*pid)
    };
    all().into_iter().filter(carries).collect()
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
