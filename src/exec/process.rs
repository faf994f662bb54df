//! Shell commands, each under its own shim.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::{Executor, LaunchError, Look, Report};
use crate::claude;
use crate::command::{Env, EnvValue};
use crate::run::{
    self, Claim, ClaimFact, Exit, ExitFact, Facts, Folded, LaunchSpec, LockFact, Nursery, RunDir, Spares,
};
use crate::store::{ReadError, Store};
use crate::supervisor::Pokes;
use crate::supervisor::core::Input;
use crate::task::{Kind, RESULT_MAX, Task, TaskId};
use crate::watch::Watcher;

/// What the executor needs to know of its surroundings; nothing is read from the environment here.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The workspace folder.
    pub workspace: PathBuf,
    /// `.octo/` in it.
    pub octo: PathBuf,
    /// The `octo-shim` program.
    pub shim: PathBuf,
    /// Bytes of output after which a task is stopped.
    pub log_quota: u64,
    /// The daemon's own environment: what tasks get that came without one.
    pub base_env: Vec<(OsString, OsString)>,
    /// Settings that tasks see as variables: (name, value).
    pub exported: Vec<(String, String)>,
    /// The soft limit of open files that commands get; `None`: the daemon's.
    pub open_files: Option<u64>,
    /// Variables that never reach a task.
    pub secrets: Vec<String>,
}

impl Surroundings {
    /// The whole environment of what a task runs; `given` is the one that the task came with, if it did with any.
    #[must_use]
    pub fn environment(&self, task: &Task, given: Option<Env>) -> Vec<(OsString, OsString)> {
        let mut env: HashMap<OsString, OsString> = match given {
            None => self.base_env.iter().cloned().collect(),
            Some(given) => given.into_iter().map(|(k, v)| (OsString::from(k), os_value(v))).collect(),
        };
        for (name, value) in &self.exported {
            env.entry(name.into()).or_insert_with(|| value.into());
        }
        env.extend(task.env_overrides.iter().map(|(k, v)| (k.into(), v.into())));
        for secret in &self.secrets {
            env.remove(OsStr::new(secret));
        }
        let bin = self.octo.join("bin");
        let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        env.insert("PATH".into(), prepend(&bin, &path));
        // That of a task which started this one is not this one's.
        env.remove(OsStr::new(claude::BUDGET));
        if let Some(usd) = claude_budget(task) {
            env.insert(claude::BUDGET.into(), usd.to_string().into());
        }
        env.insert("OCTO_TASK_ID".into(), task.id.as_str().into());
        env.insert("OCTO_RUN".into(), task.run.to_string().into());
        env.insert("OCTO_WORKSPACE".into(), self.workspace.clone().into());
        env.into_iter().collect()
    }
}

/// What each `claude` of a process may cost, in US dollars. A further run has the whole budget again.
fn claude_budget(task: &Task) -> Option<f64> {
    let budget = &task.budget;
    budget.original.map_or(budget.usd, |original| original.usd).filter(|_| task.kind == Kind::Process)
}

/// A run whose claim makes sense.
#[derive(Debug, Clone, Copy)]
struct Sound {
    run: u32,
    /// So does its end.
    ended: bool,
}

/// Launches and looks at shims.
#[derive(Debug)]
pub struct ProcessExecutor {
    around: Surroundings,
    tasks: PathBuf,
    store: Arc<Store>,
    watcher: Watcher,
    nursery: Nursery,
    spares: Spares,
    pokes: Pokes,
    /// The environment that was read last, by its digest: tasks of one batch share it.
    env: Mutex<(String, Env)>,
    /// Runs whose claims this daemon read and understood.
    sound: HashMap<TaskId, Sound>,
}

impl ProcessExecutor {
    /// An executor for one workspace. It starts the process that forks shims.
    #[must_use]
    pub fn new(around: Surroundings, store: Arc<Store>, watcher: Watcher, pokes: Pokes) -> Self {
        let tasks = around.octo.join("tasks");
        let nursery = Nursery::start(&around.shim);
        ProcessExecutor {
            around,
            tasks,
            store,
            watcher,
            nursery,
            spares: Spares::default(),
            pokes,
            env: Mutex::default(),
            sound: HashMap::new(),
        }
    }

    fn dir(&self, id: TaskId, run: u32) -> RunDir {
        RunDir::new(&self.tasks, id, run)
    }

    /// The whole environment of a task's command.
    fn environment(&self, task: &Task) -> Result<Vec<(OsString, OsString)>, LaunchError> {
        if task.env.is_empty() {
            return Ok(self.around.environment(task, None));
        }
        let stored = self.stored_env(&task.env).map_err(|error| LaunchError {
            why: format!("the environment that task {} was given cannot be read: {error}", task.id),
            passing: false,
        })?;
        Ok(self.around.environment(task, Some(stored)))
    }

    fn stored_env(&self, digest: &str) -> Result<Env, ReadError> {
        let mut last = self.env.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != digest {
            *last = (digest.to_owned(), self.store.env(digest)?);
        }
        Ok(last.1.clone())
    }

    fn report(&self, task: &Task, facts: &Facts) -> Report {
        let over = match &facts.exit {
            ExitFact::Ended(_) => true,
            ExitFact::None | ExitFact::Unreadable => facts.lock == LockFact::Free,
        };
        if !over || !facts.folder {
            return Report::default();
        }
        let log = self.dir(task.id, task.run).log_path();
        match &facts.exit {
            ExitFact::Ended(exit) if exit.error.is_none() && exit.reason.is_none() => {
                self.claude_report(task, exit, &log).unwrap_or_else(|| match exit.log_bytes {
                    0 => Report::default(),
                    _ => plain_report(task, &log),
                })
            }
            _ => plain_report(task, &log),
        }
    }

    /// What claude itself said, when the whole command is one claude whose JSON is the log.
    fn claude_report(&self, task: &Task, exit: &Exit, log: &Path) -> Option<Report> {
        // Most commands have no claude in them: nothing more is read for those.
        if !task.command.contains("claude") {
            return None;
        }
        let command = claude::is_single_claude_with(&task.command, &self.claude_args(task))?;
        if !command.json {
            let report = plain_report(task, log);
            let failed = claude_budget(task).and_then(|_| claude::over_budget_in_words(exit.code, &report.result))?;
            return Some(Report { failed: Some(failed), over_budget: true, ..report });
        }
        match claude::read_result(log) {
            Ok(found) => {
                let judged = claude::judge(&command, exit.code, &found);
                Some(Report {
                    result: clip(judged.result),
                    failed: judged.failed,
                    over_budget: judged.over_budget,
                    usage: Some(judged.usage),
                    session_id: judged.session_id,
                })
            }
            Err(error) => {
                tracing::warn!(id = %task.id, %error, "could not read what claude reported");
                None
            }
        }
    }

    /// The words that the wrapper added in this task.
    fn claude_args(&self, task: &Task) -> String {
        let env = self.environment(task).unwrap_or_default();
        let found = env.into_iter().find(|(name, _)| name == "ADDITIONAL_CLAUDE_ARGS");
        found.map(|(_, value)| value.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// A claim or exit record that makes no sense is kept for whoever wants to know why; its task has ended.
    fn set_aside(&self, id: TaskId, run: u32, dir: &RunDir) {
        let Ok(facts) = dir.facts() else { return };
        let claim = (facts.claim == ClaimFact::Unreadable).then_some("claim.json");
        let exit = (facts.exit == ExitFact::Unreadable).then_some("exit.json");
        if facts.lock == LockFact::Free {
            // An empty one is what a power cut leaves of a file that nobody needed synced: there is nothing to keep.
            let says = |name: &&str| std::fs::metadata(dir.path().join(name)).is_ok_and(|m| m.len() > 0);
            for name in claim.into_iter().chain(exit).filter(says) {
                let problem = self.store.quarantine(&format!("{id}/run-{run}/{name}"), "it makes no sense");
                tracing::warn!(%id, run, %problem, "a run left a file that cannot be read");
            }
        }
    }

    fn signal(&self, id: TaskId, run: u32, claim: &Claim, signal: Signal) {
        match self.dir(id, run).signal_shim(claim, signal) {
            Ok(true) => {}
            Ok(false) => self.pokes.send(Input::Poke { id }),
            Err(error) => tracing::warn!(%id, run, ?signal, %error, "could not signal a shim; it is tried again"),
        }
    }
}

impl Executor for ProcessExecutor {
    fn look(&mut self, task: &Task) -> io::Result<Look> {
        let dir = self.dir(task.id, task.run);
        let facts = match dir.exit()? {
            exit @ ExitFact::Ended(_) => Facts { folder: true, lock: LockFact::Held, claim: ClaimFact::None, exit },
            ExitFact::None | ExitFact::Unreadable => dir.facts()?,
        };
        if !facts.folder {
            // No folder means something only while all folders are where they were: one that was moved or
            // deleted with everything else says nothing about its run, which goes on.
            self.store.in_place().map_err(|gone| io::Error::other(gone.message))?;
        }
        let report = self.report(task, &facts);
        if matches!(facts.claim, ClaimFact::Real(_)) {
            self.sound.insert(task.id, Sound { run: task.run, ended: false });
        }
        if let Some(sound) = self.sound.get_mut(&task.id).filter(|sound| sound.run == task.run) {
            sound.ended = matches!(facts.exit, ExitFact::Ended(_));
        }
        Ok(Look { facts, report })
    }

    fn launch(&mut self, task: &Task) -> Result<(), LaunchError> {
        let spec = LaunchSpec {
            shim: self.around.shim.clone(),
            // The second `--` is the shell's: a command line may begin with a dash.
            argv: vec!["/bin/sh".into(), "-c".into(), "--".into(), task.command.clone().into()],
            cwd: if task.cwd.is_empty() { self.around.workspace.clone() } else { task.cwd.clone().into() },
            env: self.environment(task)?,
            leave_children: task.leave_children,
            log_quota: self.around.log_quota,
            open_files: self.around.open_files,
        };
        let dir = self.dir(task.id, task.run);
        let launched = dir.launch_in(&mut self.nursery, &mut self.spares, &spec).map_err(|error| {
            let mut error = launch_error(&error);
            error.passing |= self.store.in_place().is_err();
            error
        })?;
        if let Err(error) = self.watcher.launched(dir, launched) {
            tracing::warn!(id = %task.id, %error, "a run is not watched; the sweep will find its end");
        }
        Ok(())
    }

    fn void(&mut self, id: TaskId, run: u32) -> io::Result<bool> {
        if self.watcher.is_silent(id, NURSERY_PATIENCE) {
            tracing::warn!(%id, run, "the nursery of shims does not work; it is replaced");
            self.nursery.give_up();
        }
        self.dir(id, run).void()
    }

    fn adopt(&mut self, id: TaskId, run: u32, claim: &Claim) {
        if let Err(error) = self.watcher.adopted(id, claim) {
            tracing::warn!(%id, run, %error, "an adopted run is not watched; the sweep will find its end");
        }
    }

    fn stop(&mut self, id: TaskId, run: u32, claim: &Claim) {
        self.signal(id, run, claim, Signal::TERM);
    }

    /// It has none: see [`super::Executors`].
    fn stop_agent(&mut self, _: TaskId, _: u32) {}

    fn kill(&mut self, id: TaskId, run: u32, claim: &Claim) {
        self.signal(id, run, claim, Signal::CONT);
        self.signal(id, run, claim, Signal::KILL);
    }

    fn end_left(&mut self, id: TaskId, run: u32, claim: Option<Claim>) {
        let dir = self.dir(id, run);
        let workspace = self.around.workspace.clone();
        let pokes = self.pokes.clone();
        let job = move || {
            if let Err(error) = dir.end_what_is_left(claim.as_ref(), &workspace) {
                tracing::warn!(%id, run, %error, "could not end everything that a dead run left behind");
            }
            let result = tail(&dir.log_path(), RESULT_MAX).unwrap_or_default();
            let report = Report { result: to_text(&result), ..Report::default() };
            pokes.send(Input::LeftEnded { id, run, report });
        };
        // Without a thread it is done here: late is better than never.
        if let Err((error, job)) = spawn("end-left", job) {
            tracing::warn!(%error, "no thread for a clean-up; doing it in place");
            job();
        }
    }

    fn tell_saved(&mut self, id: TaskId) {
        self.watcher.tell_saved(id);
    }

    fn wants_folders(&self) -> bool {
        self.spares.want_more()
    }

    fn fold(&mut self, task: &Task) -> io::Result<bool> {
        let sound = self.sound.remove(&task.id).filter(|sound| sound.ended).map(|sound| sound.run);
        // Nearly always there is just this one, which is found without a listing.
        let mut runs = vec![task.run];
        while !runs.is_empty() {
            for run in runs {
                let dir = self.dir(task.id, run);
                if sound != Some(run) {
                    self.set_aside(task.id, run, &dir);
                }
                let keep = log_differs(&dir.log_path(), if run == task.run { &task.result } else { "" })?;
                if !keep && let Some(folded) = dir.fold_into(&mut self.spares)? {
                    return Ok(folded == Folded::Done);
                }
                if matches!(dir.fold(keep)?, Folded::StillHeld) {
                    return Ok(false);
                }
            }
            // A task that never had a run still has the folder that its acceptance made.
            match std::fs::remove_dir(self.tasks.join(task.id.as_str())) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(error),
            }
            runs = run::run_folders(&self.tasks, task.id)?;
        }
        let what = format!("tasks/{} holds something that is no run", task.id);
        Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, what))
    }

    fn preserve(&mut self, task: &Task) -> io::Result<()> {
        let log = self.tasks.join(format!("{}.run-{}.log", task.id, task.run));
        if task.result.is_empty() || log.exists() || self.dir(task.id, task.run).path().exists() {
            return Ok(());
        }
        let temp = self.tasks.join(format!(".{}.{}.log.tmp", task.id, std::process::id()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(task.result.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temp, &log)?;
        File::open(&self.tasks)?.sync_all()
    }

    fn remove_files(&mut self, id: TaskId) -> io::Result<bool> {
        Ok(matches!(run::remove_task_files(&self.tasks, id)?, Folded::Done))
    }
}

/// Why there was no thread, and the job, to be done in place.
type NotSpawned = (io::Error, Box<dyn FnOnce() + Send>);

/// How long a shim that a nursery was asked for may say nothing before a void claim is also the nursery's fault.
const NURSERY_PATIENCE: Duration = Duration::from_secs(5);

/// Runs a job on a thread of its own; gives it back when there is none to be had.
fn spawn<F: FnOnce() + Send + 'static>(name: &str, job: F) -> Result<(), NotSpawned> {
    let slot = Arc::new(std::sync::Mutex::new(Some(job)));
    let take =
        |slot: &std::sync::Mutex<Option<F>>| slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let inner = Arc::clone(&slot);
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(job) = take(&inner) {
            job();
        }
    });
    match spawned {
        Ok(_) => Ok(()),
        Err(error) => Err((
            error,
            Box::new(move || {
                if let Some(job) = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
                    job();
                }
            }),
        )),
    }
}

fn os_value(value: EnvValue) -> OsString {
    match value {
        EnvValue::Text(text) => text.into(),
        EnvValue::Bytes(bytes) => OsString::from_vec(bytes),
    }
}

fn prepend(bin: &Path, path: &OsStr) -> OsString {
    let mut joined = bin.as_os_str().to_owned();
    // An inherited PATH that begins with this folder (a task that starts a task) is not lengthened again.
    if path.as_bytes().split(|b| *b == b':').next() == Some(bin.as_os_str().as_bytes()) {
        return path.to_owned();
    }
    joined.push(":");
    joined.push(path);
    joined
}

/// Shortages pass; everything else counts against the task.
fn launch_error(error: &io::Error) -> LaunchError {
    use nix::libc;
    let passing = matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::ENOMEM
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOSPC
                | libc::EDQUOT
                | libc::EIO
                | libc::EINTR
        )
    );
    LaunchError { why: error.to_string(), passing }
}

fn plain_report(task: &Task, log: &Path) -> Report {
    let bytes = tail(log, RESULT_MAX).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(id = %task.id, %error, "could not read the end of the output");
        }
        Vec::new()
    });
    Report { result: to_text(&bytes), ..Report::default() }
}

/// The last bytes of a file, at most `max`; cut at a line's start where that keeps at least half.
fn tail(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let from = size.saturating_sub(max as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::with_capacity(usize::try_from(size - from).unwrap_or(max));
    file.take(max as u64).read_to_end(&mut bytes)?;
    if from > 0
        && let Some(cut) = bytes.iter().position(|b| *b == b'\n').filter(|at| *at < bytes.len() / 2)
    {
        bytes.drain(..=cut);
    }
    Ok(bytes)
}

/// Text of at most [`RESULT_MAX`] bytes; what is no UTF-8 is replaced.
fn to_text(bytes: &[u8]) -> String {
    clip(String::from_utf8_lossy(bytes).into_owned())
}

fn clip(mut text: String) -> String {
    if text.len() > RESULT_MAX {
        let from = (text.len() - RESULT_MAX..).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
        text.drain(..from);
    }
    text
}

/// Whether the record's `result` does not hold the whole log byte for byte, so that the log must be kept.
fn log_differs(log: &Path, result: &str) -> io::Result<bool> {
    let size = match std::fs::symlink_metadata(log) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if size != result.len() as u64 {
        return Ok(true);
    }
    if size == 0 {
        return Ok(false);
    }
    Ok(std::fs::read(log)? != result.as_bytes())
}
