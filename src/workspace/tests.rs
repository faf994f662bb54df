use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

/// A temp folder by its real name, since workspaces are known by those.
fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

fn made(root: &Path) -> Workspace {
    fs::create_dir_all(root).unwrap();
    let ws = Workspace::find(Some(root), None, root, None).unwrap();
    ws.create().unwrap();
    ws
}

/// Waits for a condition, and fails when it never comes.
fn eventually(holds: impl Fn() -> bool, what: &str) {
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < give_up, "{what}");
        std::thread::yield_now();
    }
}

fn find(cwd: &Path, home: Option<&Path>) -> PathBuf {
    Workspace::find(None, None, cwd, home).unwrap().root
}

#[test]
fn the_nearest_folder_with_octo_wins_and_without_one_the_current_folder() {
    let (_keep, top) = temp();
    let deep = top.join("outer/inner/deep");
    fs::create_dir_all(&deep).unwrap();
    assert_eq!(find(&deep, None), deep);
    fs::write(top.join("outer/inner/.octo"), "a file makes no workspace").unwrap();
    assert_eq!(find(&deep, None), deep);
    made(&top.join("outer"));
    assert_eq!(find(&deep, None), top.join("outer"));
    fs::remove_file(top.join("outer/inner/.octo")).unwrap();
    made(&top.join("outer/inner"));
    assert_eq!(find(&deep, None), top.join("outer/inner"));
    fs::create_dir(top.join("outer/inner/.octo/tasks")).unwrap();
    assert_eq!(find(&top.join("outer/inner/.octo/tasks"), None), top.join("outer/inner"), "from inside `.octo/`");
}

#[test]
fn the_home_folder_is_passed_over_unless_it_is_named_or_the_current_one() {
    let (_keep, top) = temp();
    let (home, project) = (top.join("home"), top.join("home/project"));
    fs::create_dir_all(&project).unwrap();
    made(&home);
    assert_eq!(find(&project, None), home);
    assert_eq!(find(&project, Some(&home)), project);
    assert_eq!(find(&home, Some(&home)), home);
    let link = top.join("link-to-home");
    symlink(&home, &link).unwrap();
    assert_eq!(find(&project, Some(&link)), project, "the home folder may be known by another name");
    let named = Workspace::find(Some(&home), None, &project, Some(&home)).unwrap();
    assert_eq!(named.root, home);
    made(&top);
    assert_eq!(find(&project, Some(&home)), top, "the search goes on above it");
}

#[test]
fn a_name_wins_over_the_environment_and_that_over_the_search() {
    let (_keep, top) = temp();
    let (a, b, c) = (top.join("a"), top.join("b"), top.join("c"));
    for dir in [&a, &b, &c] {
        made(dir);
    }
    let env = |e: &str| Workspace::find(None, Some(OsStr::new(e)), &c, None).map(|w| w.root);
    assert_eq!(env("../b"), Ok(b.clone()), "relative to the current folder");
    assert_eq!(env(""), Ok(c.clone()));
    let both = Workspace::find(Some(Path::new("../a")), Some(b.as_os_str()), &c, None).unwrap();
    assert_eq!((both.root, both.octo), (a.clone(), a.join(".octo")));
    let link = top.join("link");
    symlink(&a, &link).unwrap();
    assert_eq!(env("../link"), Ok(a.clone()), "one workspace has one name");
    for bad in [top.join("missing"), a.join(".octo/.gitignore")] {
        let refused = Workspace::find(Some(&bad), None, &c, None).unwrap_err();
        assert_eq!(refused.code, RefusedCode::BadRequest);
        assert!(!refused.hint.is_empty());
        assert!(env(bad.to_str().unwrap()).unwrap_err().hint.contains("OCTO_WORKSPACE"));
    }
}

#[test]
fn create_makes_a_private_folder_that_git_ignores_and_is_idempotent() {
    let (_keep, top) = temp();
    let ws = Workspace::find(None, None, &top, None).unwrap();
    assert_eq!(ws.check(), Ok(false));
    ws.create().unwrap();
    assert_eq!(fs::metadata(&ws.octo).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(ws.octo.join(".gitignore")).unwrap(), "*\n");
    fs::write(ws.octo.join(".gitignore"), "mine\n").unwrap();
    fs::set_permissions(&ws.octo, Permissions::from_mode(0o755)).unwrap();
    ws.create().unwrap();
    assert_eq!(fs::metadata(&ws.octo).unwrap().mode() & 0o777, 0o700, "others lose the right to read");
    assert_eq!(fs::read_to_string(ws.octo.join(".gitignore")).unwrap(), "mine\n");
    assert_eq!(ws.check(), Ok(true));
}

#[test]
fn an_octo_that_others_could_have_filled_is_refused() {
    let (_keep, top) = temp();
    let refused = |ws: &Workspace, why: &str| {
        for result in [ws.create(), ws.check().map(drop)] {
            let refusal = result.unwrap_err();
            assert_eq!(refusal.code, RefusedCode::Forbidden);
            assert!(refusal.message.contains(why), "{refusal}");
            assert!(!refusal.hint.is_empty());
        }
    };
    let ws = made(&top.join("writable"));
    for mode in [0o770, 0o702, 0o777] {
        fs::set_permissions(&ws.octo, Permissions::from_mode(mode)).unwrap();
        refused(&ws, "other users may write");
    }
    let linked = top.join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(top.join("elsewhere"), linked.join(".octo")).unwrap();
    fs::create_dir_all(linked.join("deep")).unwrap();
    let found = Workspace::find(None, None, &linked.join("deep"), None).unwrap();
    assert_eq!(found.root, linked, "a link is found, so that it is refused and not passed over");
    refused(&found, "symbolic link");
    let plain = top.join("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join(".octo"), "").unwrap();
    refused(&Workspace::at(plain), "no folder");
    if rustix::process::geteuid().is_root() {
        let ws = made(&top.join("foreign"));
        std::os::unix::fs::chown(&ws.octo, Some(4711), None).unwrap();
        refused(&ws, "belongs to user 4711");
    }
}

#[test]
fn of_a_hundred_that_race_for_the_lock_one_wins() {
    let (_keep, top) = temp();
    let ws = made(&top);
    let (start, wins) = (Barrier::new(100), AtomicUsize::new(0));
    let locks: Vec<_> = std::thread::scope(|scope| {
        let race = || {
            start.wait();
            let lock = DaemonLock::acquire(&ws, Duration::ZERO);
            if lock.is_ok() {
                wins.fetch_add(1, Ordering::Relaxed);
            }
            lock
        };
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(wins.into_inner(), 1);
    for refused in locks.iter().filter_map(|l| l.as_ref().err()) {
        assert!(matches!(refused, AcquireError::Held(_)), "{refused}");
        assert_eq!(refused.exit(), 5);
    }
    let me = std::process::id() as i32;
    let held = holder(&ws).unwrap();
    assert_eq!((held.pid, held.start), (Some(me), crate::run::proc_start(me).unwrap()));
    assert_eq!((held.boot_id.len(), held.version.as_str()), (36, env!("CARGO_PKG_VERSION")));
    drop(locks);
    // A child that another test forks just now has a copy of the descriptor until it executes its program.
    eventually(|| holder(&ws).is_none(), "what it wrote is believed only while it holds the lock");
}

/// Runs one of the `helper_...` tests below in a process of its own, on this workspace.
fn helper(name: &str, ws: &Workspace) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("workspace::tests::{name}"), "--ignored", "--nocapture"]);
    command.env("OCTO_TEST_WORKSPACE", &ws.root).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The workspace that a helper was given; none when somebody runs the ignored tests by hand.
fn given() -> Option<Workspace> {
    std::env::var_os("OCTO_TEST_WORKSPACE").map(|root| Workspace::at(root.into()))
}

#[test]
#[ignore = "a helper process of other tests"]
fn helper_takes_the_lock_and_waits() {
    let Some(ws) = given() else { return };
    let lock = DaemonLock::acquire(&ws, Duration::ZERO);
    println!("\n{}", if lock.is_ok() { "WON" } else { "LOST" });
    let _ = io::stdin().read_line(&mut String::new());
}

#[test]
fn of_twenty_processes_one_wins_and_its_death_frees_the_lock() {
    use std::io::{BufRead, BufReader};
    let (_keep, top) = temp();
    let ws = made(&top);
    let mut children: Vec<_> =
        (0..20).map(|_| helper("helper_takes_the_lock_and_waits", &ws).spawn().unwrap()).collect();
    let mut verdict = |child: &mut std::process::Child| {
        let out = BufReader::new(child.stdout.take().unwrap());
        out.lines().map(Result::unwrap).find(|l| l == "WON" || l == "LOST").unwrap()
    };
    let words: Vec<String> = children.iter_mut().map(&mut verdict).collect();
    assert_eq!(words.iter().filter(|w| *w == "WON").count(), 1, "{words:?}");
    let winner = words.iter().position(|w| w == "WON").unwrap();
    let pid = children[winner].id() as i32;
    let refused = DaemonLock::acquire(&ws, Duration::ZERO).unwrap_err();
    assert!(refused.to_string().contains(&format!("pid {pid}")), "{refused}");
    children[winner].kill().unwrap();
    children[winner].wait().unwrap();
    DaemonLock::acquire(&ws, Duration::from_secs(60)).unwrap();
    for mut child in children {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

#[test]
fn a_start_is_patient_while_the_lock_is_held_for_a_moment() {
    let (_keep, top) = temp();
    let ws = made(&top);
    let first = DaemonLock::acquire(&ws, Duration::ZERO).unwrap();
    let copy = first.duplicate();
    drop(first);
    assert!(DaemonLock::acquire(&ws, Duration::ZERO).is_err(), "a copy of the descriptor holds the lock, too");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| DaemonLock::acquire(&ws, Duration::from_secs(60)));
        drop(copy);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_lock_file_that_was_changed_for_another_one_is_no_lock() {
    let (_keep, top) = temp();
    let ws = made(&top);
    let path = ws.octo.join("lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    fs::rename(&path, ws.octo.join("old")).unwrap();
    assert!(DaemonLock::lock(opened, &path).unwrap().is_none(), "nothing is at the path");
    let first = DaemonLock::acquire(&ws, Duration::ZERO).unwrap();
    assert!(first.is_intact());
    let opened = File::options().read(true).write(true).open(ws.octo.join("old")).unwrap();
    assert!(DaemonLock::lock(opened, &path).unwrap().is_none(), "another file is at the path");
    fs::remove_file(&path).unwrap();
    assert!(!first.is_intact(), "its owner can tell that it keeps nobody out any more");
}

#[test]
fn odd_lock_files_are_told_and_never_waited_for() {
    let (_keep, top) = temp();
    let ws = made(&top);
    let path = ws.octo.join("lock");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(DaemonLock::acquire(&ws, Duration::from_secs(60)).unwrap_err().exit(), 3);
    assert_eq!(holder(&ws), None);
    fs::remove_file(&path).unwrap();
    symlink(top.join("elsewhere"), &path).unwrap();
    assert_eq!(DaemonLock::acquire(&ws, Duration::from_secs(60)).unwrap_err().exit(), 3);
    assert!(!top.join("elsewhere").exists(), "the link was not followed");
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let lock = DaemonLock::acquire(&ws, Duration::ZERO).unwrap();
    assert_eq!(holder(&ws).unwrap().pid, Some(std::process::id() as i32), "what was there is gone");
    drop(lock);
}

#[test]
fn the_socket_is_private_and_what_a_dead_daemon_left_is_replaced() {
    let (_keep, top) = temp();
    let ws = made(&top);
    assert_eq!(connect(&ws).unwrap_err().kind(), io::ErrorKind::NotFound);
    let lock = DaemonLock::acquire(&ws, Duration::ZERO).unwrap();
    drop(bind(&ws, &lock).unwrap());
    assert_eq!(connect(&ws).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let listener = bind(&ws, &lock).unwrap();
    let meta = fs::symlink_metadata(ws.socket()).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o777, 0o600);
    greet(&ws, &listener);
    drop(listener);
    fs::remove_file(ws.socket()).unwrap();
    fs::write(ws.socket(), "somebody's file").unwrap();
    assert!(bind(&ws, &lock).is_err());
    assert_eq!(fs::read_to_string(ws.socket()).unwrap(), "somebody's file");
}

#[test]
fn a_workspace_of_any_depth_has_a_socket() {
    let (_keep, top) = temp();
    for length in [100, 106, 107, 108, 109, 300, 2000] {
        let mut root = top.clone();
        // The socket's whole path gets exactly this length, or as near as a folder name allows.
        while root.as_os_str().len() + "/.octo/octo.sock".len() < length {
            let missing = length - root.as_os_str().len() - "/.octo/octo.sock".len();
            if missing == 1 {
                break;
            }
            root.push("d".repeat((missing - 1).min(100)));
        }
        let ws = made(&root);
        let lock = DaemonLock::acquire(&ws, Duration::ZERO).unwrap();
        for _ in 0..2 {
            let listener = bind(&ws, &lock).unwrap();
            greet(&ws, &listener);
        }
        assert!(fs::symlink_metadata(ws.socket()).unwrap().file_type().is_socket(), "{length}");
    }
}

/// A client's words reach the server.
fn greet(ws: &Workspace, listener: &std::os::unix::net::UnixListener) {
    let mut client = connect(ws).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let (mut server, _) = listener.accept().unwrap();
    let mut heard = String::new();
    io::Read::read_to_string(&mut server, &mut heard).unwrap();
    assert_eq!(heard, "hello");
}

#[test]
#[ignore = "a helper process of other tests"]
fn helper_connects_and_exits() {
    if let Some(ws) = given() {
        connect(&ws).unwrap();
    }
}

#[test]
fn a_peer_that_exited_is_not_taken_for_the_owner() {
    use crate::ancestry::{Peer, peer};
    let (_keep, top) = temp();
    let ws = made(&top);
    let lock = DaemonLock::acquire(&ws, Duration::ZERO).unwrap();
    let listener = bind(&ws, &lock).unwrap();
    let client = connect(&ws).unwrap();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(peer(&server, &ws), Peer::Owner, "this very process");
    drop(client);
    let done = helper("helper_connects_and_exits", &ws).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let (server, _) = listener.accept().unwrap();
    assert_eq!(peer(&server, &ws), Peer::Task(None));
}
