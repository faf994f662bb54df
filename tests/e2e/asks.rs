//! claude asks: questions and permissions of the real CLI, answered by the task's owner.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::main_job::{StopAtEnd, is_gone};
use crate::world::{World, wait_for};

impl World {
    /// Starts a task; its id.
    fn bg(&self, env: &[&str], command: &str) -> String {
        let env = env.iter().flat_map(|e| ["--env", e]);
        let args: Vec<&str> = ["bg"].into_iter().chain(env).chain(["--", command]).collect();
        let bg = self.octo(&args);
        assert!(bg.status.success(), "{bg:?}");
        String::from_utf8(bg.stdout).unwrap().trim().to_owned()
    }

    /// `claude -p PROMPT OPTIONS`, with its result as JSON.
    pub(crate) fn claude(&self, env: &[&str], prompt: &str, options: &str) -> String {
        self.bg(env, &format!("claude -p '{prompt}' --output-format json {options}"))
    }

    fn task(&self, id: &str) -> Value {
        self.octo_json(&["task", id]).expect("the task is there")
    }

    /// The question, once it is open.
    fn question(&self, id: &str, question: &str) -> Value {
        wait_for(&format!("{question} of {id} is asked"), || {
            let task = self.task(id);
            let ended = task["completed_at"] != "";
            let found = task["questions"].as_array().into_iter().flatten().find(|q| q["id"] == question).cloned();
            assert!(!ended || found.is_some(), "it ended without {question}: {task}");
            found.filter(|q| q["open"] == true)
        })
    }

    fn answer(&self, id: &str, question: &str, answer: &str) {
        let resume = self.octo(&["task", id, "resume", "--question", question, answer]);
        assert!(resume.status.success(), "{resume:?}");
    }

    /// The record, once the task has completed.
    pub(crate) fn completed(&self, id: &str) -> Value {
        let wait = self.octo(&["task", id, "wait", "--timeout", "60s"]);
        let task = self.task(id);
        assert_eq!(wait.status.code(), Some(0), "{wait:?} {task}");
        task
    }

    pub(crate) fn questions_of(&self, id: &str) -> usize {
        self.task(id)["questions"].as_array().map_or(0, Vec::len)
    }

    pub(crate) fn note(&self) -> Option<String> {
        fs::read_to_string(self.work().join("note.txt")).ok()
    }

    fn folder(&self) -> String {
        self.work().canonicalize().unwrap().to_str().unwrap().to_owned()
    }
}

pub(crate) const NOTE: &str = "one\ntwo é\n";

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_question_is_answered_and_the_answer_used() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "choose a database", "");
    let question = world.question(&id, "q1");
    assert_eq!((&question["text"], &question["by"]), (&json!("Postgres or SQLite?"), &json!("claude")));
    assert_eq!((&question["choices"], &question["kind"]), (&json!(["Postgres", "SQLite"]), &json!("question")));
    assert_eq!(world.task(&id)["status"], "paused");
    let none_of_them = world.octo(&["task", &id, "resume", "--question", "q1", "MySQL"]);
    assert_eq!(none_of_them.status.code(), Some(2), "{none_of_them:?}");
    world.answer(&id, "q1", "2");
    let task = world.completed(&id);
    assert_eq!(task["result"], "The owner chose SQLite.");
    assert_eq!(task["session_id"].as_str().map(str::len), Some(36), "it is still known as one claude");
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn claudes_own_questions_are_answered() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "use the builtin", "");
    let (first, second) = (world.question(&id, "q1"), world.question(&id, "q2"));
    assert_eq!(first["text"], "Which database?\n\nPostgres: a server\nSQLite: a file");
    assert_eq!(second["choices"], json!(["Cache", "Search"]));
    world.answer(&id, "q2", "1, 2");
    world.answer(&id, "q1", "something else");
    assert_eq!(world.completed(&id)["result"], "Both extras.");
    let told = world.mock.requests().iter().any(|r| r["body"].to_string().contains(r#"=\"something else\""#));
    assert!(told, "the typed answer reached the model");
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_note_is_written_only_after_allow() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "write the note", "");
    let question = world.question(&id, "q1");
    assert_eq!(question["kind"], "permission");
    assert_eq!(question["choices"], json!(["allow", "allow for this task", "deny"]));
    let action = &question["action"];
    let note = world.folder() + "/note.txt";
    assert_eq!((&action["tool"], &action["folder"]), (&json!("Write"), &json!(world.folder())));
    assert_eq!(action["format"], "diff");
    let what = action["what"].as_str().unwrap();
    assert!(what.ends_with("note.txt\n@@ -0,0 +1,2 @@\n+one\n+two é\n"), "{what}");
    assert_eq!(world.note(), None);
    world.answer(&id, "q1", "allow");
    assert_eq!(world.completed(&id)["result"], "That was the note.");
    assert_eq!(fs::read_to_string(note).unwrap(), NOTE);
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn nothing_is_written_after_deny() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "write the note", "");
    world.question(&id, "q1");
    world.answer(&id, "q1", "deny");
    world.completed(&id);
    assert_eq!(world.note(), None);
    let told =
        world.mock.requests().iter().any(|r| r["body"].to_string().contains("The owner of this task does not allow"));
    assert!(told, "the model knows why");
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn allowed_for_the_task_is_asked_once() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "run two commands", "");
    let question = world.question(&id, "q1");
    assert_eq!(question["action"]["what"], "mkdir sub && cd sub && touch first");
    world.answer(&id, "q1", "allow for this task");
    world.completed(&id);
    assert!(world.work().join("sub/first").exists() && world.work().join("second").exists());
    let task = world.task(&id);
    let paused = task["history"].as_array().unwrap().iter().filter(|h| h["status"] == "paused").count();
    assert_eq!((paused, &task["answers"][1]["text"]), (1, &json!("allow")), "{task}");
}

/// Also across a `cd` in an earlier command: what is shown is where it acts.
#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn allowed_once_is_asked_again_and_the_folder_is_true() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "run two commands", "");
    for (question, command) in [("q1", "mkdir sub && cd sub && touch first"), ("q2", "touch second")] {
        let asked = world.question(&id, question);
        assert_eq!((&asked["action"]["what"], &asked["action"]["folder"]), (&json!(command), &json!(world.folder())));
        world.answer(&id, question, "allow");
    }
    world.completed(&id);
    assert!(world.work().join("sub/first").exists() && world.work().join("second").exists());
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn questions_outlive_the_daemon() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let asks = world.claude(&[], "choose a database", "");
    let writes = world.claude(&[], "write the note", "");
    let before = (world.question(&asks, "q1"), world.question(&writes, "q1"));
    for _ in 0..2 {
        let daemon = world.daemon().unwrap();
        kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
        wait_for("the daemon is gone", || is_gone(daemon));
        assert!(world.octo(&["tasks"]).status.success(), "a new daemon comes");
        assert_eq!((world.question(&asks, "q1"), world.question(&writes, "q1")), before);
    }
    assert_eq!(world.note(), None);
    world.answer(&writes, "q1", "allow");
    world.answer(&asks, "q1", "SQLite");
    assert_eq!(world.completed(&asks)["result"], "The owner chose SQLite.");
    world.completed(&writes);
    assert_eq!(world.note().as_deref(), Some(NOTE));
    assert_eq!((world.questions_of(&asks), world.questions_of(&writes)), (1, 1), "nothing was asked twice");
}

/// Answered while no daemon runs that the asker could reach, and read by it from the next one.
#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn an_answer_outlives_the_daemon_too() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "write the note", "");
    world.question(&id, "q1");
    let daemon = world.daemon().unwrap();
    world.answer(&id, "q1", "allow");
    let _ = kill(Pid::from_raw(daemon), Signal::SIGKILL);
    wait_for("the daemon is gone", || is_gone(daemon));
    world.completed(&id);
    assert_eq!(world.note().as_deref(), Some(NOTE));
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn the_setting_says_how_far_it_goes() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    for (reach, prompt, result) in [
        ("off", "choose a database", "I cannot ask."),
        ("off", "use the builtin", "The builtin was not offered."),
        ("off", "write the note", "That was the note."),
        ("questions", "write the note", "That was the note."),
        ("questions", "use the builtin", "The builtin was not offered."),
    ] {
        let id = world.claude(&[&format!("OCTO_CLAUDE_BRIDGE={reach}")], prompt, "");
        assert_eq!(world.completed(&id)["result"], result, "{reach}: {prompt}");
        assert_eq!((world.questions_of(&id), world.note()), (0, None), "{reach}: {prompt}");
    }
    let id = world.claude(&["OCTO_CLAUDE_BRIDGE=questions"], "choose a database", "");
    world.question(&id, "q1");
    world.answer(&id, "q1", "SQLite");
    assert_eq!(world.completed(&id)["result"], "The owner chose SQLite.");
    let offered = |r: &Value| r["body"]["tools"].to_string().contains("mcp__octo__permission");
    assert!(!world.mock.requests().iter().any(offered), "the handler is not for the model");
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn claudes_rules_and_the_command_line_decide_first() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let deny = r#"--settings '{"permissions":{"deny":["Write"]}}'"#;
    for (options, written) in [
        ("--allowedTools Write", true),
        ("--dangerously-skip-permissions", true),
        ("--permission-mode acceptEdits", true),
        ("--permission-mode dontAsk", false),
        ("--permission-prompts none", false),
        ("--safe-mode", false),
        (r#"--settings '{"deniedMcpServers":[{"serverName":"octo"}]}'"#, false),
        (deny, false),
    ] {
        let id = world.claude(&[], "write the note", options);
        world.completed(&id);
        assert_eq!((world.questions_of(&id), world.note().is_some()), (0, written), "{options}");
        let _ = fs::remove_file(world.work().join("note.txt"));
    }
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn the_users_own_servers_stay() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let octo = env!("CARGO_BIN_EXE_octo");
    let config = |name: &str, args: Value| {
        let file = world.work().join(format!("{name}.json"));
        fs::write(&file, json!({"mcpServers": {name: {"command": octo, "args": args}}}).to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (first, second) = (config("first", json!(["mcp"])), config("second", json!(["mcp"])));
    for strict in ["", "--strict-mcp-config"] {
        let id = world.claude(&[], "write the note", &format!("--mcp-config {first} {second} {strict}"));
        world.question(&id, "q1");
        let requests = world.mock.requests();
        let tools = requests.last().unwrap()["body"]["tools"].to_string();
        for name in ["first", "second", "octo"] {
            assert!(tools.contains(&format!("mcp__{name}__escalate_question")), "{name}: {tools:.300}");
        }
        world.answer(&id, "q1", "deny");
        world.completed(&id);
    }
    let asked = world.mock.requests().len();
    // A server of the same name that is none of Octo's.
    let own = config("octo", json!(["--help"]));
    let id = world.claude(&[], "write the note", &format!("--mcp-config {own}"));
    let task = world.completed(&id);
    assert_eq!((world.questions_of(&id), world.note()), (0, None));
    let log = world.octo(&["task", &id, "logs"]);
    assert!(String::from_utf8_lossy(&log.stdout).contains("this run cannot ask"), "{task}");
    let requests = world.mock.requests();
    assert!(!requests[asked..].iter().any(|r| r["body"]["tools"].to_string().contains("mcp__octo__")));
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_script_with_two_claudes_asks_for_both() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let script = "#!/bin/bash\nset -e\nfirst=$(claude -p 'choose a database')\n(claude -p 'write the note') | cat\necho \"then: $first\"\n";
    fs::write(world.work().join("job.sh"), script).unwrap();
    let id = world.bg(&[], "bash job.sh");
    world.question(&id, "q1");
    world.answer(&id, "q1", "SQLite");
    let second = world.question(&id, "q2");
    assert_eq!((&second["kind"], world.note()), (&json!("permission"), None));
    world.answer(&id, "q2", "allow");
    let task = world.completed(&id);
    assert!(
        task["result"].as_str().unwrap().trim().ends_with("That was the note.\nthen: The owner chose SQLite."),
        "{task}"
    );
    assert_eq!(world.note().as_deref(), Some(NOTE));
}

/// Longer than claude waits for a tool by any setting here, for a question and for a permission.
#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn an_answer_may_take_minutes() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let short = ["MCP_TOOL_TIMEOUT=20000", "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT=10000"];
    let began = Instant::now();
    let asks = world.claude(&[], "choose a database", "");
    let hurries = world.claude(&short, "write the note", "");
    let opened = (world.question(&asks, "q1"), world.question(&hurries, "q1"));
    // The one test here that is about time passing.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_secs(125).saturating_sub(began.elapsed()));
    assert_eq!((world.question(&asks, "q1"), world.question(&hurries, "q1")), opened);
    world.answer(&asks, "q1", "SQLite");
    world.answer(&hurries, "q1", "allow");
    assert_eq!(world.completed(&asks)["result"], "The owner chose SQLite.");
    assert_eq!(world.completed(&hurries)["result"], "That was the note.");
    assert_eq!(world.note().as_deref(), Some(NOTE));
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_claude_outside_of_tasks_is_given_nothing() {
    let world = World::new();
    let bin = world.work().join(".octo/bin");
    fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_octo"), bin.join("claude")).unwrap();
    let output = world.command("claude", &[bin]).args(["-p", "choose a database"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "I cannot ask.", "{output:?}");
    assert!(!Path::new(&world.work().join(".octo/octo.sock")).exists());
}
