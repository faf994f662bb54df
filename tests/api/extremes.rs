//! Requests that make sense and go to the limits.

use serde_json::{Value, json};

use crate::harness::World;

/// Starts one task and returns the answer's status and body.
fn start(world: &World, body: &Value) -> (u16, Value) {
    let said = world.post("/background-agents/start", body);
    if said.status >= 400 {
        said.error();
    }
    (said.status, said.json())
}

#[test]
fn numbers_at_their_limits_break_nothing() {
    let world = World::new();
    let pid = world.start();
    for timeout in [1_u64 << 31, 1 << 53, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
        let (status, body) = start(&world, &json!({"command": "sleep 0.2; echo $$", "timeout": timeout}));
        if status == 201 {
            let task = world.ended(body["id"].as_str().unwrap());
            assert_eq!(task["status"], "completed", "timeout {timeout}: {task:#}");
        } else {
            assert_eq!(status, 400, "timeout {timeout}: {body}");
        }
    }
    for query in ["wait=18446744073709551615", "wait=0"] {
        let id = world.bg("true");
        assert_eq!(world.get(&format!("/background-agents/{id}?{query}")).status, 200, "{query}");
        world.ended(&id);
    }
    assert_eq!(world.get(&format!("/notices?after={}", u64::MAX)).status, 200);
    assert_eq!(world.get(&format!("/background-agents?limit={}", usize::MAX)).status, 200);
    assert_eq!(world.get("/background-agents?cursor=-9223372036854775808.18446744073709551615").status, 200);
    assert_eq!(world.daemon_pid(), Some(pid));
    // All of it is still there for the next daemon.
    let count = |world: &World| world.octo(&["tasks", "--json", "--limit", "0"]).json().as_array().unwrap().len();
    let before = count(&world);
    world.kill_daemon();
    world.start();
    assert_eq!(count(&world), before);
}

#[test]
fn texts_at_their_limits_are_taken_or_refused_in_words() {
    let world = World::new();
    let pid = world.start();
    let long = |n: usize| "x".repeat(n);
    let many: serde_json::Map<String, Value> = (0..20_000).map(|i| (format!("V{i}"), json!("v"))).collect();
    let refused = [
        json!({"command": "true", "name": long(100_000)}),
        json!({"command": "true", "name": long(5_000_000)}),
        json!({"command": "true", "key": long(5_000_000)}),
        json!({"command": "true", "env_overrides": {"A": long(200_000)}}),
        json!({"command": "true", "env_overrides": {"A": long(6_000_000)}}),
        json!({"command": "true", "env": {"PATH": "/usr/bin:/bin", "BIG": long(3_000_000)}}),
        json!({"command": "true", "env": {"N": "a\u{0}b"}}),
        json!({"command": "true", "env_overrides": {"N": "a\u{0}b"}}),
        json!({"command": long(131_072)}),
        json!({"command": "true", "cwd": format!("/{}", long(5000))}),
        json!({"command": "true", "after": vec!["zz"; 100_000]}),
    ];
    for body in &refused {
        let shown: String = body.to_string().chars().take(80).collect();
        let (status, said) = start(&world, body);
        assert!(matches!(status, 400 | 404 | 413), "{shown}: {status} {said}");
    }
    let bodies = [
        json!({"command": "true", "name": long(60_000), "key": long(4000)}),
        json!({"command": "true", "env_overrides": {"A": long(131_000)}}),
        json!({"command": "true", "env_overrides": many}),
        json!({"command": "true", "env": {"PATH": long(100_000)}}),
        json!({"command": "true", "env": {}}),
        json!({"command": "true", "env": {"": "x", "A=B": "y"}}),
        json!({"command": long(131_071)}),
        json!({"command": "true\u{2028}# \u{202e}"}),
    ];
    for body in &bodies {
        let shown: String = body.to_string().chars().take(80).collect();
        let (status, said) = start(&world, body);
        assert!(status == 201, "{shown}: {status} {said}");
        let task = world.ended(said["id"].as_str().unwrap());
        let not_found = task["status"] == "failed" && task["exit_code"] == 127;
        assert!(task["status"] == "completed" || not_found, "{shown}: {} {}", task["status"], task["error"]);
    }
    assert_eq!(world.daemon_pid(), Some(pid));
    assert_eq!(world.status()["degraded"], "", "a request that cannot be stored is no failing disk");
    let before = world.get("/background-agents?limit=0").json()["total"].clone();
    world.kill_daemon();
    world.start();
    assert_eq!(world.get("/background-agents?limit=0").json()["total"], before);
    assert_eq!(world.status()["problems"], json!([]));
    let id = world.bg("echo well");
    assert_eq!(world.ended(&id)["result"], "well\n");
}
