use super::*;
use crate::claude::wrapper::{WrapperEnv, wrapper};

struct World {
    dir: tempfile::TempDir,
    bridge: Bridge,
}

impl World {
    fn new(reach: ClaudeBridge) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| vec![dir.path().join(name)];
        let (settings, servers, forbidding) = (at("settings.json"), at("claude.json"), at("managed-mcp.json"));
        let bridge = Bridge { reach, octo: "/o/octo".into(), folder_is_set: false, settings, servers, forbidding };
        World { dir, bridge }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What the bridge adds to a command line; shortened, since the server's JSON is long.
    fn adds(&self, line: &str) -> String {
        let (args, _) = self.run(line, "");
        let added =
            args.iter().filter(|a| !shell_words::split(line).unwrap().contains(a) && !a.starts_with("--session-id"));
        let short = |word: &String| match word.as_str() {
            "--permission-prompt-tool=mcp__octo__permission" => "handler".to_owned(),
            "--allowedTools=mcp__octo__escalate_question" => "allowed".to_owned(),
            other => match other.strip_prefix("--mcp-config=").map(|json| serde_json::from_str::<Value>(json).unwrap())
            {
                Some(config) => config["mcpServers"]["octo"]["env"]["OCTO_CLAUDE_BRIDGE"].as_str().unwrap().to_owned(),
                None => other.to_owned(),
            },
        };
        added.map(short).collect::<Vec<_>>().join(" ")
    }

    fn run(&self, line: &str, additional: &str) -> (Vec<String>, Vec<(OsString, OsString)>) {
        let args = shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
        let bridge = Some(self.bridge.clone());
        let env = WrapperEnv {
            additional: additional.into(),
            session: "ID".into(),
            program: Some("/c".into()),
            budget: "".into(),
            bridge,
        };
        let exec = wrapper(args, &env).unwrap();
        (exec.args.into_iter().map(|a| a.into_string().unwrap()).collect(), exec.env)
    }
}

const ALL: &str = "full handler allowed";
const QUESTIONS_ONLY: &str = "questions allowed";

#[test]
fn a_print_run_gets_its_way_to_ask_before_the_print_flag() {
    let world = World::new(ClaudeBridge::Full);
    let (args, env) = world.run("--model opus -p hi", "--bare");
    let config = r#"{"mcpServers":{"octo":{"command":"/o/octo","args":["mcp"],"env":{"OCTO_CLAUDE_BRIDGE":"full"},"alwaysLoad":true,"timeout":2147483647}}}"#;
    let config = format!("--mcp-config={config}");
    let handler = "--permission-prompt-tool=mcp__octo__permission";
    let allowed = "--allowedTools=mcp__octo__escalate_question";
    assert_eq!(args, ["--model", "opus", "--bare", "--session-id=ID", &config, handler, allowed, "-p", "hi"]);
    assert_eq!(env, [(KEEP_FOLDER.into(), "1".into())]);
}

#[test]
fn the_setting_says_how_far_it_goes() {
    assert_eq!(World::new(ClaudeBridge::Full).adds("-p hi"), ALL);
    let questions = World::new(ClaudeBridge::Questions);
    assert_eq!(questions.adds("-p hi"), QUESTIONS_ONLY);
    assert_eq!(questions.run("-p hi", "").1, []);
    assert_eq!(World::new(ClaudeBridge::Off).adds("-p hi"), "");
}

#[test]
fn what_the_command_line_says_stays_alone() {
    let world = World::new(ClaudeBridge::Full);
    for (line, adds) in [
        ("-p --permission-prompt-tool mcp__mine__ask hi", QUESTIONS_ONLY),
        ("-p --permission-prompt-tool mcp__octo__permission hi", "full allowed"),
        ("-p --permission-prompts none hi", QUESTIONS_ONLY),
        ("-p --dangerously-skip-permissions hi", QUESTIONS_ONLY),
        ("-p --permission-mode bypassPermissions hi", QUESTIONS_ONLY),
        ("-p --permission-mode=dontAsk hi", QUESTIONS_ONLY),
        ("-p --permission-mode bypassPermissions --permission-mode plan hi", ALL),
        ("-p --permission-mode acceptEdits hi", ALL),
        ("-p --allow-dangerously-skip-permissions hi", ALL),
        ("-p --strict-mcp-config hi", ALL),
        ("-p --allowedTools Read mcp__octo__escalate_question -- hi", "full handler"),
        ("-p --allowed-tools mcp__octo__escalate_question -- hi", "full handler"),
        ("-p --bare hi", ALL),
        ("-p --restricted hi", ALL),
        ("-p --safe-mode hi", ""),
        ("-p --cloud hi", ""),
        ("hi", ""),
        ("mcp add octo -- x -p", ""),
    ] {
        assert_eq!(world.adds(line), adds, "{line}");
    }
    let (args, _) = world.run("-p hi", "--permission-prompt-tool mcp__mine__ask");
    assert!(!args.iter().any(|a| a.contains(HANDLER)), "{args:?}");
}

#[test]
fn a_folder_that_somebody_decided_on_stays() {
    let mut world = World::new(ClaudeBridge::Full);
    world.bridge.folder_is_set = true;
    assert_eq!(world.run("-p hi", "").1, []);
}

#[test]
fn other_servers_are_no_matter_and_one_of_the_same_name_is() {
    let mine = r#"{"mcpServers":{"octo":{"command":"python3","args":["octo.py"]}}}"#;
    let other = r#"{"mcpServers":{"other":{"command":"octo","args":["octo"]}}}"#;
    let octos = r#"{"mcpServers":{"octo":{"command":"/usr/bin/octo","args":["mcp"]}}}"#;
    let http = r#"{"mcpServers":{"octo":{"type":"http","url":"https://octo.example/mcp"}}}"#;
    let world = World::new(ClaudeBridge::Full);
    let file = world.file("mine.json", mine);
    for (value, adds) in [
        (other, ALL),
        ("/nonexistent.json", ALL),
        ("{\"octo\"", ALL),
        (mine, ""),
        (http, ""),
        (&file, ""),
        (octos, "handler allowed"),
    ] {
        let value = shell_words::quote(value);
        assert_eq!(world.adds(&format!("-p --mcp-config {value} -- hi")), adds, "{value}");
        let second = format!("-p --mcp-config {} {value} -- hi", shell_words::quote(other));
        assert_eq!(world.adds(&second), adds, "{value} behind another");
    }
    for (text, adds) in [(mine, ""), (other, ALL), (octos, ALL), ("\"octo\" {", ALL)] {
        world.file("claude.json", text);
        assert_eq!(world.adds("-p hi"), adds, "{text}");
    }
}

#[test]
fn a_server_counts_only_for_the_folder_that_it_was_added_for() {
    let world = World::new(ClaudeBridge::Full);
    let mine = serde_json::json!({"mcpServers": {"octo": {"command": "x"}}});
    for (folder, adds) in [(std::env::current_dir().unwrap(), ""), ("/elsewhere".into(), ALL), ("/".into(), "")] {
        world.file("claude.json", &serde_json::json!({"projects": {folder.to_str().unwrap(): mine}}).to_string());
        assert_eq!(world.adds("-p hi"), adds, "{}", folder.display());
    }
}

#[test]
fn somebody_elses_say_on_servers_is_respected() {
    let world = World::new(ClaudeBridge::Full);
    let denied = r#"{"deniedMcpServers":[{"serverName":"octo"}]}"#;
    assert_eq!(world.adds(&format!("-p --settings '{denied}' hi")), "");
    assert_eq!(world.adds("-p --settings '{\"model\":\"x\"}' hi"), ALL);
    let file = world.file("given.json", denied);
    assert_eq!(world.adds(&format!("-p --settings {file} hi")), "");
    assert_eq!(world.adds("-p hi"), ALL);
    world.file("settings.json", r#"{"allowedMcpServers": []}"#);
    assert_eq!(world.adds("-p hi"), "");
    let world = World::new(ClaudeBridge::Full);
    world.file("managed-mcp.json", "{}");
    assert_eq!(world.adds("-p hi"), "");
}

#[test]
fn a_path_that_claude_would_rewrite_is_not_given() {
    let mut world = World::new(ClaudeBridge::Full);
    world.bridge.octo = "/a/${HOME}/octo".into();
    assert_eq!(world.adds("-p hi"), "");
}

#[test]
fn twice_wrapped_is_once_wrapped() {
    let world = World::new(ClaudeBridge::Full);
    let (once, _) = world.run("-p hi", "--model opus");
    let (twice, _) = world.run(&shell_words::join(&once), "--model opus");
    assert_eq!(once, twice);
}

#[test]
fn a_server_of_the_same_name_is_told() {
    let world = World::new(ClaudeBridge::Full);
    world.file("claude.json", r#"{"mcpServers":{"octo":{"url":"x"}}}"#);
    let env = WrapperEnv { program: Some("/c".into()), bridge: Some(world.bridge.clone()), ..Default::default() };
    let exec = wrapper(vec!["-p".into()], &env).unwrap();
    assert!(exec.warning.unwrap().contains("this run cannot ask"));
}
