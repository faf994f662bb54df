//! What people ask for, decided: start, stop, retry, remove, clear, trust.

use std::collections::{HashMap, HashSet};

use super::{Core, Effect, Live, NewQuestion, Now, Phase, RequestId, Resolved, schedule::stamp};
use crate::command::{Actor, Env, QuestionState, Receipts, Refused, RefusedCode, ResumeRequest, StartRequest, TaskRef};
use crate::exec::agent::{AgentReport, Reserve, Reserved};
use crate::store::key_hash;
use crate::task::{CHAT, Kind, Status, Step, Task, TaskId};

/// One task to start, with everything that needed IO already found out by the caller.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// What was asked for; `cwd` is absolute.
    pub request: StartRequest,
    /// A fresh id and its uuid.
    pub id: TaskId,
    /// The uuid that the id was cut from.
    pub uuid: String,
    /// The digest of the caller's environment; empty: the daemon's own.
    pub env_digest: String,
}

impl NewTask {
    /// The conversation of somebody with the supervisor agent: `who` is a surface and its user (`telegram:4711`).
    #[must_use]
    pub fn chat(who: &str, model: &str, cwd: &str) -> NewTask {
        let (uuid, id) = TaskId::random();
        let request = StartRequest {
            kind: Kind::Agent,
            thread: format!("{CHAT}{who}"),
            model: model.to_owned(),
            cwd: cwd.to_owned(),
            ..StartRequest::default()
        };
        NewTask { request, id, uuid: uuid.to_string(), env_digest: String::new() }
    }
}

/// What can be asked of the core.
#[derive(Debug)]
pub enum Ask {
    /// Start tasks, all or none of them.
    Start {
        /// The tasks, in order.
        tasks: Vec<NewTask>,
        /// The environments that they name; those that are stored already cost nothing.
        envs: Vec<(String, Env)>,
    },
    /// Stop a task.
    Stop {
        /// Which.
        id: TaskId,
        /// Why, in the owner's words; `cancel` otherwise.
        reason: String,
    },
    /// Run an ended task again.
    Retry {
        /// Which.
        id: TaskId,
    },
    /// Forget an ended task.
    Remove {
        /// Which.
        id: TaskId,
    },
    /// A question that a task asks.
    Question {
        /// The task.
        id: TaskId,
        /// The question.
        new: Box<NewQuestion>,
    },
    /// An answer to a question of a task.
    Answer {
        /// The task.
        id: TaskId,
        /// The answer.
        request: ResumeRequest,
    },
    /// What the driver of an agent reports; answered with [`Reply::Done`].
    Agent(AgentReport),
    /// What a request to a model may use; answered with [`Reply::Reserved`] at once.
    Reserve(Reserve),
    /// Let an agent go on that used up its budget.
    Raise {
        /// Which.
        id: TaskId,
        /// How many tokens are added; `None`: the original budget again.
        tokens: Option<u64>,
    },
    /// Find the conversation of a thread that has not ended, or begin it; answered with [`Reply::Task`].
    Chat(Box<NewTask>),
    /// What a push bridge delivered.
    Receipts(Receipts),
    /// Hide all ended tasks from the lists.
    Clear,
    /// Accept the records that came from elsewhere.
    Trust {
        /// All tasks whose records are trusted now.
        records: HashSet<TaskId>,
    },
    /// Stop every task that has not ended, and start none any more.
    StopAll,
    /// Take no new work: the daemon is about to leave.
    Leave,
}

/// What the core answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The tasks of a start, in order, and whether each is new.
    Started(Vec<(Resolved, bool)>),
    /// One task, as it stands after the request.
    Task(Box<Task>),
    /// A question and what became of it.
    Question(Box<QuestionState>),
    /// The ids of the tasks concerned.
    Ids(Vec<TaskId>),
    /// What a request to a model may use.
    Reserved(Reserved),
    /// Done.
    Done,
}

pub(super) type Decision = Result<(Vec<TaskId>, Reply), Refused>;

impl Core {
    pub(super) fn ask(&mut self, request: RequestId, actor: &Actor, ask: Ask, record: Option<Box<Task>>, now: Now) {
        let decision = match ask {
            Ask::Start { tasks, envs } => self.start(actor, tasks, envs, now),
            Ask::Stop { id, reason } => self.stop(actor, id, reason, now),
            Ask::Retry { id } => self.retry(id, record, now),
            Ask::Remove { id } => self.remove(id, record),
            Ask::Question { id, new } => self.question(actor, id, *new, now),
            Ask::Answer { id, request } => self.answer(actor, id, &request, record, now),
            Ask::Receipts(Receipts { bridge, receipts }) => self.receipts(&bridge, &receipts, now),
            Ask::Agent(report) => self.agent_report(report, now),
            Ask::Reserve(reserve) => self.reserve(&reserve, now),
            Ask::Raise { id, tokens } => self.raise_budget(id, tokens, record, now),
            Ask::Chat(new) => self.chat(*new, now),
            Ask::Clear => self.clear(now),
            Ask::Trust { records } => {
                self.limits.trusted = records;
                let ids = self.trust_records(now);
                Ok((ids.clone(), Reply::Ids(ids)))
            }
            Ask::StopAll => Ok(self.stop_all(actor, now)),
            Ask::Leave => {
                self.shutting_down = true;
                Ok((vec![], Reply::Done))
            }
        };
        match decision {
            Ok((after, reply)) => self.emit_after_all(after, Effect::Reply { request, result: Ok(reply) }),
            Err(refused) => self.emit(None, Effect::Reply { request, result: Err(refused) }),
        }
    }

    fn start(&mut self, actor: &Actor, tasks: Vec<NewTask>, envs: Vec<(String, Env)>, now: Now) -> Decision {
        if self.shutting_down {
            return Err(Refused::new(RefusedCode::Unavailable, "the daemon is shutting down").hint("try again"));
        }
        // Everything that can be refused is refused before anything changes.
        let parent = if let Actor::Task(parent) = actor { *parent } else { None };
        let mut plans = Vec::with_capacity(tasks.len());
        for task in tasks {
            let agent = task.request.kind == Kind::Agent || !task.request.agent_id.is_empty();
            if let Some(parent) = parent.filter(|_| agent) {
                self.check_depth(parent)?;
            }
            let digest = &task.env_digest;
            let there = digest.is_empty() || self.env_used(digest) || envs.iter().any(|(known, _)| known == digest);
            if !there {
                let message = "the environment that it should have was removed with the last task that had it";
                return Err(Refused::new(RefusedCode::NotFound, message).hint("start it anew"));
            }
            plans.push(self.plan(task, parent)?);
        }
        self.envs.extend(envs);
        let (mut fresh, mut started, mut after) = (vec![], vec![], vec![]);
        for plan in plans {
            match plan {
                Plan::Known(id) => {
                    started.push((self.shown(id), false));
                    after.push(id);
                }
                Plan::New(new, deps) => {
                    // The same key twice in one request is one task.
                    if let Some(id) = self.by_key(&new.request.key) {
                        started.push((self.shown(id), false));
                        continue;
                    }
                    let task = self.accept(*new, deps, parent, now);
                    fresh.push(task.id);
                    started.push((Resolved::Live(Box::new(task)), true));
                }
            }
        }
        after.extend(&fresh);
        self.group(fresh);
        Ok((after, Reply::Started(started)))
    }

    fn shown(&self, id: TaskId) -> Resolved {
        self.live_task(id).map_or(Resolved::Settled(id), |l| Resolved::Live(Box::new(l.task.clone())))
    }

    fn plan(&self, new: NewTask, parent: Option<TaskId>) -> Result<Plan, Refused> {
        if let Some(id) = self.by_key(&new.request.key) {
            return Ok(Plan::Known(id));
        }
        let mut deps = Vec::new();
        for dep in &new.request.after {
            let id = self.after_ref(dep)?;
            if let Some(agent) = parent.and_then(|parent| self.would_wait_for_itself(parent, id)) {
                let message = format!("task {agent} waits for what it starts, so nothing of that can wait for it");
                return Err(
                    Refused::new(RefusedCode::Conflict, message).hint("start it from outside, or without --after")
                );
            }
            deps.push(id);
        }
        Ok(Plan::New(Box::new(new), deps))
    }

    fn after_ref(&self, dep: &TaskRef) -> Result<TaskId, Refused> {
        let id = self.resolve(dep)?;
        match self.status_of(id) {
            Some(status) if status.is_ended() && status != Status::Completed => Err(Refused::new(
                RefusedCode::Conflict,
                format!("task {dep} has ended as {status}, so nothing can wait for it to complete"),
            )
            .hint(format!("`octo task {dep} retry` runs it again"))),
            _ => Ok(id),
        }
    }

    /// The settled tasks that may have this idempotency key: only their records tell.
    pub fn settled_by_key(&self, key: &str) -> impl Iterator<Item = TaskId> + '_ {
        self.maybe_by_key(key).filter(|id| self.settled.contains_key(id))
    }

    fn maybe_by_key(&self, key: &str) -> impl Iterator<Item = TaskId> + '_ {
        let hash = key_hash(key);
        let range = (hash, TaskId::MIN)..=(hash, TaskId::MAX);
        self.keys.range(range).filter(move |_| hash != 0).map(|(_, id)| *id)
    }

    /// Takes note of the settled tasks that have the keys of the next start, as their records say.
    pub fn keys_read(&mut self, found: HashMap<String, TaskId>) {
        self.keys_read = found;
    }

    /// Whether a record may answer for its key: one that somebody slipped in must not swallow a start.
    #[must_use]
    pub fn answers_for_key(&self, task: &Task, key: &str) -> bool {
        task.key == key && (task.mark == self.limits.mark || self.limits.trusted.contains(&task.id))
    }

    /// The task that has this idempotency key.
    fn by_key(&self, key: &str) -> Option<TaskId> {
        let is_it = |id: &TaskId| self.live.get(id).is_some_and(|l| self.answers_for_key(&l.task, key));
        self.maybe_by_key(key).find(is_it).or_else(|| self.keys_read.get(key).copied())
    }

    pub(super) fn accept(&mut self, new: NewTask, deps: Vec<TaskId>, parent: Option<TaskId>, now: Now) -> Task {
        let request = new.request;
        self.marks.numbers_used += 1;
        let mut task = Task::new(new.id, self.marks.numbers_used, stamp(now));
        task.uuid = new.uuid;
        task.key = request.key;
        task.name = request.name;
        if request.kind == Kind::Agent || !request.agent_id.is_empty() {
            task.kind = Kind::Agent;
        }
        if !request.thread.is_empty() {
            task.thread_id = request.thread;
        }
        task.prompt = request.prompt;
        task.agent_name = request.agent_id;
        task.model = request.model;
        task.team = request.team;
        task.max_turns = request.max_turns.unwrap_or(task.max_turns);
        // A conversation goes on for ever; what all agents use together is its only bound.
        let usual = (task.kind == Kind::Agent && !task.is_chat()).then_some(self.limits.agent_budget);
        task.budget.tokens = request.budget_tokens.or(usual);
        task.budget.usd = request.budget_usd;
        task.command = request.command;
        task.cwd = request.cwd;
        task.env = new.env_digest;
        task.env_overrides = request.env_overrides;
        task.timeout = request.timeout;
        task.after = deps;
        task.notify = request.notify;
        task.leave_children = request.leave_children;
        task.allow_dispatch = request.allow_dispatch;
        task.parent = parent;
        task.mark = self.limits.mark.clone();
        let id = task.id;
        if let Some(parent) = parent {
            self.adopt_child(parent, id);
        }
        self.touch(id);
        self.insert_live(Live::new(task.clone(), Phase::Queued));
        self.ring(id);
        task.rev += 1;
        task
    }

    fn stop(&mut self, actor: &Actor, id: TaskId, reason: String, now: Now) -> Decision {
        let Some(live) = self.live_task(id) else { return Err(self.ended_already(id)) };
        self.check_mark(&live.task)?;
        if live.task.status.is_ended() {
            return Err(self.ended_already(id));
        }
        let reason = if reason.is_empty() { "cancel".to_owned() } else { reason };
        let stopped = match live.task.stop {
            None => self.stop_tree(id, &actor.to_string(), &reason, now),
            Some(_) => vec![id],
        };
        Ok((stopped, self.task_reply(id)))
    }

    /// A task that was never launched ends at once, in the save that holds the intent.
    pub(super) fn stop_queued(&mut self, id: TaskId, stop: crate::task::Stop, now: Now) {
        self.touch(id);
        let error = format!("cancelled by {} before it started", stop.by);
        if let Some(live) = self.live.get_mut(&id) {
            live.task.stop = Some(stop);
        }
        self.end(id, Status::Cancelled, error, now);
    }

    fn stop_all(&mut self, actor: &Actor, now: Now) -> (Vec<TaskId>, Reply) {
        self.pending.closes |= !std::mem::replace(&mut self.shutting_down, true);
        let mut ids: Vec<TaskId> =
            self.live.values().filter(|l| !l.task.status.is_ended() && !l.task.is_chat()).map(|l| l.task.id).collect();
        ids.sort_unstable();
        let stopped: Vec<TaskId> =
            ids.into_iter().filter(|id| self.stop(actor, *id, "cancel".to_owned(), now).is_ok()).collect();
        (stopped.clone(), Reply::Ids(stopped))
    }

    pub(super) fn task_reply(&self, id: TaskId) -> Reply {
        match self.live_task(id) {
            Some(live) => {
                let mut task = live.task.clone();
                task.rev += u64::from(self.is_dirty(id));
                Reply::Task(Box::new(task))
            }
            None => Reply::Done,
        }
    }

    fn ended_already(&self, id: TaskId) -> Refused {
        let status = self.status_of(id).map_or("gone".to_owned(), |s| s.to_string());
        Refused::new(RefusedCode::Conflict, format!("task {id} has already ended: {status}"))
            .hint(format!("`octo task {id}` shows it, `octo task {id} retry` runs it again"))
    }

    fn retry(&mut self, id: TaskId, record: Option<Box<Task>>, now: Now) -> Decision {
        self.ended_task(id, record.as_deref(), "retried")?;
        if self.shutting_down {
            return Err(Refused::new(RefusedCode::Unavailable, "the daemon is shutting down").hint("try again"));
        }
        let used = self.used_by_tree(id, |_| true);
        self.touch(id);
        let old = match (self.unindex(id), record) {
            (Some(live), _) => live.task,
            (None, Some(record)) => *record,
            (None, None) => return Err(Refused::no_such_task(id)),
        };
        self.preserve(old.clone());
        let mut task = old;
        super::budget::renew(&mut task, used);
        task.run += 1;
        task.stop = None;
        task.launches = 0;
        task.grants.clear();
        task.paused_ms = 0;
        // What completed and was removed since then is no reason to wait.
        task.after.retain(|dep| self.status_of(*dep).is_some());
        task.result.clear();
        task.error.clear();
        task.exit_code = None;
        task.signal = None;
        task.started_at = crate::task::Stamp::default();
        task.paused_at = crate::task::Stamp::default();
        task.completed_at = crate::task::Stamp::default();
        if let Err(illegal) = task.take(Step::Retry, &stamp(now)) {
            tracing::error!(%id, %illegal, "a retry of an ended task was refused");
        }
        self.insert_live(Live::new(task, Phase::Queued));
        self.ring(id);
        self.check_dependencies(id, now);
        Ok((vec![id], self.task_reply(id)))
    }

    fn remove(&mut self, id: TaskId, record: Option<Box<Task>>) -> Decision {
        self.ended_task(id, record.as_deref(), "removed")?;
        if let Some(waiting) = self.waiting_for(id) {
            return Err(Refused::new(RefusedCode::Conflict, format!("task {waiting} waits for task {id}"))
                .hint(format!("`octo task {waiting} cancel` first")));
        }
        self.touch_removed(id);
        let number = self.settled.get(&id).map(|s| s.number).or(self.live.get(&id).map(|l| l.task.number));
        if number == Some(self.marks.numbers_used) || self.newest_notice_is_of(id) {
            self.touch_marks();
        }
        let env = record.map(|r| r.env).or(self.live.get(&id).map(|l| l.task.env.clone()));
        self.unindex(id);
        self.emit(Some(id), Effect::RemoveFiles { id });
        self.emit(Some(id), Effect::Ring(crate::supervisor::Event::Task { id }));
        if let Some(digest) = env.filter(|digest| !digest.is_empty() && !self.env_used(digest)) {
            self.emit(Some(id), Effect::DropEnv(digest));
        }
        Ok((vec![id], Reply::Ids(vec![id])))
    }

    fn newest_notice_is_of(&self, id: TaskId) -> bool {
        self.notice_order.last_key_value().is_some_and(|(_, last)| *last == id)
    }

    fn waiting_for(&self, id: TaskId) -> Option<TaskId> {
        let waiting = self.dependents.get(&id)?;
        waiting.iter().find(|w| self.live.get(w).is_some_and(|l| !l.task.status.is_ended())).copied()
    }

    /// Refuses unless the task has ended and is of this installation.
    fn ended_task(&self, id: TaskId, record: Option<&Task>, verb: &str) -> Result<(), Refused> {
        let task = self.live_task(id).map(|l| &l.task).or(record).ok_or_else(|| Refused::no_such_task(id))?;
        self.check_mark(task)?;
        if task.status.is_ended() {
            return Ok(());
        }
        Err(Refused::new(
            RefusedCode::Conflict,
            format!("task {id} is {}; only an ended task can be {verb}", task.status),
        )
        .hint(format!("`octo task {id} cancel` stops it, `octo task {id} wait` waits for it")))
    }

    fn clear(&mut self, now: Now) -> Decision {
        let hidden: Vec<TaskId> = self.history_ids().collect();
        self.pending.cleared_before.get_or_insert(self.marks);
        // A clock that was set back must not show again what was hidden, nor leave anything that has ended.
        let newest = self.ended_order.last().map_or(0, |(end, _)| *end);
        self.marks.cleared_ms = now.wall.max(newest).max(self.marks.cleared_ms);
        self.marks.cleared_number = self.marks.numbers_used;
        self.marks.cleared_seq = self.marks.seq_used;
        self.recount_ends();
        self.touch_marks();
        Ok((vec![], Reply::Ids(hidden)))
    }
}

enum Plan {
    /// The key names a task that is there already.
    Known(TaskId),
    /// A new task, and the tasks it waits for.
    New(Box<NewTask>, Vec<TaskId>),
}
