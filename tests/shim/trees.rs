//! Shapes of process trees that must not outlive their run, by stop and by natural end.

use std::time::Instant;

use octo::run::{ExitReason, LockFact};

use crate::world::{World, alive, wait_for};

/// How a shape is made: `HOLD` becomes what the command does at the end (wait for ever, or exit 0), so
/// that each shape is met at a stop and at a natural end.
struct Shape {
    name: &'static str,
    script: &'static str,
    /// Whether it may outlive TERM (deaf to it, or never there when it comes), so that only KILL ends it.
    stubborn: bool,
}

const SHAPES: [Shape; 11] = [
    shape("plain", "sleep 1000 & echo up > up; HOLD", false),
    shape("group", "set -m; sleep 1000 & echo up > up; HOLD", false),
    shape("session", "setsid sleep 1000 & echo up > up; HOLD", false),
    shape(
        "daemon",
        "(setsid sh -c 'sleep 1000 & echo up > up' &) ; while ! [ -s up ]; do sleep 0.01; done; HOLD",
        false,
    ),
    shape(
        "deaf",
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo up > up; while :; do sleep 1; done' & while ! [ -s up ]; do sleep 0.01; done; HOLD",
        true,
    ),
    shape(
        "respawner",
        "cat > r.sh <<'X'\ntrap '' TERM\nsleep 0.01\nsetsid sh r.sh &\nX\nsetsid sh r.sh & echo up > up; HOLD",
        true,
    ),
    shape("stopped", "setsid sh -c 'kill -STOP $$' & sleep 0.1; echo up > up; HOLD", false),
    shape(
        "stopped and deaf",
        "setsid sh -c 'trap \"\" TERM; kill -STOP $$; sleep 1000' & sleep 0.1; echo up > up; HOLD",
        true,
    ),
    shape("nohup", "nohup sleep 1000 > /dev/null 2>&1 & disown 2>/dev/null; echo up > up; HOLD", false),
    shape("pipe holder", "sleep 1000 | setsid sleep 1000 | sleep 1000 & echo up > up; HOLD", false),
    shape("fork chain", "cat > c.sh <<'X'\nsetsid sh c.sh &\nX\nsh c.sh & echo up > up; HOLD", true),
];

const fn shape(name: &'static str, script: &'static str, stubborn: bool) -> Shape {
    Shape { name, script, stubborn }
}

/// One life of a shape; returns how long its end took, in seconds.
fn ends(shape: &Shape, stop: bool) -> f64 {
    let world = World::new();
    let hold = if stop { "while :; do sleep 1; done" } else { "exit 0" };
    let mut shim = world.launch(&shape.script.replace("HOLD", hold));
    world.wait_for_file("up");
    let began = Instant::now();
    if stop {
        shim.stop();
    }
    let exit = shim.end();
    let took = began.elapsed().as_secs_f64();
    assert_eq!(world.marked(), Vec::<i32>::new(), "{}, stop {stop}: left over", shape.name);
    assert_eq!(shim.facts().lock, LockFact::Free);
    assert_eq!(exit.reason, stop.then_some(ExitReason::Stop), "{}", shape.name);
    took
}

/// All shapes side by side. One that TERM ends must be gone before KILL is due, in the best of its rounds: a loaded
/// machine may be late at any of them.
fn all(stop: bool) {
    let killed_after = if stop { 10.0 } else { 5.0 };
    std::thread::scope(|scope| {
        for shape in &SHAPES {
            scope.spawn(move || {
                let rounds = if shape.stubborn { 1 } else { 3 };
                let best = (0..rounds).map(|_| ends(shape, stop)).fold(f64::INFINITY, f64::min);
                assert!(shape.stubborn || best < killed_after, "{}, stop {stop}: took {best} s", shape.name);
            });
        }
    });
}

#[test]
fn no_shape_of_tree_outlives_a_stop() {
    all(true);
}

#[test]
fn no_shape_of_tree_outlives_a_natural_end() {
    all(false);
}

#[test]
fn children_are_left_alone_at_a_natural_end_when_that_was_asked_for() {
    let world = World::new();
    let mut spec = world.spec(1, "setsid sleep 1000 & echo $! > up");
    spec.leave_children = true;
    let mut shim = world.launch_spec(1, &spec);
    let exit = shim.end();
    let left: i32 = world.wait_for_file("up").parse().unwrap();
    assert_eq!((exit.code, exit.reason), (Some(0), None));
    assert!(alive(left));
    assert_eq!(shim.dir.end_what_is_left(None, world.root.path()).unwrap(), 1);
    wait_for("it to be gone", || world.marked().is_empty());
}

#[test]
fn a_stop_spares_no_children_even_if_they_would_be_left_alone_at_a_natural_end() {
    let world = World::new();
    let mut spec = world.spec(1, "setsid sleep 1000 & echo up > up; wait");
    spec.leave_children = true;
    let mut shim = world.launch_spec(1, &spec);
    world.wait_for_file("up");
    shim.stop();
    assert_eq!(shim.end().reason, Some(ExitReason::Stop));
    assert_eq!(world.marked(), Vec::<i32>::new());
}

#[test]
fn a_member_of_the_group_gets_one_term_only() {
    // A second one is not always seen: it may come while the first is still on its way.
    for _ in 0..10 {
        let world = World::new();
        let script = "trap 'echo term >> terms' TERM; sleep 1000 & echo up > up; \
            while ! [ -e terms ]; do wait; done; sleep 0.05; exit 0";
        let mut shim = world.launch(script);
        world.wait_for_file("up");
        shim.stop();
        assert_eq!(shim.end().code, Some(0));
        assert_eq!(world.wait_for_file("terms"), "term");
    }
}

#[test]
fn dead_orphans_do_not_pile_up_while_the_command_runs() {
    let world = World::new();
    let mut shim = world.launch("for i in 1 2 3 4 5 6 7 8; do (sh -c 'sleep 0.02 &'); done; echo up > up; sleep 1000");
    world.wait_for_file("up");
    let list = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.pid())).unwrap();
    wait_for("only the command to be left", || list().split_whitespace().count() == 1);
    shim.stop();
    shim.end();
}

/// Not a test by itself: a process that traces another one, which stays stopped under it.
#[test]
#[allow(unsafe_code)]
fn a_tracer() {
    use nix::libc;
    let Some(ready) = std::env::var_os("TEST_TRACER") else { return };
    // SAFETY: the child calls nothing but functions that are safe after a fork; the parent only waits.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), libc::WUNTRACED);
        std::fs::write(ready, format!("{child}\n")).unwrap();
        loop {
            libc::pause();
        }
    }
}

#[test]
fn a_traced_process_does_not_outlive_its_run() {
    for (stop, deaf) in [(true, false), (false, false), (false, true)] {
        let world = World::new();
        let exe = std::env::current_exe().unwrap();
        let hold = if stop { "sleep 1000" } else { "exit 0" };
        let trap = if deaf { "trap '' TERM;" } else { "" };
        let script = format!(
            "{trap} TEST_TRACER=up setsid {} --exact trees::a_tracer > /dev/null & while ! [ -s up ]; do sleep 0.01; done; {hold}",
            exe.display()
        );
        let mut shim = world.launch(&script);
        let traced: i32 = world.wait_for_file("up").parse().unwrap();
        if stop {
            assert!(crate::world::stopped(traced));
            shim.stop();
        }
        assert_eq!(shim.end().reason, stop.then_some(ExitReason::Stop));
        assert_eq!(world.marked(), Vec::<i32>::new(), "stop {stop}, deaf {deaf}");
    }
}
