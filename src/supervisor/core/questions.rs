//! Questions: asked by tasks, answered by the first of their owner's surfaces, told to all of them.
//!
//! ```text
//!            ask                       answer: the first one wins
//!  running ───────► paused ──────────────────────────────────────────► running
//!            save ▲   │ nobody polls for 60 s    save, then replies, then waiters and notices
//!                 │   ▼
//!                 └─ running, the question stays open ("unattended")
//! ```
//!
//! A question is in the record before the asker hears of it, an answer before anybody does. What only this
//! daemon knows of an open question (who polls, when to remind) is its [`Watch`] (`watches.rs`); what is told of it
//! is a notice (`notices.rs`).

use super::{Core, Effect, Now, Phase, Reply, commands::Decision, schedule::stamp, watches::Watch};
use crate::command::{Actor, QuestionRequest, QuestionState, Refused, RefusedCode, ResumeRequest};
use crate::task::{
    ALLOW, ALLOW_FOR_TASK, Action, Answer, Closed, DENY, NoticeKind, PERMISSION, QUESTION, Question, Status, Task,
    TaskId,
};

/// How many questions of a task may be open at once.
const OPEN_MAX: usize = 100;

/// A question with everything that needed IO already found out by the caller.
#[derive(Debug, Clone)]
pub struct NewQuestion {
    /// What was asked; within bounds, with a key.
    pub request: QuestionRequest,
    /// What a permission is asked for, as its owner is shown it.
    pub action: Option<Action>,
}

impl Core {
    pub(super) fn question(&mut self, actor: &Actor, id: TaskId, new: NewQuestion, now: Now) -> Decision {
        let task = self.askable(actor, id)?;
        if let Some(known) = task.questions.iter().find(|q| q.key == new.request.key) {
            let state = state_of(task, known);
            return Ok((vec![id], Reply::Question(Box::new(state))));
        }
        if task.questions.iter().filter(|q| q.open).count() >= OPEN_MAX {
            let message = format!("task {id} has {OPEN_MAX} open questions already");
            return Err(Refused::new(RefusedCode::Conflict, message).hint("wait until some of them are answered"));
        }
        self.touch(id);
        self.begin(id, now);
        let question = question_of(new, now);
        let reminders = self.limits.reminders.clone();
        let granted = self.grant_for(id, &question);
        let Some(live) = self.live.get_mut(&id) else { return Err(Refused::no_such_task(id)) };
        let mut question = Question { id: next_id(&live.task), run: live.task.run, ..question };
        let qid = question.id.clone();
        if let Some(by) = granted {
            question.open = false;
            question.closed = Some(Closed::Answered);
            question.closed_at = stamp(now);
            let answer =
                Answer { question: qid.clone(), text: ALLOW.to_owned(), by, at: stamp(now), ..Answer::default() };
            live.task.answers.push(answer);
            live.task.questions.push(question);
        } else {
            live.watches.insert(qid.clone(), Watch::of(&question, &reminders, now));
            live.task.questions.push(question);
            self.pause(id, now);
            self.tell_of_question(id, &qid, NoticeKind::Question, now);
        }
        self.prune(id, &qid);
        self.questions_changed(id, now);
        let Some(live) = self.live_task(id) else { return Err(Refused::no_such_task(id)) };
        let state = live.task.questions.iter().find(|q| q.id == qid).map(|q| state_of(&live.task, q));
        Ok((vec![id], Reply::Question(Box::new(state.unwrap_or_default()))))
    }

    /// The record of a task that can ask now.
    fn askable(&mut self, actor: &Actor, id: TaskId) -> Result<&Task, Refused> {
        let (status, run, phase) = match self.live_task(id) {
            Some(live) => {
                self.check_mark(&live.task)?;
                (live.task.status, live.task.run, live.phase.clone())
            }
            None if self.is_settled(id) => return Err(asks_too_late(id)),
            None => return Err(Refused::no_such_task(id)),
        };
        match phase {
            _ if status.is_ended() => return Err(asks_too_late(id)),
            Phase::Running { .. } | Phase::Driven => {}
            // It runs, or could not ask; its claim is just not seen yet.
            Phase::Unseen | Phase::Starting { .. } if matches!(actor, Actor::Task(_)) => {
                self.emit(None, Effect::Look { id, run });
                return Err(Refused::new(RefusedCode::Unavailable, format!("task {id} is just starting"))
                    .hint("try again in a moment"));
            }
            _ => {
                let message = format!("task {id} is {status}: nothing in it can ask");
                return Err(Refused::new(RefusedCode::Conflict, message).hint("only a running task asks"));
            }
        }
        self.live_task(id).map(|live| &live.task).ok_or_else(|| Refused::no_such_task(id))
    }

    /// Who allowed the tool of a question for the rest of the run, if somebody did.
    fn grant_for(&self, id: TaskId, question: &Question) -> Option<String> {
        let task = &self.live_task(id)?.task;
        let tool = &question.action.as_ref()?.tool;
        if !task.grants.contains(tool) {
            return None;
        }
        let granted = |q: &&Question| q.action.as_ref().is_some_and(|a| a.tool == *tool);
        let asked: Vec<&str> = task.questions.iter().filter(granted).map(|q| q.id.as_str()).collect();
        let answer = task.answers.iter().find(|a| a.text == ALLOW_FOR_TASK && asked.contains(&a.question.as_str()));
        Some(answer.map_or_else(|| "octo".to_owned(), |a| a.by.clone()))
    }

    pub(super) fn answer(
        &mut self,
        actor: &Actor,
        id: TaskId,
        request: &ResumeRequest,
        record: Option<Box<Task>>,
        now: Now,
    ) -> Decision {
        let task =
            self.live_task(id).map(|l| &l.task).or(record.as_deref()).ok_or_else(|| Refused::no_such_task(id))?;
        self.check_mark(task)?;
        if !request.key.is_empty() && task.answers.iter().any(|a| a.key == request.key) {
            return Ok((vec![id], self.task_reply(id)));
        }
        let question = self.meant(task, request)?;
        let (qid, permission) = (question.id.clone(), question.action.clone());
        let Some(text) = question.accepts(&request.answer) else {
            let hint = if question.choices.is_empty() {
                "write an answer".to_owned()
            } else {
                format!("choose one of: {}", question.choices.join(", "))
            };
            let message = format!("`{:.100}` is no answer to {qid} of task {id}", request.answer.trim());
            return Err(Refused::new(RefusedCode::BadRequest, message).hint(hint));
        };
        self.touch(id);
        let Some(live) = self.live.get_mut(&id) else { return Err(Refused::no_such_task(id)) };
        if let Some(action) = permission.filter(|_| text == ALLOW_FOR_TASK)
            && !live.task.grants.contains(&action.tool)
        {
            live.task.grants.push(action.tool);
        }
        let by = actor.to_string();
        let key = request.key.clone();
        live.task.answers.push(Answer { question: qid.clone(), text, by, at: stamp(now), key, ..Answer::default() });
        self.close(id, &qid, Closed::Answered, now);
        Ok((vec![id], self.task_reply(id)))
    }

    /// The open question that an answer is for.
    fn meant<'a>(&self, task: &'a Task, request: &ResumeRequest) -> Result<&'a Question, Refused> {
        let id = task.id;
        let open: Vec<&Question> = task.questions.iter().filter(|q| q.open).collect();
        if let Some(qid) = request.question.as_deref().filter(|q| !q.is_empty()) {
            let Some(question) = task.questions.iter().find(|q| q.id == qid) else {
                return Err(Refused::new(RefusedCode::NotFound, format!("task {id} has no question {qid}"))
                    .hint(open_ones(task, &open)));
            };
            return if question.open { Ok(question) } else { Err(self.too_late(task, question)) };
        }
        match open.as_slice() {
            [one] if !one.is_permission() => Ok(one),
            [] => match task.questions.last() {
                Some(last) if !task.status.is_ended() => Err(self.too_late(task, last)),
                _ => Err(nothing_open(id, Some(task.status))),
            },
            [_] => Err(Refused::new(RefusedCode::Conflict, format!("task {id} asks for a permission"))
                .hint(open_ones(task, &open))),
            several => {
                let message = format!("task {id} has {} open questions", several.len());
                Err(Refused::new(RefusedCode::Conflict, message).hint(open_ones(task, &open)))
            }
        }
    }

    /// Somebody else was first, or the time is over: who, when and what.
    fn too_late(&self, task: &Task, question: &Question) -> Refused {
        let qid = &question.id;
        let message = match (question.closed, task.answers.iter().rev().find(|a| a.question == *qid)) {
            (_, Some(answer)) => {
                let at = answer.at.millis().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                let at = at.map_or(String::new(), |at| {
                    format!(" at {}", at.to_zoned(self.limits.time_zone.clone()).strftime("%H:%M"))
                });
                let (by, said) = (surface_name(&answer.by), &answer.text);
                format!("{qid} of task {} was already answered by {by}{at}: {said:.200}", task.id)
            }
            (Some(Closed::TaskEnded), None) => format!("{qid} of task {} is over: the run that asked ended", task.id),
            (_, None) => format!("{qid} of task {} is over: its time for an answer has passed", task.id),
        };
        Refused::new(RefusedCode::Conflict, message).hint(format!("`octo task {}` shows where it stands", task.id))
    }

    /// Closes an open question and tells everybody.
    pub(super) fn close(&mut self, id: TaskId, qid: &str, how: Closed, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.watches.remove(qid);
        if let Some(question) = live.task.questions.iter_mut().find(|q| q.id == qid) {
            question.open = false;
            question.closed = Some(how);
            question.closed_at = stamp(now);
        }
        self.tell_of_question(id, qid, NoticeKind::Closed, now);
        self.prune(id, qid);
        self.agent_heard(id, now);
        self.questions_changed(id, now);
    }

    /// The run is over: nobody waits for answers any more. The notice of the end tells of it.
    pub(super) fn close_questions(&mut self, id: TaskId, now: Now) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.watches.clear();
        live.paused_since = None;
        live.task.paused_question.clear();
        live.task.paused_at = crate::task::Stamp::default();
        for question in live.task.questions.iter_mut().filter(|q| q.open) {
            question.open = false;
            question.closed = Some(Closed::TaskEnded);
            question.closed_at = stamp(now);
        }
    }

    /// How many questions are open.
    #[must_use]
    pub fn open_questions(&self) -> usize {
        let of_ours = self.live.values().filter(|l| l.phase != Phase::Foreign);
        of_ours.map(|l| l.task.questions.iter().filter(|q| q.open).count()).sum()
    }
}

/// A question and its answer.
#[must_use]
pub fn state_of(task: &Task, question: &Question) -> QuestionState {
    let answer = task.answers.iter().rev().find(|a| a.question == question.id).cloned();
    QuestionState { question: question.clone(), answer }
}

fn question_of(new: NewQuestion, now: Now) -> Question {
    let NewQuestion { request, action } = new;
    let deadline = now.wall.saturating_add_unsigned(request.timeout.saturating_mul(1000));
    let mut question = Question {
        text: request.text,
        choices: request.choices,
        asked_at: stamp(now),
        kind: QUESTION.to_owned(),
        open: true,
        key: request.key,
        by: request.by,
        free: request.free,
        ..Question::default()
    };
    if request.timeout > 0 {
        question.deadline = crate::task::Stamp::from_millis(deadline);
    }
    if let Some(action) = action {
        PERMISSION.clone_into(&mut question.kind);
        question.choices = [ALLOW, ALLOW_FOR_TASK, DENY].map(str::to_owned).into();
        question.free = false;
        if question.text.is_empty() {
            question.text = format!("May it use {}?", action.tool);
        }
        question.action = Some(action);
    }
    question
}

fn next_id(task: &Task) -> String {
    let used = task.questions.iter().filter_map(|q| q.id.strip_prefix('q')?.parse::<u64>().ok()).max().unwrap_or(0);
    format!("q{}", used + 1)
}

fn asks_too_late(id: TaskId) -> Refused {
    Refused::new(RefusedCode::Conflict, format!("task {id} has ended: nobody would wait for the answer"))
        .hint(format!("`octo task {id}` shows how"))
}

fn nothing_open(id: TaskId, status: Option<Status>) -> Refused {
    let status = status.map_or("gone".to_owned(), |s| s.to_string());
    Refused::new(RefusedCode::Conflict, format!("task {id} asks nothing: it is {status}"))
        .hint("`octo tasks --status paused` lists the tasks that ask")
}

/// The open questions of a task, for a hint.
fn open_ones(task: &Task, open: &[&Question]) -> String {
    if open.is_empty() {
        return format!("`octo task {}` shows its questions", task.id);
    }
    let named: Vec<String> = open
        .iter()
        .take(5)
        .map(|q| match &q.action {
            Some(action) => format!("{} (permission: {})", q.id, action.tool),
            None => format!("{} ({:.60})", q.id, q.text.replace(char::is_control, " ")),
        })
        .collect();
    let more = if open.len() > 5 { format!(" and {} more", open.len() - 5) } else { String::new() };
    format!(
        "say which: `octo task {} resume --question {} ANSWER`; open: {}{more}",
        task.id,
        open[0].id,
        named.join(", ")
    )
}

/// What people call a surface.
fn surface_name(by: &str) -> &str {
    match by {
        "repl" => "REPL",
        "cli" => "the command line",
        "api" => "the API",
        "panel" => "the panel",
        _ if by.starts_with("telegram:") => "Telegram",
        other => other,
    }
}
