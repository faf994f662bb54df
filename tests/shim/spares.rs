//! Used folders: the next run in one is as good as in a fresh one, and only what nobody needs is used again.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use octo::run::{ClaimFact, Exit, ExitFact, Folded, LockFact, Nursery, RunDir, Spares, Verdict, verdict};
use octo::task::{Status, TaskId};

use crate::world::{World, wait_for};

/// Runs a command in a folder that may be a used one; returns its end and output.
fn run(world: &World, nursery: &mut Nursery, spares: &mut Spares, command: &str) -> (RunDir, Exit, String) {
    let dir = RunDir::new(&world.tasks(), TaskId::random().1, 1);
    // Dropped, its poke socket tells the shim that nobody will save the end: it syncs its own record.
    drop(dir.launch_in(nursery, spares, &world.spec(1, command)).unwrap());
    wait_for("the shim to end", || {
        let facts = dir.facts().unwrap();
        facts.lock == LockFact::Free && matches!(facts.exit, ExitFact::Ended(_))
    });
    let ExitFact::Ended(exit) = dir.facts().unwrap().exit else { unreachable!() };
    let log = fs::read_to_string(dir.log_path()).unwrap();
    (dir, exit, log)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_used_folder_is_as_good_as_a_fresh_one() {
    let world = World::new();
    let mut nursery = Nursery::start(&world.spec(1, "").shim);
    let mut spares = Spares::default();
    let mut folders = Vec::new();
    for n in 0..10 {
        let long = "x".repeat(1000 * (n % 3));
        let (dir, exit, log) = run(&world, &mut nursery, &mut spares, &format!("echo {n}{long}; exit {n}"));
        assert_eq!((exit.code, exit.log_bytes), (Some(i32::try_from(n).unwrap()), log.len() as u64));
        assert_eq!(log, format!("{n}{long}\n"));
        assert!(matches!(dir.facts().unwrap().claim, ClaimFact::Real(_)), "a claim of its own");
        assert_eq!(names(dir.path()), ["claim.json", "exit.json", "lock", "out.log"]);
        folders.push(fs::metadata(dir.path()).unwrap().ino());
        let reader = fs::File::open(dir.log_path()).unwrap();
        assert_eq!(dir.fold_into(&mut spares).unwrap(), Some(Folded::Done));
        assert!(!world.tasks().join(dir.path().parent().unwrap()).exists());
        // Whoever still reads the log reads this run's.
        let open = format!("/proc/self/fd/{}", reader.as_raw_fd());
        assert_eq!(fs::read_to_string(open).unwrap(), log);
    }
    assert!(folders.iter().all(|ino| *ino == folders[0]), "one folder served them all");
    assert!(names(&world.tasks()).is_empty());
    assert_eq!(names(&world.octo().join("spare")).len(), 1);
    octo::run::empty_trash(&world.octo()).unwrap();
    assert!(names(&world.octo().join("spare")).is_empty(), "the next start deletes what is spare");
}

#[test]
fn what_is_held_unusual_or_a_later_run_is_not_used_again() {
    let world = World::new();
    let mut spares = Spares::default();
    let mut shim = world.launch_held("before_exit", "echo out");
    assert_eq!(shim.dir.fold_into(&mut spares).unwrap(), Some(Folded::StillHeld));
    assert_eq!(names(shim.dir.path()).len(), 4);
    shim.send(octo::run::Signal::CONT);
    shim.end();
    fs::write(shim.dir.path().join("note"), "somebody's").unwrap();
    assert_eq!(shim.dir.fold_into(&mut spares).unwrap(), None);
    fs::remove_file(shim.dir.path().join("note")).unwrap();
    let mut second = world.launch_spec(2, &world.spec(2, "echo 2"));
    second.end();
    assert_eq!(shim.dir.fold_into(&mut spares).unwrap(), None, "there is another run");
    assert_eq!(second.dir.fold_into(&mut spares).unwrap(), None);
    assert_eq!(second.dir.fold(false).unwrap(), Folded::Done);
    assert_eq!(shim.dir.fold_into(&mut spares).unwrap(), Some(Folded::Done));
}

#[test]
fn the_end_of_another_run_counts_as_none() {
    let world = World::new();
    let mut shim = world.launch("exit 0");
    shim.end();
    let other = RunDir::new(&world.tasks(), TaskId::random().1, 1);
    fs::create_dir_all(other.path()).unwrap();
    // As a power cut might leave a folder that was just used again.
    for name in ["lock", "claim.json", "exit.json"] {
        fs::copy(shim.dir.path().join(name), other.path().join(name)).unwrap();
    }
    let facts = other.facts().unwrap();
    assert_eq!(facts.exit, ExitFact::None);
    let judged = verdict(Status::Dispatched, false, &facts, std::time::Duration::ZERO);
    assert!(matches!(judged, Verdict::CutOff(_)), "{judged:?}");
}

#[test]
fn spares_that_somebody_tidied_away_are_forgotten() {
    let world = World::new();
    let mut nursery = Nursery::start(&world.spec(1, "").shim);
    let mut spares = Spares::default();
    // More often than there is room for spares.
    for _ in 0..20 {
        let (dir, _, log) = run(&world, &mut nursery, &mut spares, "echo fresh");
        assert_eq!(log, "fresh\n");
        assert_eq!(dir.fold_into(&mut spares).unwrap(), Some(Folded::Done));
        assert_eq!(names(&world.octo().join("spare")).len(), 1);
        fs::remove_dir_all(world.octo().join("spare")).unwrap();
    }
}
