//! Reaching the daemon: connect, start one where none runs, or wait for it to come back.
//!
//! A client inside a task never starts the daemon: it would become the daemon's ancestor, and the
//! daemon would end with the task. It waits instead.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Client, Door, Trouble, http};
use crate::command::{Refused, RefusedCode};
use crate::workspace::Workspace;

/// How long a freshly started daemon, or one that won the race to start, may take to listen.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two looks at a daemon that is being started.
const LOOK: Duration = Duration::from_millis(2);

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
    /// The same, but no longer than this.
    pub(super) fn at_most(self, limit: Duration) -> Patience {
        match self {
            Patience::For(own) => Patience::For(own.min(limit)),
            Patience::Forever => Patience::For(limit),
        }
    }

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
    crate::workspace::connect(workspace).map_err(Trouble::Absent)
}

/// Connects; where nobody listens, starts a daemon, or, inside a task, waits for it to come back.
pub(super) async fn connect_or_start(client: &Client) -> Result<UnixStream, Trouble> {
    let door = &client.door;
    // The usual case costs nothing more: only who finds nobody has to know where it stands.
    match connect(&door.workspace) {
        Err(Trouble::Absent(e)) if http::is_absent(&e) => {}
        result => return result,
    }
    if door.inside_task || below_own_shim(&door.workspace) {
        return wait_for(client).await;
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
            spawn(client).await.map_err(Trouble::Start)?;
            started = Some(Instant::now());
        } else {
            client.pause(PAUSE).await;
        }
    }
}

/// Waits for a daemon that somebody else starts.
async fn wait_for(client: &Client) -> Result<UnixStream, Trouble> {
    let Client { door, patience, .. } = client;
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
        client.pause(PAUSE).await;
    }
}

/// Runs `octod --detach`, until it has a daemon ready, or another one holds the place, or somebody listens.
async fn spawn(client: &Client) -> Result<(), Refused> {
    let door: &Door = &client.door;
    let failed = |why: String| {
        Refused::new(RefusedCode::Unavailable, format!("the daemon cannot be started: {why}"))
            .hint("`octo doctor` checks the workspace; `octo daemon` runs the daemon in the foreground")
    };
    let (mut said, theirs) = std::io::pipe().map_err(|e| failed(e.to_string()))?;
    let mut child = Command::new(&door.octod)
        .arg("--workspace")
        .arg(&door.workspace.root)
        .arg("--detach")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(theirs)
        .spawn()
        .map_err(|e| failed(format!("{}: {e}", door.octod.display())))?;
    let mut looked = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| failed(e.to_string()))? {
            break status;
        }
        // Whoever lost the race has a daemon to talk to long before its own has given up.
        if looked.elapsed() >= PAUSE {
            if connect(&door.workspace).is_ok() {
                return Ok(());
            }
            looked = Instant::now();
        }
        client.pause(LOOK).await;
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
