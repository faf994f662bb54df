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
            2 => stream
                .write_all(b"POST /background-agents/start HTTP/1.1\r\nhost: o\r\ncontent-length: 50\r\n\r\n{")
                .unwrap(),
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
fn clients_that_never_send_their_body_are_cut_off_in_time() {
    let world = World::new();
    world.start();
    let mut held = Vec::new();
    // As many as there is room for, and some.
    for _ in 0..520 {
        let mut stream = world.connect().unwrap();
        stream.write_all(b"POST /background-agents/start HTTP/1.1\r\nhost: o\r\ncontent-length: 50\r\n\r\n{").unwrap();
        held.push(stream);
    }
    let began = Instant::now();
    assert_eq!(world.get("/healthz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_task_that_takes_all_connections_does_not_keep_its_owner_out() {
    let world = World::new();
    let script = "import os, socket, time\n\
        held = []\n\
        for _ in range(600):\n\
        \x20   s = socket.socket(socket.AF_UNIX)\n\
        \x20   s.settimeout(1)\n\
        \x20   try: s.connect(os.environ['OCTO_WORKSPACE'] + '/.octo/octo.sock')\n\
        \x20   except OSError: pass\n\
        \x20   try: s.sendall(b'GET /background-agents/' + os.environ['OCTO_TASK_ID'].encode() + b'?wait=300 HTTP/1.1\\r\\nhost: o\\r\\n\\r\\n')\n\
        \x20   except OSError: pass\n\
        \x20   held.append(s)\n\
        open('taken', 'w').close()\n\
        time.sleep(1000)\n";
    std::fs::write(world.path("greedy.py"), script).unwrap();
    let id = world.bg("exec python3 greedy.py");
    wait_for("the greedy task", || world.path("taken").exists());
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(world.get("/healthz").status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.octo(&["task", &id, "cancel"]).exits(0);
    assert_eq!(world.ended(&id)["status"], "cancelled");
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
