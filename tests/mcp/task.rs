//! `octo mcp` inside a task.

use serde_json::{Value, json};

use crate::harness::{World, wait_for};
use crate::owner::{Client, TASK_TOOLS};

/// What `octo mcp` answers to these requests when a task runs it, by their ids.
fn asked_by_a_task(world: &World, options: &[&str], before: &str, requests: &[Value]) -> Vec<Value> {
    let me = json!({"name": "test", "version": "0"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": me});
    let mut lines = format!("{}\n", json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}));
    for (id, request) in requests.iter().enumerate() {
        let mut request = request.clone();
        request["jsonrpc"] = "2.0".into();
        request["id"] = (id + 1).into();
        lines += &format!("{request}\n");
    }
    std::fs::write(world.path("in.jsonl"), lines).unwrap();
    std::fs::write(world.path("out.jsonl"), "").unwrap();
    let all = requests.len() + 1;
    let octo = env!("CARGO_BIN_EXE_octo");
    // Its input stays open until all is answered.
    let feed = format!("cat in.jsonl; while [ $(wc -l < out.jsonl) -lt {all} ]; do sleep 0.05; done");
    let id = world.bg_with(options, &format!("({feed}) | {before} {octo} mcp > out.jsonl"));
    assert_eq!(world.ended(&id)["status"], "completed");
    let text = std::fs::read_to_string(world.path("out.jsonl")).unwrap();
    let mut answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(answers.len(), all, "{answers:?}");
    answers.split_off(1)
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

fn names(answer: &Value) -> Vec<&str> {
    answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn a_task_may_ask_and_nothing_else_however_it_calls_itself() {
    let world = World::new();
    let start = json!({"task_type": "process", "command": "touch started"});
    let requests = [
        json!({"method": "tools/list"}),
        call("dispatch_background", start),
        call("list_background_agents", json!({})),
        call("wait_background_agents", json!({"task_ids": ["1"]})),
    ];
    for before in ["", "env -u OCTO_TASK_ID", "env -u OCTO_TASK_ID -u OCTO_RUN -u OCTO_WORKSPACE setsid -w"] {
        let answers = asked_by_a_task(&world, &[], before, &requests);
        assert_eq!(names(&answers[0]), ["escalate_question", "permission"], "{before}");
        for answer in &answers[1..] {
            assert_eq!(answer["error"]["code"], -32602, "{before}: {answer}");
        }
    }
    assert!(!world.path("started").exists());
    let bridge = asked_by_a_task(&world, &["--env", "OCTO_CLAUDE_BRIDGE=off"], "", &requests[..1]);
    assert_eq!(names(&bridge[0]), [""; 0]);
}

#[test]
fn a_task_that_may_dispatch_sees_what_it_started_and_no_more() {
    let world = World::new();
    let other = world.bg("echo of somebody else");
    world.ended(&other);
    let start = json!({"task_type": "process", "command": "echo of mine"});
    let first = asked_by_a_task(
        &world,
        &["--allow-dispatch"],
        "",
        &[
            json!({"method": "tools/list"}),
            call("view_background_agent", json!({"task_id": other})),
            call("stop_background_agent", json!({"task_id": other})),
            call("wait_background_agents", json!({"task_ids": [other]})),
            call("list_background_agents", json!({})),
            call("dispatch_background", start),
        ],
    );
    assert_eq!(names(&first[0]), [&["escalate_question", "permission"][..], &TASK_TOOLS].concat());
    for answer in &first[1..4] {
        assert_eq!(answer["result"]["isError"], true, "{answer}");
    }
    assert!(!first[3].to_string().contains("somebody"), "{}", first[3]);
    let started: Value = serde_json::from_str(first[5]["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    let child = started["task_id"].as_str().unwrap();
    wait_for("its end", || world.task(child)["status"] == "completed");
    assert_eq!(world.task(child)["parent"], world.task(world.task(child)["parent"].as_str().unwrap())["id"]);
    // Another task of the same kind started something else.
    let second = asked_by_a_task(
        &world,
        &["--allow-dispatch"],
        "",
        &[call("list_background_agents", json!({})), call("view_background_agent", json!({"task_id": child}))],
    );
    assert!(!second[0].to_string().contains(child) && second[1]["result"]["isError"] == true, "{second:?}");
    let all = Client::new(&world).call("list_background_agents", json!({}));
    assert_eq!(all["tasks"].as_array().unwrap().len(), 4, "{all}");
}
