//! No room: a full file system, no more inodes. What ends meanwhile is known when there is room again.

use std::fs;
use std::io::Write as _;

use crate::harness::{World, process, wait_for, wait_within};
use crate::inject::RECOVERY;

/// Fifty tasks that are about to end, each with its own exit code and output.
fn fifty(world: &World) -> Vec<(String, usize)> {
    let go = world.beside("go");
    let commands: Vec<String> = (0..50)
        .map(|i| format!("echo early-{i}; while [ ! -e {} ]; do sleep 0.1; done; exit {}", go.display(), i % 7))
        .collect();
    world.start();
    let ids = world.start_all(&commands);
    for id in &ids {
        wait_for("its output", || !world.get(&format!("/background-agents/{id}/logs")).body.is_empty());
        world.until(id, "running");
    }
    ids.into_iter().enumerate().map(|(i, id)| (id, i)).collect()
}

fn end_them(world: &World, tasks: &[(String, usize)]) {
    fs::write(world.beside("go"), "").unwrap();
    let shells =
        |id: &str| world.processes(id).into_iter().filter(|p| !process::cmdline(*p).contains("octo-shim")).count();
    wait_for("the commands to be over", || tasks.iter().all(|(id, _)| shells(id) == 0));
}

/// A start is refused while there is no room. Files that the daemon deletes make some: `fill` takes it again.
fn refused(world: &World, fill: impl Fn()) {
    wait_for("a start to be refused", || {
        fill();
        let out = world.octo(&["bg", "true"]);
        assert!(out.code == 0 || (out.code == 1 && out.err.contains("hint: ")), "{out:?}");
        out.code == 1
    });
}

fn check(world: &World, tasks: &[(String, usize)]) {
    wait_within(RECOVERY * 2, "all ends to be known", || {
        tasks.iter().all(|(id, _)| world.task(id)["completed_at"] != "")
    });
    for (id, i) in tasks {
        let task = world.task(id);
        assert_eq!(
            (&task["exit_code"], &task["result"]),
            (&(i % 7).into(), &format!("early-{i}\n").into()),
            "{task:#}"
        );
        assert_eq!(task["status"], if i % 7 == 0 { "completed" } else { "failed" });
    }
    wait_within(RECOVERY * 2, "the store to be whole", || world.status()["degraded"] == "");
}

/// Writes until nothing more fits.
fn fill(world: &World) {
    let filler = world.octo_dir().join("filler");
    let mut file = fs::File::options().create(true).append(true).open(filler).unwrap();
    for size in [1 << 20, 1 << 12, 1 << 8, 1] {
        let block = vec![0u8; size];
        while file.write_all(&block).is_ok() {}
    }
}

#[test]
fn fifty_tasks_that_end_on_a_full_disk_have_their_true_results() {
    let mut world = World::with(&[("BG_MAX_CONCURRENT", "60")]);
    if world.mount_tmpfs("size=140m").is_none() {
        return;
    }
    let tasks = fifty(&world);
    fill(&world);
    end_them(&world, &tasks);
    // What is asked for meanwhile is answered, and refused where it would have to be saved.
    refused(&world, || fill(&world));
    let status = world.status();
    assert!(
        status["degraded"] != "" || status["problems"].to_string().contains("disk"),
        "it does not say so: {status:#}"
    );
    world.octo(&["tasks"]).exits(0);
    fs::remove_file(world.octo_dir().join("filler")).unwrap();
    check(&world, &tasks);
    wait_within(RECOVERY * 2, "a task to be taken", || world.octo(&["bg", "true"]).code == 0);
}

#[test]
fn a_daemon_that_dies_on_a_full_disk_finds_the_true_results_later() {
    let mut world = World::with(&[("BG_MAX_CONCURRENT", "60")]);
    if world.mount_tmpfs("size=140m").is_none() {
        return;
    }
    let tasks = fifty(&world);
    fill(&world);
    end_them(&world, &tasks);
    world.kill_daemon();
    // A start on a full disk works, or says why not.
    let out = world.octo(&["status"]);
    assert_eq!(out.code, 3, "{out:?}");
    let out = world.octo(&["daemon", "--detach"]);
    assert!(out.code == 0 || (out.err.starts_with("error: ") && out.err.contains("hint: ")), "{out:?}");
    fs::remove_file(world.octo_dir().join("filler")).unwrap();
    if out.code != 0 {
        world.start();
    }
    check(&world, &tasks);
}

#[test]
fn no_more_inodes() {
    let mut world = World::with(&[("BG_MAX_CONCURRENT", "60")]);
    if world.mount_tmpfs("size=140m,nr_inodes=900").is_none() {
        return;
    }
    let tasks = fifty(&world);
    let litter = world.octo_dir().join("litter");
    fs::create_dir(&litter).unwrap();
    let made = std::cell::Cell::new(0);
    let fill = || {
        while fs::File::create(litter.join(made.get().to_string())).is_ok() {
            made.set(made.get() + 1);
        }
    };
    fill();
    assert!(made.get() > 0 && made.get() < 900);
    end_them(&world, &tasks);
    refused(&world, fill);
    fs::remove_dir_all(&litter).unwrap();
    check(&world, &tasks);
    wait_within(RECOVERY * 2, "a task to be taken", || world.octo(&["bg", "true"]).code == 0);
}
