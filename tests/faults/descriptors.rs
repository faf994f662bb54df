//! Few descriptors and many clients.

use crate::harness::http::Events;
use crate::harness::{Conn, World, process, wait_for, wait_within};
use crate::inject::RECOVERY;

#[test]
fn forty_descriptors_and_thirty_clients() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "4")]);
    let mut daemon = world.start_below(&["prlimit", "--nofile=40:40"]);
    let pid = world.daemon_pid().unwrap();
    let go = world.beside("go");
    let id = world.bg(&format!("while [ ! -e {} ]; do sleep 0.02; done; echo done; exit 6", go.display()));
    world.until(&id, "running");
    // Followers need two descriptors each, long polls one: far more than there are.
    let mut held = Vec::new();
    for i in 0..30 {
        let mut conn = Conn::open(&world.socket()).unwrap();
        let what = if i % 2 == 0 { "?wait=300" } else { "/logs?follow=true" };
        conn.send(format!("GET /background-agents/{id}{what} HTTP/1.1\r\nhost: o\r\n\r\n").as_bytes()).unwrap();
        held.push(conn);
    }
    // The task ends, and a new one is asked for, while nothing can be opened.
    std::fs::write(&go, "").unwrap();
    wait_for("the command to be over", || {
        world.processes(&id).iter().all(|p| process::cmdline(*p).contains("octo-shim"))
    });
    drop(held);
    wait_within(RECOVERY, "an answer", || world.try_get("/healthz").is_some_and(|a| a.status == 200));
    let task = world.ended(&id);
    assert_eq!((&task["status"], &task["exit_code"], &task["result"]), (&"failed".into(), &6.into(), &"done\n".into()));
    wait_within(RECOVERY, "a new task to end", || {
        let out = world.octo(&["bg", "--wait", "echo new"]);
        out.code == 0
    });
    // And nothing was leaked: it still works with a client each for a while.
    for _ in 0..60 {
        assert_eq!(world.get("/healthz").status, 200);
        let mut events = Events::open(&world.socket(), &format!("/background-agents/{id}/logs?follow=true")).unwrap();
        while events.next().unwrap().is_some() {}
    }
    assert_eq!(world.daemon_pid(), Some(pid), "the daemon died");
    world.stop();
    daemon.wait().unwrap();
}
