//! Claude commands: the wrapper as a process, between real shells and a fake `claude`, and the reading of
//! real transcripts of claude 2.1.329 (`tests/fixtures/claude`).

// Helpers of tests fail by panicking, too.
#![allow(missing_docs, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use octo::claude::{ClaudeCommand, ClaudeOutcome, Judgement, is_single_claude, read_result};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/claude").join(format!("{name}.log"))
}

/// Judges a run that resumed nothing.
fn judge(exit: Option<i32>, outcome: &ClaudeOutcome) -> Judgement {
    octo::claude::judge(&ClaudeCommand::default(), exit, outcome)
}

fn judged(name: &str, exit: i32) -> Judgement {
    judge(Some(exit), &read_result(&fixture(name)).unwrap())
}

fn read_bytes(bytes: &[u8]) -> ClaudeOutcome {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read_result(file.path()).unwrap()
}

#[test]
fn good_transcripts_complete() {
    let plum = "The word was plum (the request carried the earlier turn).";
    let cut = "This text is cut off in the middle of the stream and no stop event ever comes after it.";
    let refused = "I was not allowed to write it.";
    // Name, result, tokens read and written, cost of this run alone, turns.
    for (name, result, input, output, cost, turns) in [
        ("hello", "Hello from the mock.", 1200, 34, 0.00548, 1),
        ("json-hello", "Hello from the mock.", 1200, 34, 0.00548, 1),
        ("json-verbose", "Hello from the mock.", 1200, 34, 0.00548, 1),
        ("partial", "Hello from the mock.", 1200, 34, 0.00548, 1),
        ("ask-user-question", "Thanks, noted.", 3500, 35, 0.0147, 2),
        ("err-529-twice", "Recovered after two 529.", 0, 0, 0.0, 1),
        ("err-cut-stream", cut, 0, 9, 0.00018, 1),
        ("escalate", "The user chose SQLite; using SQLite.", 4100, 72, 0.01784, 2),
        ("escalate-not-allowed", "The user answered something else; stopping.", 2000, 60, 0.0092, 2),
        ("perm-allow", "note.txt written.", 3100, 49, 0.01338, 2),
        ("perm-deny", refused, 3100, 49, 0.01338, 2),
        ("perm-none", refused, 3100, 49, 0.01338, 2),
        ("skip-permissions", "note.txt written.", 3100, 49, 0.01338, 2),
        ("resume1", "I will remember: plum.", 900, 8, 0.00376, 1),
        ("resume2", plum, 950, 14, 0.00408, 1),
        ("resume3-fork", "The word was plum (two earlier turns).", 1000, 14, 0.00428, 1),
        ("resume5-chosen-id", "Hello from the mock.", 1200, 34, 0.00548, 1),
        ("stdin-stream-json", plum, 2150, 48, 0.00956, 2),
    ] {
        let judgement = judged(name, 0);
        assert_eq!((&judgement.failed, judgement.result.as_str()), (&None, result), "{name}");
        let usage = &judgement.usage;
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.turns), (input, output, turns), "{name}");
        assert!((usage.cost_usd.unwrap() - cost).abs() < 1e-9, "{name}: {:?}", usage.cost_usd);
        assert!(uuid::Uuid::parse_str(&judgement.session_id).is_ok(), "{name}: {}", judgement.session_id);
    }
}

#[test]
fn bad_transcripts_fail_with_the_reason() {
    for (name, exit, reason) in [
        ("err-400", 1, "claude failed: Prompt is too long"),
        ("err-401", 1, "claude failed: Invalid API key · Fix external API key (exit code 1)"),
        ("err-401", 0, "claude failed: Invalid API key · Fix external API key (exit code 0)"),
        ("err-529-retries2", 1, "claude failed: API Error: 529 Overloaded."),
        ("max-budget", 1, "claude failed: Reached maximum budget ($0.9) (exit code 1)"),
        ("max-turns", 1, "claude failed: Reached maximum number of turns (2) (exit code 1)"),
        ("resume4-unknown", 1, "claude failed: No conversation found with session ID: 00000000-0000-"),
        ("json-resume-unknown", 1, "claude gave no result (exit code 1): No conversation found with session"),
        ("sigint-while-streaming", 0, "claude gave no result (exit code 0)"),
        ("sigterm-while-streaming", 143, "claude gave no result (exit code 143)"),
        ("sigterm-while-waiting", 143, "claude gave no result (exit code 143)"),
        ("hello", 3, "exit code 3, although claude gave a good result"),
    ] {
        let failed = judged(name, exit).failed.unwrap();
        assert!(failed.starts_with(reason), "{name}: {failed}");
    }
}

#[test]
fn a_run_that_is_cut_off_still_names_its_session_and_its_budget_overrun_counts() {
    assert_eq!(judged("sigterm-while-streaming", 143).session_id.len(), 36);
    assert_eq!(judged("sigint-while-streaming", 0).session_id.len(), 36);
    assert!(judged("max-budget", 1).over_budget && !judged("max-turns", 1).over_budget);
    let over = judged("max-budget", 1).usage;
    assert_eq!((over.input_tokens, over.output_tokens), (300_000, 3000), "the overshooting call is counted too");
}

#[test]
fn an_end_by_signal_is_told() {
    let outcome = ClaudeOutcome::default();
    assert_eq!(judge(None, &outcome).failed.unwrap(), "claude gave no result (ended by a signal)");
}

#[test]
fn noise_does_not_hide_the_result() {
    let hello = fs::read(fixture("json-hello")).unwrap();
    let line = hello.trim_ascii();
    let before: &[&[u8]] =
        &[b"", b"warning: \xff\xfe\x1b[31m {\" {\n", b"[{\"type\":\n", b"warning, no line end: ", b"{\"a\":1}"];
    let after: &[&[u8]] =
        &[b"", b"\n", b"\nbye {\"type\":\"res", b" trailing words", b"\n{\"type\":\"system\"}\n", b"\n\0\0\0"];
    for (b, a) in before.iter().flat_map(|b| after.iter().map(move |a| (*b, *a))) {
        let outcome = read_bytes(&[b, line, a].concat());
        let result = outcome.result.map(|r| r.result);
        assert_eq!(result.as_deref(), Some("Hello from the mock."), "{:?} .. {:?}", b.escape_ascii(), a.escape_ascii());
    }
}

#[test]
fn every_cut_of_a_transcript_is_read_without_a_false_result() {
    for name in ["json-hello", "json-verbose", "hello"] {
        let whole = fs::read(fixture(name)).unwrap();
        let end = whole.iter().rposition(|b| *b == b'}').unwrap();
        for cut in (0..=end).step_by(7).chain([end]) {
            assert_eq!(read_bytes(&whole[..cut]).result, None, "{name} cut at {cut}");
        }
    }
}

#[test]
fn what_a_tool_or_the_answer_prints_is_no_result() {
    let fake = r#"{"type":"result","subtype":"success","is_error":false,"result":"FAKE","session_id":"s"}"#;
    let nested =
        format!(r#"{{"type":"user","session_id":"s","tool_use_result":{fake},"message":{{"content":[{fake}]}}}}"#);
    let quoted = serde_json::json!({"type": "assistant", "session_id": "s", "text": fake}).to_string();
    let outcome = read_bytes(format!("{nested}\n{quoted}\n").as_bytes());
    assert_eq!((outcome.result, outcome.session_id.as_deref()), (None, Some("s")));
    let foreign = br#"warning: {"type":"result","subtype":"success","is_error":false,"result":"no session"}"#;
    assert_eq!(read_bytes(foreign).result, None);
}

#[test]
fn odd_fields_do_not_lose_the_event() {
    let outcome = read_bytes(
        br#"{"usage":[],"errors":[1,null,"x"],"is_error":true,"num_turns":-1,"total_cost_usd":"2","result":null,
"#,
    );
    assert_eq!(outcome.result, None);
    let outcome = read_bytes(
        br#"{"usage":[],"errors":[1,"x"],"is_error":"yes","num_turns":-1,"total_cost_usd":"2","result":{"a":1},"session_id":"s","type":"result"}"#,
    );
    let event = outcome.result.clone().unwrap();
    assert!(event.is_error, "no subtype and no clear is_error is no success");
    assert_eq!((event.result.as_str(), event.errors), (r#"{"a":1}"#, vec!["1".to_owned(), "x".to_owned()]));
    assert_eq!(judge(Some(0), &outcome).failed.unwrap(), "claude failed: 1; x (exit code 0)");
}

#[test]
fn cached_tokens_are_read_tokens() {
    let outcome = read_bytes(
        br#"{"is_error":false,"subtype":"success","result":"x","session_id":"s","total_cost_usd":0.5,"type":"result","usage":{"input_tokens":1,"cache_read_input_tokens":20,"cache_creation_input_tokens":300,"output_tokens":4}}"#,
    );
    let usage = judge(Some(0), &outcome).usage;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost_usd), (321, 4, Some(0.5)));
}

#[test]
fn a_resumed_run_is_not_charged_for_what_was_before_it() {
    let resumes = is_single_claude("claude -p x --output-format json --resume S").unwrap();
    let used = |name: &str| octo::claude::judge(&resumes, Some(0), &read_result(&fixture(name)).unwrap()).usage;
    let usage = used("resume2");
    assert_eq!((usage.input_tokens, usage.output_tokens), (950, 14));
    assert!((usage.cost_usd.unwrap() - 0.00408).abs() < 1e-9, "stream-json tells this run's own cost");
    assert_eq!(usage.extra["session_cost_usd"], 0.00784);
    let usage = used("json-resumed");
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost_usd), (1200, 34, None), "json does not");
    assert_eq!(usage.extra["session_cost_usd"], 0.01096);
}

#[test]
fn a_huge_log_is_read_from_its_end_and_the_session_from_its_beginning() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let hello = fs::read(fixture("hello")).unwrap();
    let init = hello.split(|b| *b == b'\n').next().unwrap();
    file.write_all(init).unwrap();
    file.write_all(b"\n").unwrap();
    // A hole: 1 GiB that takes no disk and reads as one line of NUL bytes.
    file.as_file().set_len(1 << 30).unwrap();
    assert_eq!(read_result(file.path()).unwrap().session_id.unwrap().len(), 36);
    let mut end = fs::OpenOptions::new().append(true).open(file.path()).unwrap();
    end.write_all(b"\n").unwrap();
    end.write_all(&fs::read(fixture("json-verbose")).unwrap()).unwrap();
    assert_eq!(read_result(file.path()).unwrap().result.unwrap().result, "Hello from the mock.");
}

#[test]
fn hostile_nesting_is_given_up_in_time() {
    let hostile = [b"{\"a\":[".repeat(200_000), b"0,".repeat(1_000_000)].concat();
    let hello = fs::read(fixture("json-hello")).unwrap();
    let outcome = read_bytes(&[&hostile[..], b"\n", &hello].concat());
    assert_eq!(outcome.result.unwrap().result, "Hello from the mock.");
}

#[test]
fn a_long_answer_is_kept_by_its_end() {
    let answer = format!("{}end", "é".repeat(20_000));
    let event = serde_json::json!({"type": "result", "subtype": "success", "is_error": false, "result": answer, "session_id": "s"});
    let judgement = judge(Some(0), &read_bytes(event.to_string().as_bytes()));
    assert!(judgement.result.len() <= octo::task::RESULT_MAX && judgement.result.ends_with("éend"));
}

#[test]
fn a_missing_log_is_an_error() {
    assert!(read_result(Path::new("/nonexistent/out.log")).is_err());
}

/// A world with the wrapper in `.octo/bin` and programs called `claude` behind it.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = World { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.at("ws/.octo/bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_octo"), world.at("ws/.octo/bin/claude")).unwrap();
        world
    }

    /// A fake claude that prints its process number, its name and its arguments, one a line.
    fn with_claude() -> Self {
        let world = Self::new();
        world.claude("real", "echo \"real $$\"; for a in \"$@\"; do printf '<%s>\\n' \"$a\"; done; exit ${RC:-0}");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn claude(&self, folder: &str, script: &str) {
        let folder = self.at(folder);
        fs::create_dir_all(&folder).unwrap();
        // Another name first: a file that is still open for writing somewhere cannot be run.
        let (new, path) = (folder.join("new"), folder.join("claude"));
        fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn command(&self, folders: &[&str], script: &str) -> Command {
        let folders = ["ws/.octo/bin"].iter().chain(folders).map(|f| self.at(f));
        let path = std::env::join_paths(folders.chain(["/usr/bin".into(), "/bin".into()])).unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).current_dir(self.dir.path()).env_clear().env("PATH", path);
        command
    }

    fn run(&self, script: &str) -> Output {
        self.command(&["real"], script).env("ADDITIONAL_CLAUDE_ARGS", "--model opus").output().unwrap()
    }

    /// What the fake claude was given, without the session id, which must be a UUID.
    fn args(&self, script: &str) -> Vec<String> {
        let output = self.run(script);
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.lines().filter_map(|l| l.strip_prefix('<')?.strip_suffix('>'));
        words
            .filter(|w| w.strip_prefix("--session-id=").is_none_or(|id| uuid::Uuid::parse_str(id).is_err()))
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn the_wrapper_reaches_claude_at_any_depth() {
    let world = World::with_claude();
    fs::write(world.at("script.sh"), "cd / && sh -c 'claude -p \"deep\"' | cat\n").unwrap();
    for (script, args) in [
        ("claude -p hi", vec!["--model=opus", "-p", "hi"]),
        ("cd / && claude -p hi", vec!["--model=opus", "-p", "hi"]),
        ("echo hi | claude -p", vec!["--model=opus", "-p"]),
        ("claude -p 'it'\"'\"'s \"quoted\" $HOME ; | &'", vec!["--model=opus", "-p", "it's \"quoted\" $HOME ; | &"]),
        ("claude -p ''", vec!["--model=opus", "-p", ""]),
        ("sh script.sh", vec!["--model=opus", "-p", "deep"]),
        ("setsid -w nohup claude -p hi", vec!["--model=opus", "-p", "hi"]),
        ("echo x | xargs claude -p", vec!["--model=opus", "-p", "x"]),
        ("claude mcp add x -- y -p", vec!["mcp", "add", "x", "--", "y", "-p"]),
        ("claude hi", vec!["hi"]),
        ("./real/claude -p hi", vec!["-p", "hi"]),
    ] {
        assert_eq!(world.args(script), args, "{script}");
    }
}

/// The wrapper's additions inside a task, but for the session id: the rest, and claude's variable for folders.
fn in_task(world: &World, reach: &str, script: &str) -> (Vec<String>, String) {
    let mut command = world.command(&["real"], script);
    command.env("OCTO_TASK_ID", "a1b2c3d4").env("OCTO_CLAUDE_BRIDGE", reach).env("HOME", world.at("home"));
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let words = text.lines().filter_map(|l| l.strip_prefix('<')?.strip_suffix('>')).map(str::to_owned);
    let folder = text.lines().find_map(|l| l.strip_prefix("folder ")).unwrap_or_default().to_owned();
    (words.filter(|w| !w.starts_with("--session-id=")).collect(), folder)
}

#[test]
fn inside_a_task_claude_gets_its_way_to_ask() {
    let world = World::with_claude();
    let print =
        "for a in \"$@\"; do printf '<%s>\\n' \"$a\"; done; echo \"folder $CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR\"";
    world.claude("real", print);
    let octo = Path::new(env!("CARGO_BIN_EXE_octo")).canonicalize().unwrap();
    let config = |reach: &str| {
        let env = serde_json::json!({"OCTO_CLAUDE_BRIDGE": reach});
        let octo = serde_json::json!({"command": octo, "args": ["mcp"], "env": env, "alwaysLoad": true, "timeout": 2147483647});
        format!("--mcp-config={}", serde_json::json!({"mcpServers": {"octo": octo}}))
    };
    let (full, questions) = (config("full"), config("questions"));
    let handler = "--permission-prompt-tool=mcp__octo__permission";
    let allowed = "--allowedTools=mcp__octo__escalate_question";
    for (reach, script, words, folder) in [
        ("full", "claude -p hi", vec![full.as_str(), handler, allowed, "-p", "hi"], "1"),
        ("", "cd / && claude -p hi", vec![&full, handler, allowed, "-p", "hi"], "1"),
        ("questions", "claude -p hi", vec![&questions, allowed, "-p", "hi"], ""),
        ("off", "claude -p hi", vec!["-p", "hi"], ""),
        ("full", "CLAUDE_CODE_SAFE_MODE=1 claude -p hi", vec!["-p", "hi"], ""),
        (
            "full",
            "CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR=0 claude -p hi",
            vec![&full, handler, allowed, "-p", "hi"],
            "0",
        ),
        ("full", "claude mcp add octo -- x -p", vec!["mcp", "add", "octo", "--", "x", "-p"], ""),
        ("full", "claude hi", vec!["hi"], ""),
        ("full", "OCTO_TASK_ID= claude -p hi", vec!["-p", "hi"], ""),
    ] {
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        assert_eq!(in_task(&world, reach, script), (words, folder.to_owned()), "{reach}: {script}");
    }
}

#[test]
fn claudes_own_settings_are_looked_at_where_claude_keeps_them() {
    let world = World::with_claude();
    let asks = |script: &str| in_task(&world, "full", script).0.iter().any(|w| w.starts_with("--mcp-config="));
    let write = |name: &str, text: &str| {
        fs::create_dir_all(world.at(name).parent().unwrap()).unwrap();
        fs::write(world.at(name), text).unwrap();
    };
    assert!(asks("claude -p hi"));
    let octo = r#"{"mcpServers": {"octo": {"url": "https://x"}}}"#;
    let policy = r#"{"allowedMcpServers": []}"#;
    for (file, text) in [
        ("home/.claude.json", octo),
        (".mcp.json", octo),
        ("home/.claude/settings.json", policy),
        (".claude/settings.json", policy),
        (".claude/settings.local.json", policy),
    ] {
        write(file, text);
        assert!(!asks("claude -p hi"), "{file}");
        fs::remove_file(world.at(file)).unwrap();
    }
    write("elsewhere/.claude.json", octo);
    assert!(!asks(&format!("CLAUDE_CONFIG_DIR={} claude -p hi", world.at("elsewhere").display())));
    write(".mcp.json", octo);
    assert!(asks("cd / && claude -p hi"), "that is another project");
    fs::create_dir_all(world.at("sub")).unwrap();
    assert!(!asks("cd sub && claude -p hi"));
}

/// `octo mcp` as a process: what it answers to lines of input, and how it ended.
fn mcp(task: Option<&Path>, lines: &[serde_json::Value]) -> (Vec<serde_json::Value>, Output) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_octo"));
    command.arg("mcp").current_dir(dir.path()).env_clear().env("HOME", dir.path()).env("RUST_LOG", "trace");
    if let Some(workspace) = task {
        command.env("OCTO_TASK_ID", "a1b2c3d4").env("OCTO_WORKSPACE", workspace);
    }
    let stdio = std::process::Stdio::piped;
    let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answers = String::from_utf8_lossy(&output.stdout).lines().map(|l| serde_json::from_str(l).expect(l)).collect();
    (answers, output)
}

#[test]
fn octo_mcp_serves_until_its_input_ends_and_prints_nothing_else() {
    let workspace = tempfile::tempdir().unwrap();
    let client = serde_json::json!({"name": "t", "version": "0"});
    let params = serde_json::json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let lines = [
        serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}),
        serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ];
    for (task, tools) in [(None, 5), (Some(workspace.path()), 2)] {
        let (answers, output) = mcp(task, &lines);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert_eq!(answers[0]["result"]["serverInfo"]["name"], "octo");
        assert_eq!(answers[1]["result"]["tools"].as_array().map(Vec::len), Some(tools), "{answers:?}");
    }
    assert!(mcp(None, &[]).1.status.success(), "a client that leaves at once");
    assert_eq!(fs::read_dir(&workspace).unwrap().count(), 0, "it left no trace and started no daemon");
}

#[test]
fn a_session_id_is_chosen_once_per_run() {
    let world = World::with_claude();
    let ids = |script: &str| -> Vec<String> {
        let text = String::from_utf8(world.run(script).stdout).unwrap();
        text.lines().filter(|l| l.starts_with("<--session-id=")).map(str::to_owned).collect()
    };
    let two = ids("claude -p a; claude -p b");
    assert_eq!(two.len(), 2);
    assert_ne!(two[0], two[1]);
    assert_eq!(ids("claude -p a --resume x; claude -cp b; claude b; claude mcp list"), Vec::<String>::new());
}

#[test]
fn arguments_that_are_no_unicode_pass_byte_for_byte() {
    let world = World::with_claude();
    let mut command = world.command(&["real"], "claude -p \"$1\"");
    let output = command.arg("sh").arg(OsStr::from_bytes(b"\xff\xfe")).output().unwrap();
    assert!(output.stdout.ends_with(b"<-p>\n<\xff\xfe>\n"), "{:?}", output);
}

#[test]
fn it_is_the_same_process_and_ends_like_claude() {
    let world = World::with_claude();
    let output = world.run("echo real $$; RC=42 exec claude -p hi");
    let text = String::from_utf8(output.stdout).unwrap();
    let pids: Vec<&str> = text.lines().filter(|l| l.starts_with("real")).collect();
    assert_eq!((pids.len(), pids.first() == pids.last()), (2, true), "{text}");
    assert_eq!(output.status.code(), Some(42));
    world.claude("real", "kill -KILL $$");
    assert_eq!(world.run("exec claude -p hi").status.signal(), Some(9));
}

#[test]
fn wrappers_of_other_workspaces_are_passed_over() {
    let world = World::with_claude();
    fs::create_dir_all(world.at("other/.octo/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_octo"), world.at("other/.octo/bin/claude")).unwrap();
    fs::create_dir_all(world.at("link")).unwrap();
    symlink(env!("CARGO_BIN_EXE_octo"), world.at("link/claude")).unwrap();
    let folders = ["other/.octo/bin", "link", "ws/.octo/bin", "real"];
    let output = world.command(&folders, "claude -p hi").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("--session-id").count(), 1, "{text}");
    assert!(text.starts_with("real"), "{text}");
}

#[test]
fn without_a_claude_it_says_so() {
    let output = World::new().command(&[], "claude -p hi").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: no claude program in PATH\nhint: "), "{text}");
}

#[test]
fn a_claude_that_cannot_run_says_so() {
    let world = World::new();
    world.claude("real", "");
    fs::write(world.at("real/claude"), "#!/nonexistent/interpreter\n").unwrap();
    let output = world.run("claude -p hi");
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8(output.stderr).unwrap().contains("could not be run"));
}

#[test]
fn a_malformed_setting_is_told_and_claude_runs() {
    let world = World::with_claude();
    let mut command = world.command(&["real"], "claude -p hi");
    let output = command.env("ADDITIONAL_CLAUDE_ARGS", "--model 'x").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "warning: ADDITIONAL_CLAUDE_ARGS is ignored: a quote is not closed\n"
    );
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("<-p>\n<hi>\n"));
}

#[test]
fn circles_of_wrappers_end() {
    let world = World::with_claude();
    // A person's own script before the real claude, which runs the first `claude` that is not itself.
    let next = "IFS=:; for d in $PATH; do [ \"$d/claude\" = \"$0\" ] || break; done; unset IFS";
    world.claude("mine", &format!("{next}; exec \"$d/claude\" --mine \"$@\""));
    let output = world.command(&["mine", "real"], "claude -p hi").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("real") && text.contains("<--mine>"), "{text} {:?}", output.stderr);
    // As a child instead of in its place: there is no way out, but there is an end.
    world.claude("mine", &format!("{next}; \"$d/claude\" \"$@\""));
    let output = world.command(&["mine", "real"], "claude -p hi").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8(output.stderr).unwrap().contains("in a circle"));
}

#[test]
fn empty_path_elements_mean_the_current_folder() {
    let world = World::with_claude();
    let path = format!("{}::/usr/bin:/bin", world.at("ws/.octo/bin").display());
    let mut command = world.command(&[], "claude -p hi");
    let output = command.env("PATH", path).current_dir(world.at("real")).output().unwrap();
    assert!(output.stdout.starts_with(b"real"), "{output:?}");
}
