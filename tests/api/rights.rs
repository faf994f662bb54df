//! A task is not its owner: what a process inside a task may do.

use crate::harness::{World, wait_for};

/// A script that asks the API with a given program from inside a task and prints status lines.
const ASK: &str = r#"
ask() { printf '%s %s ' "$1" "$2"; curl -s -o /dev/null -w '%{http_code}\n' --max-time 20 --unix-socket "$OCTO_WORKSPACE/.octo/octo.sock" -X "$1" -d "$3" "http://octo$2"; }
"#;

fn statuses(world: &World, id: &str) -> Vec<String> {
    wait_for("the end", || world.task(id)["completed_at"] != "");
    let log = world.get(&format!("/background-agents/{id}/logs")).body;
    String::from_utf8(log).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_peer_inside_a_task_may_look_at_itself_and_nothing_else() {
    let world = World::new();
    let other = world.bg("exec sleep 1000");
    world.until(&other, "running");
    let script = format!(
        "{ASK}
        ask GET /background-agents/$OCTO_TASK_ID; ask GET /background-agents/$OCTO_TASK_ID/logs; ask GET /healthz
        ask GET /background-agents; ask GET /background-agents/{other}; ask GET /background-agents/{other}/logs
        ask POST /background-agents/{other}/stop; ask POST /background-agents/$OCTO_TASK_ID/stop
        ask POST /background-agents/{other}/retry; ask DELETE /background-agents/{other}
        ask POST /background-agents/start '{{\"command\":\"touch hacked\"}}'
        ask GET /notices; ask GET /status; ask GET /metrics; ask POST /clear; ask POST /trust; ask POST /shutdown
        ask GET /background-agent-ws"
    );
    for wrapped in [script.clone(), format!("cat >script <<'E'\n{script}\nE\nsetsid -w sh script")] {
        let id = world.bg(&wrapped);
        let said = statuses(&world, &id);
        for line in &said {
            let own = line.starts_with(&format!("GET /background-agents/{id}")) || line.contains("/healthz");
            let wanted = if own { "200" } else { "403" };
            assert!(line.ends_with(wanted), "{line} (of {said:#?})");
        }
        assert_eq!(said.len(), 18, "{said:#?}");
    }
    assert!(!world.path("hacked").exists());
    assert_eq!(world.task(&other)["status"], "running");
}

#[test]
fn a_peer_without_rights_is_refused_before_it_sends_a_body() {
    let world = World::new();
    let other = world.bg("exec sleep 1000");
    // The bodies never come: an answer to them would be that they did not come in time.
    let script = format!(
        "import os, socket\n\
        for path in ['/background-agents/start', '/background-agents/{other}/stop', '/shutdown']:\n\
        \x20   s = socket.socket(socket.AF_UNIX)\n\
        \x20   s.connect(os.environ['OCTO_WORKSPACE'] + '/.octo/octo.sock')\n\
        \x20   s.sendall(b'POST ' + path.encode() + b' HTTP/1.1\\r\\nhost: o\\r\\ncontent-length: 33000000\\r\\n\\r\\n')\n\
        \x20   print(path, s.recv(4096).split()[1].decode(), flush=True)\n"
    );
    std::fs::write(world.path("ask.py"), script).unwrap();
    let id = world.bg("exec python3 ask.py");
    let said = statuses(&world, &id);
    let codes: Vec<&str> = said.iter().map(|l| l.rsplit(' ').next().unwrap()).collect();
    assert_eq!(codes, ["403", "403", "403"], "{said:#?}");
}

#[test]
fn a_task_that_may_dispatch_rules_its_own_children_only() {
    let world = World::new();
    let other = world.bg("exec sleep 1000");
    world.until(&other, "running");
    let id = world.bg_with(
        &["--allow-dispatch", "--wait"],
        &format!(
            "octo=$(readlink -f \"$OCTO_WORKSPACE/.octo/bin/claude\"); child=$(\"$octo\" bg 'exec sleep 1000') || exit 9
            {ASK}
            ask GET /background-agents/$child; ask POST /background-agents/$child/stop
            ask GET /background-agents/{other}; ask POST /background-agents/{other}/stop; ask GET /background-agents"
        ),
    );
    let said = statuses(&world, &id);
    let codes: Vec<&str> = said.iter().map(|l| l.rsplit(' ').next().unwrap()).collect();
    assert_eq!(codes, ["200", "200", "403", "403", "403"], "{said:#?}");
    let all = world.octo(&["tasks", "--json", "--limit", "0"]).json();
    let child = all.as_array().unwrap().iter().find(|t| t["parent"] == *id).expect("a child that names its parent");
    assert_eq!(world.ended(child["id"].as_str().unwrap())["status"], "cancelled");
}
