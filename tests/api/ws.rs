//! Live updates over the WebSocket.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::{LONG, World, http::log_bytes, wait_for};

type Socket = WebSocketStream<UnixStream>;

async fn connect(world: &World) -> Socket {
    let stream = UnixStream::connect(world.socket()).await.unwrap();
    client_async("ws://octo/background-agent-ws", stream).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(LONG, socket.next()).await.expect("a message in time");
        if let Message::Text(text) = message.expect("no end").unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// Reads on until a message fits.
async fn until(socket: &mut Socket, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let message = next(socket).await;
        if fits(&message) {
            return message;
        }
    }
}

#[test]
fn a_client_that_never_reads_is_let_go() {
    let world = World::new();
    let id = world.bg("yes | head -c 20000000; exec sleep 1000");
    world.until(&id, "running");
    let pid = world.daemon_pid().unwrap();
    let sockets = || {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        links.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|l| l.starts_with("socket:")).count()
    };
    runtime().block_on(async {
        let before = sockets();
        let mut socket = connect(&world).await;
        next(&mut socket).await;
        socket.send(Message::Text(json!({ "follow": id }).to_string().into())).await.unwrap();
        next(&mut socket).await;
        wait_for("the daemon to let go of it", || sockets() <= before);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_snapshot_comes_first_then_what_changes() {
    let world = World::new();
    let old = world.bg("true");
    world.ended(&old);
    let running = world.bg("while [ ! -e go ]; do sleep 0.02; done");
    world.until(&running, "running");
    runtime().block_on(async {
        let mut socket = connect(&world).await;
        let snapshot = next(&mut socket).await;
        assert_eq!(snapshot["type"], "snapshot");
        assert_eq!(snapshot["active"][0]["id"], *running);
        assert_eq!(snapshot["history"][0]["id"], *old);
        std::fs::write(world.path("go"), "").unwrap();
        let task = until(&mut socket, |m| m["type"] == "task" && m["task"]["status"] == "completed").await;
        assert_eq!(task["task"]["id"], *running);
        let mut other = connect(&world).await;
        let cursor = next(&mut other).await["cursor"].as_u64().unwrap();
        let new = world.bg("exit 4");
        let notice = until(&mut other, |m| m["type"] == "notice" && m["task"]["id"] == *new).await;
        assert_eq!((&notice["notice"]["kind"], &notice["task"]["exit_code"]), (&json!("failed"), &json!(4)));
        assert!(notice["notice"]["seq"].as_u64().unwrap() > cursor);
        world.octo(&["task", &new, "rm"]).exits(0);
        until(&mut other, |m| m["type"] == "removed" && m["id"] == *new).await;
        // Whoever talks nonsense is told, and stays connected.
        for bad in ["{", "[]", "7", "{\"follow\":\"zz\"}", "{}"] {
            other.send(Message::Text(bad.into())).await.unwrap();
            let said = until(&mut other, |m| m["type"] == "error").await;
            assert!(said["error"]["code"].is_string(), "{bad}: {said}");
        }
        other.send(Message::Binary(vec![0, 159, 146].into())).await.unwrap();
        let last = world.bg("true");
        until(&mut other, |m| m["type"] == "task" && m["task"]["id"] == *last).await;
    });
}

#[test]
fn logs_are_followed_over_the_same_socket() {
    let world = World::new();
    let id = world.bg("seq 1000; while [ ! -e go ]; do sleep 0.02; done; seq 1000; exit 3");
    let burst: Vec<u8> = (1..=1000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
    crate::harness::wait_for("output", || {
        world.get(&format!("/background-agents/{id}/logs")).body.len() == burst.len()
    });
    runtime().block_on(async {
        let mut socket = connect(&world).await;
        socket.send(Message::Text(json!({"follow": id, "from": 100}).to_string().into())).await.unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < burst.len() - 100 {
            let (at, piece) = log_bytes(&until(&mut socket, |m| m["type"] == "log").await);
            assert_eq!(at, 100 + bytes.len() as u64);
            bytes.extend(piece);
        }
        std::fs::write(world.path("go"), "").unwrap();
        let end = loop {
            let message = until(&mut socket, |m| m["type"] == "log").await;
            if message["end"].is_object() {
                break message;
            }
            let (at, piece) = log_bytes(&message);
            assert_eq!(at, 100 + bytes.len() as u64);
            bytes.extend(piece);
        };
        assert!(bytes == burst.repeat(2)[100..]);
        assert_eq!((&end["id"], &end["end"]["size"]), (&json!(id), &json!(burst.len() * 2)), "{end}");
    });
}

#[test]
fn a_client_that_lags_gets_the_truth_when_it_reads_again() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "8")]);
    world.start();
    runtime().block_on(async {
        let mut lazy = connect(&world).await;
        assert_eq!(next(&mut lazy).await["type"], "snapshot");
        // Far more events than any queue holds, each with a record of some size, and nobody reads.
        let filler = "x".repeat(2000);
        let commands: Vec<String> = (0..600).map(|_| format!(": {filler}")).collect();
        let ids = world.start_all(&commands);
        ids.iter().for_each(|id| drop(world.ended(id)));
        let pid = world.daemon_pid().unwrap();
        let held = crate::harness::process::kib(pid, "status", "VmRSS");
        assert!(held < 150 * 1024, "the daemon holds {held} KiB for a client that does not read");
        // Reading on leads to the end of the story: a last snapshot, or the last task's end.
        let last = ids.last().unwrap();
        let knows = |m: &Value| {
            let listed = |list: &Value| list.as_array().is_some_and(|l| l.iter().any(|t| t["id"] == **last));
            (m["type"] == "snapshot" && listed(&m["history"]))
                || (m["type"] == "task" && m["task"]["id"] == **last && m["task"]["status"] == "completed")
        };
        tokio::time::timeout(Duration::from_secs(60), until(&mut lazy, knows)).await.expect("the truth in time");
        // And it is still alive.
        let new = world.bg("true");
        until(&mut lazy, |m| m["type"] == "task" && m["task"]["id"] == *new).await;
    });
}

#[test]
fn the_socket_closes_when_the_daemon_leaves() {
    let world = World::new();
    world.start();
    runtime().block_on(async {
        let mut socket = connect(&world).await;
        next(&mut socket).await;
        world.stop();
        let end = tokio::time::timeout(LONG, async { while let Some(Ok(_)) = socket.next().await {} }).await;
        assert!(end.is_ok(), "the connection is still open");
    });
}
