use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;
use crate::bounded::tests::program;
use crate::workspace::{DaemonLock, bind};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A process that ends with the test, however the test ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    dir: tempfile::TempDir,
    ws: Workspace,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let ws = Workspace::find(Some(dir.path()), None, dir.path(), None).unwrap();
        ws.create().unwrap();
        for folder in ["tasks", "quarantine"] {
            fs::create_dir(ws.octo.join(folder)).unwrap();
        }
        World { dir, ws }
    }

    fn exe(&self) -> PathBuf {
        self.dir.path().join("bin/octo")
    }

    /// Puts a program beside `octo` that says this version.
    fn install(&self, name: &str, version: &str) {
        fs::create_dir_all(self.dir.path().join("bin")).unwrap();
        program(&self.dir.path().join("bin"), name, &format!("echo {name} {version}"));
    }

    fn examine(&self) -> Vec<Finding> {
        let trust = Trust::load(&self.ws, "0123456789abcdef0123456789abcdef");
        let config = Config::load(&HashMap::new(), &self.ws, &trust);
        examine(&Context { workspace: &self.ws, config: &config, trust: &trust, exe: &self.exe() })
    }

    /// The one finding that speaks of this.
    fn about(&self, words: &str) -> Finding {
        let all = self.examine();
        let mut found = all.iter().filter(|f| f.what.contains(words));
        let first = found.next().unwrap_or_else(|| panic!("nothing about `{words}` in {all:#?}")).clone();
        assert_eq!(found.next(), None, "`{words}` twice");
        first
    }
}

fn level(finding: &Finding) -> Level {
    assert_eq!(finding.hint.is_empty(), finding.level == Level::Ok, "just what is not right has a hint: {finding:?}");
    finding.level
}

#[test]
fn a_healthy_workspace_has_nothing_to_do() {
    let world = World::new();
    world.install("octod", VERSION);
    world.install("octo-shim", VERSION);
    let findings = world.examine();
    for part in ["the workspace is", "locks work", "no daemon runs", "nothing was left", "the settings make sense"] {
        let finding = findings.iter().find(|f| f.what.contains(part));
        assert_eq!(finding.map(level), Some(Level::Ok), "{part}: {findings:#?}");
    }
    for name in ["octod", "octo-shim"] {
        assert_eq!(level(&world.about(&format!("{name} {VERSION} is beside octo"))), Level::Ok);
    }
    let json = serde_json::to_value(&findings).unwrap();
    assert_eq!(json[0]["level"], "ok");
    assert_eq!(serde_json::from_value::<Vec<Finding>>(json).unwrap(), findings);
}

#[test]
fn a_refused_workspace_is_told_and_not_looked_into() {
    let world = World::new();
    fs::set_permissions(&world.ws.octo, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(world.ws.octo.join("quarantine/x"), "").unwrap();
    assert_eq!(level(&world.about("other users may write")), Level::Error);
    assert!(!world.examine().iter().any(|f| f.what.contains("set aside")));
}

#[test]
fn programs_that_are_missing_broken_or_old_are_told() {
    let world = World::new();
    assert_eq!(level(&world.about("octod is missing")), Level::Error);
    world.install("octod", "0.0.1");
    assert_eq!(level(&world.about("octod is not of version")), Level::Warn);
    fs::write(world.dir.path().join("bin/octo-shim"), "").unwrap();
    assert_eq!(level(&world.about("octo-shim does not run")), Level::Error);
}

#[test]
fn bad_settings_and_what_waits_for_trust_are_told_once_each() {
    let world = World::new();
    fs::write(world.ws.root.join(".env"), "BG_MAX_CONCURRENT=many").unwrap();
    assert_eq!(level(&world.about("BG_MAX_CONCURRENT")), Level::Warn);
    fs::write(world.ws.root.join("octo.toml"), "").unwrap();
    for words in [&["init", "-q"][..], &["add", "octo.toml"]] {
        assert!(Command::new("git").arg("-C").arg(&world.ws.root).args(words).status().unwrap().success());
    }
    assert!(world.about("octo.toml is not used").hint.contains("octo trust"));
    for id in ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"] {
        fs::write(world.ws.octo.join(format!("tasks/{id}.json")), "{}").unwrap();
    }
    let finding = world.about("did not write");
    assert!(finding.what.ends_with("aaaaaaaa, bbbbbbbb, cccccccc and 1 more"), "{}", finding.what);
    fs::write(world.ws.octo.join("workspace.json"), "{\"mark\": \"other\"}").unwrap();
    assert_eq!(level(&world.about("another installation made this workspace")), Level::Warn);
    fs::write(world.ws.octo.join("workspace.json"), "{").unwrap();
    assert_eq!(level(&world.about("nothing counts as trusted")), Level::Warn);
}

#[test]
fn a_daemon_that_answers_is_fine_and_one_that_does_not_is_told() {
    use std::io::{Read, Write};
    let world = World::new();
    let lock = DaemonLock::acquire(&world.ws, Duration::ZERO).unwrap();
    let silent = world.about("does not answer");
    assert_eq!(level(&silent), Level::Error);
    assert!(silent.hint.contains(&format!("kill -9 {}", std::process::id())), "{}", silent.hint);
    let listener = bind(&world.ws, &lock).unwrap();
    let answer = |text: &'static str| {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 12];
        client.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET /healthz");
        client.write_all(text.as_bytes()).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| answer("HTTP/1.1 200 OK\r\n\r\n"));
        assert_eq!(level(&running::daemon(&world.ws)), Level::Ok);
        scope.spawn(|| answer("HTTP/1.1 500 Internal\r\n\r\n"));
        assert_eq!(level(&running::daemon(&world.ws)), Level::Error);
        fs::write(world.ws.octo.join("lock"), "{\"pid\": 1, \"version\": \"0.0.1\"}").unwrap();
        scope.spawn(|| answer("HTTP/1.1 200 OK\r\n\r\n"));
        let old = running::daemon(&world.ws);
        assert_eq!(level(&old), Level::Warn);
        assert!(old.what.contains("octod 0.0.1 (pid 1) runs"), "{}", old.what);
    });
}

#[test]
fn files_that_were_left_behind_are_counted() {
    let world = World::new();
    let tasks = world.ws.octo.join("tasks");
    let old = |name: &str| {
        let file = fs::File::create(tasks.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    };
    old(".aaaaaaaa.77.0.tmp");
    fs::File::create(tasks.join(".bbbbbbbb.77.0.tmp")).unwrap();
    assert_eq!(level(&world.about("1 temp file(s)")), Level::Warn, "one that is being written is no leftover");
    fs::create_dir(tasks.join("c4b1e09a")).unwrap();
    fs::create_dir(tasks.join("abcdef01")).unwrap();
    fs::create_dir(tasks.join("no-task")).unwrap();
    fs::write(tasks.join("abcdef01.json"), "{}").unwrap();
    assert!(world.about("1 task folder(s) without a record").what.ends_with("c4b1e09a"));
    fs::write(world.ws.octo.join("quarantine/aaaaaaaa.bad"), "").unwrap();
    assert!(world.about("set aside").what.contains("aaaaaaaa.bad"));
}

#[test]
fn processes_without_their_shim_are_found_and_guarded_or_welcome_ones_are_not() {
    let world = World::new();
    let run = world.ws.octo.join("tasks/c4b1e09a/run-2");
    fs::create_dir_all(&run).unwrap();
    let mut task = Command::new("sleep");
    task.arg("600").env("OCTO_WORKSPACE", &world.ws.root).env("OCTO_TASK_ID", "c4b1e09a").env("OCTO_RUN", "2");
    let task = Ended(task.stdout(std::process::Stdio::null()).spawn().unwrap());
    let pid = task.0.id().to_string();
    let told = || leftovers::all(&world.ws).into_iter().find(|f| f.what.contains("without their shim"));
    // The kernel lets a new process go before its environment can be read.
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while told().is_none() {
        assert!(std::time::Instant::now() < give_up, "the process was not found");
        std::thread::yield_now();
    }
    assert!(told().unwrap().what.ends_with(&format!("task c4b1e09a go on without their shim: {pid}")));
    let lock = fs::File::create(run.join("lock")).unwrap();
    assert!(told().is_some(), "the lock is there, and free");
    assert!(crate::workspace::try_lock(&lock).unwrap());
    assert_eq!(told(), None, "its shim lives");
    drop(lock);
    fs::write(world.ws.octo.join("tasks/c4b1e09a.json"), "{\"leave_children\": true}").unwrap();
    assert_eq!(told(), None, "its owner lets it be");
}

#[test]
fn an_environment_names_a_run_only_with_all_three_variables() {
    let world = World::new();
    let root = world.ws.root.as_os_str().as_bytes();
    let block = |root: &[u8], rest: &str| [b"OCTO_WORKSPACE=", root, b"\0", rest.as_bytes()].concat();
    let all = "OCTO_TASK_ID=c4b1e09a\0OCTO_RUN=2\0";
    let run = leftovers::run_in(&block(root, all), &world.ws).unwrap();
    assert_eq!((run.task.as_str(), run.run), ("c4b1e09a", 2));
    for (root, rest) in [(&b"/other"[..], all), (root, "OCTO_RUN=2\0"), (root, "OCTO_TASK_ID=x\0OCTO_RUN=2\0")] {
        assert_eq!(leftovers::run_in(&block(root, rest), &world.ws), None, "{rest}");
    }
    assert_eq!(leftovers::run_in(b"", &world.ws), None);
}

#[test]
fn file_systems_are_known_by_their_magic_numbers() {
    assert_eq!(level(&place::file_system(0xef53)), Level::Ok);
    for (magic, name) in [(0x6969, "NFS"), (0x6573_5546, "FUSE"), (0x0102_1997, "9p"), (0x794c_7630, "overlay")] {
        let finding = place::file_system(magic);
        assert_eq!(level(&finding), Level::Warn);
        assert!(finding.what.contains(name));
    }
    assert!(place::file_system(0x0102_1994).hint.contains("reboot"));
}

#[test]
fn little_free_space_is_an_error() {
    let mut s = rustix::fs::statvfs("/").unwrap();
    (s.f_frsize, s.f_blocks) = (4096, 1 << 20);
    for (free, wanted) in [(1 << 19, Level::Ok), ((64 << 20) / 4096 - 1, Level::Error), ((64 << 20) / 4096, Level::Ok)]
    {
        s.f_bavail = free;
        assert_eq!(level(&place::free_space(&s)), wanted, "{free}");
    }
    (s.f_blocks, s.f_bavail) = (1 << 30, 1 << 20);
    assert_eq!(level(&place::free_space(&s)), Level::Error, "4 GiB of 4 TiB are less than 1 %");
}

#[test]
fn the_systemd_unit_is_read_from_the_control_group() {
    let unit = |text: &str| running::unit_of(text).map(|u| (u.name, u.of_user));
    let user = "/user.slice/user-1000.slice/user@1000.service";
    assert_eq!(unit("0::/system.slice/octod.service\n"), Some(("octod.service".into(), false)));
    assert_eq!(unit(&format!("0::{user}/app.slice/octod.service/inner\n")), Some(("octod.service".into(), true)));
    assert_eq!(unit("12:cpu:/x\n1:name=systemd:/system.slice/cron.service\n"), Some(("cron.service".into(), false)));
    assert_eq!(unit("0::/user.slice/user-1000.slice/session-3.scope\n"), None);
    assert_eq!(unit(&format!("0::{user}/app.slice/term.scope\n")), None);
    assert_eq!(unit(&format!("0::{user}/init.scope\n")), None);
    assert_eq!(unit(&format!("0::{user}\n")), None);
    assert_eq!(unit("0::/\n"), None);
    assert_eq!(unit(""), None);
    let octod = running::Unit { name: "octod.service".into(), of_user: true };
    for (mode, wanted) in
        [("process", Level::Ok), ("none", Level::Ok), ("control-group", Level::Warn), ("mixed", Level::Warn)]
    {
        assert_eq!(level(&running::kill_mode(&octod, mode)), wanted, "{mode}");
    }
    assert_eq!(level(&running::linger("no")), Level::Warn);
    assert_eq!(level(&running::linger("yes")), Level::Ok);
}

#[test]
fn what_the_kernel_lacks_is_told() {
    assert_eq!(level(&system::user(true)), Level::Warn);
    assert_eq!(level(&system::user(false)), Level::Ok);
    assert_eq!(level(&system::descendants(false)), Level::Warn);
    assert_eq!(level(&system::pidfds(false)), Level::Error);
    assert!(
        system::all()
            .iter()
            .filter(|f| f.what.contains("/proc") || f.what.contains("kernel"))
            .all(|f| level(f) == Level::Ok)
    );
}
