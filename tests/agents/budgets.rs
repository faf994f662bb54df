//! Budgets in the whole daemon: of one agent, of a tree of them, in money, and of claude.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::harness::World;
use super::provider::{Provider, Said, Used};
use super::{count, journal, start};

fn tokens(task: &Value) -> u64 {
    task["usage"]["input_tokens"].as_u64().unwrap() + task["usage"]["output_tokens"].as_u64().unwrap()
}

/// The notices of a kind.
fn told(task: &Value, kind: &str) -> Vec<String> {
    let all = task["notices"].as_array().unwrap().iter().filter(|notice| notice["kind"] == kind);
    all.map(|notice| notice["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn fifty_thousand_tokens_are_not_passed_and_a_raise_goes_on_to_the_end() {
    let world = World::new();
    // 9,500 tokens a turn; the conversation claims to be longer than it looks.
    let turn = "tokens 9000 500\ncall list_files {\"path\": \".\"}\n---\n";
    let text = format!(
        "{}say All seen.\ntokens 9000 500\ncall task_complete {{\"summary\": \"after a raise\"}}\n",
        turn.repeat(6)
    );
    fs::write(world.path("turns.txt"), text).unwrap();
    world.start();
    let id = start(&world, &json!({ "type": "agent", "task": "x", "model": "demo/script:turns.txt" }));
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["budget"]["over"]), (&json!("budget_exceeded"), &json!("tokens")), "{task:#}");
    assert_eq!(tokens(&task), 47_500, "{task:#}");
    assert_eq!(task["error"], "its budget of 50,000 tokens is used up (47,500 are)");
    assert_eq!(told(&task, "budget"), ["80 % of its budget of 50,000 tokens are used"]);
    assert_eq!(told(&task, "budget_exceeded").len(), 1);
    let before = journal(&world, &id);
    world.kill_daemon();
    world.start();
    world.octo(&["task", &id, "raise"]).exits(0);
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!("after a raise")), "{task:#}");
    assert_eq!((tokens(&task), &task["budget"]["tokens"], &task["run"]), (66_500, &json!(100_000), &json!(1)));
    assert_eq!(journal(&world, &id)[..before.len()], before, "it goes on from its journal");
    assert_eq!(count(&world, &id, "replied"), 7, "no reply was asked for twice");
    world.octo(&["task", &id, "raise"]).exits(6);
}

/// What a model uses is not what it looks like: only the bill tells how long its prompts are.
#[test]
fn a_model_that_never_ends_stops_within_one_reply_of_its_budget() {
    let world = World::new();
    world.start();
    for budget in [10_000, 50_000] {
        let request = json!({ "type": "agent", "task": "x", "model": "demo/spender", "budget_tokens": budget });
        let task = world.ended(&start(&world, &request));
        assert_eq!(task["status"], "budget_exceeded", "{task:#}");
        let used = tokens(&task);
        // The spender's prompts grow by 500 more than anybody could know, and its replies have 500.
        assert!(used > budget * 7 / 10 && used <= budget + 500, "{used} of {budget}");
    }
}

/// A provider that bills more than it was allowed, for texts of which it counts other tokens than anybody would.
#[test]
fn a_provider_that_keeps_to_no_limit_is_stopped_after_one_reply_and_money_is_exact() {
    let used = Used { input: 2000, cached_read: 3000, cached_write: 1000, output: 700 };
    let provider =
        Provider::start(move |_, _| Said::text("Once more.").call("list_files", json!({"path": "."})).used(used));
    let settings = [("ANTHROPIC_BASE_URL", &*provider.url), ("ANTHROPIC_API_KEY", "key-of-a-test")];
    let world = World::with(&settings);
    world.start();
    let start = |more: Value| {
        let mut request = json!({ "type": "agent", "task": "x", "model": "anthropic/claude-opus-5-5" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.ended(&start(&world, &request))
    };
    let task = start(json!({}));
    assert_eq!(task["status"], "budget_exceeded", "{task:#}");
    let turns = task["usage"]["turns"].as_u64().unwrap();
    assert_eq!(tokens(&task), 6700 * turns);
    assert!((50_000 - 6700..=50_000 + 700).contains(&tokens(&task)), "{task:#}");
    // $4, $0.20, $5 and $20 for a million: 8,000 + 600 + 5,000 + 14,000 micro-dollars.
    let cost = |task: &Value| task["usage"]["cost_usd"].as_f64().unwrap();
    let each = 0.0276;
    assert!((cost(&task) - each * turns as f64).abs() < 1e-9, "{task:#}");
    let asked = provider.asked();
    assert_eq!(asked.len() as u64, turns);
    let most = asked.last().unwrap()["max_tokens"].as_u64().unwrap();
    assert!(most < 8192, "the last reply was to be shorter: {most}");

    let task = start(json!({ "budget_usd": 0.25, "budget_tokens": 10_000_000 }));
    assert_eq!((&task["status"], &task["budget"]["over"]), (&json!("budget_exceeded"), &json!("usd")), "{task:#}");
    let turns = task["usage"]["turns"].as_u64().unwrap();
    assert!((cost(&task) - each * turns as f64).abs() < 1e-9, "{task:#}");
    assert!(cost(&task) > 0.25 - 2.0 * each && cost(&task) <= 0.25 + 700.0 * 20e-6, "{task:#}");
    assert_eq!(told(&task, "budget"), ["80 % of its budget of $0.25 are used"]);
}

const TEAM: &str = "\
agents:
  root:
    model: demo/script:root.txt
    instruction: Lead.
    sub_agents: [worker]
    toolsets: [{type: background_agents}]
  worker: {model: \"demo/script:work.txt\", instruction: Work., toolsets: [{type: filesystem}]}
";

#[test]
fn a_root_and_four_at_once_stay_within_the_roots_budget() {
    const BUDGET: u64 = 30_000;
    let world = World::with(&[("BG_MAX_CONCURRENT", "5")]);
    fs::write(world.path("team.yaml"), TEAM).unwrap();
    let each = "call run_background_agent {\"agent\": \"worker\", \"task\": \"work\"}\n";
    fs::write(world.path("root.txt"), each.repeat(4) + "---\nsay I wait.\n").unwrap();
    let words = "so it goes on and on ".repeat(20);
    let turn = format!("wait 0.1\nsay {words}\ncall list_files {{\"path\": \".\"}}\n---\n");
    fs::write(world.path("work.txt"), turn.repeat(100)).unwrap();
    world.start();
    let request = json!({ "type": "agent", "task": "Lead.", "team": "team.yaml", "budget_tokens": BUDGET });
    let id = start(&world, &request);
    let root = world.ended(&id);
    assert_eq!(root["status"], "budget_exceeded", "{root:#}");
    let children: Vec<Value> =
        root["children"].as_array().unwrap().iter().map(|child| world.ended(child.as_str().unwrap())).collect();
    assert_eq!(children.len(), 4);
    for child in &children {
        assert_eq!((&child["status"], &child["budget"]["over"]), (&json!("budget_exceeded"), &json!(id)), "{child:#}");
        assert!(child["error"].as_str().unwrap().contains("of 30,000 tokens is used up"), "{child:#}");
    }
    let at_work = children.iter().filter(|child| child["usage"]["turns"].as_u64().unwrap() >= 2).count();
    assert!(at_work >= 2, "no more than one had a part of it: {children:#?}");
    let sum: u64 = children.iter().map(tokens).sum::<u64>() + tokens(&root);
    println!("a tree of 5 used {sum} of {BUDGET} tokens");
    assert!(sum <= BUDGET && sum > BUDGET * 2 / 3, "{sum}");
    assert_eq!(told(&world.task(&id), "budget").len(), 1, "the root's owner is told of 80 % once");
    let refused = world.octo(&["task", children[0]["id"].as_str().unwrap(), "raise"]);
    assert!(refused.err.contains("which started it"), "{refused:?}");
}

/// A `claude` that notes its arguments and prints a real transcript.
fn fake_claude(world: &World) {
    let program = world.beside("fake/claude");
    fs::create_dir(world.beside("fake")).unwrap();
    let script = "#!/bin/sh\necho \"$*\" >> \"$OCTO_WORKSPACE/calls\"\ncat \"$FAKE\"\nexit ${FAKE_EXIT:-0}\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn path(world: &World) -> String {
    format!("{}:{}", world.beside("fake").display(), std::env::var("PATH").unwrap())
}

fn transcript(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/claude").join(format!("{name}.log"))
}

fn with_claude(env: &[(&str, &str)]) -> World {
    let world = World::with(env);
    fake_claude(&world);
    world.start();
    world
}

/// Starts a command whose `claude` prints what is in this file, and exits so.
#[track_caller]
fn claude(world: &World, options: &[&str], prints: &Path, exit: u32, command: &str) -> String {
    let env = [format!("PATH={}", path(world)), format!("FAKE={}", prints.display()), format!("FAKE_EXIT={exit}")];
    let env = env.iter().flat_map(|variable| ["--env", variable]);
    world.bg_with(&options.iter().copied().chain(env).collect::<Vec<_>>(), command)
}

fn calls(world: &World) -> Vec<String> {
    fs::read_to_string(world.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

const JSON: &str = "claude -p hi --output-format stream-json --verbose";

#[test]
fn what_claude_used_counts_for_the_budget_of_all_and_a_resumed_session_is_not_paid_twice() {
    let world = with_claude(&[("OCTO_GLOBAL_BUDGET", "2000")]);
    let first = claude(&world, &[], &transcript("resume1"), 0, JSON);
    let first = world.ended(&first);
    let again = format!("{JSON} --resume {}", first["session_id"].as_str().unwrap());
    let second = world.ended(&claude(&world, &[], &transcript("resume2"), 0, &again));
    assert_eq!((tokens(&first), tokens(&second)), (908, 964));
    let cost = |task: &Value| task["usage"]["cost_usd"].as_f64().unwrap();
    assert!((cost(&first) - 0.003_76).abs() < 1e-9 && (cost(&second) - 0.004_08).abs() < 1e-9, "{second:#}");
    let agent = json!({ "type": "agent", "task": "x", "model": "demo/spender" });
    for round in 0..2 {
        let task = world.ended(&start(&world, &agent));
        assert_eq!(
            (&task["status"], &task["budget"]["over"]),
            (&json!("budget_exceeded"), &json!("global")),
            "{task:#}"
        );
        let error = task["error"].as_str().unwrap();
        assert!(
            error.contains("2,000 tokens that all agents have in 24 hours is used up (1,872 are)"),
            "{round}: {error}"
        );
        if round == 0 {
            world.kill_daemon();
            world.start();
        }
    }
}

#[test]
fn a_claudes_budget_is_its_own_option_and_what_stops_it_is_told() {
    let world = with_claude(&[]);
    let id = claude(&world, &["--budget-usd", "0.9"], &transcript("max-budget"), 1, JSON);
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["budget"]["over"]), (&json!("budget_exceeded"), &json!("usd")), "{task:#}");
    assert_eq!(task["error"], "claude failed: Reached maximum budget ($0.9) (exit code 1)");
    assert!((task["usage"]["cost_usd"].as_f64().unwrap() - 1.26).abs() < 1e-9, "{task:#}");
    assert_eq!((told(&task, "budget").len(), told(&task, "budget_exceeded").len()), (0, 1));
    let refused = world.octo(&["task", &id, "raise"]);
    assert!(refused.code == 6 && refused.err.contains("only an agent"), "{refused:?}");
    // A retry may cost as much again, and no more.
    world.octo(&["task", &id, "retry"]).exits(0);
    super::harness::wait_for("the second run", || world.task(&id)["run"] == 2);
    assert_eq!(world.ended(&id)["status"], "budget_exceeded");

    // One that says it in its own plain words.
    let fake = world.path("words");
    fs::write(&fake, "Error: Exceeded USD budget (0.1)").unwrap();
    let id = claude(&world, &["--budget-usd", "0.1"], &fake, 1, "claude -p hi");
    let task = world.ended(&id);
    assert_eq!(task["status"], "budget_exceeded", "{task:#}");
    assert_eq!(task["error"], "claude failed: Exceeded USD budget (0.1)");
    // The same words of one without a budget, or of another command, are just words.
    for (options, command) in [(&[][..], "claude -p hi"), (&["--budget-usd", "0.1"], "claude -p hi; exit 1")] {
        let task = world.ended(&claude(&world, options, &fake, 1, command));
        assert_eq!((&task["status"], &task["error"]), (&json!("failed"), &json!("exit code 1")), "{task:#}");
    }

    let own =
        claude(&world, &["--budget-usd", "0.9"], &transcript("hello"), 0, &format!("{JSON} --max-budget-usd 0.2"));
    assert_eq!(world.ended(&own)["status"], "completed");
    assert_eq!(world.ended(&claude(&world, &[], &transcript("hello"), 0, JSON))["status"], "completed");
    let caps: Vec<Option<String>> = calls(&world)
        .iter()
        .map(|line| line.split(' ').find(|word| word.starts_with("--max-budget-usd")).map(str::to_owned))
        .collect();
    let cap = |usd: &str| Some(format!("--max-budget-usd={usd}"));
    let expected = [cap("0.9"), cap("0.9"), cap("0.1"), None, cap("0.1"), Some("--max-budget-usd".to_owned()), None];
    assert_eq!(caps, expected, "{:#?}", calls(&world));

    let request = json!({ "command": JSON, "budget_usd": 0.25, "env_overrides": {
        "PATH": path(&world), "FAKE": transcript("hello") } });
    assert_eq!(world.ended(&start(&world, &request))["status"], "completed");
    assert!(calls(&world).last().unwrap().contains("--max-budget-usd=0.25 "), "{:?}", calls(&world));
}
