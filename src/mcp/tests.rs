//! A client that speaks for `claude`, and a desk whose owner is the test.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::transport::async_rw::AsyncRwTransport;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::action;
use crate::command::{QuestionRequest, QuestionState, Refused, RefusedCode};
use crate::task::{Answer, Closed, Question};

mod permissions;
mod protocol;
mod questions;
mod waits;

/// More than any answer takes; only a defect waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a question was closed: with an answer, or without.
type End = Result<&'static str, Closed>;

/// A desk whose owner is the test.
#[derive(Clone)]
struct Owner {
    asked: Arc<watch::Sender<Vec<QuestionRequest>>>,
    ends: Arc<watch::Sender<HashMap<String, End>>>,
    refuses: Arc<Mutex<Option<Refused>>>,
    /// What is approved is something else than what was asked for.
    twists: bool,
    waiting: Arc<watch::Sender<usize>>,
}

/// Counts a wait for as long as it lasts.
struct Waits(Arc<watch::Sender<usize>>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Owner {
    fn new() -> Self {
        let (asked, ends, waiting) = (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
        let refuses = Arc::default();
        Owner { asked: asked.into(), ends: ends.into(), refuses, twists: false, waiting: waiting.into() }
    }

    fn end(&self, id: &str, end: End) {
        self.ends.send_modify(|ends| {
            ends.insert(id.to_owned(), end);
        });
    }

    /// The questions, once there are so many.
    async fn asked(&self, count: usize) -> Vec<QuestionRequest> {
        let mut asked = self.asked.subscribe();
        let seen = asked.wait_for(|all| all.len() >= count);
        tokio::time::timeout(PATIENCE, seen).await.expect("it asks").unwrap().clone()
    }

    async fn waiting(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        drop(tokio::time::timeout(PATIENCE, waiting.wait_for(|n| *n == count)).await.expect("it waits").unwrap());
    }

    fn question(&self, id: &str) -> Question {
        let number: usize = id[1..].parse().unwrap();
        let request = self.asked.borrow()[number - 1].clone();
        let action = request.action.map(|mut wanted| {
            if self.twists {
                wanted.folder.push_str("/elsewhere");
            }
            action::describe(&wanted, |_| None)
        });
        Question { id: id.to_owned(), text: request.text, open: true, action, ..Question::default() }
    }
}

impl Desk for Owner {
    async fn ask(&self, request: QuestionRequest) -> Result<QuestionState, Refused> {
        if let Some(refused) = self.refuses.lock().unwrap().clone() {
            return Err(refused);
        }
        self.asked.send_modify(|asked| asked.push(request));
        let id = format!("q{}", self.asked.borrow().len());
        // An answer that was given for the whole task is there at once.
        let end = self.ends.borrow().get(&id).copied();
        match end {
            Some(_) => self.closed(&id).await,
            None => Ok(QuestionState { question: self.question(&id), answer: None }),
        }
    }

    async fn closed(&self, id: &str) -> Result<QuestionState, Refused> {
        self.waiting.send_modify(|n| *n += 1);
        let _waits = Waits(self.waiting.clone());
        let mut ends = self.ends.subscribe();
        let end = ends.wait_for(|ends| ends.contains_key(id)).await.unwrap()[id];
        let closed = Some(end.err().unwrap_or(Closed::Answered));
        let answer =
            end.ok().map(|text| Answer { question: id.to_owned(), text: text.to_owned(), ..Answer::default() });
        Ok(QuestionState { question: Question { open: false, closed, ..self.question(id) }, answer })
    }
}

fn asking(desk: Owner, permissions: bool) -> Offer<Owner> {
    Offer { questions: Some(Questions { desk, permissions }), tasks: None }
}

/// The server's client.
struct Caller {
    write: WriteHalf<DuplexStream>,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    serving: JoinHandle<Result<(), String>>,
}

impl Caller {
    fn of(offer: Offer<Owner>, sign_of_life: Duration) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(theirs);
        let manner = Manner { folder: Box::new(|| PathBuf::from("/w")), sign_of_life };
        let serving = tokio::spawn(serve(offer, manner, AsyncRwTransport::new(read, write)));
        let (read, write) = tokio::io::split(ours);
        Caller { write, lines: BufReader::new(read).lines(), serving }
    }

    /// A client inside a task, past the handshake.
    async fn inside(owner: &Owner) -> Self {
        Self::patient(owner, SIGN_OF_LIFE).await
    }

    async fn patient(owner: &Owner, sign_of_life: Duration) -> Self {
        let mut caller = Caller::of(asking(owner.clone(), true), sign_of_life);
        caller.initialize("2025-11-25").await;
        caller
    }

    async fn initialize(&mut self, version: &str) -> Value {
        let client = json!({"name": "test", "version": "0"});
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
        let answer = self.ask("initialize", params).await;
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer["result"].clone()
    }

    async fn send(&mut self, message: Value) {
        self.write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a message comes").unwrap();
        serde_json::from_str(&line.expect("the server is there")).unwrap()
    }

    /// A request, and its answer.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params})).await;
        let answer = self.next().await;
        assert_eq!(answer["id"], method, "{answer}");
        answer
    }

    async fn call(&mut self, id: u64, tool: &str, arguments: Value) {
        let params = json!({"name": tool, "arguments": arguments});
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await;
    }

    async fn escalate(&mut self, id: u64, text: &str) {
        self.call(id, "escalate_question", json!({"question": text})).await;
    }

    async fn permission(&mut self, id: u64, tool: &str, input: &Value) {
        self.call(id, "permission", json!({"tool_name": tool, "input": input, "tool_use_id": "toolu_1"})).await;
    }

    /// The next message as a tool's result: its text, and whether it is an error.
    async fn result(&mut self) -> (String, bool) {
        let answer = self.next().await;
        let content = answer["result"]["content"].as_array().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!((content.len(), &content[0]["type"]), (1, &json!("text")), "{answer}");
        (content[0]["text"].as_str().unwrap().to_owned(), answer["result"]["isError"] == true)
    }

    /// The next message as what the permission handler decided.
    async fn verdict(&mut self) -> Value {
        let (text, is_error) = self.result().await;
        assert!(!is_error, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn tools(&mut self) -> Vec<String> {
        let answer = self.ask("tools/list", json!({})).await;
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        assert!(tools.iter().all(|t| t["_meta"]["anthropic/alwaysLoad"] == true), "{answer}");
        tools.iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Closes the client's end; the server ends.
    async fn leave(self) -> Result<(), String> {
        drop((self.write, self.lines));
        tokio::time::timeout(Duration::from_secs(3), self.serving).await.expect("the server ends at once").unwrap()
    }
}

fn bash(command: &str) -> Value {
    json!({"command": command, "description": "says so"})
}
