//! Where agents live in the daemon: the hub starts and stops their drivers, and gives each what it lives in.
//!
//! ```text
//!   supervisor's thread                       threads of the hub
//!     Agents::launch(task) ──► seat (one driver of an agent at a time)
//!                                ├─ journal: begin, go on, or begin anew    setup.rs
//!     reports ◄──────────────────┤  drive(State, Life)                      life.rs ── shell.rs  tasks.rs  (mcp, tools)
//!                                └─ the end of driving
//!     Agents::stop(id, run) ──► drop the driver, end its commands, write Stopped, report
//!   API: POST /chat ──say──► inbox (durable) ──► the driver of the conversation     talk.rs
//! ```
//!
//! The hub has a runtime of its own, made for the first agent, so that no agent slows the API down. Journals are
//! synced on its threads (`blocking`).
//!
//! A launch always means: go on from the journal. So nothing here must be remembered over a restart, a driver may be
//! dropped at any moment, and launching an agent that is driven already does no harm: the second driver waits for the
//! first one's seat and then finds what is left to do.
//!
//! **A journal of an earlier run** that is over (ended, or stopped) is put aside as `journal.run-K.jsonl` with all
//! that its calls left, and the agent begins anew; one that is not over is gone on from.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::{Handle as Threads, Runtime};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::drive::{Leave, drive};
use super::journal::{self, Entry, Journal, JournalError, Line};
use super::mcp::{self, Servers};
use super::model::Models;
use super::model::prices::Prices;
use super::step::State;
use crate::command::{Refused, RefusedCode, StartRequest};
use crate::config::Config;
use crate::exec::agent::{AgentCheck, AgentReport, Agents, Report};
use crate::exec::process::Surroundings;
use crate::run::RunDir;
use crate::run::dir::{CALLS, sync_dir};
use crate::supervisor::{Handle, now};
use crate::task::{Stamp, Task, TaskId, Usage};

mod chat;
mod desk;
mod life;
mod roster;
mod setup;
mod shell;
mod talk;
mod tasks;
mod transcript;
mod words;

pub use chat::{Listen, Say};
pub use transcript::Said;

use desk::Desk;
use life::{Begin, Life};
use talk::Inbox;
use transcript::Transcript;

/// Threads that drive agents. What they wait for are models and commands; what keeps them busy are short syncs.
const WORKERS: usize = 2;

/// Threads for what may last: tools that go through files.
const BLOCKING: usize = 8;

/// How long the hub's threads may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs what blocks for a moment; other agents are driven meanwhile.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Threads::try_current().map(|threads| threads.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The settings that agents live by.
pub(crate) struct Settings {
    /// All of them.
    pub(crate) config: Config,
    /// The workspace.
    pub(crate) workspace: PathBuf,
    /// Who is asked.
    models: Models,
    /// What that costs.
    prices: Prices,
}

impl Settings {
    fn new(config: &Config, workspace: &Path) -> (Settings, Vec<String>) {
        let (prices, warnings) = Prices::new(&config.prices);
        let models = Models::new(config, workspace);
        (Settings { config: config.clone(), workspace: workspace.to_owned(), models, prices }, warnings)
    }
}

/// The agents of one daemon.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("workspace", &self.inner.workspace).finish_non_exhaustive()
    }
}

/// A driver at work.
struct Driver {
    /// Which launch it is of.
    launch: u64,
    abort: AbortHandle,
}

/// What drivers share.
pub(crate) struct Inner {
    workspace: PathBuf,
    tasks: PathBuf,
    around: Surroundings,
    settings: RwLock<Arc<Settings>>,
    /// The daemon's own threads: for what must be said when the hub has none.
    main: Threads,
    /// What is to be done with agents, in order.
    orders: mpsc::UnboundedSender<Order>,
    runtime: tokio::sync::Mutex<Option<Threads>>,
    keeper: Mutex<Option<Runtime>>,
    supervisor: watch::Sender<Option<Handle>>,
    state: Mutex<Drivers>,
    /// What teams' files say that is not used: told once.
    told: Mutex<std::collections::HashSet<String>>,
}

/// What the supervisor wants of an agent.
enum Order {
    Launch(Box<Task>),
    Stop(TaskId, u32),
}

#[derive(Default)]
struct Drivers {
    launches: u64,
    driven: HashMap<TaskId, Vec<Driver>>,
    seats: HashMap<TaskId, Arc<tokio::sync::Mutex<()>>>,
    inboxes: HashMap<TaskId, Inbox>,
    leaving: bool,
}

impl Hub {
    /// A hub without agents yet; to be called on the daemon's runtime. Returns what is wrong with the settings, too.
    #[must_use]
    pub fn new(around: Surroundings, config: &Config) -> (Hub, Vec<String>) {
        let (settings, warnings) = Settings::new(config, &around.workspace);
        // Unbounded: the supervisor must not wait, and launches as many as it has slots.
        let (orders, ordered) = mpsc::unbounded_channel();
        let inner = Inner {
            workspace: around.workspace.clone(),
            tasks: around.octo.join("tasks"),
            around,
            settings: RwLock::new(Arc::new(settings)),
            main: Threads::current(),
            orders,
            runtime: tokio::sync::Mutex::new(None),
            keeper: Mutex::new(None),
            supervisor: watch::Sender::new(None),
            state: Mutex::new(Drivers::default()),
            told: Mutex::default(),
        };
        let inner = Arc::new(inner);
        tokio::spawn(Arc::clone(&inner).obey(ordered));
        (Hub { inner }, warnings)
    }

    /// Lets agents talk to the supervisor; those that were launched before wait for this.
    pub fn connect(&self, supervisor: Handle) {
        self.inner.supervisor.send_replace(Some(supervisor));
    }

    /// Takes over changed settings: keys and addresses, prices, the team. Agents that are driven go on as they are
    /// until they are driven again.
    pub fn settings(&self, config: &Config) -> Vec<String> {
        let (settings, warnings) = Settings::new(config, &self.inner.workspace);
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        warnings
    }

    /// Drops all drivers: agents stay as their journals say, their commands go on under their shims. It blocks.
    pub fn leave(&self) {
        let driven = {
            let mut drivers = self.inner.drivers();
            drivers.leaving = true;
            std::mem::take(&mut drivers.driven)
        };
        driven.into_values().flatten().for_each(|driver| driver.abort.abort());
        let runtime = self.inner.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

impl Agents for Hub {
    fn launch(&self, task: &Task) {
        let _ = self.inner.orders.send(Order::Launch(Box::new(task.clone())));
    }

    fn stop(&self, id: TaskId, run: u32) {
        let _ = self.inner.orders.send(Order::Stop(id, run));
    }
}

impl AgentCheck for Hub {
    fn check(&self, request: &mut StartRequest, parent: Option<&Task>) -> Result<(), Refused> {
        self.inner.check(request, parent)
    }
}

/// What an agent used by its present journal, as its record has it.
fn own_usage(task: &Task) -> Usage {
    let (all, before) = (&task.usage, &task.usage_before);
    Usage {
        input_tokens: all.input_tokens.saturating_sub(before.input_tokens),
        output_tokens: all.output_tokens.saturating_sub(before.output_tokens),
        cost_usd: all.cost_usd.map(|cost| (cost - before.cost_usd.unwrap_or_default()).max(0.0)),
        turns: all.turns.saturating_sub(before.turns),
        ..Usage::default()
    }
}

fn report(id: TaskId, run: u32, usage: Usage, what: Report) -> AgentReport {
    AgentReport { id, run, usage, what }
}

/// Why an agent is not driven: it is as this says.
struct Not(Box<(Usage, Report)>);

impl Not {
    fn failed(why: impl Into<String>) -> Not {
        Not(Box::new((Usage::default(), Report::Failed(why.into()))))
    }

    fn lost(why: impl std::fmt::Display) -> Not {
        Not(Box::new((Usage::default(), Report::Lost(why.to_string()))))
    }
}

impl From<JournalError> for Not {
    fn from(error: JournalError) -> Not {
        match error {
            JournalError::Io { .. } => Not::lost(error),
            JournalError::Damaged { .. } => {
                Not::failed(format!("the agent's journal is damaged, so it does not go on: {error}"))
            }
        }
    }
}

impl Inner {
    fn drivers(&self) -> MutexGuard<'_, Drivers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn desk(&self) -> Option<Desk> {
        let mut supervisor = self.supervisor.subscribe();
        let found = supervisor.wait_for(Option::is_some).await.ok()?;
        found.clone().map(Desk::new)
    }

    /// The hub's threads, made when they are first needed. `None`: there are none to be had.
    async fn threads(&self) -> Option<Threads> {
        let mut runtime = self.runtime.lock().await;
        if let Some(threads) = &*runtime {
            return Some(threads.clone());
        }
        // Where a thread cannot be had tokio panics, on a thread of its own here.
        let build = tokio::task::spawn_blocking(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .max_blocking_threads(BLOCKING + WORKERS)
                .thread_name("agents")
                .enable_all()
                .build()
        });
        let Ok(Ok(Ok(built))) = tokio::time::timeout(PATIENCE, build).await else { return None };
        let threads = built.handle().clone();
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(built);
        *runtime = Some(threads.clone());
        Some(threads)
    }

    /// Does what the supervisor wants, in its order: a stop is for what was launched before it.
    async fn obey(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match (self.threads().await, order) {
                (Some(threads), Order::Launch(task)) => self.launch(&threads, *task),
                (Some(threads), Order::Stop(id, run)) => self.stop(&threads, id, run),
                (None, Order::Launch(task)) => {
                    let inner = Arc::clone(&self);
                    self.main.spawn(async move { inner.no_threads(&task).await });
                }
                // Without threads there is no driver either. The intent is saved, and sent again.
                (None, Order::Stop(..)) => {}
            }
        }
    }

    async fn no_threads(&self, task: &Task) {
        let Some(desk) = self.desk().await else { return };
        let what = Report::Lost("there are no threads for agents".to_owned());
        let _ = desk.report(report(task.id, task.run, own_usage(task), what)).await;
    }

    fn launch(self: &Arc<Self>, threads: &Threads, task: Task) {
        let id = task.id;
        let mut drivers = self.drivers();
        if drivers.leaving {
            return;
        }
        drivers.launches += 1;
        let launch = drivers.launches;
        let driving: JoinHandle<()> = threads.spawn(Arc::clone(self).driver(task, launch));
        drivers.driven.entry(id).or_default().push(Driver { launch, abort: driving.abort_handle() });
    }

    /// One driver, from its seat to its report.
    async fn driver(self: Arc<Self>, task: Task, launch: u64) {
        let Some(desk) = self.desk().await else { return };
        let (id, run) = (task.id, task.run);
        let seat = self.seat(id).await;
        let (usage, what) = self.drive(&desk, task).await;
        // From here on it cannot be dropped any more: what it reports has happened.
        let is_here = {
            let mut drivers = self.drivers();
            let of_task = drivers.driven.entry(id).or_default();
            let before = of_task.len();
            of_task.retain(|driver| driver.launch != launch);
            let was_here = of_task.len() < before;
            if of_task.is_empty() {
                drivers.driven.remove(&id);
            }
            was_here
        };
        self.leave_seat(id, seat);
        if is_here && let Err(lost) = desk.report(report(id, run, usage, what)).await {
            tracing::warn!(%id, run, %lost, "a report of an agent was not taken");
        }
    }

    async fn drive(self: &Arc<Self>, desk: &Desk, task: Task) -> (Usage, Report) {
        let before = own_usage(&task);
        let (mut state, mut life) = match self.begin(desk, task).await {
            Ok(begun) => begun,
            Err(not) => {
                let (usage, what) = *not.0;
                let usage = if usage == Usage::default() { before } else { usage };
                return (usage, what);
            }
        };
        // It runs, whatever it does first, and however long that takes.
        let left = match life.works(&state).await {
            Ok(()) => drive(&mut state, &mut life).await,
            Err(lost) => Leave::Lost(lost),
        };
        let what = match left {
            Leave::Ended { ok, text } => Report::Ended { ok, text },
            Leave::Parked(parking) => Report::Parked(parking),
            Leave::OverBudget(which) => {
                life.transcript.note(&format!("the budget is used up: {which}"));
                Report::OverBudget(which)
            }
            Leave::NoModel(error) => Report::Failed(error.message),
            Leave::Idle => Report::Working,
            Leave::Lost(lost) => Report::Lost(lost.0),
        };
        self.tell_watchers(&life, &state, &what);
        let what = match what {
            // A conversation goes on with what is said next.
            Report::OverBudget(_) | Report::Failed(_) if state.setup.chat => Report::Working,
            what => what,
        };
        (life::usage(&state), what)
    }

    /// Tells who talks with the agent how its turn ended.
    fn tell_watchers(&self, life: &Life, state: &State, what: &Report) {
        match what {
            Report::Working => life.transcript.tell(|| Said::Done { text: state.last_words() }),
            Report::Ended { ok: true, text } => life.transcript.tell(|| Said::Done { text: text.clone() }),
            Report::Ended { ok: false, text }
            | Report::OverBudget(text)
            | Report::Failed(text)
            | Report::Lost(text) => {
                life.transcript.tell(|| Said::Error { message: text.clone() });
            }
            // It goes on when what it waits for has happened.
            Report::Parked(_) | Report::Stopped => {}
        }
    }

    /// Opens the journal, begins it if need be, and makes what the agent lives in.
    async fn begin(self: &Arc<Self>, desk: &Desk, task: Task) -> Result<(State, Life), Not> {
        let folder = self.tasks.join(task.id.as_str());
        let (mut journal, state) = blocking(|| self.open(&folder, &task))?;
        if let Some(state) = &state {
            over(state)?;
        }
        let settings = self.now_settings();
        let team = tasks::team_for(&task, self, &settings);
        let team = match (&state, team) {
            (_, Ok(team)) => team,
            // It goes on without what its team's file would serve it.
            (Some(_), Err(why)) => {
                tracing::warn!(id = %task.id, %why, "an agent goes on without its team's file");
                None
            }
            (None, Err(why)) => return Err(Not::failed(why)),
        };
        self.warn_of(team.as_ref());
        let name = state.as_ref().map_or(task.agent_name.as_str(), |state| state.setup.agent.as_str());
        let agent = match &team {
            Some(loaded) => match loaded.team.start(Some(name).filter(|name| !name.is_empty())) {
                Ok(agent) => Some(agent),
                Err(why) if state.is_none() => return Err(Not::failed(why)),
                Err(_) => None,
            },
            None => None,
        };
        let serves = setup::Serves::of(if task.is_chat() { None } else { agent }, &settings.config);
        let inbox = task.is_chat().then(|| self.inbox(task.id));
        let dir = RunDir::new(&self.tasks, task.id, task.run);
        let watchers = inbox.as_ref().map(|inbox| inbox.watchers().clone());
        let mut transcript = blocking(|| Transcript::open(&dir, watchers));
        let mcp = self.servers(&task, &serves, state.as_ref(), &dir, &mut transcript).await;
        let at = || Stamp::from_millis(now().wall);
        let state = match state {
            None => {
                let depth = tasks::depth(desk, &task).await;
                let parts = setup::Parts {
                    task: &task,
                    team: team.as_ref().zip(agent),
                    settings: &settings,
                    mcp: mcp.as_ref().map(Servers::tools).unwrap_or_default(),
                    depth,
                    today: jiff::Zoned::now().strftime("%A, %-d %B %Y").to_string(),
                };
                let setup = setup::setup(parts).map_err(Not::failed)?;
                let line = Line { at: at(), entry: Entry::Began(Box::new(setup.clone())) };
                blocking(|| journal.append(&line))?;
                State::new(setup)
            }
            Some(mut state) if state.run < task.run => {
                let line = Line { at: at(), entry: Entry::WentOn { run: task.run } };
                blocking(|| journal.append(&line))?;
                state.apply(&line);
                state
            }
            Some(state) => state,
        };
        let mut state = state;
        let wanted = inbox.as_ref().and_then(Inbox::model);
        if let Some(model) = wanted.filter(|model| *model != state.model && state.pending.is_empty()) {
            let line = Line { at: at(), entry: Entry::Model { model } };
            blocking(|| journal.append(&line))?;
            state.apply(&line);
        }
        let begin = Begin {
            hub: Arc::clone(self),
            desk: desk.clone(),
            task,
            transcript,
            settings,
            journal,
            serves,
            mcp,
            inbox,
        };
        Ok((state, Life::new(begin)))
    }

    /// The journal and its fold, with what belongs to an earlier run put aside.
    fn open(&self, folder: &Path, task: &Task) -> Result<(Journal, Option<State>), Not> {
        make_folder(&self.tasks, folder).map_err(|e| Not::lost(format!("{}: {e}", folder.display())))?;
        let fold = |lines: &[Line]| {
            let folded = State::fold(lines);
            folded
                .map_err(|error| Not::failed(format!("the agent's journal is damaged, so it does not go on: {error}")))
        };
        let (journal, lines) = Journal::open(folder)?;
        let state = fold(&lines)?;
        match state {
            Some(state) if state.run < task.run && (state.ended.is_some() || state.stopped) => {
                drop(journal);
                put_aside(&self.around.octo, folder, task.id, state.run)
                    .map_err(|e| Not::lost(format!("{}: {e}", folder.display())))?;
                Ok((Journal::open(folder)?.0, None))
            }
            state => Ok((journal, state)),
        }
    }

    /// Connects the MCP servers of an agent; one that has none of their tools needs none.
    async fn servers(
        &self,
        task: &Task,
        serves: &setup::Serves,
        state: Option<&State>,
        dir: &RunDir,
        transcript: &mut Transcript,
    ) -> Option<Servers> {
        let needs = state.is_none_or(|state| !state.setup.mcp.is_empty());
        if serves.mcp.is_empty() || !needs || task.is_chat() {
            return None;
        }
        let given = if task.env.is_empty() {
            None
        } else {
            self.supervisor.borrow().as_ref().and_then(|s| blocking(|| s.store().env(&task.env)).ok())
        };
        let env = life::as_map(self.around.environment(task, given));
        let config = &self.now_settings().config;
        // Octo's own settings may be named in the owner's files; the environment of the task does not hold them.
        let look_up = |name: &str| {
            let own = match name {
                "ANTHROPIC_API_KEY" => Some(&config.anthropic_api_key),
                "OPENAI_API_KEY" => Some(&config.openai_api_key),
                "GEMINI_API_KEY" => Some(&config.gemini_api_key),
                _ => None,
            };
            let own = own.filter(|secret| !secret.is_empty()).map(|secret| secret.expose().to_owned());
            own.or_else(|| Some(env.get(std::ffi::OsStr::new(name))?.to_str()?.to_owned()))
        };
        let cwd = if task.cwd.is_empty() { self.workspace.clone() } else { PathBuf::from(&task.cwd) };
        let here = mcp::Surroundings {
            env: &env,
            look_up: &look_up,
            cwd: &cwd,
            shim: &self.around.shim,
            mark: dir.path(),
            open_files: self.around.open_files,
            start_within: mcp::START_WITHIN,
        };
        let servers = Servers::connect(&serves.mcp, &here).await;
        for problem in servers.problems() {
            transcript.note(problem);
            tracing::warn!(id = %task.id, %problem, "an MCP server");
        }
        Some(servers)
    }

    fn warn_of(&self, team: Option<&setup::Loaded>) {
        let Some(loaded) = team else { return };
        for warning in &loaded.team.warnings {
            let text = format!("{}:{}: {}", loaded.path.display(), warning.line, warning.what);
            if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
                tracing::warn!("{text}");
                if let Some(supervisor) = self.supervisor.borrow().clone() {
                    self.main.spawn(async move { supervisor.note(|core| core.add_problem(text)).await });
                }
            }
        }
    }

    /// The inbox of a conversation: there is one.
    fn inbox(&self, id: TaskId) -> Inbox {
        let folder = self.tasks.join(id.as_str());
        self.drivers().inboxes.entry(id).or_insert_with(|| Inbox::new(&folder)).clone()
    }

    /// The seat of an agent's driver; there is one.
    async fn seat(&self, id: TaskId) -> OwnedMutexGuard<()> {
        let seat = self.drivers().seats.entry(id).or_default().clone();
        seat.lock_owned().await
    }

    fn leave_seat(&self, id: TaskId, seat: OwnedMutexGuard<()>) {
        let mut drivers = self.drivers();
        // One is the list's, one is this.
        if Arc::strong_count(OwnedMutexGuard::mutex(&seat)) == 2 {
            drivers.seats.remove(&id);
        }
    }

    fn stop(self: &Arc<Self>, threads: &Threads, id: TaskId, run: u32) {
        let driven = self.drivers().driven.remove(&id).unwrap_or_default();
        driven.iter().for_each(|driver| driver.abort.abort());
        let inner = Arc::clone(self);
        threads.spawn(async move {
            let Some(desk) = inner.desk().await else { return };
            let seat = inner.seat(id).await;
            let (usage, what) = inner.end(id, run).await;
            let usage = match usage {
                Some(usage) => usage,
                None => desk.record(id).await.map(|task| own_usage(&task)).unwrap_or_default(),
            };
            inner.leave_seat(id, seat);
            inner.drivers().inboxes.remove(&id);
            if let Err(lost) = desk.report(report(id, run, usage, what)).await {
                tracing::warn!(%id, run, %lost, "the report of an agent's end was not taken");
            }
        });
    }

    /// Ends what an agent still runs, and notes that it was stopped.
    async fn end(&self, id: TaskId, run: u32) -> (Option<Usage>, Report) {
        if let Err(error) = shell::end_all(&self.tasks, &self.workspace, id, run).await {
            return (None, Report::Lost(format!("what the agent ran cannot be ended: {error}")));
        }
        let folder = self.tasks.join(id.as_str());
        let noted = blocking(|| {
            if journal::read(&folder)?.is_none() {
                return Ok(None);
            }
            let (mut journal, lines) = Journal::open(&folder)?;
            let Ok(Some(mut state)) = State::fold(&lines) else { return Ok(None) };
            if !state.stopped && state.ended.is_none() {
                let line = Line { at: Stamp::from_millis(now().wall), entry: Entry::Stopped };
                journal.append(&line)?;
                state.apply(&line);
            }
            Ok::<_, JournalError>(Some(state))
        });
        match noted {
            Ok(state) => {
                let inbox = self.drivers().inboxes.get(&id).cloned();
                if let Some(inbox) = inbox {
                    let _ = inbox.watchers().send(Said::Error { message: "the conversation was ended".to_owned() });
                }
                (state.as_ref().map(life::usage), Report::Stopped)
            }
            // What cannot be read cannot be gone on from either: it is as good as stopped.
            Err(JournalError::Damaged { .. }) => (None, Report::Stopped),
            Err(error @ JournalError::Io { .. }) => (None, Report::Lost(error.to_string())),
        }
    }

    /// Looks at the start of an agent before it is accepted; fills in its name and model.
    fn check(&self, request: &mut StartRequest, parent: Option<&Task>) -> Result<(), Refused> {
        let bad = |why: String| {
            Refused::new(RefusedCode::BadRequest, why)
                .hint("`octo status` shows the settings; `octo doctor` checks them")
        };
        let settings = self.now_settings();
        if request.team.is_empty()
            && let Some(parent) = parent
        {
            request.team.clone_from(&parent.team);
        }
        let loaded = match setup::team_path(&request.team, &settings.config, &self.workspace) {
            Some(path) => Some(setup::load(&path).map_err(bad)?),
            None => None,
        };
        self.warn_of(loaded.as_ref());
        let named = request.agent_id.trim();
        let agent = match &loaded {
            Some(loaded) => {
                let found = loaded.team.start(Some(named).filter(|name| !name.is_empty())).map_err(bad)?;
                if named.is_empty() {
                    request.agent_id.clone_from(&found.name);
                }
                Some(found)
            }
            None if named.is_empty() => None,
            None => {
                let why = format!("there is no agent `{named:.64}`, because there is no team");
                return Err(Refused::new(RefusedCode::BadRequest, why)
                    .hint("name the team's file with --team, or in octo.toml: [agents] team = \"team.yaml\""));
            }
        };
        let model = setup::model_of(&request.model, agent, &settings.config).map_err(bad)?;
        let serves = setup::Serves::of(agent, &settings.config);
        setup::check_model(&model, &serves, &settings).map_err(bad)?;
        request.model = model.to_string();
        Ok(())
    }
}

/// What there is to report of an agent that is over, if it is.
fn over(state: &State) -> Result<(), Not> {
    if state.stopped {
        return Err(Not(Box::new((life::usage(state), Report::Stopped))));
    }
    Ok(())
}

/// Makes the task's folder, durably. Whoever made it before may not have synced it: what is in it has.
fn make_folder(tasks: &Path, folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    if folder.join(journal::FILE).exists() || folder.join(talk::FILE).exists() {
        return Ok(());
    }
    sync_dir(tasks)
}

/// Puts aside what an earlier run left: first what its calls left, which a later call must not be taken for.
fn put_aside(octo: &Path, folder: &Path, id: TaskId, run: u32) -> io::Result<()> {
    let trash = octo.join("trash");
    let calls = folder.join(CALLS);
    if calls.exists() {
        std::fs::create_dir_all(&trash)?;
        let name = format!("{id}.calls-{run}.{}", uuid::Uuid::new_v4().simple());
        std::fs::rename(&calls, trash.join(name))?;
        sync_dir(folder)?;
    }
    std::fs::rename(folder.join(journal::FILE), folder.join(format!("journal.run-{run}.jsonl")))?;
    sync_dir(folder)
}
