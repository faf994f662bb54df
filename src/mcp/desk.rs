//! Where questions are asked: the daemon, or what a test puts in its place.

use crate::client::Client;
use crate::command::{QuestionRequest, QuestionState, Refused, TaskRef};

/// Takes the questions of one task and waits for their answers.
pub trait Desk: Send + Sync + 'static {
    /// Asks. Returns as soon as the question is safe, answered or not.
    fn ask(&self, request: QuestionRequest) -> impl Future<Output = Result<QuestionState, Refused>> + Send;

    /// Waits until the question is closed, for ever.
    fn closed(&self, id: &str) -> impl Future<Output = Result<QuestionState, Refused>> + Send;

    /// Asks and waits until the question is closed.
    fn ask_and_wait(&self, request: QuestionRequest) -> impl Future<Output = Result<QuestionState, Refused>> + Send {
        async move {
            let asked = self.ask(request).await?;
            if asked.question.open { self.closed(&asked.question.id).await } else { Ok(asked) }
        }
    }
}

/// The daemon's desk.
#[derive(Debug)]
pub struct ClientDesk {
    client: Client,
    task: TaskRef,
}

impl ClientDesk {
    /// The desk for one task's questions.
    #[must_use]
    pub fn new(client: Client, task: TaskRef) -> Self {
        ClientDesk { client, task }
    }
}

impl Desk for ClientDesk {
    async fn ask(&self, request: QuestionRequest) -> Result<QuestionState, Refused> {
        self.client.question(&self.task, request).await
    }

    async fn closed(&self, id: &str) -> Result<QuestionState, Refused> {
        self.client.answer(&self.task, id, None).await
    }
}
