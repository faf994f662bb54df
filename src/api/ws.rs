//! Live updates over a WebSocket: a snapshot first, then what changes.
//!
//! The doorbell says only where to look, so what is sent is always the present truth; a peer that lagged
//! behind gets a new snapshot. A client may send `{"follow":"ID","from":BYTES}` to get that task's log
//! (`{"type":"log","id":...,"from":...,"bytes":"<base64>"}`), and `{"unfollow":"ID"}` to end it.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use super::read::{LONG, blocking};
use super::{Error, Peer, Rights, State, bad_input, logs};
use crate::command::{ListQuery, Refused, TaskRef};
use crate::supervisor::Event;
use crate::task::TaskId;

/// A frame from a client: a short command, never more.
const FRAME_MAX: usize = 64 * 1024;

/// Log chunks that wait for a slow client; the followers wait for it, the daemon does not.
const LOG_QUEUE: usize = 16;

/// How long a client may take to make room for a message.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Logs that one client may follow at once.
const FOLLOW_MAX: usize = 32;

pub(super) async fn socket(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let upgrade = upgrade.map_err(|e| bad_input("request for a WebSocket", &e.body_text(), StatusCode::BAD_REQUEST))?;
    Ok(upgrade.max_message_size(FRAME_MAX).max_frame_size(FRAME_MAX).on_upgrade(move |socket| async move {
        Session::new(state, socket).run().await;
    }))
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ClientMessage {
    follow: Option<TaskRef>,
    from: u64,
    unfollow: Option<TaskRef>,
}

struct Session {
    state: State,
    socket: WebSocket,
    follows: HashMap<TaskId, tokio::task::JoinHandle<()>>,
    logs: mpsc::Receiver<Value>,
    log_tx: mpsc::Sender<Value>,
}

/// The client is gone or the daemon leaves.
struct Over;

impl Session {
    fn new(state: State, socket: WebSocket) -> Self {
        let (log_tx, logs) = mpsc::channel(LOG_QUEUE);
        Session { state, socket, follows: HashMap::new(), logs, log_tx }
    }

    async fn run(mut self) {
        // Listen before the snapshot: what changes in between is sent twice rather than never.
        let mut bell = self.state.supervisor.listen();
        let mut result = self.snapshot().await;
        while result.is_ok() {
            result = tokio::select! {
                event = bell.recv() => self.rung(event).await,
                Some(chunk) = self.logs.recv() => self.send(&chunk).await,
                message = self.socket.next() => match message {
                    Some(Ok(message)) => self.said(message).await,
                    Some(Err(_)) | None => Err(Over),
                },
            };
        }
        for (_, follower) in self.follows.drain() {
            follower.abort();
        }
    }

    async fn send(&mut self, value: &Value) -> Result<(), Over> {
        self.send_text(value.to_string()).await
    }

    /// A client that does not read is let go: it would hold what waits for it for ever.
    async fn send_text(&mut self, text: String) -> Result<(), Over> {
        let sent = self.socket.send(Message::Text(Utf8Bytes::from(text)));
        tokio::time::timeout(SEND_WITHIN, sent).await.map_err(|_| Over)?.map_err(|_| Over)
    }

    /// Sends what may be long: it becomes JSON elsewhere.
    async fn send_long(&mut self, bytes: usize, value: impl FnOnce() -> Value + Send + 'static) -> Result<(), Over> {
        let text = if bytes <= LONG {
            value().to_string()
        } else {
            blocking(move || value().to_string()).await.map_err(|_| Over)?
        };
        self.send_text(text).await
    }

    async fn snapshot(&mut self) -> Result<(), Over> {
        let page = self.state.supervisor.query(|core| (core.list(&ListQuery::default()), core.notice_seq())).await;
        let (page, cursor) = page.map_err(|_| Over)?;
        let history = self.state.read_history(page.history).await.map_err(|_| Over)?;
        let bytes = page.active.iter().chain(&history).map(crate::task::Task::weight).sum();
        let snapshot = move || {
            json!({
                "type": "snapshot", "active": page.active, "history": history, "next": page.next,
                "total": page.total, "cursor": cursor,
            })
        };
        self.send_long(bytes, snapshot).await
    }

    async fn rung(&mut self, event: Result<Event, broadcast::error::RecvError>) -> Result<(), Over> {
        match event {
            Ok(Event::Task { id }) => match self.state.record(id).await {
                // Who talks to the supervisor agent follows its log.
                Ok(task) if task.is_chat() => Ok(()),
                Ok(task) => self.send_long(task.weight(), move || json!({ "type": "task", "task": task })).await,
                Err(_) => self.send(&json!({ "type": "removed", "id": id })).await,
            },
            Ok(Event::Notice { seq }) => self.notice(seq).await,
            Ok(Event::Leaving) | Err(broadcast::error::RecvError::Closed) => Err(Over),
            Err(broadcast::error::RecvError::Lagged(_)) => self.snapshot().await,
        }
    }

    async fn notice(&mut self, seq: u64) -> Result<(), Over> {
        let found = self.state.supervisor.query(move |core| core.notices_after(seq - 1, 1).0).await;
        let Some((_, id)) = found.map_err(|_| Over)?.first().copied() else { return Ok(()) };
        let Ok(task) = self.state.record(id).await else { return Ok(()) };
        let Some(notice) = task.notices.iter().find(|n| n.seq == seq).cloned() else { return Ok(()) };
        let bytes = task.weight();
        self.send_long(bytes, move || json!({ "type": "notice", "notice": notice, "task": task })).await
    }

    async fn said(&mut self, message: Message) -> Result<(), Over> {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Err(Over),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        match serde_json::from_str::<ClientMessage>(&text) {
            Ok(ClientMessage { follow: Some(reference), from, .. }) => self.follow(reference, from).await,
            Ok(ClientMessage { unfollow: Some(reference), .. }) => {
                if let Ok(id) = self.state.id_of(reference).await
                    && let Some(follower) = self.follows.remove(&id)
                {
                    follower.abort();
                }
                Ok(())
            }
            Ok(_) => self.refuse(&bad("neither `follow` nor `unfollow`")).await,
            Err(error) => self.refuse(&bad(&error.to_string())).await,
        }
    }

    async fn refuse(&mut self, refused: &Refused) -> Result<(), Over> {
        self.send(&json!({ "type": "error", "error": refused })).await
    }

    async fn follow(&mut self, reference: TaskRef, from: u64) -> Result<(), Over> {
        self.follows.retain(|_, follower| !follower.is_finished());
        if self.follows.len() >= FOLLOW_MAX {
            return self.refuse(&bad("too many logs are followed on this connection")).await;
        }
        match logs::follow(&self.state, reference, from).await {
            Ok((id, stream)) => {
                let tx = self.log_tx.clone();
                let follower = tokio::spawn(async move {
                    let mut stream = std::pin::pin!(stream);
                    while let Some(chunk) = stream.next().await {
                        if tx.send(chunk.json(id)).await.is_err() {
                            return;
                        }
                    }
                });
                if let Some(old) = self.follows.insert(id, follower) {
                    old.abort();
                }
                Ok(())
            }
            Err(refused) => self.refuse(&refused).await,
        }
    }
}

fn bad(why: &str) -> Refused {
    Refused::new(crate::command::RefusedCode::BadRequest, format!("that message cannot be read: {why}"))
        .hint("send {\"follow\":\"ID\",\"from\":0} or {\"unfollow\":\"ID\"}")
}
