//! Ids, prefixes and numbers.

use crate::harness::{World, is_id};

#[test]
fn ids_numbers_and_prefixes_all_name_the_task() {
    let world = World::new();
    let id = world.bg("true");
    assert!(is_id(&id));
    world.ended(&id);
    for name in [&id[..], &id[..7], &id[..1], "1", "#1"] {
        assert_eq!(world.octo(&["task", name, "--json"]).exits(0).json()["id"], *id, "{name}");
    }
    for unknown in ["zzz", "2", "99999999", "0", "-", "1x", "🦀", &format!("{id}0")] {
        world.octo(&["task", unknown]).refused(4, &format!("no such task: {unknown}"));
    }
}

#[test]
fn an_ambiguous_prefix_is_refused_and_names_what_it_fits() {
    let world = World::new();
    world.start();
    // Six letters can begin an id: of seven tasks two share one.
    let commands: Vec<String> = (0..7).map(|_| "true".to_owned()).collect();
    let ids = world.start_all(&commands);
    let twice = ('a'..='f').find(|c| ids.iter().filter(|id| id.starts_with(*c)).count() > 1).unwrap().to_string();
    let out = world.octo(&["task", &twice]).refused(4, "fits");
    for id in ids.iter().filter(|id| id.starts_with(&twice)).take(5) {
        assert!(out.err.contains(id), "{id} is not in {}", out.err);
    }
    world.octo(&["task", &twice, "cancel"]).refused(4, "fits");
}

#[test]
fn a_number_is_never_used_twice() {
    let world = World::new();
    let first = world.bg("true");
    let second = world.bg("true");
    world.ended(&first);
    world.ended(&second);
    assert_eq!(world.task(&second)["number"], 2);
    world.octo(&["task", "2", "rm"]).exits(0);
    world.octo(&["task", &second]).refused(4, "no such task");
    world.octo(&["task", "2"]).refused(4, "no such task: 2");
    // The next one, and the next one of another daemon, and of one that was killed.
    let third = world.bg("true");
    assert_eq!(world.ended(&third)["number"], 3);
    world.octo(&["task", &third, "rm"]).exits(0);
    world.stop();
    let fourth = world.bg("true");
    assert_eq!(world.ended(&fourth)["number"], 4);
    world.octo(&["task", "4", "rm"]).exits(0);
    world.kill_daemon();
    let fifth = world.bg("true");
    assert_eq!(world.ended(&fifth)["number"], 5);
}

#[test]
fn the_ancestors_ids_of_digits_win_over_numbers() {
    let world = World::new();
    std::fs::create_dir_all(world.tasks_dir()).unwrap();
    let old = serde_json::json!({
        "id": "00000001", "type": "process", "status": "completed", "command": "echo old", "cwd": "/", "prompt": "",
        "agent_name": "", "thread_id": "bg:00000001", "max_turns": 50, "env_overrides": {}, "timeout": 0,
        "created_at": "2025-01-01T10:00:00.123456+00:00", "started_at": "2025-01-01T10:00:00.2+00:00",
        "completed_at": "2025-01-01T10:00:01+00:00", "result": "old\n", "error": "", "paused_question": "",
        "paused_at": "",
    });
    std::fs::write(world.record_path("00000001"), old.to_string()).unwrap();
    world.start();
    let new = world.bg("true");
    world.ended(&new);
    let task = world.octo(&["task", "00000001", "--json"]).exits(0).json();
    assert_eq!((&task["result"], &task["command"]), (&"old\n".into(), &"echo old".into()));
    assert_ne!(task["number"], world.task(&new)["number"]);
    assert!(task["number"].as_u64().unwrap() > 0, "{task:#}");
}
