//! What changes around a running daemon: its socket is deleted, its settings files are written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use octo::api;
use octo::config::Seen;
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use tokio::sync::Notify;

/// How often to look also while changes are told of: a watch may be lost, and a new settings file has none.
const SLOW: Duration = Duration::from_secs(30);

/// How often to look where the socket cannot be watched: who waits for a start waits longer than that.
const UNTOLD: Duration = Duration::from_secs(5);

/// How often to look while the tasks of a deleted workspace run.
const SEE_OUT: Duration = Duration::from_secs(5);

/// How long the rest of a folder may take to follow its socket when it is being deleted.
const FOLLOWS: Duration = Duration::from_secs(1);

/// How long whoever writes a file may need between emptying and filling it.
const WRITTEN: Duration = Duration::from_millis(300);

/// What is looked at.
pub(super) struct Changes {
    /// `.octo/`, by descriptor: the path may later be that of another workspace, with a daemon and a socket of its own.
    pub(super) octo: Arc<std::fs::File>,
    /// The socket's name in it.
    pub(super) socket: OsString,
    /// The settings files as they were read.
    pub(super) settings: Seen,
    /// Lets agents live by what the files say now; returns what is wrong there.
    pub(super) reload: Box<dyn Fn() -> Vec<String> + Send>,
}

impl Changes {
    /// Looks whenever the socket or one of the settings files changes, and now and then.
    ///
    /// Only these files are watched, and not the folders they are in: each save changes `.octo/`. Deleting
    /// `.octo/` deletes the socket in it, and where it is moved to does not matter.
    pub(super) fn watch(mut self, state: api::State, socket: &Path, settings: &[PathBuf]) {
        let bell = Arc::new(Notify::new());
        let watcher = watcher(Arc::clone(&bell), socket, settings)
            .inspect_err(|error| tracing::info!(%error, "changes are not told of, but looked for"));
        let pause = if watcher.is_ok() { SLOW } else { UNTOLD };
        tokio::spawn(async move {
            let _watcher = watcher;
            loop {
                let Some(pause) = self.look(&state, pause).await else { break };
                tokio::select! {
                    () = bell.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            tracing::warn!("the socket is gone");
            state.leave();
        });
    }

    /// When to look again, usually after `pause`; `None` when it is time to leave.
    async fn look(&mut self, state: &api::State, pause: Duration) -> Option<Duration> {
        if self.has_socket() {
            self.look_at_settings(state).await;
            return Some(pause);
        }
        // Without its socket nobody can reach this daemon, and its lock keeps out every other: it leaves, tasks go
        // on, and the next command starts a new one. When `.octo/` as a whole was deleted, it first sees the
        // running tasks out. Slots do not tell of them: an end that cannot be saved keeps its slot.
        let runs = || state.supervisor.query(|core| core.running_runs().next().is_some());
        if !runs().await.unwrap_or(false) {
            return None;
        }
        if !self.is_deleted() {
            tokio::time::sleep(FOLLOWS).await;
        }
        self.is_deleted().then_some(SEE_OUT)
    }

    async fn look_at_settings(&mut self, state: &api::State) {
        if !self.settings.differs() {
            return;
        }
        tokio::time::sleep(WRITTEN).await;
        let changed = self.settings.changed();
        let mut problems = if changed.is_empty() { Vec::new() } else { (self.reload)() };
        // What agents live by is in use at once.
        problems.extend(changed.iter().map(|name| {
            format!("settings in {name} changed; restart the daemon to use them (agents' models, keys and prices are in use)")
        }));
        for problem in problems {
            tracing::warn!("{problem}");
            state.supervisor.note(|core| core.add_problem(problem)).await;
        }
    }

    fn has_socket(&self) -> bool {
        !matches!(statat(&*self.octo, &self.socket, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    fn is_deleted(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        self.octo.metadata().is_ok_and(|m| m.nlink() == 0)
    }
}

/// Rings at each change of one of the files. A deleted file is told of while somebody has it open, too: the number
/// of its names changes.
fn watcher(bell: Arc<Notify>, socket: &Path, settings: &[PathBuf]) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading changes nothing; without this the look would wake the next one.
        let read =
            |kind| matches!(kind, EventKind::Access(kind) if !matches!(kind, AccessKind::Close(AccessMode::Write)));
        if !event.is_ok_and(|event| read(event.kind)) {
            bell.notify_one();
        }
    })?;
    watcher.watch(socket, RecursiveMode::NonRecursive)?;
    for file in settings {
        if let Err(error) = watcher.watch(file, RecursiveMode::NonRecursive) {
            tracing::info!(%error, "settings that change are not told of, but looked for");
        }
    }
    Ok(watcher)
}
