//! Agents in the whole daemon, driven by demo models: they work, ask, wait, are killed with the daemon and go on.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "agents/budgets.rs"]
mod budgets;
#[path = "agents/chat.rs"]
mod chat;
mod harness;
#[path = "agents/injected.rs"]
mod injected;
#[path = "agents/life.rs"]
mod life;
#[path = "agents/mcp.rs"]
mod mcp;
#[path = "agents/provider.rs"]
mod provider;
#[path = "agents/shell.rs"]
mod shell;
#[path = "agents/soak.rs"]
mod soak;
#[path = "agents/teams.rs"]
mod teams;
#[path = "agents/wire.rs"]
mod wire;

use harness::{World, wait_for};
use serde_json::{Value, json};

/// Starts an agent that plays a script, and returns its id.
#[track_caller]
fn script(world: &World, script: &str) -> String {
    start(world, &json!({ "type": "agent", "task": script, "model": "demo/script" }))
}

#[track_caller]
fn start(world: &World, request: &Value) -> String {
    let answer = world.post("/background-agents/start", request);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Answers the open question of a task.
#[track_caller]
fn answer(world: &World, id: &str, question: &str, text: &str) {
    let path = format!("/background-agents/{id}/resume");
    let answer = world.post(&path, &json!({ "answer": text, "question": question }));
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The lines of an agent's journal.
fn journal(world: &World, id: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(world.tasks_dir().join(id).join("journal.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How often a line of a kind is in the journal.
fn count(world: &World, id: &str, kind: &str) -> usize {
    journal(world, id).iter().filter(|line| line["type"] == kind).count()
}

#[track_caller]
fn until_line(world: &World, id: &str, kind: &str) {
    wait_for(&format!("`{kind}` in the journal of {id}"), || count(world, id, kind) > 0);
}
