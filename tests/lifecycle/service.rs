//! The daemon as a service: start, status, stop, clear.

use crate::harness::{World, is_id, process, run, wait_for};

#[test]
fn status_and_stop_start_no_daemon_and_others_do() {
    let world = World::new();
    world.octo(&["status"]).refused(3, "no daemon");
    world.octo(&["status", "--json"]).refused(3, "no daemon");
    world.octo(&["stop"]).exits(0);
    world.octo(&["stop", "--kill-tasks"]).exits(0);
    world.octo(&["completions", "bash"]).exits(0);
    assert_eq!(world.daemon_pid(), None);
    assert_eq!(world.octo(&["tasks"]).exits(0).err, "");
    let pid = world.daemon_pid().unwrap();
    let status = world.octo(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pid"], pid);
    assert_eq!(status["workspace"], world.root().to_str().unwrap());
    assert_eq!((&status["slots"], &status["slots_used"]), (&3.into(), &0.into()));
    assert!(status["problems"].as_array().unwrap().is_empty(), "{status:#}");
    let text = world.octo(&["status"]).exits(0).text();
    assert!(text.contains(&pid.to_string()) && text.contains(world.root().to_str().unwrap()), "{text}");
}

#[test]
fn a_second_daemon_is_refused_and_told_who_holds_the_place() {
    let world = World::new();
    let pid = world.start();
    let out = world.octo(&["daemon"]).refused(5, "");
    assert!(out.err.contains(&pid.to_string()), "it does not name the holder: {}", out.err);
    assert_eq!(world.daemon_pid(), Some(pid));
}

#[test]
fn stop_leaves_tasks_running_and_returns_when_the_daemon_is_gone() {
    let world = World::new();
    let id = world.bg("while [ ! -e go ]; do sleep 0.02; done; echo through; exit 5");
    world.until(&id, "running");
    let pid = world.daemon_pid().unwrap();
    world.stop();
    assert!(!process::alive(pid));
    assert!(!world.left(&id).is_empty(), "the task was to go on");
    std::fs::write(world.path("go"), "").unwrap();
    wait_for("the task's end", || world.processes(&id).is_empty());
    world.start();
    let task = world.ended(&id);
    assert_eq!(
        (task["status"].as_str(), task["exit_code"].as_i64(), task["result"].as_str()),
        (Some("failed"), Some(5), Some("through\n"))
    );
}

#[test]
fn stop_kill_tasks_ends_everything_also_without_a_daemon() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "2")]);
    let running: Vec<String> = (0..2).map(|_| world.bg("sleep 1000 & wait")).collect();
    let queued = world.bg("touch never");
    running.iter().for_each(|id| drop(world.until(id, "running")));
    world.octo(&["stop", "--kill-tasks"]).exits(0);
    assert_eq!(world.daemon_pid(), None);
    for id in running.iter().chain([&queued]) {
        wait_for("nothing to be left", || world.left(id).is_empty());
    }
    world.start();
    for id in running.iter().chain([&queued]) {
        assert_eq!(world.ended(id)["status"], "cancelled");
    }
    assert!(!world.path("never").exists());
    let last = world.bg("sleep 1000");
    world.until(&last, "running");
    world.kill_daemon();
    world.octo(&["stop", "--kill-tasks"]).exits(0);
    assert_eq!((world.daemon_pid(), world.left(&last)), (None, vec![]));
    world.start();
    assert_eq!(world.ended(&last)["status"], "cancelled");
}

#[test]
fn clear_hides_ended_tasks_and_keeps_their_records() {
    let world = World::new();
    let old = world.bg("true");
    world.ended(&old);
    assert_eq!(world.http("POST", "/clear", b"").json()["cleared"], 1);
    let listed = |args: &[&str]| world.octo(args).exits(0).text();
    assert!(!listed(&["tasks"]).contains(&old));
    let new = world.bg("true");
    world.ended(&new);
    assert!(listed(&["tasks"]).contains(&new) && !listed(&["tasks"]).contains(&old));
    world.kill_daemon();
    assert!(!listed(&["tasks"]).contains(&old), "still hidden after a restart");
    world.octo(&["task", &old]).exits(0);
    assert!(listed(&["tasks", "--limit", "0"]).contains(&old));
}

#[test]
fn a_long_list_says_how_to_see_more() {
    let world = World::new();
    world.start();
    let ids = world.start_all(&(0..30).map(|_| "true".to_owned()).collect::<Vec<_>>());
    ids.iter().for_each(|id| drop(world.ended(id)));
    let text = world.octo(&["tasks"]).exits(0).text();
    assert!(text.lines().count() <= 25 && text.contains("--limit"), "{text}");
    assert_eq!(world.octo(&["tasks", "--limit", "0"]).exits(0).text().lines().filter(|l| l.contains('✓')).count(), 30);
}

/// Says lines to the REPL through a pipe and returns what it printed.
fn repl(world: &World, lines: &str) -> String {
    run(world.octo_command(&[]), lines.as_bytes()).exits(0).text()
}

#[test]
fn the_repl_takes_commands_from_a_pipe() {
    let world = World::new();
    let said = repl(&world, "/bg sleep 1000\n/bg echo two words\n/quit\n");
    let ids: Vec<&str> = said.split_whitespace().filter(|w| is_id(w)).collect();
    let [slow, quick] = ids[..] else { panic!("not two ids: {said}") };
    // It left at once; the tasks go on.
    assert_eq!(world.ended(quick)["result"], "two words\n");
    assert_eq!(world.until(slow, "running")["command"], "sleep 1000");
    let listed = repl(&world, "/bg list\n/tasks completed\n");
    assert!(listed.contains(slow) && listed.contains(quick), "{listed}");
    assert!(repl(&world, &format!("/task {quick}\n")).contains("two words"));
    repl(&world, "/bg clear\n");
    let listed = repl(&world, "/bg list\n");
    assert!(listed.contains(slow) && !listed.contains(quick), "{listed}");
    world.octo(&["task", quick]).exits(0);
    repl(&world, &format!("/bg kill {slow}\n"));
    assert_eq!(world.ended(slow)["status"], "cancelled");
    // Prose is no command: nothing is started.
    let before = world.octo(&["tasks", "--json", "--limit", "0"]).json();
    run(world.octo_command(&[]), b"/bg run all the tests and fix any failures\n");
    assert_eq!(world.octo(&["tasks", "--json", "--limit", "0"]).json(), before);
}

#[test]
fn a_daemon_that_cannot_be_reached_is_not_denied() {
    let world = World::new();
    let pid = world.start();
    // It looks for its socket and leaves without it; stopped, it cannot do so yet.
    process::signal_if(pid, rustix::process::Signal::STOP, || world.daemon_pid() == Some(pid));
    wait_for("the daemon to stop", || process::state(pid) == Some('T'));
    std::fs::remove_file(world.socket()).unwrap();
    let out = world.octo(&["status"]).refused(3, "takes no connections");
    assert!(out.err.contains(&format!("pid {pid}")) && out.err.contains("hint: "), "{}", out.err);
    let mut stop = world.octo_command(&["stop"]).spawn().unwrap();
    process::signal_if(pid, rustix::process::Signal::CONT, || process::cmdline(pid).contains("octod"));
    assert!(stop.wait().unwrap().success());
    assert!(!process::alive(pid), "the stop returned before the daemon had left");
}
