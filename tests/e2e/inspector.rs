//! `octo mcp` as the official inspector of MCP, a program in another language, sees it.

use std::process::Stdio;

use serde_json::Value;

use crate::main_job::StopAtEnd;
use crate::world::World;

/// What the inspector prints about one request to `octo mcp`.
fn inspect(world: &World, words: &[&str]) -> Value {
    let mut command = world.command(world.installed("OCTO_E2E_NODE"), &[]);
    command.args([world.installed("OCTO_E2E_INSPECTOR"), "--cli", env!("CARGO_BIN_EXE_octo"), "mcp"]).args(words);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// The answer of a tool, which is JSON.
fn call(world: &World, tool: &str, arguments: &[&str]) -> Value {
    let mut words = vec!["--method", "tools/call", "--tool-name", tool];
    words.extend(arguments.iter().flat_map(|argument| ["--tool-arg", argument]));
    let answer = inspect(world, &words);
    assert_ne!(answer["isError"], true, "{answer}");
    serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap()
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn the_inspector_starts_a_task_and_waits_for_it() {
    let world = World::new();
    let _stop = StopAtEnd(&world);
    let listed = inspect(&world, &["--method", "tools/list"]);
    assert_eq!(listed["tools"].as_array().map(Vec::len), Some(5), "{listed}");
    let started = call(&world, "dispatch_background", &["task_type=process", "command=sleep 1; echo from afar"]);
    let id = started["task_id"].as_str().unwrap();
    let waited = call(&world, "wait_background_agents", &[&format!("task_ids=[\"{id}\"]")]);
    assert_eq!((&waited["all_done"], &waited["tasks"][0]["output"]), (&true.into(), &"from afar".into()), "{waited}");
    assert_eq!(call(&world, "list_background_agents", &[])["tasks"][0]["task_id"], id);
}
