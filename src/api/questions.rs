//! The routes of questions: ask, look, answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, FromRequestParts, Path, Query, State as Extract};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::extract::{Named, Unread};
use super::peer::surface;
use super::read::{blocking, json};
use super::{Error, Peer, Rights, State, bad_input, json_or_default, wait_of};
use crate::action;
use crate::command::{ActionRequest, QuestionRequest, QuestionState, Refused, RefusedCode, ResumeRequest, TaskRef};
use crate::supervisor::core::{Ask, Input, NewQuestion, Reply, state_of};
use crate::supervisor::{Fits, leaving};
use crate::task::{Action, Task, TaskId};

/// A question or an answer is no longer than this, in bytes: a person reads it, and the record keeps it.
const TEXT_MAX: usize = 16 * 1024;

/// The choices of a question, and the length of one in bytes.
const CHOICES_MAX: usize = 50;
const CHOICE_MAX: usize = 512;

/// A key of a question or an answer, in bytes.
const KEY_MAX: usize = 256;

/// The longest time for an answer, in seconds: ten years.
const TIMEOUT_MAX: u64 = 10 * 366 * 24 * 3600;

/// How often a poll that waits says that its asker is still there.
const PRESENT: Duration = Duration::from_secs(20);

/// The task and the question that a path names.
#[derive(Debug)]
pub(super) struct Asked(TaskRef, String);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match Path::<(TaskRef, String)>::from_request_parts(parts, state).await {
            Ok(Path((task, question))) => Ok(Asked(task, question)),
            Err(_) => Err(Refused::no_such_task(parts.uri.path()).into()),
        }
    }
}

pub(super) async fn ask(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    let id = state.id_for(&peer, reference).await?;
    state.check(&peer, Rights::Ask(id)).await?;
    let body = body.read().await?;
    let mut request: QuestionRequest =
        serde_json::from_slice(&body).map_err(|e| bad_input("body", &e, StatusCode::BAD_REQUEST))?;
    check_question(&request)?;
    if request.key.is_empty() {
        request.key = crate::client::new_key();
    }
    let action = match request.action.take() {
        Some(wanted) => Some(described(wanted).await?),
        None => None,
    };
    let new = Box::new(NewQuestion { request, action });
    let reply = state.supervisor.ask(peer.actor(surface(&headers)), Ask::Question { id, new }).await?;
    let Reply::Question(found) = reply else { return Err(super::tasks::unexpected().into()) };
    Ok((StatusCode::CREATED, axum::Json(found)).into_response())
}

fn check_question(request: &QuestionRequest) -> Result<(), Refused> {
    let bad = |message: String, hint: &str| Err(Refused::new(RefusedCode::BadRequest, message).hint(hint));
    let long = |what: &str, size: usize, max: usize| {
        let message = format!("the {what} has {size} bytes, more than {max}");
        Err(Refused::new(RefusedCode::TooLarge, message).hint("use a shorter one"))
    };
    if request.action.is_none() && request.text.trim().is_empty() {
        return bad("the question is empty".to_owned(), "ask something");
    }
    if request.action.as_ref().is_some_and(|a| a.tool.trim().is_empty() || a.tool.len() > CHOICE_MAX) {
        return bad("the action names no tool, or a very long one".to_owned(), "say which tool it is");
    }
    if request.action.is_some() && !request.choices.is_empty() {
        return bad("a request for permission has its own choices".to_owned(), "leave `choices` out");
    }
    if request.text.len() > TEXT_MAX {
        return long("question", request.text.len(), TEXT_MAX);
    }
    if request.key.len() > KEY_MAX {
        return long("key", request.key.len(), KEY_MAX);
    }
    if request.by.len() > 64 || request.by.contains(char::is_control) {
        return bad("`by` is a word or two".to_owned(), "leave it out, or make it shorter");
    }
    if request.choices.len() > CHOICES_MAX {
        return bad(format!("a question has {CHOICES_MAX} choices at most"), "ask in steps, or for free text");
    }
    if let Some(choice) = request.choices.iter().find(|c| c.len() > CHOICE_MAX) {
        return long("choice", choice.len(), CHOICE_MAX);
    }
    let mut seen = std::collections::HashSet::new();
    if request.choices.iter().any(|c| c.trim().is_empty() || !seen.insert(c.trim().to_lowercase())) {
        return bad("a choice is empty, or there twice".to_owned(), "give each choice words of its own");
    }
    if request.timeout > TIMEOUT_MAX {
        return bad("the time-out is longer than ten years".to_owned(), "leave it out to wait for ever");
    }
    Ok(())
}

/// What the owner is shown of an action: computed here, whatever the task says about it.
async fn described(wanted: ActionRequest) -> Result<Action, Refused> {
    blocking(move || action::describe(&wanted, action::read_text)).await
}

#[derive(Deserialize, Default)]
pub(super) struct LookQuery {
    /// Answer when the question is closed, or after this many seconds.
    wait: Option<u64>,
}

pub(super) async fn look(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Asked(reference, question): Asked,
    query: Result<Query<LookQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    let id = state.id_for(&peer, reference).await?;
    state.check(&peer, Rights::Ask(id)).await?;
    // Only the asker's own polls say that somebody waits for the answer.
    let present = peer != Peer::Owner;
    let found = state.await_answer(id, &question, wait_of(query.wait), present).await?;
    Ok(axum::Json(found).into_response())
}

impl State {
    /// The question when it is closed, or as it stands when the time is up. An answer that is not on disk yet is told
    /// to nobody.
    async fn await_answer(
        &self,
        id: TaskId,
        question: &str,
        wait: Duration,
        present: bool,
    ) -> Result<QuestionState, Refused> {
        let deadline = tokio::time::Instant::now() + wait;
        let wanted = question.to_owned();
        let fits: Fits = Arc::new(move |task: &Task| find(task, &wanted).is_none_or(|found| !found.question.open));
        let mut left = self.leave.subscribe();
        loop {
            if present {
                self.supervisor.input(Input::Polled { id, question: question.to_owned() }).await;
            }
            let task = self.record(id).await?;
            let found = find(&task, question).ok_or_else(|| no_such_question(id, question))?;
            if !found.question.open || tokio::time::Instant::now() >= deadline {
                return Ok(found);
            }
            let slice = deadline.min(tokio::time::Instant::now() + PRESENT);
            tokio::select! {
                biased;
                found = self.supervisor.when(id, Arc::clone(&fits)) => {
                    if let Some(found) = found?.and_then(|task| find(&task, question)) {
                        return Ok(found);
                    }
                }
                () = async { drop(left.wait_for(|left| *left).await) } => return Err(leaving()),
                () = tokio::time::sleep_until(slice) => {}
            }
        }
    }
}

fn find(task: &Task, question: &str) -> Option<QuestionState> {
    task.questions.iter().find(|q| q.id == question).map(|q| state_of(task, q))
}

fn no_such_question(id: TaskId, question: &str) -> Refused {
    Refused::new(RefusedCode::NotFound, format!("task {id} has no question {question:.40}"))
        .hint(format!("`octo task {id}` shows its questions"))
}

pub(super) async fn resume(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    // A task answers no question, least of all its own.
    state.check(&peer, Rights::Own).await?;
    let id = state.id_for(&peer, reference).await?;
    let request: ResumeRequest = json_or_default(&body.read().await?)?;
    for (what, size, max) in [("answer", request.answer.len(), TEXT_MAX), ("key", request.key.len(), KEY_MAX)] {
        if size > max {
            let message = format!("the {what} has {size} bytes, more than {max}");
            return Err(Refused::new(RefusedCode::TooLarge, message).hint("use a shorter one").into());
        }
    }
    if request.answer.trim().is_empty() {
        return Err(Refused::new(RefusedCode::BadRequest, "the answer is empty")
            .hint(format!("`octo task {id} resume ANSWER`"))
            .into());
    }
    match state.supervisor.ask(peer.actor(surface(&headers)), Ask::Answer { id, request }).await? {
        Reply::Task(task) => Ok(json(task.weight(), task).await?),
        // It was answered by this very request, and the task has been put away since.
        Reply::Done => {
            let task = state.record(id).await?;
            Ok(json(task.weight(), task).await?)
        }
        Reply::Started(_) | Reply::Question(_) | Reply::Ids(_) | Reply::Reserved(_) => {
            Err(super::tasks::unexpected().into())
        }
    }
}
