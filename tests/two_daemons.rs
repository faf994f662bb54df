//! One workspace, one daemon, however many start at once; and whoever lost the race is served all the same.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod common;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::world::{OCTO, OCTOD};
use common::{World, number, processes, wait_until};

/// Starts side by side that keep two cores busy without starving each other.
const SIDE_BY_SIDE: u64 = 20;

fn spawn(world: &World, program: &str, words: &[&str]) -> Child {
    let mut command = world.command(program);
    command.arg("--workspace").arg(world.root()).args(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Starts `count` daemons at once; exactly one of them lives, the others say who holds the workspace.
fn race_of_daemons(world: &mut World, count: usize) {
    let starts: Vec<Child> = (0..count).map(|_| spawn(world, OCTOD, &["--detach"])).collect();
    let mut codes: Vec<i32> = Vec::new();
    for start in starts {
        let out = start.wait_with_output().unwrap();
        let code = out.status.code().unwrap();
        if code != 0 {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(said.starts_with("error: ") && said.contains("hint: "), "{said}");
        }
        codes.push(code);
    }
    codes.sort_unstable();
    let mut wanted = vec![5; count];
    wanted[0] = 0;
    assert_eq!(codes, wanted, "exit codes: {}", world.complaints());
    assert_eq!(world.daemons().len(), 1);
    assert_eq!(world.octo(&["tasks"]).status.code(), Some(0));
    world.kill_all();
}

/// `OCTO_RACES` sets their number; each tenth is one of ten.
#[test]
fn of_daemons_that_start_at_once_exactly_one_lives() {
    let races = number("OCTO_RACES", 100);
    std::thread::scope(|scope| {
        for first in 0..SIDE_BY_SIDE.min(races) {
            scope.spawn(move || {
                let mut world = World::new();
                for race in (first..races).step_by(SIDE_BY_SIDE as usize) {
                    race_of_daemons(&mut world, if race % 10 == 0 { 10 } else { 2 });
                }
            });
        }
    });
    println!("two daemons: races={races} violations=0");
}

/// Clients find no daemon, all start one, and all are served: by the same one.
#[test]
fn clients_that_race_to_start_the_daemon_are_all_served() {
    let races = 10;
    for race in 0..races {
        let world = World::new();
        let clients: Vec<Child> =
            (0..6).map(|n| spawn(&world, OCTO, &["bg", "--", "echo", &format!("{race}-{n}")])).collect();
        for client in clients {
            let out = client.wait_with_output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
        assert_eq!(world.records().len(), 6);
        wait_until("the losers to leave", || world.daemons().len() == 1);
        assert_eq!(world.get("/status")["pid"], world.daemons()[0]);
    }
    println!("racing clients: races={races} clients=6 violations=0");
}

/// The lock of a daemon that was killed may live on for a moment in a child that it had just forked: that is
/// waited for, not refused.
#[test]
fn a_start_right_after_a_kill_is_never_refused() {
    let kills = 50;
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "4");
    world.start();
    for n in 0..kills {
        // Launches are under way when the kill comes.
        for _ in 0..2 {
            world.bg(&format!("echo {n}"));
        }
        world.restart();
    }
    wait_until("every task to end", || world.records().iter().all(common::world::has_ended));
    assert!(world.records().iter().all(|r| r["status"] == "completed"));
    assert_eq!(world.records().len(), 2 * kills);
    println!("restart after kill: kills={kills} refused=0");
}

#[test]
fn a_second_daemon_names_the_first_and_leaves_it_alone() {
    let mut world = World::new();
    let first = world.start();
    let began = Instant::now();
    let out = world.octo(&["daemon"]);
    assert_eq!(out.status.code(), Some(5));
    assert!(began.elapsed() < Duration::from_secs(4), "a daemon that answers needs no long look");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains(&first.to_string()), "the holder, pid {first}, is not named: {said}");
    assert!(processes::alive(first));
    assert_eq!(world.get("/status")["pid"], first);
}

/// A script's pipe or lock that stayed open in the daemon would hang the script; its session would take it along.
#[test]
fn a_daemon_keeps_nothing_of_whoever_started_it() {
    let mut world = World::new();
    let mut command = world.command("sh");
    command.args(["-c", "exec 9>&1; exec \"$0\" bg true >/dev/null", OCTO]).current_dir(world.root());
    let mut script = command.stdout(Stdio::piped()).spawn().unwrap();
    let code = script.wait().unwrap().code();
    wait_until("the daemon is there", || world.daemons().len() == 1);
    let daemon = world.daemons()[0];
    let pipes: Vec<_> = std::fs::read_dir(format!("/proc/{daemon}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|to| to.to_string_lossy().starts_with("pipe:"))
        .collect();
    let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap();
    let session = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3)?.parse::<i32>().ok());
    world.kill_all();
    assert_eq!(code, Some(0));
    assert_eq!(pipes, Vec::<std::path::PathBuf>::new(), "pipes of the script");
    assert_eq!(session, Some(daemon), "a session of its own");
}
