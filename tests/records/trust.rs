//! Records of the ancestor and of other installations: shown, and used only after `octo trust`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{World, wait_for};

fn ancestor(id: &str, status: &str, command: &str) -> Value {
    json!({
        "id": id, "type": "process", "status": status, "command": command, "cwd": "/", "prompt": "", "agent_name": "",
        "thread_id": format!("bg:{id}"), "max_turns": 50, "env_overrides": {}, "timeout": 0,
        "created_at": "2025-01-01T10:00:00.123456+00:00", "started_at": "", "completed_at": "",
        "result": "", "error": "", "paused_question": "", "paused_at": "",
    })
}

#[test]
fn the_ancestors_pending_tasks_run_only_once_they_are_trusted() {
    let world = World::new();
    fs::create_dir_all(world.tasks_dir()).unwrap();
    let touched = world.path("touched");
    let command = format!("touch {}; echo done", touched.display());
    let text = ancestor("12345678", "pending", &command).to_string();
    fs::write(world.record_path("12345678"), &text).unwrap();
    let mut ended = ancestor("0badcafe", "completed", "true");
    ended["completed_at"] = "2025-01-01T11:00:00+00:00".into();
    fs::write(world.record_path("0badcafe"), ended.to_string()).unwrap();
    world.start();
    let shown = world.octo(&["task", "12345678", "--json"]).exits(0).json();
    assert_eq!(shown["status"], "dispatched", "`pending` is read as dispatched");
    // Another task of its own runs meanwhile: the queue is not stuck behind the foreign one.
    let own = world.bg("echo own");
    assert_eq!(world.ended(&own)["status"], "completed");
    for verb in [&["task", "12345678", "cancel"][..], &["task", "0badcafe", "retry"], &["task", "0badcafe", "rm"]] {
        let out = world.octo(verb);
        assert!(out.code != 0 && out.err.contains("trust"), "{verb:?}: {out:?}");
    }
    assert!(!touched.exists());
    assert_eq!(fs::read_to_string(world.record_path("12345678")).unwrap(), text, "shown, not touched");
    assert!(world.status()["problems"].to_string().contains("octo trust"));
    world.kill_daemon();
    world.start();
    assert_eq!(world.task("12345678")["status"], "dispatched");
    assert!(!touched.exists());
    // With the owner's word it runs.
    let accepted = world.octo(&["trust"]).exits(0).text();
    assert!(accepted.contains("12345678") && accepted.contains("0badcafe"), "{accepted:?}");
    wait_for("the trusted task to end", || world.task("12345678")["status"] == "completed");
    assert!(touched.exists());
    assert!(!world.status()["problems"].to_string().contains("octo trust"), "{:#}", world.status());
    world.octo(&["task", "0badcafe", "retry"]).exits(0);
    world.octo(&["task", "0badcafe", "wait"]).exits(0);
}

#[test]
fn a_cloned_folder_runs_nothing() {
    // Another installation (another home) made the workspace, tasks still waiting in it.
    let other = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    let blocker = other.bg("sleep 1000");
    other.until(&blocker, "running");
    let waiting = other.bg("touch hacked");
    other.kill_daemon();
    let here = World::new();
    let copied = crate::harness::run(
        here.command_in("/", "cp", &["-r", other.octo_dir().to_str().unwrap(), here.root().to_str().unwrap()]),
        b"",
    );
    assert_eq!(copied.code, 0, "{copied:?}");
    here.start();
    let own = here.bg("echo own");
    assert_eq!(here.ended(&own)["status"], "completed");
    assert_eq!(here.task(&waiting)["status"], "dispatched");
    assert!(!here.path("hacked").exists() && !other.path("hacked").exists());
    assert!(here.octo(&["task", &waiting, "cancel"]).err.contains("trust"));
    // And the original is unharmed.
    assert!(!other.left(&blocker).is_empty());
    other.start();
    other.octo(&["task", &blocker, "cancel"]).exits(0);
    assert_eq!(other.ended(&waiting)["status"], "completed");
}

#[test]
fn a_record_that_changes_after_it_was_trusted_is_not_trusted_any_more() {
    let world = World::new();
    fs::create_dir_all(world.tasks_dir()).unwrap();
    let mut ended = ancestor("0badcafe", "completed", "echo old");
    ended["completed_at"] = "2025-01-01T11:00:00+00:00".into();
    fs::write(world.record_path("0badcafe"), ended.to_string()).unwrap();
    world.start();
    world.octo(&["trust"]).exits(0);
    world.stop();
    ended["command"] = "touch hacked".into();
    fs::write(world.record_path("0badcafe"), ended.to_string()).unwrap();
    world.start();
    let out = world.octo(&["task", "0badcafe", "retry"]);
    assert!(out.code != 0 && out.err.contains("trust"), "{out:?}");
    assert!(!world.path("hacked").exists());
}
