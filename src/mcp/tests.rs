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

#[tokio::test]
async fn speaks_as_claude_expects_it() {
    let mut claude = Caller::of(asking(Owner::new(), true), SIGN_OF_LIFE);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "claude-code", "version": "2.1.329"},
        "io.modelcontextprotocol/clientCapabilities": {"roots": {"listChanged": true}},
    });
    for params in [json!({"_meta": meta}), json!({})] {
        assert_eq!(claude.ask("server/discover", params).await["error"]["code"], -32601);
    }
    claude.send(json!({"jsonrpc": "2.0", "method": "notifications/early"})).await;
    assert_eq!(claude.ask("tools/list", json!({})).await["error"]["code"], -32601, "nothing before the beginning");
    assert_eq!(claude.ask("ping", json!({})).await["result"], json!({}));
    let info = claude.initialize("2025-11-25").await;
    assert_eq!((&info["protocolVersion"], &info["serverInfo"]["name"]), (&json!("2025-11-25"), &json!("octo")));
    assert_eq!(info["capabilities"], json!({"tools": {}}));
    for method in ["server/discover", "prompts/list", "resources/list", "no/such", "completion/complete"] {
        assert_eq!(claude.ask(method, json!({})).await["error"]["code"], -32601, "{method}");
    }
    assert_eq!(claude.ask("server/discover", json!({"_meta": meta})).await["error"]["code"], -32601);
    assert_eq!(claude.ask("ping", json!({})).await["result"], json!({}));
    assert_eq!(claude.tools().await, ["escalate_question", "permission"]);
    assert_eq!(claude.leave().await, Ok(()));
}

#[tokio::test]
async fn speaks_older_revisions_and_offers_its_own_to_newer_ones() {
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2026-07-28", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
    ] {
        let mut caller = Caller::of(Offer::nothing(), SIGN_OF_LIFE);
        assert_eq!(caller.initialize(asked).await["protocolVersion"], answered, "{asked}");
    }
}

#[tokio::test]
async fn a_client_that_just_looks_in_does_no_harm() {
    assert_eq!(Caller::of(Offer::nothing(), SIGN_OF_LIFE).leave().await, Ok(()));
}

#[tokio::test]
async fn offers_just_what_is_meant_for_the_client() {
    let mut outside = Caller::of(Offer::nothing(), SIGN_OF_LIFE);
    outside.initialize("2025-11-25").await;
    assert_eq!(outside.tools().await, [""; 0]);
    let owner = Owner::new();
    let mut questions = Caller::of(asking(owner.clone(), false), SIGN_OF_LIFE);
    questions.initialize("2025-11-25").await;
    assert_eq!(questions.tools().await, ["escalate_question"]);
    for (caller, tool) in [(&mut outside, "escalate_question"), (&mut questions, "permission")] {
        caller.call(1, tool, json!({"question": "x", "tool_name": "Bash", "input": {}})).await;
        assert_eq!(caller.next().await["error"]["code"], -32602, "{tool}");
    }
    assert_eq!(owner.asked.borrow().len(), 0);
}

#[tokio::test]
async fn a_question_is_asked_and_its_answer_returned() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.call(1, "escalate_question", json!({"question": "Which?", "choices": ["a", "b"]})).await;
    let asked = owner.asked(1).await;
    let expected = QuestionRequest {
        text: "Which?".into(),
        choices: vec!["a".into(), "b".into()],
        by: "claude".into(),
        ..Default::default()
    };
    assert_eq!(asked, [expected]);
    owner.end("q1", Ok("b"));
    assert_eq!(claude.result().await, ("b".to_owned(), false));
}

#[tokio::test]
async fn no_answer_cannot_be_taken_for_one() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    for (i, closed) in [Closed::NoAnswer, Closed::TaskEnded].into_iter().enumerate() {
        claude.escalate(1, "Which?").await;
        owner.asked(i + 1).await;
        owner.end(&format!("q{}", i + 1), Err(closed));
        let (text, is_error) = claude.result().await;
        assert!(is_error && text.starts_with("NO ANSWER: nobody answered"), "{text}");
    }
    *owner.refuses.lock().unwrap() = Some(Refused::new(RefusedCode::Conflict, "task a1 has ended"));
    claude.escalate(1, "Which?").await;
    let (text, is_error) = claude.result().await;
    assert!(is_error && text.starts_with("NO ANSWER: ") && text.contains("task a1 has ended"), "{text}");
}

#[tokio::test]
async fn a_malformed_question_is_told_to_the_model() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    for arguments in
        [json!({}), json!({"question": ""}), json!({"question": 7}), json!({"question": "x", "choices": "y"})]
    {
        claude.call(1, "escalate_question", arguments.clone()).await;
        let (text, is_error) = claude.result().await;
        assert!(is_error && text.starts_with("The question was not asked"), "{arguments}: {text}");
    }
    assert_eq!(owner.asked.borrow().len(), 0);
}

#[tokio::test]
async fn answers_find_their_questions_in_any_order() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    for id in 1..=3 {
        claude.escalate(id, &format!("question {id}")).await;
        owner.asked(usize::try_from(id).unwrap()).await;
    }
    for (id, answer) in [(3, "three"), (1, "one"), (2, "two")] {
        owner.end(&format!("q{id}"), Ok(answer));
        let message = claude.next().await;
        assert_eq!((&message["id"], &message["result"]["content"][0]["text"]), (&json!(id), &json!(answer)));
    }
}

#[tokio::test]
async fn only_a_plain_yes_allows_and_with_the_very_input() {
    let input = json!({"z": 1, "command": "make", "a": {"y": [1.5, null], "b": "é"}});
    let allowed = json!({"behavior": "allow", "updatedInput": input}).to_string();
    for (end, allows) in [
        (Ok("allow"), true),
        (Ok("allow for this task"), true),
        (Ok("deny"), false),
        (Ok("yes"), false),
        (Ok("Allow"), false),
        (Ok(""), false),
        (Err(Closed::NoAnswer), false),
        (Err(Closed::TaskEnded), false),
    ] {
        let owner = Owner::new();
        let mut claude = Caller::inside(&owner).await;
        claude.permission(1, "Bash", &input).await;
        let asked = owner.asked(1).await.remove(0);
        assert_eq!((asked.text.as_str(), asked.by.as_str(), asked.choices.len()), ("", "claude", 0));
        let wanted = asked.action.unwrap();
        assert_eq!((wanted.tool.as_str(), wanted.folder.as_str(), &wanted.input), ("Bash", "/w", &input));
        owner.end("q1", end);
        let (text, is_error) = claude.result().await;
        assert!(!is_error);
        if allows {
            assert_eq!(text, allowed, "{end:?}");
        } else {
            let verdict: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(verdict["behavior"], "deny", "{end:?}");
            assert!(verdict["message"].is_string() && verdict.get("updatedInput").is_none(), "{text}");
        }
    }
}

#[tokio::test]
async fn an_approval_of_something_else_is_none() {
    let owner = Owner { twists: true, ..Owner::new() };
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "Bash", &bash("make")).await;
    owner.asked(1).await;
    owner.end("q1", Ok("allow"));
    let verdict = claude.verdict().await;
    assert_eq!(verdict["behavior"], "deny");
    assert!(verdict["message"].as_str().unwrap().contains("not what was asked for"), "{verdict}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_not_allowed() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    *owner.refuses.lock().unwrap() = Some(Refused::new(RefusedCode::TooLarge, "the input is too large"));
    claude.permission(1, "Bash", &bash("make")).await;
    let verdict = claude.verdict().await;
    assert_eq!(verdict["behavior"], "deny");
    assert!(verdict["message"].as_str().unwrap().contains("the input is too large"), "{verdict}");
    for arguments in [json!({}), json!({"tool_name": "Bash"}), json!({"tool_name": 1, "input": {}})] {
        claude.call(1, "permission", arguments).await;
        assert_eq!(claude.verdict().await["behavior"], "deny");
    }
}

#[tokio::test]
async fn what_was_allowed_for_the_task_is_not_waited_for() {
    let owner = Owner::new();
    owner.end("q1", Ok("allow"));
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "Bash", &bash("make")).await;
    assert_eq!(claude.verdict().await["behavior"], "allow");
}

fn databases(multi: bool) -> Value {
    json!({"questions": [
        {"question": "Which?", "header": "DB", "multiSelect": multi, "options": [
            {"label": "Postgres", "description": "a server"}, {"label": "SQLite", "description": "a file"}, {"label": "None, yet"}]},
        {"question": "Why?", "header": "Why", "options": []},
    ], "kept": true})
}

#[tokio::test]
async fn claudes_own_questions_are_asked_all_at_once() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "AskUserQuestion", &databases(false)).await;
    let asked = owner.asked(2).await;
    assert_eq!(asked[0].text, "Which?\n\nPostgres: a server\nSQLite: a file");
    assert_eq!(asked[0].choices, ["Postgres", "SQLite", "None, yet"]);
    assert_eq!((asked[1].text.as_str(), asked[1].choices.len()), ("Why?", 0));
    assert!(asked.iter().all(|q| q.free && q.action.is_none() && q.by == "claude"));
    owner.waiting(2).await;
    owner.end("q2", Ok("because"));
    owner.end("q1", Ok("SQLite"));
    let mut input = databases(false);
    input["answers"] = json!({"Which?": "SQLite", "Why?": "because"});
    assert_eq!(claude.verdict().await, json!({"behavior": "allow", "updatedInput": input}));
}

#[tokio::test]
async fn several_choices_become_labels() {
    for (said, answer) in [
        ("1, sqlite", "Postgres, SQLite"),
        ("None, yet", "None, yet"),
        ("2", "SQLite"),
        ("3,MySQL", "None, yet, MySQL"),
        ("9", "9"),
    ] {
        let owner = Owner::new();
        owner.end("q2", Ok("x"));
        let mut claude = Caller::inside(&owner).await;
        claude.permission(1, "AskUserQuestion", &databases(true)).await;
        let asked = owner.asked(1).await;
        assert!(asked[0].text.ends_with("Several may be chosen, with commas between them."), "{}", asked[0].text);
        owner.end("q1", Ok(said));
        assert_eq!(claude.verdict().await["updatedInput"]["answers"]["Which?"], answer, "{said}");
    }
}

#[tokio::test]
async fn a_question_of_claudes_own_without_an_answer_gets_none() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.permission(1, "AskUserQuestion", &databases(false)).await;
    owner.asked(2).await;
    owner.end("q1", Ok("SQLite"));
    owner.end("q2", Err(Closed::NoAnswer));
    let verdict = claude.verdict().await;
    assert_eq!(verdict["behavior"], "deny");
    let why = "Nobody answered: Why?. Answers were given only to: {\"Which?\":\"SQLite\"}";
    assert_eq!(verdict["message"], why);
    for input in [json!({}), json!({"questions": []}), json!({"questions": [{"header": "x"}]})] {
        claude.permission(1, "AskUserQuestion", &input).await;
        assert_eq!(claude.verdict().await["behavior"], "deny", "{input}");
    }
    assert_eq!(owner.asked.borrow().len(), 2);
}

/// Twenty minutes by a clock on which a sign of life, every twenty seconds by rights, comes every ten milliseconds.
#[tokio::test]
async fn a_long_wait_shows_signs_of_life_and_ends_with_the_answer() {
    let owner = Owner::new();
    let mut claude = Caller::patient(&owner, SIGN_OF_LIFE / 2000).await;
    let arguments = json!({"tool_name": "Bash", "input": bash("make"), "tool_use_id": "t"});
    let params = json!({"name": "permission", "arguments": arguments, "_meta": {"progressToken": 2}});
    claude.send(json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params})).await;
    let mut last = 0.0;
    for _ in 0..60 {
        let sign = claude.next().await;
        assert_eq!((&sign["method"], &sign["params"]["progressToken"]), (&json!("notifications/progress"), &json!(2)));
        let progress = sign["params"]["progress"].as_f64().unwrap();
        assert!(progress > last, "{sign}");
        last = progress;
    }
    owner.end("q1", Ok("allow"));
    let answer = loop {
        let message = claude.next().await;
        if message["method"].is_null() {
            break message;
        }
    };
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("\"allow\""), "{answer}");
    assert_eq!(owner.asked.borrow().len(), 1, "it asked once");
}

#[tokio::test]
async fn who_asks_for_no_signs_gets_none() {
    let owner = Owner::new();
    let mut claude = Caller::patient(&owner, Duration::from_millis(1)).await;
    claude.escalate(1, "Which?").await;
    owner.waiting(1).await;
    let unheard = tokio::time::timeout(Duration::from_millis(100), claude.lines.next_line()).await;
    assert!(unheard.is_err(), "{unheard:?}");
    owner.end("q1", Ok("this"));
    assert_eq!(claude.result().await.0, "this");
}

#[tokio::test]
async fn a_cancelled_request_is_waited_for_no_longer() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.escalate(7, "Which?").await;
    owner.waiting(1).await;
    let params = json!({"requestId": 7, "reason": "interrupted"});
    claude.send(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
    owner.waiting(0).await;
    owner.end("q1", Ok("too late"));
    // The next message is the answer to something else: the cancelled request gets none.
    assert_eq!(claude.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_wait() {
    let owner = Owner::new();
    let mut claude = Caller::inside(&owner).await;
    claude.escalate(1, "Which?").await;
    claude.permission(2, "Bash", &bash("make")).await;
    owner.waiting(2).await;
    assert_eq!(claude.leave().await, Ok(()));
    owner.waiting(0).await;
}
