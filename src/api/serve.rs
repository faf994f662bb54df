//! The accept loop: HTTP/1 over the Unix socket, with a timer for slow headers and a bound on connections.
//!
//! `axum::serve` sets no header timer, so connections are driven by hyper itself.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::Peer;
use super::State;
use super::peer::workspace_at;

/// Connections at once. Each waiting client holds one; a descriptor limit of 1,024 leaves room for the logs.
const CONNECTIONS: usize = 512;

/// How many of them processes inside tasks may hold: the owner can always come in.
const TASK_CONNECTIONS: usize = CONNECTIONS / 2;

/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What one connection may buffer: a slow reader of a long log holds this much, not hyper's 400 KiB.
const BUFFER_MAX: usize = 128 * 1024;

/// How long connections may take to finish when the daemon leaves.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `left` says true.
pub async fn serve(listener: UnixListener, state: State, mut left: watch::Receiver<bool>) {
    let workspace = workspace_at(&state.fixed.workspace, &state.fixed.octo);
    let router = super::router(state);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let task_room = Arc::new(Semaphore::new(TASK_CONNECTIONS));
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = left.wait_for(|left| *left) => break,
        };
        let Some((stream, permit)) = accepted else { continue };
        let Some(peer) = Peer::of(&stream, &workspace) else { continue };
        let task_permit = match peer {
            Peer::Owner => None,
            // Cut off rather than kept waiting: the accept loop serves the owner too.
            Peer::Task(_) | Peer::Untold => match Arc::clone(&task_room).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => continue,
            },
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(peer)));
        let mut http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_MAX);
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop((permit, task_permit));
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("some connections were cut at the end");
    }
}

async fn accept(
    listener: &UnixListener,
    room: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of descriptors, most likely: those who hold some will give them back.
            tracing::warn!(%error, "could not accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
