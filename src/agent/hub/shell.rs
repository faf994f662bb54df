//! Commands of agents: each under a shim of its own, so that its true end is found again, whoever dies meanwhile.
//!
//! A call has a folder, `tasks/<id>/calls/<ordinal>/`, and in it runs as tasks have them, with the same facts and
//! the same verdict ([`crate::run`]): one, or, after a launch of which it is certain that its command never ran, the
//! next. What the facts cannot tell after a power cut, because nothing of a launch is synced, the task's `boot` file
//! tells: it is synced before the first launch of a boot. A call that was begun and has no end in a boot before this
//! one may have run.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::blocking;
use crate::run::dir::{CALLS, sync_dir};
use crate::run::{
    Claim, ClaimFact, Exit, ExitReason, LaunchSpec, LockFact, RunDir, Signal, Verdict, boot_id, proc_start, verdict,
};
use crate::task::{Status, TaskId};

/// How long a command may take when nothing is said.
pub(super) const LIMIT: Duration = Duration::from_secs(600);

/// The most of a command's output that a model gets, in bytes.
const SHOWN: usize = super::super::tools::RESULT_MAX - 1024;

/// How often a launch is tried whose command never ran.
const LAUNCHES: u32 = 3;

/// How long a shim may take to end its command after it was told to.
const OBEDIENCE: Duration = Duration::from_secs(20);

/// How long nothing is looked at that tells of its changes by itself.
const SLOW: Duration = Duration::from_secs(5);

/// How long until a shim is looked at that cannot tell.
const SOON: Duration = Duration::from_millis(50);

/// The file that names the boot in which a task's agent launched commands last.
const BOOT: &str = "boot";

/// A command of an agent.
#[derive(Debug, Clone)]
pub(super) struct Command<'a> {
    /// `.octo/tasks/`.
    pub tasks: &'a Path,
    /// The workspace.
    pub workspace: &'a Path,
    /// The task.
    pub id: TaskId,
    /// Its run.
    pub run: u32,
    /// The name of the call's folder.
    pub call: String,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It ended.
    Ended {
        /// How.
        exit: Exit,
        /// Its output.
        log: PathBuf,
    },
    /// It was cut off: its shim was killed. What it did by then is not known.
    CutOff {
        /// Its output.
        log: PathBuf,
    },
    /// The machine went down; whether it ran is not known.
    Unknown,
    /// It never ran.
    NotRun(String),
}

impl Command<'_> {
    fn folder(&self) -> PathBuf {
        self.tasks.join(self.id.as_str()).join(CALLS).join(&self.call)
    }

    fn dir(&self, nth: u32) -> RunDir {
        RunDir::of_call(self.tasks, self.id, self.run, &self.call, nth)
    }

    /// Runs the command if it has not been, and waits for its end; after `limit` it is stopped. `is_new` tells that
    /// the call was begun just now.
    ///
    /// Dropping this leaves the command to its shim.
    ///
    /// # Errors
    /// When the facts cannot be read, or no shim can be started, for want of something that may be there later.
    pub(super) async fn end(&self, spec: &LaunchSpec, limit: Duration, is_new: bool) -> io::Result<End> {
        let deadline = Instant::now() + limit;
        let may_have_run = !is_new && Boot::read(&self.tasks.join(self.id.as_str()))? == Boot::Earlier;
        let mut nth = newest(&self.folder())?;
        if nth == 0 {
            if may_have_run {
                return Ok(End::Unknown);
            }
            nth = 1;
        }
        let mut pokes = None;
        let mut since = Instant::now();
        let mut told_to_stop = None;
        loop {
            let dir = self.dir(nth);
            let facts = blocking(|| dir.facts())?;
            match verdict(Status::Dispatched, told_to_stop.is_some(), &facts, since.elapsed()) {
                Verdict::Ended(exit) => return Ok(End::Ended { exit, log: dir.log_path() }),
                Verdict::NotSpawned => {
                    pokes = Some(blocking(|| self.launch(&dir, spec))?);
                    since = Instant::now();
                }
                Verdict::Starting => wait(&mut pokes, SOON).await,
                Verdict::VoidFirst if may_have_run => return Ok(End::Unknown),
                Verdict::VoidFirst => {
                    blocking(|| dir.void())?;
                }
                Verdict::NeverStarted if nth >= LAUNCHES || told_to_stop.is_some() => {
                    return Ok(End::NotRun("its shim could not be started".to_owned()));
                }
                Verdict::NeverStarted => nth += 1,
                Verdict::CutOff(claim) => {
                    blocking(|| dir.end_what_is_left(claim.as_ref(), self.workspace))?;
                    return Ok(End::CutOff { log: dir.log_path() });
                }
                Verdict::Running(claim) => {
                    let due = told_to_stop.unwrap_or(deadline);
                    if Instant::now() >= due {
                        let signal = if told_to_stop.is_some() { Signal::KILL } else { Signal::TERM };
                        self.signal(&dir, claim.as_ref(), signal)?;
                        told_to_stop = Some(Instant::now() + OBEDIENCE);
                        continue;
                    }
                    let left = due.saturating_duration_since(Instant::now());
                    match claim {
                        _ if pokes.is_some() => wait(&mut pokes, left).await,
                        Some(claim) => gone(&claim, left).await?,
                        None => tokio::time::sleep(left.min(SLOW)).await,
                    }
                }
            }
        }
    }

    fn signal(&self, dir: &RunDir, claim: Option<&Claim>, signal: Signal) -> io::Result<()> {
        let Some(claim) = claim else { return Ok(()) };
        if signal == Signal::KILL {
            dir.signal_shim(claim, Signal::CONT)?;
        }
        dir.signal_shim(claim, signal).map(|_| ())
    }

    fn launch(&self, dir: &RunDir, spec: &LaunchSpec) -> io::Result<AsyncFd<OwnedFd>> {
        let task = self.tasks.join(self.id.as_str());
        Boot::note(&task)?;
        let mut folders = DirBuilder::new();
        folders.mode(0o700).recursive(true).create(self.folder())?;
        let launched = dir.launch(spec)?;
        if let Some(child) = launched.child {
            tokio::spawn(reap(child));
        }
        register(launched.pokes)
    }
}

/// Ends all commands of an agent that still run, and returns when none is left.
///
/// # Errors
/// When that cannot be found out.
pub(super) async fn end_all(tasks: &Path, workspace: &Path, id: TaskId, run: u32) -> io::Result<()> {
    let calls = tasks.join(id.as_str()).join(CALLS);
    for call in names(&calls)? {
        let command = Command { tasks, workspace, id, run, call };
        let nth = newest(&command.folder())?;
        if nth > 0 {
            stop(&command.dir(nth)).await?;
        }
    }
    let any = RunDir::of_call(tasks, id, run, "all", 1);
    blocking(|| any.end_what_is_left(None, workspace)).map(|_| ())
}

/// Stops one run, if it is under way.
async fn stop(dir: &RunDir) -> io::Result<()> {
    let mut told: Option<Instant> = None;
    loop {
        let facts = blocking(|| dir.facts())?;
        if facts.lock == LockFact::Free {
            return Ok(());
        }
        match facts.claim {
            ClaimFact::None if matches!(facts.exit, crate::run::ExitFact::None) => {
                // Whoever loses this is claimed now, and read so the next time.
                blocking(|| dir.void())?;
            }
            ClaimFact::Real(claim) => {
                let signal = match told {
                    None => Some(Signal::TERM),
                    Some(at) if at.elapsed() >= OBEDIENCE => Some(Signal::KILL),
                    Some(_) => None,
                };
                if let Some(signal) = signal {
                    blocking(|| {
                        if signal == Signal::KILL {
                            dir.signal_shim(&claim, Signal::CONT)?;
                        }
                        dir.signal_shim(&claim, signal)
                    })?;
                    told = Some(Instant::now());
                }
                gone(&claim, OBEDIENCE).await?;
            }
            ClaimFact::None | ClaimFact::Void | ClaimFact::Unreadable => {}
        }
        // Its lock falls a moment after the process that holds it.
        tokio::time::sleep(SOON).await;
    }
}

#[allow(unsafe_code)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open as long as it lives, and nobody takes it out of the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Waits for the process to end, whose parent this one is.
async fn reap(mut child: Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    if let Some(handle) = handle.and_then(|handle| register(handle).ok()) {
        let _ = handle.readable().await;
    }
    let _ = tokio::task::spawn_blocking(move || child.wait()).await;
}

/// Waits until the claim's shim has ended, at most `left`; also returns when that cannot be waited for.
async fn gone(claim: &Claim, left: Duration) -> io::Result<()> {
    let same_boot = boot_id().is_ok_and(|boot| boot == claim.boot_id);
    let handle = Pid::from_raw(claim.shim.pid).filter(|_| same_boot);
    let handle = handle.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    let lives = proc_start(claim.shim.pid) == Some(claim.shim.start);
    match handle {
        Some(handle) if lives => {
            let handle = register(handle)?;
            let _ = tokio::time::timeout(left, handle.readable()).await;
        }
        // The lock falls when the process is gone for good.
        _ => tokio::time::sleep(SOON).await,
    }
    Ok(())
}

/// Waits until the shim says something, at most `left`. One that has said its last word is not asked any more.
async fn wait(pokes: &mut Option<AsyncFd<OwnedFd>>, left: Duration) {
    let Some(socket) = pokes else {
        tokio::time::sleep(left).await;
        return;
    };
    let Ok(Ok(mut ready)) = tokio::time::timeout(left, socket.readable()).await else { return };
    let mut said = [0; 256];
    match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut said)?)) {
        // `x`: the end is there, before the lock falls.
        Ok(Ok(n)) if n > 0 => {}
        Ok(_) => *pokes = None,
        Err(_would_block) => {}
    }
}

/// The newest run of a call; 0: there is none.
fn newest(folder: &Path) -> io::Result<u32> {
    let runs = names(folder)?;
    Ok(runs.iter().filter_map(|name| name.strip_prefix("run-")?.parse().ok()).max().unwrap_or(0))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Which boot the launches of an agent belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    /// There was none.
    None,
    /// This one.
    This,
    /// One before it.
    Earlier,
}

impl Boot {
    fn read(task: &Path) -> io::Result<Boot> {
        match fs::read_to_string(task.join(BOOT)) {
            Ok(boot) if boot == boot_id()? => Ok(Boot::This),
            Ok(_) => Ok(Boot::Earlier),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Boot::None),
            Err(error) => Err(error),
        }
    }

    /// Notes durably that there are launches of this boot.
    fn note(task: &Path) -> io::Result<()> {
        if Boot::read(task)? == Boot::This {
            return Ok(());
        }
        let temp = task.join(".boot.tmp");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(boot_id()?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temp, task.join(BOOT))?;
        sync_dir(task)
    }
}

/// What the model is told, and whether it is a failure.
pub(super) fn told(end: &End, limit: Duration) -> (String, bool) {
    match end {
        End::Ended { exit, log } => {
            let (head, failed) = how(exit, limit);
            (format!("{head}\n{}", output(log)), failed)
        }
        End::CutOff { log } => {
            let head = "The command was cut off from outside, together with Octo's process that watched it. What it had done \
                        by then is not known: look before you run it again. Its output so far:";
            (format!("{head}\n{}", output(log)), true)
        }
        End::Unknown => {
            let text = "The machine went down while this command was about to run. Whether it ran, and what it did, is not \
                        known: look before you run it again.";
            (text.to_owned(), true)
        }
        End::NotRun(why) => (format!("The command was not run: {why}."), true),
    }
}

fn how(exit: &Exit, limit: Duration) -> (String, bool) {
    if let Some(error) = &exit.error {
        return (format!("The command could not be started: {error}"), true);
    }
    match (exit.reason, exit.code, exit.signal) {
        (Some(ExitReason::Stop), ..) => {
            (format!("The command was stopped, because it took longer than {} seconds.", limit.as_secs()), true)
        }
        (Some(ExitReason::LogQuota), ..) => {
            ("The command was stopped, because it wrote more than a log may hold.".to_owned(), true)
        }
        (None, Some(code), _) => (format!("Exit code {code}."), code != 0),
        (None, None, Some(signal)) => (format!("The command was ended by signal {signal}."), true),
        (None, None, None) => ("The command ended.".to_owned(), false),
    }
}

/// The output, or its beginning and its end.
fn output(log: &Path) -> String {
    match read_ends(log) {
        Ok(text) if text.trim().is_empty() => "(It wrote nothing.)".to_owned(),
        Ok(text) => text,
        Err(error) => format!("(Its output cannot be read: {error})"),
    }
}

fn read_ends(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    let where_it_is = log.display().to_string();
    let mut bytes = Vec::new();
    // Twice as much as is shown, so that the cut finds the ends of lines.
    let part = SHOWN as u64 * 2;
    if size <= part * 2 {
        file.take(part * 2).read_to_end(&mut bytes)?;
        return Ok(super::super::tools::cap(&String::from_utf8_lossy(&bytes), SHOWN, &where_it_is));
    }
    let (head, tail) = (SHOWN / 3 * 2, SHOWN / 3);
    (&mut file).take(head as u64).read_to_end(&mut bytes)?;
    let first = String::from_utf8_lossy(&bytes).into_owned();
    file.seek(SeekFrom::Start(size - tail as u64))?;
    bytes.clear();
    file.take(tail as u64).read_to_end(&mut bytes)?;
    let last = String::from_utf8_lossy(&bytes);
    let missing = size - (head + tail) as u64;
    Ok(format!("{first}\n[... {missing} bytes are not shown; the whole is in {where_it_is} ...]\n{last}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Stamp;

    fn spec(shim: &str) -> LaunchSpec {
        LaunchSpec {
            shim: shim.into(),
            argv: vec!["true".into()],
            cwd: "/".into(),
            env: Vec::new(),
            leave_children: false,
            log_quota: 0,
            open_files: None,
        }
    }

    fn exit(code: Option<i32>, signal: Option<i32>, reason: Option<ExitReason>) -> Exit {
        Exit { code, signal, reason, error: None, at: Stamp::default(), log_bytes: 0 }
    }

    /// The world of one command, whose shim cannot be started.
    struct World(tempfile::TempDir);

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("c4b1e09a")).unwrap();
            World(dir)
        }

        fn command(&self) -> Command<'_> {
            let id = "c4b1e09a".parse().unwrap();
            Command { tasks: self.0.path(), workspace: Path::new("/nowhere"), id, run: 1, call: "3".to_owned() }
        }

        fn boot(&self, id: &str) {
            fs::write(self.0.path().join("c4b1e09a").join(BOOT), id).unwrap();
        }
    }

    #[tokio::test]
    async fn after_a_power_cut_a_command_that_was_begun_is_never_run() {
        let world = World::new();
        world.boot("another boot");
        let command = world.command();
        let end = command.end(&spec("/no/shim"), LIMIT, false).await.unwrap();
        assert_eq!(end, End::Unknown, "nothing of its launch is on disk");
        fs::create_dir_all(command.folder().join("run-1")).unwrap();
        let end = command.end(&spec("/no/shim"), LIMIT, false).await.unwrap();
        assert_eq!(end, End::Unknown, "its claim may be lost");
        assert!(command.dir(1).facts().unwrap().claim == ClaimFact::None);
        let refused = command.end(&spec("/no/shim"), LIMIT, true).await;
        assert!(!matches!(refused, Ok(End::Unknown)), "one that is new is launched: {refused:?}");
    }

    #[tokio::test]
    async fn in_the_same_boot_one_that_never_began_is_launched() {
        let world = World::new();
        let command = world.command();
        let refused = command.end(&spec("/no/shim"), LIMIT, false).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound, "its launch was tried");
        assert_eq!(Boot::read(&world.0.path().join("c4b1e09a")).unwrap(), Boot::This, "and noted before");
        // The folder is there, and nothing is in it: that run never began.
        let end = command.end(&spec("/no/shim"), LIMIT, false).await;
        assert!(end.is_err() && newest(&command.folder()).unwrap() == 2, "{end:?}");
        assert_eq!(command.dir(1).facts().unwrap().claim, ClaimFact::Void);
    }

    #[test]
    fn what_is_told_of_an_end() {
        let told = |exit: Exit| how(&exit, Duration::from_secs(5));
        assert_eq!(told(exit(Some(0), None, None)), ("Exit code 0.".to_owned(), false));
        assert_eq!(told(exit(Some(2), None, None)), ("Exit code 2.".to_owned(), true));
        assert_eq!(told(exit(None, Some(9), None)), ("The command was ended by signal 9.".to_owned(), true));
        let late = told(exit(None, Some(15), Some(ExitReason::Stop)));
        assert_eq!(late, ("The command was stopped, because it took longer than 5 seconds.".to_owned(), true));
    }

    #[test]
    fn the_ends_of_a_long_output_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        for lines in [10_usize, 20_000, 400_000] {
            let text: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
            fs::write(&log, &text).unwrap();
            let shown = output(&log);
            assert!(shown.starts_with("line 1\n") && shown.ends_with(&format!("line {lines}\n")), "{lines}");
            assert!(shown.len() <= SHOWN + 512, "{} bytes", shown.len());
            assert_eq!(shown == text, lines == 10);
        }
    }
}
