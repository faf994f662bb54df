//! Talking with the supervisor agent: something is said, and its answer comes as it is made.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::desk::Desk;
use super::setup;
use super::transcript::Said;
use super::{Hub, Inner, make_folder};
use crate::agent::journal;
use crate::agent::step::{Act, State};
use crate::command::{Actor, Refused, RefusedCode};
use crate::exec::agent::Agents as _;
use crate::supervisor::Fits;
use crate::supervisor::core::{Ask, NewTask, Reply};
use crate::task::{Task, TaskId};

/// The longest that is said at once, in bytes.
const TEXT_MAX: usize = 256 << 10;

/// Something that an owner says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Say {
    /// The surface and its user: whose conversation it is.
    pub who: String,
    /// What.
    pub text: String,
    /// The same key again is the same word.
    pub key: String,
    /// Begins a new conversation; the one before ends.
    pub new: bool,
    /// The model that is to answer from now on; empty: as before.
    pub model: String,
}

/// The answer, as it comes.
#[derive(Debug)]
pub struct Listen {
    inner: Arc<Inner>,
    /// The conversation.
    pub task: TaskId,
    key: String,
    said: broadcast::Receiver<Said>,
    /// Its turn has begun.
    heard: bool,
    /// What was said since the last call.
    text: String,
    over: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}

impl Hub {
    /// Says something to the supervisor agent. When this returns, it was heard for good: it is on disk, and will be
    /// answered, also after a crash.
    ///
    /// # Errors
    /// With what to set, when there is no model that could answer; or when it cannot be kept.
    pub async fn say(&self, say: Say) -> Result<Listen, Refused> {
        let bad = |message: &str, hint: &str| Err(Refused::new(RefusedCode::BadRequest, message).hint(hint));
        if say.text.trim().is_empty() {
            return bad("nothing was said", "say something");
        }
        if say.text.len() > TEXT_MAX || say.key.len() > 256 || say.key.is_empty() {
            return bad("the text or its key is too long, or there is no key", "use a file for long texts");
        }
        let inner = &self.inner;
        let settings = inner.now_settings();
        let cannot = |why: String| {
            Refused::new(RefusedCode::Conflict, why)
                .hint("everything else works without a model: /bg COMMAND, /tasks, /help")
        };
        let model = setup::model_of(&say.model, None, &settings.config).map_err(cannot)?;
        setup::check_model(&model, &setup::Serves::default(), &settings).map_err(cannot)?;
        let Some(desk) = inner.desk().await else { return Err(crate::supervisor::leaving()) };
        let mut task = self.conversation(&desk, &say, &model.to_string()).await?;
        if say.new && self.has_begun(task.id) && !self.knows(task.id, &say.key).await {
            self.end_conversation(&desk, &say, task.id).await?;
            task = self.conversation(&desk, &say, &model.to_string()).await?;
        }
        let inbox = inner.inbox(task.id);
        let said = inbox.watchers().subscribe();
        let listen = Listen {
            inner: Arc::clone(inner),
            task: task.id,
            key: say.key.clone(),
            said,
            heard: false,
            text: String::new(),
            over: false,
        };
        if self.knows(task.id, &say.key).await {
            return Ok(Listen { heard: true, ..listen });
        }
        let folder = inner.tasks.join(task.id.as_str());
        let wanted = (!say.model.trim().is_empty()).then_some(model);
        let (tasks, by) = (inner.tasks.clone(), say.who.clone());
        let kept = tokio::task::spawn_blocking(move || {
            make_folder(&tasks, &folder)?;
            inbox.put(&say.key, &by, &say.text, wanted)
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return Err(Refused::new(RefusedCode::Storage, format!("what was said cannot be kept: {error}"))
                    .hint("`octo doctor` looks at the disk"));
            }
            Err(error) => return Err(Refused::new(RefusedCode::Internal, error.to_string())),
        }
        self.launch(&task);
        Ok(listen)
    }

    async fn conversation(&self, desk: &Desk, say: &Say, model: &str) -> Result<Task, Refused> {
        let folder = self.inner.workspace.display().to_string();
        let new = Box::new(NewTask::chat(&say.who, model, &folder));
        match desk.supervisor().ask(Actor::Owner(say.who.clone()), Ask::Chat(new)).await? {
            Reply::Task(task) => Ok(*task),
            _ => Err(Refused::new(RefusedCode::Internal, "the supervisor gave no conversation")),
        }
    }

    /// Whether something was said in a conversation.
    fn has_begun(&self, id: TaskId) -> bool {
        let folder = self.inner.tasks.join(id.as_str());
        folder.join(journal::FILE).exists() || folder.join(super::talk::FILE).exists()
    }

    async fn end_conversation(&self, desk: &Desk, say: &Say, id: TaskId) -> Result<(), Refused> {
        let actor = Actor::Owner(say.who.clone());
        let stop = Ask::Stop { id, reason: "a new conversation begins".to_owned() };
        match desk.supervisor().ask(actor, stop).await {
            Ok(_) => {}
            // It has ended by itself meanwhile.
            Err(refused) if refused.code == RefusedCode::Conflict => return Ok(()),
            Err(refused) => return Err(refused),
        }
        let fits: Fits = Arc::new(|task: &Task| task.status.is_ended());
        desk.supervisor().when(id, fits).await.map(|_| ())
    }

    /// Whether an agent has heard what was said under a key.
    async fn knows(&self, id: TaskId, key: &str) -> bool {
        self.inner.rest(id).await.is_some_and(|state| state.heard(key))
    }
}

impl Inner {
    /// The agent as its journal says at this moment.
    async fn rest(&self, id: TaskId) -> Option<State> {
        let folder = self.tasks.join(id.as_str());
        let read = move || {
            let lines = journal::read(&folder).ok()??;
            State::fold(&lines).ok()?
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    fn is_driven(&self, id: TaskId) -> bool {
        self.drivers().driven.contains_key(&id)
    }
}

impl Listen {
    /// What comes next; `None` after the end of the answer.
    pub async fn next(&mut self) -> Option<Said> {
        if self.over {
            return None;
        }
        // The answer may have been given before anybody listened.
        if self.heard
            && self.text.is_empty()
            && self.said.is_empty()
            && !self.inner.is_driven(self.task)
            && let Some(done) = self.at_rest().await
        {
            return Some(done);
        }
        loop {
            let said = match self.said.recv().await {
                Ok(said) => said,
                Err(RecvError::Lagged(_)) if self.inner.is_driven(self.task) => continue,
                Err(RecvError::Lagged(_)) => match self.at_rest().await {
                    Some(done) => return Some(done),
                    None => continue,
                },
                Err(RecvError::Closed) => return self.at_rest().await,
            };
            match &said {
                Said::Heard { key } if *key == self.key => {
                    self.heard = true;
                    continue;
                }
                // The next one's turn has come: this one's is over, unless both are answered together.
                Said::Heard { .. } if self.heard && !self.text.is_empty() => {
                    self.over = true;
                    return Some(Said::Done { text: std::mem::take(&mut self.text) });
                }
                Said::Heard { .. } => continue,
                Said::Error { .. } => self.over = true,
                _ if !self.heard => continue,
                Said::Done { .. } => self.over = true,
                Said::Delta(text) => self.text.push_str(text),
                Said::Tool { .. } | Said::Task(_) => self.text.clear(),
                Said::Question { .. } => {}
            }
            return Some(said);
        }
    }

    /// The end, from the journal; `None`: the agent has not said all yet.
    async fn at_rest(&mut self) -> Option<Said> {
        let state = self.inner.rest(self.task).await?;
        if state.next() != Act::Rest {
            return None;
        }
        self.over = true;
        Some(Said::Done { text: state.last_words() })
    }
}
