//! A provider of models, played by a server: each request is answered by a function of the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What a model says in one reply, and what that used.
#[derive(Clone, Default)]
pub(crate) struct Said {
    pub(crate) text: String,
    /// The tools that it calls, with their arguments.
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) usage: Used,
}

/// Tokens as a bill has them.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    /// Of the prompt, beside the cached ones.
    pub(crate) input: u64,
    pub(crate) cached_read: u64,
    pub(crate) cached_write: u64,
    pub(crate) output: u64,
}

impl Default for Used {
    fn default() -> Used {
        Used { input: 1000, cached_read: 0, cached_write: 0, output: 10 }
    }
}

impl Said {
    pub(crate) fn text(text: impl Into<String>) -> Said {
        Said { text: text.into(), ..Said::default() }
    }

    pub(crate) fn call(mut self, tool: &str, arguments: Value) -> Said {
        self.calls.push((tool.to_owned(), arguments));
        self
    }

    pub(crate) fn used(self, usage: Used) -> Said {
        Said { usage, ..self }
    }
}

/// The server.
pub(crate) struct Provider {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Provider {
    /// `answer` makes a reply to a request (its body), which is the so many-th one, from 0. Requests are answered at
    /// the same time. It speaks Anthropic's wire at `/v1/messages`, and OpenAI's everywhere else.
    pub(crate) fn start(answer: impl Fn(&Value, usize) -> Said + Send + Sync + 'static) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (keep, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (keep, answer) = (Arc::clone(&keep), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &keep, &*answer));
            }
        });
        Provider { url, asked }
    }

    /// The bodies of all requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, keep: &Mutex<Vec<Value>>, answer: &dyn Fn(&Value, usize) -> Said) {
    let mut stream = BufReader::new(stream);
    let (mut length, mut is_anthropic) = (0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        is_anthropic |= line.starts_with("POST /v1/messages");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).is_err() || length == 0 {
        return;
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let number = {
        let mut all = keep.lock().unwrap();
        all.push(request.clone());
        all.len() - 1
    };
    let said = answer(&request, number);
    let text = if is_anthropic { anthropic(&said, number) } else { openai(&said, number) };
    let length = text.len();
    // Who asked may be gone: daemons are killed here.
    drop(write!(
        stream.get_mut(),
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    ));
}

fn openai(said: &Said, number: usize) -> String {
    let chunk = |delta: Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test-model", "choices": [choice]})
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": said.text}), Value::Null)];
    for (index, (tool, arguments)) in said.calls.iter().enumerate() {
        let call = json!({"index": index, "id": format!("call_{number}_{index}"), "type": "function",
            "function": {"name": tool, "arguments": arguments.to_string()}});
        events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
    }
    let reason = if said.calls.is_empty() { "stop" } else { "tool_calls" };
    let used = said.usage;
    let prompt = used.input + used.cached_read + used.cached_write;
    events.push(chunk(json!({}), json!(reason)));
    events.push(
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "test-model", "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": used.output, "total_tokens": prompt + used.output,
            "prompt_tokens_details": {"cached_tokens": used.cached_read}}}),
    );
    events.iter().map(|event| format!("data: {event}\n\n")).chain(["data: [DONE]\n\n".to_owned()]).collect()
}

fn anthropic(said: &Said, number: usize) -> String {
    let used = said.usage;
    let usage = json!({"input_tokens": used.input, "cache_read_input_tokens": used.cached_read,
        "cache_creation_input_tokens": used.cached_write, "output_tokens": 1});
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "test-model",
            "content": [], "stop_reason": null, "usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said.text}}),
        json!({"type": "content_block_stop", "index": 0}),
    ];
    for (at, (tool, input)) in said.calls.iter().enumerate() {
        let index = at + 1;
        events.push(json!({"type": "content_block_start", "index": index, "content_block":
            {"type": "tool_use", "id": format!("toolu_{number}_{at}"), "name": tool, "input": {}}}));
        events.push(json!({"type": "content_block_delta", "index": index,
            "delta": {"type": "input_json_delta", "partial_json": input.to_string()}}));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let reason = if said.calls.is_empty() { "end_turn" } else { "tool_use" };
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": used.output}}),
    );
    events.push(json!({"type": "message_stop"}));
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}
