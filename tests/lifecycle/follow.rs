//! `octo task ID logs -f`: every byte once, as soon as it is written, whatever happens meanwhile.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};

use crate::harness::{World, wait_for};

/// Somebody who follows, and what has come so far.
struct Follower {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Follower {
    fn start(world: &World, id: &str, more: &[&str]) -> Follower {
        let words = [&["task", id, "logs", "-f"], more].concat();
        let mut child = world.octo_command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Follower { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// The rest, the exit code and what was said about it.
    fn end(mut self) -> (String, Option<i32>, String) {
        let (mut rest, mut said) = (String::new(), String::new());
        self.out.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (rest, self.child.wait().unwrap().code(), said)
    }
}

/// A command that writes a numbered line for each file `go-N` that appears, and then ends.
fn steps(count: usize) -> String {
    format!("for n in $(seq {count}); do while [ ! -e go-$n ]; do sleep 0.01; done; echo line $n; done")
}

fn go(world: &World, n: usize) {
    std::fs::write(world.path(&format!("go-{n}")), "").unwrap();
}

#[test]
fn lines_come_one_by_one_until_the_end_also_without_a_daemon() {
    let world = World::new();
    let id = world.bg(&steps(6));
    let mut follower = Follower::start(&world, &id, &[]);
    for n in 1..=3 {
        go(&world, n);
        assert_eq!(follower.line(), format!("line {n}\n"));
    }
    world.kill_daemon();
    // The log is a file on this machine: its lines come while there is no daemon.
    go(&world, 4);
    assert_eq!(follower.line(), "line 4\n");
    world.start();
    go(&world, 5);
    assert_eq!(follower.line(), "line 5\n");
    go(&world, 6);
    let (rest, code, said) = follower.end();
    assert_eq!((rest.as_str(), code), ("line 6\n", Some(0)), "{said}");
}

#[test]
fn a_follower_that_comes_late_gets_all_or_the_last_lines() {
    let world = World::new();
    let id = world.bg("seq 20000; while [ ! -e go ]; do sleep 0.01; done; seq 20001 20010");
    wait_for("the numbers", || world.octo(&["task", &id, "logs"]).out.len() > 100_000);
    let all = Follower::start(&world, &id, &[]);
    let last = Follower::start(&world, &id, &["--lines", "3"]);
    std::fs::write(world.path("go"), "").unwrap();
    let numbers = |from: usize| (from..=20_010).map(|n| format!("{n}\n")).collect::<String>();
    assert_eq!(all.end().0, numbers(1));
    let (rest, code, said) = last.end();
    // Its last lines are those of the moment when it came.
    assert!(numbers(19_998).ends_with(&rest) && rest.lines().count() >= 3, "{rest}");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn each_run_of_a_task_is_followed_to_its_own_end() {
    let world = World::new();
    let id = world.bg("echo run $OCTO_RUN; while [ ! -e go-$OCTO_RUN ]; do sleep 0.01; done; exit 1");
    for run in 1..=2 {
        let mut follower = Follower::start(&world, &id, &[]);
        assert_eq!(follower.line(), format!("run {run}\n"));
        go(&world, run);
        let (rest, code, said) = follower.end();
        assert_eq!((rest.as_str(), code), ("", Some(0)), "{said}");
        world.octo(&["task", &id, "retry"]).exits(0);
    }
    go(&world, 3);
    world.ended(&id);
}

#[test]
fn a_task_that_is_cancelled_ends_its_followers() {
    let world = World::new();
    let id = world.bg("echo here; exec sleep 1000");
    let mut follower = Follower::start(&world, &id, &[]);
    assert_eq!(follower.line(), "here\n");
    world.octo(&["task", &id, "cancel"]).exits(0);
    let (rest, code, _) = follower.end();
    assert_eq!((rest.as_str(), code), ("", Some(0)));
}
