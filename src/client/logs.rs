//! A task's log as a stream that survives restarts of the daemon: it goes on at the byte where it was
//! cut off, so that nothing is lost and nothing comes twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;

use hyper::body::Bytes;
use serde::Deserialize;

use super::http::{self, Call};
use super::near::{Near, Next};
use super::wire::Answer;
use super::{Client, PAUSE, Trouble, sse};
use crate::command::{Refused, RefusedCode, TaskRef};
use crate::task::Status;

/// Which part of a log is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The first byte; negative: so many bytes before the end. `None`: the beginning.
    pub from: Option<i64>,
    /// Just so many lines of the end.
    pub lines: Option<u64>,
    /// Go on with what is written later, until the task ends.
    pub follow: bool,
}

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Bytes of the log as they were written.
    Bytes(Bytes),
    /// The task has ended so; nothing follows.
    End(Option<Status>),
}

/// A log being read.
#[derive(Debug)]
pub struct LogStream {
    client: Client,
    task: TaskRef,
    query: LogQuery,
    answer: Option<Answer>,
    /// The log's own file, in the place of an answer.
    near: Option<Near>,
    /// Whether it is still to be looked for.
    may_be_near: bool,
    parser: sse::Parser,
    ready: VecDeque<LogEvent>,
    /// The next byte that is wanted; known once the daemon has answered.
    at: Option<u64>,
    /// Where the first byte of this stream lies in the log.
    pub starts_at: u64,
    /// The log's size when the stream was opened; 0 when the daemon did not say.
    pub size: u64,
    ended: bool,
}

#[derive(Deserialize)]
struct LogData {
    from: u64,
    bytes: String,
}

#[derive(Deserialize)]
struct EndData {
    status: Status,
}

impl Client {
    /// Opens a task's log.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, or `Unavailable`.
    pub async fn logs(&self, task: &TaskRef, query: LogQuery) -> Result<LogStream, Refused> {
        let mut stream = LogStream {
            client: self.clone(),
            task: task.clone(),
            query,
            answer: None,
            near: None,
            may_be_near: self.blocking && query.follow,
            parser: sse::Parser::default(),
            ready: VecDeque::new(),
            at: None,
            starts_at: 0,
            size: 0,
            ended: false,
        };
        stream.open().await?;
        Ok(stream)
    }
}

impl LogStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The daemon's refusal (the task was removed meanwhile), or `Unavailable`.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, Refused> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            if self.near.is_some() {
                return self.next_near().map(Some);
            }
            if self.may_be_near && self.at.is_some_and(|at| at > 0) {
                // There is a log: it has a file from now on.
                self.may_be_near = false;
                let task = self.client.get(&self.task).await?;
                self.near = Near::open(&self.client, &task);
                if self.near.is_some() {
                    self.answer = None;
                    continue;
                }
            }
            let Some(answer) = &mut self.answer else {
                self.client.pause(PAUSE).await;
                self.open().await?;
                continue;
            };
            match answer.piece().await {
                Ok(Some(data)) => self.take(data)?,
                // A followed log ends with its `end` event; a plain one with its body.
                Ok(None) if !self.query.follow => self.ended = true,
                Ok(None) | Err(_) => self.answer = None,
            }
        }
    }

    /// The next piece from the log's own file.
    fn next_near(&mut self) -> Result<LogEvent, Refused> {
        let at = self.at.unwrap_or(0);
        match self.near.as_mut().map(|near| near.next(at)).transpose()? {
            Some(Next::Bytes(bytes)) => {
                self.at = Some(at + bytes.len() as u64);
                Ok(LogEvent::Bytes(bytes))
            }
            Some(Next::End(task)) => {
                (self.near, self.ended) = (None, true);
                Ok(LogEvent::End(Some(task.status)))
            }
            // It was retried: its new log is followed from the beginning.
            Some(Next::Elsewhere) | None => {
                (self.near, self.at) = (None, Some(0));
                Ok(LogEvent::Bytes(Bytes::new()))
            }
        }
    }

    async fn open(&mut self) -> Result<(), Refused> {
        let mut q = http::Query::new(http::task_path(&self.task, "/logs")?);
        match self.at {
            Some(at) => q.add("from", &at.to_string()),
            None => {
                q.add_opt("from", self.query.from.map(|n| n.to_string()));
                q.add_opt("lines", self.query.lines.map(|n| n.to_string()));
            }
        }
        if self.query.follow {
            q.add("follow", "true");
        }
        let mut call = Call::get(q.path()).repeatable();
        if self.query.follow {
            call = call.waits();
        }
        let answer = self.client.repeat(&call, async |answer| Ok::<_, Trouble>(answer)).await?;
        let number = |name: &str| answer.header(name)?.parse::<u64>().ok();
        if self.at.is_none() {
            self.size = number("x-octo-log-size").unwrap_or(0);
            if let Some(from) = number("x-octo-log-from") {
                self.starts_at = from;
                self.at = Some(from);
            }
        }
        self.parser = sse::Parser::default();
        self.answer = Some(answer);
        Ok(())
    }

    /// Takes a piece of the answer's body.
    fn take(&mut self, data: Bytes) -> Result<(), Refused> {
        if !self.query.follow {
            let at = self.at.unwrap_or(0);
            self.at = Some(at + data.len() as u64);
            self.ready.push_back(LogEvent::Bytes(data));
            return Ok(());
        }
        let mut events = Vec::new();
        self.parser.push(&data, &mut events);
        for event in events {
            match event.name.as_str() {
                "log" => self.take_log(&event.data)?,
                "end" => {
                    self.ended = true;
                    let status = serde_json::from_str::<EndData>(&event.data).ok().map(|e| e.status);
                    self.ready.push_back(LogEvent::End(status));
                }
                _ => {} // a newer daemon's
            }
        }
        Ok(())
    }

    /// Takes bytes that lie at `from`, leaving out what was seen before the connection was cut.
    fn take_log(&mut self, data: &str) -> Result<(), Refused> {
        let broken = || Refused::new(RefusedCode::Internal, "the daemon's log stream is not understood");
        let data: LogData = serde_json::from_str(data).map_err(|_| broken())?;
        let bytes = STANDARD.decode(&data.bytes).map_err(|_| broken())?;
        let at = *self.at.get_or_insert_with(|| {
            self.starts_at = data.from;
            data.from
        });
        let seen = usize::try_from(at.saturating_sub(data.from)).unwrap_or(usize::MAX);
        if seen < bytes.len() {
            self.at = Some(data.from + bytes.len() as u64);
            self.ready.push_back(LogEvent::Bytes(Bytes::from(bytes).slice(seen..)));
        }
        Ok(())
    }
}
