//! `octo stop`: stops the daemon and returns when it has exited; tasks go on unless told otherwise.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Failure, World};
use crate::client::Client;
use crate::command::{Refused, RefusedCode, ShutdownRequest};
use crate::workspace;

/// How long a daemon may hold the lock and not listen: without its socket it leaves at once, or within 5 s where
/// nothing tells it.
const DEAF_WITHIN: Duration = Duration::from_secs(15);

/// How long the daemon may take to exit: the longest way to end a task, and some.
const EXIT_WITHIN: Duration = Duration::from_secs(90);

pub(super) async fn run(world: &World, kill_tasks: bool) -> Result<(), Failure> {
    let client = world.client()?.only_connect();
    let mut met = met(&client).await;
    if matches!(met, Met::Listens) {
        match end(&client, kill_tasks).await {
            // It went while it was talked to, so that nobody knows what became of the request: see it off.
            Err(refused) if refused.code == RefusedCode::Unavailable && gone(&client, None) => met = Met::Left,
            result => return Ok(result?),
        }
    }
    match met {
        Met::Left | Met::Nobody if kill_tasks && has_runs(&client.workspace().octo) => {
            Ok(end(&world.client()?, kill_tasks).await?)
        }
        // The lock fell while this looked on: a daemon that could not be reached has left.
        Met::Left | Met::Listens => Ok(()),
        Met::Nobody => world.print(format!("no daemon runs for {}\n", client.workspace().root.display())),
        Met::Deaf => Err(client.nobody_listens().into()),
    }
}

/// Asks the daemon to leave and waits until it has.
async fn end(client: &Client, kill_tasks: bool) -> Result<(), Refused> {
    let process = watch(client.status().await?.pid);
    client.shutdown(&ShutdownRequest { kill_tasks }).await?;
    if gone(client, process) {
        return Ok(());
    }
    let message = format!("the daemon was asked to stop and has not exited after {} s", EXIT_WITHIN.as_secs());
    Err(Refused::new(RefusedCode::Internal, message).hint("`octo status` shows whether it still answers"))
}

/// Whom a stop found.
enum Met {
    /// A daemon that takes connections.
    Listens,
    /// None at all.
    Nobody,
    /// One that could not be reached, and has left meanwhile.
    Left,
    /// One that still cannot be reached.
    Deaf,
}

/// Looks for the daemon. One that holds the lock and does not listen is about to, or on its way out: a daemon
/// whose socket was deleted leaves when it sees that.
async fn met(client: &Client) -> Met {
    let until = Instant::now() + DEAF_WITHIN;
    let mut nobody = Met::Nobody;
    loop {
        if client.runs() {
            return Met::Listens;
        }
        if workspace::holder(client.workspace()).is_none() {
            return nobody;
        }
        if Instant::now() >= until {
            return Met::Deaf;
        }
        nobody = Met::Left;
        client.pause(Duration::from_millis(20)).await;
    }
}

/// A handle on the process, by which its end can be awaited; `None` when it has ended already, or
/// cannot be seen from here.
fn watch(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits for the daemon's end.
fn gone(client: &Client, process: Option<OwnedFd>) -> bool {
    let Some(process) = process else { return no_longer_listens(client) };
    let limit = Timespec { tv_sec: EXIT_WITHIN.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            result => return matches!(result, Ok(n) if n > 0),
        }
    }
}

/// Without a handle on the process: until nobody listens.
#[allow(clippy::disallowed_methods, reason = "without its process, the end of a daemon announces itself to nobody")]
fn no_longer_listens(client: &Client) -> bool {
    let until = Instant::now() + EXIT_WITHIN;
    while Instant::now() < until {
        if !client.runs() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Tells whether some task has a run folder: it may still run, though no daemon does.
fn has_runs(octo: &Path) -> bool {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries(&octo.join("tasks"))
        .filter(|task| task.file_type().is_ok_and(|t| t.is_dir()))
        .any(|task| entries(&task.path()).any(|run| run.file_name().as_encoded_bytes().starts_with(b"run-")))
}
