//! The MCP servers of agents: programs on standard streams, behaving and misbehaving.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use octo::agent::mcp::{CallError, START_WITHIN, Servers, Surroundings};
use octo::agent::team::{Mcp, Reach, Toolset};
use octo::agent::tools::RESULT_MAX;
use serde_json::{Value, json};

use crate::harness::{LONG, World, process, wait_for};
use crate::server::{of, toolset};

const SECRET: &str = "123456:a-token-of-octos-own";
const KEY: &str = "key-0123456789";
/// Says that this process stands for a daemon, and where its folder is.
const DAEMON: &str = "OCTO_TEST_DAEMON";

/// Where servers run.
pub(crate) struct Place {
    dir: PathBuf,
    env: BTreeMap<OsString, OsString>,
    mark: PathBuf,
    pub(crate) start_within: Duration,
}

impl Place {
    pub(crate) fn new(dir: &Path) -> Place {
        let own = std::env::vars_os().filter(|(name, _)| name != DAEMON);
        let set = [("TELEGRAM_BOT_TOKEN", SECRET), ("KEY", KEY), ("COLOUR", "green-as-grass")];
        let env = own.chain(set.map(|(name, value)| (name.into(), value.into()))).collect();
        let mark = dir.join(".octo/tasks/c4b1e09a/mcp/run-1");
        Place { dir: dir.to_owned(), env, mark, start_within: START_WITHIN }
    }

    pub(crate) async fn connect(&self, toolsets: &[Toolset]) -> Servers {
        let look_up = |name: &str| self.env.get(&OsString::from(name)).map(|v| v.to_str().unwrap().to_owned());
        let here = Surroundings {
            env: &self.env,
            look_up: &look_up,
            cwd: &self.dir,
            shim: Path::new(env!("CARGO_BIN_EXE_octo-shim")),
            mark: &self.mark,
            open_files: Some(77),
            start_within: self.start_within,
        };
        Servers::connect(toolsets, &here).await
    }

    async fn one(&self) -> Servers {
        let servers = self.connect(&[toolset("s", "good")]).await;
        assert_eq!(servers.problems(), [""; 0]);
        servers
    }
}

async fn call(servers: &Servers, name: &str) -> Result<String, CallError> {
    servers.call(name, &json!({}), LONG).await
}

fn words(error: CallError) -> String {
    error.to_string()
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let dir = tempfile::tempdir().unwrap();
    let mut few = toolset("t", "good");
    few.tools = Some(vec!["echo".to_owned(), "family".to_owned()]);
    let servers = Place::new(dir.path()).connect(&[toolset("s", "good"), few]).await;
    assert_eq!(servers.problems(), [""; 0]);
    let names: Vec<_> = servers.tools().into_iter().map(|tool| tool.name).collect();
    assert_eq!(
        (names.len(), &names[0][..], &names[13..]),
        (15, "s__echo", &["t__echo", "t__family"].map(String::from)[..])
    );
    assert!(servers.has("t__echo") && !servers.has("t__env") && !servers.has("echo"));
    let said = servers.call("t__echo", &json!({"text": "hi", "none": null}), LONG).await;
    assert_eq!(said.as_deref(), Ok(r#"{"text":"hi"}"#));
    let none = call(&servers, "t__env").await.unwrap_err();
    assert!(matches!(&none, CallError::NotDone(words) if words.to_string().contains("there is no tool `t__env`")));
    let failed = call(&servers, "s__fail").await.unwrap_err();
    assert!(matches!(&failed, CallError::Failed(words) if words.to_string() == "the disk is full"), "{failed:?}");
    let refused = call(&servers, "s__refuse").await.unwrap_err();
    assert!(matches!(&refused, CallError::Failed(words) if words.to_string() == "s__refuse: there is no such thing"));
    let wrong = servers.call("s__echo", &json!("text"), LONG).await.unwrap_err();
    assert!(matches!(wrong, CallError::NotDone(_)), "{wrong:?}");
    let huge = call(&servers, "s__huge").await.unwrap();
    assert!(huge.len() <= RESULT_MAX && huge.starts_with("a line\n") && huge.contains("not shown"), "{}", huge.len());
    assert_eq!(call(&servers, "s__starts").await.as_deref(), Ok("2"), "one start each");
    assert_eq!(call(&servers, "s__limit").await.as_deref(), Ok("77"), "open files");
}

#[tokio::test]
async fn a_server_that_cannot_be_had_is_off_and_the_others_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(dir.path());
    let command = |name: &str, command: &str, env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        of(Mcp { name: name.to_owned(), reach: Reach::Command { command: command.to_owned(), args: Vec::new(), env } })
    };
    let remote = |name: &str, url: &str, transport: &str| {
        let (url, transport) = (url.to_owned(), transport.to_owned());
        of(Mcp { name: name.to_owned(), reach: Reach::Remote { url, transport, headers: BTreeMap::new() } })
    };
    let mut ends = toolset("ends", "ends");
    if let octo::agent::team::Kind::Mcp(Mcp { reach: Reach::Command { env, .. }, .. }) = &mut ends.kind {
        env.insert("KEY".to_owned(), "${env.KEY}".to_owned());
    }
    let all = [
        command("missing", "octo-has-no-such-program", &[]),
        ends,
        command("unset", "cat", &[("A", "${env.OCTO_NOBODY_SETS_THIS}")]),
        remote("old", "http://127.0.0.1:1/sse", "sse"),
        remote("nowhere", "http://127.0.0.1:1/mcp", "streamable"),
        remote("odd", "ftp://127.0.0.1/", "streamable"),
        toolset("good", "good"),
    ];
    let servers = place.connect(&all).await;
    let problems = servers.problems();
    for (problem, says) in problems.iter().zip([
        "`missing` is off: it ended at once (exit code 126: octo-shim: cannot run `octo-has-no-such-program`: No such file",
        "`ends` is off: it ended at once (exit code 2: I want another key than [hidden])",
        "`unset` is off: the variable OCTO_NOBODY_SETS_THIS is not set",
        "`old` is off: the transport `sse` of MCP's first version is not spoken here",
        "`nowhere` is off: ",
        "`odd` is off: its `url` is no address",
    ]) {
        assert!(problem.contains(says), "{says}: {problem}");
    }
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert!(!problems.iter().any(|problem| problem.contains(KEY)), "{problems:?}");
    assert_eq!(servers.tools().len(), 13);
    assert!(call(&servers, "good__echo").await.is_ok());
    // One that never says a word, and one that says what it is told.
    place.start_within = Duration::from_millis(300);
    let servers = place.connect(&[toolset("silent", "silent"), command("echo", "cat", &[])]).await;
    let late = ["silent", "echo"].map(|name| format!("the MCP server `{name}` is off: it was not ready within 1 s"));
    assert_eq!(servers.problems(), late);
    assert!(call(&servers, "silent__echo").await.is_err());
}

#[tokio::test]
async fn octos_own_secrets_reach_a_server_only_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let mut named = toolset("named", "good");
    if let octo::agent::team::Kind::Mcp(Mcp { reach: Reach::Command { env, .. }, .. }) = &mut named.kind {
        env.insert("TOKEN".to_owned(), "${env.TELEGRAM_BOT_TOKEN}".to_owned());
        env.insert("COLOUR".to_owned(), "not $COLOUR".to_owned());
    }
    let servers = place.connect(&[toolset("s", "good"), named]).await;
    let env = async |name: &str| serde_json::from_str::<Value>(&call(&servers, name).await.unwrap()).unwrap();
    let plain = env("s__env").await;
    assert_eq!((&plain["COLOUR"], &plain["TELEGRAM_BOT_TOKEN"]), (&json!("green-as-grass"), &Value::Null));
    assert!(!plain.to_string().contains(SECRET), "{plain}");
    let named = env("named__env").await;
    assert_eq!((&named["TOKEN"], &named["COLOUR"]), (&json!(SECRET), &json!("not green-as-grass")));
    assert_eq!(named["TELEGRAM_BOT_TOKEN"], Value::Null);
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_not_made_again_and_the_next_one_finds_a_new_server() {
    let dir = tempfile::tempdir().unwrap();
    let servers = Place::new(dir.path()).one().await;
    for round in 1..4 {
        assert_eq!(call(&servers, "s__starts").await.unwrap(), round.to_string());
        let lost = call(&servers, "s__die").await.unwrap_err();
        assert!(matches!(lost, CallError::Unknown(_)), "{lost:?}");
        let lost = words(lost);
        assert!(lost.contains("may have been done, or not"), "{lost}");
        assert!(lost.contains("exit code 7: these are my last words"), "{lost}");
    }
    assert_eq!(call(&servers, "s__starts").await.unwrap(), "4", "nobody called `die` but the test");
    let large = call(&servers, "s__enormous").await.unwrap_err();
    assert!(matches!(&large, CallError::Unknown(words) if words.to_string().contains("a message of more than")));
    assert_eq!(call(&servers, "s__starts").await.unwrap(), "5");
}

#[tokio::test]
async fn a_server_that_died_between_calls_is_started_again_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let servers = Place::new(dir.path()).one().await;
    let family: Vec<u32> = serde_json::from_str(&call(&servers, "s__family").await.unwrap()).unwrap();
    process::kill(family[0], rustix::process::Signal::KILL);
    for pid in family {
        wait_for("the whole family's end", || !process::alive(pid));
    }
    // It may be heard of only by the call itself, whose fate is unknown then; never by the one after.
    let first = call(&servers, "s__starts").await;
    assert!(matches!(&first, Ok(starts) if starts == "2") || matches!(first, Err(CallError::Unknown(_))), "{first:?}");
    assert_eq!(call(&servers, "s__starts").await.unwrap(), "2");
}

#[tokio::test]
async fn what_takes_too_long_or_makes_no_sense_is_given_up_and_the_server_stays() {
    let dir = tempfile::tempdir().unwrap();
    let servers = Place::new(dir.path()).one().await;
    for tool in ["s__slow", "s__garbage", "s__nonsense"] {
        let late = servers.call(tool, &json!({}), Duration::from_millis(500)).await.unwrap_err();
        assert!(matches!(late, CallError::Unknown(_)), "{tool}: {late:?}");
    }
    let late = servers.call("s__slow", &json!({}), Duration::from_millis(200)).await.unwrap_err();
    assert!(words(late).contains("did not answer within 1 s"));
    wait_for("the server to be told", || dir.path().join("cancelled").exists());
    let nothing = json!({});
    let quick = tokio::select! {
        slow = servers.call("s__slow", &nothing, LONG) => panic!("{slow:?}"),
        quick = call(&servers, "s__starts") => quick,
    };
    assert_eq!(quick.unwrap(), "1", "one that is slow keeps nobody else waiting, and nothing was started again");
}

/// A server in a shell that heeds neither the end of its input nor SIGTERM.
fn stubborn() -> Toolset {
    let mut stubborn = toolset("stubborn", "good");
    if let octo::agent::team::Kind::Mcp(Mcp { reach: Reach::Command { command, args, .. }, .. }) = &mut stubborn.kind {
        let script = "trap '' TERM; \"$@\"; while :; do sleep 1; done";
        let words = ["-c", script, "sh", command.as_str()].map(str::to_owned);
        *args = words.into_iter().chain(args.clone()).collect();
        *command = "sh".to_owned();
    }
    stubborn
}

/// The processes of both servers: they themselves, what they started, and what they were started by.
async fn families(servers: &Servers) -> Vec<u32> {
    let mut all: Vec<u32> = Vec::new();
    for name in ["s__family", "stubborn__family"] {
        all.extend(serde_json::from_str::<Vec<u32>>(&call(servers, name).await.unwrap()).unwrap());
    }
    let shell = process::parent(all[3]).unwrap();
    let tethers = [all[0], shell].map(|pid| process::parent(pid).unwrap());
    for tether in tethers {
        assert!(process::cmdline(tether).contains("--tether"), "{}", process::cmdline(tether));
    }
    all.extend(tethers.into_iter().chain([shell]));
    assert!(all.len() == 9 && all.iter().all(|pid| process::alive(*pid)), "{all:?}");
    all
}

#[tokio::test]
async fn nothing_is_left_when_the_agent_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let servers = place.connect(&[toolset("s", "good"), stubborn()]).await;
    let all = families(&servers).await;
    drop(servers);
    for pid in all {
        tokio::task::spawn_blocking(move || wait_for("its end", || !process::alive(pid))).await.unwrap();
    }
}

/// No test, unless it is started to stand for a daemon.
#[tokio::test]
async fn it_is_a_daemon() {
    let Some(dir) = std::env::var_os(DAEMON).map(PathBuf::from) else { return };
    let servers = Place::new(&dir).connect(&[toolset("s", "good"), stubborn()]).await;
    let all = families(&servers).await;
    std::fs::write(dir.join("family.new"), json!(all).to_string()).unwrap();
    std::fs::rename(dir.join("family.new"), dir.join("family")).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn nothing_is_left_when_the_daemon_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap());
    daemon.args(["--exact", "servers::it_is_a_daemon"]).env(DAEMON, dir.path());
    let mut daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the servers", || dir.path().join("family").exists());
    let text = std::fs::read_to_string(dir.path().join("family")).unwrap();
    let family: Vec<u32> = serde_json::from_str(&text).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for pid in family {
        wait_for("its end", || !process::alive(pid));
    }
}

/// A server that was started by an agent of a task has that task's rights, and not its owner's.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_part_of_its_agents_task() {
    let world = World::new();
    let id = world.bg("sleep 600");
    world.until(&id, "running");
    let mut place = Place::new(world.root());
    place.mark = world.tasks_dir().join(&id).join("mcp/run-1");
    let octo = env!("CARGO_BIN_EXE_octo");
    let script = format!("{octo} tasks --json > listed 2>&1; {octo} task {id} cancel > cancelled.txt 2>&1; touch done");
    let reach = Reach::Command { command: "sh".to_owned(), args: vec!["-c".to_owned(), script], env: BTreeMap::new() };
    let servers = place.connect(&[of(Mcp { name: "bad".to_owned(), reach })]).await;
    assert_eq!(servers.problems().len(), 1);
    assert!(world.path("done").exists());
    for file in ["listed", "cancelled.txt"] {
        let said = std::fs::read_to_string(world.path(file)).unwrap();
        assert!(said.starts_with("error: ") && said.contains("owner"), "{file}: {said}");
    }
    assert_eq!(world.task(&id)["stop"], Value::Null);
}
