//! Following a log as server-sent events: from anywhere, without loss or repetition, to the end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::http::{Events, log_bytes};
use crate::harness::{World, wait_for};

/// Follows to the end: the bytes, checked to be gapless, and the end's data. Who asks for more than there is
/// yet begins at the end of what there is.
fn follow(socket: &Path, id: &str, from: u64) -> (Vec<u8>, Value) {
    let mut events = Events::open(socket, &format!("/background-agents/{id}/logs?follow=true&from={from}")).unwrap();
    let (mut begin, mut bytes) = (None, Vec::new());
    loop {
        let (name, data) = events.next().unwrap().expect("an `end` before the end of the stream");
        match &name[..] {
            "log" => {
                let (at, piece) = log_bytes(&data);
                let begin = *begin.get_or_insert(at);
                assert!(begin <= from && at == begin + bytes.len() as u64, "a gap or a repetition at {at}");
                bytes.extend(piece);
            }
            "end" => return (bytes, data),
            other => panic!("{other}: {data}"),
        }
    }
}

#[test]
fn followers_from_anywhere_get_every_byte_once_over_the_end() {
    let world = World::new();
    world.start();
    // Ends in the middle of a burst: what was written last is what is lost most easily.
    let id = world.bg(
        "while [ ! -e go ]; do sleep 0.01; done; i=0; while [ $i -lt 60 ]; do i=$((i+1)); seq 300; done; printf last",
    );
    let burst: Vec<u8> = (1..=300).flat_map(|i| format!("{i}\n").into_bytes()).collect();
    let mut whole: Vec<u8> = burst.repeat(60);
    whole.extend(b"last");
    let mut followers = Vec::new();
    for from in [0, 0, 1, 1000, 30_000, 65_530] {
        let (socket, id) = (world.socket(), id.clone());
        followers.push((from, std::thread::spawn(move || follow(&socket, &id, from))));
        if from == 1000 {
            std::fs::write(world.path("go"), "").unwrap();
        }
    }
    for (from, follower) in followers {
        let (bytes, end) = follower.join().unwrap();
        assert!(whole.ends_with(&bytes), "from {from}: {} bytes are not the end of the log", bytes.len());
        assert!(
            bytes.len() as u64 >= (whole.len() as u64).saturating_sub(from),
            "from {from}: just {} bytes",
            bytes.len()
        );
        assert_eq!(end["status"], "completed");
        assert_eq!(end["size"], whole.len());
    }
    // After the end, and after the fold: the same.
    world.folded(&id);
    let (bytes, end) = follow(&world.socket(), &id, 17);
    assert!(bytes == whole[17..] && end["status"] == "completed");
}

#[test]
fn a_follower_of_a_waiting_task_gets_its_output_when_it_runs() {
    let world = World::with(&[("BG_MAX_CONCURRENT", "1")]);
    let first = world.bg("while [ ! -e go ]; do sleep 0.01; done");
    let second = world.bg("echo 'was queued'");
    let (socket, id) = (world.socket(), second.clone());
    let follower = std::thread::spawn(move || follow(&socket, &id, 0));
    world.until(&first, "running");
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(follower.join().unwrap().0, b"was queued\n");
}

#[test]
fn all_followers_of_one_log_get_a_line_when_it_is_written() {
    let world = World::new();
    let id =
        world.bg("i=0; while [ $i -lt 4 ]; do while [ ! -e go$i ]; do sleep 0.01; done; echo $i; i=$((i+1)); done");
    world.until(&id, "running");
    let path = format!("/background-agents/{id}/logs?follow=true");
    let mut followers: Vec<_> = (0..4).map(|_| Events::open(&world.socket(), &path).unwrap()).collect();
    for i in 0..4 {
        let began = Instant::now();
        std::fs::write(world.path(&format!("go{i}")), "").unwrap();
        for follower in &mut followers {
            let (name, data) = follower.next().unwrap().unwrap();
            assert_eq!((&name[..], &log_bytes(&data).1[..]), ("log", format!("{i}\n").as_bytes()));
        }
        // Who is not woken looks by itself after 5 s.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[test]
fn a_follower_that_goes_away_leaves_nothing_behind() {
    let world = World::new();
    let id = world.bg("while [ ! -e go ]; do echo line; sleep 0.02; done");
    wait_for("output", || !world.get(&format!("/background-agents/{id}/logs")).body.is_empty());
    let pid = world.daemon_pid().unwrap();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = descriptors();
    for _ in 0..40 {
        let path = format!("/background-agents/{id}/logs?follow=true");
        let mut events = Events::open(&world.socket(), &path).unwrap();
        events.next().unwrap().unwrap();
    }
    // One inotify instance may have been opened for the first of them.
    wait_for("the descriptors to be closed", || descriptors() <= before + 3);
    std::fs::write(world.path("go"), "").unwrap();
    world.ended(&id);
}

#[test]
fn the_command_line_follows_through_a_restart_of_the_daemon() {
    let world = World::new();
    let id = world.bg("i=0; while [ ! -e go ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo end");
    let out = std::fs::File::create(world.beside("followed")).unwrap();
    let mut follower = world.octo_command(&["task", &id, "logs", "-f"]).stdout(out).spawn().unwrap();
    let seen = || std::fs::read_to_string(world.beside("followed")).unwrap();
    wait_for("the first lines", || seen().lines().count() > 3);
    world.kill_daemon();
    world.start();
    let before = seen().lines().count();
    wait_for("lines after the restart", || seen().lines().count() > before + 3);
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    assert_eq!(seen().into_bytes(), world.get(&format!("/background-agents/{id}/logs")).body);
    assert!(seen().ends_with("end\n"));
}
