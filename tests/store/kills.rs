//! A process that saves is killed at any moment: what it told of is there afterwards.

use super::*;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

const FOLDER: &str = "OCTO_TEST_KILLED_STORE";

/// Not a test of its own: what the killed process does. Prints `id rev` once a save is told of.
#[test]
#[ignore = "is run by the test below, as a process of its own"]
fn saver() {
    let Some(octo) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(Path::new(&octo)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.problems, []);
    let mut rev = loaded.live.iter().map(|t| t.rev).max().unwrap_or(0);
    loop {
        rev += 1;
        let batch: Vec<Write> = (0..6)
            .map(|n| {
                let mut task = task(n);
                (task.rev, task.result) = (rev, "x".repeat(usize::try_from(rev % 7000).unwrap()));
                write(&task)
            })
            .collect();
        save(&store, &batch);
        println!("saved {rev}");
    }
}

#[test]
fn what_a_killed_process_told_of_is_there() {
    let world = World::new();
    let mut told = 0;
    for round in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::saver", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, world.octo())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: String| {
            if let Some(rev) = line.trim().strip_prefix("saved ").and_then(|n| n.parse::<u64>().ok()) {
                assert!(rev > told, "revisions only go up");
                told = rev;
            }
        };
        lines.by_ref().take(5 + round).for_each(&mut note);
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(&mut note);
        let (_, loaded) = world.boot();
        assert_eq!((loaded.problems.len(), loaded.live.len(), loaded.stray_folders.len()), (0, 6, 0));
        for task in &loaded.live {
            assert!(task.rev >= told && task.rev <= told + 1, "told {told}, found {}", task.rev);
        }
        assert_eq!(names(&world.tasks()).len(), 6, "6 records, no temps");
    }
    assert!(told >= 25, "the child saved something in every round");
}
