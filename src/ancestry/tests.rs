use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;

const TASK: &str = "c4b1e09a";

#[test]
fn a_shim_is_known_by_its_program_and_its_run_folder() {
    let rule = |exe: &str, argv: &[&str]| {
        let exe = (!exe.is_empty()).then(|| PathBuf::from(exe));
        let found = recognise(|| exe, argv.join("\0").as_bytes());
        found.map(|s| (s.workspace.to_str().unwrap().to_owned(), s.task.to_string(), s.run))
    };
    let run = "/w/.octo/tasks/c4b1e09a/run-3";
    let yes = Some(("/w".to_owned(), TASK.to_owned(), 3));
    assert_eq!(rule("/bin/octo-shim", &["x", run]), yes);
    assert_eq!(rule("/bin/octo-shim (deleted)", &["x", run]), yes, "upgraded while it runs");
    assert_eq!(rule("/bin/sh", &["/opt/octo-shim", run]), yes);
    assert_eq!(rule("", &["octo-shim", run, "more"]), yes, "a program that cannot be looked at");
    assert_eq!(rule("/bin/octo", &["octo", run]), None, "a client that names a run folder is no shim");
    assert_eq!(rule("/bin/octo-shim-wrapper", &["octo-shim2", run]), None);
    assert_eq!(rule("/bin/octo-shim", &["octo-shim"]), None);
    assert_eq!(rule("/bin/octo-shim", &[]), None);

    let folder = |path: &str| rule("octo-shim", &["octo-shim", path]).map(|(w, _, run)| (w, run));
    assert_eq!(folder("/a/.octo/tasks/00000000/run-1"), Some(("/a".to_owned(), 1)));
    assert_eq!(folder("/.octo/tasks/c4b1e09a/run-1"), Some(("/".to_owned(), 1)));
    assert_eq!(folder("/a/.octo/tasks/c4b1e09a/calls/x/run-12"), Some(("/a".to_owned(), 12)), "an agent's shell call");
    let nested = "/a/.octo/tasks/c4b1e09a/w/.octo/tasks/abcdef01/run-2";
    assert_eq!(folder(nested), Some(("/a/.octo/tasks/c4b1e09a/w".to_owned(), 2)), "the innermost workspace");
    for bad in [
        "w/.octo/tasks/c4b1e09a/run-1",
        "/w/.octo/tasks/c4b1e09a/run-x",
        "/w/.octo/tasks/c4b1e09a/walk-1",
        "/w/.octo/tasks/run-1",
        "/w/.octo/tasks/C4B1E09A/run-1",
        "/w/.octopus/tasks/c4b1e09a/run-1",
        "/w/.octo/env/c4b1e09a/run-1",
        "/run-1",
        "",
    ] {
        assert_eq!(folder(bad), None, "{bad}");
    }
}

/// A process tree whose top looks like a shim; it ends with this value.
struct FakeShim {
    top: Child,
    ws: Workspace,
    inside: i32,
    _dir: tempfile::TempDir,
}

impl FakeShim {
    /// `start`: makes a command that runs the script at the path of a run folder.
    fn start(start: impl FnOnce(&Path, &Path) -> Command) -> FakeShim {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let ws = Workspace::find(Some(&root), None, &root, None).unwrap();
        let run = ws.octo.join("tasks").join(TASK).join("run-3");
        fs::create_dir_all(run.parent().unwrap()).unwrap();
        fs::write(&run, "sh -c 'sh -c \"sleep 600 & echo \\$!; wait\"; true'; true\n").unwrap();
        let mut command = start(&root, &run);
        let mut top = command.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(top.stdout.take().unwrap()).read_line(&mut line).unwrap();
        FakeShim { top, ws, inside: line.trim().parse().unwrap(), _dir: dir }
    }
}

impl Drop for FakeShim {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.top);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.top.wait();
    }
}

/// The program itself is called `octo-shim`; its first word says something else.
fn by_program(dir: &Path, run: &Path) -> Command {
    let program = dir.join("octo-shim");
    assert!(Command::new("cp").args(["-L", "/bin/sh"]).arg(&program).status().unwrap().success());
    let mut command = Command::new(program);
    command.arg0("sh").arg(run);
    command
}

/// Just the first word is `octo-shim`.
fn by_name(_dir: &Path, run: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg0("octo-shim").arg(run);
    command
}

#[test]
fn a_process_deep_below_a_shim_belongs_to_its_task() {
    let other = tempfile::tempdir().unwrap();
    let other = Workspace::find(Some(other.path()), None, other.path(), None).unwrap();
    for shim in [FakeShim::start(by_program), FakeShim::start(by_name)] {
        let top = shim.top.id() as i32;
        let wanted = ShimAbove { pid: top, workspace: shim.ws.root.clone(), task: TASK.parse().unwrap(), run: 3 };
        // Whatever runs these tests may be below a shim itself, but not one of this workspace.
        assert_eq!(shims_above(shim.inside).unwrap().first(), Some(&wanted));
        assert_eq!(peer_task(Some(shim.inside), &shim.ws), Peer::Task(Some(wanted.task)));
        assert_eq!(peer_task(Some(top), &shim.ws), Peer::Task(Some(wanted.task)), "the shim itself is no owner");
        assert_eq!(peer_task(Some(shim.inside), &other), Peer::Owner, "of another workspace");
        assert_eq!(peer_task(Some(std::process::id() as i32), &shim.ws), Peer::Owner, "beside the shim");
    }
}

#[test]
fn a_process_that_cannot_be_seen_is_a_task_that_cannot_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let ws = Workspace::find(Some(dir.path()), None, dir.path(), None).unwrap();
    let mut gone = Command::new("true").spawn().unwrap();
    let pid = gone.id() as i32;
    gone.wait().unwrap();
    for pid in [None, Some(0), Some(-1), Some(i32::MAX), Some(pid)] {
        assert_eq!(peer_task(pid, &ws), Peer::Task(None), "{pid:?}");
    }
    assert_eq!(shims_above(0).unwrap(), []);
}

#[test]
fn a_process_that_was_orphaned_belongs_to_whoever_adopted_it() {
    let shim = FakeShim::start(by_name);
    let status = Command::new("kill").args(["-9", &shim.top.id().to_string()]).status().unwrap();
    assert!(status.success());
    // Until the kernel has given its children away, the walk sees the dead shim, or begins again.
    let parent = |pid| Stat::of(pid).map(|s| s.parent);
    let below = |mut pid: i32| {
        while let Some(up) = parent(pid).filter(|p| *p > 1) {
            if up == shim.top.id() as i32 {
                return true;
            }
            pid = up;
        }
        false
    };
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while below(shim.inside) {
        assert!(std::time::Instant::now() < give_up, "the child of a dead process was not given away");
        std::thread::yield_now();
    }
    assert_eq!(peer_task(Some(shim.inside), &shim.ws), Peer::Owner, "without a subreaper the trail is lost");
}

#[test]
fn without_descriptors_nobody_is_taken_for_the_owner_or_for_a_task() {
    let helper = ["--exact", "ancestry::tests::helper_is_short_of_descriptors", "--ignored"];
    let mut command = Command::new(std::env::current_exe().unwrap());
    let done = command.args(helper).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "a process of its own: it uses up all its descriptors"]
fn helper_is_short_of_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let ws = Workspace::find(Some(dir.path()), None, dir.path(), None).unwrap();
    let me = std::process::id() as i32;
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(64);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    assert_eq!((peer_task(Some(me), &ws), peer(&ours, &ws)), (Peer::Owner, Peer::Owner));
    let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert_eq!((peer_task(Some(me), &ws), peer(&ours, &ws)), (Peer::Untold, Peer::Untold));
    assert!(shims_above(me).is_err());
    // One is enough for a look; the kernel's handle on the peer takes it.
    held.pop();
    assert_eq!((peer_task(Some(me), &ws), peer(&ours, &ws)), (Peer::Owner, Peer::Untold));
    held.clear();
    assert_eq!(peer(&ours, &ws), Peer::Owner);
}
