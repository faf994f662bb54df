//! Agents over the wires of real providers, against a server that plays them.

use serde_json::json;

use super::harness::World;
use super::provider::{Provider, Said};
use super::{answer, count, start};

/// It asks, is paused over a death of the daemon, is answered, and uses what it knew before and the answer.
fn asks_over_a_death(setting: &str, key: &str, model: &str) {
    let provider = Provider::start(|_, number| match number {
        0 => Said::text("I look.").call("list_files", json!({"path": "."})),
        1 => Said::text("I ask.").call("escalate_question", json!({"question": "Which one?"})),
        _ => Said::text("I end.").call("task_complete", json!({"summary": "It is done."})),
    });
    let world = World::with(&[(setting, &provider.url), (key, "key-of-a-test")]);
    std::fs::write(world.path("known-before.txt"), "").unwrap();
    world.start();
    let id = start(&world, &json!({ "type": "agent", "task": "Do it.", "model": model }));
    world.until(&id, "paused");
    world.kill_daemon();
    world.start();
    answer(&world, &id, "q1", "the second");
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!("It is done.")), "{task:#}");
    assert_eq!(task["usage"]["input_tokens"], 3000, "{task:#}");
    assert_eq!(task["usage"]["output_tokens"], 30, "{task:#}");
    assert_eq!(count(&world, &id, "replied"), 3);
    let asked = provider.asked();
    assert_eq!(asked.len(), 3, "no reply is asked for twice");
    let last = asked[2]["messages"].to_string();
    assert!(last.contains("known-before.txt") && last.contains("The owner answered: the second"), "{last}");
    let log = String::from_utf8(world.get(&format!("/background-agents/{id}/logs")).body).unwrap();
    assert!(log.contains("I look.") && log.contains("I end."), "{log}");
}

#[test]
fn over_openais_wire() {
    asks_over_a_death("OPENAI_BASE_URL", "OPENAI_API_KEY", "openai/test-model");
}

#[test]
fn over_anthropics_wire() {
    asks_over_a_death("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "anthropic/test-model");
}
