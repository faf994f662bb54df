//! Who waits for an end becomes a small program, `octo-shim --wait`, and `octo` again for whatever is unusual.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{World, process, wait_for};

const OCTO: &str = env!("CARGO_BIN_EXE_octo");
const SHIM: &str = env!("CARGO_BIN_EXE_octo-shim");

/// Runs until there is a file `go`, and ends as that says.
const GATE: &str = "while [ ! -s go ]; do sleep 0.02; done; exit $(cat go)";

fn open_gate(world: &World, code: i32) {
    fs::write(world.path("going"), code.to_string()).unwrap();
    fs::rename(world.path("going"), world.path("go")).unwrap();
}

fn program(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

/// Whether the process sleeps, as what waits does.
fn sleeps_as(pid: u32, name: &str) -> bool {
    program(pid).ends_with(name) && process::state(pid) == Some('S')
}

struct Waiter(Child);

impl Waiter {
    fn spawn(mut octo: Command) -> Waiter {
        Waiter(octo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits as a deputy by now.
    #[track_caller]
    fn begin(world: &World, args: &[&str]) -> Waiter {
        let waiter = Waiter::spawn(world.octo_command(args));
        waiter.until_deputy("");
        waiter
    }

    /// Waits until the deputy waits, and would go on with `told` among what was told.
    #[track_caller]
    fn until_deputy(&self, told: &str) {
        let pid = self.0.id();
        wait_for("the deputy", || {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            sleeps_as(pid, "octo-shim") && words.contains(told)
        });
    }

    /// Its exit code, output and errors.
    fn ends(self) -> (Option<i32>, String, String) {
        let out = self.0.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    }
}

fn gone_well() -> (Option<i32>, String, String) {
    (Some(0), String::new(), String::new())
}

#[test]
fn a_deputy_tells_every_end_as_octo_does() {
    let world = World::new();
    for (code, exit) in [(0, 0), (7, 1)] {
        let id = world.bg(GATE);
        let waiter = Waiter::begin(&world, &["task", &id, "wait"]);
        open_gate(&world, code);
        let (waited, out, err) = waiter.ends();
        assert_eq!((waited, out.as_str()), (Some(exit), ""), "{err}");
        // The same command says the same when it need not wait.
        let again = world.octo(&["task", &id, "wait"]);
        assert_eq!((again.code, &again.err), (exit, &err));
        fs::remove_file(world.path("go")).unwrap();
    }
}

#[test]
fn bg_wait_prints_the_id_once_and_waits_as_a_deputy() {
    let world = World::new();
    let waiter = Waiter::begin(&world, &["bg", "--wait", GATE]);
    open_gate(&world, 3);
    let (code, out, err) = waiter.ends();
    assert!(code == Some(1) && out.lines().count() == 1, "{out}{err}");
    assert!(err.starts_with(&format!("error: task #1 {}: failed (exit 3)", out.trim())), "{err}");
    // A record is to be printed at the end: that is more than a deputy can.
    let out = world.octo(&["bg", "--wait", "--json", "true"]).exits(0).json();
    assert_eq!(out["status"], "completed");
}

#[test]
fn a_question_that_arises_is_told_once_however_often_the_wait_begins_anew() {
    let world = World::new();
    let id = world
        .bg(&format!("while [ ! -e ask ]; do sleep 0.02; done; {OCTO} ask 'First?'; {OCTO} ask 'Second?'; {GATE}"));
    let waiter = Waiter::begin(&world, &["task", &id, "wait"]);
    fs::write(world.path("ask"), "").unwrap();
    waiter.until_deputy(",1:q1");
    world.kill_daemon();
    world.start();
    waiter.until_deputy(",1:q1");
    world.octo(&["task", &id, "resume", "--question", "q1", "yes"]).exits(0);
    waiter.until_deputy(",1:q1,1:q2");
    world.octo(&["task", &id, "resume", "--question", "q2", "yes"]).exits(0);
    open_gate(&world, 0);
    let (code, out, err) = waiter.ends();
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    // The command, which has the same words in it, stands on the line before.
    for question in ["\n    First?\n", "\n    Second?\n"] {
        assert_eq!(err.matches(question).count(), 1, "{err}");
    }
}

#[test]
fn a_deputy_outlives_daemons_and_starts_one_where_nobody_does() {
    let world = World::new();
    let id = world.bg(GATE);
    world.until(&id, "running");
    let waiter = Waiter::begin(&world, &["task", &id, "wait"]);
    let first = world.daemon_pid();
    world.kill_daemon();
    wait_for("another daemon", || world.daemon_pid().is_some_and(|pid| Some(pid) != first));
    waiter.until_deputy("");
    open_gate(&world, 0);
    assert_eq!(waiter.ends(), gone_well());
}

#[test]
fn a_deputy_that_was_stopped_goes_on() {
    let world = World::new();
    let id = world.bg(GATE);
    let waiter = Waiter::begin(&world, &["task", &id, "wait"]);
    process::kill(waiter.0.id(), Signal::STOP);
    wait_for("it to stop", || process::state(waiter.0.id()) == Some('T'));
    process::kill(waiter.0.id(), Signal::CONT);
    open_gate(&world, 0);
    assert_eq!(waiter.ends(), gone_well());
}

#[test]
fn the_time_out_is_that_of_the_whole_wait() {
    let world = World::new();
    let id = world.bg(GATE);
    world.until(&id, "running");
    let limit = Duration::from_secs(3);
    let began = Instant::now();
    let waiter = Waiter::begin(&world, &["task", &id, "wait", "--timeout", "3"]);
    world.kill_daemon();
    world.start();
    let (code, out, err) = waiter.ends();
    assert!(began.elapsed() >= limit, "given up after {:?}", began.elapsed());
    assert_eq!((code, out.as_str(), err.as_str()), (Some(124), "", ""));
    assert_eq!(world.task(&id)["status"], "running");
    open_gate(&world, 0);
}

/// A folder of its own with `octo` in it; and with `shim` in the place of `octo-shim`, where there is one.
fn alone(world: &World, name: &str, shim: Option<&Path>) -> PathBuf {
    let bin = world.beside(name);
    fs::create_dir(&bin).unwrap();
    fs::copy(OCTO, bin.join("octo")).unwrap();
    if let Some(shim) = shim {
        fs::copy(shim, bin.join("octo-shim")).unwrap();
    }
    bin
}

fn waits_from(world: &World, bin: &Path, id: &str) -> Waiter {
    let mut octo = world.command(bin.join("octo"));
    octo.args(["task", id, "wait"]);
    Waiter::spawn(octo)
}

#[test]
fn without_a_program_for_it_octo_waits_itself() {
    let world = World::new();
    let id = world.bg(GATE);
    let missing = alone(&world, "missing", None);
    let broken = alone(&world, "broken", Some(Path::new(SHIM)));
    fs::set_permissions(broken.join("octo-shim"), fs::Permissions::from_mode(0o644)).unwrap();
    let waiters = [missing, broken].map(|bin| waits_from(&world, &bin, &id));
    // Each is at its poll by now, or was at least not taken over.
    for waiter in &waiters {
        wait_for("octo to wait", || sleeps_as(waiter.0.id(), "octo"));
    }
    open_gate(&world, 0);
    for waiter in waiters {
        assert_eq!(waiter.ends(), gone_well());
    }
}

#[test]
fn a_deputy_needs_octo_for_what_is_unusual_only() {
    let world = World::new();
    for (code, says) in [(0, ""), (1, "error: octo cannot be started again: ENOENT")] {
        let id = world.bg(GATE);
        let bin = alone(&world, &format!("bin{code}"), Some(Path::new(SHIM)));
        let waiter = waits_from(&world, &bin, &id);
        waiter.until_deputy("");
        fs::remove_file(bin.join("octo")).unwrap();
        open_gate(&world, code);
        let (exit, out, err) = waiter.ends();
        assert_eq!((exit, out.as_str()), (Some(code), ""), "{err}");
        assert!(err.starts_with(says) && err.is_empty() == says.is_empty(), "{err}");
        fs::remove_file(world.path("go")).unwrap();
    }
}
