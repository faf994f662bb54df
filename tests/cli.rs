//! The `octo` program, driven from outside against a fake daemon: exit codes, outputs, and the REPL in a
//! pseudo-terminal.

// Helpers of tests panic as tests do; the lint's exception just does not reach them here.
#![allow(clippy::unwrap_used)]

#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/pair.rs"]
mod pair;
#[path = "cli/questions.rs"]
mod questions;
#[path = "cli/repl.rs"]
mod repl;

use assert_cmd::assert::OutputAssertExt;
use fake::Fake;
use octo::task::Status;

struct Seen {
    code: i32,
    out: String,
    err: String,
}

fn octo(fake: &Fake, args: &[&str]) -> Seen {
    let output = fake.octo().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Seen { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn without_a_daemon_status_exits_3_and_stop_has_nothing_to_do() {
    let fake = Fake::new();
    let status = octo(&fake, &["status"]);
    assert_eq!(status.code, 3);
    assert!(status.out.is_empty() && status.err.starts_with("error: no daemon runs for"), "{}", status.err);
    assert!(status.err.contains("\nhint: "));
    let stop = octo(&fake, &["stop"]);
    assert_eq!((stop.code, stop.err.as_str()), (0, ""));
}

#[test]
fn bg_prints_the_id_alone_and_sends_folder_and_environment() {
    let mut fake = Fake::new();
    fake.serve();
    let seen =
        octo(&fake, &["bg", "--name", "n", "--env", "A=b=c", "--env", "TERM", "--timeout", "2m", "echo", "a  b"]);
    assert_eq!((seen.code, seen.out.as_str(), seen.err.as_str()), (0, "c4b1e001\n", ""));
    let facts = fake.facts();
    let start = &facts.starts[0];
    assert_eq!(start["command"], "echo 'a  b'");
    assert_eq!(start["cwd"], fake.root().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(start["env"]["OCTO_TASK_ID"], "c4b1e09a");
    assert_eq!(start["env_overrides"], serde_json::json!({"A": "b=c", "TERM": "xterm"}));
    assert_eq!((&start["timeout"], &start["name"], &start["type"]), (&120.into(), &"n".into(), &"process".into()));
    assert_eq!(start["key"].as_str().unwrap().len(), 32);
}

#[test]
fn a_batch_is_one_request_with_a_key_for_each_line() {
    let mut fake = Fake::new();
    fake.serve();
    let file = fake.root().join("list");
    std::fs::write(&file, "true\n\n# no\nsleep 1\n").unwrap();
    let seen = octo(&fake, &["bg", "--batch", file.to_str().unwrap()]);
    assert_eq!((seen.code, seen.out.as_str()), (0, "c4b1e001\nc4b1e002\n"));
    let facts = fake.facts();
    let keys: Vec<_> = facts.starts[0].as_array().unwrap().iter().map(|s| s["key"].as_str().unwrap()).collect();
    assert_eq!((facts.starts.len(), keys.len()), (1, 2));
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn every_refusal_has_its_exit_code() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("true");
    fake.ends(1, Status::Failed, "");
    let unknown = octo(&fake, &["task", "zz"]);
    assert_eq!((unknown.code, unknown.err.as_str()), (4, "error: no such task: zz\nhint: a hint\n"));
    assert_eq!(octo(&fake, &["task", "1", "cancel"]).code, 6);
    assert_eq!(octo(&fake, &["task", "1"]).code, 0, "a failed task is shown with success");
    let waited = octo(&fake, &["task", "1", "wait"]);
    assert_eq!(waited.code, 1);
    assert!(waited.err.starts_with("error: task #1 c4b1e001: failed (exit 3)"), "{}", waited.err);
    assert_eq!(octo(&fake, &["bg"]).code, 2);
    assert_eq!(octo(&fake, &["--workspace", "/nonexistent/folder", "tasks"]).code, 2);
}

#[test]
fn a_wait_runs_out_with_124() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("sleep 60");
    assert_eq!(octo(&fake, &["task", "1", "wait", "--timeout", "1"]).code, 124);
}

#[test]
fn a_log_goes_into_a_pipe_byte_for_byte() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("cat");
    let bytes = b"\x1b[31mred\r\n\xff\x00end".to_vec();
    fake.change(|facts| facts.log.clone_from(&bytes));
    fake.octo().args(["task", "1", "logs"]).assert().success().stdout(bytes);
}

#[test]
fn json_is_one_document_and_nothing_else() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("a");
    fake.runs("b");
    fake.ends(1, Status::Completed, "");
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&octo(&fake, args).out).unwrap() };
    let numbers = |list: serde_json::Value| -> Vec<u64> {
        list.as_array().unwrap().iter().map(|t| t["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(json(&["tasks", "--json"])), [2, 1]);
    assert_eq!(numbers(json(&["tasks", "--json", "--limit", "1"])), [2]);
    assert_eq!(json(&["task", "2", "--json"])["command"], "b");
    assert_eq!(json(&["status", "--json"])["version"], "fake");
    assert_eq!(json(&["bg", "--json", "c"])["number"], 3);
}

#[test]
fn completions_are_printed_without_a_daemon() {
    let fake = Fake::new();
    let seen = octo(&fake, &["completions", "bash"]);
    assert!(seen.code == 0 && seen.out.contains("_octo()"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("cat");
    fake.change(|facts| facts.log = vec![b'x'; 4 << 20]);
    let line = format!("{} task 1 logs | head -c 10", env!("CARGO_BIN_EXE_octo"));
    let mut shell = std::process::Command::new("sh");
    let shell = shell.args(["-c", &line]).envs(fake.octo().get_envs().filter_map(|(k, v)| Some((k, v?))));
    shell.current_dir(fake.root()).assert().success().stdout("xxxxxxxxxx").stderr("");
}

#[test]
fn agent_sends_its_job_and_prints_the_id_alone() {
    let mut fake = Fake::new();
    fake.serve();
    let seen = octo(
        &fake,
        &[
            "agent",
            "--name",
            "n",
            "--agent=coder",
            "--team",
            "t.yaml",
            "--model",
            "demo/tour",
            "--budget-tokens",
            "9",
            "--budget-usd",
            "0.5",
            "--max-turns",
            "3",
            "--timeout",
            "2m",
            "fix",
            "the tests",
        ],
    );
    assert_eq!((seen.code, seen.out.as_str(), seen.err.as_str()), (0, "c4b1e001\n", ""));
    let facts = fake.facts();
    let start = &facts.starts[0];
    let root = fake.root().canonicalize().unwrap();
    assert_eq!(start["task"], "fix the tests");
    assert_eq!(
        (&start["type"], &start["agentId"], &start["model"]),
        (&"agent".into(), &"coder".into(), &"demo/tour".into())
    );
    assert_eq!(
        (&start["budget_tokens"], &start["budget_usd"], &start["max_turns"]),
        (&9.into(), &0.5.into(), &3.into())
    );
    assert_eq!(start["team"], root.join("t.yaml").to_str().unwrap());
    assert_eq!((&start["cwd"], &start["timeout"]), (&root.to_str().unwrap().into(), &120.into()));
    assert_eq!(start["key"].as_str().unwrap().len(), 32);
    drop(facts);
    let nothing = octo(&fake, &["agent", " "]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.starts_with("error: there is nothing to do in the prompt\nhint: "), "{}", nothing.err);
}

#[test]
fn what_is_wrong_with_the_words_is_told_with_a_hint() {
    let fake = Fake::new();
    let wrong = octo(&fake, &["task", "1", "raise", "much"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    assert!(wrong.err.starts_with("error: invalid value 'much' for '[TOKENS]'"), "{}", wrong.err);
    let unset = octo(&fake, &["bg", "--env", "NOT_SET_HERE", "true"]);
    assert_eq!(unset.code, 2);
    assert!(unset.err.starts_with("error: --env NOT_SET_HERE: NOT_SET_HERE is not set here\nhint: "), "{}", unset.err);
}
