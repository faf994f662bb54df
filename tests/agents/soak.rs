//! The daemon is killed again and again while agents of all kinds work.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::harness::random::Random;
use super::harness::{World, scale, wait_for};
use super::{count, start};

const TEAM: &str = "\
agents:
  root:
    model: demo/script:root.txt
    instruction: Lead.
    sub_agents: [first, second]
    toolsets: [{type: background_agents}, {type: shell}]
  first: {model: \"demo/script:first.txt\", instruction: Work., toolsets: [{type: shell}]}
  second: {model: \"demo/script:second.txt\", instruction: Work., toolsets: [{type: shell}, {type: filesystem}]}
";

/// A command that leaves a line in the file of its kind.
fn effect(kind: &str, step: usize) -> String {
    format!("call shell {{\"command\": \"echo $OCTO_TASK_ID {step} >> {kind}.effects; sleep 0.01\"}}\n")
}

fn done(words: &str) -> String {
    format!("call task_complete {{\"summary\": \"{words}\"}}\n")
}

/// How many commands each kind of agent runs.
const COMMANDS: [(&str, usize); 6] =
    [("shell", 5), ("files", 1), ("asks", 2), ("root", 2), ("first", 2), ("second", 2)];

/// The scripts of a round: what is asked of each kind, but for those that the team starts.
fn scripts(world: &World) -> BTreeMap<&'static str, Value> {
    let shell: String = (1..=5).map(|step| effect("shell", step) + "---\n").collect();
    let files = (1..=4)
        .map(|n| format!("call write_file {{\"path\": \"f{n}.txt\", \"content\": \"{n}\"}}\n---\ncall read_file {{\"path\": \"f{n}.txt\"}}\n---\n"))
        .collect::<String>();
    let asks = |step: usize| {
        format!("call escalate_question {{\"question\": \"Step {step}?\"}}\n---\n{}---\n", effect("asks", step))
    };
    let run = |agent: &str| format!("call run_background_agent {{\"agent\": \"{agent}\", \"task\": \"work\"}}\n");
    let transfer =
        "call transfer_task {\"agent\": \"second\", \"task\": \"work\", \"expected_output\": \"a word\"}\n---\n";
    // The two are told of before its second command or behind it: it waits until it has nothing else to do.
    let root = format!(
        "{}{}---\n{transfer}{}---\nsay The team is done.\n{}",
        effect("root", 1),
        run("first"),
        effect("root", 2),
        "---\nsay The team is done.\n".repeat(8)
    );
    fs::write(world.path("root.txt"), root).unwrap();
    for (agent, step) in [("first", 2), ("second", 2)] {
        let steps: String = (1..=step).map(|n| effect(agent, n) + "---\n").collect();
        fs::write(world.path(&format!("{agent}.txt")), steps + &done(agent)).unwrap();
    }
    let script = |text: String| json!({ "type": "agent", "task": text, "model": "demo/script" });
    BTreeMap::from([
        ("shell", script(shell + &done("all commands ran"))),
        ("files", script(files + &effect("files", 1) + "---\n" + &done("all files are there"))),
        ("asks", script(asks(1) + &asks(2) + &done("{result:1}, {result:3}"))),
        ("root", json!({ "type": "agent", "task": "Lead.", "team": "team.yaml" })),
    ])
}

/// The whole lines of a journal, as they are on the disk.
fn lines(world: &World, id: &str) -> Vec<String> {
    let text = fs::read_to_string(world.tasks_dir().join(id).join("journal.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    whole.lines().map(str::to_owned).collect()
}

/// The agents of a round with all that they started.
fn family(world: &World, roots: &[String]) -> Vec<String> {
    let children = |id: &String| {
        let task = world.task(id);
        task["children"].as_array().unwrap().iter().map(|child| child.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    roots.iter().flat_map(|id| [vec![id.clone()], children(id)].concat()).collect()
}

/// Answers what is asked now.
fn answer_all(world: &World, id: &str) {
    for question in world.task(id)["questions"].as_array().into_iter().flatten() {
        if question["open"] == true {
            let answer = json!({ "answer": "yes", "question": question["id"] });
            assert_eq!(world.post(&format!("/background-agents/{id}/resume"), &answer).status, 200);
        }
    }
}

/// The commands of a kind that left their line, each with the agent that ran it.
fn effects(world: &World, kind: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(world.path(&format!("{kind}.effects"))).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()).collect()
}

#[test]
fn kills_at_random_lose_no_step_and_do_none_twice() {
    let seed = std::env::var("OCTO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = Random::new(seed);
    let world = World::with(&[
        ("OCTO_SHELL_POLICY", "allow"),
        ("BG_MAX_CONCURRENT", "4"),
        ("OCTO_GLOBAL_BUDGET", "1000000000"),
    ]);
    fs::write(world.path("team.yaml"), TEAM).unwrap();
    let (rounds, kills) = (scale(2, 60), 10);
    let (mut deaths, mut agents, mut steps, mut commands) = (0, 0, 0, 0);
    world.start();
    for round in 0..rounds {
        let scripts = scripts(&world);
        for (kind, _) in COMMANDS {
            let _ = fs::remove_file(world.path(&format!("{kind}.effects")));
        }
        let started: BTreeMap<&str, String> = scripts.iter().map(|(kind, r)| (*kind, start(&world, r))).collect();
        let roots: Vec<String> = started.values().cloned().collect();
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..kills {
            let all = family(&world, &roots);
            let size = || all.iter().map(|id| lines(&world, id).len()).sum::<usize>();
            let enough = size() + random.below(12);
            wait_for("some more steps", || {
                answer_all(&world, &started["asks"]);
                size() >= enough || roots.iter().all(|id| world.task(id)["completed_at"] != "")
            });
            // What is on the disk now must be there in the end.
            seen.extend(all.iter().map(|id| (id.clone(), lines(&world, id))));
            world.kill_daemon();
            deaths += 1;
            world.start();
        }
        wait_for("all agents", || {
            answer_all(&world, &started["asks"]);
            roots.iter().all(|id| world.task(id)["completed_at"] != "")
        });
        let of = |kind: &str| world.task(&started[kind]);
        let result = |kind: &str| of(kind)["result"].as_str().unwrap().to_owned();
        let why = || format!("seed {seed}, round {round}");
        for (kind, words) in [
            ("shell", "all commands ran"),
            ("files", "all files are there"),
            ("asks", "The owner answered: yes, The owner answered: yes"),
            ("root", "The team is done."),
        ] {
            let task = of(kind);
            assert_eq!(task["status"], "completed", "{}: {task:#}", why());
            assert!(result(kind).ends_with(words), "{}: {task:#}", why());
        }
        let root = of("root");
        let children = root["children"].as_array().unwrap();
        assert_eq!(children.len(), 2, "{}: each call started one task: {root:#}", why());
        for (kind, count) in COMMANDS {
            let ran = effects(&world, kind);
            let numbers: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
            assert_eq!(ran.iter().map(|(_, n)| n.clone()).collect::<Vec<_>>(), numbers, "{}: {kind}: {ran:?}", why());
            commands += ran.len();
        }
        for (id, before) in &seen {
            let after = lines(&world, id);
            assert!(after.starts_with(before), "{}: lines of {id} were lost: {before:#?} {after:#?}", why());
        }
        for id in family(&world, &roots) {
            let all = lines(&world, &id);
            assert!(all.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}: {all:#?}", why());
            let turns = world.task(&id)["usage"]["turns"].as_u64().unwrap();
            assert_eq!(count(&world, &id, "replied") as u64, turns, "{}", why());
            assert_eq!(count(&world, &id, "ended"), 1, "{}", why());
            (agents, steps) = (agents + 1, steps + all.len());
        }
        assert_eq!(of("asks")["questions"].as_array().unwrap().len(), 2, "{}: each was asked once", why());
        assert_eq!(count(&world, &started["shell"], "replied"), 6, "{}", why());
    }
    println!(
        "{deaths} deaths of the daemon: {agents} agents, {steps} lines of journals, {commands} commands once each, 0 lost"
    );
}
