//! A hermetic world for shims: a temporary `.octo/tasks`, the real `octo-shim`, and ways to wait.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use octo::run::{Claim, ClaimFact, Exit, ExitFact, Facts, LaunchSpec, Launched, LockFact, RunDir, Signal};
use octo::task::TaskId;

/// Long enough for a loaded machine; nothing here waits for time to pass.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) id: TaskId,
}

impl World {
    pub(crate) fn new() -> World {
        Self::at(tempfile::tempdir().unwrap())
    }

    pub(crate) fn at(root: tempfile::TempDir) -> World {
        fs::create_dir_all(root.path().join(".octo/tasks")).unwrap();
        World { root, id: TaskId::random().1 }
    }

    pub(crate) fn octo(&self) -> PathBuf {
        self.root.path().join(".octo")
    }

    pub(crate) fn tasks(&self) -> PathBuf {
        self.octo().join("tasks")
    }

    pub(crate) fn run(&self, run: u32) -> RunDir {
        RunDir::new(&self.tasks(), self.id, run)
    }

    /// What a daemon would hand over for `sh -c command`.
    pub(crate) fn spec(&self, run: u32, command: &str) -> LaunchSpec {
        let env = [
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("OCTO_TASK_ID", self.id.as_str().into()),
            ("OCTO_RUN", run.to_string().into()),
            ("OCTO_WORKSPACE", self.root.path().into()),
        ];
        LaunchSpec {
            shim: env!("CARGO_BIN_EXE_octo-shim").into(),
            argv: ["sh", "-c", command].map(OsString::from).to_vec(),
            cwd: self.root.path().into(),
            env: env.map(|(k, v)| (OsString::from(k), v)).to_vec(),
            leave_children: false,
            log_quota: 1 << 30,
            open_files: None,
        }
    }

    pub(crate) fn launch(&self, command: &str) -> Shim {
        self.launch_spec(1, &self.spec(1, command))
    }

    /// Launches with the shim stopping itself at `point`.
    pub(crate) fn launch_held(&self, point: &str, command: &str) -> Shim {
        let mut spec = self.spec(1, command);
        spec.env.push(("OCTO_SHIM_HOLD".into(), point.into()));
        let shim = self.launch_spec(1, &spec);
        wait_for("the shim to hold", || stopped(shim.pid()));
        shim
    }

    pub(crate) fn launch_spec(&self, run: u32, spec: &LaunchSpec) -> Shim {
        let dir = self.run(run);
        let mut launched = dir.launch(spec).unwrap();
        let child = launched.child.take().unwrap();
        Shim { dir, launched, child, workspace: self.root.path().into() }
    }

    /// The processes that carry this world's task in their environment, the shim itself included.
    pub(crate) fn marked(&self) -> Vec<i32> {
        marked(self.root.path())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn wait_for_file(&self, name: &str) -> String {
        let path = self.path(name);
        wait_for(name, || fs::read_to_string(&path).is_ok_and(|t| t.ends_with('\n')));
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    }
}

/// A run under a shim; whatever is left of it is killed when a test ends, well or not.
pub(crate) struct Shim {
    pub(crate) dir: RunDir,
    pub(crate) launched: Launched,
    pub(crate) child: Child,
    workspace: PathBuf,
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.dir.end_what_is_left(None, &self.workspace);
    }
}

impl Shim {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn facts(&self) -> Facts {
        self.dir.facts().unwrap()
    }

    pub(crate) fn claim(&self) -> Claim {
        wait_for("the claim", || self.facts().claim != ClaimFact::None);
        let ClaimFact::Real(claim) = self.facts().claim else { panic!("{:?}", self.facts()) };
        claim
    }

    /// Waits until the shim has exited, and reads how the run ended.
    pub(crate) fn end(&mut self) -> Exit {
        wait_exit(&mut self.child);
        // Another test's spawn may hold a copy for a moment, in a child that was forked and not yet executed.
        wait_for("the lock to fall", || self.facts().lock == LockFact::Free);
        match self.facts().exit {
            ExitFact::Ended(exit) => exit,
            other => panic!("the shim exited with {other:?}"),
        }
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        wait_exit(&mut self.child)
    }

    pub(crate) fn stop(&self) {
        let claim = self.claim();
        assert!(self.dir.signal_shim(&claim, Signal::TERM).unwrap());
    }

    /// Sends a signal to the shim without asking the claim.
    pub(crate) fn send(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.log_path()).unwrap()
    }

    /// All that came through the poke pipe by the time the shim had exited.
    pub(crate) fn pokes(&mut self) -> String {
        wait_exit(&mut self.child);
        let mut text = String::new();
        let mut pipe = fs::File::from(self.launched.pokes.try_clone().unwrap());
        wait_for("the end of the pokes", || pipe.read_to_string(&mut text).is_ok());
        text
    }
}

pub(crate) fn wait_exit(child: &mut Child) -> Option<i32> {
    wait_for("the shim's exit", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

#[allow(clippy::disallowed_methods)] // the pause between two looks at a condition
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {LONG:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

pub(crate) fn stopped(pid: i32) -> bool {
    matches!(state(pid), Some('T' | 't'))
}

pub(crate) fn alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Processes whose environment names `workspace`.
pub(crate) fn marked(workspace: &Path) -> Vec<i32> {
    let mark = format!("OCTO_WORKSPACE={}", workspace.display()).into_bytes();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    let carries =
        |pid: &i32| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| env.split(|b| *b == 0).any(|e| e == mark));
    pids.filter(carries).collect()
}
