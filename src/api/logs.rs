//! The output of a task: by offset, or followed as it grows.
//!
//! Where the bytes are depends on the task's age: in `run-N/out.log` while the run folder is there, in
//! `<id>.run-N.log` after it was folded away, in the record's `result` when they fit there byte for byte.
//! A follower holds the file open, so that folding away pulls nothing from under it.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::extract::Named;
use super::read::blocking;
use super::tail::Tail;
use super::{Error, Peer, State, bad_input};
use crate::command::{Refused, RefusedCode, TaskRef};
use crate::run::RunDir;
use crate::supervisor::Event;
use crate::task::{Kind, Task, TaskId};

/// One read of a log: bounds the daemon's memory whatever a task writes.
const CHUNK: usize = 64 * 1024;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct LogQuery {
    /// The first byte; negative: that many before the end.
    from: Option<i64>,
    /// Just the last lines.
    lines: Option<u64>,
    /// Go on as it grows.
    follow: bool,
    /// Which run; absent: the present one.
    run: Option<u32>,
}

pub(super) async fn logs(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    Named(reference): Named,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query.map_err(|e| bad_input("query", &e, StatusCode::BAD_REQUEST))?;
    let follow = query.follow;
    // Listen before looking: an end that comes in between is heard.
    let bell = state.supervisor.listen();
    let task = state.show_to(&peer, reference).await?;
    let (found, size) = Follow::open(&state, bell, task, query).await?;
    if follow {
        let stream = stream::unfold(found, Follow::next).map(|chunk| Ok::<_, Infallible>(chunk.event()));
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response());
    }
    let Follow { source, at: from, .. } = found;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, (size - from).to_string()),
        (header::HeaderName::from_static("x-octo-log-from"), from.to_string()),
        (header::HeaderName::from_static("x-octo-log-size"), size.to_string()),
    ];
    Ok((headers, Body::from_stream(bytes(source, from, size))).into_response())
}

fn cannot_read(error: &io::Error) -> Refused {
    Refused::new(RefusedCode::Storage, format!("the output cannot be read: {error}")).hint("`octo doctor` says more")
}

/// Where a run's output is.
#[derive(Debug)]
enum Source {
    /// Nothing has been written yet.
    Nothing,
    /// A file, held open.
    File(Arc<File>),
    /// The record's `result`.
    Text(Vec<u8>),
}

impl Source {
    fn open(tasks: &FsPath, task: &Task, run: u32) -> Result<Source, Refused> {
        let live = RunDir::new(tasks, task.id, run).log_path();
        let folded = tasks.join(format!("{}.run-{run}.log", task.id));
        // Twice: a file may be folded away between the two looks.
        for path in [&live, &folded, &live, &folded] {
            match File::open(path) {
                Ok(file) => return Ok(Source::File(Arc::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot_read(&error)),
            }
        }
        // The result of an agent is its summary, not what it wrote.
        if run == task.run && task.status.is_ended() && task.kind == Kind::Process {
            return Ok(Source::Text(task.result.clone().into_bytes()));
        }
        if run > task.run || run == 0 {
            return Err(Refused::new(RefusedCode::NotFound, format!("task {} has no run {run}", task.id))
                .hint(format!("its runs are 1 to {}", task.run)));
        }
        Ok(Source::Nothing)
    }

    fn len(&self) -> io::Result<u64> {
        match self {
            Source::Nothing => Ok(0),
            Source::File(file) => Ok(file.metadata()?.len()),
            Source::Text(text) => Ok(text.len() as u64),
        }
    }

    /// The asked-for span: its first byte, and the size now.
    fn span(&self, query: &LogQuery) -> io::Result<(u64, u64)> {
        let size = self.len()?;
        let mut from = match query.from {
            None => 0,
            Some(back) if back < 0 => size.saturating_sub(back.unsigned_abs()),
            Some(from) => from.unsigned_abs().min(size),
        };
        if let Some(lines) = query.lines {
            from = from.max(self.start_of_last(lines, size)?);
        }
        Ok((from, size))
    }

    /// Where the last `lines` lines begin, read backwards in chunks.
    fn start_of_last(&self, lines: u64, size: u64) -> io::Result<u64> {
        if lines == 0 {
            return Ok(size);
        }
        let (mut end, mut left) = (size, lines);
        while end > 0 {
            let begin = end.saturating_sub(CHUNK as u64);
            let chunk = self.read(begin, usize::try_from(end - begin).unwrap_or(CHUNK))?;
            for (i, byte) in chunk.iter().enumerate().rev() {
                let at = begin + i as u64;
                // The newline that ends the last line begins no other one.
                if *byte == b'\n' && at + 1 != size {
                    left = left.saturating_sub(1);
                    if left == 0 {
                        return Ok(at + 1);
                    }
                }
            }
            end = begin;
        }
        Ok(0)
    }

    fn read(&self, from: u64, max: usize) -> io::Result<Vec<u8>> {
        match self {
            Source::Nothing => Ok(Vec::new()),
            Source::Text(text) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
                Ok(text[from..(from + max).min(text.len())].to_vec())
            }
            Source::File(file) => read_file(file, from, max),
        }
    }

    /// As [`Source::read`], for the thread that serves the API: bytes that the kernel has at hand are read at
    /// once, others elsewhere. There may be more than it returns, unless that is nothing.
    async fn read_here(&self, from: u64, max: usize) -> io::Result<Vec<u8>> {
        let Source::File(file) = self else { return self.read(from, max) };
        if let Some(bytes) = read_at_hand(file, from, max) {
            return Ok(bytes);
        }
        let file = Arc::clone(file);
        let read = tokio::task::spawn_blocking(move || read_file(&file, from, max));
        read.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }
}

/// Up to `max` bytes of a file.
fn read_file(file: &File, from: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; max];
    let mut have = 0;
    while have < max {
        match file.read_at(&mut bytes[have..], from + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// What can be read without waiting for a disk; `None`: that cannot be told.
fn read_at_hand(file: &File, from: u64, max: usize) -> Option<Vec<u8>> {
    let read = |bytes: &mut [u8]| {
        rustix::io::preadv2(file, &mut [IoSliceMut::new(bytes)], from, rustix::io::ReadWriteFlags::NOWAIT).ok()
    };
    // Mostly it is a line or nothing.
    let mut few = [0; 1024];
    let n = read(&mut few)?;
    if n < few.len() {
        return Some(few[..n.min(max)].to_vec());
    }
    let mut bytes = vec![0; max];
    let n = read(&mut bytes)?;
    bytes.truncate(n);
    Some(bytes)
}

/// The bytes of a span, chunk by chunk.
fn bytes(source: Source, from: u64, size: u64) -> impl Stream<Item = io::Result<Vec<u8>>> {
    stream::unfold(Some((source, from)), move |at| async move {
        let (source, from) = at?;
        if from >= size {
            return None;
        }
        let max = usize::try_from(size - from).unwrap_or(CHUNK).min(CHUNK);
        match source.read_here(from, max).await {
            Ok(chunk) if !chunk.is_empty() => {
                let next = from + chunk.len() as u64;
                Some((Ok(chunk), Some((source, next))))
            }
            // The file ends before its announced size: cut the connection rather than pass for whole.
            Ok(_) => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Follows a task's log from a byte on, for the WebSocket.
pub(super) async fn follow(
    state: &State,
    reference: TaskRef,
    from: u64,
) -> Result<(TaskId, impl Stream<Item = Chunk> + Send + 'static), Refused> {
    let bell = state.supervisor.listen();
    let task = state.find(&reference).await?;
    let id = task.id;
    let query = LogQuery { from: i64::try_from(from).ok(), follow: true, ..LogQuery::default() };
    let (follow, _) = Follow::open(state, bell, task, query).await?;
    Ok((id, stream::unfold(follow, Follow::next)))
}

/// What a follower gets.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Bytes of the log.
    Log { from: u64, bytes: Vec<u8> },
    /// The run is over and everything was sent.
    End { status: String, size: u64 },
    /// The log cannot be read any more.
    Error { message: String },
}

impl Chunk {
    fn data(&self) -> (&'static str, Value) {
        match self {
            Chunk::Log { from, bytes } => {
                let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
                ("log", json!({ "from": from, "bytes": bytes }))
            }
            Chunk::End { status, size } => ("end", json!({ "status": status, "size": size })),
            Chunk::Error { message } => ("error", json!({ "message": message })),
        }
    }

    fn event(&self) -> SseEvent {
        let Chunk::Log { from, bytes } = self else {
            let (name, data) = self.data();
            return SseEvent::default().event(name).data(data.to_string());
        };
        let mut data = format!("{{\"from\":{from},\"bytes\":\"");
        base64::engine::general_purpose::STANDARD.encode_string(bytes, &mut data);
        data.push_str("\"}");
        SseEvent::default().event("log").data(data)
    }

    /// The chunk as a WebSocket message: `{"type":"log","id":...}` and what the event holds; the end of a
    /// log has `end` in place of `bytes`.
    pub(super) fn json(&self, id: TaskId) -> Value {
        let (name, data) = self.data();
        let mut message = json!({ "type": "log", "id": id });
        if name == "log" {
            message["from"] = data["from"].clone();
            message["bytes"] = data["bytes"].clone();
        } else {
            message[name] = data;
        }
        message
    }
}

/// One follower of one log.
struct Follow {
    state: State,
    id: TaskId,
    run: u32,
    at: u64,
    source: Source,
    bell: broadcast::Receiver<Event>,
    tail: Option<Tail>,
    /// The task is to be looked at: something happened to it, or it was not looked at for a while.
    look: bool,
    /// The status that the followed run ended with: what is read from now on is all there is.
    ended: Option<String>,
    over: bool,
}

impl Follow {
    /// Finds a run's output and the span that was asked for; also returns its size now.
    async fn open(
        state: &State,
        bell: broadcast::Receiver<Event>,
        task: Task,
        query: LogQuery,
    ) -> Result<(Follow, u64), Refused> {
        let (id, run) = (task.id, query.run.unwrap_or(task.run));
        let tasks = state.fixed.octo.join("tasks");
        let opened = blocking(move || {
            let source = Source::open(&tasks, &task, run)?;
            let span = source.span(&query).map_err(|e| cannot_read(&e))?;
            Ok::<_, Refused>((source, span))
        });
        let (source, (at, size)) = opened.await??;
        let (tail, look, ended, over) = (None, true, None, false);
        Ok((Follow { state: state.clone(), id, run, at, source, bell, tail, look, ended, over }, size))
    }

    async fn next(mut self) -> Option<(Chunk, Follow)> {
        if self.over {
            return None;
        }
        loop {
            // Whether it has ended is asked before reading: what is read after that is all there is.
            if std::mem::take(&mut self.look) && self.ended.is_none() {
                self.ended = self.ended().await;
            }
            self.watch();
            match self.source.read_here(self.at, CHUNK).await {
                Ok(chunk) if !chunk.is_empty() => {
                    let from = self.at;
                    self.at += chunk.len() as u64;
                    return Some((Chunk::Log { from, bytes: chunk }, self));
                }
                Ok(_) => {}
                Err(error) => {
                    self.over = true;
                    return Some((Chunk::Error { message: error.to_string() }, self));
                }
            }
            if let Some(status) = self.ended.take() {
                self.over = true;
                return Some((Chunk::End { status, size: self.at }, self));
            }
            self.wait().await?;
        }
    }

    /// The status when the followed run is over.
    async fn ended(&mut self) -> Option<String> {
        let mut task = match self.state.record(self.id).await {
            Ok(task) => task,
            Err(refused) if refused.code == RefusedCode::NotFound => return Some("removed".to_owned()),
            // It cannot be read just now (a shortage, a failing disk): that is no end.
            Err(_) => return None,
        };
        if matches!(self.source, Source::Nothing) {
            if !task.status.is_ended() && self.run < task.run {
                // The run was never started; its successor's output is what was meant.
                self.run = task.run;
            }
            let (tasks, run) = (self.state.fixed.octo.join("tasks"), self.run);
            let opened = blocking(move || (Source::open(&tasks, &task, run), task)).await;
            let Ok((opened, record)) = opened else { return None };
            if let Ok(source) = opened {
                self.source = source;
            }
            task = record;
        }
        if task.status.is_ended() || task.run > self.run { Some(task.status.word().to_owned()) } else { None }
    }

    fn watch(&mut self) {
        if self.tail.is_none()
            && let Source::File(file) = &self.source
        {
            self.tail = Some(self.state.tails.tail(file));
        }
    }

    /// Waits until there may be more; `None` when the daemon leaves.
    async fn wait(&mut self) -> Option<()> {
        let grown = async {
            match &mut self.tail {
                Some(tail) => tail.grown().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(grown);
        loop {
            tokio::select! {
                a_while = &mut grown => {
                    self.look |= a_while;
                    return Some(());
                }
                event = self.bell.recv() => match event {
                    Ok(Event::Task { id }) if id != self.id => {}
                    Ok(Event::Notice { .. }) => {}
                    Ok(Event::Leaving) | Err(broadcast::error::RecvError::Closed) => return None,
                    Ok(Event::Task { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.look = true;
                        return Some(());
                    }
                },
            }
        }
    }
}
