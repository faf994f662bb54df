//! A daemon in memory, which notes what changed something.

use std::collections::HashMap;

use octo::command::{FollowupRequest, Listing, NoticePage, ResumeRequest, StartRequest, StatusReport};
use octo::task::{Answer, NoticeKind, Stop};

use super::*;
use crate::telegram::calls::Output;
use crate::telegram::card::tests::item;

/// A daemon in memory.
#[derive(Default, Clone)]
pub(crate) struct Fake(Arc<Mutex<World>>);

#[derive(Default)]
pub(crate) struct World {
    pub(crate) tasks: Vec<Task>,
    /// What changed something, in order.
    pub(crate) effects: Vec<String>,
    started: HashMap<String, TaskId>,
    pub(super) output: Vec<u8>,
    pub(super) output_from: u64,
    pub(super) down: bool,
    /// An effect takes place, and then the daemon is not there to say so.
    pub(super) cut_off: bool,
}

impl Fake {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn effects(&self) -> Vec<String> {
        self.world().effects.clone()
    }
}

fn gone() -> Refused {
    Refused::new(RefusedCode::Unavailable, "the daemon went away")
}

impl World {
    fn up(&self) -> Result<(), Refused> {
        if self.down { Err(gone()) } else { Ok(()) }
    }

    pub(super) fn find(&mut self, id: TaskId) -> Result<&mut Task, Refused> {
        self.up()?;
        self.tasks.iter_mut().find(|t| t.id == id).ok_or_else(|| Refused::no_such_task(id))
    }

    fn told<T>(&self, value: T) -> Result<T, Refused> {
        if self.cut_off { Err(gone()) } else { Ok(value) }
    }
}

impl Desk for Fake {
    async fn start(&self, user: i64, request: StartRequest) -> Result<Task, Refused> {
        let mut world = self.world();
        world.up()?;
        if let Some(id) = world.started.get(&request.key).copied() {
            return world.find(id).cloned();
        }
        let number = world.tasks.len() as u64 + 100;
        let mut task = a_task(number, Status::Dispatched);
        task.command = request.command;
        let mut what = task.command.clone();
        if request.kind == Kind::Agent {
            (task.kind, task.prompt, task.agent_name) = (request.kind, request.prompt, request.agent_id);
            task.model = request.model;
            what = format!("agent {:?} on {:?}: {}", task.agent_name, task.model, task.prompt);
        }
        world.started.insert(request.key.clone(), task.id);
        world.effects.push(format!("start {what} by {user} as {}", request.key));
        world.tasks.push(task.clone());
        world.told(task)
    }

    async fn list(&self, query: ListQuery) -> Result<Listing, Refused> {
        let world = self.world();
        world.up()?;
        let fits = |t: &&Task| query.status.is_none_or(|s| s == t.status);
        let (ended, active): (Vec<Task>, Vec<Task>) =
            world.tasks.iter().filter(fits).cloned().partition(|t| t.status.is_ended());
        Ok(Listing { active, total: ended.len(), history: ended, next: None })
    }

    async fn get(&self, task: &TaskRef) -> Result<Task, Refused> {
        let world = self.world();
        world.up()?;
        let is = |t: &&Task| t.id.to_string() == task.0 || t.number.to_string() == task.0;
        world.tasks.iter().find(is).cloned().ok_or_else(|| Refused::no_such_task(task))
    }

    async fn answer(&self, user: i64, task: TaskId, request: ResumeRequest) -> Result<Task, Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if record.answers.iter().any(|a| a.key == request.key) {
            return Ok(record.clone());
        }
        let id = request.question.unwrap();
        let conflict = |why: &str| Refused::new(RefusedCode::Conflict, why);
        let question = record.questions.iter_mut().find(|q| q.id == id).ok_or_else(|| conflict("no such question"))?;
        if !question.open {
            return Err(conflict("already answered"));
        }
        let text = question
            .accepts(&request.answer)
            .ok_or_else(|| Refused::new(RefusedCode::BadRequest, "none of the choices"))?;
        (question.open, question.closed) = (false, Some(Closed::Answered));
        let by = format!("telegram:{user}");
        let effect = format!("answer {id} of {task} by {by} as {}: {text}", request.key);
        let at = Stamp::from_millis(NOW);
        record.answers.push(Answer { question: id, text, by, at, key: request.key, ..Answer::default() });
        let record = record.clone();
        world.effects.push(effect);
        world.told(record)
    }

    async fn stop(&self, user: i64, task: TaskId) -> Result<(), Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if record.status.is_ended() {
            return Err(Refused::new(RefusedCode::Conflict, "it has ended"));
        }
        let (by, at) = (format!("telegram:{user}"), Stamp::from_millis(NOW));
        record.stop = Some(Stop { by, at, reason: "cancel".to_owned(), extra: serde_json::Map::new() });
        world.effects.push(format!("stop {task} by {user}"));
        world.told(())
    }

    async fn retry(&self, user: i64, task: TaskId) -> Result<(), Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if !record.status.is_ended() {
            return Err(Refused::new(RefusedCode::Conflict, "it has not ended"));
        }
        record.run += 1;
        record.take(Step::Retry, &Stamp::from_millis(NOW)).unwrap();
        world.effects.push(format!("retry {task} by {user}"));
        world.told(())
    }

    async fn raise(&self, user: i64, task: TaskId, tokens: Option<u64>) -> Result<(), Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if record.status != Status::BudgetExceeded {
            return Err(Refused::new(RefusedCode::Conflict, "it has its budget"));
        }
        record.budget.tokens = record.budget.tokens.map(|most| most + tokens.unwrap_or(50_000));
        record.take(Step::Raise, &Stamp::from_millis(NOW)).unwrap();
        world.effects.push(format!("raise {task} by {user}: {tokens:?}"));
        world.told(())
    }

    async fn followup(&self, user: i64, task: TaskId, request: FollowupRequest) -> Result<Task, Refused> {
        self.world().find(task)?;
        let prompt = format!("{} after {task}", request.text);
        let request = StartRequest { kind: Kind::Agent, prompt, key: request.key, ..StartRequest::default() };
        self.start(user, request).await
    }

    async fn unknown_program(&self, command: &str) -> Option<String> {
        command.strip_prefix("prose ").map(|_| "prose".to_owned())
    }

    async fn clear(&self, user: i64) -> Result<u64, Refused> {
        let mut world = self.world();
        world.up()?;
        world.effects.push(format!("clear by {user}"));
        world.told(3)
    }

    async fn output(&self, _: TaskId, most: u32) -> Result<Output, Refused> {
        let world = self.world();
        world.up()?;
        let from = world.output.len().saturating_sub(most as usize);
        Ok(Output { bytes: world.output[from..].to_vec(), from: world.output_from + from as u64 })
    }

    async fn status(&self) -> Result<StatusReport, Refused> {
        self.world().up()?;
        let setting = octo::command::SettingInfo {
            name: "SECRET_SETTING".to_owned(),
            value: "x".to_owned(),
            source: ".env".to_owned(),
        };
        let workspace = "/srv/<work> 123456789:AAExxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_owned();
        Ok(StatusReport { pid: 7, workspace, settings: vec![setting], ..StatusReport::default() })
    }

    async fn lately(&self) -> Result<NoticePage, Refused> {
        self.world().up()?;
        let notices = vec![item(a_task(1, Status::Failed), NoticeKind::Failed)];
        Ok(NoticePage { notices, cursor: 1, more: false })
    }
}
