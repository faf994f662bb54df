//! The routes of tasks: list, start, show, stop, retry, raise, remove.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State as Extract};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::extract::{Named, Unread};
use super::peer::surface;
use super::read::{LONG, blocking, json};
use super::{Error, Peer, Rights, State, bad_input, json_or_default, listing, wait_of};
use crate::command::{
    Env, EnvValue, ListQuery, Refused, RefusedCode, STATUS_HEADER, StartRequest, Started, StopRequest,
};
use crate::store;
use crate::supervisor::core::{Ask, NewTask, Reply, Resolved, list_cursor};
use crate::supervisor::{Fits, leaving};
use crate::task::{Kind, Task, TaskId};

/// A task waits for this many others at most: each is looked up on the supervisor's thread.
const AFTER_MAX: usize = 64;

/// A start takes this many tasks at once: one sync of the folder still covers them in about a second.
const BATCH_MAX: usize = 10_000;

/// A variable longer than this, its name and the NUL included, is the kernel's limit for one string.
const VARIABLE_MAX: usize = 128 * 1024;

/// A shell command line longer than this cannot be handed to `sh -c`: the kernel's limit for one argument.
const COMMAND_MAX: usize = 128 * 1024 - 1;

pub(super) async fn list(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    if let Some(cursor) = query.cursor.as_deref().filter(|c| !c.is_empty() && list_cursor(c).is_none()) {
        return Err(Refused::new(RefusedCode::BadRequest, format!("`{cursor}` is no cursor"))
            .hint("use the `next` of the answer before, or none for the first page")
            .into());
    }
    let page = state.supervisor.query(move |core| core.list(&query)).await?;
    Ok(listing::answer(state, page).await?)
}

impl State {
    /// Ended tasks as they stand: those that are still live from the state, the others from disk.
    pub(super) async fn read_history(&self, ids: Vec<TaskId>) -> Result<Vec<Task>, Refused> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let asked = ids.clone();
        let live: Vec<Option<Task>> =
            self.supervisor.query(move |core| asked.iter().map(|id| core.task(*id).cloned()).collect()).await?;
        let settled: Vec<TaskId> = ids.iter().zip(&live).filter(|(_, l)| l.is_none()).map(|(id, _)| *id).collect();
        let mut read = self.read_all(settled).await?.into_iter().peekable();
        let mut history = Vec::with_capacity(ids.len());
        for (id, live) in ids.into_iter().zip(live) {
            match live {
                Some(task) => history.push(task),
                None => history.extend(read.next_if(|t| t.id == id)),
            }
        }
        history.retain(|t| t.status.is_ended());
        Ok(history)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StartBody {
    Many(Vec<StartRequest>),
    One(Box<StartRequest>),
}

pub(super) async fn start(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Dispatch).await?;
    let body = body.read().await?;
    let workspace = state.fixed.workspace.clone();
    let (requests, many) =
        if body.len() <= LONG { parse_start(&body)? } else { blocking(move || parse_start(&body)).await?? };
    let (tasks, envs) = if requests.len() == 1 && is_short(&requests) && are_at_hand(&requests, &workspace) {
        prepare(requests, &workspace, |_| true)?
    } else {
        blocking(move || prepare(requests, &workspace, FsPath::is_dir)).await??
    };
    let reply = state.supervisor.ask(peer.actor(surface(&headers)), Ask::Start { tasks, envs }).await?;
    let Reply::Started(started) = reply else { return Err(unexpected().into()) };
    let fresh = started.iter().any(|(_, fresh)| *fresh) || started.is_empty();
    let mut answers = Vec::with_capacity(started.len());
    for (shown, _) in started {
        let task = match shown {
            Resolved::Live(task) => *task,
            Resolved::Settled(id) => state.read(id).await?,
        };
        answers.push(Started { instance_id: task.id, task });
    }
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    let bytes = answers.iter().map(|answer| answer.task.weight()).sum();
    if many {
        return Ok((status, json(bytes, answers).await?).into_response());
    }
    let answer = answers.pop().ok_or_else(unexpected)?;
    Ok((status, json(bytes, answer).await?).into_response())
}

/// Whether preparing this takes no longer than a moment.
fn is_short(requests: &[StartRequest]) -> bool {
    requests.iter().flat_map(|request| &request.env).map(|env| env.len()).sum::<usize>() <= 512
}

/// Whether the kernel knows without asking a disk or a server that the folders of the tasks are there. It may
/// not know, or be too old to say.
fn are_at_hand(requests: &[StartRequest], workspace: &FsPath) -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    requests.iter().all(|request| {
        let path = workspace.join(&request.cwd);
        rustix::fs::openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::CACHED).is_ok()
    })
}

/// The requests, and whether they came as a list.
fn parse_start(body: &[u8]) -> Result<(Vec<StartRequest>, bool), Error> {
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    let parsed = if first == Some(&b'[') {
        serde_json::from_slice(body).map(StartBody::Many)
    } else {
        serde_json::from_slice(body).map(|one| StartBody::One(Box::new(one)))
    };
    match parsed.map_err(|e| bad_input("body", &e, StatusCode::BAD_REQUEST))? {
        StartBody::Many(requests) => Ok((requests, true)),
        StartBody::One(request) => Ok((vec![*request], false)),
    }
}

type Prepared = (Vec<NewTask>, Vec<(String, Env)>);

/// Checks everything that needs no state and finds out what needs IO; `is_dir` tells whether a folder is there.
fn prepare(
    requests: Vec<StartRequest>,
    workspace: &FsPath,
    is_dir: impl Fn(&FsPath) -> bool,
) -> Result<Prepared, Refused> {
    if requests.len() > BATCH_MAX {
        let message = format!("{} tasks in one request are more than {BATCH_MAX}", requests.len());
        return Err(Refused::new(RefusedCode::TooLarge, message).hint("send them in several requests"));
    }
    let mut tasks = Vec::with_capacity(requests.len());
    let mut envs: Vec<(String, Env)> = Vec::new();
    let mut before = String::new();
    for mut request in requests {
        check_request(&request)?;
        if let Some(env) = &mut request.env {
            env.retain(|name, _| !is_secret(name));
        }
        request.cwd = folder(&request.cwd, workspace, &is_dir)?;
        let mut env_digest = if request.same_env { before.clone() } else { String::new() };
        if let Some(env) = request.env.take() {
            env_digest = store::env_digest(&env);
            if !envs.iter().any(|(digest, _)| *digest == env_digest) {
                envs.push((env_digest.clone(), env));
            }
        }
        before.clone_from(&env_digest);
        let (uuid, id) = TaskId::random();
        tasks.push(NewTask { request, id, uuid: uuid.to_string(), env_digest });
    }
    Ok((tasks, envs))
}

/// Octo's own secrets are neither stored with a task nor given to one.
fn is_secret(name: &str) -> bool {
    crate::config::secret_names().any(|secret| secret == name)
}

fn check_request(request: &StartRequest) -> Result<(), Refused> {
    let bad = |message: &str, hint: &str| Err(Refused::new(RefusedCode::BadRequest, message).hint(hint));
    if request.kind == Kind::Agent || !request.agent_id.is_empty() {
        return Err(Refused::new(RefusedCode::Unsupported, "this version of Octo runs no agents yet")
            .hint("run `claude -p \"...\"` as a command: `octo bg 'claude -p \"...\"'`"));
    }
    if request.after.len() > AFTER_MAX {
        return bad(
            &format!("a task can wait for {AFTER_MAX} others at most"),
            "chain them: let one wait for the next",
        );
    }
    if request.command.trim().is_empty() {
        return bad("there is no command to run", "write one: `octo bg 'make test'`");
    }
    if request.command.contains('\0') || request.cwd.contains('\0') {
        return bad("a command or folder cannot hold a NUL byte", "remove it");
    }
    if request.command.len() > COMMAND_MAX {
        return bad("the command is longer than 128 KiB, which no shell takes", "put it into a script and run that");
    }
    let odd = |name: &str| name.is_empty() || name.contains('=') || name.contains('\0');
    if let Some(name) = request.env_overrides.keys().find(|n| odd(n)) {
        return bad(&format!("`{name}` is no name of a variable"), "use --env NAME=VALUE");
    }
    if let Some(name) = request.env_overrides.keys().find(|n| is_secret(n)) {
        return bad(&format!("{name} is a secret of Octo's own, which no task gets"), "use a variable of another name");
    }
    check_variables(request)?;
    check_sizes(request)
}

/// What the system would refuse at the launch is refused here, where somebody listens.
fn check_variables(request: &StartRequest) -> Result<(), Refused> {
    let set = request.env_overrides.iter().map(|(name, value)| (name, value.as_bytes()));
    let own = request.env.iter().flatten().map(|(name, value)| match value {
        EnvValue::Text(text) => (name, text.as_bytes()),
        EnvValue::Bytes(bytes) => (name, &bytes[..]),
    });
    for (name, value) in set.chain(own) {
        if value.contains(&0) || name.contains('\0') {
            return Err(Refused::new(RefusedCode::BadRequest, "a variable cannot hold a NUL byte").hint("remove it"));
        }
        if name.len() + value.len() + 2 > VARIABLE_MAX {
            let message = format!("the variable {name:.64} is longer than 128 KiB, which no program can be given");
            return Err(Refused::new(RefusedCode::TooLarge, message).hint("put it into a file and name that"));
        }
    }
    Ok(())
}

/// What goes into the record must fit there with room to spare for what the task will say.
fn check_sizes(request: &StartRequest) -> Result<(), Refused> {
    let variables = request.env_overrides.iter().map(|(k, v)| k.len() + v.len()).sum();
    let after = request.after.iter().map(|t| t.0.len()).sum();
    for (what, size, max) in [
        ("name", request.name.len(), 64 << 10),
        ("key", request.key.len(), 4 << 10),
        ("list of tasks to wait for", after, 64 << 10),
        ("set of variables", variables, 1 << 20),
    ] {
        if size > max {
            let message = format!("the {what} has {size} bytes, more than {max}");
            return Err(Refused::new(RefusedCode::TooLarge, message).hint("use a shorter one"));
        }
    }
    Ok(())
}

fn folder(cwd: &str, workspace: &FsPath, is_dir: impl Fn(&FsPath) -> bool) -> Result<String, Refused> {
    let path = if cwd.is_empty() { workspace.to_owned() } else { workspace.join(cwd) };
    if !is_dir(&path) {
        let message = format!("there is no folder {}", path.display());
        return Err(Refused::new(RefusedCode::BadRequest, message).hint("name one that exists with --cwd"));
    }
    path.into_os_string().into_string().map_err(|path| {
        let message = format!("the folder's name is not UTF-8: {}", path.display());
        Refused::new(RefusedCode::BadRequest, message)
            .hint("start the task from another folder and `cd` in the command")
    })
}

#[derive(Deserialize, Default)]
pub(super) struct ShowQuery {
    /// Answer when the task has ended or asks something, or after this many seconds.
    wait: Option<u64>,
    /// The newest question that the client knows of: only a newer one is news.
    seen: Option<String>,
}

pub(super) async fn show(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    let task = state.show_to(&peer, reference).await?;
    let task = if query.wait.is_some() { state.wait_for(task, &query).await? } else { task };
    let status = HeaderValue::from_static(task.status.word());
    let mut answer = json(task.weight(), task).await?;
    answer.headers_mut().insert(STATUS_HEADER, status);
    Ok(answer)
}

impl State {
    /// The task as it stands when it has ended or a question opened; else after the time is up.
    async fn wait_for(&self, task: Task, query: &ShowQuery) -> Result<Task, Refused> {
        let id = task.id;
        let deadline = tokio::time::Instant::now() + wait_of(query.wait);
        let seen = query.seen.clone();
        let fits: Fits = Arc::new(move |task| task.status.is_ended() || asks_news(task, seen.as_deref()));
        if fits(&task) {
            return Ok(task);
        }
        let mut left = self.leave.subscribe();
        loop {
            tokio::select! {
                biased;
                found = self.supervisor.when(id, Arc::clone(&fits)) => match found? {
                    Some(task) => return Ok(*task),
                    None => {
                        let task = self.record(id).await?;
                        if fits(&task) {
                            return Ok(task);
                        }
                    }
                },
                () = async { drop(left.wait_for(|left| *left).await) } => return Err(leaving()),
                () = tokio::time::sleep_until(deadline) => return self.record(id).await,
            }
            // A record that is not live and not ended is a rare thing, and no reason to run in circles.
            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + LOOK_AGAIN)).await;
        }
    }
}

/// The pause before another look at a record that is not held by the supervisor and has not ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whether a question is open that the client was not told of yet.
fn asks_news(task: &Task, seen: Option<&str>) -> bool {
    let newest = task.questions.iter().rev().find(|q| q.open);
    newest.map_or(!task.paused_question.is_empty(), |q| seen != Some(q.id.as_str()))
}

pub(super) async fn stop(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    let id = state.id_for(&peer, reference).await?;
    state.check(&peer, Rights::Stop(id)).await?;
    let request: StopRequest = json_or_default(&body.read().await?)?;
    state.change(&peer, &headers, Ask::Stop { id, reason: request.reason }).await
}

pub(super) async fn retry(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    headers: HeaderMap,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let id = state.id_for(&peer, reference).await?;
    state.change(&peer, &headers, Ask::Retry { id }).await
}

pub(super) async fn raise(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
) -> Result<Json<Task>, Error> {
    state.check(&peer, Rights::Own).await?;
    let task = state.find(&reference).await?;
    let message = format!("task {} is {}; only one that used up its budget can be raised", task.id, task.status);
    Err(Refused::new(RefusedCode::Conflict, message)
        .hint(format!("`octo task {} retry` runs it again", task.id))
        .into())
}

pub(super) async fn remove(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Error> {
    state.check(&peer, Rights::Own).await?;
    let id = state.id_for(&peer, reference).await?;
    state.supervisor.ask(peer.actor(surface(&headers)), Ask::Remove { id }).await?;
    Ok(Json(serde_json::json!({ "removed": id })))
}

impl State {
    async fn change(&self, peer: &Peer, headers: &HeaderMap, ask: Ask) -> Result<Response, Error> {
        match self.supervisor.ask(peer.actor(surface(headers)), ask).await? {
            Reply::Task(task) => Ok(json(task.weight(), task).await?),
            Reply::Started(_) | Reply::Question(_) | Reply::Ids(_) | Reply::Done => Err(unexpected().into()),
        }
    }
}

pub(super) fn unexpected() -> Refused {
    Refused::new(RefusedCode::Internal, "the supervisor gave an answer to another question")
}
