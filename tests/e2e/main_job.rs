//! The main job: `/bg claude -p ...` typed in the REPL, the daemon killed with -9 while it runs, and the
//! true result read after a restart.

use std::fs;
use std::process::Command;
use std::time::Duration;

use expectrl::session::OsSession;
use expectrl::{Eof, Expect, Regex, Session};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::world::{World, wait_for};

const ANSWER: &str =
    "This answer takes some ten seconds, a few characters at a time, so that a daemon can die in its middle.";

/// Stops the daemon and all tasks, also when the test fails.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a World);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.octo(&["stop", "--kill-tasks"]);
    }
}

impl World {
    fn repl(&self) -> OsSession {
        let mut command: Command = self.command(env!("CARGO_BIN_EXE_octo"), &[]);
        command.env("ADDITIONAL_CLAUDE_ARGS", "--append-system-prompt=MARKER");
        let mut repl = Session::spawn(command).unwrap();
        repl.set_expect_timeout(Some(Duration::from_secs(60)));
        repl
    }

    pub(crate) fn daemon(&self) -> Option<i32> {
        self.octo_json(&["status"])?["pid"].as_i64().map(|pid| i32::try_from(pid).unwrap())
    }

    fn running_task(&self) -> Option<String> {
        let tasks = self.octo_json(&["tasks"])?;
        let task = tasks.as_array()?.iter().find(|t| t["status"] == "running")?;
        Some(task["id"].as_str()?.to_owned())
    }

    /// The present run's log, as it is on disk.
    fn log(&self, id: &str) -> Vec<u8> {
        fs::read(self.work().join(format!(".octo/tasks/{id}/run-1/out.log"))).unwrap()
    }

    fn model_was_asked(&self, prompt: &str) -> Option<Value> {
        self.mock.requests().into_iter().find(|r| r["body"].to_string().contains(prompt))
    }
}

pub(crate) fn is_gone(pid: i32) -> Option<()> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    matches!(state, None | Some('Z' | 'X')).then_some(())
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn the_result_of_a_claude_survives_the_death_of_the_daemon() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let mut repl = world.repl();
    let daemon = wait_for("the REPL starts a daemon", || world.daemon());

    repl.send_line("/bg claude -p \"answer slowly\" --output-format json").unwrap();
    let id = wait_for("the task runs", || world.running_task());
    let request = wait_for("claude asks the model", || world.model_was_asked("answer slowly"));

    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    wait_for("the daemon is gone", || is_gone(daemon));
    assert_eq!(world.log(&id), b"", "the daemon died while claude was at work");
    assert!(repl.get_process_mut().is_alive().unwrap(), "the REPL outlives the daemon");

    let wait = world.octo(&["task", &id, "wait", "--timeout", "120s"]);
    assert_eq!(wait.status.code(), Some(0), "{wait:?}");
    assert_ne!(world.daemon().expect("`octo task` started a new daemon"), daemon);
    let task = world.octo_json(&["task", &id]).unwrap();
    assert_eq!(task["status"], "completed", "{task}");
    assert_eq!(task["result"], ANSWER);
    assert_eq!((&task["exit_code"], &task["error"]), (&Value::from(0), &Value::from("")));
    assert_eq!((&task["usage"]["input_tokens"], &task["usage"]["output_tokens"]), (&2000.into(), &50.into()));
    assert!(task["usage"]["cost_usd"].as_f64().unwrap() > 0.0, "{task}");
    assert_eq!(task["run"], 1, "it was never run again");
    let session = task["session_id"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(session).is_ok(), "{session}");
    assert_eq!(request["headers"]["x-claude-code-session-id"], session);
    assert!(request["body"].to_string().contains("MARKER"), "ADDITIONAL_CLAUDE_ARGS reached the API");
    let asked = world.mock.requests().iter().filter(|r| r["body"].to_string().contains("answer slowly")).count();
    assert_eq!(asked, 1, "the model was asked once");

    repl.send_line(format!("/task {id}")).unwrap();
    repl.expect(Regex("This answer takes some ten seconds")).unwrap();
    repl.send_line("/quit").unwrap();
    repl.expect(Eof).unwrap();
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_claude_that_fails_is_failed_with_its_reason() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let bg = world.octo(&["bg", "claude -p 'refuse this' --output-format json"]);
    assert_eq!(bg.status.code(), Some(0), "{bg:?}");
    let id = String::from_utf8(bg.stdout).unwrap().trim().to_owned();
    let wait = world.octo(&["task", &id, "wait", "--timeout", "120s"]);
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");
    let task = world.octo_json(&["task", &id]).unwrap();
    assert_eq!((&task["status"], &task["exit_code"]), (&"failed".into(), &1.into()), "{task}");
    assert!(task["error"].as_str().unwrap().contains("this request is refused"), "{task}");
}
