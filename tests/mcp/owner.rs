//! `octo mcp` for its owner's clients, spoken to in plain JSON-RPC.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use octo::agent::tools;
use serde_json::{Value, json};

use crate::harness::{LONG, World, is_id, wait_for};

pub(crate) const TASK_TOOLS: [&str; 5] = [
    "dispatch_background",
    "list_background_agents",
    "view_background_agent",
    "stop_background_agent",
    "wait_background_agents",
];

/// A client of one `octo mcp`.
pub(crate) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    next: u64,
}

impl Client {
    /// Past the handshake.
    pub(crate) fn new(world: &World) -> Client {
        let mut client = Client::start(world.octo_command(&["mcp"]));
        let me = json!({"name": "test", "version": "0"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": me});
        let answer = client.ask("initialize", params);
        assert_eq!(answer["result"]["serverInfo"]["name"], "octo");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    fn start(mut command: Command) -> Client {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let message = serde_json::from_str(&line.unwrap()).expect("nothing but MCP is printed");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Client { stdin: child.stdin.take(), child, messages, next: 0 }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.stdin.as_ref().unwrap(), "{message}").unwrap();
    }

    #[track_caller]
    fn receive(&mut self) -> Value {
        self.messages.recv_timeout(LONG).expect("a message comes")
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        self.ask_as(json!(self.next), method, params)
    }

    #[track_caller]
    fn ask_as(&mut self, id: Value, method: &str, params: Value) -> Value {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let answer = self.receive();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// The answer of a tool, which is JSON.
    #[track_caller]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let (text, is_error) = said(&self.ask("tools/call", json!({"name": tool, "arguments": arguments})));
        assert!(!is_error, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The words of a tool that refuses.
    #[track_caller]
    pub(crate) fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let (text, is_error) = said(&self.ask("tools/call", json!({"name": tool, "arguments": arguments})));
        assert!(is_error, "{text}");
        text
    }

    #[track_caller]
    pub(crate) fn dispatch(&mut self, command: &str) -> String {
        let started = self.call("dispatch_background", json!({"task_type": "process", "command": command}));
        let id = started["task_id"].as_str().unwrap().to_owned();
        assert!(is_id(&id), "{started}");
        id
    }

    #[track_caller]
    fn wait(&mut self, ids: &[&str]) -> Value {
        self.call("wait_background_agents", json!({"task_ids": ids, "timeout": 60}))
    }

    /// Closes its end; the server leaves.
    fn leave(mut self) {
        self.stdin = None;
        wait_for("the server to leave", || self.child.try_wait().unwrap().is_some());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn said(answer: &Value) -> (String, bool) {
    let content = answer["result"]["content"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!((content.len(), &content[0]["type"]), (1, &json!("text")), "{answer}");
    (content[0]["text"].as_str().unwrap().to_owned(), answer["result"]["isError"] == true)
}

#[test]
fn it_offers_tasks_as_agents_have_them_and_never_an_answer() {
    let world = World::new();
    let mut client = Client::new(&world);
    let answer = client.ask("tools/list", json!({}));
    let listed = answer["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = listed.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, TASK_TOOLS);
    for tool in listed {
        let known = tools::find(tool["name"].as_str().unwrap()).unwrap();
        assert_eq!((&tool["inputSchema"], &tool["description"]), (&known.schema(), &json!(known.about)));
        assert_eq!(tool["annotations"]["readOnlyHint"], known.class == tools::Class::Read, "{tool}");
        jsonschema::validator_for(&tool["inputSchema"]).unwrap();
    }
    for method in ["server/discover", "prompts/list", "resources/list", "tasks/answer", "completion/complete"] {
        assert_eq!(client.ask(method, json!({}))["error"]["code"], -32601, "{method}");
    }
    for tool in ["escalate_question", "permission", "resume", "shell", "transfer_task", "run_background_agent"] {
        let answer = client.ask("tools/call", json!({"name": tool, "arguments": {}}));
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    assert!(world.daemon_pid().is_none(), "who only looks starts no daemon");
    client.leave();
}

#[test]
fn tasks_are_started_shown_waited_for_and_stopped() {
    let world = World::new();
    std::fs::create_dir(world.path("sub")).unwrap();
    let mut client = Client::new(&world);
    let first = client.dispatch("pwd; printf 'a\\033[31mb\\n'; exit 3");
    let second = client.call(
        "dispatch_background",
        json!({"task_type": "process", "command": "pwd; read never < /dev/zero || sleep 600", "cwd": "sub", "timeout": 500}),
    );
    let second = second["task_id"].as_str().unwrap();
    assert_eq!(world.task(second)["timeout"], 500);
    let waited = client.wait(&[&first, "ffffffff", &first]);
    let ended = json!({"task_id": first, "status": "failed", "done": true, "exit_code": 3,
        "output": format!("{}\nab", world.root().display()), "error": world.task(&first)["error"]});
    let gone = json!({"task_id": "ffffffff", "status": "not_found", "done": true, "error": "no such task: ffffffff"});
    assert_eq!(waited, json!({"all_done": true, "tasks": [ended, gone]}));
    world.until(second, "running");
    wait_for("its first line", || {
        client.call("view_background_agent", json!({"task_id": second}))["output"] == json!(world.path("sub"))
    });
    let shown = client.call("list_background_agents", json!({}));
    let rows: Vec<_> = shown["tasks"].as_array().unwrap().iter().map(|t| (&t["task_id"], &t["status"])).collect();
    assert_eq!(rows, [(&json!(second), &json!("running")), (&json!(first), &json!("failed"))], "{shown}");
    let timed_out = client.call("wait_background_agents", json!({"task_ids": [second, first], "timeout": 1}));
    assert_eq!((&timed_out["all_done"], &timed_out["timed_out"]), (&json!(false), &json!(true)), "{timed_out}");
    assert_eq!(timed_out["tasks"][0]["status"], "running");
    assert_eq!(client.call("stop_background_agent", json!({"task_id": "2"}))["task_id"], second, "its number will do");
    assert_eq!(client.wait(&[second])["tasks"][0]["status"], "cancelled");
    assert!(world.left(second).is_empty());
    let view = client.call("view_background_agent", json!({"task_id": first}));
    assert_eq!((&view["exit_code"], &view["why"]), (&json!(3), &json!("exit 3")), "{view}");
    client.leave();
}

#[test]
fn what_goes_wrong_is_told_to_the_model_with_what_to_do() {
    let world = World::new();
    let mut client = Client::new(&world);
    let id = client.dispatch("true");
    client.wait(&[&id]);
    for (tool, arguments, says) in [
        (
            "view_background_agent",
            json!({"task_id": "ffffffff"}),
            "error: no such task: ffffffff\nhint: list_background",
        ),
        ("stop_background_agent", json!({"task_id": id}), "ended"),
        ("stop_background_agent", json!({}), "`task_id` is missing"),
        ("dispatch_background", json!({"task_type": "process"}), "a process needs `command`"),
        ("dispatch_background", json!({"task_type": "process", "command": "true", "cwd": "nowhere"}), "nowhere"),
        ("dispatch_background", json!({"task_type": "process", "command": "true", "env": {}}), "no argument `env`"),
        ("wait_background_agents", json!({"task_ids": ["ffffffff"]}), "not_found"),
        ("wait_background_agents", json!({"task_ids": [], "timeout": 1}), "`task_ids` must be"),
    ] {
        let words = client.refused(tool, arguments);
        assert!(words.contains(says), "{tool}: {words}");
    }
    // Whether there are agents is the daemon's to say.
    let agent =
        json!({"name": "dispatch_background", "arguments": {"task_type": "agent", "prompt": "hi", "max_turns": 3}});
    let (words, is_error) = said(&client.ask("tools/call", agent));
    assert!(if is_error { words.contains("hint: ") } else { words.contains("task_id") }, "{words}");
    client.leave();
}

#[test]
fn a_request_that_is_sent_again_starts_nothing_again() {
    let world = World::new();
    let mut client = Client::new(&world);
    let start = |client: &mut Client, id: Value, command: &str, meta: Value| {
        let arguments = json!({"task_type": "process", "command": command});
        let params = json!({"name": "dispatch_background", "arguments": arguments, "_meta": meta});
        let (text, is_error) = said(&client.ask_as(id, "tools/call", params));
        assert!(!is_error, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["task_id"].clone()
    };
    let first = start(&mut client, json!("a"), "true", json!({}));
    assert_eq!(start(&mut client, json!("a"), "true", json!({})), first);
    assert_ne!(start(&mut client, json!("b"), "true", json!({})), first);
    assert_ne!(start(&mut client, json!("a"), "true ", json!({})), first, "another command is another task");
    let mut other = Client::new(&world);
    assert_ne!(start(&mut other, json!("a"), "true", json!({})), first, "another client");
    let call = json!({"claudecode/toolUseId": "toolu_01A09q90qw90lq917835lq9"});
    let called = start(&mut client, json!(1001), "true", call.clone());
    assert_eq!(start(&mut other, json!(2001), "true", call), called, "the same call over another connection");
    let counted = json!({"claudecode/toolUseId": "toolu_1"});
    let one = start(&mut client, json!(1002), "true", counted.clone());
    assert_ne!(start(&mut other, json!(2002), "true", counted), one, "an id that may well come twice");
    let all = world.octo(&["tasks", "--limit", "0", "--json"]).exits(0).json();
    assert_eq!(all.as_array().unwrap().len(), 7, "{all}");
}

#[test]
fn a_wait_goes_on_over_a_daemon_that_is_killed() {
    let world = World::new();
    let mut client = Client::new(&world);
    let id = client.dispatch("while [ ! -e go ]; do sleep 0.05; done; echo went");
    world.until(&id, "running");
    let call = json!({"name": "wait_background_agents", "arguments": {"task_ids": [id]}});
    client.send(&json!({"jsonrpc": "2.0", "id": "wait", "method": "tools/call", "params": call}));
    // Other requests are answered meanwhile.
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    for _ in 0..2 {
        world.kill_daemon();
        wait_for("the one who waits to start another daemon", || world.daemon_pid().is_some());
        world.wait_ready();
    }
    std::fs::write(world.path("go"), "").unwrap();
    let answer = client.receive();
    assert_eq!(answer["id"], "wait");
    let answer: Value = serde_json::from_str(&said(&answer).0).unwrap();
    assert_eq!((&answer["all_done"], &answer["tasks"][0]["output"]), (&json!(true), &json!("went")), "{answer}");
}

#[test]
fn a_cancelled_wait_is_over_and_the_task_goes_on() {
    let world = World::new();
    let mut client = Client::new(&world);
    let id = client.dispatch("while [ ! -e go ]; do sleep 0.05; done");
    let call = json!({"name": "wait_background_agents", "arguments": {"task_ids": [id]}});
    client.send(&json!({"jsonrpc": "2.0", "id": "wait", "method": "tools/call", "params": call}));
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    let cancelled = json!({"requestId": "wait", "reason": "the user pressed a key"});
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}));
    assert_eq!(world.until(&id, "running")["stop"], Value::Null);
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(client.wait(&[&id])["all_done"], true, "and the next answer is the next request's");
    // One that leaves in the middle of a wait.
    let id = client.dispatch("while [ ! -e gone ]; do sleep 0.05; done");
    let call = json!({"name": "wait_background_agents", "arguments": {"task_ids": [id]}});
    client.send(&json!({"jsonrpc": "2.0", "id": "again", "method": "tools/call", "params": call}));
    client.leave();
    assert_eq!(world.until(&id, "running")["stop"], Value::Null);
}

#[test]
fn a_task_that_asks_is_shown_as_one_and_only_its_owner_answers() {
    let world = World::new();
    let mut client = Client::new(&world);
    let id = client.dispatch(&format!("{} ask --choice yes --choice no 'Go on?'", env!("CARGO_BIN_EXE_octo")));
    world.until(&id, "paused");
    let waited = client.call("wait_background_agents", json!({"task_ids": [id], "timeout": 1}));
    let asks = &waited["tasks"][0];
    assert_eq!((&asks["status"], &asks["done"]), (&json!("paused"), &json!(false)), "{waited}");
    assert!(asks["waits_for"]["question"].as_str().unwrap().contains("Go on?"), "{waited}");
    let listed = client.call("list_background_agents", json!({}));
    assert_eq!(listed["tasks"][0]["waits_for"]["who_answers"], "the owner of the workspace");
    world.octo(&["task", &id, "resume", "yes"]).exits(0);
    assert_eq!(client.wait(&[&id])["tasks"][0]["output"], "yes");
}
