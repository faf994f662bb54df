//! A start that is repeated under its key is the same task, whenever the daemon was killed in between.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod common;

use std::time::Duration;

use common::world::{has_ended, quoted};
use common::{Rng, World, number, pause, wait_until};
use serde_json::{Value, json};

/// `OCTO_KEY_KILLS` (default 100) kills, each at a random moment around a start.
#[test]
fn the_same_key_after_a_kill_at_any_moment_is_one_task() {
    let kills = number("OCTO_KEY_KILLS", 100);
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "8");
    world.start();
    let mut rng = Rng::new(number("OCTO_SOAK_SEED", 1));
    let mut answered = 0;
    for n in 0..kills {
        let request = request(&world, n);
        let delay = rng.up_to(if n % 2 == 0 { 8 } else { 40 });
        let first = std::thread::scope(|scope| {
            let start = scope.spawn(|| world.ask("POST", "/background-agents/start", &request));
            pause(delay);
            world.kill_daemons();
            start.join().unwrap()
        });
        world.restart_after_kill();
        let again = world.ask("POST", "/background-agents/start", &request).unwrap();
        assert!(matches!(again.status, 200 | 201), "{}", String::from_utf8_lossy(&again.body));
        if let Ok(first) = first {
            answered += 1;
            assert_eq!(again.status, 200, "an acknowledged key was taken for a new one");
            assert_eq!(first.json()["instanceId"], again.json()["instanceId"]);
        }
    }
    wait_until("every task to end", || world.records().iter().all(has_ended));
    let records = world.records();
    for n in 0..kills {
        let of_key: Vec<&Value> = records.iter().filter(|r| r["key"] == format!("key-{n}").as_str()).collect();
        assert_eq!(of_key.len(), 1, "records of key-{n}");
        assert_eq!((of_key[0]["status"].as_str(), world.runs(&format!("key-{n}"))), (Some("completed"), 1));
    }
    assert_eq!(records.len() as u64, kills);
    println!("keys: kills={kills} answered_before_the_kill={answered} tasks={} twice=0", records.len());
    assert!(answered > 0 && answered < kills, "the kills met only one side of the answer: {answered} of {kills}");
}

fn request(world: &World, n: u64) -> String {
    let side = quoted(&world.side(&format!("key-{n}")));
    json!({ "command": format!("echo run >> {side}"), "key": format!("key-{n}") }).to_string()
}

/// A batch whose answer never came is there as a whole or not at all, and the repeat makes nothing twice.
#[test]
fn a_batch_that_was_cut_off_is_there_whole_or_not_at_all() {
    let kills = 25;
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "8");
    world.start();
    let mut rng = Rng::new(number("OCTO_SOAK_SEED", 2));
    let (mut whole, mut none) = (0, 0);
    for n in 0..kills {
        let one = |i: u64| {
            let name = format!("batch-{n}-{i}");
            json!({ "command": format!("echo run >> {}", quoted(&world.side(&name))), "key": name })
        };
        let batch: Vec<Value> = (0..20).map(one).collect();
        let body = Value::from(batch).to_string();
        let delay = rng.up_to(25);
        std::thread::scope(|scope| {
            scope.spawn(|| world.ask("POST", "/background-agents/start", &body));
            pause(delay);
            world.kill_daemons();
        });
        world.restart_after_kill();
        let prefix = format!("batch-{n}-");
        let there = |world: &World| {
            world.records().iter().filter(|r| r["key"].as_str().is_some_and(|k| k.starts_with(&prefix))).count()
        };
        match there(&world) {
            0 => none += 1,
            20 => whole += 1,
            some => panic!("{some} of 20 tasks of one batch are there"),
        }
        let again = world.ask("POST", "/background-agents/start", &body).unwrap();
        assert!(matches!(again.status, 200 | 201));
        assert_eq!(there(&world), 20, "after the repeat");
    }
    wait_until("every task to end", || world.records().iter().all(has_ended));
    let runs = |n: u64, i: u64| world.runs(&format!("batch-{n}-{i}"));
    assert!((0..kills).all(|n| (0..20).all(|i| runs(n, i) == 1)), "each command runs once");
    println!("batches: kills={kills} whole={whole} none={none} in_part=0");
}

/// Two clients send the same key at the same moment.
#[test]
fn the_same_key_at_the_same_moment_is_one_task() {
    let mut world = World::new();
    world.start();
    for n in 0..20 {
        let request = request(&world, n);
        let ids: Vec<Value> = std::thread::scope(|scope| {
            let send = || world.ask("POST", "/background-agents/start", &request).unwrap().json()["instanceId"].clone();
            let both = [scope.spawn(send), scope.spawn(send)];
            both.map(|t| t.join().unwrap()).to_vec()
        });
        assert_eq!(ids[0], ids[1]);
    }
    wait_until("every task to end", || world.records().iter().all(has_ended));
    assert_eq!(world.records().len(), 20);
    assert!((0..20).all(|n| world.runs(&format!("key-{n}")) == 1));
    // A short pause's worth of certainty that nothing starts late.
    assert!(!common::holds_within(Duration::from_millis(200), || world.records().len() != 20));
}
