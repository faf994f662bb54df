//! Slots, the queue and `--after`.

use crate::harness::{World, wait_for};

#[test]
fn slots_are_respected_and_the_queue_is_first_in_first_out() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "2")]);
    world.start();
    // Each notes its number, and for how long it was not alone.
    let commands: Vec<String> = (0..8)
        .map(|i| {
            format!("echo {i} >>order; mkdir here.{i}; ls -d here.* | wc -l >>together; sleep 0.2; rmdir here.{i}")
        })
        .collect();
    let ids = world.start_all(&commands);
    let mut most = 0;
    wait_for("all to end", || {
        most = most.max(world.status()["slots_used"].as_u64().unwrap());
        world.octo(&["tasks", "--json", "--status", "completed"]).json().as_array().unwrap().len() == ids.len()
    });
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    let together: Vec<u32> = read("together").lines().map(|l| l.trim().parse().unwrap()).collect();
    assert!(together.len() == 8 && together.iter().all(|n| *n <= 2), "{together:?}");
    assert!(most <= 2, "{most}");
    // Two run at once, so neighbours may swap; nothing overtakes by more than that.
    let order: Vec<usize> = read("order").lines().map(|l| l.parse().unwrap()).collect();
    for (place, i) in order.iter().enumerate() {
        assert!(place.abs_diff(*i) <= 1, "{order:?}");
    }
    let numbers: Vec<u64> = ids.iter().map(|id| world.task(id)["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<u64>>());
    assert_eq!(world.status()["slots_used"], 0);
}

#[test]
fn after_waits_for_completion() {
    let world = World::new();
    let first = world.bg("while [ ! -e go ]; do sleep 0.02; done; echo 1 >>order");
    let second = world.bg_with(&["--after", &first], "echo 2 >>order");
    let third = world.bg_with(&["--after", "2", "--after", &first[..6]], "echo 3 >>order");
    assert_eq!(world.task(&third)["after"], serde_json::json!([second, first]));
    assert_eq!(world.task(&second)["status"], "dispatched");
    // What is waited for cannot be removed, and the waiting outlives a crash.
    world.until(&first, "running");
    world.kill_daemon();
    world.start();
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(world.ended(&third)["status"], "completed");
    assert_eq!(std::fs::read_to_string(world.path("order")).unwrap(), "1\n2\n3\n");
    // After one that has completed long ago: at once.
    let fourth = world.bg_with(&["--after", &first], "true");
    assert_eq!(world.ended(&fourth)["status"], "completed");
}

#[test]
fn a_failed_predecessor_cancels_the_whole_chain_with_the_reason() {
    let world = World::new();
    let first = world.bg("while [ ! -e go ]; do sleep 0.02; done; exit 3");
    let second = world.bg_with(&["--after", &first], "touch never");
    let third = world.bg_with(&["--after", &second], "touch never");
    std::fs::write(world.path("go"), "").unwrap();
    for (id, of) in [(&second, &first), (&third, &second)] {
        let task = world.ended(id);
        assert_eq!(task["status"], "cancelled", "{task:#}");
        assert!(task["error"].as_str().unwrap().contains(&of[..]), "{task:#}");
        assert_eq!(task["notices"][0]["kind"], "cancelled", "{task:#}");
    }
    assert!(!world.path("never").exists());
    world.octo(&["bg", "--after", &first, "true"]).refused(6, "failed");
    world.octo(&["bg", "--after", "zz", "true"]).refused(4, "no such task: zz");
}

#[test]
fn what_is_waited_for_is_not_removed() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    let first = world.bg("true");
    world.ended(&first);
    let blocker = world.bg("while [ ! -e go ]; do sleep 0.02; done");
    world.until(&blocker, "running");
    let waiting = world.bg_with(&["--after", &first], "true");
    world.octo(&["task", &first, "rm"]).refused(6, &format!("task {waiting} waits for task {first}"));
    std::fs::write(world.path("go"), "").unwrap();
    world.ended(&waiting);
    world.octo(&["task", &first, "rm"]).exits(0);
}
