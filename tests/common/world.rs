//! A hermetic world: a workspace, a home, the real programs, and nothing left over when it ends.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::http::{self, Answer};
use super::{holds_within, processes, wait_until};

pub(crate) const OCTO: &str = env!("CARGO_BIN_EXE_octo");
pub(crate) const OCTOD: &str = env!("CARGO_BIN_EXE_octod");
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_octo-shim");

/// A workspace with its own home. Its end kills every process that belongs to it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    root: PathBuf,
    /// What daemons and clients get on top of the plain environment.
    pub(crate) env: Vec<(String, String)>,
    /// The daemon's program.
    pub(crate) octod: PathBuf,
    daemon: Option<Daemon>,
}

/// A daemon that this test started, until it was waited for.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Daemon {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it is ready; false when it ended before.
    pub(crate) fn ready(&mut self) -> bool {
        let mut line = String::new();
        self.out.read_line(&mut line).is_ok() && line == "ready\n"
    }

    /// Kills it with SIGKILL; false when it had ended before by itself.
    pub(crate) fn kill(mut self) -> bool {
        let lived = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        self.child.wait().unwrap();
        lived
    }
}

impl World {
    pub(crate) fn new() -> World {
        let dir = tempfile::Builder::new().prefix("octo-world-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("ws");
        World::at(dir, root)
    }

    /// A world whose workspace lies elsewhere: on another file system.
    pub(crate) fn at(dir: tempfile::TempDir, root: PathBuf) -> World {
        for sub in [&root, &dir.path().join("home"), &dir.path().join("side")] {
            fs::create_dir_all(sub).unwrap();
        }
        World { dir, root, env: Vec::new(), octod: OCTOD.into(), daemon: None }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// The workspace folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A place outside of the workspace.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// Where commands leave a line each time that they run.
    pub(crate) fn side(&self, name: &str) -> PathBuf {
        self.beside("side").join(name)
    }

    pub(crate) fn octo_dir(&self) -> PathBuf {
        self.root.join(".octo")
    }

    pub(crate) fn tasks_dir(&self) -> PathBuf {
        self.octo_dir().join("tasks")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.octo_dir().join("octo.sock")
    }

    /// A command in a scrubbed environment, in the workspace folder.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.beside("home");
        command.env_clear().current_dir(&self.root).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LANG", "C.UTF-8");
        command.env("HOME", &home).env("XDG_DATA_HOME", home.join("data")).env("XDG_CONFIG_HOME", home.join("config"));
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs `octo --workspace ROOT WORDS...` to its end.
    pub(crate) fn octo(&self, words: &[&str]) -> Output {
        self.command(OCTO).arg("--workspace").arg(&self.root).args(words).output().unwrap()
    }

    /// The command line of a daemon in the foreground that says `ready`.
    pub(crate) fn daemon_words(&self) -> [&OsStr; 4] {
        [self.octod.as_os_str(), OsStr::new("--workspace"), self.root.as_os_str(), OsStr::new("--tell")]
    }

    /// Starts a daemon and does not wait for it.
    pub(crate) fn spawn_daemon(&self) -> Daemon {
        let [program, words @ ..] = self.daemon_words();
        let mut command = self.command(program);
        command.args(words);
        self.spawn_as_daemon(command)
    }

    /// Starts a command line that becomes a daemon.
    pub(crate) fn spawn_as_daemon(&self, mut command: Command) -> Daemon {
        let complaints = fs::File::options().create(true).append(true).open(self.beside("complaints")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(complaints).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Daemon { child, out }
    }

    /// Starts a daemon that stays until it is killed or the world ends.
    pub(crate) fn start(&mut self) -> i32 {
        let mut daemon = self.spawn_daemon();
        assert!(daemon.ready(), "the daemon did not get ready: {}", self.complaints());
        let pid = daemon.pid();
        self.daemon = Some(daemon);
        pid
    }

    /// Kills the daemon that [`World::start`] started.
    pub(crate) fn kill_daemon(&mut self) {
        let daemon = self.daemon.take().expect("a daemon was started");
        assert!(daemon.kill(), "the daemon had ended by itself: {}", self.complaints());
    }

    pub(crate) fn restart(&mut self) -> i32 {
        self.kill_daemon();
        self.start()
    }

    /// Starts a daemon after the one of [`World::start`] was killed from elsewhere.
    pub(crate) fn restart_after_kill(&mut self) -> i32 {
        self.daemon.take().expect("a daemon was started").kill();
        self.start()
    }

    /// What daemons said on standard error, and the end of their log.
    pub(crate) fn complaints(&self) -> String {
        let log = fs::read_to_string(self.octo_dir().join("octod.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("{}\n{}", fs::read_to_string(self.beside("complaints")).unwrap_or_default(), tail.join("\n"))
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        http::request(&self.socket(), method, path, body)
    }

    /// One request to a daemon that must answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "").unwrap_or_else(|e| panic!("{path}: {e}\n{}", self.complaints()));
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Starts a task in the workspace folder; its id.
    #[track_caller]
    pub(crate) fn bg(&self, command: &str) -> String {
        self.bg_with(json!({ "command": command }))
    }

    #[track_caller]
    pub(crate) fn bg_with(&self, request: Value) -> String {
        let answer = self.ask("POST", "/background-agents/start", &request.to_string()).unwrap();
        assert!(matches!(answer.status, 200 | 201), "{request}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()["instanceId"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn record(&self, id: &str) -> Value {
        self.get(&format!("/background-agents/{id}"))
    }

    pub(crate) fn status(&self, id: &str) -> String {
        self.record(id)["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn log(&self, id: &str) -> Vec<u8> {
        self.ask("GET", &format!("/background-agents/{id}/logs"), "").unwrap().body
    }

    #[track_caller]
    pub(crate) fn cancel(&self, id: &str) {
        let answer = self.ask("POST", &format!("/background-agents/{id}/stop"), "").unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Waits for a task's end; its record.
    #[track_caller]
    pub(crate) fn end_of(&self, id: &str) -> Value {
        wait_until("a task's end", || has_ended(&self.record(id)));
        self.record(id)
    }

    /// Every record, ended or not.
    pub(crate) fn records(&self) -> Vec<Value> {
        let listing = self.get("/background-agents?limit=0&hidden=true");
        let of = |name: &str| listing[name].as_array().cloned().unwrap_or_default();
        [of("active"), of("history")].concat()
    }

    /// Every notice, oldest first.
    pub(crate) fn notices(&self) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let page = self.get(&format!("/notices?after={cursor}"));
            all.extend(page["notices"].as_array().unwrap().clone());
            cursor = page["cursor"].as_u64().unwrap();
            if page["more"] != json!(true) {
                return all;
            }
        }
    }

    /// How often the command that owns this side file ran.
    pub(crate) fn runs(&self, name: &str) -> usize {
        fs::read_to_string(self.side(name)).map_or(0, |text| text.lines().count())
    }

    #[track_caller]
    pub(crate) fn wait_for_line(&self, name: &str) -> String {
        let path = self.side(name);
        wait_until(name, || fs::read_to_string(&path).is_ok_and(|t| t.ends_with('\n')));
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    /// Processes of tasks: shims, commands, and whatever they started.
    pub(crate) fn task_processes(&self) -> Vec<i32> {
        processes::with_variable("OCTO_WORKSPACE", self.root.as_os_str().as_bytes())
    }

    /// Whether a daemon takes connections.
    pub(crate) fn listens(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }

    pub(crate) fn daemons(&self) -> Vec<i32> {
        processes::daemons(&self.root)
    }

    /// Waits until no process of any task is left; what is left otherwise.
    pub(crate) fn left_over(&self) -> Vec<String> {
        holds_within(std::time::Duration::from_secs(15), || self.task_processes().is_empty());
        self.task_processes().into_iter().map(processes::describe).collect()
    }

    /// Waits until runs, temporary files and the trash are cleaned away; what is left otherwise.
    pub(crate) fn left_files(&self) -> Vec<String> {
        let names = |dir: PathBuf, keep: &dyn Fn(&str) -> bool| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| !keep(name)).collect()
        };
        let kept = |name: &str| !name.starts_with('.') && (name.ends_with(".json") || name.ends_with(".log"));
        let left = || [names(self.tasks_dir(), &kept), names(self.octo_dir().join("trash"), &|_| false)].concat();
        holds_within(std::time::Duration::from_secs(15), || left().is_empty());
        left()
    }

    /// Kills the daemons of this workspace, whoever started them; how many it found.
    pub(crate) fn kill_daemons(&self) -> usize {
        let daemons = self.daemons();
        for pid in &daemons {
            processes::signal_if(*pid, Signal::KILL, || processes::is_daemon(*pid, &self.root));
        }
        daemons.len()
    }

    /// Kills everything of this world: what a power cut does to processes.
    pub(crate) fn kill_all(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
        holds_within(std::time::Duration::from_secs(10), || {
            let daemons = self.kill_daemons();
            let tasks = self.task_processes();
            let root = self.root.as_os_str().as_bytes();
            for pid in &tasks {
                let still = || processes::has_variable(*pid, "OCTO_WORKSPACE", root);
                processes::signal_if(*pid, Signal::KILL, still);
            }
            daemons == 0 && tasks.is_empty()
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_all();
    }
}

pub(crate) fn has_ended(record: &Value) -> bool {
    !matches!(record["status"].as_str(), Some("dispatched" | "running" | "paused" | "resumed"))
}

/// Quotes a path for a shell.
pub(crate) fn quoted(path: &Path) -> String {
    shell_words::quote(path.to_str().unwrap()).into_owned()
}
