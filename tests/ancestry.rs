//! A process inside a task may use `octo` in any way it likes: it never becomes the daemon's ancestor, so that
//! cancelling its task can never take the daemon, or another task, along.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::world::{OCTO, OCTOD, quoted};
use common::{World, holds_within, processes, wait_until};
use serde_json::json;

/// What a way to call the daemon's programs looks like inside a task. `U` is a script that runs `octo` with
/// the words after its first one, and leaves the exit code in a file named by the first one.
struct Way {
    name: &'static str,
    text: &'static str,
    /// The exit code once a daemon is back; without one it is always 3.
    back: &'static [i32],
}

/// Allowed for a task that may dispatch.
const DONE: &[i32] = &[0];
/// Refused, since a task is not its owner.
const NOT_YOURS: &[i32] = &[6];
/// A daemon that would live below its own workspace's shim refuses to start, whoever else runs.
const NO_DAEMON: &[i32] = &[3, 5];

const PYTHON_DOUBLE_FORK: &str = "python3 -c 'import os,sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.chdir(\"/\")
os.execvp(\"env\", [\"env\", \"-i\", \"PATH=/usr/bin:/bin\", \"sh\"] + sys.argv[1:])' U python-daemon bg true";

const WAYS: [Way; 24] = [
    Way { name: "child", text: "sh U child bg true", back: DONE },
    Way { name: "list", text: "sh U list tasks", back: NOT_YOURS },
    Way { name: "background", text: "sh U background bg true & wait", back: DONE },
    Way { name: "orphan", text: "(sh U orphan bg true &)", back: DONE },
    Way { name: "setsid", text: "setsid sh U setsid bg true", back: DONE },
    Way { name: "setsid-f", text: "setsid -f sh U setsid-f bg true", back: DONE },
    Way { name: "double-fork", text: "( ( sh U double-fork bg true & ) & )", back: DONE },
    Way { name: "setsid-fork", text: "setsid -f sh -c '( sh U setsid-fork bg true & )'", back: DONE },
    Way { name: "nohup", text: "nohup sh U nohup bg true >/dev/null 2>&1 &", back: DONE },
    Way { name: "disown", text: "bash -c 'sh U disown bg true & disown'", back: DONE },
    Way { name: "unset", text: "env -u OCTO_TASK_ID -u OCTO_RUN -u OCTO_WORKSPACE sh U unset bg true", back: DONE },
    Way { name: "unset-id", text: "env -u OCTO_TASK_ID setsid -f sh U unset-id bg true", back: DONE },
    Way { name: "empty", text: "env -i sh U empty bg true", back: DONE },
    Way { name: "empty-setsid", text: "setsid -f env -i sh U empty-setsid bg true", back: DONE },
    Way { name: "elsewhere", text: "cd / && sh U elsewhere bg true", back: DONE },
    Way { name: "pipe", text: "echo x | sh U pipe bg true | cat", back: DONE },
    Way { name: "xargs", text: "echo true | xargs sh U xargs bg", back: DONE },
    Way {
        name: "python",
        text: "python3 -c 'import subprocess,sys; subprocess.Popen([\"sh\"] + sys.argv[1:], start_new_session=True, env={})' U python bg true",
        back: DONE,
    },
    Way { name: "python-daemon", text: PYTHON_DOUBLE_FORK, back: DONE },
    Way { name: "prompt", text: "echo /tasks | sh U prompt", back: &[0, 6] },
    Way { name: "daemon", text: "sh U daemon daemon", back: NO_DAEMON },
    Way { name: "detach", text: "setsid -f sh U detach daemon --detach", back: NO_DAEMON },
    Way { name: "detach-empty", text: "setsid -f env -i sh U detach-empty daemon --detach", back: NO_DAEMON },
    Way { name: "octod", text: "( env -i sh D octod --detach & )", back: NO_DAEMON },
];

/// Writes the script that a way calls: everything it needs is in it, since the environment may be gone.
fn script(world: &World, name: &str, program: &str, patience: u64) {
    let (side, root) = (world.side(""), world.root());
    let text = format!(
        "name=$1; shift\nexport OCTO_RECONNECT_SECONDS={patience} HOME={home} XDG_DATA_HOME={home}/data\n\
         {program} --workspace {root} \"$@\" > {side}/$name.out 2>&1\n\
         echo $? > {side}/.$name.code && mv {side}/.$name.code {side}/$name.code\n",
        home = quoted(&world.beside("home")),
        side = quoted(&side),
        root = quoted(root),
    );
    fs::write(world.beside(name), text).unwrap();
}

/// Starts a task for each way; it acts when the file `go` appears, and then lingers.
fn start_all(world: &World) -> Vec<String> {
    let go = quoted(&world.side("go"));
    let (u, d) = (quoted(&world.beside("use-octo")), quoted(&world.beside("use-octod")));
    let command = |way: &Way| {
        let text = way.text.replace(" U ", &format!(" {u} ")).replace(" D ", &format!(" {d} "));
        format!("while [ ! -e {go} ]; do sleep 0.05; done\n{text}\nsleep 600")
    };
    let start = |way: &Way| world.bg_with(json!({ "command": command(way), "name": way.name, "allow_dispatch": true }));
    let ids: Vec<String> = WAYS.iter().map(start).collect();
    wait_until("all to run", || ids.iter().all(|id| world.status(id) == "running"));
    ids
}

fn code(world: &World, way: &Way) -> Option<i32> {
    fs::read_to_string(world.side(&format!("{}.code", way.name))).ok()?.trim().parse().ok()
}

fn said(world: &World, way: &Way) -> String {
    fs::read_to_string(world.side(&format!("{}.out", way.name))).unwrap_or_default()
}

fn world_of_ways(patience: u64) -> World {
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "40");
    script(&world, "use-octo", OCTO, patience);
    script(&world, "use-octod", OCTOD, patience);
    world.start();
    world
}

#[test]
fn no_way_of_using_octo_inside_a_task_starts_the_daemon() {
    let mut world = world_of_ways(2);
    start_all(&world);
    world.kill_daemon();
    fs::write(world.side("go"), "").unwrap();
    wait_until("every call to give up", || {
        // One that is about to refuse may be seen for a moment; none may serve.
        assert!(!world.listens(), "a daemon was started from inside a task");
        WAYS.iter().all(|way| code(&world, way).is_some())
    });
    for way in &WAYS {
        let said = said(&world, way);
        assert_eq!(code(&world, way), Some(3), "{}: {said}", way.name);
        assert!(said.contains("error: ") && said.contains("hint: "), "{}: {said}", way.name);
    }
    assert!(world.daemons().is_empty());
    println!("ancestry: ways={} started_a_daemon=0", WAYS.len());
}

#[test]
fn calls_inside_tasks_wait_for_the_daemon_and_cancelling_one_task_ends_nothing_else() {
    let mut world = world_of_ways(60);
    let ids = start_all(&world);
    let other = world.bg(&format!("echo $$ > {}; exec sleep 600", quoted(&world.side("other"))));
    let other_pid: i32 = world.wait_for_line("other").parse().unwrap();
    world.kill_daemon();
    fs::write(world.side("go"), "").unwrap();
    // A client that waits is at its work by then; one that would start a daemon has started it.
    assert!(!holds_within(Duration::from_millis(1500), || world.listens()), "a daemon was started from inside a task");
    let daemon = world.start();
    for way in &WAYS {
        wait_until(way.name, || code(&world, way).is_some());
        // Who had given up before the daemon was back (it never waits) says 3.
        let code = code(&world, way).unwrap();
        assert!(way.back.contains(&code), "{} ended with {code}: {}", way.name, said(&world, way));
    }
    assert_eq!(world.daemons(), [daemon]);
    assert!(processes::shims_above(daemon, world.root()).is_empty(), "the daemon is below a shim");
    for (id, way) in ids.iter().zip(&WAYS) {
        world.cancel(id);
        assert_eq!(world.end_of(id)["status"], "cancelled", "{}", way.name);
        assert_eq!(world.daemons(), [daemon], "the daemon went with the task of {}", way.name);
        assert!(processes::alive(other_pid), "another task went with the task of {}", way.name);
    }
    assert_eq!(world.status(&other), "running");
    let dispatched = world.records().len() - ids.len() - 1;
    assert_eq!(dispatched, WAYS.iter().filter(|way| way.back == DONE).count(), "every `bg` was done once");
    println!("ancestry: ways={} cancelled={} others_ended=0 dispatched={dispatched}", WAYS.len(), ids.len());
}

#[test]
fn the_daemon_of_another_workspace_works_inside_a_task_and_ends_with_it() {
    let mut world = World::new();
    let daemon = world.start();
    let inner = world.beside("inner");
    fs::create_dir(&inner).unwrap();
    let octo = format!("{OCTO} --workspace {}", quoted(&inner));
    let done = quoted(&world.side("done"));
    let id = world.bg(&format!(
        "{octo} daemon --detach && {octo} bg --wait 'echo hi' && {octo} bg 'sleep 600' && echo ok > {done}; sleep 600"
    ));
    world.wait_for_line("done");
    let [inside] = processes::daemons(&inner)[..] else { panic!("{:?}", processes::daemons(&inner)) };
    assert_eq!(processes::shims_above(inside, world.root()).len(), 1);
    world.cancel(&id);
    assert_eq!(world.end_of(&id)["status"], "cancelled");
    wait_until("the inner daemon to end", || !processes::alive(inside));
    assert!(nothing_of(&inner), "something of the inner workspace is left");
    assert_eq!(world.daemons(), [daemon]);
}

/// Nothing of a workspace runs any more.
fn nothing_of(workspace: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let tasks = || processes::with_variable("OCTO_WORKSPACE", workspace.as_os_str().as_bytes());
    holds_within(Duration::from_secs(10), || tasks().is_empty() && processes::daemons(workspace).is_empty())
}
