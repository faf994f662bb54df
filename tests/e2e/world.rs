//! A workspace, a mock and the environment in which `claude` is the real one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mock::Mock;

pub(crate) struct World {
    dir: tempfile::TempDir,
    paths: BTreeMap<String, String>,
    pub(crate) mock: Mock,
}

impl World {
    pub(crate) fn new() -> Self {
        let paths = installed();
        let fixtures = sources().join("fixtures");
        let mock = Mock::start(&paths["OCTO_E2E_NODE"], &paths["OCTO_E2E_AIMOCK"], &fixtures);
        let dir = tempfile::tempdir().unwrap();
        for folder in ["work", "home", "claude-home"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        World { dir, paths, mock }
    }

    /// What `setup.sh` installed under this name.
    pub(crate) fn program(&self, name: &str) -> &str {
        &self.paths[name]
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A command in the workspace; `first` are the folders that stand first in its PATH.
    pub(crate) fn command(&self, program: &str, first: &[PathBuf]) -> Command {
        let octo = Path::new(env!("CARGO_BIN_EXE_octo")).parent().unwrap().to_owned();
        let own = first.iter().cloned().chain([sources().join("bin"), octo]);
        let inherited = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        let path = std::env::join_paths(own.chain(std::env::split_paths(&inherited))).unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(self.work())
            .env_clear()
            .envs(["LANG", "TMPDIR", "USER", "LOGNAME"].into_iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
            .env("PATH", path)
            .env("HOME", self.dir.path().join("home"))
            .env("TERM", "xterm")
            .env("OCTO_E2E_CLAUDE", &self.paths["OCTO_E2E_CLAUDE"])
            .env("OCTO_E2E_HOME", self.dir.path().join("claude-home"))
            .env("OCTO_E2E_API", self.mock.url());
        command
    }

    /// The path of a program that `setup.sh` installed.
    pub(crate) fn installed(&self, name: &str) -> &str {
        &self.paths[name]
    }

    /// Runs `octo` to its end.
    pub(crate) fn octo(&self, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_octo"), &[]).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs `octo ... --json`; `None` unless it succeeds.
    pub(crate) fn octo_json(&self, args: &[&str]) -> Option<Value> {
        let output = self.octo(&[args, &["--json"]].concat());
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("--json prints JSON"))
    }
}

/// Waits until `probe` finds what it looks for; fails the test after a minute.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for a minute, but: {what}");
        // Other processes are asked again and again; there is nothing to be woken by.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e")
}

/// The paths that `setup.sh` left; fails the test with what to do when there are none.
fn installed() -> BTreeMap<String, String> {
    let cache = std::env::var_os("OCTO_E2E_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let user = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        user.unwrap_or_else(home).join("octo-e2e")
    });
    let file = cache.join("env");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("the end-to-end programs are not installed ({}: {error}); run tests/e2e/setup.sh", file.display())
    });
    let words = shell_words::split(&text).expect("the file of paths is shell text");
    let paths: BTreeMap<_, _> =
        words.iter().filter_map(|w| w.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for name in ["OCTO_E2E_CLAUDE", "OCTO_E2E_NODE", "OCTO_E2E_AIMOCK", "OCTO_E2E_BOTAPI", "OCTO_E2E_INSPECTOR"] {
        let found = paths.get(name).is_some_and(|path| Path::new(path).exists());
        assert!(found, "{name} of {} names no file; run tests/e2e/setup.sh again", file.display());
    }
    paths
}
