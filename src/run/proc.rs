//! What `/proc` tells about processes: start times, parents, groups, children, environments.
//!
//! A process number alone names nothing, since numbers are used again within milliseconds. Whoever
//! sends a signal opens a pidfd first, looks at the process again, and then signals through the pidfd.

use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::OnceLock;

use super::dir::is_shortage;

/// What one line of `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) threads: u32,
    pub(crate) start: u64,
}

impl Stat {
    /// Reads the process `pid`; `None` when there is none, or when it cannot be read just now.
    pub(crate) fn of(pid: i32) -> Option<Stat> {
        Stat::read(pid).ok().flatten()
    }

    /// Reads the process `pid`; `None` when there is none, or none that this user may see.
    ///
    /// # Errors
    /// When this process is short of descriptors or memory: that says nothing about the other one.
    pub(crate) fn read(pid: i32) -> io::Result<Option<Stat>> {
        // The kernel hands the line out whole, and it is never as long as this.
        let mut line = [0; 1024];
        let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut line));
        Ok(unless_short(read)?.and_then(|n| Stat::parse(line.get(..n)?)))
    }

    /// The name (field 2) may hold spaces and brackets, so fields are counted from the last bracket on.
    fn parse(line: &[u8]) -> Option<Stat> {
        let after = line.iter().rposition(|b| *b == b')')? + 2;
        let text = std::str::from_utf8(line.get(after..)?).ok()?;
        let field = |n: usize| text.split_ascii_whitespace().nth(n - 3);
        Some(Stat {
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
        })
    }

    /// Tells whether nothing of the process runs any more. A leader that ended while its other threads
    /// go on also shows as a zombie, but with more than one thread.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// The start time of a process, in clock ticks since boot (field 22 of `/proc/PID/stat`); `None` when
/// no such process exists. With the boot id it tells apart two processes that had the same number.
#[must_use]
pub fn proc_start(pid: i32) -> Option<u64> {
    Stat::of(pid).map(|s| s.start)
}

/// The id of this boot of the machine.
///
/// # Errors
/// When `/proc` is not mounted or cannot be read.
pub fn boot_id() -> io::Result<String> {
    // No process lives longer than its boot.
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(id) = KNOWN.get() {
        return Ok(id.clone());
    }
    let mut text = [0; 64];
    let n = File::open("/proc/sys/kernel/random/boot_id")?.read(&mut text)?;
    let id = String::from_utf8_lossy(text.get(..n).unwrap_or_default()).trim_end().to_owned();
    Ok(KNOWN.get_or_init(|| id).clone())
}

/// Every process number there is now.
pub(crate) fn all() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The children of all threads of `pid`, zombies included; empty when it is gone.
///
/// The list of one's own children is exact, because nobody else can reap them. Kernels built without
/// these lists are served by a walk over all processes.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|w| w.parse::<i32>().ok())),
            Err(_) if thread.path().exists() => return children_by_walk(pid),
            Err(_) => {}
        }
    }
    found
}

/// The children of this process, which has a single thread; exact, and one short read.
pub(crate) fn own_children() -> Vec<i32> {
    // Room for a few at once; nobody needs to ask how long the list is.
    let mut list = Vec::with_capacity(256);
    match File::open("/proc/thread-self/children").and_then(|file| file.take(u64::MAX).read_to_end(&mut list)) {
        Ok(_) => String::from_utf8_lossy(&list).split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect(),
        Err(_) => children(std::process::id() as i32),
    }
}

fn children_by_walk(pid: i32) -> Vec<i32> {
    let is_child = |p: &i32| Stat::of(*p).is_some_and(|s| s.parent == pid);
    all().unwrap_or_default().into_iter().filter(is_child).collect()
}

/// The environment of `pid`: its entries, each ended by a zero byte; `None` when the process is gone. It is empty
/// for a zombie, in the middle of an exec, and where this user may not look.
///
/// # Errors
/// When this process is short of descriptors or memory.
pub(crate) fn environment(pid: i32) -> io::Result<Option<Vec<u8>>> {
    match fs::read(format!("/proc/{pid}/environ")) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(Some(Vec::new())),
        read => unless_short(read),
    }
}

/// Tells whether an environment holds every entry (`NAME=value`) of `wanted`.
pub(crate) fn holds(environment: &[u8], wanted: &[Vec<u8>]) -> bool {
    wanted.iter().all(|w| environment.split(|b| *b == 0).any(|entry| entry == w))
}

/// What was read of another process; `None` when it cannot be read because of that process.
///
/// # Errors
/// When it cannot be read because of this one.
pub(crate) fn unless_short<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_shortage(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) b (c) Z 7 9 9 0 -1 4 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { state: b'Z', parent: 7, group: 9, threads: 3, start: 4711 });
        assert!(!stat.is_dead(), "two other threads go on");
        assert!(Stat { threads: 1, ..stat }.is_dead());
        for junk in [&b""[..], b"42", b"42 (cut", b"42 (x)", b"42 (x) S", b"42 (x) S seven"] {
            assert_eq!(Stat::parse(junk), None);
        }
    }

    #[test]
    fn this_process_is_found_and_no_process_has_number_zero() {
        let me = std::process::id() as i32;
        assert!(proc_start(me).is_some());
        assert_eq!(proc_start(0), None);
        assert!(all().unwrap().contains(&me));
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn both_ways_to_find_children_agree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (me, pid) = (std::process::id() as i32, child.id() as i32);
        assert!(children(me).contains(&pid) && children_by_walk(me).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(me).contains(&pid));
    }
}
