//! The deciding half of an agent: the fold of its journal, and what comes next. Pure: no clock, no files, no network.
//!
//! ```text
//!   journal ──fold──► State ──next──► Act ──(the driver does it)──► a line of the journal ─┐
//!                       ▲──────────────────────────apply──────────────────────────────────┘
//! ```
//!
//! The same journal gives the same state and the same act, whenever and wherever it is read. So a crash at any
//! moment costs at most the act that was under way, and what becomes of that one is decided here as well: a request
//! whose reply was lost is made again (and counts as used), a tool that only reads is run again, and a tool with an
//! effect is [`Act::Recover`]ed: never run again unasked.

use serde_json::Value;

use super::journal::{Compaction, Entry, Line, Setup, Source};
use super::model::prices::Usd;
use super::model::{Assistant, Message, ModelName, Request, Stop, Tokens, ToolCall, ToolSpec, estimate};
use super::tools::policy::{self, Decision, Grants, Wanted};
use super::tools::{self, Call, Class, Todos};
use crate::command::{ActionRequest, QuestionRequest};
use crate::task::{ALLOW, ALLOW_FOR_TASK, Stamp};

/// What the model reads in place of a result that was left out.
pub const LEFT_OUT: &str = "[This older result was left out, because the conversation had become too long. Call the tool again if you need it.]";

/// How often an agent that stops without a word is asked for its result.
const NUDGES: u32 = 2;

/// What it is asked then.
const NUDGE: &str =
    "You stopped without a result. If the task is done, call task_complete with a summary; otherwise go on.";

/// What an agent is told whose reply had no room.
const CUT: &str =
    "Your reply was cut off, because it was longer than one reply may be. Go on from there, in smaller steps.";

/// A call that has no result yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The call.
    pub call: ToolCall,
    /// The how-manieth call of the agent's life it is, from 1: names its files.
    pub ordinal: u32,
    /// When it was started.
    pub started: Option<Stamp>,
    /// The key of the question about it.
    pub asked: Option<String>,
    /// The answer: the words, or `None` when there came none.
    pub answer: Option<Option<String>>,
}

/// All that an agent is at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What it is.
    pub setup: Setup,
    /// Whom it asks now.
    pub model: ModelName,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The calls of the last reply that have no result yet, in order.
    pub pending: Vec<Pending>,
    /// What is to be done.
    pub todos: Todos,
    /// What its owner allowed it.
    pub grants: Grants,
    /// What it used, lost requests included.
    pub usage: Tokens,
    /// What that cost, as far as anybody knows.
    pub cost: Usd,
    /// Some of it cost nobody knows how much.
    pub cost_unknown: bool,
    /// How many replies there were.
    pub turns: u32,
    /// How it ended.
    pub ended: Option<(bool, String)>,
    /// It was stopped.
    pub stopped: bool,
    /// The newest run that went on.
    pub run: u32,
    /// How many calls there were.
    calls: u32,
    nudges: u32,
    /// Why the model stopped last.
    stop: Stop,
    /// The prompt of the last request as its provider counted it, and how many messages it had.
    counted: Option<(u64, usize)>,
    /// A request whose reply is not there: what it costs if it never comes.
    asking: Option<(ModelName, u64)>,
    /// The keys of what was told.
    told: std::collections::BTreeSet<String>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Ask the model.
    Model,
    /// Put a result: of a call that cannot be made or is not allowed, or of a tool that changes just the state.
    Return {
        /// The call.
        call: String,
        /// What the model reads.
        text: String,
        /// It failed.
        is_error: bool,
    },
    /// Ask the owner about a call. The same key again is the same question.
    Ask {
        /// The call.
        call: String,
        /// The question; its key is `question.key`.
        question: Box<QuestionRequest>,
        /// It was asked before, maybe: no new line is due.
        is_noted: bool,
    },
    /// Run a tool.
    Run {
        /// Which.
        pending: Box<Pending>,
        /// Whether the start is written before.
        note: bool,
    },
    /// A tool with an effect was started, and its result is not known.
    Recover(Box<Pending>),
    /// Say something to the model for Octo.
    Nudge(&'static str),
    /// The model has said all for now.
    Rest,
    /// It is over.
    End {
        /// Well or not.
        ok: bool,
        /// The result, or why not.
        text: String,
        /// The end is in the journal.
        is_noted: bool,
    },
}

/// Why a journal makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal does not say what the agent is: its first line is another")]
pub struct NoBeginning;

impl State {
    /// What the agent is when it begins.
    #[must_use]
    pub fn new(setup: Setup) -> State {
        State {
            model: setup.model.clone(),
            run: setup.run,
            setup,
            messages: Vec::new(),
            pending: Vec::new(),
            todos: Todos::default(),
            grants: Grants::default(),
            usage: Tokens::default(),
            cost: Usd::ZERO,
            cost_unknown: false,
            turns: 0,
            ended: None,
            stopped: false,
            calls: 0,
            nudges: 0,
            stop: Stop::EndTurn,
            counted: None,
            asking: None,
            told: std::collections::BTreeSet::new(),
        }
    }

    /// The fold of a journal; `None`: it is empty.
    ///
    /// # Errors
    /// [`NoBeginning`] when the first line is not [`Entry::Began`].
    pub fn fold(lines: &[Line]) -> Result<Option<State>, NoBeginning> {
        let Some((first, rest)) = lines.split_first() else { return Ok(None) };
        let Entry::Began(setup) = &first.entry else { return Err(NoBeginning) };
        let mut state = State::new((**setup).clone());
        rest.iter().for_each(|line| state.apply(line));
        Ok(Some(state))
    }

    /// Takes in one more line.
    pub fn apply(&mut self, line: &Line) {
        match &line.entry {
            Entry::Began(_) => {}
            Entry::Told { key, from, text } => self.told(key, from, text),
            Entry::Asking { model, prompt, .. } => {
                self.lose_request();
                self.asking = Some((model.clone(), *prompt));
            }
            Entry::Replied { reply, cost } => {
                self.asking = None;
                self.count(&reply.usage, *cost);
                self.counted = Some((reply.usage.prompt(), self.messages.len()));
                self.turns += 1;
                self.stop = reply.stop.clone();
                self.replied(&reply.message);
            }
            Entry::NoReply { usage, .. } => {
                self.asking = None;
                self.count(usage, None);
            }
            Entry::Started { call } => self.with(call, |p| p.started = Some(line.at.clone())),
            Entry::Returned { call, text, is_error } => self.returned(call, text, *is_error),
            Entry::Asked { call, key } => self.with(call, |p| p.asked = Some(key.clone())),
            Entry::Answered { call, text, .. } => self.answered(call, text.as_deref()),
            Entry::Compacted(how) => self.compact(how),
            Entry::Model { model } => self.model = model.clone(),
            Entry::WentOn { run } => self.run = *run,
            Entry::Stopped => self.stopped = true,
            Entry::Ended { ok, text } => self.ended = Some((*ok, text.clone())),
        }
    }

    /// Whether something was told already.
    #[must_use]
    pub fn heard(&self, key: &str) -> bool {
        self.told.contains(key)
    }

    fn told(&mut self, key: &str, from: &Source, text: &str) {
        if !self.told.insert(key.to_owned()) {
            return;
        }
        self.messages.push(match from {
            Source::Owner { .. } => Message::user(text),
            Source::Octo => {
                self.nudges += 1;
                Message::system(text)
            }
            Source::Task { .. } => Message::system(text),
        });
    }

    fn replied(&mut self, said: &Assistant) {
        self.messages.push(Message::Assistant(said.clone()));
        for call in &said.calls {
            self.calls += 1;
            let (call, ordinal) = (call.clone(), self.calls);
            self.pending.push(Pending { call, ordinal, started: None, asked: None, answer: None });
        }
        if !said.calls.is_empty() {
            self.nudges = 0;
        }
    }

    fn with(&mut self, call: &str, change: impl FnOnce(&mut Pending)) {
        if let Some(pending) = self.pending.iter_mut().find(|p| p.call.id == call) {
            change(pending);
        }
    }

    fn returned(&mut self, call: &str, text: &str, is_error: bool) {
        let Some(at) = self.pending.iter().position(|p| p.call.id == call) else { return };
        let pending = self.pending.remove(at);
        if !is_error {
            self.note_todos(&pending.call);
        }
        self.messages.push(Message::ToolResult { call: call.to_owned(), text: text.to_owned(), is_error });
    }

    /// The list is not in the journal: it is what its calls make of it.
    fn note_todos(&mut self, call: &ToolCall) {
        let applied = match tools::parse(&call.name, &call.arguments) {
            Ok(Call::CreateTodos(args)) => self.todos.create(&args.descriptions),
            Ok(Call::UpdateTodos(args)) => self.todos.update(&args.updates),
            _ => return,
        };
        debug_assert!(applied.is_ok(), "a call that had no error has none again");
    }

    fn answered(&mut self, call: &str, text: Option<&str>) {
        if text == Some(ALLOW_FOR_TASK)
            && let Some(name) = self.pending.iter().find(|p| p.call.id == call).map(|p| p.call.name.clone())
        {
            self.grants.grant(&name);
        }
        self.with(call, |p| p.answer = Some(text.map(str::to_owned)));
    }

    fn compact(&mut self, how: &Compaction) {
        self.counted = None;
        match how {
            Compaction::Results { calls } => {
                for message in &mut self.messages {
                    if let Message::ToolResult { call, text, .. } = message
                        && calls.contains(call)
                    {
                        LEFT_OUT.clone_into(text);
                    }
                }
            }
            Compaction::Summary { upto, text, usage, cost } => {
                self.count(usage, *cost);
                let upto = (*upto).min(self.messages.len());
                let summary = format!("What happened so far, in short (the conversation had become too long):\n{text}");
                // The first message is the task itself, and stays.
                if upto > 1 {
                    self.messages.splice(1..upto, [Message::system(summary)]);
                }
            }
        }
    }

    fn count(&mut self, usage: &Tokens, cost: Option<Usd>) {
        self.usage = self.usage.checked_add(usage).unwrap_or(Tokens { input: u64::MAX, ..Tokens::default() });
        match cost {
            Some(cost) => self.cost = self.cost.saturating_add(cost),
            None => self.cost_unknown |= usage.total() > 0,
        }
    }

    /// A request that was on its way when the daemon died: its provider counted it, so it counts here.
    fn lose_request(&mut self) {
        if let Some((_, prompt)) = self.asking.take() {
            self.count(&Tokens { input: prompt, estimated: true, ..Tokens::default() }, None);
        }
    }

    /// What it used, with the request that was on its way when the journal ended.
    #[must_use]
    pub fn used(&self) -> Tokens {
        let lost = self.asking.as_ref().map_or(0, |(_, prompt)| *prompt);
        let lost = Tokens { input: lost, estimated: lost > 0, ..Tokens::default() };
        self.usage.checked_add(&lost).unwrap_or(self.usage)
    }

    /// What the model said last; empty: nothing.
    #[must_use]
    pub fn last_words(&self) -> String {
        match self.messages.last() {
            Some(Message::Assistant(said)) => said.text.clone(),
            _ => String::new(),
        }
    }

    /// The model to try when the present one does not answer; `None`: there is no other.
    #[must_use]
    pub fn next_model(&self) -> Option<ModelName> {
        let at = self.setup.fallback.iter().position(|model| *model == self.model);
        self.setup.fallback.get(at.map_or(0, |at| at + 1)).cloned()
    }

    /// What the model is asked now.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut request = Request::new(self.model.clone());
        request.system.clone_from(&self.setup.system);
        request.messages.clone_from(&self.messages);
        request.tools = self.offers();
        request.max_output_tokens = Some(self.setup.max_output);
        request.temperature = self.setup.temperature;
        request.effort = self.setup.effort;
        request
    }

    /// How many tokens the prompt of the next request may have: as guessed from its length, or as the provider counted
    /// what was said up to its last reply, whichever is more.
    #[must_use]
    pub fn prompt(&self, request: &Request) -> u64 {
        let counted = self.counted.map_or(0, |(tokens, messages)| {
            let since = self.messages.get(messages..).unwrap_or_default();
            since.iter().map(estimate::message).fold(tokens, u64::saturating_add)
        });
        estimate::prompt(request).max(counted)
    }

    fn offers(&self) -> Vec<ToolSpec> {
        let own = self.setup.tools.iter().filter_map(|name| tools::find(name));
        let own = own.map(|tool| ToolSpec {
            name: tool.name.to_owned(),
            description: tool.about.to_owned(),
            schema: tool.schema(),
        });
        own.chain(self.setup.mcp.iter().cloned()).collect()
    }

    /// What comes next.
    #[must_use]
    pub fn next(&self) -> Act {
        if let Some((ok, text)) = &self.ended {
            return Act::End { ok: *ok, text: text.clone(), is_noted: true };
        }
        if let Some(pending) = self.pending.first() {
            return self.next_of(pending);
        }
        match self.messages.last() {
            Some(Message::Assistant(said)) => self.after(said),
            Some(_) => self.model_unless_complete(),
            None => Act::Rest,
        }
    }

    /// The turn of a model that calls no tool.
    fn after(&self, said: &Assistant) -> Act {
        if self.setup.chat {
            return Act::Rest;
        }
        match self.stop {
            Stop::Refusal => {
                let text = if said.text.is_empty() { "no reason was given" } else { &said.text };
                return Act::End { ok: false, text: format!("the model refused: {text}"), is_noted: false };
            }
            Stop::MaxTokens if self.nudges < NUDGES => return Act::Nudge(CUT),
            _ => {}
        }
        if said.text.trim().is_empty() && self.nudges < NUDGES {
            return Act::Nudge(NUDGE);
        }
        Act::Rest
    }

    /// `task_complete` is the end once all calls of its turn have results.
    fn model_unless_complete(&self) -> Act {
        let Some(said) = self.messages.iter().rev().find_map(|m| match m {
            Message::Assistant(said) => Some(said),
            _ => None,
        }) else {
            return Act::Model;
        };
        let results = self.messages.iter().rev().take_while(|m| matches!(m, Message::ToolResult { .. }));
        let done: Vec<&str> = results
            .filter_map(|m| match m {
                Message::ToolResult { call, is_error: false, .. } => Some(call.as_str()),
                _ => None,
            })
            .collect();
        let complete = said.calls.iter().filter(|c| done.contains(&c.id.as_str()));
        let mut summary = complete.filter_map(|c| match tools::parse(&c.name, &c.arguments) {
            Ok(Call::TaskComplete(args)) => Some(args.summary),
            _ => None,
        });
        match summary.next_back() {
            Some(text) if !self.setup.chat => Act::End { ok: true, text, is_noted: false },
            _ => Act::Model,
        }
    }

    fn next_of(&self, pending: &Pending) -> Act {
        let ToolCall { id, name, arguments } = &pending.call;
        let put = |text: String, is_error| Act::Return { call: id.clone(), text, is_error };
        let is_mcp = self.setup.mcp.iter().any(|tool| tool.name == *name);
        let is_own = self.setup.tools.iter().any(|tool| tool == name);
        if !is_mcp && !is_own {
            return put(self.no_such_tool(name), true);
        }
        let parsed = if is_own {
            match tools::parse(name, arguments) {
                Ok(call) => Some(call),
                Err(error) => return put(error.to_string(), true),
            }
        } else {
            None
        };
        let class = parsed.as_ref().and_then(|_| tools::find(name)).map_or(Class::Effect, |tool| tool.class);
        match &parsed {
            Some(Call::EscalateQuestion(args)) => {
                return self.escalate(pending, &args.question, args.choices.as_deref().unwrap_or_default());
            }
            Some(Call::TaskComplete(_)) if self.setup.chat => {
                return put("There is no task to complete here: say what is to be said.".to_owned(), true);
            }
            Some(Call::TaskComplete(_)) => return put("Noted.".to_owned(), false),
            Some(Call::Think(_)) => return put("Noted.".to_owned(), false),
            Some(Call::CreateTodos(_) | Call::UpdateTodos(_) | Call::ListTodos(_)) => return self.list(id, &parsed),
            _ => {}
        }
        match self.permission(pending, class) {
            Permission::Given => {}
            Permission::Asks(act) => return *act,
            Permission::Denied(words) => return put(words, true),
        }
        match (class, &pending.started) {
            (Class::Effect | Class::WriteInside, Some(_)) => Act::Recover(Box::new(pending.clone())),
            (Class::Effect | Class::WriteInside, None) => Act::Run { pending: Box::new(pending.clone()), note: true },
            // Waits count from their start, so that has to be written.
            (Class::Read | Class::Internal, started) => {
                let waits = matches!(parsed, Some(Call::WaitBackgroundAgents(_) | Call::TransferTask(_)));
                Act::Run { pending: Box::new(pending.clone()), note: waits && started.is_none() }
            }
        }
    }

    fn list(&self, id: &str, parsed: &Option<Call>) -> Act {
        let mut todos = self.todos.clone();
        let said = match parsed {
            Some(Call::CreateTodos(args)) => todos.create(&args.descriptions),
            Some(Call::UpdateTodos(args)) => todos.update(&args.updates),
            _ => Ok(todos.list()),
        };
        let is_error = said.is_err();
        let text = said.unwrap_or_else(|error| error.to_string());
        Act::Return { call: id.to_owned(), text, is_error }
    }

    fn no_such_tool(&self, name: &str) -> String {
        let own = self.setup.tools.iter().map(String::as_str);
        let all: Vec<&str> = own.chain(self.setup.mcp.iter().map(|tool| tool.name.as_str())).collect();
        format!("There is no tool `{name:.100}` here. There are: {}", all.join(", "))
    }

    fn escalate(&self, pending: &Pending, question: &str, choices: &[String]) -> Act {
        let call = pending.call.id.clone();
        match &pending.answer {
            Some(Some(text)) => Act::Return { call, text: format!("The owner answered: {text}"), is_error: false },
            Some(None) => {
                let text =
                    "Nobody answered. Decide by yourself if you can do so safely; otherwise leave it out and say so.";
                Act::Return { call, text: text.to_owned(), is_error: true }
            }
            None => {
                let asked =
                    QuestionRequest { text: question.to_owned(), choices: choices.to_vec(), ..self.question(pending) };
                Act::Ask { call, question: Box::new(asked), is_noted: pending.asked.is_some() }
            }
        }
    }

    /// The key holds where the call stands in the agent's life: the same call again is the same question, also after
    /// a crash, and an equal call later is another one.
    fn question(&self, pending: &Pending) -> QuestionRequest {
        let key = pending.asked.clone().unwrap_or_else(|| format!("agent:{}:{}", self.setup.run, pending.ordinal));
        let by = if self.setup.agent.is_empty() { "agent".to_owned() } else { self.setup.agent.clone() };
        QuestionRequest { key, by, ..QuestionRequest::default() }
    }

    fn permission(&self, pending: &Pending, class: Class) -> Permission {
        match &pending.answer {
            Some(Some(text)) if text == ALLOW || text == ALLOW_FOR_TASK => return Permission::Given,
            Some(Some(text)) => {
                let words = if text == crate::task::DENY { "" } else { text };
                return Permission::Denied(policy::denied_by_owner(words));
            }
            Some(None) => return Permission::Denied(policy::denied_by_owner("nobody was there to decide")),
            None if pending.started.is_some() => return Permission::Given,
            None => {}
        }
        let ToolCall { id, name, arguments } = &pending.call;
        let folder = folder_of(&self.setup.folder, name, arguments);
        let wanted = Wanted { tool: name, class, input: arguments, folder: &folder };
        match policy::decide(&wanted, &self.setup.policy, &self.grants) {
            Decision::Allow => Permission::Given,
            Decision::Deny(words) => Permission::Denied(words),
            Decision::Ask(action) => {
                let question = QuestionRequest { action: Some::<ActionRequest>(action), ..self.question(pending) };
                let is_noted = pending.asked.is_some();
                Permission::Asks(Box::new(Act::Ask { call: id.clone(), question: Box::new(question), is_noted }))
            }
        }
    }
}

enum Permission {
    Given,
    Asks(Box<Act>),
    Denied(String),
}

/// The folder that a command runs in, as it is shown to who allows it.
fn folder_of(task: &str, tool: &str, arguments: &Value) -> String {
    let cwd = arguments.get("cwd").and_then(Value::as_str).filter(|_| matches!(tool, "shell" | "dispatch_background"));
    match cwd {
        Some(cwd) => std::path::Path::new(task).join(cwd).display().to_string(),
        None => task.to_owned(),
    }
}
