//! Who is at the other end of a connection, and what it may do.
//!
//! A task is not its owner. A peer whose ancestry leads to a shim of this workspace, or whose process
//! cannot be seen, may look at itself and ask its owner, and, when its task was started with `--allow-dispatch`, start tasks
//! and look at and stop those it started. Nothing else. It is a hurdle, not a wall: a process that runs as
//! the owner has other ways to be the owner.

use std::path::Path;

use tokio::net::UnixStream;

use super::State;
use crate::ancestry;
use crate::command::{Actor, Refused, RefusedCode};
use crate::supervisor::core::Resolved;
use crate::task::{Task, TaskId};
use crate::workspace::Workspace;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The workspace's owner.
    Owner,
    /// Something inside a task; `None`: which cannot be told.
    Task(Option<TaskId>),
    /// The daemon is short of descriptors or memory, and could not look.
    Untold,
}

impl Peer {
    /// Finds out who connected. `None`: another user, whom nobody should talk to.
    #[must_use]
    pub fn of(stream: &UnixStream, workspace: &Workspace) -> Option<Peer> {
        let cred = stream.peer_cred().ok()?;
        if cred.uid() != nix::unistd::geteuid().as_raw() {
            return None;
        }
        Some(match ancestry::peer(stream, workspace) {
            ancestry::Peer::Owner => Peer::Owner,
            ancestry::Peer::Task(id) => Peer::Task(id),
            ancestry::Peer::Untold => Peer::Untold,
        })
    }

    /// The actor of a request: the owner on a surface, or the task.
    #[must_use]
    pub fn actor(&self, surface: &str) -> Actor {
        match self {
            Peer::Owner => Actor::Owner(surface.to_owned()),
            Peer::Task(id) => Actor::Task(*id),
            Peer::Untold => Actor::Task(None),
        }
    }
}

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything that is the owner's: lists, notices, status, retry, remove, clear, trust, shutdown.
    Own,
    /// Start tasks.
    Dispatch,
    /// Look at a task.
    Look(TaskId),
    /// Stop a task.
    Stop(TaskId),
    /// Ask for a task, and read the answers to its questions.
    Ask(TaskId),
}

impl State {
    /// Refuses what this peer may not do.
    pub(super) async fn check(&self, peer: &Peer, rights: Rights) -> Result<(), Refused> {
        let me = match peer {
            Peer::Owner => return Ok(()),
            Peer::Task(Some(me)) => *me,
            Peer::Task(None) => return Err(forbidden()),
            Peer::Untold => return Err(untold()),
        };
        let allowed = match rights {
            Rights::Own => false,
            Rights::Dispatch => self.record(me).await?.allow_dispatch,
            Rights::Look(id) | Rights::Ask(id) if id == me => true,
            Rights::Ask(_) => false,
            Rights::Look(id) | Rights::Stop(id) => {
                self.record(me).await?.allow_dispatch && self.record(id).await?.parent == Some(me)
            }
        };
        if allowed { Ok(()) } else { Err(forbidden()) }
    }

    /// The record of a task, live or settled.
    pub(super) async fn record(&self, id: TaskId) -> Result<Task, Refused> {
        let reference = crate::command::TaskRef(id.to_string());
        match self.supervisor.query(move |core| core.get(&reference)).await?? {
            Resolved::Live(task) => Ok(*task),
            Resolved::Settled(id) => self.read(id).await,
        }
    }
}

/// The answer to whom the daemon could not look at: neither the owner's rights nor a refusal that stays.
pub(super) fn untold() -> Refused {
    Refused::new(RefusedCode::Unavailable, "the daemon is short of descriptors or memory and cannot tell who asks")
        .hint("try again; fewer clients at once, or a higher limit of open files, help")
}

pub(super) fn forbidden() -> Refused {
    Refused::new(RefusedCode::Forbidden, "a task may only look at itself")
        .hint("start it with `--allow-dispatch` to let it start tasks; everything else is its owner's")
}

/// The name of a surface as records keep it: what the client says, if it is a plain word.
#[must_use]
pub(super) fn surface(headers: &axum::http::HeaderMap) -> &str {
    let said = headers.get("x-octo-client").and_then(|v| v.to_str().ok()).unwrap_or("api");
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':');
    let plain = !said.is_empty() && said.len() <= 48 && said.bytes().all(fits) && !said.starts_with("task:");
    if plain { said } else { "api" }
}

/// The workspace of a daemon, for [`Peer::of`].
#[must_use]
pub(super) fn workspace_at(root: &Path, octo: &Path) -> Workspace {
    Workspace { root: root.to_owned(), octo: octo.to_owned() }
}
