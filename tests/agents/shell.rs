//! Commands of agents: approved, run under shims, their true ends found again, and none left behind.

use std::fs;

use super::harness::{World, wait_for};
use super::{answer, count, journal, script};

fn allowing() -> World {
    World::with(&[("OCTO_SHELL_POLICY", "allow")])
}

#[test]
fn a_command_needs_approval_and_a_denial_is_a_result() {
    let world = World::new();
    world.start();
    let text = "call shell {\"command\": \"echo one >> ran; echo out; exit 3\"}\n---\ncall shell {\"command\": \"echo two >> \
                ran\"}\n---\ncall task_complete {\"summary\": \"{result:1} / {result:2}\"}\n";
    let id = script(&world, text);
    let task = world.until(&id, "paused");
    assert_eq!(task["paused_reason"], "permission", "{task:#}");
    let action = &task["questions"][0]["action"];
    assert_eq!(action["what"], "echo one >> ran; echo out; exit 3", "{task:#}");
    assert!(!world.path("ran").exists(), "nothing runs before it is allowed");
    answer(&world, &id, "q1", "allow");
    wait_for("the second request", || world.task(&id)["questions"].as_array().unwrap().len() == 2);
    world.until(&id, "paused");
    answer(&world, &id, "q2", "deny");
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("Exit code 3.") && result.contains("out"), "{result}");
    assert!(result.contains("the owner denied this"), "{result}");
    assert_eq!(fs::read_to_string(world.path("ran")).unwrap(), "one\n");
}

#[test]
fn a_command_over_a_death_of_the_daemon_has_its_true_result_once() {
    let world = allowing();
    world.start();
    let command = "echo began >> marks; until [ -e go ]; do sleep 0.05; done; echo true result; exit 7";
    let text =
        format!("call shell {{\"command\": \"{command}\"}}\n---\ncall task_complete {{\"summary\": \"{{result}}\"}}\n");
    let id = script(&world, &text);
    wait_for("the command", || world.path("marks").exists());
    world.kill_daemon();
    world.start();
    wait_for("the agent to be driven again", || world.task(&id)["status"] == "running");
    world.kill_daemon();
    fs::write(world.path("go"), "").unwrap();
    let exit = world.tasks_dir().join(&id).join("calls/1/run-1/exit.json");
    wait_for("the end of the command, with no daemon there", || exit.exists());
    world.start();
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("Exit code 7.") && result.contains("true result"), "{result}");
    assert_eq!(fs::read_to_string(world.path("marks")).unwrap(), "began\n");
    assert_eq!(count(&world, &id, "started"), 1);
}

#[test]
fn a_command_whose_shim_was_killed_is_not_run_again() {
    let world = allowing();
    world.start();
    let text = "call shell {\"command\": \"echo began >> marks; sleep 1000\"}\n---\ncall task_complete {\"summary\": \
                \"{result}\"}\n";
    let id = script(&world, text);
    wait_for("the command", || world.path("marks").exists());
    world.signal_processes(&id, rustix::process::Signal::KILL);
    let task = world.ended(&id);
    assert_eq!(task["status"], "completed", "{task:#}");
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("not known") || result.contains("ended by signal 9"), "{result}");
    assert_eq!(fs::read_to_string(world.path("marks")).unwrap(), "began\n");
}

#[test]
fn a_cancel_leaves_no_process_also_when_the_daemon_dies_at_once() {
    let world = allowing();
    for kill in [false, true] {
        let _ = fs::remove_file(world.path("up"));
        world.start();
        let id = script(&world, "call shell {\"command\": \"(trap '' TERM; sleep 1000) & touch up; sleep 1000\"}\n");
        wait_for("the command", || world.path("up").exists());
        if kill {
            world.octo(&["task", &id, "cancel"]).exits(0);
            world.kill_daemon();
            world.start();
        } else {
            world.octo(&["task", &id, "cancel"]).exits(0);
        }
        let task = world.ended(&id);
        assert_eq!(task["status"], "cancelled", "{task:#}");
        wait_for("all processes to be gone", || world.left(&id).is_empty());
        assert_eq!(journal(&world, &id).last().unwrap()["type"], "stopped");
    }
}

#[test]
fn a_command_that_takes_too_long_is_stopped_and_that_is_told() {
    let world = allowing();
    world.start();
    let text = "call shell {\"command\": \"echo so far; sleep 1000\", \"timeout\": 1}\n---\ncall task_complete {\"summary\": \
                \"{result}\"}\n";
    let id = script(&world, text);
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("longer than 1 seconds") && result.contains("so far"), "{result}");
    assert!(world.left(&id).is_empty());
}

#[test]
fn a_long_output_is_cut_and_the_whole_is_there() {
    let world = allowing();
    world.start();
    let text = "call shell {\"command\": \"seq 1 200000\"}\n---\ncall task_complete {\"summary\": \"done\"}\n";
    let id = script(&world, text);
    world.ended(&id);
    let lines = journal(&world, &id);
    let returned = lines.iter().find(|line| line["type"] == "returned").unwrap();
    let shown = returned["text"].as_str().unwrap();
    assert!(shown.len() <= 32 << 10 && shown.contains("\n200000") && shown.contains("\n2\n"), "{} bytes", shown.len());
    assert!(shown.contains("calls/1/run-1/out.log"), "no word of where the whole is");
}

#[test]
fn what_a_command_runs_belongs_to_the_task() {
    let world = allowing();
    world.start();
    let octo = env!("CARGO_BIN_EXE_octo");
    let text = format!(
        "call shell {{\"command\": \"echo $OCTO_TASK_ID; {octo} ask 'From within?'; {octo} bg true; true\"}}\n---\ncall \
         task_complete {{\"summary\": \"{{result}}\"}}\n"
    );
    let id = script(&world, &text);
    let task = world.until(&id, "paused");
    assert_eq!(task["paused_question"], "From within?", "{task:#}");
    answer(&world, &id, "q1", "yes indeed");
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    assert!(result.contains(&id) && result.contains("yes indeed"), "{result}");
    assert!(result.contains("allow-dispatch"), "a command of an agent has no more rights than its task: {result}");
}

/// The daemon is killed at every moment of an agent's life; each step happens once, and the end is the same.
#[test]
fn deaths_at_any_moment_lose_nothing_and_do_nothing_twice() {
    let world = World::with(&[("OCTO_SHELL_POLICY", "allow"), ("OCTO_GLOBAL_BUDGET", "100000000")]);
    let steps = 6;
    let mut text = String::new();
    for step in 1..=steps {
        text.push_str(&format!(
            "say step {step}\ncall shell {{\"command\": \"echo {step} >> effects; sleep 0.02\"}}\n---\n"
        ));
    }
    text.push_str("call task_complete {\"summary\": \"all\"}\n");
    world.start();
    let rounds = super::harness::scale(4, 40);
    let (mut deaths, mut random) = (0, super::harness::random::Random::new(4));
    for _ in 0..rounds {
        let _ = fs::remove_file(world.path("effects"));
        let id = script(&world, &text);
        for _ in 0..8 {
            let lines = journal(&world, &id).len() + random.below(5);
            wait_for("that many lines", || journal(&world, &id).len() >= lines || count(&world, &id, "ended") > 0);
            world.kill_daemon();
            deaths += 1;
            world.start();
        }
        let task = world.ended(&id);
        assert_eq!(task["status"], "completed", "{task:#}");
        let effects = fs::read_to_string(world.path("effects")).unwrap();
        let want: String = (1..=steps).map(|step| format!("{step}\n")).collect();
        assert_eq!(effects, want, "each effect once, in order");
        assert_eq!(count(&world, &id, "replied"), steps + 1, "each reply once");
        let failed: Vec<_> =
            journal(&world, &id).into_iter().filter(|l| l["type"] == "returned" && l["is_error"] == true).collect();
        assert!(failed.is_empty(), "every command's true result was found: {failed:#?}");
    }
    println!("{deaths} deaths of the daemon, 0 effects twice, 0 lost");
}
