//! The routes of push bridges: what is owed, receipts, pairing.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State as Extract};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::Unread;
use super::notices::rung;
use super::peer::surface;
use super::read::json;
use super::{Error, Peer, Rights, State, bad_input, wait_of};
use crate::command::{NoticeItem, Owed, Receipts, Refused, RefusedCode};
use crate::supervisor::core::Ask;
use crate::supervisor::leaving;

/// Notices on one page.
const PAGE: usize = 100;

#[derive(Deserialize)]
pub(super) struct OwedQuery {
    /// The bridge.
    bridge: String,
    /// Seconds to wait while nothing is owed.
    wait: Option<u64>,
}

pub(super) async fn owed(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<OwedQuery>, QueryRejection>,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    let deadline = tokio::time::Instant::now() + wait_of(query.wait);
    let mut bell = state.supervisor.listen();
    loop {
        let bridge = query.bridge.clone();
        let (found, total) = state.supervisor.query(move |core| core.owed(&bridge, PAGE)).await?;
        if !found.is_empty() || tokio::time::Instant::now() >= deadline {
            let bytes = found.iter().map(|(_, task)| task.weight()).sum();
            let notices = found.into_iter().map(|(notice, task)| NoticeItem { notice, task }).collect();
            return Ok(json(bytes, Owed { notices, total }).await?);
        }
        rung(&mut bell, deadline).await?;
    }
}

pub(super) async fn receipts(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Unread,
) -> Result<Json<Value>, Error> {
    state.check(&peer, Rights::Own).await?;
    let body = body.read().await?;
    let receipts: Receipts =
        serde_json::from_slice(&body).map_err(|e| bad_input("body", &e, StatusCode::BAD_REQUEST))?;
    let taken = receipts.receipts.len();
    state.supervisor.ask(peer.actor(surface(&headers)), Ask::Receipts(receipts)).await?;
    Ok(Json(json!({ "receipts": taken })))
}

#[derive(Deserialize, Default)]
pub(super) struct CandidateQuery {
    /// Seconds to wait for somebody to send the code.
    wait: Option<u64>,
}

/// The bridge that a path names.
fn named(path: Result<Path<String>, PathRejection>, state: &State) -> Result<String, Error> {
    let Ok(Path(bridge)) = path else {
        return Err(Refused::new(RefusedCode::NotFound, "there is no such bridge").into());
    };
    if state.fixed.board.has(&bridge) {
        return Ok(bridge);
    }
    let hint = match bridge.as_str() {
        "telegram" => {
            "set TELEGRAM_BOT_TOKEN (a token from @BotFather) in the environment or in .env, then \
                       `octo stop` and start again"
        }
        _ => "there is one bridge: telegram",
    };
    Err(Refused::new(RefusedCode::NotFound, format!("no bridge to {bridge:.40} is set up")).hint(hint).into())
}

pub(super) async fn open_pairing(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let bridge = named(path, &state)?;
    let code = state.fixed.board.open_pairing(&bridge);
    let body = json!({ "code": code, "seconds": crate::bridge::PAIRING_LIFE.as_secs() });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

pub(super) async fn candidate(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<CandidateQuery>, QueryRejection>,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let bridge = named(path, &state)?;
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    let mut left = state.leave.subscribe();
    let found = tokio::select! {
        found = state.fixed.board.candidate(&bridge, wait_of(query.wait)) => found,
        () = async { drop(left.wait_for(|left| *left).await) } => return Err(leaving().into()),
    };
    Ok(Json(found).into_response())
}

#[derive(Deserialize)]
struct Decision {
    accept: bool,
}

pub(super) async fn decide(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<String>, PathRejection>,
    body: Unread,
) -> Result<Json<Value>, Error> {
    state.check(&peer, Rights::Own).await?;
    let bridge = named(path, &state)?;
    let body = body.read().await?;
    let Decision { accept } =
        serde_json::from_slice(&body).map_err(|e| bad_input("body", &e, StatusCode::BAD_REQUEST))?;
    if !state.fixed.board.decide(&bridge, accept) {
        return Err(Refused::new(RefusedCode::Conflict, "nobody waits to be let in")
            .hint("`octo pair telegram` makes a new code")
            .into());
    }
    Ok(Json(json!({ "accepted": accept })))
}
