//! The options of `octo bg`.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{World, process, run, wait_for};

#[test]
fn the_callers_folder_and_environment_are_the_tasks() {
    let world = World::new();
    std::fs::create_dir(world.path("sub dir")).unwrap();
    let mut command =
        world.octo_command(&["bg", "--wait", "pwd; echo $MINE; echo $OCTO_TASK_ID $OCTO_RUN; echo $OCTO_WORKSPACE"]);
    command.current_dir(world.path("sub dir")).env("MINE", "a  b");
    let id = run(command, b"").exits(0).line();
    let root = world.root().display();
    assert_eq!(world.task(&id)["result"], format!("{root}/sub dir\na b\n{id} 1\n{root}\n"));
    // A daemon that was started with other variables than the caller's: the caller's count.
    let id = run(world.octo_command(&["bg", "--wait", "echo [$MINE]"]), b"").exits(0).line();
    assert_eq!(world.task(&id)["result"], "[]\n");
}

#[test]
fn env_sets_takes_over_and_refuses() {
    let world = World::new();
    let mut command =
        world.octo_command(&["bg", "--env", "A=1=2", "--env", "B", "--env", "C=", "--wait", "echo $A,$B,${C-unset}"]);
    command.env("B", "here").env("C", "caller");
    let id = run(command, b"").exits(0).line();
    let task = world.task(&id);
    assert_eq!(task["result"], "1=2,here,\n");
    assert_eq!(task["env_overrides"], json!({"A": "1=2", "B": "here", "C": ""}));
    world.octo(&["bg", "--env", "NOT_SET_HERE", "true"]).refused(2, "NOT_SET_HERE");
    world.octo(&["bg", "--env", "=x", "true"]).refused(2, "name");
}

#[test]
fn octos_secrets_reach_no_task() {
    let world = World::with(&[("TELEGRAM_BOT_TOKEN", "123:canary-token")]);
    world.octo(&["bg", "--env", "TELEGRAM_BOT_TOKEN=123:canary-token", "true"]).refused(2, "TELEGRAM_BOT_TOKEN");
    world.octo(&["bg", "--env", "TELEGRAM_BOT_TOKEN", "true"]).refused(2, "TELEGRAM_BOT_TOKEN");
    for options in [&[][..], &["--env", "OTHER=1"]] {
        // The daemon has the token, and so has the caller: neither hands it on.
        let id = world.bg_with(options, "env; tr '\\0' '\\n' </proc/$PPID/environ; echo end");
        let task = world.ended(&id);
        let log = world.get(&format!("/background-agents/{id}/logs")).body;
        let log = String::from_utf8_lossy(&log);
        assert!(log.contains("OCTO_TASK_ID=") && log.ends_with("end\n"), "{log}");
        assert!(!log.contains("canary-token"), "{options:?}: {log}");
        assert!(!task.to_string().contains("canary-token"), "{options:?}: {task:#}");
    }
    let raw = world.post("/background-agents/start", &json!({"command": "env; echo end"}));
    let id = raw.json()["id"].as_str().unwrap().to_owned();
    world.ended(&id);
    assert!(!String::from_utf8_lossy(&world.get(&format!("/background-agents/{id}/logs")).body).contains("canary"));
    // Nor a file.
    world.stop();
    let found = run(world.command_in("/", "grep", &["-rl", "canary-token", world.octo_dir().to_str().unwrap()]), b"");
    assert_eq!(found.text(), "", "the token is on disk");
}

#[test]
fn one_argument_is_a_shell_line_several_are_exact_words() {
    let world = World::new();
    let line = |args: &[&str]| {
        let id = world.octo(&[&["bg", "--wait"], args].concat()).exits(0).line();
        world.task(&id)["result"].as_str().unwrap().to_owned()
    };
    assert_eq!(line(&["echo a  b; echo \"$((1+1))\""]), "a b\n2\n");
    assert_eq!(
        line(&["printf", "<%s>", "a  b", "$HOME", "*", ";", "", "it's", "--name"]),
        "<a  b><$HOME><*><;><><it's><--name>"
    );
    assert_eq!(line(&["--", "echo", "--wait"]), "--wait\n");
    world.octo(&["bg"]).exits(2);
    world.octo(&["bg", "  "]).refused(2, "no command");
}

#[test]
fn json_is_one_document_and_nothing_else() {
    let world = World::new();
    let one = world.octo(&["bg", "--json", "--name", "n", "true"]).exits(0).json();
    assert_eq!((&one["name"], &one["number"], &one["schema"]), (&"n".into(), &1.into(), &1.into()));
    let ended = world.octo(&["bg", "--json", "--wait", "exit 4"]).exits(1).json();
    assert_eq!((&ended["status"], &ended["exit_code"]), (&"failed".into(), &4.into()));
    let many = run(world.octo_command(&["bg", "--json", "--batch", "-"]), b"true\ntrue\n").exits(0).json();
    assert_eq!(many.as_array().unwrap().len(), 2);
    let all = world.octo(&["tasks", "--json", "--limit", "0"]).exits(0).json();
    assert_eq!(all.as_array().unwrap().len(), 4);
    assert_eq!(world.octo(&["tasks", "--json", "--limit", "1"]).exits(0).json().as_array().unwrap().len(), 1);
    let failed = world.octo(&["tasks", "--json", "--status", "failed"]).exits(0).json();
    assert_eq!(failed.as_array().unwrap().iter().map(|t| &t["id"]).collect::<Vec<_>>(), [&ended["id"]]);
    assert_eq!(world.octo(&["tasks", "--json", "--kind", "agent"]).exits(0).json(), json!([]));
    assert!(world.octo(&["status", "--json"]).exits(0).json()["pid"].is_u64());
    for bad in [&["tasks", "--status", "done"][..], &["tasks", "--kind", "thing"], &["tasks", "--limit", "x"]] {
        world.octo(bad).exits(2);
    }
}

#[test]
fn a_batch_is_all_or_nothing_and_in_order() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    std::fs::write(world.path("list"), "# three\necho one >>order\n\n  echo two >>order\necho three >>order\n")
        .unwrap();
    let out = world.octo(&["bg", "--batch", "list"]).exits(0);
    let ids: Vec<String> = out.text().lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 3);
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(world.ended(id)["number"], i + 1);
    }
    assert_eq!(std::fs::read_to_string(world.path("order")).unwrap(), "one\ntwo\nthree\n");
    // One bad line: none starts.
    let long = format!("touch bad-1\n: {}\ntouch bad-2\n", "x".repeat(140_000));
    run(world.octo_command(&["bg", "--batch", "-"]), long.as_bytes()).refused(2, "128 KiB");
    run(world.octo_command(&["bg", "--batch", "-"]), b"touch bad-1\n\xff\xfe\n").refused(2, "UTF-8");
    run(world.octo_command(&["bg", "--batch", "-", "--after", "99"]), b"touch bad-1\n").refused(4, "no such task: 99");
    run(world.octo_command(&["bg", "--batch", "-"]), b"\n#\n").refused(2, "no commands");
    world.octo(&["bg", "--batch", "nofile"]).refused(2, "nofile");
    assert_eq!(world.octo(&["tasks", "--json", "--limit", "0"]).json().as_array().unwrap().len(), 3);
    // Waiting for a batch tells whether all completed.
    run(world.octo_command(&["bg", "--wait", "--batch", "-"]), b"true\nfalse\ntrue\n").exits(1);
    run(world.octo_command(&["bg", "--wait", "--batch", "-"]), b"true\ntrue\n").exits(0);
    assert!(!world.path("bad-1").exists() && !world.path("bad-2").exists());
}

#[test]
fn what_was_left_behind_is_ended_unless_it_may_stay() {
    let world = World::new();
    let leaver = "sh -c 'echo $$ >pid; exec sleep 1000' & while [ ! -s pid ]; do sleep 0.01; done";
    let pid = || std::fs::read_to_string(world.path("pid")).unwrap().trim().parse::<u32>().unwrap();
    let id = world.bg(leaver);
    assert_eq!(world.ended(&id)["status"], "completed");
    assert!(!process::alive(pid()), "it was to be ended with its task");
    std::fs::remove_file(world.path("pid")).unwrap();
    let id = world.bg_with(&["--leave-children"], leaver);
    assert_eq!(world.ended(&id)["status"], "completed");
    assert!(process::alive(pid()), "it was to be left alone");
    world.folded(&id);
    process::signal_if(pid(), rustix::process::Signal::KILL, || process::cmdline(pid()) == "sleep 1000");
}

#[test]
fn notices_follow_the_policy() {
    let world = World::new();
    let kinds = |policy: &str, command: &str| {
        let id = world.bg_with(&["--notify", policy], command);
        let task = world.ended(&id);
        let kinds: Vec<Value> = task["notices"].as_array().unwrap().iter().map(|n| n["kind"].clone()).collect();
        kinds.iter().map(|k| k.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("all", "true"), ["completed"]);
    assert_eq!(kinds("end", "false"), ["failed"]);
    assert_eq!(kinds("failures", "true"), [""; 0]);
    assert_eq!(kinds("failures", "false"), ["failed"]);
    assert_eq!(kinds("none", "false"), [""; 0]);
    world.octo(&["bg", "--notify", "never", "true"]).exits(2);
}

#[test]
fn logs_are_byte_for_byte_in_a_pipe_and_can_be_followed() {
    let world = World::new();
    let id = world.bg("printf 'a\\0b\\377\\033[31m\\n'; while [ ! -e go ]; do sleep 0.02; done; printf 'end'");
    wait_for("output", || !world.get(&format!("/background-agents/{id}/logs")).body.is_empty());
    assert_eq!(world.octo(&["task", &id, "logs"]).exits(0).out, b"a\0b\xff\x1b[31m\n");
    let follower = world.octo_command(&["task", &id, "logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    std::fs::write(world.path("go"), "").unwrap();
    let out = follower.wait_with_output().unwrap();
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(0), &b"a\0b\xff\x1b[31m\nend"[..]));
    assert_eq!(world.octo(&["task", &id, "logs", "--lines", "1"]).exits(0).out, b"end");
    world.octo(&["task", "zz", "logs"]).refused(4, "no such task");
}
