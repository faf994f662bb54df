//! A start during which one call fails: it works all the same, or says why not, and the next one works.

use std::process::{Command, Stdio};

use crate::harness::{World, run, scale, wait_for, wait_within};
use crate::inject::{FORK, LINK, MKDIR, OPEN, RECOVERY, RENAME, SYNC, rule};

#[test]
fn one_failing_call_never_wedges_a_start() {
    let world = World::new();
    let id = world.bg("echo kept");
    world.ended(&id);
    world.folded(&id);
    let running = world.bg("exec sleep 1000");
    world.until(&running, "running");
    world.kill_daemon();
    let (mut started, mut refused) = (0, 0);
    for calls in [
        OPEN,
        SYNC,
        RENAME,
        MKDIR,
        LINK,
        FORK,
        "inotify_init1",
        "epoll_create1,eventfd2",
        "bind,listen",
        "getdents64",
        "statx,newfstatat",
    ] {
        let errors: &[&str] = match calls {
            FORK => &["EAGAIN"],
            OPEN | "inotify_init1" | "epoll_create1,eventfd2" => &["EMFILE", "EIO"],
            _ => &["EIO"],
        };
        for error in errors {
            let all = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
            for when in all.iter().take(scale(if calls == OPEN { 10 } else { 3 }, 10)) {
                let rule = rule(calls, error, &when.to_string());
                let mut strace: Command = world.command("strace");
                strace.args(["-f", "-q", "-o", "/dev/null", "-e", &rule]);
                strace.arg(env!("CARGO_BIN_EXE_octod")).arg("--workspace").arg(world.root());
                let err = world.beside("start.err");
                let log = std::fs::File::create(&err).unwrap();
                let mut child = strace.stdout(Stdio::null()).stderr(log).spawn().unwrap();
                let mut ended = None;
                wait_for(&format!("an answer to {rule}"), || {
                    ended = child.try_wait().unwrap();
                    ended.is_some() || world.try_get("/healthz").is_some_and(|a| a.status == 200)
                });
                let said = || std::fs::read_to_string(&err).unwrap();
                match ended {
                    None => {
                        started += 1;
                        wait_within(RECOVERY, "the task", || {
                            world.try_get(&format!("/background-agents/{id}")).is_some_and(|a| a.status == 200)
                        });
                        world.kill_daemon();
                        let _ = child.wait();
                    }
                    // It hit the loader, before there was an Octo.
                    Some(_) if said().contains("error while loading shared libraries") => {}
                    Some(status) => {
                        refused += 1;
                        let said = said();
                        assert!(matches!(status.code(), Some(1..=5)), "{rule}: {status}: {said}");
                        assert!(said.contains("error: ") && said.contains("hint: "), "{rule}: {said}");
                    }
                }
                assert!(!said().contains("panicked") && !said().contains("a defect in Octo"), "{rule}: {}", said());
            }
        }
    }
    eprintln!("starts with one failing call: {started} started, {refused} refused and said why");
    assert!(started > 10 && refused > 10, "{started} started, {refused} refused: the faults do not reach the start");
    world.start();
    assert_eq!(world.octo(&["task", &id, "logs"]).exits(0).out, b"kept\n");
    assert_eq!(world.task(&running)["status"], "running");
    assert!(world.status()["problems"].as_array().unwrap().is_empty(), "{:#}", world.status());
}

#[test]
fn a_read_only_folder_is_told_and_works_again_when_it_is_not() {
    let mut world = World::new();
    if world.mount_tmpfs("size=100m").is_none() {
        return;
    }
    let id = world.bg("echo kept");
    world.ended(&id);
    world.folded(&id);
    world.stop();
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let out = run(world.command_in("/", "mount", &["-o", &options, world.octo_dir().to_str().unwrap()]), b"");
        assert_eq!(out.code, 0, "{out:?}");
    };
    remount("ro");
    let out = world.octo(&["tasks"]);
    assert!(out.code != 0 && out.err.starts_with("error: ") && out.err.contains("hint: "), "{out:?}");
    assert!(out.err.to_lowercase().contains("read-only"), "it does not say what is wrong: {}", out.err);
    remount("rw");
    assert_eq!(world.octo(&["task", &id, "logs"]).exits(0).out, b"kept\n");
}
