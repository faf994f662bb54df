//! The files of an agent: `tasks/<id>/` with its journal, `run-N/out.log` with the transcript of each run, and
//! `calls/<n>/run-1/` with the runs of its shell calls, each under a shim of its own.
//!
//! A transcript is nobody's output: there is no lock and no claim beside it. When the agent has ended, its
//! transcripts are put where the logs of processes are, and the folders of its calls go; what the last call left stays,
//! since a later run may have to find out what became of it. The journal stays until the task is removed.

use std::fs;
use std::io;
use std::path::Path;

use super::dir::{RunDir, sync_dir};
use super::fold::{Folded, delete_folder, is_held, names, rename_if_there, run_folders, trash_name, trash_place};
use crate::task::TaskId;

/// The folder of an agent's shell calls, in the task's folder.
pub const CALLS: &str = "calls";

/// Folds the files of an ended agent away. May be repeated after a crash at any point.
///
/// # Errors
/// When something cannot be moved or deleted; what is left stands where the next try finds it.
pub fn fold_agent(tasks: &Path, id: TaskId) -> io::Result<Folded> {
    let folder = tasks.join(id.as_str());
    let calls = folder.join(CALLS);
    if is_held(&calls)? {
        return Ok(Folded::StillHeld);
    }
    for run in run_folders(tasks, id)? {
        let dir = RunDir::new(tasks, id, run);
        let written = fs::symlink_metadata(dir.log_path()).is_ok_and(|log| log.len() > 0);
        if dir.fold(written)? == Folded::StillHeld {
            return Ok(Folded::StillHeld);
        }
    }
    let mut numbers: Vec<u32> = names(&calls)?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.pop();
    for number in numbers {
        let trash = trash_place(tasks, &trash_name(&format!("{id}.call-{number}")))?;
        if rename_if_there(&calls.join(number.to_string()), &trash)? {
            delete_folder(&trash)?;
        }
    }
    Ok(Folded::Done)
}

/// Puts the transcript of a run that goes on back where it is written; without one there is nothing to do.
///
/// # Errors
/// When it cannot be moved.
pub fn unfold_agent(tasks: &Path, id: TaskId, run: u32) -> io::Result<()> {
    let dir = RunDir::new(tasks, id, run);
    if !dir.kept_log_path().exists() || dir.log_path().exists() {
        return Ok(());
    }
    fs::create_dir_all(dir.path())?;
    rename_if_there(&dir.kept_log_path(), &dir.log_path())?;
    sync_dir(dir.path())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use super::*;
    use crate::run::remove_task_files;

    fn world() -> (tempfile::TempDir, std::path::PathBuf, TaskId) {
        let dir = tempfile::tempdir().unwrap();
        let tasks = dir.path().join("tasks");
        let id: TaskId = "ab12cd34".parse().unwrap();
        let folder = tasks.join(id.as_str());
        for call in [2, 9, 10] {
            fs::create_dir_all(folder.join(format!("{CALLS}/{call}/run-1"))).unwrap();
            fs::write(folder.join(format!("{CALLS}/{call}/run-1/lock")), "").unwrap();
            fs::write(folder.join(format!("{CALLS}/{call}/run-1/out.log")), "x").unwrap();
        }
        fs::create_dir_all(folder.join("run-1")).unwrap();
        fs::create_dir_all(folder.join("run-2")).unwrap();
        fs::write(folder.join("run-1/out.log"), "I think.\n").unwrap();
        fs::write(folder.join("run-2/out.log"), "").unwrap();
        fs::write(folder.join("journal.jsonl"), "{}\n").unwrap();
        (dir, tasks, id)
    }

    #[test]
    fn the_transcript_is_kept_and_the_journal_stays() {
        let (_dir, tasks, id) = world();
        for _ in 0..2 {
            assert_eq!(fold_agent(&tasks, id).unwrap(), Folded::Done);
            assert_eq!(fs::read_to_string(tasks.join("ab12cd34.run-1.log")).unwrap(), "I think.\n");
            assert!(!tasks.join("ab12cd34.run-2.log").exists(), "nothing was written in the second run");
            let folder = tasks.join("ab12cd34");
            assert!(folder.join("journal.jsonl").exists() && !folder.join("run-1").exists());
            assert_eq!(names(&folder.join(CALLS)).unwrap(), ["10"], "what the last call left may be needed yet");
        }
        unfold_agent(&tasks, id, 1).unwrap();
        unfold_agent(&tasks, id, 1).unwrap();
        let log = RunDir::new(&tasks, id, 1).log_path();
        let mut more = OpenOptions::new().append(true).open(&log).unwrap();
        io::Write::write_all(&mut more, b"I go on.\n").unwrap();
        assert_eq!(fold_agent(&tasks, id).unwrap(), Folded::Done);
        assert_eq!(fs::read_to_string(tasks.join("ab12cd34.run-1.log")).unwrap(), "I think.\nI go on.\n");
        assert_eq!(remove_task_files(&tasks, id).unwrap(), Folded::Done);
        assert_eq!(names(&tasks).unwrap(), Vec::<std::ffi::OsString>::new());
    }

    #[test]
    fn a_call_that_still_runs_holds_everything_up() {
        let (_dir, tasks, id) = world();
        let lock = tasks.join("ab12cd34/calls/9/run-1/lock");
        let held = File::options().read(true).write(true).open(lock).unwrap();
        crate::run::dir::take_lock(&held).unwrap();
        for folded in [fold_agent(&tasks, id), remove_task_files(&tasks, id)] {
            assert_eq!(folded.unwrap(), Folded::StillHeld);
        }
        assert!(tasks.join("ab12cd34/calls/2").exists());
        drop(held);
        assert_eq!(fold_agent(&tasks, id).unwrap(), Folded::Done);
    }
}
