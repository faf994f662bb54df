//! A workspace of its own, its daemon, and what runs in it; gone afterwards, whatever happened.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) const OCTO: &str = env!("CARGO_BIN_EXE_octo");
/// Where everything happens: beside the build, so on a disk and not in memory.
const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// How long anything may take before the bench gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that goes away.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Result<Place> {
        let path = Path::new(PLACE).join(format!("{name}.{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Place(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A workspace and its daemon.
pub(crate) struct World {
    place: Place,
    slots: usize,
    settings: Vec<(&'static str, String)>,
}

impl World {
    /// A workspace without a daemon.
    pub(crate) fn empty(name: &str, slots: usize) -> Result<World> {
        let world = World { place: Place::new(name)?, slots, settings: Vec::new() };
        fs::create_dir_all(world.root())?;
        Ok(world)
    }

    /// A workspace with a daemon that is ready.
    pub(crate) fn new(name: &str, slots: usize) -> Result<World> {
        let world = World::empty(name, slots)?;
        world.start()?;
        Ok(world)
    }

    /// A setting of the daemon that is started next.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.push((name, value.to_owned()));
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.place.path().join("w")
    }

    pub(crate) fn octo_dir(&self) -> PathBuf {
        self.root().join(".octo")
    }

    pub(crate) fn tasks(&self) -> PathBuf {
        self.octo_dir().join("tasks")
    }

    /// A file for this world's own use, outside of the workspace.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// `octo` in this workspace. Its own settings and home come from nowhere else.
    pub(crate) fn octo(&self, words: &[&str]) -> Command {
        let mut command = Command::new(OCTO);
        command.args(words).current_dir(self.root()).stdin(Stdio::null()).stdout(Stdio::null());
        for name in ["OCTO_TASK_ID", "OCTO_RUN", "OCTO_WORKSPACE", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.place.path()).env("BG_MAX_CONCURRENT", self.slots.to_string());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `octo` and returns what it printed.
    pub(crate) fn says(&self, words: &[&str]) -> Result<String> {
        let output = self.octo(words).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        if !output.status.success() {
            bail!("octo {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs `octo` and returns how long it took.
    pub(crate) fn time(&self, words: &[&str]) -> Result<Duration> {
        let mut command = self.octo(words);
        let began = Instant::now();
        let status = command.status()?;
        let took = began.elapsed();
        if !status.success() {
            bail!("octo {} ended with {status}", words.join(" "));
        }
        Ok(took)
    }

    /// Starts the daemon; returns how long it took to be ready.
    pub(crate) fn start(&self) -> Result<Duration> {
        self.time(&["daemon", "--detach"])
    }

    pub(crate) fn daemon(&self) -> Result<i32> {
        let text = self.get("/status")?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let pid = status["pid"].as_i64().with_context(|| format!("no pid in {status}"))?;
        Ok(i32::try_from(pid)?)
    }

    /// One small GET over the socket, cheaper than a start of `octo`.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        // The socket's path may be too long for the kernel: this one is short.
        let dir = fs::File::open(self.octo_dir())?;
        let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/octo.sock", dir.as_raw_fd()))?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: octo\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        if !head.starts_with("HTTP/1.0 200") {
            bail!("{path}: {head}");
        }
        Ok(body.to_owned())
    }

    /// One small POST over the socket; something must be made by it.
    pub(crate) fn post(&self, path: &str, body: &str) -> Result<()> {
        let dir = fs::File::open(self.octo_dir())?;
        let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/octo.sock", dir.as_raw_fd()))?;
        write!(stream, "POST {path} HTTP/1.0\r\nhost: octo\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let head = answer.lines().next().context("no HTTP answer")?;
        if !head.contains(" 201 ") {
            bail!("{path} was refused: {answer}");
        }
        Ok(())
    }

    /// How many tasks have completed.
    pub(crate) fn completed(&self) -> Result<usize> {
        self.count("completed")
    }

    /// How many tasks are in a state, by the daemon's counters: a list would hold every queued task.
    pub(crate) fn count(&self, status: &str) -> Result<usize> {
        let metrics = self.get("/metrics")?;
        let name = format!("octo_tasks{{status=\"{status}\"}} ");
        let line = metrics.lines().find_map(|l| l.strip_prefix(&name));
        line.map_or(Ok(0), |n| Ok(n.parse()?))
    }

    /// Waits until no task has anything left to do: every task's folder is folded away.
    pub(crate) fn settle(&self) -> Result<()> {
        self.until("the tasks to be folded away", || {
            let busy = fs::read_dir(self.tasks())?.flatten().any(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            Ok(!busy)
        })
    }

    /// Waits for a condition.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !holds()? {
            if began.elapsed() > PATIENCE {
                bail!("waited too long for {what}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.octo_dir().exists() {
            let _ = self.octo(&["stop", "--kill-tasks"]).stderr(Stdio::null()).status();
        }
    }
}
