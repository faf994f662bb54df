//! How tasks end: exit codes, signals, cancel, time-outs, retry, wait.

use serde_json::Value;

use crate::harness::{World, wait_for};

/// (status, exit_code, signal) of a record.
fn end(task: &Value) -> (&str, Option<i64>, Option<i64>) {
    (task["status"].as_str().unwrap(), task["exit_code"].as_i64(), task["signal"].as_i64())
}

#[test]
fn the_record_and_the_waiters_tell_the_true_end() {
    let world = World::new();
    for (command, status, code, signal, exit) in [
        ("true", "completed", Some(0), None, 0),
        ("exit 7", "failed", Some(7), None, 1),
        ("exit 255", "failed", Some(255), None, 1),
        ("no-such-program-here", "failed", Some(127), None, 1),
        ("kill -KILL $$", "failed", None, Some(9), 1),
        ("kill -TERM $$", "failed", None, Some(15), 1),
    ] {
        let id = world.bg(command);
        let out = world.octo(&["task", &id, "wait"]);
        assert_eq!(out.code, exit, "{command}: {}", out.err);
        assert_eq!(end(&world.task(&id)), (status, code, signal), "{command}");
        // Again, after it has ended; and in one go.
        assert_eq!(world.octo(&["task", &id, "wait"]).code, exit, "{command}");
        assert_eq!(world.octo(&["bg", "--wait", command]).code, exit, "{command}");
    }
}

#[test]
fn a_wait_that_runs_out_exits_124_and_leaves_the_task_alone() {
    let world = World::new();
    let id = world.bg("while [ ! -e go ]; do sleep 0.02; done; echo done");
    let out = world.octo(&["task", &id, "wait", "--timeout", "1"]).exits(124);
    assert!(out.out.is_empty());
    assert_eq!(world.until(&id, "running")["stop"], Value::Null);
    std::fs::write(world.path("go"), "").unwrap();
    world.octo(&["task", &id, "wait", "--timeout", "60"]).exits(0);
    assert_eq!(world.task(&id)["result"], "done\n");
}

#[test]
fn a_wait_goes_on_through_restarts_of_the_daemon() {
    let world = World::new();
    let id = world.bg("while [ ! -e go ]; do sleep 0.02; done; exit 3");
    world.until(&id, "running");
    let waiter = world.octo_command(&["task", &id, "wait"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let marks = ["OCTO_TEST_WORLD".to_owned() + "=" + world.root().to_str().unwrap()];
    wait_for("the waiter", || crate::harness::process::carrying(&marks).contains(&waiter.id()));
    world.kill_daemon();
    world.start();
    world.stop();
    std::fs::write(world.path("go"), "").unwrap();
    // Nobody else starts a daemon: the waiter does.
    assert_eq!(waiter.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(end(&world.task(&id)), ("failed", Some(3), None));
}

#[test]
fn cancel_works_in_every_phase() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    // Running.
    let running = world.bg("echo begun; exec sleep 1000");
    world.until(&running, "running");
    // Queued: it never starts.
    let queued = world.bg("touch never");
    assert_eq!(world.task(&queued)["status"], "dispatched");
    world.octo(&["task", &queued, "cancel"]).exits(0);
    let task = world.ended(&queued);
    assert_eq!(end(&task), ("cancelled", None, None));
    assert_eq!((&task["stop"]["by"], &task["stop"]["reason"]), (&"cli".into(), &"cancel".into()), "{task:#}");
    assert!(task["started_at"] == "" && task["completed_at"] != "", "{task:#}");
    world.octo(&["task", &running, "cancel"]).exits(0);
    let task = world.ended(&running);
    assert_eq!((task["status"].as_str(), task["stop"]["by"].as_str()), (Some("cancelled"), Some("cli")), "{task:#}");
    assert_eq!(task["result"], "begun\n", "what it wrote stays");
    // Ended.
    let out = world.octo(&["task", &running, "cancel"]).refused(6, "already ended");
    assert!(out.err.contains("hint: "));
    assert!(!world.path("never").exists());
    // Starting: the shim is held before it takes the claim, so the cancel has to win it.
    let starting = world.bg_with(&["--env", "OCTO_SHIM_HOLD=before_claim"], "touch never");
    wait_for("the shim to hold", || {
        world.processes(&starting).iter().any(|pid| crate::harness::process::state(*pid) == Some('T'))
    });
    assert_eq!(world.task(&starting)["status"], "dispatched");
    world.octo(&["task", &starting, "cancel"]).exits(0);
    assert_eq!(end(&world.ended(&starting)), ("cancelled", None, None));
    world.signal_processes(&starting, rustix::process::Signal::CONT);
    wait_for("nothing to be left", || world.processes(&starting).is_empty());
    assert!(!world.path("never").exists());
    // The slot is free again.
    let next = world.bg("echo next");
    assert_eq!(world.ended(&next)["result"], "next\n");
}

#[test]
fn a_cancelled_task_that_ignores_term_is_killed() {
    let world = World::new();
    let id = world.bg("trap '' TERM; echo deaf; while :; do sleep 0.1; done");
    wait_for("the trap", || world.get(&format!("/background-agents/{id}/logs")).body == b"deaf\n");
    world.octo(&["task", &id, "cancel"]).exits(0);
    let task = world.ended(&id);
    assert_eq!((task["status"].as_str(), task["signal"].as_i64()), (Some("cancelled"), Some(9)), "{task:#}");
    wait_for("nothing to be left", || world.left(&id).is_empty());
}

#[test]
fn a_time_out_is_a_failure_that_says_so() {
    let world = World::new();
    let id = world.bg_with(&["--timeout", "1s"], "echo early; exec sleep 1000");
    let task = world.ended(&id);
    assert_eq!(task["status"], "failed", "{task:#}");
    assert!(task["error"].as_str().unwrap().starts_with("timeout"), "{task:#}");
    assert_eq!((&task["timeout"], &task["result"]), (&1.into(), &"early\n".into()));
    wait_for("nothing to be left", || world.left(&id).is_empty());
    // One that is quicker is not touched.
    let quick = world.bg_with(&["--timeout", "1h"], "echo quick");
    assert_eq!(world.ended(&quick)["status"], "completed");
    for bad in ["soon", "-1", "1w", ""] {
        world.octo(&["bg", "--timeout", bad, "true"]).exits(2);
    }
}

#[test]
fn a_retry_is_a_run_of_its_own_and_the_old_log_stays() {
    let world = World::new();
    let id = world.bg("echo run $OCTO_RUN; [ -e ready ]");
    assert_eq!(end(&world.ended(&id)), ("failed", Some(1), None));
    world.folded(&id);
    std::fs::write(world.path("ready"), "").unwrap();
    world.octo(&["task", &id, "retry"]).exits(0);
    world.octo(&["task", &id, "wait"]).exits(0);
    let task = world.task(&id);
    assert_eq!((&task["run"], &task["result"], &task["stop"]), (&2.into(), &"run 2\n".into(), &Value::Null));
    let steps: Vec<(&str, u64)> = task["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["status"].as_str().unwrap(), h["run"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        steps,
        [("dispatched", 1), ("running", 1), ("failed", 1), ("dispatched", 2), ("running", 2), ("completed", 2)]
    );
    for (query, text) in [("", "run 2\n"), ("?run=2", "run 2\n"), ("?run=1", "run 1\n")] {
        let answer = world.get(&format!("/background-agents/{id}/logs{query}"));
        assert_eq!(String::from_utf8_lossy(&answer.body), text, "{query}");
    }
    assert_eq!(world.get(&format!("/background-agents/{id}/logs?run=3")).status, 404);
    // Two ends, two notices.
    assert_eq!(task["notices"].as_array().unwrap().len(), 2, "{task:#}");
    // It survives a restart, folded.
    world.folded(&id);
    world.kill_daemon();
    world.start();
    assert_eq!(world.get(&format!("/background-agents/{id}/logs?run=1")).body, b"run 1\n");
}

#[test]
fn only_ended_tasks_can_be_retried_or_removed() {
    let world = World::new();
    let id = world.bg("exec sleep 1000");
    world.until(&id, "running");
    world.octo(&["task", &id, "retry"]).refused(6, "only an ended task");
    world.octo(&["task", &id, "rm"]).refused(6, "only an ended task");
    world.octo(&["task", &id, "cancel"]).exits(0);
    world.ended(&id);
    world.octo(&["task", &id, "rm"]).exits(0);
    world.octo(&["task", &id, "rm"]).refused(4, "no such task");
    wait_for("the files to go", || {
        std::fs::read_dir(world.tasks_dir()).unwrap().flatten().all(|e| !e.file_name().to_string_lossy().contains(&id))
    });
}

#[test]
fn a_deleted_folder_is_an_end_not_a_loop() {
    let world = World::new();
    std::fs::create_dir(world.path("gone")).unwrap();
    let id = world.bg_with(&["--cwd", "gone"], "pwd");
    assert_eq!(world.ended(&id)["status"], "completed");
    std::fs::remove_dir(world.path("gone")).unwrap();
    world.octo(&["task", &id, "retry"]).exits(0);
    let task = world.ended(&id);
    assert_eq!(task["status"], "failed", "{task:#}");
    assert!(task["error"].as_str().unwrap().starts_with("launch"), "{task:#}");
    world.octo(&["bg", "--cwd", "gone", "pwd"]).refused(2, "no folder");
}
