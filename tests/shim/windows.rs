//! The windows in which a kill or a delay would do harm, held open one by one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use octo::run::{ClaimFact, ExitFact, ExitReason, Facts, LockFact, Signal, Verdict, verdict};
use octo::task::Status;

use crate::world::{Shim, World, alive, stopped, wait_exit, wait_for};

fn judge(status: Status, stop: bool, facts: &Facts) -> Verdict {
    verdict(status, stop, facts, Duration::ZERO)
}

/// The waiting child of a shim that is held before its claim.
fn waiting_child(shim: &Shim) -> i32 {
    let list = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.pid())).unwrap();
    list.trim().parse().unwrap()
}

#[test]
fn the_lock_is_held_from_before_the_launch_returns_until_the_shim_is_gone() {
    let world = World::new();
    for point in ["before_lock", "before_claim", "before_exit"] {
        let world = World::new();
        let mut shim = world.launch_held(point, "exit 2");
        assert_eq!(shim.facts().lock, LockFact::Held, "{point}");
        shim.send(Signal::CONT);
        assert_eq!(shim.end().code, Some(2), "{point}");
    }
    let shim = world.launch("true");
    assert!(shim.facts().lock == LockFact::Held || shim.facts().exit != ExitFact::None, "no gap after the spawn");
}

#[test]
fn only_the_shim_keeps_the_lock() {
    let world = World::new();
    let mut shim = world.launch("echo up > up; sleep 1000");
    world.wait_for_file("up");
    let claim = shim.claim();
    shim.child.kill().unwrap();
    shim.exit_code();
    assert!(alive(claim.child.pid), "the command lives on");
    wait_for("the lock to fall all the same", || shim.facts().lock == LockFact::Free);
    assert_eq!(judge(Status::Running, false, &shim.facts()), Verdict::CutOff(Some(claim)));
}

#[test]
fn a_shim_that_is_late_finds_the_claim_void_and_never_runs_the_command() {
    for point in ["before_lock", "before_claim"] {
        let world = World::new();
        let mut shim = world.launch_held(point, "echo ran > ran");
        let facts = shim.facts();
        assert_eq!((facts.folder, &facts.claim, &facts.exit), (true, &ClaimFact::None, &ExitFact::None));
        assert_eq!(judge(Status::Dispatched, false, &facts), Verdict::Starting);
        assert_eq!(judge(Status::Dispatched, true, &facts), Verdict::VoidFirst);
        assert!(shim.dir.void().unwrap(), "{point}");
        assert!(!shim.dir.void().unwrap(), "it is won once");
        shim.send(Signal::CONT);
        assert_eq!(shim.exit_code(), Some(1), "the shim gives up");
        assert_eq!(judge(Status::Dispatched, true, &shim.facts()), Verdict::NeverStarted);
        wait_for("all to be gone", || world.marked().is_empty());
        assert!(!world.path("ran").exists());
        assert_eq!(shim.pokes(), "");
        let names = fs::read_dir(shim.dir.path()).unwrap().map(|e| e.unwrap().file_name());
        let left: Vec<_> = names.filter(|n| n.to_string_lossy().ends_with(".tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_claim_that_a_shim_has_won_cannot_be_voided() {
    let world = World::new();
    let mut shim = world.launch("while ! [ -e go ]; do sleep 0.01; done");
    let claim = shim.claim();
    assert!(!shim.dir.void().unwrap());
    assert_eq!(judge(Status::Dispatched, true, &shim.facts()), Verdict::Running(Some(claim.clone())));
    assert_eq!((claim.shim.pid, claim.boot_id), (shim.pid(), octo::run::boot_id().unwrap()));
    assert_eq!(octo::run::proc_start(claim.child.pid), Some(claim.child.start));
    fs::write(world.path("go"), "").unwrap();
    assert_eq!(shim.end().code, Some(0));
}

#[test]
fn a_waiting_child_ends_with_a_shim_that_is_killed_before_its_claim() {
    let world = World::new();
    let mut shim = world.launch_held("before_claim", "echo ran > ran");
    let child = waiting_child(&shim);
    shim.child.kill().unwrap();
    shim.exit_code();
    wait_for("the child to exit", || !alive(child));
    wait_for("the lock to fall", || shim.facts().lock == LockFact::Free);
    assert_eq!(judge(Status::Dispatched, false, &shim.facts()), Verdict::VoidFirst);
    assert!(shim.dir.void().unwrap());
    assert!(!world.path("ran").exists());
}

#[test]
fn a_waiting_child_has_no_copy_of_the_lock_and_no_pipe_but_its_own_two() {
    let world = World::new();
    let shim = world.launch_held("before_claim", "true");
    let fds = format!("/proc/{}/fd", waiting_child(&shim));
    let open = || fs::read_dir(&fds).unwrap().filter_map(|e| fs::read_link(e.unwrap().path()).ok());
    wait_for("the child to wait", || open().filter(|f| f.ends_with("out.log")).count() >= 2);
    assert!(!open().any(|f| f.ends_with("lock")), "{:?}", open().collect::<Vec<_>>());
    let pipes = open().filter(|f| f.to_string_lossy().starts_with("pipe:")).count();
    assert_eq!(pipes, 2, "one to wait on, one for its complaint: {:?}", open().collect::<Vec<_>>());
}

#[test]
fn a_stop_before_the_release_is_an_end_without_a_run() {
    let world = World::new();
    let mut shim = world.launch_held("before_claim", "echo ran > ran");
    shim.send(Signal::TERM);
    shim.send(Signal::CONT);
    let exit = shim.end();
    assert_eq!((exit.reason, exit.signal), (Some(ExitReason::Stop), Some(9)));
    assert!(!world.path("ran").exists());
    assert_eq!(shim.pokes(), "x");
}

#[test]
fn before_exit_json_a_run_counts_as_running_and_then_ends_as_it_did() {
    let world = World::new();
    let mut shim = world.launch_held("before_exit", "exit 42");
    let claim = shim.claim();
    assert_eq!(judge(Status::Running, true, &shim.facts()), Verdict::Running(Some(claim.clone())));
    assert!(shim.dir.signal_shim(&claim, Signal::CONT).unwrap());
    let exit = shim.end();
    assert_eq!(exit.code, Some(42));
    assert_eq!(judge(Status::Running, true, &shim.facts()), Verdict::Ended(exit));
}

#[test]
fn a_shim_that_is_killed_before_exit_json_is_a_run_cut_off() {
    let world = World::new();
    let mut shim = world.launch_held("before_exit", "exit 42");
    let claim = shim.claim();
    shim.child.kill().unwrap();
    shim.exit_code();
    wait_for("the lock to fall", || shim.facts().lock == LockFact::Free);
    assert_eq!(judge(Status::Running, false, &shim.facts()), Verdict::CutOff(Some(claim)));
}

/// A second shim in a folder that already has one, without the first one's lock.
fn second_shim(world: &World, command: &str) -> std::process::Child {
    let spec = world.spec(1, command);
    let lock = File::open(world.run(1).path().join("lock")).unwrap();
    Command::new(&spec.shim)
        .arg(world.run(1).path())
        .args(["--cwd".as_ref(), spec.cwd.as_os_str()])
        .args(["--quota", "1000000", "--"])
        .args(&spec.argv)
        .env_clear()
        .envs(spec.env)
        .stdin(lock)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn of_two_shims_in_one_folder_exactly_one_runs_the_command() {
    for round in 0..50 {
        let world = World::new();
        let mut first = world.launch("echo ran >> ran");
        let mut second = second_shim(&world, "echo ran >> ran");
        let codes = [first.exit_code(), wait_exit(&mut second)];
        assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "round {round}: {codes:?}");
        assert_eq!(fs::read_to_string(world.path("ran")).unwrap(), "ran\n", "round {round}");
        assert!(matches!(first.facts().exit, ExitFact::Ended(e) if e.code == Some(0)), "round {round}");
    }
}

#[test]
fn a_shim_makes_no_folder() {
    let world = World::new();
    let shim = world.spec(1, "echo ran > ran").shim;
    let folder = world.run(1).path().to_owned();
    let words: Vec<OsString> = vec![folder.clone().into(), "--cwd".into(), world.root.path().into()];
    let mut child = Command::new(shim)
        .args(words)
        .args(["--quota", "9", "--", "sh", "-c", "echo ran > ran"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(wait_exit(&mut child), Some(3));
    let poke = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(poke.starts_with("!No such file or directory"), "{poke}");
    assert!(!folder.exists() && !world.path("ran").exists());
}

#[test]
fn a_folder_is_launched_once() {
    let world = World::new();
    let mut shim = world.launch("true");
    let again = world.run(1).launch(&world.spec(1, "true"));
    assert_eq!(again.map(drop).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(shim.end().code, Some(0));
}

#[test]
fn a_shim_that_cannot_be_started_leaves_a_run_that_never_started() {
    let world = World::new();
    let mut spec = world.spec(1, "true");
    spec.shim = world.path("no-shim-here");
    let dir = world.run(1);
    assert!(dir.launch(&spec).is_err());
    let facts = dir.facts().unwrap();
    assert_eq!((facts.folder, facts.lock), (true, LockFact::Free));
    assert_eq!(judge(Status::Dispatched, false, &facts), Verdict::VoidFirst);
    assert!(dir.void().unwrap());
    assert_eq!(judge(Status::Dispatched, false, &dir.facts().unwrap()), Verdict::NeverStarted);
}

#[test]
fn facts_that_make_no_sense_are_unreadable_and_no_error() {
    let world = World::new();
    let dir = world.run(1);
    assert_eq!(judge(Status::Dispatched, false, &dir.facts().unwrap()), Verdict::NotSpawned);
    fs::create_dir_all(dir.path()).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    for text in ["", "{", "null", "[]", "{\"void\":false}", "{\"shim\":{\"pid\":1}}", "\u{0}\u{0}"] {
        write("claim.json", text);
        write("exit.json", text);
        let facts = dir.facts().unwrap();
        assert_eq!((facts.claim, facts.exit), (ClaimFact::Unreadable, ExitFact::Unreadable), "{text}");
    }
    fs::remove_file(dir.path().join("claim.json")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("claim.json"), rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(dir.facts().unwrap().claim, ClaimFact::Unreadable, "a FIFO is not waited for");
    fs::remove_file(dir.path().join("claim.json")).unwrap();
    fs::create_dir(dir.path().join("claim.json")).unwrap();
    assert_eq!(dir.facts().unwrap().claim, ClaimFact::Unreadable);
    assert!(!dir.void().unwrap(), "such a claim counts as a real one");
}

#[test]
fn a_shim_held_anywhere_stays_stopped_until_it_is_told_to_go_on() {
    let world = World::new();
    let mut shim = world.launch_held("before_exit", "true");
    assert!(stopped(shim.pid()));
    shim.send(Signal::CONT);
    shim.end();
}
