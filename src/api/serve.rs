//! The accept loop: HTTP/1 over the Unix socket, with a timer for slow headers and a bound on connections.
//!
//! `axum::serve` sets no header timer, so connections are driven by hyper itself. Accepting, connections and
//! handlers share one thread: handing a request from thread to thread costs more than most requests. Whatever
//! may last longer than a moment is done elsewhere (see [`blocking`](super::read::blocking)).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::Peer;
use super::State;
use super::peer::workspace_at;

/// Connections at once. Each waiting client holds one; a descriptor limit of 1,024 leaves room for the logs.
const CONNECTIONS: u32 = 512;

/// How many of them processes inside tasks may hold: the owner can always come in.
const TASK_CONNECTIONS: u32 = CONNECTIONS / 2;

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
    let room = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let task_room = Arc::new(Semaphore::new(TASK_CONNECTIONS as usize));
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
        let service = ForPeer { router: TowerToHyperService::new(router.clone()), peer };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_MAX);
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut left = left.clone();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = async { drop(left.wait_for(|left| *left).await) } => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop((permit, task_permit));
        });
    }
    drop(listener);
    // Each connection holds a piece of the room until it ends.
    if tokio::time::timeout(GRACE, room.acquire_many(CONNECTIONS)).await.is_err() {
        tracing::debug!("some connections were cut at the end");
    }
}

/// The routes, for one connection: each request says who sent it.
struct ForPeer {
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl Service<hyper::Request<Incoming>> for ForPeer {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = <TowerToHyperService<Router> as Service<hyper::Request<Incoming>>>::Future;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.router.call(request)
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
