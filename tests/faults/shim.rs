//! A shim's calls fail: each task has a fault of its own, all under one daemon.

use crate::harness::{World, process, scale, wait_for};
use crate::inject::{ALLOCATE, FORK, LINK, OPEN, RECOVERY, RENAME, SYNC, rule};

/// There is no nursery, so that each shim is started by itself: under `strace` when the task asks for it. The
/// tracer is nobody's child, so that the daemon sees the shim's own process.
const TRACED: &str = r#"#!/bin/sh
[ "$1" = --nursery ] && exit 1
[ -n "$FAULT" ] && [ ! -e "$FAULT_OVER" ] && exec strace -D -I2 -q -o /dev/null -e "$FAULT" @SHIM@ "$@"
exec @SHIM@ "$@"
"#;

struct Trial {
    world: World,
    tasks: Vec<(String, String, usize)>,
}

impl Trial {
    fn new(slots: &str) -> Trial {
        let mut world = World::with(&[("BG_MAX_CONCURRENT", slots)]);
        world.replace_shim(TRACED);
        world.start();
        Trial { world, tasks: Vec::new() }
    }

    fn start(&mut self, fault: &str) {
        let i = self.tasks.len();
        let ran = self.world.beside(&format!("ran-{i}"));
        let over = self.world.beside("over");
        let settings = [format!("FAULT={fault}"), format!("FAULT_OVER={}", over.display())];
        let command = format!("echo ran >>{}; echo word-{i}; exit {}", ran.display(), i % 5);
        let id = self.world.bg_with(&["--env", &settings[0], "--env", &settings[1]], &command);
        self.tasks.push((id, fault.to_owned(), i));
    }

    /// Whatever failed: a true end, or one that says that it never began; and never run twice.
    fn check(&self) -> (usize, usize) {
        let (mut true_ends, mut never_began) = (0, 0);
        for (id, fault, i) in &self.tasks {
            let task = self.world.ended(id);
            let ran = std::fs::read_to_string(self.world.beside(&format!("ran-{i}"))).map_or(0, |t| t.lines().count());
            assert!(ran <= 1, "{fault}: it ran {ran} times: {task:#}");
            let error = task["error"].as_str().unwrap();
            if ran == 1 {
                assert_eq!(task["exit_code"], i % 5, "{fault}: {task:#}");
                let status = if i % 5 == 0 { "completed" } else { "failed" };
                assert_eq!(task["status"], status, "{fault}: {task:#}");
                let log = self.world.get(&format!("/background-agents/{id}/logs")).body;
                assert_eq!(String::from_utf8_lossy(&log), format!("word-{i}\n"), "{fault}");
                true_ends += 1;
            } else {
                assert!(task["status"] == "failed" && error.starts_with("launch"), "{fault}: {task:#}");
                never_began += 1;
            }
            wait_for("nothing to be left", || self.world.processes(id).is_empty());
            self.world.folded(id);
        }
        (true_ends, never_began)
    }
}

#[test]
fn a_call_of_the_shim_fails_once() {
    let mut trial = Trial::new("12");
    for calls in [OPEN, "write", SYNC, RENAME, LINK, FORK, "pwrite64", ALLOCATE] {
        let errors: &[&str] = match calls {
            FORK => &["EAGAIN"],
            OPEN => &["EIO", "EMFILE", "ENOSPC", "EINTR"],
            _ => &["EIO", "ENOSPC", "EINTR"],
        };
        for error in errors {
            for n in 1..=scale(3, 12) {
                trial.start(&rule(calls, error, &n.to_string()));
            }
        }
    }
    let (true_ends, never_began) = trial.check();
    eprintln!("{} faults of shims: {true_ends} true ends, {never_began} never began and say so", trial.tasks.len());
    assert!(true_ends > never_began);
    assert_eq!(trial.world.status()["slots_used"], 0);
}

#[test]
fn an_end_that_cannot_be_written_is_kept_until_it_can() {
    // From some call on everything fails that an exit record needs: the shim stays and tries again.
    let mut trial = Trial::new("12");
    for (calls, when) in [(RENAME, "1+"), (SYNC, "4+"), ("pwrite64", "2+"), (SYNC, "5+")] {
        for error in ["EIO", "ENOSPC"] {
            trial.start(&rule(calls, error, when));
        }
    }
    let ran = |i: &usize| trial.world.beside(&format!("ran-{i}")).exists();
    wait_for("the commands to have run", || trial.tasks.iter().filter(|(.., i)| ran(i)).count() >= 4);
    // Their commands are over; nothing claims that they ended, and nothing is forgotten meanwhile.
    for (id, fault, i) in &trial.tasks {
        let task = trial.world.task(id);
        if ran(i) && task["status"] == "running" {
            assert_eq!(task["exit_code"], serde_json::Value::Null, "{fault}");
        }
    }
    trial.world.kill_daemon();
    trial.world.start();
    std::fs::write(trial.world.beside("over"), "").unwrap();
    for (id, ..) in &trial.tasks {
        for pid in trial.world.processes(id) {
            process::signal_if(pid, rustix::process::Signal::TERM, || process::cmdline(pid).starts_with("strace"));
        }
    }
    let (began, mut waiting) = (std::time::Instant::now(), trial.tasks.clone());
    while began.elapsed() < RECOVERY * 2 && !waiting.is_empty() {
        waiting.retain(|(id, ..)| trial.world.task(id)["completed_at"] == "");
        crate::harness::pause();
    }
    let tell = |(id, fault, i): &(String, String, usize)| {
        let left: Vec<String> = trial
            .world
            .processes(id)
            .into_iter()
            .map(|p| format!("{p} {:?} {}", process::state(p), process::cmdline(p)))
            .collect();
        format!("{fault}: ran {}, {}: {left:#?}", ran(i), trial.world.task(id)["status"])
    };
    assert!(waiting.is_empty(), "no end is known of {:#?}", waiting.iter().map(tell).collect::<Vec<_>>());
    let (true_ends, never_began) = trial.check();
    assert!(true_ends >= 4, "{true_ends} true ends, {never_began} never began");
    eprintln!("{} ends held back: {true_ends} true ends, {never_began} never began and say so", trial.tasks.len());
}
