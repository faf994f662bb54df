//! The daemon's own calls fail, once or for a while.

use std::time::Instant;

use crate::harness::{Out, World, process, run, scale, wait_for, wait_within};
use crate::inject::{ALLOCATE, FORK, Fault, LINK, MKDIR, OPEN, RECOVERY, RENAME, SYNC, TRUNCATE, rule};

/// What was done with the daemon while calls failed, and what was answered.
struct Trial {
    world: World,
    pid: u32,
    /// Tasks that were acknowledged: id, what they write, and their exit code.
    accepted: Vec<(String, String, i64)>,
    /// Commands that were refused while calls failed.
    refused: usize,
    count: usize,
}

impl Trial {
    fn new() -> Trial {
        let world = World::with(&[("BG_MAX_CONCURRENT", "6")]);
        let pid = world.start();
        let id = world.bg("true");
        world.ended(&id);
        Trial { world, pid, accepted: Vec::new(), refused: 0, count: 0 }
    }

    /// Dispatches a task that notes that it ran; whether it was accepted.
    fn submit(&mut self, line: &str, code: i64) -> bool {
        self.count += 1;
        let word = format!("word-{}", self.count);
        let ran = self.world.beside(&word);
        let command = format!("echo ran >>{}; echo {word}; {line}; exit {code}", ran.display());
        let out = run(self.world.octo_command(&["bg", "--", &command]), b"");
        clear(&out);
        if out.code == 0 {
            self.accepted.push((out.line(), word, code));
        } else {
            self.refused += 1;
            assert!(!ran.exists(), "a task that was refused ran: {out:?}");
        }
        out.code == 0
    }

    /// The end of a test with many faults: it is worth something only if they were felt.
    fn report(&self, faults: usize) {
        let (accepted, refused) = (self.accepted.len(), self.refused);
        eprintln!("{faults} faults: {accepted} tasks accepted, each with its true end; {refused} refused in words");
        assert!(refused > 0, "no fault was felt");
    }

    /// A fault for a while: things go on and things are asked for; then it ends.
    fn fault_for_a_while(&mut self, rule: &str) {
        let go = self.world.path(&format!("go-{}", self.count));
        let waits = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
        assert!(self.submit(&waits, 3) && self.submit(&waits, 0) && self.submit("exec sleep 1000", 0));
        let cancelled = self.accepted.pop().unwrap().0;
        for (id, ..) in self.accepted.clone().iter().rev().take(2) {
            self.world.until(id, "running");
        }
        self.world.until(&cancelled, "running");
        let fault = Fault::begin(self.pid, rule);
        self.submit("true", 0);
        self.submit("false", 9);
        // Two tasks end while nothing can be written down, one is to be stopped.
        std::fs::write(&go, "").unwrap();
        let stop = self.world.octo(&["task", &cancelled, "cancel"]);
        clear(&stop);
        clear(&self.world.octo(&["tasks"]));
        clear(&self.world.octo(&["task", &cancelled]));
        clear(&self.world.octo(&["status"]));
        let (id, ..) = self.accepted.last().unwrap();
        clear(&self.world.octo(&["task", id, "logs"]));
        clear(&self.world.octo(&["task", id, "retry"]));
        drop(fault);
        self.recovers(rule, stop.code != 0, &cancelled);
    }

    fn recovers(&mut self, rule: &str, stop_again: bool, cancelled: &str) {
        let ended = Instant::now();
        if stop_again {
            wait_within(RECOVERY, &format!("a stop to be taken after {rule}"), || {
                matches!(self.world.octo(&["task", cancelled, "cancel"]).code, 0 | 6)
            });
        }
        wait_within(RECOVERY, &format!("a task to be taken after {rule}"), || self.submit("true", 0));
        let (last, ..) = self.accepted.last().unwrap().clone();
        self.world.ended(&last);
        assert!(ended.elapsed() < RECOVERY, "{rule}: a new task ended {:?} after the fault", ended.elapsed());
        assert_eq!(self.world.ended(cancelled)["status"], "cancelled", "{rule}");
        self.check(rule);
        wait_within(RECOVERY, &format!("the store to be whole after {rule}"), || self.world.status()["degraded"] == "");
        assert!(process::alive(self.pid) && self.world.daemon_pid() == Some(self.pid), "{rule}: the daemon died");
    }

    /// Every accepted task came to its true end, and ran once for each run.
    fn check(&self, rule: &str) {
        for (id, word, code) in &self.accepted {
            let task = self.world.ended(id);
            let status = if *code == 0 { "completed" } else { "failed" };
            assert_eq!((&task["status"], &task["exit_code"]), (&status.into(), &(*code).into()), "{rule}: {task:#}");
            let log = self.world.get(&format!("/background-agents/{id}/logs")).body;
            assert_eq!(String::from_utf8_lossy(&log), format!("{word}\n"), "{rule}: {id}");
            let ran = std::fs::read_to_string(self.world.beside(word)).unwrap().lines().count();
            let began = task["history"].as_array().unwrap().iter().filter(|h| h["status"] == "dispatched").count();
            assert_eq!(ran, began, "{rule}: it ran {ran} times: {task:#}");
        }
    }

    /// Nothing that was acknowledged is lost by a crash either.
    fn survives_a_crash(self) {
        self.world.kill_daemon();
        self.world.start();
        self.check("after a crash");
        let known = self.world.octo(&["tasks", "--json", "--limit", "0"]).json();
        assert!(known.as_array().unwrap().len() >= self.accepted.len());
    }
}

/// Done, or refused as people are told: never a hang, a panic or an empty word.
#[track_caller]
fn clear(out: &Out) {
    assert!((0..=6).contains(&out.code), "{out:?}");
    assert!(!out.err.contains("panicked"), "{out:?}");
    if out.code != 0 {
        assert!(out.err.starts_with("error: ") && out.err.contains("\nhint: "), "{out:?}");
    }
}

#[test]
fn the_disk_says_no_for_a_while() {
    let mut trial = Trial::new();
    let mut rules = vec![
        rule(SYNC, "EIO", "1+"),
        rule(RENAME, "ENOSPC", "1+"),
        rule(MKDIR, "ENOSPC", "1+"),
        rule(&format!("{RENAME},{MKDIR},{LINK}"), "EROFS", "1+"),
    ];
    if scale(0, 1) == 1 {
        for calls in [SYNC, RENAME, MKDIR, LINK, TRUNCATE, ALLOCATE] {
            rules.extend(["EIO", "ENOSPC", "EINTR", "EDQUOT"].map(|e| rule(calls, e, "1+")));
        }
    }
    for rule in &rules {
        trial.fault_for_a_while(rule);
    }
    trial.report(rules.len());
    trial.survives_a_crash();
}

#[test]
fn the_machine_is_short_of_something_for_a_while() {
    let mut trial = Trial::new();
    let mut rules =
        vec![rule(OPEN, "EMFILE", "1+"), rule(FORK, "EAGAIN", "1+"), rule("pidfd_open,pipe2", "EMFILE", "1+")];
    if scale(0, 1) == 1 {
        rules.extend([
            rule(OPEN, "EIO", "1+"),
            rule(OPEN, "ENFILE", "1+"),
            rule(FORK, "ENOMEM", "1+"),
            rule("accept4", "EMFILE", "1+"),
        ]);
    }
    for rule in &rules {
        trial.fault_for_a_while(rule);
    }
    trial.report(rules.len());
    trial.survives_a_crash();
}

#[test]
fn every_nth_call_fails_once() {
    let mut trial = Trial::new();
    let mut faults = 0;
    for calls in [SYNC, RENAME, MKDIR, OPEN, LINK, FORK] {
        let errors: &[&str] = match calls {
            FORK => &["EAGAIN"],
            OPEN => &["EMFILE", "EINTR"],
            _ => &["EIO", "EINTR"],
        };
        for error in errors {
            for step in ["1+3", "2+5", "3+7"].iter().take(scale(1, 3)) {
                faults += 1;
                let fault = Fault::begin(trial.pid, &rule(calls, error, step));
                for i in 0..4 {
                    trial.submit("true", i);
                }
                let asked: Vec<String> = trial.accepted.iter().rev().take(4).map(|(id, ..)| id.clone()).collect();
                for id in asked {
                    clear(&trial.world.octo(&["task", &id]));
                }
                drop(fault);
                let what = format!("{calls} {error} {step}");
                wait_within(RECOVERY, &format!("a task to be taken after {what}"), || trial.submit("true", 0));
            }
        }
    }
    trial.check("after all faults");
    trial.report(faults);
    trial.survives_a_crash();
}

#[test]
fn what_the_daemon_writes_into_its_files_fails() {
    // Writes to sockets and wake-ups must not be hit, so the files are named: the journal's segments, the log.
    let world = World::new();
    let id = world.bg("echo first");
    world.ended(&id);
    world.folded(&id);
    let pid = world.daemon_pid().unwrap();
    let segments: Vec<String> = (0..50).map(|n| format!("{}/journal-{n}", world.octo_dir().display())).collect();
    let log = format!("{}/octod.log", world.octo_dir().display());
    for error in ["EIO", "ENOSPC", "EDQUOT"] {
        let mut options = vec!["-e", "trace=write,pwrite64,writev"];
        let rule = format!("inject=write,pwrite64,writev:error={error}:when=1+");
        options.extend(["-e", &rule, "-P", &log]);
        options.extend(segments.iter().flat_map(|s| ["-P", &s[..]]));
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_str().unwrap().parse().unwrap());
        let fault = Fault::of_threads(threads.collect(), &options);
        let out = world.octo(&["task", &id, "retry"]);
        clear(&out);
        assert_ne!(out.code, 0, "a retry that could not be saved was acknowledged");
        assert_eq!(world.task(&id)["status"], "completed", "it did not happen");
        assert_eq!(world.get(&format!("/background-agents/{id}/logs")).body, b"first\n");
        drop(fault);
        wait_within(RECOVERY, "a retry to be taken", || world.octo(&["task", &id, "retry"]).code == 0);
        assert_eq!(world.ended(&id)["result"], "first\n");
        wait_for("the fold", || world.task(&id)["status"] == "completed" && !world.tasks_dir().join(&id).exists());
    }
    assert_eq!(world.daemon_pid(), Some(pid));
}
