//! Tests of team files.

use super::*;

const BACKGROUND: &str = include_str!("../../../tests/fixtures/teams/background.yaml");
const FULL: &str = include_str!("../../../tests/fixtures/teams/full.yaml");

const NO_DOCKER: Here = Here { docker: false };

fn read(text: &str) -> Team {
    Team::read(text, NO_DOCKER).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn error(text: &str) -> String {
    Team::read(text, NO_DOCKER).expect_err(text).to_string()
}

/// The warnings, each behind its line.
fn told(team: &Team) -> String {
    team.warnings.iter().map(|w| format!("{}: {}\n", w.line, w.what)).collect()
}

fn kinds(agent: &Agent) -> Vec<&Kind> {
    agent.toolsets.iter().map(|t| &t.kind).collect()
}

fn model(agent: &Agent) -> &str {
    agent.model.as_ref().map_or("", |m| &m.name)
}

#[test]
fn the_team_for_background_agents_loads() {
    let team = read(BACKGROUND);
    assert_eq!(team.root, "root");
    let names: Vec<_> = team.agents.iter().map(|a| (a.name.as_str(), model(a))).collect();
    assert_eq!(
        names,
        [
            ("root", "anthropic/claude-sonnet-4-0"),
            ("web_researcher", "openai/gpt-4o"),
            ("code_analyst", "anthropic/claude-sonnet-4-0")
        ]
    );
    let root = team.start(None).unwrap();
    assert_eq!(root.sub_agents, ["web_researcher", "code_analyst"]);
    assert_eq!(kinds(root), [&Kind::Think, &Kind::BackgroundAgents]);
    assert!(root.instruction.starts_with("You answer questions") && root.instruction.ends_with("sources.\n"));
    assert_eq!(kinds(team.agent("code_analyst").unwrap()), [&Kind::Filesystem, &Kind::Shell { env: BTreeMap::new() }]);
    assert!(team.agent("web_researcher").unwrap().toolsets.is_empty());
    assert_eq!(
        told(&team),
        "31: the MCP server `docker:duckduckgo` is off: it needs Docker with its MCP gateway, which is not here\n"
    );
}

#[test]
fn with_docker_its_servers_run() {
    let team = Team::read(BACKGROUND, Here { docker: true }).unwrap();
    assert_eq!(told(&team), "");
    let [Kind::Mcp(mcp)] = kinds(team.agent("web_researcher").unwrap())[..] else { panic!("no server") };
    assert_eq!(mcp.name, "duckduckgo");
    let Reach::Command { command, args, .. } = &mcp.reach else { panic!("no command") };
    assert_eq!(format!("{command} {}", args.join(" ")), "docker mcp gateway run --servers duckduckgo");
}

#[test]
fn everything_that_is_used_is_read() {
    let team = read(FULL);
    insta::assert_debug_snapshot!((&team.agents, &team.root));
}

#[test]
fn what_is_not_used_is_told_once_by_name_and_line() {
    insta::assert_snapshot!(told(&read(FULL)), @r"
    16: `api_type` of a provider is not used: it is spoken to as OpenAI's chat completions are
    29: `thinking_budget` of a model is not used: the provider's default counts
    52: `retries` of `fallback` is not used: Octo's own retries count
    58: the sub-agent `catalog/pirate` is in a registry, which Octo does not load from: it is left out
    64: `shared` of a toolset `todo` is not used: each agent has a list of its own
    66: the toolset `memory` is off: agents keep notes in files
    72: `color` is no key of an agent that Octo knows: it is left out
    75: toolset `filesystem` has no tool `remove_directory`: it is left out
    ");
}

#[test]
fn sub_agents_must_be_declared_and_be_there() {
    let said = error("agents:\n  root:\n    sub_agents:\n      - worker\n      - wroker\n  worker: {}\n");
    assert_eq!(said, "line 5: agent `root` names the sub-agent `wroker`, which is not in this file; available: worker");
    let said = error("agents: {root: {sub_agents: [other]}}");
    assert!(said.contains("it is the only agent in this file"), "{said}");
    let team = read(BACKGROUND);
    assert_eq!(team.sub_agent("root", "code_analyst").unwrap().name, "code_analyst");
    let said = team.sub_agent("root", "nobody").unwrap_err();
    assert_eq!(said, "`nobody` is no sub-agent of `root`; available: web_researcher, code_analyst");
    assert!(team.sub_agent("code_analyst", "root").unwrap_err().contains("has no sub-agents"));
    assert!(team.start(Some("boss")).unwrap_err().contains("available: root, web_researcher, code_analyst"));
}

#[test]
fn circles_are_allowed_and_end_by_depth() {
    let team = read("agents:\n  root: {sub_agents: [other]}\n  other: {sub_agents: [root, other]}\n");
    let (mut at, mut depth) = ("root", 1);
    let said = loop {
        at = &team.sub_agent(at, if at == "root" { "other" } else { "root" }).unwrap().name;
        match deeper(depth) {
            Ok(more) => depth = more,
            Err(said) => break said,
        }
    };
    assert_eq!(depth, DEPTH_MAX);
    assert!(said.contains("10 deep") && said.contains("do this task yourself"), "{said}");
}

#[test]
fn the_first_agent_starts_where_there_is_no_root() {
    assert_eq!(read("agents: {b: {}, a: {}}").root, "b");
    assert_eq!(read("agents: {b: {}, root: {}}").root, "root");
}

#[test]
fn models_are_resolved() {
    let names = |model_of_root: &str| {
        let text =
            format!("models: {{m: {{provider: openai, model: gpt-5}}}}\nagents: {{root: {{model: {model_of_root}}}}}");
        Team::read(&text, NO_DOCKER).map(|team| (model(&team.agents[0]).to_owned(), team.warnings.len()))
    };
    assert_eq!(names("m").unwrap(), ("openai/gpt-5".to_owned(), 0));
    assert_eq!(names("auto").unwrap(), (String::new(), 0));
    assert_eq!(names("dmr/ai/qwen3:4b").unwrap(), ("dmr/ai/qwen3:4b".to_owned(), 0));
    assert_eq!(names("\"m,anthropic/x\"").unwrap(), ("openai/gpt-5".to_owned(), 1));
    for wrong in ["gpt-5", "/x", "openai/", "\"\""] {
        let said = names(wrong).unwrap_err().to_string();
        assert!(said.starts_with("line 2: there is no model") && said.contains("one of this file's: m"), "{said}");
    }
}

#[test]
fn models_may_stand_for_others() {
    let team = read(
        "models:\n  c: {model: 'b,x/y'}\n  b: {model: a, max_tokens: 7}\n  a: {type: openai, model: gpt, max_tokens: 9}\n\
         agents: {root: {model: c}, other: {model: a}}\n",
    );
    let [root, other] = &team.agents[..] else { panic!("two agents") };
    assert_eq!((model(root), root.model.as_ref().unwrap().max_tokens), ("openai/gpt", Some(7)));
    assert_eq!(other.model.as_ref().unwrap().max_tokens, Some(9));
    assert!(told(&team).starts_with("2: `b,x/y` names several models"), "{}", told(&team));
    let said = error("models:\n  a: {model: b}\n  b: {model: a}\nagents: {root: {}}\n");
    assert!(said.starts_with("line 2: model `a` has no `provider`"), "{said}");
}

#[test]
fn errors_name_the_line_and_what_to_do() {
    for (text, words) in [
        ("", "line 1: the file has no agents; give it at least"),
        ("# only words\n", "the file has no agents"),
        ("models: {}\n", "the file has no agents"),
        ("agents:\n", "the file has no agents"),
        ("agents: {}\n", "the file has no agents"),
        ("just words\n", "line 1: the file must be a map"),
        ("agents:\n  - root\n", "line 2: `agents` must be a map"),
        ("agents:\n  root:\n    toolsets: think\n", "line 3: `toolsets` must be a list"),
        ("agents:\n  root:\n    toolsets:\n      - shell: {}\n", "line 4: a toolset has no `type`"),
        ("agents:\n  root:\n    instruction: [a]\n", "line 3: `instruction` of agent `root` must be a text"),
        (
            "agents:\n  root:\n    max_iterations: many\n",
            "line 3: `max_iterations` of agent `root` must be a whole number",
        ),
        ("agents:\n  root:\n    add_date: \"yes\"\n", "line 3: `add_date` of agent `root` must be true or false"),
        ("agents:\n  root:\n    toolsets:\n      - type: mcp\n", "line 4: toolset `mcp` has no `command`"),
        ("agents: {root: {toolsets: [{type: mcp, remote: {}}]}}", "has no `url`"),
        ("models:\n  m:\n    model: x\nagents: {root: {}}\n", "line 3: model `m` has no `provider`"),
        (
            "agents:\n  root: {}\n  root: {}\n",
            "line 3: this is no YAML that Octo reads: `root` is here twice (first at line 2)",
        ),
        ("agents:\n  root: {}\n---\nagents: {}\n", "line 3: this is no YAML that Octo reads: a second document"),
        ("agents:\n  ? [a]\n  : b\n", "a key must be a text"),
        ("agents:\n\troot: {}\n", "line 2: this is no YAML"),
        ("agents: {root: {instruction: \"open}}\n", "this is no YAML"),
        ("agents: {\"a\\nb\": {}}", "is no name for an agent"),
        ("a: &x [*x]\nagents: {root: {}}\n", "not complete"),
        ("a: {<<: 3}\nagents: {root: {}}\n", "`<<` takes a map"),
    ] {
        let said = error(text);
        assert!(said.contains(words), "{text:?}\nsays {said}\nnot  {words}");
    }
}

#[test]
fn what_is_written_wins_over_what_is_merged() {
    let text = "x-a: &a {description: merged, instruction: i}\nagents:\n  root:\n    description: own\n    <<: *a\n  b:\n    <<: [*a]\n    description: after\n";
    let team = read(text);
    assert_eq!((team.agents[0].description.as_str(), team.agents[0].instruction.as_str()), ("own", "i"));
    assert_eq!((team.agents[1].description.as_str(), team.agents[1].instruction.as_str()), ("after", "i"));
}

#[test]
fn texts_keep_what_yaml_says_of_them() {
    let text = "agents:\n  root:\n    description: >-\n      one\n      two\n    instruction: |+\n      a\n        b\n\n    model: 'openai/x'\n";
    let team = read(text);
    assert_eq!(team.agents[0].description, "one two");
    assert_eq!(team.agents[0].instruction, "a\n  b\n\n");
    assert_eq!(read("\u{feff}agents: {root: {description: 5}}").agents[0].description, "5");
}

#[test]
fn hostile_files_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for n in 1..40 {
        bomb.push_str(&format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
    }
    assert!(error(&bomb).contains("what aliases copy"));
    assert!(error(&format!("agents: {}", "[".repeat(100_000))).contains("recursion limit"));
    assert!(error(&"- ".repeat(100_000)).contains("deep"));
    let said = error(&format!("agents: {}", "{a: ".repeat(50_000)));
    assert!(said.contains("deep"), "{said}");
    assert!(error(&"x".repeat(2 << 20)).contains("more than"));
    assert!(error(&"k: v\n".repeat(10)).contains("twice"));
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC|\n|[-:{}\\[\\]&*<>|'\"#!% ]|agents:|root: |toolsets:|- type: mcp|model: a/b){0,60}") {
            let _ = Team::read(&text, NO_DOCKER);
        }

        #[test]
        fn a_damaged_file_is_an_error_with_a_line_in_it(at in 0usize..1900, what in "\\PC|\n|\t|\"|\\{") {
            let mut text = FULL.to_owned();
            text.insert_str(text.floor_char_boundary(at), &what);
            match Team::read(&text, NO_DOCKER) {
                Ok(team) => prop_assert!(team.agent(&team.root).is_some()),
                Err(e) => prop_assert!((1..=text.lines().count() + 1).contains(&e.line), "{}", e),
            }
        }
    }
}

/// Reads docker-agent's own examples, which are not kept here: `OCTO_TEAM_EXAMPLES` names a folder of them.
#[test]
#[ignore = "needs OCTO_TEAM_EXAMPLES, a folder of docker-agent's files"]
fn examples_of_docker_agent_load() {
    let folder = std::env::var("OCTO_TEAM_EXAMPLES").expect("OCTO_TEAM_EXAMPLES names a folder");
    let (mut loaded, mut failed) = (0, Vec::new());
    let mut open = vec![std::path::PathBuf::from(folder)];
    while let Some(at) = open.pop() {
        for path in std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                match Team::read(&std::fs::read_to_string(&path).unwrap(), NO_DOCKER) {
                    Ok(team) => {
                        loaded += 1;
                        println!("{}:\n{}", path.display(), told(&team));
                    }
                    Err(e) => failed.push(format!("{}: {e}", path.display())),
                }
            }
        }
    }
    println!("{loaded} load");
    assert!(loaded > 0 && failed.is_empty(), "{}", failed.join("\n"));
}
