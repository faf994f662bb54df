//! The OpenAPI document of the routes, made from the same types that the handlers use.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::Error;
use super::read::blocking;
use crate::bridge::Candidate;
use crate::command::{
    ChatRequest, ErrorBody, FollowupRequest, Listing, NoticePage, Owed, QuestionRequest, QuestionState, RaiseRequest,
    Receipts, ResumeRequest, Roster, ShutdownRequest, StartRequest, Started, StatusReport, StopRequest,
};
use crate::task::Task;

#[derive(OpenApi)]
#[openapi(
    info(title = "Octo", description = "The API of Octo's daemon, on the Unix socket `.octo/octo.sock`."),
    paths(
        list,
        start,
        show,
        remove,
        logs,
        stop,
        retry,
        raise,
        followup,
        ask,
        look,
        resume,
        agents,
        chat,
        owed,
        receipts,
        open_pairing,
        candidate,
        decide,
        socket,
        notices,
        status,
        shutdown,
        clear,
        trust,
        healthz,
        metrics,
        openapi
    ),
    components(schemas(
        Task,
        Listing,
        StartRequest,
        Started,
        StopRequest,
        RaiseRequest,
        FollowupRequest,
        ShutdownRequest,
        NoticePage,
        StatusReport,
        QuestionRequest,
        QuestionState,
        ResumeRequest,
        ChatRequest,
        Owed,
        Receipts,
        Candidate,
        ErrorBody
    ))
)]
struct Document;

pub(super) async fn document() -> Result<Response, Error> {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let make = || TEXT.get_or_init(|| serde_json::to_vec(&Document::openapi()).unwrap_or_default().into()).clone();
    let text = match TEXT.get() {
        Some(text) => text.clone(),
        None => blocking(make).await?,
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

// The functions below carry the documentation of the routes; the handlers are in the files beside this one.

/// Tasks: all that have not ended, and a page of history.
#[utoipa::path(get, path = "/background-agents",
    params(
        ("status" = Option<String>, Query, description = "just this status"),
        ("kind" = Option<String>, Query, description = "process | agent"),
        ("limit" = Option<usize>, Query, description = "ended tasks at most; default 50, 0 = all"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("hidden" = Option<bool>, Query, description = "also those hidden by /clear")),
    responses((status = 200, body = Listing), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn list() {}

/// Starts a task, or, given an array, many: in order, all or nothing.
#[utoipa::path(post, path = "/background-agents/start", request_body = StartRequest,
    responses(
        (status = 201, body = Started, description = "accepted and on disk"),
        (status = 200, body = Started, description = "the same key again: the same task"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 501, body = ErrorBody),
        (status = 503, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn start() {}

/// One task. With `wait`, answers when it has ended or asks something, or when the time is up.
#[utoipa::path(get, path = "/background-agents/{id}",
    params(
        ("id" = String, Path, description = "id, unambiguous prefix, or number"),
        ("wait" = Option<u64>, Query, description = "seconds, at most 300"),
        ("seen" = Option<String>, Query, description = "the newest question already told: only a newer one ends the wait")),
    responses((status = 200, body = Task, headers(("x-octo-status" = String, description = "the task's status"))),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn show() {}

/// Removes an ended task and its files.
#[utoipa::path(delete, path = "/background-agents/{id}",
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")),
    responses((status = 200, description = "`{\"removed\": id}`"), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn remove() {}

/// The output as it was written; followed, as server-sent events `log`, `end` and `error`.
#[utoipa::path(get, path = "/background-agents/{id}/logs",
    params(
        ("id" = String, Path, description = "id, unambiguous prefix, or number"),
        ("from" = Option<i64>, Query, description = "first byte; negative: that many before the end"),
        ("lines" = Option<u64>, Query, description = "just the last lines"),
        ("follow" = Option<bool>, Query, description = "go on as it grows"),
        ("run" = Option<u32>, Query, description = "which run; default the present one")),
    responses(
        (status = 200, content_type = "application/octet-stream", body = String,
            headers(("x-octo-log-from" = u64), ("x-octo-log-size" = u64))),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn logs() {}

/// Asks the owner of a task. The same key again is the same question. A task may ask for itself alone.
#[utoipa::path(post, path = "/background-agents/{id}/questions", request_body = QuestionRequest,
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")),
    responses((status = 201, body = QuestionState, description = "the question, on disk"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 503, body = ErrorBody),
        (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn ask() {}

/// One question and its answer, for the task that asked and its owner. With `wait`, answers when it is closed, or
/// when the time is up.
#[utoipa::path(get, path = "/background-agents/{id}/questions/{question}",
    params(
        ("id" = String, Path, description = "id, unambiguous prefix, or number"),
        ("question" = String, Path, description = "the question's id: `q1`"),
        ("wait" = Option<u64>, Query, description = "seconds, at most 300")),
    responses((status = 200, body = QuestionState), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn look() {}

/// Answers a question: the first answer wins and is on disk when this returns; a later one is refused with who
/// answered, when and what.
#[utoipa::path(post, path = "/background-agents/{id}/resume", request_body = ResumeRequest,
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")),
    responses((status = 200, body = Task), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn resume() {}

/// The team of the settings: which agents there are, and why it cannot be used, if that is so.
#[utoipa::path(get, path = "/agents",
    responses((status = 200, body = Roster), (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn agents() {}

/// Says something to the supervisor agent; its answer comes as server-sent events. There is one conversation for each
/// surface and user (`x-octo-client`: `repl`, `telegram:4711`; `api` without it).
#[utoipa::path(post, path = "/chat", request_body = ChatRequest,
    responses(
        (status = 200, content_type = "text/event-stream", description = "events, each with JSON as its data: \
            `delta` {text} more of its words; `tool` {name, line} it calls a tool; `task` {id} it started a task; \
            `question` {task, question, text, choices} it asks, and goes on when that was answered (`POST .../resume`); \
            `done` {task, text} the end, with its last words whole; `error` {task, message} the end, without an answer. \
            What was said is on disk before the first event, and is answered also after a crash"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "no model, or no key: the message says what to set"),
        (status = 503, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn chat() {}

/// What a push bridge has still to tell, oldest first. With `wait`, answers as soon as there is something.
#[utoipa::path(get, path = "/owed",
    params(
        ("bridge" = String, Query, description = "the bridge: `telegram`"),
        ("wait" = Option<u64>, Query, description = "seconds, at most 300")),
    responses((status = 200, body = Owed), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn owed() {}

/// What became of notices that a push bridge was to tell.
#[utoipa::path(post, path = "/receipts", request_body = Receipts,
    responses((status = 200, description = "`{\"receipts\": n}`: on disk"), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn receipts() {}

/// Opens a pairing of a bridge: whoever sends it the code is shown to the owner, who decides.
#[utoipa::path(post, path = "/bridges/{bridge}/pairing",
    params(("bridge" = String, Path, description = "`telegram`")),
    responses((status = 201, description = "`{\"code\": \"ABCDEFGH\", \"seconds\": 300}`"),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn open_pairing() {}

/// Who sent the code; null while nobody did.
#[utoipa::path(get, path = "/bridges/{bridge}/pairing",
    params(
        ("bridge" = String, Path, description = "`telegram`"),
        ("wait" = Option<u64>, Query, description = "seconds, at most 300")),
    responses((status = 200, body = Option<Candidate>), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn candidate() {}

/// Lets in who sent the code, or not.
#[utoipa::path(post, path = "/bridges/{bridge}/pairing/decision",
    params(("bridge" = String, Path, description = "`telegram`")),
    responses((status = 200, description = "`{\"accepted\": true}`"), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn decide() {}

/// Stops a task. The intent is on disk when this answers; the task ends soon after.
#[utoipa::path(post, path = "/background-agents/{id}/stop", request_body = Option<StopRequest>,
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")),
    responses((status = 200, body = Task), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn stop() {}

/// Runs an ended task again.
#[utoipa::path(post, path = "/background-agents/{id}/retry",
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")),
    responses((status = 200, body = Task), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn retry() {}

/// Raises the budget of a task that used it up.
#[utoipa::path(post, path = "/background-agents/{id}/raise",
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")), request_body = Option<RaiseRequest>,
    responses((status = 200, body = Task), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn raise() {}

/// Starts what follows an ended task: the same session of a `claude` again, or an agent that is told what was.
#[utoipa::path(post, path = "/background-agents/{id}/followup",
    params(("id" = String, Path, description = "id, unambiguous prefix, or number")), request_body = FollowupRequest,
    responses(
        (status = 201, body = Started, description = "accepted and on disk"),
        (status = 200, body = Started, description = "the same key again: the same task"),
        (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 501, body = ErrorBody),
        (status = 503, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn followup() {}

/// Live updates: a `snapshot`, then `task`, `removed`, `notice` and `log` messages.
#[utoipa::path(get, path = "/background-agent-ws",
    responses((status = 101, description = "the connection is a WebSocket now"), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn socket() {}

/// Notices after a cursor, oldest first, at most 100 a page.
#[utoipa::path(get, path = "/notices",
    params(
        ("after" = Option<String>, Query, description = "cursor of the page before; `latest`: just the newest cursor"),
        ("wait" = Option<u64>, Query, description = "seconds to wait for one, at most 300")),
    responses((status = 200, body = NoticePage), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn notices() {}

/// The daemon, its slots, settings and problems.
#[utoipa::path(get, path = "/status", responses((status = 200, body = StatusReport), (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn status() {}

/// Lets the daemon leave; tasks go on unless told otherwise.
#[utoipa::path(post, path = "/shutdown", request_body = Option<ShutdownRequest>,
    responses((status = 202, description = "`{\"leaving\": true, \"stopping\": tasks}`"), (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn shutdown() {}

/// Hides all ended tasks from lists; records stay.
#[utoipa::path(post, path = "/clear",
    responses((status = 200, description = "`{\"cleared\": tasks}`"), (status = 403, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn clear() {}

/// Accepts records and settings files that came from elsewhere.
#[utoipa::path(post, path = "/trust",
    responses((status = 200, description = "`{\"accepted\": [what]}`"), (status = 403, body = ErrorBody), (status = 507, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn trust() {}

/// Answers `ok` while the supervisor does.
#[utoipa::path(get, path = "/healthz", responses((status = 200, content_type = "text/plain", body = String)))]
#[allow(dead_code, reason = "documentation")]
fn healthz() {}

/// Figures in the text form that Prometheus reads.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String), (status = 403, body = ErrorBody)))]
#[allow(dead_code, reason = "documentation")]
fn metrics() {}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200)))]
#[allow(dead_code, reason = "documentation")]
fn openapi() {}
