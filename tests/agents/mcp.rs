//! The tools of MCP servers in an agent's hands: asked for, run once, and never again when their effect is unknown.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use super::harness::{World, pause, wait_for};
use super::{answer, count, script};

/// Says that this process is a server.
const SERVER: &str = "OCTO_TEST_SERVER";

/// No test, unless it is started as a server. What the test harness prints first is no MCP: clients pass over it.
#[test]
fn it_is_a_server() {
    if std::env::var_os(SERVER).is_none() {
        return;
    }
    for line in std::io::stdin().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "test", "version": "1"},
            }),
            Some("tools/list") => json!({"tools": [{"name": "note", "inputSchema": {"type": "object"}}]}),
            Some("tools/call") => {
                fs::File::options().append(true).create(true).open("noted").unwrap().write_all(b"x").unwrap();
                while std::path::Path::new("hold").exists() {
                    pause();
                }
                json!({"content": [{"type": "text", "text": "noted well"}]})
            }
            _ => continue,
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        println!("{answer}");
    }
}

fn world() -> World {
    let world = World::new();
    let program = std::env::current_exe().unwrap();
    let settings = format!(
        "[mcp.test]\ncommand = {:?}\nargs = [\"--exact\", \"mcp::it_is_a_server\", \"--nocapture\", \"--quiet\"]\nenv = {{ \
         {SERVER} = \"1\" }}\n",
        program.to_str().unwrap()
    );
    fs::write(world.path("octo.toml"), settings).unwrap();
    world.start();
    world
}

const NOTES: &str = "call test__note {\"a\": 1}\n---\ncall task_complete {\"summary\": \"{result}\"}\n";

#[test]
fn a_tool_of_a_server_is_asked_for_and_run() {
    let world = world();
    let id = script(&world, NOTES);
    let task = world.until(&id, "paused");
    assert_eq!(task["paused_reason"], "permission", "{task:#}");
    assert_eq!(task["questions"][0]["action"]["tool"], "test__note", "{task:#}");
    assert!(!world.path("noted").exists());
    answer(&world, &id, "q1", "allow");
    assert_eq!(world.ended(&id)["result"], "noted well");
    wait_for("the server to be gone with the agent", || world.processes(&id).is_empty());
}

#[test]
fn a_call_that_was_under_way_is_not_made_again() {
    let world = world();
    fs::write(world.path("hold"), "").unwrap();
    let id = script(&world, NOTES);
    world.until(&id, "paused");
    answer(&world, &id, "q1", "allow");
    wait_for("the call", || world.path("noted").exists());
    world.kill_daemon();
    fs::remove_file(world.path("hold")).unwrap();
    world.start();
    let task = world.ended(&id);
    assert!(task["result"].as_str().unwrap().contains("whether it took effect is not known"), "{task:#}");
    assert_eq!(fs::read_to_string(world.path("noted")).unwrap(), "x");
    assert_eq!(count(&world, &id, "started"), 1);
}
