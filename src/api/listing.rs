//! The answer to `GET /background-agents`: short ones whole, long ones piece by piece, so that a list of all
//! records never lies in memory.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::mpsc;

use super::State;
use super::read::{blocking, json};
use crate::command::{Listing, Refused};
use crate::supervisor::core::Page;
use crate::task::Task;

/// Tasks in one piece. A list of at most so many of each kind is sent whole.
const PIECE: usize = 128;

/// Pieces that wait for a slow reader.
const AHEAD: usize = 2;

/// Answers with a page of tasks.
pub(super) async fn answer(state: State, page: Page) -> Result<Response, Refused> {
    if page.history.len().max(page.active.len()) <= PIECE {
        let history = state.read_history(page.history).await?;
        let bytes = page.active.iter().chain(&history).map(Task::weight).sum();
        return json(bytes, Listing { active: page.active, history, next: page.next, total: page.total }).await;
    }
    let (out, pieces) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    tokio::spawn(async move {
        // The list cannot be completed: cut the connection rather than pass for whole.
        if let Err(Stop::Cut) = write(&state, page, &out).await {
            let _ = out.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
        }
    });
    let body = stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

/// Why a list was not written to its end.
enum Stop {
    /// Nobody reads it any more.
    Gone,
    /// Its tasks cannot be read.
    Cut,
}

async fn write(state: &State, page: Page, out: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Stop> {
    let send = async |text: Vec<u8>| out.send(Ok(text.into())).await.map_err(|_| Stop::Gone);
    let Page { active, history, next, total } = page;
    send(b"{\"active\":[".to_vec()).await?;
    let (mut first, mut active) = (true, active.into_iter());
    loop {
        let some: Vec<Task> = active.by_ref().take(PIECE).collect();
        if some.is_empty() {
            break;
        }
        send(elements(some, &mut first).await?).await?;
    }
    send(b"],\"history\":[".to_vec()).await?;
    first = true;
    for ids in history.chunks(PIECE) {
        let some = state.read_history(ids.to_vec()).await.map_err(|_| Stop::Cut)?;
        send(elements(some, &mut first).await?).await?;
    }
    let next = serde_json::to_string(&next).map_err(|_| Stop::Cut)?;
    send(format!("],\"next\":{next},\"total\":{total}}}").into_bytes()).await
}

/// Elements of a JSON array, with the commas before them.
async fn elements(tasks: Vec<Task>, first: &mut bool) -> Result<Vec<u8>, Stop> {
    let mut comma = !*first;
    *first &= tasks.is_empty();
    let text = blocking(move || {
        let mut text = Vec::new();
        for task in &tasks {
            if std::mem::replace(&mut comma, true) {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, task)?;
        }
        Ok::<_, serde_json::Error>(text)
    });
    text.await.map_err(|_| Stop::Cut)?.map_err(|_| Stop::Cut)
}
