//! Reading settled records for those who ask, and whatever else would hold up the thread that serves everybody.

use std::sync::Arc;

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::peer::{forbidden, untold};
use super::{Peer, Rights, State};
use crate::command::{Refused, RefusedCode, TaskRef};
use crate::store::{ReadError, Store};
use crate::supervisor::core::Resolved;
use crate::task::{Task, TaskId};

impl State {
    /// The record of a settled task.
    pub(super) async fn read(&self, id: TaskId) -> Result<Task, Refused> {
        let store = Arc::clone(self.supervisor.store());
        blocking(move || read_one(&store, id)).await?
    }

    /// The records of settled tasks, in order; those that are gone by now are left out.
    pub(super) async fn read_all(&self, ids: Vec<TaskId>) -> Result<Vec<Task>, Refused> {
        let store = Arc::clone(self.supervisor.store());
        blocking(move || ids.into_iter().filter_map(|id| store.read(id).ok()).collect()).await
    }

    /// The task that a reference names.
    pub(super) async fn find(&self, reference: &TaskRef) -> Result<Task, Refused> {
        let reference = reference.clone();
        match self.supervisor.query(move |core| core.get(&reference)).await?? {
            Resolved::Live(task) => Ok(*task),
            Resolved::Settled(id) => self.read(id).await,
        }
    }

    /// The task that a reference names, for a peer that may look at it; a task does not even learn which
    /// others there are.
    pub(super) async fn show_to(&self, peer: &Peer, reference: TaskRef) -> Result<Task, Refused> {
        if *peer == Peer::Owner {
            return self.find(&reference).await;
        }
        let id = self.id_for(peer, reference).await?;
        self.check(peer, Rights::Look(id)).await?;
        self.record(id).await
    }

    /// The id that a reference names.
    pub(super) async fn id_of(&self, reference: TaskRef) -> Result<TaskId, Refused> {
        self.supervisor.query(move |core| core.resolve(&reference)).await?
    }

    /// As [`State::id_of`]; a task does not even learn which others there are.
    pub(super) async fn id_for(&self, peer: &Peer, reference: TaskRef) -> Result<TaskId, Refused> {
        match (self.id_of(reference).await, peer) {
            (Err(_), Peer::Task(_)) => Err(forbidden()),
            (Err(_), Peer::Untold) => Err(untold()),
            (found, _) => found,
        }
    }
}

fn read_one(store: &Store, id: TaskId) -> Result<Task, Refused> {
    store.read(id).map_err(|error| match error {
        ReadError::NotFound => Refused::no_such_task(id),
        ReadError::Io { why } => Refused::new(RefusedCode::Unavailable, format!("task {id} cannot be read: {why}"))
            .hint("try again; `octo doctor` says more"),
        ReadError::Bad { why } => {
            Refused::new(RefusedCode::Storage, format!("the record of task {id} cannot be read: {why}"))
                .hint("`octo doctor` says what to do")
        }
    })
}

/// What is longer than this is read from or put into JSON elsewhere: it would take about a millisecond.
pub(super) const LONG: usize = 64 * 1024;

/// An answer as JSON; `bytes` is about its length.
pub(super) async fn json<T: Serialize + Send + 'static>(bytes: usize, answer: T) -> Result<Response, Refused> {
    if bytes <= LONG {
        return Ok(Json(answer).into_response());
    }
    let text = blocking(move || serde_json::to_vec(&answer)).await?;
    let text = text.map_err(|e| Refused::new(RefusedCode::Internal, format!("the answer cannot be written: {e}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Runs what may last (files, long JSON) off the thread that serves everybody.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refused::new(RefusedCode::Internal, "reading failed").hint("the daemon's log says more"))
}
