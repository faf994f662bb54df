//! What is on disk: the record, field for field, and what is left of a run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::harness::World;

/// The names below `tasks/`, sorted.
fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(world.tasks_dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_plain_tasks_record_is_exactly_the_documented_one() {
    let world = World::new();
    let id = world.bg("sleep 0.2; echo hello");
    world.ended(&id);
    world.folded(&id);
    let text = fs::read_to_string(world.record_path(&id)).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(text.trim_end(), serde_json::to_string_pretty(&record).unwrap(), "pretty JSON");
    let mut expected = json!({
        "schema": 1, "rev": 0, "id": id, "number": 1, "uuid": "", "key": "", "name": "",
        "type": "process", "status": "completed", "paused_reason": "",
        "command": "sleep 0.2; echo hello", "cwd": world.root(), "prompt": "", "agent_name": "", "model": "",
        "thread_id": format!("bg:{id}"), "max_turns": 50, "env_overrides": {}, "env": "", "timeout": 0,
        "created_at": "", "started_at": "", "completed_at": "",
        "result": "hello\n", "error": "", "exit_code": 0, "signal": null, "session_id": "",
        "paused_question": "", "paused_at": "", "questions": [], "answers": [],
        "usage": {"input_tokens": 0, "output_tokens": 0, "cost_usd": null, "turns": 0},
        "budget": {"tokens": null, "usd": null}, "parent": null, "children": [], "after": [], "run": 1,
        "stop": null, "notices": [], "history": [],
    });
    // What differs from run to run is looked at by its form and then taken over.
    let times: Vec<&str> = ["created_at", "started_at", "completed_at"].map(|f| record[f].as_str().unwrap()).into();
    assert!(times.is_sorted(), "{times:?}");
    for time in &times {
        assert!(time.len() == 24 && time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    let digits = |v: &Value| v.as_str().unwrap().bytes().filter(u8::is_ascii_hexdigit).count();
    let uuid = record["uuid"].as_str().unwrap().replace('-', "");
    assert!(uuid.len() == 32 && uuid.contains(&id), "{uuid}");
    assert!(digits(&record["key"]) >= 16 && digits(&record["env"]) >= 32, "{record:#}");
    assert_eq!(record["notices"][0]["kind"], "completed");
    assert_eq!(record["notices"].as_array().unwrap().len(), 1);
    let steps: Vec<Value> = record["history"].as_array().unwrap().iter().map(|h| h["status"].clone()).collect();
    assert_eq!(steps, ["dispatched", "running", "completed"]);
    for own in ["rev", "uuid", "key", "env", "created_at", "started_at", "completed_at", "notices", "history"] {
        expected[own] = record[own].clone();
    }
    // The mark of this installation: without it the record would count as one that came from elsewhere.
    expected["mark"] = record["mark"].clone();
    assert_eq!(record, expected);
    let order = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(order(&record), order(&expected), "in the documented order");
}

#[test]
fn output_that_fits_the_record_leaves_the_record_alone() {
    let world = World::new();
    for command in
        ["true", "echo hello", "printf 'no newline'", "head -c 16384 /dev/zero | tr '\\0' x", "printf 'é→🦀'"]
    {
        let id = world.bg(command);
        let task = world.ended(&id);
        world.folded(&id);
        assert_eq!(names(&world), [format!("{id}.json")], "{command}");
        let log = world.get(&format!("/background-agents/{id}/logs"));
        assert_eq!(log.body, task["result"].as_str().unwrap().as_bytes(), "{command}");
        world.octo(&["task", &id, "rm"]).exits(0);
    }
    assert_eq!(fs::read_dir(world.octo_dir().join("trash")).unwrap().count(), 0);
}

#[test]
fn longer_or_odd_output_leaves_the_record_and_one_log() {
    let world = World::new();
    for (command, len) in [
        ("head -c 16385 /dev/zero | tr '\\0' x", 16_385),
        ("printf 'a\\377b'", 3),
        ("seq 100000", 588_895),
        ("printf '\\342\\202'", 2),
    ] {
        let id = world.bg(command);
        let task = world.ended(&id);
        world.folded(&id);
        assert_eq!(names(&world), [format!("{id}.json"), format!("{id}.run-1.log")], "{command}");
        assert!(task["result"].as_str().unwrap().len() <= 16 * 1024, "{command}");
        let log = world.get(&format!("/background-agents/{id}/logs")).body;
        assert_eq!(log.len(), len, "{command}");
        assert_eq!(log, fs::read(world.tasks_dir().join(format!("{id}.run-1.log"))).unwrap());
        world.octo(&["task", &id, "rm"]).exits(0);
        crate::harness::wait_for("the log to go", || names(&world).is_empty());
    }
}

#[test]
fn the_folder_is_private_and_ignored_by_git() {
    let world = World::new();
    fs::remove_dir(world.octo_dir()).unwrap();
    let id = world.bg_with(&["--env", "PRIVATE=1"], "umask; echo mine >made");
    world.octo(&["task", &id, "wait"]).exits(0);
    assert_eq!(fs::metadata(world.octo_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(world.octo_dir().join(".gitignore")).unwrap().trim(), "*");
    let mut stack = vec![world.octo_dir()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if !meta.is_symlink() {
                assert_eq!(meta.permissions().mode() & 0o077, 0, "{} is open to others", entry.path().display());
            }
            if meta.is_dir() {
                stack.push(entry.path());
            }
        }
    }
    // The task itself keeps its caller's umask, not the daemon's.
    assert_eq!(world.task(&id)["result"], "0022\n");
}

#[test]
fn unknown_fields_are_kept_on_rewrite() {
    let world = World::new();
    let id = world.bg("true");
    world.ended(&id);
    world.folded(&id);
    world.stop();
    let mut record: Value = serde_json::from_slice(&fs::read(world.record_path(&id)).unwrap()).unwrap();
    record["of_another_version"] = json!({"deep": [1, 2.5, "x", null]});
    record["usage"]["cached_tokens"] = json!(7);
    fs::write(world.record_path(&id), record.to_string()).unwrap();
    world.octo(&["task", &id, "retry"]).exits(0);
    world.octo(&["task", &id, "wait"]).exits(0);
    let rewritten: Value = serde_json::from_slice(&fs::read(world.record_path(&id)).unwrap()).unwrap();
    assert_eq!(rewritten["of_another_version"], record["of_another_version"]);
    assert_eq!(rewritten["usage"]["cached_tokens"], 7);
    assert_eq!(rewritten["run"], 2);
}
