//! Notices by cursor, and the wait for one.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::read::json;
use super::{Error, Peer, Rights, State, bad_input, wait_of};
use crate::command::{NoticeItem, NoticePage, Refused, RefusedCode};
use crate::supervisor::core::PAGE_BYTES;
use crate::supervisor::{Event, leaving};

/// Notices on one page.
const PAGE: usize = 100;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NoticeQuery {
    /// The cursor of the page before, or `latest` for the newest cursor alone.
    after: String,
    /// Seconds to wait for a notice when there is none yet.
    wait: Option<u64>,
}

pub(super) async fn notices(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<NoticeQuery>, QueryRejection>,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    if query.after == "latest" {
        let cursor = state.supervisor.query(|core| core.notice_seq()).await?;
        return Ok(Json(NoticePage { cursor, ..NoticePage::default() }).into_response());
    }
    let after = parse_cursor(&query.after)?;
    let deadline = Instant::now() + wait_of(query.wait);
    let mut bell = state.supervisor.listen();
    loop {
        let page = state.page(after).await?;
        if !page.notices.is_empty() || query.wait.is_none() {
            let bytes = page.notices.iter().map(|item| item.task.weight()).sum();
            return Ok(json(bytes, page).await?);
        }
        if !rung(&mut bell, deadline).await? {
            return Ok(Json(page).into_response());
        }
    }
}

/// Waits until a notice was raised, or may have been; false when the time is up first.
pub(super) async fn rung(bell: &mut broadcast::Receiver<Event>, deadline: Instant) -> Result<bool, Refused> {
    let notice = async {
        loop {
            match bell.recv().await {
                Ok(Event::Notice { .. }) | Err(RecvError::Lagged(_)) => return Ok(true),
                Ok(Event::Task { .. }) => {}
                Ok(Event::Leaving) | Err(RecvError::Closed) => return Err(leaving()),
            }
        }
    };
    tokio::time::timeout_at(deadline, notice).await.unwrap_or(Ok(false))
}

fn parse_cursor(text: &str) -> Result<u64, Refused> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        Refused::new(RefusedCode::BadRequest, format!("`{text}` is no cursor"))
            .hint("use the `cursor` of the answer before, or `latest`")
    })
}

impl State {
    async fn page(&self, after: u64) -> Result<NoticePage, Refused> {
        let (found, more) = self.supervisor.query(move |core| core.notices_after(after, PAGE)).await?;
        let mut page = NoticePage { cursor: after, more, ..NoticePage::default() };
        let mut bytes = 0;
        for (seq, id) in found {
            let task = match self.record(id).await {
                Ok(task) => task,
                // It cannot be read just now: the cursor stays before it.
                Err(refused) if refused.code == RefusedCode::Unavailable && page.notices.is_empty() => {
                    return Err(refused);
                }
                Err(refused) if refused.code == RefusedCode::Unavailable => break,
                // A task that was removed in the meantime has nothing to tell any more.
                Err(_) => {
                    page.cursor = seq;
                    continue;
                }
            };
            bytes += task.weight();
            if bytes > PAGE_BYTES && !page.notices.is_empty() {
                page.more = true;
                break;
            }
            page.cursor = seq;
            if let Some(notice) = task.notices.iter().find(|n| n.seq == seq).cloned() {
                page.notices.push(NoticeItem { notice, task });
            }
        }
        Ok(page)
    }
}
