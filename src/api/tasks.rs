//! The routes of tasks: list, start, show, stop, retry, raise, follow up, remove.

use std::path::{Path as FsPath, PathBuf};
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
    Env, EnvValue, FollowupRequest, ListQuery, RaiseRequest, Refused, RefusedCode, STATUS_HEADER, StartRequest,
    Started, StopRequest,
};
use crate::exec::agent::AgentCheck;
use crate::followup;
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
    let around = Around { workspace: state.fixed.workspace.clone(), agents: state.fixed.agents.clone() };
    let (requests, many) =
        if body.len() <= LONG { parse_start(&body)? } else { blocking(move || parse_start(&body)).await?? };
    let quick = requests.len() == 1 && is_short(&requests) && are_at_hand(&requests, &around.workspace);
    let (tasks, envs) = if quick && !requests.iter().any(is_agent) {
        prepare(requests, &around, None, |_| true)?
    } else {
        let parent = match peer {
            Peer::Task(Some(me)) => Some(state.record(me).await?),
            Peer::Owner | Peer::Task(None) | Peer::Untold => None,
        };
        blocking(move || prepare(requests, &around, parent.as_ref(), FsPath::is_dir)).await??
    };
    state.started(&peer, &headers, Ask::Start { tasks, envs }, many).await
}

/// What a start needs to know of its surroundings.
struct Around {
    workspace: PathBuf,
    agents: Option<Arc<dyn AgentCheck>>,
}

fn is_agent(request: &StartRequest) -> bool {
    request.kind == Kind::Agent || !request.agent_id.is_empty()
}

impl State {
    /// Starts what was prepared, and answers with the records.
    async fn started(&self, peer: &Peer, headers: &HeaderMap, ask: Ask, many: bool) -> Result<Response, Error> {
        let reply = self.supervisor.ask(peer.actor(surface(headers)), ask).await?;
        let Reply::Started(started) = reply else { return Err(unexpected().into()) };
        answer_starts(self, started, many).await
    }
}

async fn answer_starts(state: &State, started: Vec<(Resolved, bool)>, many: bool) -> Result<Response, Error> {
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
    around: &Around,
    parent: Option<&Task>,
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
        if is_agent(&request) {
            request.kind = Kind::Agent;
            check_agent(&request)?;
        }
        if let Some(env) = &mut request.env {
            env.retain(|name, _| !is_secret(name));
        }
        request.cwd = folder(&request.cwd, &around.workspace, &is_dir)?;
        if request.kind == Kind::Agent {
            let agents = around.agents.as_ref().ok_or_else(no_agents)?;
            agents.check(&mut request, parent)?;
        }
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
    if request.after.len() > AFTER_MAX {
        return bad(
            &format!("a task can wait for {AFTER_MAX} others at most"),
            "chain them: let one wait for the next",
        );
    }
    if request.budget_tokens == Some(0) || request.budget_usd.is_some_and(|usd| !usd.is_finite() || usd <= 0.0) {
        return bad("a budget of nothing lets nothing be done", "leave it out, or write a larger one");
    }
    if request.command.trim().is_empty() && !is_agent(request) {
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

fn no_agents() -> Refused {
    Refused::new(RefusedCode::Unsupported, "this version of Octo runs no agents yet")
        .hint("run `claude -p \"...\"` as a command: `octo bg 'claude -p \"...\"'`")
}

/// An agent has a prompt, and no command.
fn check_agent(request: &StartRequest) -> Result<(), Refused> {
    let bad = |message: &str, hint: &str| Err(Refused::new(RefusedCode::BadRequest, message).hint(hint));
    if !request.command.is_empty() {
        return bad("an agent has no command", "give it a prompt, as `task`; it runs commands itself");
    }
    if request.prompt.trim().is_empty() {
        return bad("there is no prompt for the agent", "say what it shall do, as `task`");
    }
    if request.max_turns == Some(0) {
        return bad("an agent without a turn does nothing", "leave max_turns out, or write a larger number");
    }
    Ok(())
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
        ("prompt", request.prompt.len(), 256 << 10),
        ("agent's name", request.agent_id.len(), 1 << 10),
        ("model's name", request.model.len(), 1 << 10),
        ("path of the team", request.team.len(), 4 << 10),
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
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let id = state.id_for(&peer, reference).await?;
    let RaiseRequest { tokens } = json_or_default(&body.read().await?)?;
    state.change(&peer, &headers, Ask::Raise { id, tokens }).await
}

/// A new task that follows an ended one. It is nobody's child, whoever started that one.
pub(super) async fn followup(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    headers: HeaderMap,
    body: Unread,
) -> Result<Response, Error> {
    state.check(&peer, Rights::Own).await?;
    let task = state.find(&reference).await?;
    let FollowupRequest { text, key } = json_or_default(&body.read().await?)?;
    if text.trim().is_empty() {
        let message = "there is nothing that follows";
        let hint = format!("`octo task {} followup TEXT` says what is to be done next", task.id);
        return Err(Refused::new(RefusedCode::BadRequest, message).hint(hint).into());
    }
    let record = task.clone();
    state.supervisor.query(move |core| core.usable(&record)).await??;
    let request = StartRequest { key, ..followup::request(&task, &text)? };
    let around = Around { workspace: state.fixed.workspace.clone(), agents: state.fixed.agents.clone() };
    let (mut tasks, envs) = blocking(move || prepare(vec![request], &around, None, FsPath::is_dir)).await??;
    for new in &mut tasks {
        new.env_digest.clone_from(&task.env);
    }
    state.started(&peer, &headers, Ask::Start { tasks, envs }, false).await
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
            Reply::Started(_) | Reply::Question(_) | Reply::Ids(_) | Reply::Reserved(_) | Reply::Done => {
                Err(unexpected().into())
            }
        }
    }
}

pub(super) fn unexpected() -> Refused {
    Refused::new(RefusedCode::Internal, "the supervisor gave an answer to another question")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows one agent.
    #[derive(Debug)]
    struct OneAgent;

    impl AgentCheck for OneAgent {
        fn check(&self, request: &mut StartRequest, parent: Option<&Task>) -> Result<(), Refused> {
            if !matches!(request.agent_id.as_str(), "" | "writer") {
                let message = format!("there is no agent {}; there are: writer", request.agent_id);
                return Err(Refused::new(RefusedCode::BadRequest, message));
            }
            request.model = format!("demo/{}", parent.map_or(0, |task| task.number));
            Ok(())
        }
    }

    fn prepared(body: &str, agents: bool) -> Result<NewTask, Refused> {
        let agents = agents.then(|| Arc::new(OneAgent) as Arc<dyn AgentCheck>);
        let around = Around { workspace: "/".into(), agents };
        let requests = vec![serde_json::from_str(body).unwrap()];
        let parent = Task::new(TaskId::random().1, 7, crate::task::Stamp::default());
        prepare(requests, &around, Some(&parent), |_| true).map(|(mut tasks, _)| tasks.remove(0))
    }

    #[test]
    fn an_agent_is_started_by_its_name_or_its_kind() {
        for body in [r#"{"agentId":"writer","task":"Write."}"#, r#"{"type":"agent","task":"Write."}"#] {
            let new = prepared(body, true).unwrap().request;
            assert_eq!((new.kind, new.prompt.as_str(), new.model.as_str()), (Kind::Agent, "Write.", "demo/7"));
            assert_eq!(prepared(body, false).unwrap_err().code, RefusedCode::Unsupported);
        }
        let thread = prepared(r#"{"type":"agent","task":"x","thread":"chat:me","thread_id":"chat:me"}"#, true).unwrap();
        assert_eq!(thread.request.thread, "", "only the daemon begins conversations");
    }

    #[test]
    fn what_makes_no_sense_for_an_agent_is_refused() {
        for (body, why) in [
            (r#"{"type":"agent","task":" "}"#, "no prompt"),
            (r#"{"type":"agent","task":"x","command":"ls"}"#, "has no command"),
            (r#"{"type":"agent","task":"x","max_turns":0}"#, "without a turn"),
            (r#"{"type":"agent","task":"x","budget_tokens":0}"#, "budget of nothing"),
            (r#"{"type":"agent","task":"x","budget_usd":-1}"#, "budget of nothing"),
            (r#"{"agentId":"ghost","task":"x"}"#, "there are: writer"),
            (r#"{"command":"x","budget_usd":0}"#, "budget of nothing"),
        ] {
            let refused = prepared(body, true).unwrap_err();
            assert!(refused.message.contains(why), "{body}: {refused}");
        }
        let long = format!(r#"{{"type":"agent","task":"{}"}}"#, "x".repeat(300_000));
        assert_eq!(prepared(&long, true).unwrap_err().code, RefusedCode::TooLarge);
        assert!(prepared(r#"{"command":"x","budget_usd":1.5}"#, true).is_ok());
    }
}
