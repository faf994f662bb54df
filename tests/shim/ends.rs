//! How runs end: by themselves, by a stop, by the quota, on a full disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use octo::run::{Exit, ExitFact, ExitReason, LockFact, Signal};

use crate::world::{World, alive, wait_for};

#[test]
fn a_command_ends_and_its_code_output_and_length_are_recorded() {
    let world = World::new();
    let mut shim = world.launch("echo out; echo err >&2; exit 7");
    let exit = shim.end();
    assert_eq!(shim.log(), "out\nerr\n");
    let at = exit.at.clone();
    assert!(at.millis().is_some());
    assert_eq!(exit, Exit { code: Some(7), signal: None, reason: None, error: None, at, log_bytes: 8 });
    assert_eq!(shim.pokes(), "cx");
}

#[test]
fn a_command_that_dies_by_a_signal_is_recorded_so() {
    let world = World::new();
    let exit = world.launch("kill -SEGV $$").end();
    assert_eq!((exit.code, exit.signal, exit.reason, exit.error), (None, Some(11), None, None));
}

#[test]
fn all_output_is_there_when_the_end_is() {
    let world = World::new();
    let mut shim = world.launch("head -c 20000000 /dev/zero; echo end");
    let exit = shim.end();
    assert_eq!(exit.log_bytes, 20_000_004);
    assert_eq!(fs::metadata(shim.dir.log_path()).unwrap().len(), 20_000_004);
}

#[test]
fn a_program_that_does_not_exist_is_a_failed_launch() {
    let world = World::new();
    let mut spec = world.spec(1, "");
    spec.argv = vec!["no-such-program-anywhere".into()];
    let exit = world.launch_spec(1, &spec).end();
    let error = exit.error.unwrap();
    assert!(error.starts_with("launch: cannot run `no-such-program-anywhere`: No such file"), "{error}");
    assert_eq!((exit.code, exit.signal, exit.reason), (None, None, None));
}

#[test]
fn a_working_folder_that_was_deleted_is_a_failed_launch() {
    let world = World::new();
    let mut spec = world.spec(1, "echo ran > ran");
    spec.cwd = world.path("gone");
    let error = world.launch_spec(1, &spec).end().error.unwrap();
    assert!(error.starts_with("launch: cannot enter the folder ") && error.contains("/gone: No such file"), "{error}");
}

#[test]
fn the_command_gets_a_plain_world() {
    let world = World::new();
    let script = "cat /proc/self/status; ls -l /proc/self/fd; \
        cut -d' ' -f5 /proc/$$/stat; echo $$; env; pwd; read x || echo no input";
    let mut shim = world.launch(script);
    shim.end();
    let log = shim.log();
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        assert!(log.contains(&format!("{mask}:\t0000000000000000")), "{log}");
    }
    let fds: Vec<_> = log.lines().filter(|l| l.contains(" -> ")).collect();
    assert_eq!(fds.len(), 4, "stdin, log, log and the listing itself: {log}");
    assert!(fds[0].ends_with("/dev/null") && fds[1].ends_with("/out.log") && fds[2].ends_with("/out.log"), "{log}");
    let numbers: Vec<_> = log.lines().filter(|l| l.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers[0], numbers[1], "it leads its own group: {log}");
    assert!(!log.contains("OCTO_SHIM_HOLD"));
    assert!(log.contains(&format!("OCTO_TASK_ID={}\n", world.id)));
    assert!(log.contains(&format!("\n{}\n", world.root.path().display())));
    assert!(log.ends_with("no input\n"));
}

#[test]
fn what_a_shim_makes_is_its_owners_alone() {
    let world = World::new();
    let mut shim = world.launch("umask");
    shim.end();
    for name in ["lock", "claim.json", "exit.json", "out.log"] {
        let mode = fs::metadata(shim.dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mask = Command::new("sh").args(["-c", "umask"]).output().unwrap().stdout;
    assert_eq!(shim.log().into_bytes(), mask, "the command keeps the mask that its launcher has");
    let names = fs::read_dir(shim.dir.path()).unwrap().count();
    assert_eq!(names, 4, "no temporary file stays behind");
}

#[test]
fn nobody_needs_to_wait_for_the_shim_or_to_read_its_pokes() {
    let world = World::new();
    let mut shim = world.launch("while ! [ -e go ]; do sleep 0.01; done; exit 5");
    shim.claim();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(writer);
    shim.launched.pokes = reader; // the daemon is dead: its end of the pipe is closed
    fs::write(world.path("go"), "").unwrap();
    wait_for("exit.json", || matches!(shim.facts().exit, ExitFact::Ended(_)));
    assert_eq!(shim.end().code, Some(5));
}

#[test]
fn a_stop_ends_the_command_and_says_so() {
    let world = World::new();
    let mut shim = world.launch("echo up > up; exec sleep 1000");
    world.wait_for_file("up");
    assert_eq!(shim.facts().lock, LockFact::Held);
    shim.stop();
    let exit = shim.end();
    assert_eq!((exit.code, exit.signal, exit.reason), (None, Some(15), Some(ExitReason::Stop)));
}

#[test]
fn a_command_that_handles_the_stop_ends_with_its_own_code() {
    let world = World::new();
    let mut shim = world.launch("trap 'echo bye; exit 9' TERM; echo up > up; while :; do sleep 0.01; done");
    world.wait_for_file("up");
    shim.stop();
    let exit = shim.end();
    assert_eq!((exit.code, exit.reason), (Some(9), Some(ExitReason::Stop)));
    assert!(shim.log().ends_with("bye\n"));
}

#[test]
fn a_stop_that_comes_after_the_end_gives_no_reason() {
    let world = World::new();
    let mut shim = world.launch_held("before_exit", "exit 4");
    shim.send(Signal::TERM);
    shim.send(Signal::CONT);
    let exit = shim.end();
    assert_eq!((exit.code, exit.reason), (Some(4), None));
}

#[test]
fn signals_of_a_terminal_do_not_end_a_shim() {
    let world = World::new();
    let mut shim = world.launch("while ! [ -e go ]; do sleep 0.01; done; exit 6");
    shim.claim();
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::PIPE, Signal::TSTP, Signal::TTIN, Signal::TTOU] {
        shim.send(signal);
    }
    fs::write(world.path("go"), "").unwrap();
    assert_eq!(shim.end().code, Some(6));
}

#[test]
fn a_log_over_its_quota_ends_the_run() {
    let world = World::new();
    let mut spec = world.spec(1, "while :; do echo 0123456789; done");
    spec.log_quota = 1000;
    let mut shim = world.launch_spec(1, &spec);
    let exit = shim.end();
    assert_eq!((exit.signal, exit.reason), (Some(15), Some(ExitReason::LogQuota)));
    assert!(exit.log_bytes > 1000);
    assert_eq!(exit.log_bytes, fs::metadata(shim.dir.log_path()).unwrap().len());
}

#[test]
fn a_shim_that_was_killed_leaves_what_the_daemon_then_ends() {
    let world = World::new();
    let mut shim = world.launch("setsid sleep 1000 & sleep 1000 & echo $! > up; wait");
    let inner: i32 = world.wait_for_file("up").parse().unwrap();
    let claim = shim.claim();
    shim.child.kill().unwrap();
    shim.exit_code();
    wait_for("the lock to fall", || shim.facts().lock == LockFact::Free);
    assert!(!shim.dir.signal_shim(&claim, Signal::TERM).unwrap(), "there is no shim to signal");
    assert!(alive(inner) && alive(claim.child.pid), "nothing else ends them");
    let found = shim.dir.end_what_is_left(Some(&claim), world.root.path()).unwrap();
    assert!(found >= 1, "the one with its own session is found by its environment");
    wait_for("all to be gone", || world.marked().is_empty());
    assert_eq!(shim.facts().exit, ExitFact::None);
}

#[test]
fn what_forks_and_exits_all_the_time_is_ended_too() {
    let hops = "import os, time\nopen('up', 'w').write('up' + chr(10))\nwhile True:\n  if os.fork() > 0: os._exit(0)\n  \
                os.setsid()\n  time.sleep(0.003)";
    for _ in 0..4 {
        let world = World::new();
        let mut shim = world.launch(&format!("exec python3 -c \"{hops}\" & sleep 1000"));
        world.wait_for_file("up");
        shim.child.kill().unwrap();
        shim.exit_code();
        let killed = shim.dir.end_what_is_left(None, world.root.path()).unwrap();
        assert!(killed >= 2, "the sleeper and the one that hops: {killed}");
        // One that got away would be seen sooner or later: it is never gone for long.
        for _ in 0..20 {
            assert_eq!(world.marked(), Vec::<i32>::new());
        }
    }
}

#[test]
fn other_runs_tasks_and_workspaces_are_not_touched() {
    let world = World::new();
    let other = World::new();
    let mut first = world.launch("exec sleep 1000");
    let second = world.launch_spec(2, &world.spec(2, "exec sleep 1000"));
    let foreign = other.launch("exec sleep 1000");
    let children = [first.claim(), second.claim(), foreign.claim()].map(|c| c.child.pid);
    first.child.kill().unwrap();
    first.exit_code();
    first.dir.end_what_is_left(None, world.root.path()).unwrap();
    wait_for("the first to be gone", || !alive(children[0]));
    assert!(alive(children[1]) && alive(children[2]) && alive(second.pid()) && alive(foreign.pid()));
}

#[test]
fn a_claim_of_another_boot_signals_nothing() {
    let world = World::new();
    let shim = world.launch("exec sleep 1000");
    let mut claim = shim.claim();
    let child = claim.child.pid;
    claim.boot_id = "11111111-2222-3333-4444-555555555555".into();
    assert!(!shim.dir.signal_shim(&claim, Signal::KILL).unwrap());
    shim.dir.end_what_is_left(Some(&claim), &world.path("another-workspace")).unwrap();
    claim.boot_id = octo::run::boot_id().unwrap();
    claim.shim.start += 1;
    claim.child.start += 1;
    assert!(!shim.dir.signal_shim(&claim, Signal::KILL).unwrap(), "the number was used again");
    shim.dir.end_what_is_left(Some(&claim), &world.path("another-workspace")).unwrap();
    assert!(alive(shim.pid()) && alive(child));
}

#[test]
fn a_shim_that_cannot_write_the_end_keeps_its_lock_and_tries_again() {
    let world = World::new();
    let mut shim = world.launch("while ! [ -e go ]; do sleep 0.01; done; exit 3");
    let child = shim.claim().child.pid;
    let obstacle = shim.dir.path().join("exit.json");
    fs::create_dir(&obstacle).unwrap();
    fs::write(world.path("go"), "").unwrap();
    wait_for("the command to be reaped", || octo::run::proc_start(child).is_none());
    let facts = shim.facts();
    assert_eq!((facts.lock, facts.exit), (LockFact::Held, ExitFact::Unreadable));
    assert!(alive(shim.pid()));
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(shim.end().code, Some(3));
}

#[test]
fn a_full_disk_cannot_lose_the_end() {
    let world = World::new();
    let disk = world.path(".octo/tasks");
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(&disk).output().is_ok_and(|o| o.status.success());
    if !mount(&["-t", "tmpfs", "-o", "size=256k", "none"]) {
        eprintln!("skipped: mounting is not permitted here");
        return;
    }
    let _unmount = Unmount(disk.clone());
    let mut shim = world.launch("while ! [ -e go ]; do sleep 0.01; done; echo lost; exit 3");
    shim.claim();
    let filled = Command::new("sh").arg("-c").arg("cat /dev/zero > .octo/tasks/fill").current_dir(&world.root).output();
    let text = String::from_utf8(filled.unwrap().stderr).unwrap();
    fs::write(world.path("go"), "").unwrap();
    let exit = shim.end();
    assert!(text.contains("No space left"), "{text}");
    assert_eq!((exit.code, exit.log_bytes), (Some(3), 0));
}

/// Unmounts the folder when the test ends, however it does.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
