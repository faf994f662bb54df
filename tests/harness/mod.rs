//! A hermetic world for the real programs: a temporary workspace and home, the built `octo`, `octod` and
//! `octo-shim`, a plain HTTP client for the socket, and ways to wait for a condition.
//!
//! Everything that a world starts carries `OCTO_TEST_WORLD=<its folder>` in its environment, so that a test
//! which fails leaves nothing behind: dropping the world ends the daemon and every task of it.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod http;
pub(crate) mod process;
mod program;
pub(crate) mod random;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use http::{Answer, Conn};
pub(crate) use program::{Out, run};

/// Long enough for a machine that is busy with other things; nothing here waits for time to pass.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Whether the long forms are wanted (`OCTO_LONG=1`).
pub(crate) fn long() -> bool {
    std::env::var_os("OCTO_LONG").is_some_and(|v| v == "1")
}

/// `short` in the usual form of the tests, `long` in the long one.
pub(crate) fn scale(short: usize, long_form: usize) -> usize {
    if long() { long_form } else { short }
}

/// One workspace, its home and its processes.
pub(crate) struct World {
    dir: tempfile::TempDir,
    root: PathBuf,
    env: Vec<(String, String)>,
    /// The folder of the programs; the built ones unless a test has its own shim.
    bin: PathBuf,
    mounts: Vec<PathBuf>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&[])
    }

    /// A world whose programs all see these variables.
    pub(crate) fn with(env: &[(&str, &str)]) -> World {
        let dir = tempfile::Builder::new().prefix("octo-w").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("ws");
        fs::create_dir_all(root.join(".octo")).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(root.join(".octo"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(dir.path().join("home")).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let bin = Path::new(env!("CARGO_BIN_EXE_octo")).parent().unwrap().to_owned();
        World { dir, root, env, bin, mounts: Vec::new() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn octo_dir(&self) -> PathBuf {
        self.root.join(".octo")
    }

    pub(crate) fn tasks_dir(&self) -> PathBuf {
        self.octo_dir().join("tasks")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A file beside the workspace.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn record_path(&self, id: &str) -> PathBuf {
        self.tasks_dir().join(format!("{id}.json"))
    }

    /// A program in this world: the workspace as current folder, and nothing of the caller's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("XDG_DATA_HOME", self.home().join("data"))
            .env("XDG_CONFIG_HOME", self.home().join("config"))
            .env("XDG_STATE_HOME", self.home().join("state"))
            .env("XDG_RUNTIME_DIR", self.home())
            .env("LANG", "C.UTF-8")
            .env("OCTO_TEST_WORLD", &self.root)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.root)
            .stdin(Stdio::null());
        command
    }

    /// Puts a script in the place of `octo-shim`; `@SHIM@` in it is the real one.
    pub(crate) fn replace_shim(&mut self, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let bin = self.beside("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["octo", "octod"] {
            let (from, to) = (self.bin.join(name), bin.join(name));
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).unwrap();
        }
        let shim = self.bin.join("octo-shim");
        fs::write(bin.join("octo-shim"), script.replace("@SHIM@", shim.to_str().unwrap())).unwrap();
        fs::set_permissions(bin.join("octo-shim"), fs::Permissions::from_mode(0o755)).unwrap();
        self.bin = bin;
    }

    /// Mounts a tmpfs on `.octo/`. `None`: this machine may not mount, and `OCTO_NO_MOUNT=1` says that it is known.
    pub(crate) fn mount_tmpfs(&mut self, options: &str) -> Option<()> {
        let options = format!("mode=0700,{options}");
        let at = self.octo_dir();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "octo-test"]).arg(&at).status().unwrap();
        if status.success() {
            self.mounts.push(at);
            return Some(());
        }
        let known = std::env::var_os("OCTO_NO_MOUNT").is_some_and(|v| v == "1");
        assert!(known, "this test mounts a small file system, which needs root; OCTO_NO_MOUNT=1 leaves it out");
        eprintln!("left out: no file system can be mounted here");
        None
    }

    /// A program in this world with another current folder.
    pub(crate) fn command_in(&self, dir: impl AsRef<Path>, program: &str, args: &[&str]) -> Command {
        let mut command = self.command(program);
        command.current_dir(dir).args(args);
        command
    }

    pub(crate) fn octo_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(self.bin.join("octo"));
        command.args(args);
        command
    }

    /// Runs `octo` to its end.
    #[track_caller]
    pub(crate) fn octo(&self, args: &[&str]) -> Out {
        run(self.octo_command(args), b"")
    }

    /// Dispatches a command line and returns the id.
    #[track_caller]
    pub(crate) fn bg(&self, command: &str) -> String {
        self.bg_with(&[], command)
    }

    #[track_caller]
    pub(crate) fn bg_with(&self, options: &[&str], command: &str) -> String {
        let args: Vec<&str> = [&["bg"], options, &["--", command]].concat();
        let id = self.octo(&args).exits(0).line();
        assert!(is_id(&id), "`octo bg` printed {id:?}");
        id
    }

    /// Starts the daemon and returns when it is ready. A client that waits may have been quicker, or a thread of
    /// one that was killed may still be in the middle of a sync and hold the lock: then it is started again.
    #[track_caller]
    pub(crate) fn start(&self) -> u32 {
        let answers = || self.try_get("/healthz").is_some_and(|a| a.status == 200);
        wait_for("a daemon to start and answer", || {
            let out = self.octo(&["daemon", "--detach"]);
            assert!(matches!(out.code, 0 | 5), "{out:?}");
            out.code == 0 || answers()
        });
        self.wait_ready();
        self.daemon_pid().expect("a daemon that is ready")
    }

    /// Starts the daemon in the foreground below `wrapper` (a program and its first arguments).
    pub(crate) fn start_below(&self, wrapper: &[&str]) -> Child {
        let mut command = self.command(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.bin.join("octod")).arg("--workspace").arg(&self.root);
        let log = fs::File::options().create(true).append(true).open(self.beside("octod.err")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.wait_ready();
        child
    }

    pub(crate) fn wait_ready(&self) {
        wait_for("the daemon to answer", || self.try_get("/healthz").is_some_and(|a| a.status == 200));
    }

    pub(crate) fn stop(&self) {
        self.octo(&["stop"]).exits(0);
    }

    /// The process that answers on the socket.
    pub(crate) fn daemon_pid(&self) -> Option<u32> {
        let stream = self.connect().ok()?;
        let cred = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        u32::try_from(cred.pid.as_raw_pid()).ok()
    }

    /// SIGKILLs the daemon and waits for its end.
    pub(crate) fn kill_daemon(&self) {
        let pid = self.daemon_pid().expect("a daemon to kill");
        process::signal_if(pid, rustix::process::Signal::KILL, || self.daemon_pid() == Some(pid));
        wait_for("the daemon's death", || !process::alive(pid));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.octo_dir().join("octo.sock")
    }

    pub(crate) fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.socket())
    }

    #[track_caller]
    pub(crate) fn http(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        Conn::open(&self.socket()).unwrap().ask(method, path, &[], body).unwrap()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.http("GET", path, b"")
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        Conn::open(&self.socket()).ok()?.ask("GET", path, &[], b"").ok()
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.http("POST", path, body.to_string().as_bytes())
    }

    /// Starts tasks through the API; each runs in the workspace with the daemon's environment.
    #[track_caller]
    pub(crate) fn start_all(&self, commands: &[String]) -> Vec<String> {
        let body: Vec<Value> = commands.iter().map(|c| serde_json::json!({ "command": c })).collect();
        let answer = self.post("/background-agents/start", &Value::from(body));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json().as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The record as it stands.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> Value {
        let answer = self.get(&format!("/background-agents/{id}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits for the end of a task and returns its record.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> Value {
        let deadline = Instant::now() + LONG * 2;
        loop {
            let answer = self.get(&format!("/background-agents/{id}?wait=60"));
            assert_eq!(answer.status, 200, "{answer:?}");
            let task = answer.json();
            if !task["completed_at"].as_str().unwrap().is_empty() {
                return task;
            }
            assert!(Instant::now() < deadline, "task {id} does not end: {task:#}");
        }
    }

    /// Waits until a task has a status.
    #[track_caller]
    pub(crate) fn until(&self, id: &str, status: &str) -> Value {
        wait_for(&format!("{id} to be {status}"), || self.task(id)["status"] == status);
        self.task(id)
    }

    /// Waits until an ended task's run folders are folded away.
    #[track_caller]
    pub(crate) fn folded(&self, id: &str) {
        wait_for("the fold-away", || !self.tasks_dir().join(id).exists());
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/status").json()
    }

    /// What the daemon wrote to its log, detached or not.
    pub(crate) fn log(&self) -> String {
        let read = |path: PathBuf| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        read(self.octo_dir().join("octod.log")) + &read(self.beside("octod.err"))
    }

    /// The processes that a task of this workspace left or still has, but for its shim, which may take another
    /// moment after the end is known.
    pub(crate) fn left(&self, id: &str) -> Vec<u32> {
        self.processes(id).into_iter().filter(|pid| !process::cmdline(*pid).contains("octo-shim")).collect()
    }

    /// All processes that carry the mark of a task of this workspace, its shim included.
    pub(crate) fn processes(&self, id: &str) -> Vec<u32> {
        process::carrying(&self.marks(id))
    }

    /// Signals all processes of a task, its shim included.
    pub(crate) fn signal_processes(&self, id: &str, signal: rustix::process::Signal) {
        process::signal_carrying(&self.marks(id), signal);
    }

    fn marks(&self, id: &str) -> [String; 2] {
        [format!("OCTO_WORKSPACE={}", self.root.display()), format!("OCTO_TASK_ID={id}")]
    }

    /// Ends everything that this world started, now.
    pub(crate) fn end_everything(&self) {
        let marks = ["OCTO_TEST_WORLD", "OCTO_WORKSPACE"].map(|name| [format!("{name}={}", self.root.display())]);
        let kill = |mark: &[String; 1]| process::signal_carrying(mark, rustix::process::Signal::KILL);
        let deadline = Instant::now() + Duration::from_secs(20);
        while marks.iter().map(kill).sum::<usize>() > 0 && Instant::now() < deadline {
            pause();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let log = self.log();
        self.end_everything();
        for at in &self.mounts {
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
        let defect = log.lines().find(|l| l.contains("a defect in Octo") || l.contains("panicked at"));
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ends:");
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        } else if let Some(defect) = defect {
            panic!("the daemon panicked: {defect}");
        }
    }
}

/// Whether it is an id as new tasks get: 8 hex characters, the first a letter.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 8
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && text.as_bytes()[0].is_ascii_alphabetic()
}

#[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

#[track_caller]
pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_within(LONG, what, condition);
}

#[track_caller]
pub(crate) fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
        pause();
    }
}
