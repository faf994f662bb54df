//! `GET /agents`, and `POST /chat`: something is said to the supervisor agent, and its answer comes as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State as Extract};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use super::extract::Unread;
use super::peer::surface;
use super::{Error, Peer, Rights, State, json_or_default};
use crate::agent::hub::{Listen, Said, Say};
use crate::command::{ChatRequest, Refused, RefusedCode, Roster};

/// How often a silent answer says that it is still there.
const ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn chat(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let body = body.read().await?;
    let request: ChatRequest = json_or_default(&body)?;
    let Some(hub) = state.fixed.hub.clone() else {
        return Err(Refused::new(RefusedCode::Unsupported, "this daemon has no agents").into());
    };
    let key = if request.key.is_empty() { crate::client::new_key() } else { request.key };
    let who = surface(&headers).to_owned();
    let say = Say { who, text: request.text, key, new: request.new, model: request.model };
    let listen = hub.say(say).await?;
    let left = state.leave.subscribe();
    let events = stream::unfold((listen, left), |(mut listen, mut left)| async move {
        let said = tokio::select! {
            said = listen.next() => said?,
            // What was said is kept: the next daemon answers it.
            () = async { drop(left.wait_for(|left| *left).await) } => return None,
        };
        let event = event(&listen, &said);
        Some((Ok::<_, Infallible>(event), (listen, left)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

pub(super) async fn agents(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<Roster>, Error> {
    state.check(&peer, Rights::Own).await?;
    let Some(hub) = state.fixed.hub.clone() else { return Ok(Json(Roster::default())) };
    let roster = tokio::task::spawn_blocking(move || hub.roster()).await;
    roster.map(Json).map_err(|e| Refused::new(RefusedCode::Internal, e.to_string()).into())
}

fn event(listen: &Listen, said: &Said) -> Event {
    let (name, data): (&str, Value) = match said {
        Said::Heard { .. } => ("delta", json!({ "text": "" })),
        Said::Delta(text) => ("delta", json!({ "text": text })),
        Said::Tool { name, line } => ("tool", json!({ "name": name, "line": line })),
        Said::Task(id) => ("task", json!({ "id": id })),
        Said::Question { id, text, choices } => {
            ("question", json!({ "task": listen.task, "question": id, "text": text, "choices": choices }))
        }
        Said::Done { text } => ("done", json!({ "task": listen.task, "text": text })),
        Said::Error { message } => ("error", json!({ "task": listen.task, "message": message })),
    };
    Event::default().event(name).data(data.to_string())
}
