//! What an agent lives in, for real: its journal, its model, its tools, its owner.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::desk::{self, Desk};
use super::setup::Serves;
use super::shell::{self, Command};
use super::talk::Inbox;
use super::transcript::{Said, Transcript};
use super::{Inner, Settings, blocking, tasks, words};
use crate::agent::drive::{Asked, Lost, Ran, Telling, World};
use crate::agent::journal::{Compaction, Entry, Journal, Line, Source};
use crate::agent::mcp::{CallError, Servers};
use crate::agent::model::prices::{Over, Usd};
use crate::agent::model::{Message, Model as _, ModelError, ModelName, Models, Reply, Request, Retry, ToolCall};
use crate::agent::step::{Pending, State};
use crate::agent::tools::{self, Call, Folder, Guard, Limits, Shell, Todos};
use crate::command::QuestionRequest;
use crate::exec::agent::{AgentReport, Report, Reserve, Reserved};
use crate::run::LaunchSpec;
use crate::supervisor::now;
use crate::task::{Stamp, Task, TaskId, Usage};

/// When a request is tried again that must wait for those of others.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long a call of an MCP server's tool may take.
const MCP_LIMIT: Duration = Duration::from_secs(600);

/// The longest question, and the longest choice, in bytes.
const QUESTION_MAX: usize = 16 << 10;
const CHOICE_MAX: usize = 512;

/// One agent that is driven.
pub(super) struct Life {
    pub(super) hub: Arc<Inner>,
    pub(super) desk: Desk,
    /// The record as it was when the agent was launched.
    pub(super) task: Task,
    pub(super) transcript: Transcript,
    settings: Arc<Settings>,
    journal: Journal,
    serves: Serves,
    models: Retry<Models>,
    mcp: Option<Servers>,
    folder: Option<Arc<Folder>>,
    inbox: Option<Inbox>,
    /// Calls that have no result yet and were not shown.
    unseen: HashMap<String, ToolCall>,
    /// Settled tasks that were looked at, each with the key of its end.
    ends: HashMap<TaskId, String>,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life").field("task", &self.task.id).finish_non_exhaustive()
    }
}

/// What a life is begun with.
pub(super) struct Begin {
    pub(super) hub: Arc<Inner>,
    pub(super) desk: Desk,
    pub(super) task: Task,
    pub(super) transcript: Transcript,
    pub(super) settings: Arc<Settings>,
    pub(super) journal: Journal,
    pub(super) serves: Serves,
    pub(super) mcp: Option<Servers>,
    pub(super) inbox: Option<Inbox>,
}

impl Life {
    pub(super) fn new(begin: Begin) -> Life {
        let Begin { hub, desk, task, transcript, settings, journal, serves, mcp, inbox } = begin;
        let models = Retry::new(serves.models(&settings));
        let (folder, unseen, ends) = (None, HashMap::new(), HashMap::new());
        Life { hub, desk, task, transcript, settings, journal, serves, models, mcp, folder, inbox, unseen, ends }
    }

    /// Reports that it is under way, and what it has used.
    pub(super) async fn works(&self, state: &State) -> Result<(), Lost> {
        let (id, run) = (self.task.id, self.task.run);
        self.desk.report(AgentReport { id, run, usage: usage(state), what: Report::Working }).await
    }

    /// The folder that its file tools reach; opened once.
    fn folder(&mut self, state: &State) -> Result<Arc<Folder>, String> {
        if let Some(folder) = &self.folder {
            return Ok(Arc::clone(folder));
        }
        let guard = Guard::new(&self.hub.workspace, state.setup.team.as_deref());
        let opened = blocking(|| Folder::open(Path::new(&state.setup.folder), guard));
        let folder =
            Arc::new(opened.map_err(|e| format!("the task's folder {} cannot be used: {e}", state.setup.folder))?);
        self.folder = Some(Arc::clone(&folder));
        Ok(folder)
    }

    /// Runs a tool of this process on a thread where it may block.
    async fn here(&mut self, state: &State, call: Call) -> Result<Ran, Lost> {
        let folder = match self.folder(state) {
            Ok(folder) => folder,
            Err(text) => return Ok(Ran::Result { text, is_error: true }),
        };
        let todos = state.todos.clone();
        let ran = tokio::task::spawn_blocking(move || {
            let mut todos: Todos = todos;
            tools::here(&call, &folder, &mut todos, Limits::default())
        });
        match ran.await {
            Ok(Some(Ok(text))) => Ok(Ran::Result { text, is_error: false }),
            Ok(Some(Err(error))) => Ok(Ran::Result { text: error.to_string(), is_error: true }),
            Ok(None) => Ok(Ran::Result { text: "this tool cannot be run here".to_owned(), is_error: true }),
            Err(error) => Err(Lost(format!("a tool broke off: {error}"))),
        }
    }

    /// Runs a command, or finds out what became of it.
    async fn shell(&self, state: &State, pending: &Pending, args: &Shell, is_new: bool) -> Result<Ran, Lost> {
        let limit = args.timeout.map_or(shell::LIMIT, Duration::from_secs);
        let begun = pending.started.as_ref().and_then(Stamp::millis).unwrap_or_else(|| now().wall);
        let gone = u64::try_from(now().wall.saturating_sub(begun)).unwrap_or(0);
        let command = Command {
            tasks: &self.hub.tasks,
            workspace: &self.hub.workspace,
            id: self.task.id,
            run: self.task.run,
            call: pending.ordinal.to_string(),
        };
        let cwd = args.cwd.as_deref().unwrap_or_default();
        let around = &self.hub.around;
        let spec = LaunchSpec {
            shim: around.shim.clone(),
            argv: vec!["/bin/sh".into(), "-c".into(), "--".into(), args.command.clone().into()],
            cwd: Path::new(&state.setup.folder).join(cwd),
            env: self.environment()?,
            leave_children: false,
            log_quota: around.log_quota,
            open_files: around.open_files,
        };
        let left = limit.saturating_sub(Duration::from_millis(gone));
        let end = command.end(&spec, left, is_new).await;
        let end = end.map_err(|error| Lost(format!("a command could not be run or followed: {error}")))?;
        let (text, is_error) = blocking(|| shell::told(&end, limit));
        Ok(Ran::Result { text, is_error })
    }

    /// The environment of its commands.
    fn environment(&self) -> Result<Vec<(OsString, OsString)>, Lost> {
        let given = if self.task.env.is_empty() {
            None
        } else {
            let stored = blocking(|| self.desk.supervisor().store().env(&self.task.env));
            Some(stored.map_err(|error| Lost(format!("the task's environment cannot be read: {error}")))?)
        };
        let mut env = self.hub.around.environment(&self.task, given);
        for (name, value) in &self.serves.shell {
            if self.hub.around.secrets.iter().any(|secret| secret == name) {
                continue;
            }
            let value = with_variables(value, &env);
            env.retain(|(known, _)| known != OsStr::new(name));
            env.push((name.into(), value));
        }
        Ok(env)
    }

    /// Calls a tool of an MCP server.
    async fn mcp(&self, pending: &Pending) -> Result<Ran, Lost> {
        let Some(servers) = &self.mcp else {
            let text = format!("there is no tool `{:.100}`", pending.call.name);
            return Ok(Ran::Result { text, is_error: true });
        };
        match servers.call(&pending.call.name, &pending.call.arguments, MCP_LIMIT).await {
            Ok(text) => Ok(Ran::Result { text, is_error: false }),
            Err(error @ (CallError::Failed(_) | CallError::NotDone(_) | CallError::Unknown(_))) => {
                Ok(Ran::Result { text: error.to_string(), is_error: true })
            }
        }
    }

    async fn run_tool(&mut self, state: &State, pending: &Pending, is_new: bool) -> Result<Ran, Lost> {
        if state.setup.mcp.iter().any(|tool| tool.name == pending.call.name) {
            return self.mcp(pending).await;
        }
        match tools::parse(&pending.call.name, &pending.call.arguments) {
            Ok(Call::Shell(args)) => self.shell(state, pending, &args, is_new).await,
            Ok(
                call @ (Call::DispatchBackground(_)
                | Call::RunBackgroundAgent(_)
                | Call::ListBackgroundAgents(_)
                | Call::ViewBackgroundAgent(_)
                | Call::StopBackgroundAgent(_)
                | Call::WaitBackgroundAgents(_)
                | Call::TransferTask(_)),
            ) => self.tasks(state, pending, &call).await,
            Ok(call) => self.here(state, call).await,
            Err(error) => Ok(Ran::Result { text: error.to_string(), is_error: true }),
        }
    }

    /// Shows the result of a call.
    fn show(&mut self, ran: &Ran) {
        match ran {
            Ran::Result { text, is_error } => self.transcript.result(text, *is_error),
            Ran::Waits(_) => self.transcript.note("waits"),
        }
    }

    /// What the tasks that it started have come to since it was told.
    async fn ends(&mut self, state: &State) -> Result<Vec<Telling>, Lost> {
        let mut tellings = Vec::new();
        let mut known = None;
        for child in self.desk.children(self.task.id).await? {
            if child.is_alive() {
                self.ends.remove(&child.id);
                continue;
            }
            if self
                .ends
                .get(&child.id)
                .is_some_and(|key| child.status.is_none() || key.ends_with(&format!(":{}", child.run)))
            {
                continue;
            }
            let Ok(task) = self.desk.record(child.id).await else { continue };
            if !task.status.is_ended() {
                continue;
            }
            let key = format!("task:{}:{}", task.id, task.run);
            self.ends.insert(task.id, key.clone());
            let known = known.get_or_insert_with(|| tasks::known(state));
            if state.heard(&key) || tasks::is_transfer(&task) || known.contains(task.id.as_str()) {
                continue;
            }
            let from = Source::Task { id: task.id, status: task.status };
            tellings.push(Telling { key, from, text: tasks::told_of(&task) });
        }
        Ok(tellings)
    }
}

/// `${env.NAME}` in a team's value stands for a variable of the environment.
fn with_variables(value: &str, env: &[(OsString, OsString)]) -> OsString {
    let mut out = OsString::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${env.") {
        out.push(before);
        let Some((name, behind)) = after.split_once('}') else {
            out.push("${env.");
            rest = after;
            continue;
        };
        let found = env.iter().find(|(known, _)| known == OsStr::new(name));
        out.push(found.map_or_else(OsString::new, |(_, value)| value.clone()));
        rest = behind;
    }
    out.push(rest);
    out
}

/// Puts a question to the agent's owner, within the bounds of questions.
pub(super) async fn ask(life: &mut Life, question: &QuestionRequest) -> Result<Asked, Lost> {
    let mut question = question.clone();
    question.text = tools::cap(&question.text, QUESTION_MAX, "the agent's journal");
    let mut choices: Vec<String> = Vec::new();
    for choice in &question.choices {
        let choice = choice.trim();
        let choice = &choice[..choice.floor_char_boundary(CHOICE_MAX)];
        if !choice.is_empty() && !choices.iter().any(|known| known.to_lowercase() == choice.to_lowercase()) {
            choices.push(choice.to_owned());
        }
    }
    question.choices = choices;
    question.by = question.by.chars().filter(|c| !c.is_control()).take(32).collect();
    if question.action.is_none() && question.text.trim().is_empty() {
        "(The agent asks for a decision, without a word about it.)".clone_into(&mut question.text);
    }
    let state = life.desk.ask(life.task.id, &question).await?;
    if state.question.open {
        let asked = &state.question;
        let what = asked.action.as_ref().map_or(asked.text.clone(), |a| format!("{}: {}", a.tool, a.what));
        life.transcript.note(&format!("asks: {}", what.replace('\n', " ⏎ ")));
        let (id, choices) = (asked.id.clone(), asked.choices.clone());
        life.transcript.tell(|| Said::Question { id, text: what, choices });
    }
    Ok(desk::asked(state))
}

/// What an agent has used, as records have it.
pub(super) fn usage(state: &State) -> Usage {
    let used = state.used();
    let is_unknown = state.cost_unknown && state.cost == Usd::ZERO;
    let mut usage = Usage {
        input_tokens: used.prompt(),
        output_tokens: used.output,
        cost_usd: (!is_unknown).then(|| state.cost.to_f64()),
        turns: u64::from(state.turns),
        ..Usage::default()
    };
    if state.cost_unknown && !is_unknown {
        usage.extra.insert("cost_is_partial".to_owned(), true.into());
    }
    usage
}

impl World for Life {
    fn now(&self) -> Stamp {
        Stamp::from_millis(now().wall)
    }

    fn append(&mut self, line: &Line) -> Result<(), Lost> {
        let (journal, transcript) = (&mut self.journal, &mut self.transcript);
        blocking(|| journal.append(line)).map_err(|error| Lost(error.to_string()))?;
        if let Entry::Told { key, from: Source::Owner { .. }, .. } = &line.entry {
            transcript.tell(|| Said::Heard { key: key.clone() });
        }
        show_line(transcript, line);
        match &line.entry {
            Entry::Replied { reply, .. } => {
                self.unseen = reply.message.calls.iter().map(|call| (call.id.clone(), call.clone())).collect();
            }
            Entry::Returned { call, text, is_error } => {
                // One that no tool was run for: denied, or not to be made sense of.
                let unseen = self.unseen.remove(call).filter(|_| *is_error);
                if let Some(call) = unseen {
                    self.transcript.call(&call.name, &call.arguments);
                    self.transcript.result(text, true);
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn reserve(&mut self, state: &State, prompt: u64, max_output: u32) -> Result<Result<u32, String>, Lost> {
        let price = self.settings.prices.of(&state.model);
        let rates = price.map(|price| {
            let rates = match price.over {
                Over::Rates { prompt: short, rates } if prompt > short => rates,
                Over::Rates { .. } | Over::Same | Over::Unknown { .. } => price.rates,
            };
            (rates.input.max(rates.cached_write).max(rates.cached_read), rates.output)
        });
        let reserve = Reserve { id: self.task.id, run: self.task.run, prompt, max_output, rates };
        loop {
            match self.desk.reserve(reserve).await? {
                Reserved::Output(tokens) => return Ok(Ok(tokens)),
                Reserved::UsedUp(text) => return Ok(Err(text)),
                // Others are at work with what is left of a budget; their replies take seconds.
                Reserved::Later => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    async fn settle(&mut self, state: &State) -> Result<(), Lost> {
        self.works(state).await
    }

    async fn call(&mut self, request: &Request) -> Result<Reply, ModelError> {
        let transcript = &mut self.transcript;
        let mut on_text = |text: &str| transcript.words(text);
        let reply = self.models.call(request, &mut on_text).await;
        self.transcript.turn_over();
        if let Err(error) = &reply {
            self.transcript.note(&format!("the model did not answer: {error}"));
        }
        reply
    }

    fn cost(&self, asked: &ModelName, reply: &Reply) -> Option<Usd> {
        let prices = &self.settings.prices;
        // Some servers name the model that answered in words of their own.
        prices.cost(&reply.model, &reply.usage).or_else(|| prices.cost(asked, &reply.usage))
    }

    async fn ask(&mut self, question: &QuestionRequest) -> Result<Asked, Lost> {
        ask(self, question).await
    }

    async fn run(&mut self, state: &State, pending: &Pending) -> Result<Ran, Lost> {
        self.unseen.remove(&pending.call.id);
        self.transcript.call(&pending.call.name, &pending.call.arguments);
        let ran = self.run_tool(state, pending, true).await?;
        self.show(&ran);
        Ok(ran)
    }

    async fn recover(&mut self, state: &State, pending: &Pending) -> Result<Ran, Lost> {
        let name = pending.call.name.as_str();
        self.unseen.remove(&pending.call.id);
        self.transcript.note(&format!("looks what became of {name}"));
        let unknown = |look_at: &str| Ran::Result { text: words::unknown_effect(name, look_at), is_error: true };
        let ran = match name {
            // Their shims, or their keys, tell.
            "shell" | "dispatch_background" => self.run_tool(state, pending, false).await?,
            "write_file" | "edit_file" => {
                let path = pending.call.arguments["path"].as_str().unwrap_or_default();
                unknown(&format!(
                    "The file `{path:.200}` is either as it was or as you wanted it: read it, then decide."
                ))
            }
            _ => unknown("Find out how things are before you call it again, or ask the owner."),
        };
        self.show(&ran);
        Ok(ran)
    }

    async fn news(&mut self, state: &State) -> Result<Vec<Telling>, Lost> {
        let mut all = Vec::new();
        if !self.task.prompt.is_empty() && !state.heard("prompt") {
            let by = self.task.parent.map_or_else(|| "owner".to_owned(), |id| format!("task:{id}"));
            let from = Source::Owner { by };
            all.push(Telling { key: "prompt".to_owned(), from, text: self.task.prompt.clone() });
        }
        let said = match &self.inbox {
            Some(inbox) => inbox.words(state)?,
            None => Vec::new(),
        };
        // A conversation that rests is not woken by the end of a task: its owner hears of that by a notice.
        let rests = state.setup.chat && matches!(state.messages.last(), None | Some(Message::Assistant(_)));
        if !rests || !said.is_empty() {
            all.extend(self.ends(state).await?);
        }
        all.extend(said);
        Ok(all)
    }

    async fn has_tasks(&mut self) -> Result<bool, Lost> {
        Ok(self.desk.children(self.task.id).await?.iter().any(|child| child.is_alive()))
    }
}

/// Shows what a line of the journal says and nobody else has shown.
fn show_line(transcript: &mut Transcript, line: &Line) {
    match &line.entry {
        Entry::Told { from: Source::Owner { by }, text, .. } => {
            transcript.note(&format!("{by}: {}", text.lines().next().unwrap_or_default()));
        }
        Entry::Told { from: Source::Task { id, status }, .. } => {
            transcript.note(&format!("task {id} has ended: {status}"))
        }
        Entry::Answered { text: Some(text), by, .. } => transcript.note(&format!("{by} answered: {text}")),
        Entry::Answered { text: None, .. } => transcript.note("nobody answered"),
        Entry::Compacted(Compaction::Results { calls }) => {
            transcript.note(&format!("the conversation became too long: {} older results are left out", calls.len()));
        }
        Entry::Compacted(Compaction::Summary { .. }) => {
            transcript.note("the conversation became too long: its older part is now a summary");
        }
        Entry::Model { model } => transcript.note(&format!("goes on with {model}")),
        Entry::WentOn { run } => transcript.note(&format!("goes on in run {run}")),
        Entry::Stopped => transcript.note("stopped"),
        Entry::Ended { ok: true, text } => transcript.note(&format!("done: {text}")),
        Entry::Ended { ok: false, text } => transcript.note(&format!("failed: {text}")),
        Entry::Began(_)
        | Entry::Told { from: Source::Octo, .. }
        | Entry::Asking { .. }
        | Entry::Replied { .. }
        | Entry::NoReply { .. }
        | Entry::Started { .. }
        | Entry::Returned { .. }
        | Entry::Asked { .. } => {}
    }
}

/// The environment of programs of MCP servers, as a map.
pub(super) fn as_map(env: Vec<(OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    env.into_iter().collect()
}
