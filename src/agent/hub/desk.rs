//! What agents ask of the supervisor.

use std::sync::Arc;

use super::blocking;
use crate::action;
use crate::agent::drive::{Asked, Lost};
use crate::command::{Actor, QuestionRequest, QuestionState, Refused, StartRequest, TaskRef};
use crate::exec::agent::{AgentReport, Reserve, Reserved};
use crate::supervisor::Handle;
use crate::supervisor::core::{Ask, NewQuestion, NewTask, Reply, Resolved};
use crate::task::{Status, Task, TaskId};

/// The way of one agent to the supervisor. What it asks for, it asks as its task.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    supervisor: Handle,
}

/// A task that an agent started, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    /// Which.
    pub id: TaskId,
    /// How it stands; `None`: it has ended and is settled, its record says how.
    pub status: Option<Status>,
    /// Its run, unless it is settled.
    pub run: u32,
}

impl Child {
    /// Whether it is still under way.
    pub(super) fn is_alive(self) -> bool {
        self.status.is_some_and(|status| !status.is_ended())
    }
}

fn lost(refused: Refused) -> Lost {
    Lost(refused.message)
}

impl Desk {
    pub(super) fn new(supervisor: Handle) -> Desk {
        Desk { supervisor }
    }

    /// A record, live or settled.
    pub(super) async fn record(&self, id: TaskId) -> Result<Task, Refused> {
        self.find(&TaskRef(id.to_string())).await
    }

    /// The task that somebody names.
    pub(super) async fn find(&self, reference: &TaskRef) -> Result<Task, Refused> {
        let reference = reference.clone();
        match self.supervisor.query(move |core| core.get(&reference)).await?? {
            Resolved::Live(task) => Ok(*task),
            Resolved::Settled(id) => self.read(id),
        }
    }

    /// The record of a settled task.
    pub(super) fn read(&self, id: TaskId) -> Result<Task, Refused> {
        let store = Arc::clone(self.supervisor.store());
        blocking(move || store.read(id)).map_err(|_| Refused::no_such_task(id))
    }

    /// The tasks that a task started, in order.
    pub(super) async fn children(&self, id: TaskId) -> Result<Vec<Child>, Lost> {
        let looked = self.supervisor.query(move |core| {
            let children = core.task(id).map(|task| task.children.clone()).unwrap_or_default();
            let look = |id: TaskId| match core.task(id) {
                Some(task) => Some(Child { id, status: Some(task.status), run: task.run }),
                None => core.is_settled(id).then_some(Child { id, status: None, run: 0 }),
            };
            children.into_iter().filter_map(look).collect()
        });
        looked.await.map_err(lost)
    }

    /// Puts a question to the owner of a task.
    pub(super) async fn ask(&self, id: TaskId, question: &QuestionRequest) -> Result<QuestionState, Lost> {
        let mut request = question.clone();
        let wanted = request.action.take();
        let action = blocking(move || wanted.map(|wanted| action::describe(&wanted, action::read_text)));
        let new = Box::new(NewQuestion { request, action });
        match self.supervisor.ask(Actor::Task(Some(id)), Ask::Question { id, new }).await {
            Ok(Reply::Question(state)) => Ok(*state),
            Ok(other) => Err(Lost(format!("the supervisor answered a question with {other:?}"))),
            // An agent that waits for an answer cannot ask; it may have asked this very question.
            Err(refused) => self.open_question(id, &question.key).await.ok_or_else(|| lost(refused)),
        }
    }

    async fn open_question(&self, id: TaskId, key: &str) -> Option<QuestionState> {
        let task = self.record(id).await.ok()?;
        let question = task.questions.iter().find(|question| question.key == key && question.open)?;
        Some(QuestionState { question: question.clone(), answer: None })
    }

    /// Starts a task for a task; the same key again is the same task.
    pub(super) async fn start(&self, parent: &Task, request: StartRequest) -> Result<Task, Refused> {
        // The environment is the parent's, which is stored as long as a record names it.
        let env_digest = parent.env.clone();
        let (uuid, id) = TaskId::random();
        let new = NewTask { request, id, uuid: uuid.to_string(), env_digest };
        let ask = Ask::Start { tasks: vec![new], envs: Vec::new() };
        match self.supervisor.ask(Actor::Task(Some(parent.id)), ask).await? {
            Reply::Started(started) => match started.into_iter().next() {
                Some((Resolved::Live(task), _)) => Ok(*task),
                Some((Resolved::Settled(id), _)) => self.read(id),
                None => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }

    /// Stops a task for a task.
    pub(super) async fn stop(&self, by: TaskId, id: TaskId, reason: String) -> Result<(), Refused> {
        self.supervisor.ask(Actor::Task(Some(by)), Ask::Stop { id, reason }).await.map(|_| ())
    }

    /// Reports; returns when the report is taken in.
    pub(super) async fn report(&self, report: AgentReport) -> Result<(), Lost> {
        let actor = Actor::Task(Some(report.id));
        self.supervisor.ask(actor, Ask::Agent(report)).await.map(|_| ()).map_err(lost)
    }

    /// Takes what a request may use from the budgets; returns how many tokens its reply may have, or which budget is
    /// used up.
    pub(super) async fn reserve(&self, reserve: Reserve) -> Result<Reserved, Lost> {
        match self.supervisor.ask(Actor::Task(Some(reserve.id)), Ask::Reserve(reserve)).await.map_err(lost)? {
            Reply::Reserved(granted) => Ok(granted),
            other => Err(Lost(format!("the supervisor answered a reservation with {other:?}"))),
        }
    }

    /// The supervisor itself.
    pub(super) fn supervisor(&self) -> &Handle {
        &self.supervisor
    }
}

fn unexpected() -> Refused {
    Refused::new(crate::command::RefusedCode::Internal, "the supervisor gave no task")
}

/// How a question stands.
pub(super) fn asked(state: QuestionState) -> Asked {
    match state.answer {
        _ if state.question.open => Asked::Open,
        Some(answer) => Asked::Answered { text: answer.text, by: answer.by },
        None => Asked::Closed,
    }
}
