//! The deciding half of the supervisor: state and inputs in, writes and effects out.
//!
//! No IO, no clock, no await: the engine ([`super::engine`]) feeds [`Core::step`] with what people ask
//! and what was seen, takes a [`Batch`], saves it, and reports back with [`Core::committed`]. An effect
//! is released only when the saves it depends on are durable; a save that failed did not happen, so its
//! task is put back as it was and whoever asked is told.
//!
//! ```text
//!   Input ──► step ──► dirty tasks + effects ──► take_batch ──► (engine saves) ──► committed ──► effects
//!                ▲                                                                               │
//!                └──────────────── what the effects found (facts, failed launches) ◄─────────────┘
//! ```
//!
//! Tasks that have not ended, or whose run folder is not folded away yet, are *live* and held whole; a
//! settled task is a [`Summary`] of some hundred bytes, its record is read from disk when it is asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::command::{Actor, Env, Refused};
use crate::exec::{Look, Report};
use crate::run::Claim;
use crate::store::{Loaded, Marks, Summary, Write};
use crate::task::{Status, Task, TaskId};

mod agents;
mod batch;
mod boot;
mod budget;
mod commands;
mod family;
mod index;
mod judge;
mod leisure;
mod notices;
mod query;
mod questions;
mod schedule;
mod watches;

pub use batch::{Batch, Effect, Saved};
pub use commands::{Ask, NewTask, Reply};
pub use judge::FOLD_AGAIN_MS;
pub use notices::PAGE_BYTES;
pub use query::{Page, Resolved, list_cursor};
pub use questions::{NewQuestion, state_of};

/// The moment of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970: for people.
    pub wall: i64,
    /// Milliseconds since boot, suspends included: for every duration and deadline.
    pub boot: u64,
}

/// The number of a request that waits for a reply.
pub type RequestId = u64;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Somebody asks for something. `record` is the task's record when it is settled (read by the engine).
    Ask {
        /// Where the reply goes.
        request: RequestId,
        /// Who asks.
        actor: Actor,
        /// What is asked.
        ask: Box<Ask>,
        /// The settled record that it is about.
        record: Option<Box<Task>>,
    },
    /// A run was looked at.
    Looked {
        /// The task.
        id: TaskId,
        /// The run that was looked at.
        run: u32,
        /// What was found.
        look: Box<Look>,
    },
    /// A run could not be looked at just now.
    LookFailed {
        /// The task.
        id: TaskId,
    },
    /// Something may have happened to a run: look at it.
    Poke {
        /// The task.
        id: TaskId,
    },
    /// A run's command was released: look at it soon.
    Claimed {
        /// The task.
        id: TaskId,
    },
    /// A launch did not happen.
    LaunchFailed {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
        /// Why, for people.
        why: String,
        /// The machine was short of something; does not count.
        passing: bool,
    },
    /// What a dead run left behind is gone.
    LeftEnded {
        /// The task.
        id: TaskId,
        /// Its run.
        run: u32,
        /// What the run had said.
        report: Report,
    },
    /// The run folders were folded away (or not, when false: a lock is still held).
    Folded {
        /// The task.
        id: TaskId,
        /// Whether it is done; else, how many milliseconds later it is tried again.
        done: Result<(), u64>,
    },
    /// A removed task's files are gone (or not yet).
    FilesRemoved {
        /// The task.
        id: TaskId,
        /// Whether it is done.
        done: bool,
    },
    /// The asker of a question polls for its answer.
    Polled {
        /// The task.
        id: TaskId,
        /// The question.
        question: String,
    },
    /// The disk's free space was measured.
    Disk {
        /// Whether it is below the limit.
        low: bool,
        /// The running task whose log grew most since the last measurement, when low.
        writer: Option<TaskId>,
    },
}

/// What the core was told to keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many tasks run at once (`BG_MAX_CONCURRENT`).
    pub slots: usize,
    /// Push bridges that are owed every notice.
    pub bridges: Vec<String>,
    /// The mark of this installation; a record without it is shown, not used.
    pub mark: String,
    /// Records of elsewhere that were trusted; they get the mark when they are next saved.
    pub trusted: HashSet<TaskId>,
    /// The daemon's log quota, for messages.
    pub log_quota: u64,
    /// When an open question is told again, seconds after it was asked.
    pub reminders: Vec<u64>,
    /// The owner's time zone, for messages.
    pub time_zone: jiff::tz::TimeZone,
    /// How many tokens an agent and the tasks that it starts may use, if nothing else is said.
    pub agent_budget: u64,
    /// How many tokens all tasks together may use in 24 hours.
    pub global_budget: u64,
}

/// What the daemon knows about a live task beyond its record.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// A record of another installation: shown, never touched.
    Foreign,
    /// Read from disk at boot and not looked at yet.
    Unseen,
    /// Dispatched, and its present run has no folder.
    Queued,
    /// Launched and no claim seen yet.
    Starting { since: u64, own: bool },
    /// Its claim was seen. `None`: the claim cannot be read.
    Running { claim: Option<Claim> },
    /// A dead run: what it left behind is being ended.
    Sweeping,
    /// Ended; its run folder is to be folded away.
    Settling,
    /// An agent whose driver was launched.
    Driven,
    /// An agent that has no driver, because it waits for something else than a slot.
    Parked(Parked),
    /// An agent without a driver that is stopped: what it ran is being ended.
    Clearing,
}

/// What an agent without a driver waits for.
#[derive(Debug, Clone, PartialEq)]
enum Parked {
    /// Its owner's answer.
    Answer,
    /// A moment, in milliseconds since boot.
    Until(u64),
    /// The end of other tasks.
    Tasks {
        /// Which; empty: all that it started.
        ids: Vec<TaskId>,
        /// And not longer than this, in milliseconds since boot.
        until: Option<u64>,
    },
}

#[derive(Debug, Clone)]
struct Live {
    task: Task,
    phase: Phase,
    /// When the stop was sent to the shim, milliseconds since boot.
    stop_sent: Option<u64>,
    /// When to look again.
    due: Option<u64>,
    /// Changed in memory in a way that the next save may carry, but that needs no save of its own.
    lazy: bool,
    /// Why the last launch failed.
    last_failure: String,
    /// Its open questions.
    watches: watches::Watches,
    /// When the present pause began, milliseconds since boot; it may have been before that.
    paused_since: Option<i64>,
    /// When an agent's run began, milliseconds since boot; it may have been before that.
    began: Option<i64>,
    /// What an agent's requests may use that it has not reported yet.
    reserved: budget::Reserved,
    /// How many turns its driver reported last.
    reported_turns: u64,
    /// How many drivers it lost since one of them got on.
    losses: u32,
    /// How often this daemon had its agent driven: tells one driver from the next.
    drives: u64,
    /// The budget that left no room for its last request.
    over: String,
}

/// Whose turn it is, of those that wait for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// A conversation, which needs none.
    Chat,
    /// An agent that had begun.
    Again,
    /// All others.
    First,
}

impl Live {
    fn turn(&self) -> (Turn, u64, TaskId) {
        let turn = match () {
            () if self.task.is_chat() => Turn::Chat,
            () if self.is_agent() && self.has_begun() => Turn::Again,
            () => Turn::First,
        };
        (turn, self.task.number, self.task.id)
    }

    fn new(task: Task, phase: Phase) -> Self {
        Live {
            task,
            phase,
            stop_sent: None,
            due: None,
            lazy: false,
            last_failure: String::new(),
            watches: watches::Watches::new(),
            paused_since: None,
            began: None,
            reserved: budget::Reserved::default(),
            reported_turns: 0,
            losses: 0,
            drives: 0,
            over: String::new(),
        }
    }

    fn holds_slot(&self) -> bool {
        if self.task.is_chat() {
            return false;
        }
        match self.phase {
            // What was not looked at yet may run: until it is, nothing takes its place.
            Phase::Unseen | Phase::Starting { .. } | Phase::Sweeping => true,
            Phase::Running { .. } | Phase::Driven => self.task.status != Status::Paused,
            Phase::Foreign | Phase::Queued | Phase::Settling | Phase::Parked(_) | Phase::Clearing => false,
        }
    }
}

/// What a change in the present batch would be undone to.
#[derive(Debug)]
enum Undo {
    /// The task did not exist.
    Absent,
    /// It was live, like this.
    Live(Box<Live>),
    /// It was settled.
    Settled(Box<Summary>),
}

/// The state of the supervisor.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    live: HashMap<TaskId, Live>,
    settled: HashMap<TaskId, Summary>,
    numbers: BTreeMap<u64, TaskId>,
    /// (hash of its idempotency key, task): who may have a key. Only the records say who has it.
    keys: BTreeSet<(u64, TaskId)>,
    /// The settled tasks that have the keys of the present start, by their records.
    keys_read: HashMap<String, TaskId>,
    /// (milliseconds since 1970 of the end, number) of every ended task: the order of history.
    ended_order: BTreeSet<(i64, u64)>,
    /// Those of them that ended after the last clear, although the clock says otherwise: it was set back.
    ended_again: BTreeSet<(i64, u64)>,
    /// (notice number) -> task: what a cursor walks.
    notice_order: BTreeMap<u64, TaskId>,
    /// Queued tasks without unfulfilled `after`, by their turn and their number.
    ready: BTreeSet<(Turn, u64, TaskId)>,
    /// The tasks that a task started.
    kids: HashMap<TaskId, BTreeSet<TaskId>>,
    /// The conversations that have not ended, by their threads.
    chats: HashMap<String, TaskId>,
    /// Agents that wait for the end of tasks.
    waiting: BTreeSet<TaskId>,
    /// The tokens that were used, by hours since 1970.
    hours: BTreeMap<u64, u64>,
    /// Waiting task -> by each task it waits for.
    dependents: HashMap<TaskId, BTreeSet<TaskId>>,
    timers: BTreeSet<(u64, TaskId)>,
    leisure: leisure::Leisure,
    slots_used: usize,
    marks: Marks,
    disk_low: bool,
    shutting_down: bool,
    /// Removed tasks whose files could not be deleted yet, and when to try again.
    removing: BTreeMap<TaskId, u64>,
    /// Records of refused starts that could not be removed, and when to try again.
    taking_back: BTreeMap<TaskId, u64>,
    /// Why the store could not save, while it cannot.
    degraded: String,
    /// When it is tried whether the store can save again, milliseconds since boot.
    probe_at: Option<u64>,
    pending: batch::Pending,
    /// Environments that the present batch must store first.
    envs: BTreeMap<String, Env>,
    problems: Vec<String>,
    /// How many records name each environment, by the key of its digest.
    env_uses: HashMap<u64, usize>,
}

/// How long after its release a command is looked at: nobody sees that delay.
const LOOK_AFTER_MS: u64 = 20;

impl Core {
    /// An empty core.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Core {
            limits,
            live: HashMap::new(),
            settled: HashMap::new(),
            numbers: BTreeMap::new(),
            keys: BTreeSet::new(),
            keys_read: HashMap::new(),
            ended_order: BTreeSet::new(),
            ended_again: BTreeSet::new(),
            notice_order: BTreeMap::new(),
            ready: BTreeSet::new(),
            kids: HashMap::new(),
            chats: HashMap::new(),
            waiting: BTreeSet::new(),
            hours: BTreeMap::new(),
            dependents: HashMap::new(),
            timers: BTreeSet::new(),
            leisure: leisure::Leisure::default(),
            slots_used: 0,
            marks: Marks::default(),
            disk_low: false,
            shutting_down: false,
            removing: BTreeMap::new(),
            taking_back: BTreeMap::new(),
            degraded: String::new(),
            probe_at: None,
            pending: batch::Pending::default(),
            envs: BTreeMap::new(),
            problems: Vec::new(),
            env_uses: HashMap::new(),
        }
    }

    /// Takes one input. What follows from it waits in the next [`Batch`].
    pub fn step(&mut self, input: Input, now: Now) {
        match input {
            Input::Ask { request, actor, ask, record } => self.ask(request, &actor, *ask, record, now),
            Input::Looked { id, run, look } => self.looked(id, run, *look, now),
            Input::LookFailed { id } => self.retry_soon(id, now),
            Input::Poke { id } => self.poke(id),
            Input::Claimed { id } => self.claimed(id, now),
            Input::LaunchFailed { id, run, why, passing } => self.launch_failed(id, run, why, passing, now),
            Input::LeftEnded { id, run, report } => self.left_ended(id, run, report, now),
            Input::Folded { id, done } => self.folded(id, done, now),
            Input::FilesRemoved { id, done } => self.files_removed(id, done, now),
            Input::Polled { id, question } => self.polled(id, &question, now),
            Input::Disk { low, writer } => self.disk(low, writer, now),
        }
    }

    /// A command that ends within moments is looked at once, when it has ended.
    fn claimed(&mut self, id: TaskId, now: Now) {
        match self.live.get(&id) {
            Some(live) if matches!(live.phase, Phase::Starting { .. }) && live.task.stop.is_none() => {
                self.set_due(id, Some(now.boot + LOOK_AFTER_MS));
            }
            _ => self.poke(id),
        }
    }

    fn poke(&mut self, id: TaskId) {
        if let Some(live) = self.live.get(&id) {
            match live.phase {
                Phase::Foreign | Phase::Queued | Phase::Sweeping => {}
                Phase::Driven | Phase::Parked(_) | Phase::Clearing => {}
                // Its shim is gone now.
                Phase::Settling => self.emit(Some(id), Effect::Recycle { id }),
                Phase::Unseen | Phase::Starting { .. } | Phase::Running { .. } => {
                    self.emit(None, Effect::Look { id, run: live.task.run });
                }
            }
        }
    }

    /// When the core wants to be called again, milliseconds since boot.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        if self.pending.waits() {
            return Some(0);
        }
        let timer = self.timers.first().map(|(due, _)| *due);
        let removals = self.removing.values().chain(self.taking_back.values()).copied();
        timer.into_iter().chain(removals).chain(self.leisure.due()).chain(self.probe_at).min()
    }

    fn set_due(&mut self, id: TaskId, due: Option<u64>) {
        if let Some(live) = self.live.get_mut(&id) {
            if let Some(old) = live.due.take() {
                self.timers.remove(&(old, id));
            }
            live.due = due;
            if let Some(due) = due {
                self.timers.insert((due, id));
            }
        }
    }

    /// Changes a live task's phase and keeps slots, the ready queue and timers in step with it.
    fn set_phase(&mut self, id: TaskId, phase: Phase) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let held = live.holds_slot();
        live.phase = phase;
        let holds = live.holds_slot();
        self.slots_used = self.slots_used + usize::from(holds) - usize::from(held);
        self.requeue(id);
    }

    /// Refuses what a record of another installation, or of a newer Octo, must not do.
    fn check_mark(&self, task: &Task) -> Result<(), Refused> {
        if task.schema > crate::task::SCHEMA {
            let message = format!("a newer Octo wrote the record of task {} (schema {})", task.id, task.schema);
            return Err(Refused::new(crate::command::RefusedCode::Conflict, message)
                .hint("it is shown and left as it is; the newer version can change it"));
        }
        if task.mark == self.limits.mark || self.limits.trusted.contains(&task.id) {
            return Ok(());
        }
        Err(Refused::new(
            crate::command::RefusedCode::Forbidden,
            format!("task {} came from elsewhere and is shown only", task.id),
        )
        .hint("`octo trust` accepts the records in this folder"))
    }
}

/// Loads what the store found; see [`Core::boot`].
impl Core {
    /// Builds the state from the records on disk and asks to look at every run that may be alive.
    pub fn boot(limits: Limits, loaded: Loaded, now: Now) -> Core {
        let mut core = Core::new(limits);
        core.load(loaded, now);
        core
    }

    fn write_of(&mut self, id: TaskId) -> Option<Write> {
        let live = self.live.get_mut(&id)?;
        live.task.rev += 1;
        live.task.mark.clone_from(&self.limits.mark);
        live.lazy = false;
        Some(Write::Task(Box::new(live.task.clone())))
    }
}
