//! What should not be there: temp files, records set aside, runs without a record, processes without a shim.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use serde::Deserialize;

use super::Finding;
use crate::task::TaskId;
use crate::trust::read_bounded;
use crate::workspace::{Workspace, is_locked};

/// A younger temp file is being written.
const OLD: Duration = Duration::from_secs(60);

/// A longer record is none.
const RECORD_MAX: u64 = 4 << 20;

pub(super) fn all(ws: &Workspace) -> Vec<Finding> {
    let found = [temp_files(ws), quarantined(ws), stray_folders(ws), processes(ws)];
    let found: Vec<Finding> = found.into_iter().flatten().collect();
    if found.is_empty() { vec![Finding::ok("nothing was left behind")] } else { found }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn temp_files(ws: &Workspace) -> Option<Finding> {
    let is_old = |path: &Path| {
        let age = fs::symlink_metadata(path).and_then(|m| m.modified()).ok();
        age.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > OLD)
    };
    let of = |dir: PathBuf| {
        let temp = |n: &String| n.starts_with('.') && n.ends_with(".tmp") && is_old(&dir.join(n));
        names(&dir).into_iter().filter(temp).count()
    };
    let count = of(ws.octo.clone()) + of(ws.octo.join("tasks"));
    (count > 0).then(|| {
        let what = format!("{count} temp file(s) of writes that were cut off");
        Finding::warn(what, "harmless; the daemon removes its own when it starts: `octo stop`, then any command")
    })
}

fn quarantined(ws: &Workspace) -> Option<Finding> {
    let dir = ws.octo.join("quarantine");
    let names = names(&dir);
    let first = names.first()?;
    Some(Finding::warn(
        format!("{} file(s) that could not be read were set aside, such as {first}", names.len()),
        format!("they are kept as they were in {}; repair and move back, or remove them", dir.display()),
    ))
}

fn stray_folders(ws: &Workspace) -> Option<Finding> {
    let tasks = ws.octo.join("tasks");
    let stray = |n: &String| {
        n.parse::<TaskId>().is_ok()
            && tasks.join(n).is_dir()
            && fs::symlink_metadata(tasks.join(format!("{n}.json"))).is_err()
    };
    let strays: Vec<String> = names(&tasks).into_iter().filter(stray).collect();
    let first = strays.first()?;
    Some(Finding::warn(
        format!("{} task folder(s) without a record, such as {first}", strays.len()),
        format!(
            "look in {} for the record; if nobody misses it, remove the folder",
            ws.octo.join("quarantine").display()
        ),
    ))
}

/// Processes that say they belong to a run of this workspace whose shim is gone.
fn processes(ws: &Workspace) -> Option<Finding> {
    let all = names(Path::new("/proc")).into_iter().filter_map(|n| n.parse::<i32>().ok());
    let mut tasks = BTreeSet::new();
    let mut pids = Vec::new();
    for pid in all {
        let Some(run) = fs::read(format!("/proc/{pid}/environ")).ok().and_then(|e| run_in(&e, ws)) else { continue };
        if !run.is_guarded(ws) && !run.may_stay(ws) {
            tasks.insert(run.task);
            pids.push(pid.to_string());
        }
    }
    (!pids.is_empty()).then(|| {
        let tasks: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        Finding::warn(
            format!("processes of task {} go on without their shim: {}", tasks.join(", "), pids.join(" ")),
            "the daemon ends them when it next judges the run; if they stay: kill -9 with these numbers",
        )
    })
}

/// A run, as the environment of a process names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) task: TaskId,
    pub(super) run: u32,
}

/// Reads an environment block; `None` unless it names a run of this workspace.
pub(super) fn run_in(environ: &[u8], ws: &Workspace) -> Option<Run> {
    let value = |name: &str| {
        let entry = |e: &[u8]| e.strip_prefix(name.as_bytes()).and_then(|r| r.strip_prefix(b"=")).map(<[u8]>::to_vec);
        environ.split(|b| *b == 0).find_map(entry)
    };
    let text = |name: &str| value(name).and_then(|v| String::from_utf8(v).ok());
    if value("OCTO_WORKSPACE")? != ws.root.as_os_str().as_bytes() {
        return None;
    }
    Some(Run { task: text("OCTO_TASK_ID")?.parse().ok()?, run: text("OCTO_RUN")?.parse().ok()? })
}

impl Run {
    /// Whether its shim lives: it holds the run's lock. A lock that cannot be asked counts as held.
    fn is_guarded(&self, ws: &Workspace) -> bool {
        let lock = ws.octo.join(format!("tasks/{}/run-{}/lock", self.task, self.run));
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match File::options().read(true).custom_flags(flags.bits()).open(lock) {
            Ok(file) => is_locked(&file).unwrap_or(true),
            Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Whether its owner said `--leave-children`.
    fn may_stay(&self, ws: &Workspace) -> bool {
        #[derive(Deserialize)]
        struct Part {
            #[serde(default)]
            leave_children: bool,
        }
        let record = read_bounded(&ws.octo.join(format!("tasks/{}.json", self.task)), RECORD_MAX);
        record.ok().and_then(|r| serde_json::from_slice::<Part>(&r).ok()).is_some_and(|p| p.leave_children)
    }
}
