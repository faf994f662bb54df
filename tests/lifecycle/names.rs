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

/// A record as the ancestor wrote it.
fn ancestor(id: &str, created: &str) -> serde_json::Value {
    serde_json::json!({
        "id": id, "type": "process", "status": "completed", "command": format!("echo {id}"), "cwd": "/", "prompt": "",
        "agent_name": "", "thread_id": format!("bg:{id}"), "max_turns": 50, "env_overrides": {}, "timeout": 0,
        "created_at": created, "started_at": created, "completed_at": created, "result": "old\n", "error": "",
        "paused_question": "", "paused_at": "",
    })
}

#[test]
fn the_ancestors_tasks_get_numbers_of_their_own_and_their_ids_win_over_numbers() {
    let world = World::new();
    std::fs::create_dir_all(world.tasks_dir()).unwrap();
    for (id, created) in [("00000002", "2025-01-01T10:00:00.123456+00:00"), ("00000001", "2025-01-02T10:00:00+00:00")] {
        std::fs::write(world.record_path(id), ancestor(id, created).to_string()).unwrap();
    }
    world.start();
    let new = world.bg("true");
    world.ended(&new);
    // In the order in which they were made.
    for (id, number) in [("00000002", 1), ("00000001", 2), (&new[..], 3)] {
        let task = world.octo(&["task", id, "--json"]).exits(0).json();
        assert_eq!((&task["id"], &task["number"]), (&id.into(), &number.into()), "{task:#}");
        assert_eq!(world.octo(&["task", &number.to_string(), "--json"]).exits(0).json()["id"], *id);
    }
    let listed = world.octo(&["tasks", "--json", "--limit", "0"]).exits(0).json();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&new[..], "00000001", "00000002"]);
}

#[test]
fn two_records_with_one_number_are_both_shown_and_one_is_renumbered() {
    let world = World::new();
    let ids: Vec<String> = (0..3).map(|_| world.bg("true")).collect();
    ids.iter().for_each(|id| drop((world.ended(id), world.folded(id))));
    world.stop();
    let mut copy: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.record_path(&ids[0])).unwrap()).unwrap();
    copy["id"] = "abcdef01".into();
    std::fs::write(world.record_path("abcdef01"), copy.to_string()).unwrap();
    for _ in 0..2 {
        world.start();
        let listed = world.octo(&["tasks", "--json", "--limit", "0"]).exits(0).json();
        let mut seen: Vec<u64> = listed.as_array().unwrap().iter().map(|t| t["number"].as_u64().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4], "{listed:#}");
        world.kill_daemon();
    }
    let on_disk: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.record_path("abcdef01")).unwrap()).unwrap();
    let other: serde_json::Value = serde_json::from_slice(&std::fs::read(world.record_path(&ids[0])).unwrap()).unwrap();
    let mut pair = [on_disk["number"].as_u64(), other["number"].as_u64()];
    pair.sort_unstable();
    assert_eq!(pair, [Some(1), Some(4)], "the new number is kept");
}
