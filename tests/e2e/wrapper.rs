//! The wrapper before the real claude: what a task's shells start, without a daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use octo::claude::{Judgement, is_single_claude_with, judge, read_result};
use serde_json::Value;

use crate::world::{World, wait_for};

impl World {
    /// A shell command with the wrapper first in its PATH and a marker to add to the system prompt.
    fn wrapped(&self, script: &str) -> Command {
        let bin = self.work().join(".octo/bin");
        if !bin.exists() {
            fs::create_dir_all(&bin).unwrap();
            symlink(env!("CARGO_BIN_EXE_octo"), bin.join("claude")).unwrap();
        }
        let mut command = self.command("/bin/sh", &[bin]);
        command.args(["-c", script]).stdin(Stdio::null()).env("ADDITIONAL_CLAUDE_ARGS", MARKER_ARGS);
        command
    }

    fn run(&self, script: &str) -> Output {
        self.wrapped(script).output().unwrap()
    }

    /// Runs the script as a task would, both streams in one log, and judges it.
    fn judged(&self, script: &str) -> Judgement {
        let command = is_single_claude_with(script, MARKER_ARGS).expect(script);
        assert!(command.json, "{script}");
        let log = self.work().join("out.log");
        let file = fs::File::create(&log).unwrap();
        let exit = self.wrapped(script).stderr(file.try_clone().unwrap()).stdout(file).status().unwrap();
        judge(&command, exit.code(), &read_result(&log).unwrap())
    }
}

const MARKER_ARGS: &str = "--append-system-prompt 'MARKER, and more'";

fn header<'a>(request: &'a Value, name: &str) -> &'a str {
    request["headers"][name].as_str().unwrap_or_default()
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn additions_arrive_whatever_the_shell_does() {
    let world = World::new();
    fs::write(world.work().join("deep.sh"), "cd / && sh -c 'claude -p \"say hello\"' | cat\n").unwrap();
    for script in [
        "claude -p 'say hello'",
        "claude 'say hello' -p",
        "claude -p -- 'say hello'",
        "claude --print \"say hello; it's \\\"quoted\\\" \\$HOME | & > x\"",
        "echo 'say hello' | claude -p",
        "echo 'say hello' | claude -p --output-format text --verbose | cat",
        "sh deep.sh",
        "claude 'say hello' --allowedTools Read 'Bash(git *)' -p",
        "claude -p --allowedTools Read Edit -- 'say hello'",
        "claude -p 'say hello' --add-dir / --tools Read",
        "claude --debug -p 'say hello' 2>/dev/null",
        "claude -p 'say hello' --model opus --max-turns 3",
        "claude -p --append-system-prompt-file /dev/null 'say hello' >/dev/null; claude -p 'say hello'",
    ] {
        let before = world.mock.requests().len();
        let output = world.run(script);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "Hello from the mock.\n", "{script}: {output:?}");
        let requests = world.mock.requests();
        let request = requests[before..].last().unwrap();
        assert!(request["body"].to_string().contains("MARKER, and more"), "{script}");
    }
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_command_has_the_last_word() {
    let world = World::new();
    let output = world.run("claude -p --append-system-prompt OWN 'say hello'");
    assert_eq!(output.stdout, b"Hello from the mock.\n");
    let sent = world.mock.requests().last().unwrap()["body"].to_string();
    assert!(sent.contains("OWN") && !sent.contains("MARKER"));
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn the_chosen_session_is_the_one_that_runs_and_can_be_resumed() {
    let world = World::new();
    let first = world.judged("claude -p 'say hello' --output-format json");
    assert_eq!((first.failed, first.result.as_str()), (None, "Hello from the mock."));
    assert_eq!((first.usage.input_tokens, first.usage.output_tokens), (1200, 34));
    let session = first.session_id;
    assert!(uuid::Uuid::parse_str(&session).is_ok(), "{session}");
    assert_eq!(header(world.mock.requests().last().unwrap(), "x-claude-code-session-id"), session);

    for options in [format!("--resume {session}"), format!("-r {session}"), "-c".to_owned()] {
        let again = world.judged(&format!("claude -p 'say hello' --output-format stream-json --verbose {options}"));
        assert_eq!((again.failed, &again.session_id), (None, &session), "{options}");
        assert_eq!(again.usage.cost_usd, first.usage.cost_usd, "{options}: its own cost, not the session's");
    }
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn every_json_form_is_read_and_every_failure_has_its_reason() {
    let world = World::new();
    for (script, result) in [
        ("claude -p 'say hello' --output-format json", Ok("Hello from the mock.")),
        ("claude -p 'say hello' --output-format json --verbose", Ok("Hello from the mock.")),
        ("claude -p 'say hello' --output-format stream-json --verbose", Ok("Hello from the mock.")),
        ("claude -p \"$(echo say hello)\" --output-format json 2>&1", Ok("Hello from the mock.")),
        ("claude -p 'refuse this' --output-format json", Err("claude failed: API Error: 400")),
        ("claude -p 'refuse this' --output-format stream-json --verbose", Err("claude failed: API Error: 400")),
        (
            "claude -p 'say hello' --output-format json --no-such-option",
            Err("claude gave no result (exit code 1): error:"),
        ),
        ("claude -p 'say hello' --output-format stream-json", Err("claude gave no result (exit code 1): Error:")),
    ] {
        let judgement = world.judged(script);
        match result {
            Ok(text) => assert_eq!((judgement.failed, judgement.result.as_str()), (None, text), "{script}"),
            Err(why) => {
                let failed = judgement.failed.expect(script);
                assert!(failed.starts_with(why), "{script}: {failed}");
            }
        }
    }
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn other_invocations_are_untouched() {
    let world = World::new();
    for args in ["--version", "--help", "mcp list", "mcp --help", "-p --version", "no-such-command --help"] {
        let wrapped = world.run(&format!("claude {args}"));
        let plain = world.command("claude", &[]).args(args.split(' ')).stdin(Stdio::null()).output().unwrap();
        assert_eq!(wrapped, plain, "{args}");
    }
    assert_eq!(world.mock.requests().len(), 0);
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn signals_reach_claude_itself() {
    let world = World::new();
    for (signal, code) in [(nix::sys::signal::Signal::SIGTERM, Some(143)), (nix::sys::signal::Signal::SIGKILL, None)] {
        let before = world.mock.requests().len();
        let mut child = world.wrapped("exec claude -p 'answer slowly'").stdout(Stdio::null()).spawn().unwrap();
        wait_for("claude asks the model", || (world.mock.requests().len() > before).then_some(()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let exit = child.wait().unwrap();
        assert_eq!(exit.code(), code, "{exit}");
        assert_eq!(exit.signal(), code.is_none().then_some(signal as i32), "{exit}");
    }
}
