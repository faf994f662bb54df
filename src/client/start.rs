//! Reaching the daemon: connect, start one where none runs, or wait for it to come back.
//!
//! A client inside a task never starts the daemon: it would become the daemon's ancestor, and the
//! daemon would end with the task. It waits instead.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use super::{Door, Trouble, http};
use crate::command::{Refused, RefusedCode};
use crate::workspace::Workspace;

/// How long a freshly started daemon, or one that won the race to start, may take to listen.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// How long `octod --detach` is left alone before another is tried: the holder of the lock may have
/// been on its way out.
const START_AGAIN: Duration = Duration::from_secs(1);

/// The exit code of a daemon that finds another one in its place.
const HELD: i32 = 5;

/// How long a client waits for a daemon that it may not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// So long, then it gives up with `Unavailable`.
    For(Duration),
    /// For ever: what waits without a time-out.
    Forever,
}

impl Default for Patience {
    fn default() -> Self {
        Patience::For(test_patience().unwrap_or(Duration::from_secs(60)))
    }
}

/// What a test wants in place of a minute; in release builds nothing.
fn test_patience() -> Option<Duration> {
    #[cfg(debug_assertions)]
    return std::env::var("OCTO_RECONNECT_SECONDS").ok()?.parse().ok().map(Duration::from_secs);
    #[cfg(not(debug_assertions))]
    None
}

impl Patience {
    fn ran_out(self, since: Instant) -> bool {
        match self {
            Patience::For(limit) => since.elapsed() >= limit,
            Patience::Forever => false,
        }
    }
}

/// Whether this process is below a shim of the workspace, whatever its environment says. One that cannot look
/// might be.
fn below_own_shim(workspace: &Workspace) -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let above = crate::ancestry::shims_above(me);
    above.map_or(true, |shims| shims.iter().any(|shim| shim.workspace == workspace.root))
}

/// Connects, once.
pub(super) fn connect(workspace: &Workspace) -> Result<UnixStream, Trouble> {
    let stream = crate::workspace::connect(workspace).map_err(Trouble::Absent)?;
    stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)).map_err(Trouble::Absent)
}

/// Connects; where nobody listens, starts a daemon, or, inside a task, waits for it to come back.
pub(super) async fn connect_or_start(door: &Door, patience: Patience) -> Result<UnixStream, Trouble> {
    // The usual case costs nothing more: only who finds nobody has to know where it stands.
    match connect(&door.workspace) {
        Err(Trouble::Absent(e)) if http::is_absent(&e) => {}
        result => return result,
    }
    if door.inside_task || below_own_shim(&door.workspace) {
        return wait_for(door, patience).await;
    }
    let began = Instant::now();
    let mut started: Option<Instant> = None;
    loop {
        match connect(&door.workspace) {
            Err(Trouble::Absent(e)) if http::is_absent(&e) => {}
            result => return result,
        }
        if began.elapsed() >= START_WITHIN {
            let message = format!("the daemon of {} was started and does not listen", door.workspace.root.display());
            return Err(Trouble::Start(
                Refused::new(RefusedCode::Unavailable, message).hint("`octo daemon` shows what it says"),
            ));
        }
        if started.is_none_or(|at| at.elapsed() >= START_AGAIN) {
            spawn(door).await.map_err(Trouble::Start)?;
            started = Some(Instant::now());
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits for a daemon that somebody else starts.
async fn wait_for(door: &Door, patience: Patience) -> Result<UnixStream, Trouble> {
    let began = Instant::now();
    loop {
        match connect(&door.workspace) {
            Err(Trouble::Absent(e)) if http::is_absent(&e) => {}
            result => return result,
        }
        if patience.ran_out(began) {
            let message = format!("no daemon runs for {}", door.workspace.root.display());
            return Err(Trouble::Start(Refused::new(RefusedCode::Unavailable, message).hint(
                "a command inside a task does not start the daemon; `octo daemon --detach` outside of it does",
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Runs `octod --detach`, until it has a daemon ready, or another one holds the place, or somebody listens.
async fn spawn(door: &Door) -> Result<(), Refused> {
    let failed = |why: String| {
        Refused::new(RefusedCode::Unavailable, format!("the daemon cannot be started: {why}"))
            .hint("`octo doctor` checks the workspace; `octo daemon` runs the daemon in the foreground")
    };
    let (mut said, theirs) = std::io::pipe().map_err(|e| failed(e.to_string()))?;
    let mut child = tokio::process::Command::new(&door.octod)
        .arg("--workspace")
        .arg(&door.workspace.root)
        .arg("--detach")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(theirs)
        .spawn()
        .map_err(|e| failed(format!("{}: {e}", door.octod.display())))?;
    let mut look = tokio::time::interval(PAUSE);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(|e| failed(e.to_string()))?,
            // Whoever lost the race has a daemon to talk to long before its own has given up.
            _ = look.tick() => if connect(&door.workspace).is_ok() {
                return Ok(());
            }
        }
    };
    if status.success() || status.code() == Some(HELD) {
        return Ok(());
    }
    let why = read_what_is_there(&mut said);
    let why = why.trim().trim_start_matches("error: ").to_owned();
    Err(failed(if why.is_empty() { format!("{} ended with {status}", door.octod.display()) } else { why }))
}

/// What was written into a pipe so far: some descendant may still hold its other end open, so that
/// reading to the end could last.
fn read_what_is_there(pipe: &mut std::io::PipeReader) -> String {
    if rustix::io::ioctl_fionbio(&*pipe, true).is_err() {
        return String::new();
    }
    let mut text = vec![0; 4096];
    let read = pipe.read(&mut text).unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).into_owned()
}
