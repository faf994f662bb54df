//! The driver of one agent: does what [`State::next`] says, and writes it down before anybody hears of it.
//!
//! All that it touches is a [`World`]: the journal, the model, the tools, the owner, the budget. Tests put a world in
//! its place that dies at every one of these.

use std::future::Future;

use super::compact;
use super::journal::{Compaction, Entry, Line, Source};
use super::model::prices::Usd;
use super::model::{ErrorKind, ModelError, ModelName, Reply, Request, Tokens, estimate};
use super::step::{Act, Pending, State};
use crate::command::QuestionRequest;
use crate::task::Stamp;

/// What a driver cannot go on without failed: it leaves, and the agent is driven again from its journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// Why an agent is not driven at present.
#[derive(Debug, Clone, PartialEq)]
pub enum Leave {
    /// It is over; the end is in the journal.
    Ended {
        /// Well or not.
        ok: bool,
        /// The result, or why not.
        text: String,
    },
    /// It waits.
    Parked(Parking),
    /// A budget is used up: which, for people. It can be raised.
    OverBudget(String),
    /// The model does not answer. The journal stays open: a retry goes on from here.
    NoModel(ModelError),
    /// A conversation waits for what is said next.
    Idle,
    /// See [`Lost`].
    Lost(Lost),
}

/// What an agent waits for, without a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parking {
    /// Its owner's answer.
    Question,
    /// This moment, when a rate limit is over.
    RateLimit {
        /// When.
        until: Stamp,
    },
    /// The end of tasks that it started.
    Tasks {
        /// Which; empty: all of them.
        ids: Vec<crate::task::TaskId>,
        /// And not longer than this; empty: as long as it takes.
        until: Stamp,
    },
}

/// How a question stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nobody answered yet.
    Open,
    /// Somebody did.
    Answered {
        /// What.
        text: String,
        /// Who.
        by: String,
    },
    /// It closed without an answer.
    Closed,
}

/// What a tool gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// A result for the model.
    Result {
        /// What.
        text: String,
        /// It failed.
        is_error: bool,
    },
    /// It takes longer, and needs no slot.
    Waits(Parking),
}

/// Something to tell an agent between two turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The same key is the same telling.
    pub key: String,
    /// Who.
    pub from: Source,
    /// What.
    pub text: String,
}

/// What an agent lives in.
pub trait World: Send {
    /// The time, for the journal.
    fn now(&self) -> Stamp;

    /// Writes a line; on return it is durable.
    ///
    /// # Errors
    /// [`Lost`] when it is not certain that it is.
    fn append(&mut self, line: &Line) -> Result<(), Lost>;

    /// Takes what a request may use from all budgets. Returns how many tokens the reply may have: `max_output`, or
    /// what is left.
    fn reserve(
        &mut self,
        state: &State,
        prompt: u64,
        max_output: u32,
    ) -> impl Future<Output = Result<Result<u32, String>, Lost>> + Send;

    /// Reports what the agent has used by now, and gives back what was reserved and not used.
    fn settle(&mut self, state: &State) -> impl Future<Output = Result<(), Lost>> + Send;

    /// Asks a model.
    fn call(&mut self, request: &Request) -> impl Future<Output = Result<Reply, ModelError>> + Send;

    /// What a reply cost of the model that was asked.
    fn cost(&self, asked: &ModelName, reply: &Reply) -> Option<Usd>;

    /// Puts a question to the owner; the same key again is the same question.
    fn ask(&mut self, question: &QuestionRequest) -> impl Future<Output = Result<Asked, Lost>> + Send;

    /// Runs a tool.
    fn run(&mut self, state: &State, pending: &Pending) -> impl Future<Output = Result<Ran, Lost>> + Send;

    /// Finds out what became of a tool that was started; never runs it again.
    fn recover(&mut self, state: &State, pending: &Pending) -> impl Future<Output = Result<Ran, Lost>> + Send;

    /// What happened since the last turn: tasks that ended, words of the owner.
    fn news(&mut self, state: &State) -> impl Future<Output = Result<Vec<Telling>, Lost>> + Send;

    /// Whether tasks that it started are still under way.
    fn has_tasks(&mut self) -> impl Future<Output = Result<bool, Lost>> + Send;
}

/// Drives an agent until it ends or waits.
pub async fn drive<W: World>(state: &mut State, world: &mut W) -> Leave {
    loop {
        match step(state, world).await {
            Ok(None) => {}
            Ok(Some(leave)) => return leave,
            Err(lost) => return Leave::Lost(lost),
        }
    }
}

/// Writes a line, then takes it in.
fn write<W: World>(state: &mut State, world: &mut W, entry: Entry) -> Result<(), Lost> {
    let line = Line { at: world.now(), entry };
    world.append(&line)?;
    state.apply(&line);
    Ok(())
}

async fn step<W: World>(state: &mut State, world: &mut W) -> Result<Option<Leave>, Lost> {
    if state.pending.is_empty() && state.ended.is_none() {
        hear(state, world).await?;
    }
    match state.next() {
        Act::Model => return ask_model(state, world).await,
        Act::Return { call, text, is_error } => write(state, world, Entry::Returned { call, text, is_error })?,
        Act::Ask { call, question, is_noted } => {
            if !is_noted {
                let key = question.key.clone();
                write(state, world, Entry::Asked { call: call.clone(), key })?;
            }
            match world.ask(&question).await? {
                Asked::Open => return Ok(Some(Leave::Parked(Parking::Question))),
                Asked::Answered { text, by } => {
                    write(state, world, Entry::Answered { call, text: Some(text), by })?;
                }
                Asked::Closed => write(state, world, Entry::Answered { call, text: None, by: String::new() })?,
            }
        }
        Act::Run { pending, note } => {
            let call = pending.call.id.clone();
            let mut pending = *pending;
            if note {
                write(state, world, Entry::Started { call: call.clone() })?;
                pending.started = Some(world.now());
            }
            let ran = world.run(state, &pending).await?;
            return returned(state, world, call, ran);
        }
        Act::Recover(pending) => {
            let ran = world.recover(state, &pending).await?;
            return returned(state, world, pending.call.id, ran);
        }
        Act::Nudge(words) => {
            let key = format!("nudge:{}", state.messages.len());
            write(state, world, Entry::Told { key, from: Source::Octo, text: words.to_owned() })?;
        }
        Act::Rest => return rest(state, world).await,
        Act::End { ok, text, is_noted } => {
            if !is_noted {
                write(state, world, Entry::Ended { ok, text: text.clone() })?;
            }
            return Ok(Some(Leave::Ended { ok, text }));
        }
    }
    Ok(None)
}

async fn hear<W: World>(state: &mut State, world: &mut W) -> Result<(), Lost> {
    for Telling { key, from, text } in world.news(state).await? {
        if !state.heard(&key) {
            write(state, world, Entry::Told { key, from, text })?;
        }
    }
    Ok(())
}

fn returned<W: World>(state: &mut State, world: &mut W, call: String, ran: Ran) -> Result<Option<Leave>, Lost> {
    match ran {
        Ran::Result { text, is_error } => {
            write(state, world, Entry::Returned { call, text, is_error })?;
            Ok(None)
        }
        Ran::Waits(parking) => Ok(Some(Leave::Parked(parking))),
    }
}

/// The model has said all: it waits for its tasks, or for its owner, or it is over.
async fn rest<W: World>(state: &mut State, world: &mut W) -> Result<Option<Leave>, Lost> {
    if state.setup.chat {
        return Ok(Some(Leave::Idle));
    }
    if world.has_tasks().await? {
        return Ok(Some(Leave::Parked(Parking::Tasks { ids: Vec::new(), until: Stamp::default() })));
    }
    // One may have ended between the last look and this one.
    let before = state.messages.len();
    hear(state, world).await?;
    if state.messages.len() != before {
        return Ok(None);
    }
    let text = state.last_words();
    let (ok, text) = match text.trim() {
        "" => (false, "the model ended without a result".to_owned()),
        text => (true, text.to_owned()),
    };
    write(state, world, Entry::Ended { ok, text: text.clone() })?;
    Ok(Some(Leave::Ended { ok, text }))
}

async fn ask_model<W: World>(state: &mut State, world: &mut W) -> Result<Option<Leave>, Lost> {
    let mut request = state.request();
    let prompt = state.prompt(&request);
    let max_output = match world.reserve(state, prompt, state.setup.max_output).await? {
        Ok(max_output) => max_output,
        Err(which) => return Ok(Some(Leave::OverBudget(which))),
    };
    request.max_output_tokens = Some(max_output);
    let model = request.model.clone();
    write(state, world, Entry::Asking { digest: request.digest(), model, prompt, max_output })?;
    let reply = world.call(&request).await;
    let left = match reply {
        Ok(reply) => {
            let cost = world.cost(&request.model, &reply);
            write(state, world, Entry::Replied { reply: Box::new(reply), cost })?;
            None
        }
        Err(error) => {
            // What broke off in its midst was paid for.
            let is_used = matches!(error.kind, ErrorKind::Cut | ErrorKind::Malformed);
            let input = if is_used { prompt } else { 0 };
            let usage = Tokens { input, estimated: is_used, ..Tokens::default() };
            write(state, world, Entry::NoReply { why: error.message.clone(), usage })?;
            Some(error)
        }
    };
    world.settle(state).await?;
    match left {
        None => Ok(None),
        Some(error) if error.kind == ErrorKind::ContextOverflow => shorten(state, world, error).await,
        Some(error) => no_reply(state, world, error),
    }
}

/// What follows from a failure that trying again did not help.
fn no_reply<W: World>(state: &mut State, world: &mut W, error: ModelError) -> Result<Option<Leave>, Lost> {
    if let Some(model) = state.next_model() {
        write(state, world, Entry::Model { model })?;
        return Ok(None);
    }
    match error.kind {
        ErrorKind::RateLimited { reset: Some(reset) } => {
            let until = Stamp::from_millis(reset.as_millisecond());
            Ok(Some(Leave::Parked(Parking::RateLimit { until })))
        }
        _ => Ok(Some(Leave::NoModel(error))),
    }
}

/// The conversation is longer than the model can read.
async fn shorten<W: World>(state: &mut State, world: &mut W, error: ModelError) -> Result<Option<Leave>, Lost> {
    match compact::plan(&state.messages) {
        None => Ok(Some(Leave::NoModel(error))),
        Some(compact::Plan::Results(calls)) => {
            write(state, world, Entry::Compacted(Compaction::Results { calls }))?;
            Ok(None)
        }
        Some(compact::Plan::Summary { upto, text }) => {
            let request = compact::request(state.model.clone(), text);
            let prompt = estimate::prompt(&request);
            match world.reserve(state, prompt, compact::SUMMARY_MAX).await? {
                Ok(_) => {}
                Err(which) => return Ok(Some(Leave::OverBudget(which))),
            }
            let reply = world.call(&request).await;
            let left = match reply {
                Ok(reply) => {
                    let cost = world.cost(&request.model, &reply);
                    let compaction = Compaction::Summary { upto, text: reply.message.text, usage: reply.usage, cost };
                    write(state, world, Entry::Compacted(compaction))?;
                    None
                }
                Err(error) => Some(Leave::NoModel(error)),
            };
            world.settle(state).await?;
            Ok(left)
        }
    }
}
