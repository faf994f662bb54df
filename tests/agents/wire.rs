//! Agents over the wires of real providers, against a server that plays them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::harness::World;
use super::{answer, count, start};

/// A provider: gives one answer after the other, and keeps what it was asked.
struct Provider {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Provider {
    fn start(answers: Vec<String>) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let mut all = keep.lock().unwrap();
                all.push(serde_json::from_slice::<Value>(&body).unwrap());
                let text = &answers[(all.len() - 1).min(answers.len() - 1)];
                drop(write!(
                    stream.get_mut(),
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                ));
            }
        });
        Provider { url, asked }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

/// A reply over OpenAI's wire that calls a tool.
fn openai(text: &str, tool: &str, arguments: &Value) -> String {
    let chunk = |delta: Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test-model", "choices": [choice]})
    };
    let call = json!({"index": 0, "id": format!("call_{tool}"), "type": "function",
        "function": {"name": tool, "arguments": arguments.to_string()}});
    let usage = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test-model", "choices": [],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}});
    let events = [
        chunk(json!({"role": "assistant", "content": text}), Value::Null),
        chunk(json!({"tool_calls": [call]}), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        usage,
    ];
    events.iter().map(|event| format!("data: {event}\n\n")).chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// The same over Anthropic's wire.
fn anthropic(text: &str, tool: &str, input: &Value) -> String {
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "test-model",
            "content": [], "stop_reason": null, "usage": {"input_tokens": 1000, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "tool_use", "id": format!("toolu_{tool}"), "name": tool, "input": {}}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": input.to_string()}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 10}}),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

/// It asks, is paused over a death of the daemon, is answered, and uses what it knew before and the answer.
fn asks_over_a_death(setting: &str, key: &str, model: &str, reply: fn(&str, &str, &Value) -> String) {
    let provider = Provider::start(vec![
        reply("I look.", "list_files", &json!({"path": "."})),
        reply("I ask.", "escalate_question", &json!({"question": "Which one?"})),
        reply("I end.", "task_complete", &json!({"summary": "It is done."})),
    ]);
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
    asks_over_a_death("OPENAI_BASE_URL", "OPENAI_API_KEY", "openai/test-model", openai);
}

#[test]
fn over_anthropics_wire() {
    asks_over_a_death("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "anthropic/test-model", anthropic);
}
