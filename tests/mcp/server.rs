//! A server for tests, spoken to on standard streams: this very test program, called so.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use octo::agent::team::{Kind, Mcp, Reach, Toolset};
use serde_json::{Value, json};

/// Says that this process is a server, and how it behaves.
pub(crate) const MANNER: &str = "OCTO_TEST_SERVER";

/// The toolset of such a server.
pub(crate) fn toolset(name: &str, manner: &str) -> Toolset {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let args = ["--exact", "server::it_is_a_server", "--nocapture", "--quiet"].map(str::to_owned).to_vec();
    let env = BTreeMap::from([(MANNER.to_owned(), manner.to_owned())]);
    of(Mcp { name: name.to_owned(), reach: Reach::Command { command: program, args, env } })
}

pub(crate) fn of(mcp: Mcp) -> Toolset {
    Toolset { kind: Kind::Mcp(mcp), tools: None, instruction: String::new(), line: 1 }
}

/// No test, unless it is started as a server. What the test harness prints first is no MCP: clients pass over it.
#[test]
fn it_is_a_server() {
    match std::env::var(MANNER).as_deref() {
        Err(_) => {}
        Ok("ends") => {
            eprintln!("I want another key than {}", std::env::var("KEY").unwrap());
            std::process::exit(2);
        }
        Ok("silent") => std::io::stdin().lines().for_each(drop),
        Ok(_) => serve(),
    }
}

const TOOLS: [&str; 13] = [
    "echo", "limit", "env", "slow", "die", "starts", "huge", "enormous", "garbage", "nonsense", "refuse", "fail",
    "family",
];

fn serve() {
    let mut starts = fs::File::options().append(true).create(true).open("starts").unwrap();
    starts.write_all(b"x").unwrap();
    for line in std::io::stdin().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "test", "version": "1"},
            }),
            Some("tools/list") => {
                let tool = |name: &&str| {
                    json!({"name": name, "inputSchema": {"type": "object"},
                    "annotations": {"readOnlyHint": true}})
                };
                json!({"tools": TOOLS.iter().map(tool).collect::<Vec<_>>()})
            }
            Some("tools/call") => match called(&message["params"], &message["id"]) {
                Some(result) => result,
                None => continue,
            },
            Some("notifications/cancelled") => {
                fs::write("cancelled", message["params"].to_string()).unwrap();
                continue;
            }
            _ => continue,
        };
        say(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string());
    }
    std::process::exit(0);
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[allow(clippy::zombie_processes, reason = "what becomes of its family is what is tested")]
fn called(params: &Value, id: &Value) -> Option<Value> {
    let text = |text: String| Some(json!({"content": [{"type": "text", "text": text}]}));
    match params["name"].as_str().unwrap() {
        "echo" => text(params["arguments"].to_string()),
        "env" => text(json!(std::env::vars().collect::<BTreeMap<_, _>>()).to_string()),
        "limit" => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            text(limit.map_or_else(String::new, |limit| limit.to_string()))
        }
        "starts" => text(fs::read("starts").unwrap().len().to_string()),
        "huge" => text("a line\n".repeat(1 << 17)),
        "enormous" => text("a".repeat(17 << 20)),
        "slow" => None,
        "garbage" => {
            say("{\"jsonrpc\": \"2.0\", \"id\":");
            say("[1, 2");
            None
        }
        "nonsense" => Some(json!(["no", "result"])),
        "refuse" => {
            let error = json!({"code": -32000, "message": "there is no such thing"});
            say(&json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
            None
        }
        "fail" => Some(json!({"content": [{"type": "text", "text": "the disk is full"}], "isError": true})),
        "family" => {
            // One in the same group, one that left it and heeds no SIGTERM.
            let one = Command::new("sleep").arg("1000").spawn().unwrap();
            let mut two = Command::new("sh");
            let two = two.args(["-c", "trap '' TERM HUP; sleep 1000"]).process_group(0).spawn().unwrap();
            text(json!([std::process::id(), one.id(), two.id()]).to_string())
        }
        _ => {
            eprintln!("these are my last words");
            std::process::exit(7);
        }
    }
}
