//! What the bridge asks of the daemon: the API, as any other surface uses it, in the name of a Telegram user.

use octo::client::{Client, LogEvent, LogQuery};
use octo::command::{
    FollowupRequest, ListQuery, Listing, NoticePage, Refused, ResumeRequest, StartRequest, StatusReport, TaskRef,
};
use octo::task::{Task, TaskId};

/// How far `/recap` looks back, in notices.
const RECAP: u64 = 50;

/// The end of a task's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its bytes as they were written.
    pub(crate) bytes: Vec<u8>,
    /// Where they begin in the log.
    pub(crate) from: u64,
}

/// The calls that hands need. All may be repeated: what changes something carries a key, or is asked for only after
/// what it changes was looked at.
pub(crate) trait Desk {
    /// Starts a task; its key says which one.
    async fn start(&self, user: i64, request: StartRequest) -> Result<Task, Refused>;
    /// Lists tasks.
    async fn list(&self, query: ListQuery) -> Result<Listing, Refused>;
    /// One task.
    async fn get(&self, task: &TaskRef) -> Result<Task, Refused>;
    /// Answers a question; its key says which answer this is.
    async fn answer(&self, user: i64, task: TaskId, request: ResumeRequest) -> Result<Task, Refused>;
    /// Cancels a task.
    async fn stop(&self, user: i64, task: TaskId) -> Result<(), Refused>;
    /// Runs an ended task again.
    async fn retry(&self, user: i64, task: TaskId) -> Result<(), Refused>;
    /// Lets an agent go on that used up its budget.
    async fn raise(&self, user: i64, task: TaskId, tokens: Option<u64>) -> Result<(), Refused>;
    /// Has an agent go on from an ended task's result; its key says which task that is.
    async fn followup(&self, user: i64, task: TaskId, request: FollowupRequest) -> Result<Task, Refused>;
    /// The first word of a command that names nothing that could be run here.
    async fn unknown_program(&self, command: &str) -> Option<String>;
    /// Hides ended tasks from lists; tells how many.
    async fn clear(&self, user: i64) -> Result<u64, Refused>;
    /// The end of a task's output, at most so many bytes.
    async fn output(&self, task: TaskId, most: u32) -> Result<Output, Refused>;
    /// How the daemon is.
    async fn status(&self) -> Result<StatusReport, Refused>;
    /// The newest notices.
    async fn lately(&self) -> Result<NoticePage, Refused>;
}

/// The reference that names exactly this task.
pub(crate) fn exactly(task: TaskId) -> TaskRef {
    TaskRef(task.to_string())
}

/// The client in the name of a user.
pub(crate) fn of(client: &Client, user: i64) -> Client {
    client.speaking_for(format!("telegram:{user}"))
}

impl Desk for Client {
    async fn start(&self, user: i64, request: StartRequest) -> Result<Task, Refused> {
        Ok(Client::start(&of(self, user), request).await?.task)
    }

    async fn list(&self, query: ListQuery) -> Result<Listing, Refused> {
        Client::list(self, &query).await
    }

    async fn get(&self, task: &TaskRef) -> Result<Task, Refused> {
        Client::get(self, task).await
    }

    async fn answer(&self, user: i64, task: TaskId, request: ResumeRequest) -> Result<Task, Refused> {
        of(self, user).resume(&exactly(task), request).await
    }

    async fn stop(&self, user: i64, task: TaskId) -> Result<(), Refused> {
        Client::stop(&of(self, user), &exactly(task)).await
    }

    async fn retry(&self, user: i64, task: TaskId) -> Result<(), Refused> {
        Client::retry(&of(self, user), &exactly(task)).await
    }

    async fn raise(&self, user: i64, task: TaskId, tokens: Option<u64>) -> Result<(), Refused> {
        Client::raise(&of(self, user), &exactly(task), tokens).await.map(drop)
    }

    async fn followup(&self, user: i64, task: TaskId, request: FollowupRequest) -> Result<Task, Refused> {
        Ok(of(self, user).follow_up(&exactly(task), request).await?.task)
    }

    async fn unknown_program(&self, command: &str) -> Option<String> {
        octo::chat::unknown_program(command).await
    }

    async fn clear(&self, user: i64) -> Result<u64, Refused> {
        Client::clear(&of(self, user)).await
    }

    async fn output(&self, task: TaskId, most: u32) -> Result<Output, Refused> {
        let query = LogQuery { from: Some(-i64::from(most)), ..LogQuery::default() };
        let mut stream = self.logs(&exactly(task), query).await?;
        let mut output = Output::default();
        while let Some(event) = stream.next().await? {
            if let LogEvent::Bytes(bytes) = event {
                // It may have grown meanwhile; no more than was asked for is kept.
                let room = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(output.bytes.len());
                output.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
        output.from = stream.starts_at;
        Ok(output)
    }

    async fn status(&self) -> Result<StatusReport, Refused> {
        Client::status(self).await
    }

    async fn lately(&self) -> Result<NoticePage, Refused> {
        let newest = self.newest_notice().await?;
        self.notices(newest.saturating_sub(RECAP)).await
    }
}
