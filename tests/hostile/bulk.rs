//! Much output: one endless line, a fast writer, many readers. The daemon's memory stays what it was.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::http::Events;
use crate::harness::{World, process, scale, wait_for, wait_within};

/// How much more memory the daemon may hold, in KiB.
const GROWTH_MAX: u64 = 16 * 1024;

/// Watches the largest resident size of a process.
struct Gauge {
    pid: u32,
    before: u64,
}

impl Gauge {
    fn new(pid: u32) -> Gauge {
        Gauge { pid, before: process::kib(pid, "status", "VmRSS") }
    }

    /// The growth of the highest resident size so far.
    fn growth(&self) -> u64 {
        process::kib(self.pid, "status", "VmHWM").saturating_sub(self.before)
    }

    #[track_caller]
    fn check(&self, when: &str) {
        let growth = self.growth();
        eprintln!("{when}: the daemon grew by {growth} KiB (from {})", self.before);
        assert!(growth <= GROWTH_MAX, "{when}: the daemon grew by {growth} KiB");
    }
}

/// A daemon that has done everything once, so that what it keeps anyway is not counted.
fn warm(world: &World) -> Gauge {
    let id = world.bg("echo warm");
    world.ended(&id);
    world.folded(&id);
    world.octo(&["task", &id, "logs"]).exits(0);
    world.octo(&["tasks"]).exits(0);
    world.octo(&["task", &id]).exits(0);
    Gauge::new(world.daemon_pid().unwrap())
}

#[test]
fn an_endless_line_costs_the_daemon_nothing() {
    let world = World::new();
    let gauge = warm(&world);
    let size = scale(256, 1024) * 1024 * 1024;
    let began = Instant::now();
    let id = world.bg(&format!("head -c {size} /dev/zero | tr '\\0' x"));
    // Followed, tailed, listed and looked at while it is written.
    let follower = std::thread::spawn({
        let (socket, path) = (world.socket(), format!("/background-agents/{id}/logs?follow=true"));
        move || {
            let mut events = Events::open(&socket, &path).unwrap();
            let mut bytes = 0;
            while let Some((name, data)) = events.next().unwrap() {
                if name == "end" {
                    return (bytes, data["size"].as_u64().unwrap());
                }
                bytes += data["bytes"].as_str().unwrap().len() as u64 / 4 * 3;
            }
            panic!("no end");
        }
    });
    let task = world.ended(&id);
    let wrote = began.elapsed();
    assert_eq!(task["status"], "completed");
    let result = task["result"].as_str().unwrap();
    assert!(result.len() <= 16 * 1024 && result.len() > 8 * 1024 && result.bytes().all(|b| b == b'x'));
    gauge.check("while it was written and followed");
    world.octo(&["task", &id]).exits(0);
    assert!(world.octo(&["tasks"]).exits(0).out.len() < 4096);
    let last = world.get(&format!("/background-agents/{id}/logs?from=-10"));
    assert_eq!(last.body, b"xxxxxxxxxx");
    let (bytes, end) = follower.join().unwrap();
    assert_eq!(end, size as u64);
    assert!(bytes.abs_diff(end) < 64 * 1024, "{bytes}");
    // One line that is all there is: the last line is the whole log, streamed.
    let mut reader = world.octo_command(&["task", &id, "logs", "--lines", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let cli = reader.id();
    let (mut out, mut buffer, mut read, mut most) = (reader.stdout.take().unwrap(), vec![0; 1 << 16], 0, 0);
    loop {
        let n = out.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        assert!(buffer[..n].iter().all(|b| *b == b'x'));
        read += n;
        most = most.max(process::kib(cli, "status", "VmHWM"));
    }
    assert!(reader.wait().unwrap().success());
    assert_eq!(read, size);
    assert!(most < 64 * 1024, "the client held {most} KiB");
    gauge.check("after all was read");
    eprintln!("{} MiB in one line, written in {wrote:?}", size >> 20);
}

#[test]
fn a_fast_writer_with_followers_who_do_not_read() {
    let world = World::new();
    let gauge = warm(&world);
    let id = world.bg("yes 'a line of output that goes on and on and on and on and on and on and on and on and on'");
    wait_for("output", || world.get(&format!("/background-agents/{id}/logs?from=-5")).body.len() == 5);
    // They ask and then read nothing: their connections fill up and stop there.
    let stuck: Vec<_> = (0..8)
        .map(|i| {
            let mut conn = crate::harness::Conn::open(&world.socket()).unwrap();
            let follow = if i % 2 == 0 { "follow=true" } else { "from=0" };
            conn.send(format!("GET /background-agents/{id}/logs?{follow} HTTP/1.1\r\nhost: o\r\n\r\n").as_bytes())
                .unwrap();
            conn
        })
        .collect();
    let size = || {
        world.get(&format!("/background-agents/{id}/logs?from=-1")).header("x-octo-log-size").parse::<u64>().unwrap()
    };
    let (began, from) = (Instant::now(), size());
    // 100 MB/s is what a machine that does nothing else gives; what counts is that much was written.
    wait_within(Duration::from_secs(120), "half a gigabyte", || size() > (512 << 20));
    let rate = (size() - from) as f64 / began.elapsed().as_secs_f64() / 1e6;
    // People go on as if nothing were.
    let asked = Instant::now();
    let other = world.bg("echo quick");
    assert_eq!(world.ended(&other)["result"], "quick\n");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    world.octo(&["task", &id, "cancel"]).exits(0);
    assert_eq!(world.ended(&id)["status"], "cancelled");
    gauge.check(&format!("with a writer at {rate:.0} MB/s and eight stuck readers"));
    drop(stuck);
    world.octo(&["task", &id, "rm"]).exits(0);
}

#[test]
fn many_readers_at_once_of_a_long_log() {
    let world = World::new();
    let gauge = warm(&world);
    let id = world.bg("head -c 50000000 /dev/zero | tr '\\0' x");
    world.ended(&id);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) && last < 3 {
                    let body = world.get(&format!("/background-agents/{id}/logs")).body.len();
                    assert_eq!(body, 50_000_000);
                    last += 1;
                }
            });
        }
    });
    gauge.check("with thirty readers of 50 MB");
}

#[test]
fn the_log_quota_stops_a_writer_and_says_so() {
    let world = World::with(&[("OCTO_LOG_QUOTA", "1MiB")]);
    let id = world.bg("yes");
    let task = world.ended(&id);
    assert_eq!(task["status"], "failed", "{task:#}");
    assert!(task["error"].as_str().unwrap().starts_with("log_quota"), "{task:#}");
    wait_for("nothing to be left", || world.left(&id).is_empty());
}
