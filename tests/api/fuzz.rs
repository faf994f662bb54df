//! Ten thousand requests at random (seeded): no 5xx but the documented ones, and the daemon lives.

use std::time::{Duration, Instant};

use crate::harness::random::Random;
use crate::harness::{Conn, World, scale};

const METHODS: [&str; 9] = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"];

const PARTS: [&str; 30] = [
    "background-agents",
    "start",
    "stop",
    "retry",
    "raise",
    "logs",
    "notices",
    "status",
    "clear",
    "trust",
    "healthz",
    "metrics",
    "openapi.json",
    "background-agent-ws",
    "1",
    "2",
    "99",
    "%00",
    "%ff%fe",
    "..",
    ".",
    "",
    "%2e%2e",
    "a",
    "?",
    "#",
    "questions",
    "resume",
    "followup",
    "chat",
];

const QUERIES: [&str; 16] = [
    "limit=",
    "limit=3",
    "status=completed",
    "kind=agent",
    "cursor=",
    "from=",
    "from=-3",
    "lines=2",
    "follow=false",
    "run=1",
    "wait=0",
    "after=",
    "after=latest",
    "hidden=true",
    "=&&=",
    "%zz",
];

const PIECES: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"command\"",
    "\"true\"",
    "\"key\"",
    "\"env\"",
    "null",
    "-1",
    "1e999",
    "\"after\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"type\"",
    "\"agent\"",
    "\"timeout\"",
    "18446744073709551616",
    " ",
    "\"cwd\"",
];

fn path(random: &mut Random, ids: &[String]) -> String {
    let mut path = String::new();
    for _ in 0..random.below(5) {
        path.push('/');
        if random.chance(4) {
            path.push_str(random.pick::<String>(ids));
        } else {
            path.push_str(random.pick::<&str>(&PARTS));
        }
    }
    if path.is_empty() || random.chance(30) {
        path = format!("/{}", "x".repeat(random.below(9000)));
    }
    for i in 0..random.below(3) {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(random.pick::<&str>(&QUERIES));
        if random.chance(3) {
            path.push_str(&random.next().to_string());
        }
    }
    path
}

fn body(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => Vec::new(),
        1 => random.bytes(300),
        2 => b"{\"command\":\"true\"}".to_vec(),
        3 => format!("[{}]", vec!["{\"command\":\"true\"}"; random.below(4)].join(",")).into_bytes(),
        4 => "[".repeat(random.below(100_000)).into_bytes(),
        _ => (0..random.below(20)).map(|_| *random.pick(&PIECES)).collect::<String>().into_bytes(),
    }
}

#[test]
fn ten_thousand_requests_without_sense_break_nothing() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "2")]);
    let ids: Vec<String> = ["echo hello", "exit 3"].iter().map(|c| world.bg(c)).collect();
    ids.iter().for_each(|id| drop(world.ended(id)));
    let precious = world.bg_with(&["--name", "precious"], "while [ ! -e go ]; do sleep 0.1; done; echo precious");
    world.until(&precious, "running");
    let pid = world.daemon_pid().unwrap();
    let mut random = Random::new(10_000);
    let (rounds, mut slowest, mut answered) = (scale(10_000, 100_000), Duration::ZERO, 0);
    let mut conn = Conn::open(&world.socket()).unwrap();
    for round in 0..rounds {
        let (method, path, body) = (*random.pick(&METHODS), path(&mut random, &ids), body(&mut random));
        // What ends or would end the test itself is left to other tests.
        if path.starts_with("/shutdown") || path.contains("follow=true") {
            continue;
        }
        let began = Instant::now();
        let Ok(said) = conn.ask(method, &path, &[], &body) else {
            // The server closes a connection after a request that it could not read to its end.
            conn = Conn::open(&world.socket()).unwrap();
            continue;
        };
        slowest = slowest.max(began.elapsed());
        answered += 1;
        let what = || {
            format!(
                "seed 10000, round {round}: {method} {path} {:?}",
                String::from_utf8_lossy(&body[..body.len().min(300)])
            )
        };
        assert!(said.status < 500 || matches!(said.status, 501 | 503 | 507), "{}: {said:?}", what());
        assert_ne!(said.status, 101, "{}", what());
    }
    assert_eq!(world.daemon_pid(), Some(pid), "another daemon answers: the first one died");
    assert_eq!(world.task(&precious)["status"], "running");
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(world.ended(&precious)["result"], "precious\n");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(answered > rounds * 8 / 10, "just {answered} of {rounds} were answered");
    eprintln!("{rounds} requests, {answered} answered, the slowest took {slowest:?}");
}

#[test]
fn bytes_that_are_no_http_break_nothing() {
    let world = World::new();
    let pid = world.start();
    let mut random = Random::new(3);
    for _ in 0..scale(300, 3000) {
        let mut conn = Conn::open(&world.socket()).unwrap();
        let mut bytes =
            if random.chance(2) { b"POST /background-agents/start HTTP/1.1\r\n".to_vec() } else { Vec::new() };
        bytes.extend(random.bytes(2000));
        let _ = conn.send(&bytes);
    }
    let chunked =
        b"POST /background-agents/start HTTP/1.1\r\nhost: o\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    let mut conn = Conn::open(&world.socket()).unwrap();
    let _ = conn.send(chunked);
    assert_eq!(world.get("/healthz").status, 200);
    assert_eq!(world.daemon_pid(), Some(pid));
}
