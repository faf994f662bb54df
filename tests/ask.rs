//! `octo ask` in real tasks: answers reach the script that asked, through any death of the daemon.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

mod harness;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use harness::{World, wait_for};
use serde_json::Value;

const OCTO: &str = env!("CARGO_BIN_EXE_octo");

/// Waits until the task waits for the answer to its newest question, which has this id.
#[track_caller]
fn until_asks(world: &World, id: &str, question: &str) -> Value {
    let newest = |task: &Value| task["questions"].as_array().unwrap().last().cloned().unwrap_or_default();
    let asks = |task: &Value| {
        let newest = newest(task);
        task["status"] == "paused" && newest["id"] == question && newest["open"] == true
    };
    wait_for(&format!("{question} of {id}"), || asks(&world.task(id)));
    world.task(id)
}

fn restart(world: &World) {
    world.kill_daemon();
    world.start();
}

#[test]
fn a_script_asks_twice_while_the_daemon_is_killed_and_stopped_before_between_and_after() {
    let world = World::new();
    let ask = format!("$({OCTO} ask --choice yes --choice no 'Delete the logs?')");
    let id = world.bg(&format!("a={ask} || exit 8; echo first: $a; b={ask} || exit 9; echo second: $b; exit 3"));
    until_asks(&world, &id, "q1");
    restart(&world);
    let task = until_asks(&world, &id, "q1");
    assert_eq!(task["questions"].as_array().unwrap().len(), 1, "the same question, not one more: {task:#}");
    world.octo(&["task", &id, "resume", "--question", "q1", "yes"]).exits(0);
    // What was acknowledged is not asked again.
    restart(&world);
    until_asks(&world, &id, "q2");
    world.stop();
    world.start();
    until_asks(&world, &id, "q2");
    // The answer to the first one does not reach the second.
    let late = world.octo(&["task", &id, "resume", "--question", "q1", "no"]).exits(6);
    assert!(late.err.contains("was already answered by the command line") && late.err.contains(": yes"), "{late:?}");
    restart(&world);
    until_asks(&world, &id, "q2");
    let told = world.octo(&["task", &id, "resume", "2"]).exits(0);
    assert_eq!(told.line(), format!("#1 {id}: answered no to q2: Delete the logs?"));
    let task = world.ended(&id);
    assert_eq!((&task["exit_code"], &task["result"]), (&3.into(), &"first: yes\nsecond: no\n".into()), "{task:#}");
    let said: Vec<_> = task["answers"].as_array().unwrap().iter().map(|a| (&a["question"], &a["text"])).collect();
    assert_eq!(said, [(&"q1".into(), &"yes".into()), (&"q2".into(), &"no".into())]);
}

#[test]
fn a_deadline_ends_in_124_and_in_no_answer() {
    let world = World::new();
    let id = world.bg(&format!("a=$({OCTO} ask --timeout 1 --choice yes 'Go on?'); echo \"[$a] $?\""));
    let task = world.ended(&id);
    assert!(task["result"].as_str().unwrap().ends_with("[] 124\n"), "{task:#}");
    assert_eq!((&task["questions"][0]["closed"], &task["answers"]), (&"no_answer".into(), &Value::Array(vec![])));
    world.octo(&["task", &id, "resume", "--question", "q1", "yes"]).exits(6);
}

#[test]
fn a_waiter_hears_of_a_question_and_the_line_it_shows_answers_it() {
    let world = World::new();
    let mut waiter = world.octo_command(&["bg", "--wait", &format!("test \"$({OCTO} ask 'Which name?')\" = 'a b'")]);
    let mut waiter = waiter.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(waiter.stderr.take().unwrap()).lines().map(Result::unwrap);
    let answer = said.find_map(|line| line.trim_start().strip_prefix("answer: octo ").map(str::to_owned)).unwrap();
    let words: Vec<&str> = answer.split(' ').collect();
    let ["task", id, "resume", "--question", "q1", "ANSWER"] = words[..] else { panic!("{answer}") };
    world.octo(&["task", id, "resume", "--question", "q1", "a b"]).exits(0);
    assert_eq!(said.last(), None, "nothing more is said");
    assert_eq!(waiter.wait().unwrap().code(), Some(0));
}
