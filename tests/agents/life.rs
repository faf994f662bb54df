//! An agent's life: it works, asks, is answered, ends; and goes on over any death of the daemon.

use std::fs;

use serde_json::json;

use super::harness::{World, wait_for};
use super::{answer, count, journal, script, start, until_line};

const ASKS: &str = "\
say I look at the notes.
call read_file {\"path\": \"notes.txt\"}
---
say I saw {result}
call escalate_question {\"question\": \"Which colour?\", \"choices\": [\"red\", \"blue\"]}
---
say {result:1} and {result:2}
call task_complete {\"summary\": \"notes: {result:1}; answer: {result:2}\"}
";

#[test]
fn an_agent_reads_asks_is_answered_and_ends() {
    let world = World::new();
    fs::write(world.path("notes.txt"), "the sea is wide\n").unwrap();
    world.start();
    let id = script(&world, ASKS);
    let task = world.until(&id, "paused");
    assert_eq!((&task["paused_reason"], &task["paused_question"]), (&json!("question"), &json!("Which colour?")));
    answer(&world, &id, "q1", "2");
    let task = world.ended(&id);
    assert_eq!(task["status"], "completed", "{task:#}");
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("the sea is wide") && result.contains("The owner answered: blue"), "{result}");
    assert_eq!(task["usage"]["turns"], 3, "{task:#}");
    assert!(task["usage"]["input_tokens"].as_u64().unwrap() > 0, "{task:#}");
    let log = world.get(&format!("/background-agents/{id}/logs")).body;
    let log = String::from_utf8(log).unwrap();
    for part in ["I look at the notes.", "→ read_file: notes.txt", "asks: Which colour?", "done: notes:"] {
        assert!(log.contains(part), "no {part:?} in the log:\n{log}");
    }
}

#[test]
fn a_question_stays_open_over_a_death_and_what_was_known_before_is_still_known() {
    let world = World::new();
    fs::write(world.path("notes.txt"), "the sea is wide\n").unwrap();
    world.start();
    let id = script(&world, ASKS);
    world.until(&id, "paused");
    world.kill_daemon();
    world.start();
    let task = world.task(&id);
    assert_eq!(task["status"], "paused", "{task:#}");
    assert_eq!(task["questions"].as_array().unwrap().len(), 1, "{task:#}");
    answer(&world, &id, "q1", "red");
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("the sea is wide") && result.contains("The owner answered: red"), "{result}");
    assert_eq!(count(&world, &id, "replied"), 3, "no reply was asked for twice");
}

#[test]
fn a_request_that_was_on_its_way_is_made_again_and_counted() {
    let world = World::new();
    world.start();
    let id = script(&world, "wait 600\nsay never\n");
    until_line(&world, &id, "asking");
    world.kill_daemon();
    world.start();
    wait_for("the request to be made again", || count(&world, &id, "asking") == 2);
    world.octo(&["task", &id, "cancel"]).exits(0);
    let task = world.ended(&id);
    assert_eq!(task["status"], "cancelled", "{task:#}");
    assert!(task["usage"]["input_tokens"].as_u64().unwrap() > 0, "lost requests count: {task:#}");
    assert_eq!(journal(&world, &id).last().unwrap()["type"], "stopped");
}

#[test]
fn without_a_model_a_start_says_what_to_set() {
    let world = World::new();
    world.start();
    let refused = world.post("/background-agents/start", &json!({ "type": "agent", "task": "hello" }));
    assert_eq!((refused.status, refused.error().as_str()), (400, "bad_request"), "{refused:?}");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("OCTO_MODEL"), "{refused:?}");
    let request = json!({ "type": "agent", "task": "hello", "model": "anthropic/claude-sonnet-4-5" });
    let refused = world.post("/background-agents/start", &request);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("ANTHROPIC_API_KEY"), "{refused:?}");
}

#[test]
fn a_damaged_journal_fails_the_task_and_stays_as_it_is() {
    let world = World::new();
    world.start();
    let id = script(&world, ASKS);
    fs::write(world.path("notes.txt"), "x").unwrap();
    world.until(&id, "paused");
    world.kill_daemon();
    let path = world.tasks_dir().join(&id).join("journal.jsonl");
    let text = fs::read_to_string(&path).unwrap().replacen("{\"at\"", "{\"at", 2);
    fs::write(&path, &text).unwrap();
    world.start();
    answer(&world, &id, "q1", "red");
    let task = world.ended(&id);
    assert_eq!(task["status"], "failed", "{task:#}");
    assert!(task["error"].as_str().unwrap().contains("journal is damaged"), "{task:#}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_retry_of_an_ended_agent_begins_anew_and_one_without_a_model_goes_on() {
    let world = World::new();
    world.start();
    let id = script(&world, "say done\ncall task_complete {\"summary\": \"once\"}\n");
    assert_eq!(world.ended(&id)["result"], "once");
    world.octo(&["task", &id, "retry"]).exits(0);
    wait_for("the second run", || world.task(&id)["run"] == 2);
    assert_eq!(world.ended(&id)["status"], "completed");
    assert!(world.tasks_dir().join(&id).join("journal.run-1.jsonl").exists());
    assert_eq!(count(&world, &id, "replied"), 1, "the second run has a journal of its own");

    let text = "say first\ncall list_files {\"path\": \".\"}\n---\nfail refused 1\nsay second\ncall task_complete {\"summary\": \"on\"}\n";
    let id = script(&world, text);
    let task = world.ended(&id);
    assert_eq!(task["status"], "failed", "{task:#}");
    world.octo(&["task", &id, "retry"]).exits(0);
    wait_for("the second run", || world.task(&id)["run"] == 2);
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!("on")), "{task:#}");
    assert_eq!(count(&world, &id, "went_on"), 1);
    assert_eq!(count(&world, &id, "replied"), 2, "what was replied before is not asked for again");
}

#[test]
fn the_tour_needs_nothing() {
    let world = World::new();
    world.start();
    let id = start(&world, &json!({ "type": "agent", "task": "Show me around.", "model": "demo/tour" }));
    let task = world.until(&id, "paused");
    let question = task["questions"][0].clone();
    let choice = question["choices"].as_array().and_then(|c| c.first()?.as_str()).unwrap_or("yes").to_owned();
    answer(&world, &id, question["id"].as_str().unwrap(), &choice);
    let deadline = std::time::Instant::now() + super::harness::LONG;
    loop {
        let task = world.task(&id);
        if task["status"] == "paused" {
            let open = task["questions"].as_array().unwrap().iter().find(|q| q["open"] == true).cloned();
            if let Some(open) = open {
                let text = open["choices"].as_array().and_then(|c| c.first()?.as_str()).unwrap_or("yes").to_owned();
                answer(&world, &id, open["id"].as_str().unwrap(), &text);
            }
        }
        if task["status"] == "completed" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{task:#}");
        super::harness::pause();
    }
}

#[test]
fn fifty_agents_at_once_fit_into_the_daemon() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "50"), ("OCTO_GLOBAL_BUDGET", "100000000")]);
    let pid = world.start();
    let script = "say I wait.\ncall list_files {\"path\": \".\"}\n---\nwait 2\nslow 5\nsay one two three four five six\ncall \
                  task_complete {\"summary\": \"done\"}\n";
    let request = json!({ "type": "agent", "task": script, "model": "demo/script" });
    let many = world.post("/background-agents/start", &json!(vec![request; 50]));
    assert_eq!(many.status, 201, "{many:?}");
    let ids: Vec<String> =
        many.json().as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect();
    let mut most = 0;
    wait_for("all of them", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        most = most.max(rss.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0));
        ids.iter().all(|id| world.task(id)["status"] == "completed")
    });
    println!("50 agents: {} MiB", most / 1024);
    assert!(most <= 120 * 1024, "{most} KiB");
}

#[test]
fn a_file_that_was_being_written_is_not_written_again() {
    let world = World::new();
    world.start();
    let text = "call escalate_question {\"question\": \"Now?\"}\n---\ncall write_file {\"path\": \"new.txt\", \"content\": \
                \"x\"}\n---\ncall task_complete {\"summary\": \"{result}\"}\n";
    let id = script(&world, text);
    world.until(&id, "paused");
    world.kill_daemon();
    // The journal as a death leaves it in the midst of that call.
    let path = world.tasks_dir().join(&id).join("journal.jsonl");
    let lines = journal(&world, &id);
    let asking = lines.iter().find(|line| line["type"] == "asking").unwrap();
    let mut replied = lines.iter().find(|line| line["type"] == "replied").unwrap().clone();
    let asked = replied["reply"]["message"]["calls"][0]["id"].clone();
    replied["reply"]["message"]["calls"] =
        json!([{ "id": "w1", "name": "write_file", "arguments": { "path": "new.txt", "content": "x" } }]);
    let at = &asking["at"];
    let more = [
        json!({ "at": at, "type": "answered", "call": asked, "text": "yes", "by": "repl" }),
        json!({ "at": at, "type": "returned", "call": asked, "text": "The owner answered: yes" }),
        asking.clone(),
        replied,
        json!({ "at": at, "type": "started", "call": "w1" }),
    ];
    let more: String = more.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, fs::read_to_string(&path).unwrap() + &more).unwrap();
    world.start();
    answer(&world, &id, "q1", "yes");
    let task = world.ended(&id);
    assert_eq!(task["status"], "completed", "{task:#}");
    assert!(task["result"].as_str().unwrap().contains("whether it took effect is not known"), "{task:#}");
    assert!(!world.path("new.txt").exists(), "it is not written by recovery");
}
