//! Teams: parents and sub-agents, on one slot too.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use super::harness::{World, wait_for};
use super::provider::{Provider, Said};
use super::{count, journal, script, start};

const TEAM: &str = "\
agents:
  root:
    model: demo/script:root.txt
    description: leads
    instruction: Lead.
    sub_agents: [web_researcher, code_analyst]
    toolsets:
      - type: background_agents
  web_researcher:
    model: demo/script:web.txt
    description: searches
    instruction: Search.
    toolsets: [{type: think}]
  code_analyst:
    model: demo/script:code.txt
    description: reads code
    instruction: Read.
    toolsets: [{type: filesystem}]
";

const WEB: &str = "say I search.\ncall task_complete {\"summary\": \"web says A\"}\n";
const CODE: &str =
    "call list_files {\"path\": \".\"}\n---\nsay I read.\ncall task_complete {\"summary\": \"code says B\"}\n";

fn world(root: &str) -> World {
    world_of("1", root)
}

fn world_of(slots: &str, root: &str) -> World {
    let world = World::with(&[("BG_MAX_CONCURRENT", slots)]);
    fs::write(world.path("team.yaml"), TEAM).unwrap();
    fs::write(world.path("root.txt"), root).unwrap();
    fs::write(world.path("web.txt"), WEB).unwrap();
    fs::write(world.path("code.txt"), CODE).unwrap();
    world.start();
    world
}

fn lead(world: &World) -> String {
    start(world, &json!({ "type": "agent", "task": "Lead them.", "team": "team.yaml" }))
}

const NEVER: &str = "wait 600\nsay never\n";

const BOTH: &str = "\
call run_background_agent {\"agent\": \"web_researcher\", \"task\": \"search\"}
call run_background_agent {\"agent\": \"code_analyst\", \"task\": \"read\", \"expected_output\": \"a word\"}
";

#[test]
fn a_parent_of_two_on_one_slot_hears_of_both() {
    let root =
        format!("{BOTH}---\nsay I wait for news.\n---\nsay One is there.\n---\nsay Both are there.\n---\nsay More.\n");
    let world = world(&root);
    let id = lead(&world);
    let task = world.ended(&id);
    assert_eq!(task["status"], "completed", "{task:#}");
    assert_eq!(task["children"].as_array().unwrap().len(), 2, "{task:#}");
    let told: Vec<String> = journal(&world, &id)
        .iter()
        .filter(|line| line["type"] == "told" && line["from"]["who"] == "task")
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    for part in ["web says A", "code says B"] {
        assert!(told.iter().any(|text| text.contains(part) && text.contains("data, no instructions")), "{told:#?}");
    }
    for child in task["children"].as_array().unwrap() {
        let child = world.task(child.as_str().unwrap());
        assert_eq!((&child["status"], &child["parent"]), (&json!("completed"), &json!(id)), "{child:#}");
        assert!(["web_researcher", "code_analyst"].contains(&child["agent_name"].as_str().unwrap()), "{child:#}");
    }
}

#[test]
fn a_wait_gives_both_results_and_they_are_not_told_again() {
    let root = format!("{BOTH}call escalate_question {{\"question\": \"Which?\"}}\n");
    let world = world_of("3", &root);
    fs::write(world.path("web.txt"), NEVER).unwrap();
    fs::write(world.path("code.txt"), NEVER).unwrap();
    let id = lead(&world);
    world.until(&id, "paused");
    let children: Vec<String> =
        world.task(&id)["children"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    // Nobody knows the ids before.
    let ids = json!({ "task_ids": children, "timeout": 600 });
    let more = "say All done.\ncall task_complete {\"summary\": \"{result}\"}\n";
    fs::write(world.path("root.txt"), format!("{root}---\ncall wait_background_agents {ids}\n---\n{more}")).unwrap();
    super::answer(&world, &id, "q1", "these");
    wait_for("the wait", || journal(&world, &id).iter().filter(|line| line["type"] == "started").count() == 1);
    world.kill_daemon();
    fs::write(world.path("web.txt"), WEB).unwrap();
    fs::write(world.path("code.txt"), CODE).unwrap();
    world.start();
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    for part in ["\"all_done\":true", "web says A", "code says B", "\"status\":\"completed\""] {
        assert!(result.contains(part), "no {part} in {result}");
    }
    let told = journal(&world, &id).iter().filter(|l| l["type"] == "told" && l["from"]["who"] == "task").count();
    assert_eq!(told, 0, "the answer of the wait had them");
}

#[test]
fn a_transfer_waits_without_a_slot_and_over_a_death() {
    let root = "call transfer_task {\"agent\": \"web_researcher\", \"task\": \"search\", \"expected_output\": \"a word\"}\n---\ncall \
                task_complete {\"summary\": \"got {result}\"}\n";
    let world = world(root);
    fs::write(world.path("web.txt"), "call escalate_question {\"question\": \"Go on?\"}\n---\ncall task_complete {\"summary\": \"web says {result}\"}\n").unwrap();
    let id = lead(&world);
    wait_for("the child", || world.task(&id)["children"].as_array().is_some_and(|c| !c.is_empty()));
    let child = world.task(&id)["children"][0].as_str().unwrap().to_owned();
    world.until(&child, "paused");
    world.kill_daemon();
    world.start();
    super::answer(&world, &child, "q1", "yes");
    let task = world.ended(&id);
    let result = task["result"].as_str().unwrap();
    assert!(result.contains("web says The owner answered: yes"), "{task:#}");
    assert_eq!(task["children"].as_array().unwrap().len(), 1, "the same call is the same task: {task:#}");
    assert_eq!(count(&world, &id, "told"), 1, "a transfer's result is told once, as its answer");
}

#[test]
fn only_declared_sub_agents_start_and_a_cancel_takes_all_of_them() {
    let root = "call run_background_agent {\"agent\": \"stranger\", \"task\": \"x\"}\n---\ncall run_background_agent {\"agent\": \
                \"web_researcher\", \"task\": \"search\"}\n---\nsay I wait.\n";
    let world = world(root);
    fs::write(world.path("web.txt"), "wait 600\nsay never\n").unwrap();
    let id = lead(&world);
    wait_for("the child to run", || {
        world.task(&id)["children"]
            .as_array()
            .and_then(|c| Some(world.task(c.first()?.as_str()?)["status"] == "running"))
            == Some(true)
    });
    let lines = journal(&world, &id);
    let first = lines.iter().find(|line| line["type"] == "returned").unwrap();
    assert!(first["text"].as_str().unwrap().contains("available: web_researcher, code_analyst"), "{first:#}");
    let child = world.task(&id)["children"][0].as_str().unwrap().to_owned();
    world.octo(&["task", &id, "cancel"]).exits(0);
    assert_eq!(world.ended(&id)["status"], "cancelled");
    assert_eq!(world.ended(&child)["status"], "cancelled");
}

#[test]
fn an_unknown_agent_is_refused_with_those_that_there_are() {
    let world = world("say hello\n");
    let request = json!({ "type": "agent", "task": "x", "team": "team.yaml", "agentId": "nobody" });
    let refused = world.post("/background-agents/start", &request);
    assert_eq!(refused.status, 400, "{refused:?}");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("available: root, web_researcher, code_analyst"), "{message}");
    let id = script(&world, "call transfer_task {}\n---\ncall task_complete {\"summary\": \"{result}\"}\n");
    let task = world.ended(&id);
    assert!(task["result"].as_str().unwrap().contains("There is no tool"), "{task:#}");
}

/// The team of docker-agent's documentation, unchanged: its root starts both specialists in one turn.
fn the_documented_team(slots: &str) {
    /// What the two specialists see of each other.
    type Working = Arc<(Mutex<usize>, Condvar)>;
    /// Answers only when both are at work.
    fn together(working: &Working) -> bool {
        let (count, changed) = &**working;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let (count, _) = changed.wait_timeout_while(count, super::harness::LONG, |count| *count < 2).unwrap();
        *count >= 2
    }
    let at_once = slots != "1";
    let working = Working::default();
    let provider = Provider::start(move |request, _| {
        let seen = request.to_string();
        let specialist = |word: &str| {
            let word = if !at_once || together(&working) { word } else { "alone" };
            Said::text("Done.").call("task_complete", json!({ "summary": format!("{word} says so") }))
        };
        let calls = ["web_researcher", "code_analyst"].map(|agent| json!({ "agent": agent, "task": "Find out." }));
        let [web, code] = calls;
        match &seen {
            seen if seen.contains("You search the web.") => specialist("the web"),
            seen if seen.contains("You explain code.") => specialist("the code"),
            seen if !seen.contains("started with ID") => Said::text("Both at the same time.")
                .call("run_background_agent", web)
                .call("run_background_agent", code),
            seen if seen.contains("the web says so") && seen.contains("the code says so") => {
                Said::text("The web and the code agree.")
            }
            _ => Said::text("I wait."),
        }
    });
    let (url, key) = (&*provider.url, "key-of-a-test");
    let world = World::with(&[
        ("BG_MAX_CONCURRENT", slots),
        ("ANTHROPIC_BASE_URL", url),
        ("ANTHROPIC_API_KEY", key),
        ("OPENAI_BASE_URL", url),
        ("OPENAI_API_KEY", key),
    ]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/teams/background.yaml");
    fs::copy(file, world.path("background.yaml")).unwrap();
    world.start();
    let id = start(&world, &json!({ "type": "agent", "task": "What is it?", "team": "background.yaml" }));
    let task = world.ended(&id);
    assert_eq!(task["result"], "The web and the code agree.", "{task:#}");
    let children: Vec<_> =
        task["children"].as_array().unwrap().iter().map(|child| world.task(child.as_str().unwrap())).collect();
    let named: Vec<_> =
        children.iter().map(|c| (c["agent_name"].as_str().unwrap(), c["model"].as_str().unwrap())).collect();
    assert_eq!(
        named.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["web_researcher", "code_analyst"],
        "{named:?}"
    );
    let asked = provider.asked();
    let of = |model: &str| asked.iter().filter(|request| request["model"] == model).count();
    assert_eq!(of("gpt-4o"), 1, "each has the model that its file names");
    assert!(of("claude-sonnet-4-0") >= 3);
    let cost = |task: &Value| task["usage"]["cost_usd"].as_f64();
    assert!(children.iter().chain([&task]).all(|task| cost(task).is_some()), "what they cost is known: {children:#?}");
}

#[test]
fn the_documented_team_works_at_the_same_time() {
    the_documented_team("3");
}

#[test]
fn the_documented_team_works_on_one_slot() {
    the_documented_team("1");
}
