//! Folding away: nothing that is held goes, and a crash at any point is made good by doing it again.

use std::fs;
use std::path::Path;
use std::process::Command;

use octo::run::{ExitFact, Folded, LockFact, RunDir, Signal, empty_trash, remove_task_files, run_folders};

use crate::world::{World, stopped, wait_exit, wait_for};

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_run_is_folded_away_and_its_log_kept() {
    let world = World::new();
    let mut shim = world.launch("echo kept");
    shim.end();
    assert_eq!(run_folders(&world.tasks(), world.id).unwrap(), [1]);
    assert_eq!(shim.dir.fold(true).unwrap(), Folded::Done);
    assert_eq!(fs::read_to_string(shim.dir.kept_log_path()).unwrap(), "kept\n");
    assert_eq!(count(&world.tasks()), 1, "only the log is left");
    assert_eq!(count(&world.octo().join("trash")), 0);
    assert_eq!(shim.dir.fold(true).unwrap(), Folded::Done, "again is no error");
    assert_eq!(fs::read_to_string(shim.dir.kept_log_path()).unwrap(), "kept\n");
    assert!(run_folders(&world.tasks(), world.id).unwrap().is_empty());
}

#[test]
fn without_the_log_nothing_is_left() {
    let world = World::new();
    let mut shim = world.launch("echo gone");
    shim.end();
    assert_eq!(shim.dir.fold(false).unwrap(), Folded::Done);
    assert_eq!(count(&world.tasks()), 0);
}

#[test]
fn a_run_whose_lock_is_held_stays() {
    let world = World::new();
    for point in ["before_lock", "before_claim", "before_exit"] {
        let world = World::new();
        let mut shim = world.launch_held(point, "echo out");
        let before = count(shim.dir.path());
        assert_eq!(shim.dir.fold(true).unwrap(), Folded::StillHeld, "{point}");
        assert_eq!(remove_task_files(&world.tasks(), world.id).unwrap(), Folded::StillHeld, "{point}");
        assert_eq!(count(shim.dir.path()), before, "{point}");
        shim.send(Signal::CONT);
        assert_eq!(shim.end().code, Some(0));
        assert_eq!(shim.dir.fold(false).unwrap(), Folded::Done);
    }
    drop(world);
}

#[test]
fn removing_a_task_takes_all_runs_and_logs_and_nothing_of_others() {
    let world = World::new();
    world.launch("echo 1").end();
    world.launch_spec(2, &world.spec(2, "echo 2")).end();
    world.run(1).fold(true).unwrap();
    fs::create_dir_all(world.run(2).path().join("deeper")).unwrap();
    fs::write(world.tasks().join(format!("{}/journal.jsonl", world.id)), "x").unwrap();
    let foreign = [format!("{}.json", world.id), "a0000000.run-1.log".to_owned()];
    for name in &foreign {
        fs::write(world.tasks().join(name), "stays").unwrap();
    }
    for _ in 0..2 {
        assert_eq!(remove_task_files(&world.tasks(), world.id).unwrap(), Folded::Done);
        assert_eq!(count(&world.tasks()), foreign.len());
        assert_eq!(count(&world.octo().join("trash")), 0);
    }
}

/// Not a test by itself: what [`a_fold_that_is_cut_short_is_finished_later`] runs in a process of its own.
#[test]
fn fold_in_a_process_of_its_own() {
    let Some(tasks) = std::env::var_os("TEST_FOLD_TASKS") else { return };
    let id = std::env::var("TEST_FOLD_ID").unwrap().parse().unwrap();
    RunDir::new(Path::new(&tasks), id, 1).fold(true).unwrap();
}

#[test]
fn a_fold_that_is_cut_short_is_finished_later() {
    for finish in [false, true] {
        let world = World::new();
        let mut shim = world.launch("echo kept");
        shim.end();
        let mut folder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "clean_up::fold_in_a_process_of_its_own"])
            .env("OCTO_HOLD", "fold")
            .env("TEST_FOLD_TASKS", world.tasks())
            .env("TEST_FOLD_ID", world.id.as_str())
            .spawn()
            .unwrap();
        wait_for("the fold to hold", || stopped(folder.id() as i32));
        let trash = world.octo().join("trash");
        assert_eq!(count(&trash), 1);
        assert_eq!(fs::read_to_string(shim.dir.kept_log_path()).unwrap(), "kept\n");
        let facts = shim.facts();
        assert_eq!((facts.folder, facts.lock, facts.exit), (false, LockFact::Free, ExitFact::None));
        if finish {
            let pid = rustix::process::Pid::from_raw(folder.id() as i32).unwrap();
            rustix::process::kill_process(pid, Signal::CONT).unwrap();
            assert_eq!(wait_exit(&mut folder), Some(0));
        } else {
            folder.kill().unwrap();
            wait_exit(&mut folder);
            assert_eq!(shim.dir.fold(true).unwrap(), Folded::Done);
            empty_trash(&world.octo()).unwrap();
        }
        assert_eq!(count(&trash), 0);
        assert_eq!(count(&world.tasks()), 1, "the log, and no empty folder");
        assert_eq!(fs::read_to_string(shim.dir.kept_log_path()).unwrap(), "kept\n");
    }
}

#[test]
fn a_fold_goes_on_from_every_line_it_may_have_reached() {
    let world = World::new();
    world.launch("echo kept").end();
    let dir = world.run(1);
    let again = || assert_eq!(dir.fold(true).unwrap(), Folded::Done);
    fs::rename(dir.log_path(), dir.kept_log_path()).unwrap(); // cut after the log was moved
    again();
    assert_eq!(fs::read_to_string(dir.kept_log_path()).unwrap(), "kept\n");
    fs::create_dir(world.tasks().join(world.id.as_str())).unwrap(); // cut before the empty folder went
    again();
    assert_eq!(count(&world.tasks()), 1);
    let trash = world.octo().join("trash/half");
    fs::create_dir(&trash).unwrap(); // cut in the middle of the deletion: only what goes last is there
    fs::write(trash.join("claim.json"), "{}").unwrap();
    fs::write(trash.join("lock"), "").unwrap();
    fs::write(world.octo().join("trash/stray"), "").unwrap();
    empty_trash(&world.octo()).unwrap();
    empty_trash(&world.octo()).unwrap();
    assert_eq!(count(&world.octo().join("trash")), 0);
}

#[test]
fn the_trash_keeps_a_folder_whose_lock_is_held() {
    let world = World::new();
    let mut shim = world.launch_held("before_exit", "exit 1");
    let trash = world.octo().join("trash");
    fs::create_dir(&trash).unwrap();
    fs::rename(shim.dir.path(), trash.join("odd")).unwrap();
    empty_trash(&world.octo()).unwrap();
    assert_eq!(count(&trash), 1);
    shim.send(Signal::CONT);
    assert_eq!(shim.exit_code(), Some(0));
    assert!(trash.join("odd/exit.json").exists(), "the shim wrote where its folder went");
    empty_trash(&world.octo()).unwrap();
    assert_eq!(count(&trash), 0);
}
