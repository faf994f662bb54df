//! Starting over the raw API: keys, batches, defaults; and notices by cursor.

use serde_json::{Value, json};

use crate::harness::{World, wait_for};

#[test]
fn the_same_key_is_the_same_task() {
    let world = World::new();
    world.start();
    let body = json!({"command": "echo once >>count", "key": "k-1"});
    let first = world.post("/background-agents/start", &body);
    assert_eq!(first.status, 201);
    let id = first.json()["instanceId"].as_str().unwrap().to_owned();
    assert_eq!(first.json()["id"], *id);
    let again = world.post("/background-agents/start", &body);
    assert_eq!((again.status, &again.json()["instanceId"]), (200, &json!(id)));
    world.ended(&id);
    world.folded(&id);
    world.kill_daemon();
    world.start();
    let later = world.post("/background-agents/start", &body);
    assert_eq!((later.status, &later.json()["instanceId"]), (200, &json!(id)));
    assert_eq!(later.json()["status"], "completed");
    // Inside one batch too, and mixed with new ones.
    let batch = json!([{"command": "true", "key": "k-1"}, {"command": "true", "key": "k-2"}, {"command": "true", "key": "k-2"}]);
    let said = world.post("/background-agents/start", &batch);
    assert_eq!(said.status, 201);
    let ids: Vec<Value> = said.json().as_array().unwrap().iter().map(|t| t["id"].clone()).collect();
    assert!(ids[0] == *id && ids[1] == ids[2] && ids[0] != ids[1], "{ids:?}");
    assert_eq!(std::fs::read_to_string(world.path("count")).unwrap(), "once\n");
}

#[test]
fn a_batch_is_all_or_nothing() {
    let world = World::new();
    world.start();
    for bad in [
        json!({"command": ""}),
        json!({"command": "touch b", "cwd": "/nonexistent"}),
        json!({"command": "touch b", "after": ["zz"]}),
        json!({"command": "touch b\u{0}"}),
        json!({"command": "touch b", "env_overrides": {"A=B": "x"}}),
        json!({"command": 7}),
        json!({"type": "agent", "task": "think"}),
    ] {
        let body = json!([{"command": "touch a"}, bad.clone(), {"command": "touch c"}]);
        let said = world.post("/background-agents/start", &body);
        assert!((400..=501).contains(&said.status), "{bad}: {said:?}");
        said.error();
    }
    assert_eq!(world.get("/background-agents?limit=0&hidden=true").json()["active"], json!([]));
    assert_eq!(world.get("/background-agents?limit=0&hidden=true").json()["history"], json!([]));
    assert!(!world.path("a").exists() && !world.path("c").exists());
    let many: Vec<Value> = (0..10_001).map(|_| json!({"command": "true"})).collect();
    assert_eq!(world.post("/background-agents/start", &Value::from(many)).error(), "too_large");
    // A good one is in order.
    let ids = world.start_all(&(0..50).map(|i| format!("echo {i}")).collect::<Vec<_>>());
    for (i, id) in ids.iter().enumerate() {
        let task = world.ended(id);
        assert_eq!((&task["number"], &task["result"]), (&json!(i + 1), &json!(format!("{i}\n"))));
    }
}

#[test]
fn without_a_folder_it_runs_in_the_workspace_and_unknown_fields_are_no_harm() {
    let world = World::new();
    world.start();
    let body = json!({"command": "pwd", "futureField": {"x": [1]}});
    let id = world.post("/background-agents/start", &body).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(world.ended(&id)["result"], format!("{}\n", world.root().display()));
    std::fs::create_dir(world.path("sub")).unwrap();
    let body = json!({"command": "pwd", "cwd": "sub"});
    let id = world.post("/background-agents/start", &body).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(world.ended(&id)["result"], format!("{}/sub\n", world.root().display()));
}

#[test]
fn notices_come_in_order_once_and_again_for_who_asks_again() {
    let world = World::new();
    world.start();
    let latest = || world.get("/notices?after=latest").json()["cursor"].as_u64().unwrap();
    let zero = latest();
    let ids = world.start_all(&(0..120).map(|i| format!("exit {}", i % 2)).collect::<Vec<_>>());
    ids.iter().for_each(|id| drop(world.ended(id)));
    let read = |mut cursor: u64| {
        let mut seen = Vec::new();
        loop {
            let page = world.get(&format!("/notices?after={cursor}")).json();
            let notices = page["notices"].as_array().unwrap();
            assert!(notices.len() <= 100);
            seen.extend(notices.iter().map(|n| {
                assert_eq!(n["notice"]["kind"], n["task"]["status"], "{n:#}");
                (n["notice"]["seq"].as_u64().unwrap(), n["task"]["id"].as_str().unwrap().to_owned())
            }));
            let next = page["cursor"].as_u64().unwrap();
            if page["more"] == false {
                return (seen, next);
            }
            assert!(next > cursor);
            cursor = next;
        }
    };
    let (seen, cursor) = read(zero);
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
    let (mut told, mut all): (Vec<_>, Vec<_>) = (seen.iter().map(|(_, id)| id).collect(), ids.iter().collect());
    told.sort();
    all.sort();
    assert_eq!(told, all);
    assert_eq!((cursor, read(cursor).0.len()), (latest(), 0));
    // After a crash the same cursor gives the same notices.
    world.kill_daemon();
    world.start();
    assert_eq!(read(zero).0, seen);
    // A long poll ends with the notice that it waited for.
    let socket = world.socket();
    let waiter = std::thread::spawn(move || {
        crate::harness::Conn::open(&socket)
            .unwrap()
            .ask("GET", &format!("/notices?after={cursor}&wait=60"), &[], b"")
            .unwrap()
    });
    let id = world.bg("true");
    let page = waiter.join().unwrap().json();
    assert_eq!(page["notices"][0]["task"]["id"], *id);
    wait_for("nothing more", || read(cursor).0.len() == 1);
}
