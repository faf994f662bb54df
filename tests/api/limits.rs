//! Many, slow and broken clients.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::harness::{Conn, World, wait_for};

#[test]
fn idle_and_half_connections_do_not_keep_others_out() {
    let world = World::new();
    world.start();
    let mut held = Vec::new();
    for i in 0..200 {
        let mut stream = world.connect().unwrap();
        match i % 4 {
            0 => {}
            1 => stream.write_all(b"GET /status HT").unwrap(),
            2 => stream.write_all(b"POST /background-agents/start HTTP/1.1\r\nhost: o\r\ncontent-length: 50\r\n\r\n{").unwrap(),
            _ => stream.write_all(b"\x16\x03\x01\x00\xff not http\r\n\r\n").unwrap(),
        }
        held.push(stream);
    }
    let began = Instant::now();
    assert_eq!(world.get("/healthz").status, 200);
    let id = world.bg("true");
    assert_eq!(world.ended(&id)["status"], "completed");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn more_waiting_clients_than_usual_are_all_served() {
    let world = World::new();
    let id = world.bg("while [ ! -e go ]; do sleep 0.02; done");
    let waiters: Vec<_> = (0..150)
        .map(|_| {
            let (socket, path) = (world.socket(), format!("/background-agents/{id}?wait=60"));
            std::thread::spawn(move || Conn::open(&socket).unwrap().ask("GET", &path, &[], b"").unwrap())
        })
        .collect();
    wait_for("it to run", || world.task(&id)["status"] == "running");
    std::fs::write(world.path("go"), "").unwrap();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap().json()["status"], "completed");
    }
}

#[test]
fn one_connection_takes_many_requests() {
    let world = World::new();
    world.start();
    let mut conn = Conn::open(&world.socket()).unwrap();
    for i in 0..200 {
        let path = if i % 2 == 0 { "/healthz" } else { "/background-agents/zz" };
        assert_eq!(conn.ask("GET", path, &[], b"").unwrap().status, if i % 2 == 0 { 200 } else { 404 });
    }
}
