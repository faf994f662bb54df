//! The place that the workspace lies in: its folder, its file system, its disk, its locks.

use std::io;

use rustix::fs::{Access, StatVfs, access, statfs, statvfs};

use super::Finding;
use crate::workspace::{Workspace, is_locked, try_lock};

/// Below this much free space no new task starts.
const FREE_LEAST: u64 = 64 << 20;

/// The workspace's own finding; as an error when nothing inside may be looked at.
pub(super) fn workspace(ws: &Workspace) -> Result<Finding, Finding> {
    match ws.check() {
        Ok(true) => Ok(Finding::ok(format!("the workspace is {}", ws.root.display()))),
        Ok(false) if access(&ws.root, Access::WRITE_OK | Access::EXEC_OK).is_ok() => {
            Ok(Finding::ok(format!("{} is no workspace yet; its first use makes it one", ws.root.display())))
        }
        Ok(false) => Err(Finding::error(
            format!("{} is no workspace, and .octo/ cannot be made there", ws.root.display()),
            "go to a folder that you can write to, or name one with `--workspace`",
        )),
        Err(refused) => Err(Finding::error(refused.message, refused.hint)),
    }
}

/// The file system and its free space.
pub(super) fn disk(ws: &Workspace) -> Vec<Finding> {
    let at = if ws.octo.exists() { &ws.octo } else { &ws.root };
    let mut findings = Vec::new();
    match statfs(at) {
        #[allow(clippy::unnecessary_cast, reason = "the type of f_type differs between architectures")]
        Ok(s) => findings.push(file_system(s.f_type as u64 & 0xffff_ffff)),
        Err(e) => findings.push(Finding::error(format!("the file system cannot be asked: {e}"), "check the mount")),
    }
    match statvfs(at) {
        Ok(s) => findings.push(free_space(&s)),
        Err(e) => findings.push(Finding::error(format!("the free space cannot be told: {e}"), "check the mount")),
    }
    findings
}

/// Judges a file system by its magic number (`statfs(2)`).
pub(super) fn file_system(magic: u64) -> Finding {
    let network = "locks and synced writes may not hold there; put the workspace on a local disk";
    let (name, hint) = match magic {
        0x6969 => ("NFS", network),
        0x6573_5546 => ("FUSE", network),
        0x0102_1997 => ("9p", network),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => ("SMB", network),
        0x00c3_6400 => ("Ceph", network),
        0x5346_414f => ("AFS", network),
        0x4d44 | 0x2011_bab0 => ("FAT", "it keeps no file rights; put the workspace on a native Linux disk"),
        0x794c_7630 => ("overlay", "in a container the records go away with it; mount a volume for the workspace"),
        0x0102_1994 | 0x8584_58f6 => ("tmpfs", "records there are lost at the next reboot; use a disk to keep them"),
        _ => return Finding::ok("the workspace lies on a local disk"),
    };
    Finding::warn(format!("the workspace lies on {name}"), hint)
}

/// Judges the free space as the daemon does: below 64 MiB or 1 % no new task starts.
pub(super) fn free_space(s: &StatVfs) -> Finding {
    let free = s.f_bavail.saturating_mul(s.f_frsize);
    let all = s.f_blocks.saturating_mul(s.f_frsize);
    let mib = free >> 20;
    if free < FREE_LEAST || free < all / 100 {
        Finding::error(
            format!("{mib} MiB of disk are free: no new task starts below 64 MiB or 1 %"),
            "free some space; `octo task ID rm` removes an ended task with its log",
        )
    } else {
        Finding::ok(format!("{mib} MiB of disk are free"))
    }
}

/// Tries whether locks do what the design needs them to do.
pub(super) fn locks(ws: &Workspace) -> Option<Finding> {
    if !ws.octo.is_dir() {
        return None;
    }
    let hint = "put the workspace on a file system with working locks: liveness of tasks is a lock";
    Some(match locks_exclude(ws) {
        Ok(true) => Finding::ok("locks work here"),
        Ok(false) => Finding::error("locks do not keep others out here", hint),
        Err(e) => Finding::error(format!("locks could not be tried: {e}"), hint),
    })
}

fn locks_exclude(ws: &Workspace) -> io::Result<bool> {
    let scratch = tempfile::Builder::new().prefix(".doctor.").suffix(".tmp").tempfile_in(&ws.octo)?;
    let other = scratch.reopen()?;
    let free = !is_locked(&other)?;
    let taken = try_lock(scratch.as_file())?;
    Ok(free && taken && is_locked(&other)? && !try_lock(&other)?)
}
