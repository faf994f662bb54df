//! Finds out whether this process runs below a shim of a workspace.
//!
//! The environment usually tells (`OCTO_TASK_ID`), but a task may have cleared it. A shim is a
//! subreaper: whatever its task does to detach stays below it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// More ancestors than any real process has: a bound against a `/proc` that changes underfoot.
const DEEPEST: usize = 4096;

/// Tells whether one of this process's ancestors is an `octo-shim` of a run in this `.octo/`.
pub(super) fn below_shim_of(octo: &Path) -> bool {
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..DEEPEST {
        if pid <= 1 {
            return false;
        }
        if is_shim_of(pid, octo) {
            return true;
        }
        match parent_of(pid) {
            Some(parent) => pid = parent,
            None => return false,
        }
    }
    false
}

fn is_shim_of(pid: u32, octo: &Path) -> bool {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.starts_with(b"octo-shim")
        && shim_arguments_name(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(), octo)
}

/// A shim is called with its run folder.
fn shim_arguments_name(cmdline: &[u8], octo: &Path) -> bool {
    cmdline.split(|b| *b == 0).skip(1).any(|word| Path::new(OsStr::from_bytes(word)).starts_with(octo))
}

/// The parent in `/proc/PID/stat`; the name before it may hold spaces and parentheses.
fn parent_of(pid: u32) -> Option<u32> {
    parse_parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parse_parent("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parse_parent("12 (sh) R 1 12"), Some(1));
        assert_eq!(parse_parent("junk"), None);
        assert_eq!(parent_of(std::process::id()), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn only_a_run_of_this_workspace_counts() {
        let octo = Path::new("/w/.octo");
        assert!(shim_arguments_name(b"octo-shim\0/w/.octo/tasks/c4b1e09a/run-1\0", octo));
        assert!(!shim_arguments_name(b"octo-shim\0/other/.octo/tasks/c4b1e09a/run-1\0", octo));
        assert!(!shim_arguments_name(b"octo-shim\0/w/.octopus/tasks\0", octo));
        assert!(!below_shim_of(Path::new("/nowhere/.octo")));
    }
}
