//! A model on this machine that speaks OpenAI's wire: it calls a tool so often, then it is done.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How a model answers.
pub(crate) struct Manner {
    /// How many of its turns call a tool; the turn after these completes the task.
    pub(crate) turns: usize,
    /// How many pieces its words come in.
    pub(crate) pieces: u32,
    /// How long it takes for each of them.
    pub(crate) pause: Duration,
    /// What is done while everybody waits for the model.
    pub(crate) meanwhile: fn(&Seen),
}

/// What the model saw.
#[derive(Default)]
pub(crate) struct Seen {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    replied: Option<Instant>,
    gaps: Vec<Duration>,
    beside: Vec<Duration>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From each reply until the next request had come. Of use where a single agent asks.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        self.lock().gaps.clone()
    }

    /// Keeps what was measured meanwhile.
    pub(crate) fn note(&self, time: Duration) {
        self.lock().beside.push(time);
    }

    /// What was measured meanwhile.
    pub(crate) fn noted(&self) -> Vec<Duration> {
        self.lock().beside.clone()
    }
}

/// A server that lives as long as this process.
pub(crate) struct Model {
    pub(crate) url: String,
    pub(crate) seen: Arc<Seen>,
}

impl Model {
    pub(crate) fn start(manner: Manner) -> Result<Model> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let seen = Arc::new(Seen::default());
        let (manner, keep) = (Arc::new(manner), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (manner, seen) = (Arc::clone(&manner), Arc::clone(&keep));
                // An agent that is gone closes its connection: nobody has to hear of that.
                std::thread::spawn(move || drop(serve(stream, &manner, &seen)));
            }
        });
        Ok(Model { url, seen })
    }
}

fn serve(stream: TcpStream, manner: &Manner, seen: &Seen) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(body) = request(&mut stream)? {
        let now = Instant::now();
        {
            let mut inner = seen.lock();
            if let Some(replied) = inner.replied.take() {
                inner.gaps.push(now.duration_since(replied));
            }
        }
        let body: Value = serde_json::from_slice(&body)?;
        let messages = body["messages"].as_array().context("no messages")?;
        let turn = messages.iter().filter(|message| message["role"] == "tool").count();
        (manner.meanwhile)(seen);
        reply(stream.get_mut(), turn, manner, seen)?;
    }
    Ok(())
}

/// The body of the next request; `None`: there comes none.
fn request(stream: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>> {
    let (mut length, mut lines) = (0, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        lines += 1;
        if line.trim().is_empty() && lines > 1 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

fn reply(stream: &mut TcpStream, turn: usize, manner: &Manner, seen: &Seen) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut text = head.to_owned();
    for piece in 0..manner.pieces {
        std::thread::sleep(manner.pause);
        text += &chunk(&event(&json!({ "role": "assistant", "content": format!("word{piece} ") }), &Value::Null));
        if !manner.pause.is_zero() {
            stream.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    let (tool, arguments) = match turn {
        turn if turn < manner.turns => ("read_file", json!({ "path": "notes.txt" })),
        _ => ("task_complete", json!({ "summary": "done" })),
    };
    let call = json!({ "index": 0, "id": format!("call_{turn}"), "type": "function",
        "function": { "name": tool, "arguments": arguments.to_string() } });
    text += &chunk(&event(&json!({ "tool_calls": [call] }), &Value::Null));
    text += &chunk(&event(&json!({}), &json!("tool_calls")));
    let usage = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 } });
    text += &chunk(&format!("data: {usage}\n\ndata: [DONE]\n\n"));
    text += "0\r\n\r\n";
    seen.lock().replied = Some(Instant::now());
    stream.write_all(text.as_bytes())?;
    Ok(())
}

fn event(delta: &Value, reason: &Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
    let event =
        json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice] });
    format!("data: {event}\n\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}
