//! System calls fail, or the process dies in them: `strace` does it to a process of its own.
//!
//! The child saves and notes down what it was told; afterwards a fresh store must agree with the notes.

use super::*;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

const FOLDER: &str = "OCTO_TEST_INJECTED_STORE";
const TASKS: u32 = 3;

/// Not a test of its own: what the traced process does. Task 0 is ended and in the index, so that its
/// changes also take its line back.
#[test]
#[ignore = "is run by the tests below, as a process of its own"]
fn injected_saver() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let dir = Path::new(&dir);
    let notes = fs::File::create(dir.join("notes")).unwrap();
    let mut at = 0;
    let mut note = |line: String| {
        // Not `write`: that one may be made to fail.
        notes.write_all_at(line.as_bytes(), at).unwrap();
        at += line.len() as u64;
    };
    let Ok(store) = Store::open(&dir.join(".octo")) else { return note("no store\n".to_owned()) };
    let Ok(loaded) = store.load() else { return note("not loaded\n".to_owned()) };
    note(format!("loaded {}\n", loaded.problems.len()));
    for rev in 1..=6 {
        let digest = env_digest(&env(&rev.to_string()));
        let mut batch = vec![Write::Env { digest: digest.clone(), env: env(&rev.to_string()) }];
        batch.extend((0..TASKS).map(|n| {
            let mut task = if n == 0 { ended(n) } else { task(n) };
            (task.rev, task.env, task.result) = (rev, digest.clone(), "x".repeat(5000));
            Write::Task(Box::new(task))
        }));
        let results = store.save(&batch, &[]);
        for (n, result) in results.iter().skip(1).enumerate() {
            match result {
                Ok(()) => note(format!("saved {n} {rev}\n")),
                Err(e) => note(format!("{} {n} {rev} {e}\n", if e.maybe_visible { "maybe" } else { "failed" })),
            }
        }
        if let Ok(task) = store.read(id(0)) {
            store.note_ended(&Summary::of(&task));
        }
    }
    note("end\n".to_owned());
}

pub(crate) fn strace_works() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !works {
        eprintln!("skipped: strace is not installed, or tracing is not permitted");
    }
    works
}

/// Runs the saver with a fault; returns whether the fault was reached, judged by what it changed.
fn run(fault: &str) -> bool {
    let world = World::new();
    // Records from before: what a failed save must leave alone.
    save(&world.open(), &(0..TASKS).map(|n| write(&if n == 0 { ended(n) } else { task(n) })).collect::<Vec<_>>());
    drop(world.boot());
    let status = Command::new("timeout")
        .args(["60", "strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={fault}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inject::injected_saver", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, world.dir.path())
        .output()
        .unwrap();
    assert_ne!(status.status.code(), Some(124), "{fault}: it hangs");
    let Ok(notes) = fs::read_to_string(world.dir.path().join("notes")) else {
        // The fault hit the loader or the test harness, before the saver began.
        return false;
    };
    let said = String::from_utf8_lossy(&status.stderr);
    let killed = fault.contains("signal");
    // The harness around the saver may fail too; the saver itself has to come to its end.
    let ended = ["end\n", "no store\n", "not loaded\n"].iter().any(|end| notes.ends_with(end));
    assert!(killed || ended, "{fault}: {} {said}\n{notes}", status.status);
    check(fault, &world, &notes, killed);
    let whole = notes.ends_with("end\n") && !notes.contains("failed") && !notes.contains("maybe");
    !whole
}

fn check(fault: &str, world: &World, notes: &str, killed: bool) {
    let (store, loaded) = world.boot();
    assert_eq!(loaded.problems, [], "{fault}\n{notes}");
    for n in 0..TASKS {
        let (mut sure, mut open) = (0, 0);
        for line in notes.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if words.get(1) != Some(&n.to_string().as_str()) || words.len() < 3 {
                continue;
            }
            let rev: u64 = words[2].parse().unwrap();
            match words[0] {
                "saved" => (sure, open) = (rev, rev),
                "maybe" => open = rev,
                "failed" => {}
                other => panic!("{other}"),
            }
        }
        // Killed after the disk was done and before it was noted.
        let last = if killed { open.max(sure) + 1 } else { open };
        let found = store.read(id(n)).unwrap();
        assert!((sure..=last).contains(&found.rev), "{fault}: task {n} has rev {}\n{notes}", found.rev);
        assert!(found.rev == 0 || store.env(&found.env).is_ok(), "{fault}: task {n} lost its environment");
        if n == 0 {
            assert_eq!(loaded.ended, [Summary::of(&found)], "{fault}: the index is wrong\n{notes}");
        }
    }
    assert!(names(&world.tasks()).iter().all(|name| !name.ends_with(".tmp")), "{fault}");
}

#[test]
fn failing_calls_leave_the_old_files_and_a_clear_account() {
    if !strace_works() {
        return;
    }
    let calls = ["openat", "write", "fsync", "fdatasync", "renameat", "mkdirat", "unlinkat", "read", "clone3,clone"];
    let errors = ["EIO", "ENOSPC", "EMFILE", "EINTR"];
    let mut reached = 0;
    for (c, call) in calls.into_iter().enumerate() {
        for (e, error) in errors.into_iter().enumerate() {
            // Once, or from some call on: which one differs by call and error, so that all places get their turn.
            let nth = 3 + 5 * e + c;
            // Not for ever where it is EINTR: the harness around the saver repeats such calls without end.
            let on = format!("{}{}", nth + 2, if error == "EINTR" { "..200" } else { "+" });
            for when in [format!("{nth}"), on, format!("{}+3", 2 + e)] {
                reached += usize::from(run(&format!("{call}:error={error}:when={when}")));
            }
        }
    }
    assert!(reached >= 20, "too few faults had an effect: {reached}");
}

#[test]
fn dying_in_any_call_leaves_what_was_told_of() {
    if !strace_works() {
        return;
    }
    let mut reached = 0;
    for call in ["fsync", "renameat", "mkdirat", "write", "fdatasync", "openat"] {
        for nth in (1..=20).step_by(2) {
            reached += usize::from(run(&format!("{call}:signal=KILL:when={nth}")));
        }
    }
    assert!(reached >= 20, "too few deaths: {reached}");
}
