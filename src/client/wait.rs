//! Waiting for a task's end, over any number of restarts of the daemon.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::http::{self, Call};
use super::{Client, Patience};
use crate::command::{Refused, TaskRef};
use crate::task::{Question, Stamp, Task, TaskId};

/// How long one poll is held open by the daemon.
const POLL: Duration = Duration::from_secs(50);

/// The pause after a poll that answered at once with nothing new (a question that is still open).
const NOTHING_NEW: Duration = Duration::from_millis(500);

/// How a wait ended.
#[derive(Debug)]
pub enum Waited {
    /// The task has ended.
    Ended(Box<Task>),
    /// The time ran out first; the task as it was last seen.
    TimedOut,
}

/// Reads a record once for nothing: the code that will read the real one is in memory when its answer comes, and
/// whoever waits need not wait for that, too.
fn warm_up() {
    let sample = Task::new(TaskId::random().1, 1, Stamp::from_millis(0));
    let sample = serde_json::to_vec(&sample).unwrap_or_default();
    let _ = std::hint::black_box(serde_json::from_slice::<Task>(&sample));
}

impl Client {
    /// Waits until the task has ended, or the time is up; `None` waits for ever.
    ///
    /// `on_question` hears once of every question that opens meanwhile.
    ///
    /// # Errors
    /// `NotFound` (also when the task is removed meanwhile), `Ambiguous`, or `Unavailable`.
    pub async fn wait(
        &self,
        task: &TaskRef,
        timeout: Option<Duration>,
        mut on_question: impl FnMut(&Task, &Question),
    ) -> Result<Waited, Refused> {
        let deadline = timeout.map(|t| Instant::now() + t);
        let client = if deadline.is_none() { self.patience(Patience::Forever) } else { self.clone() };
        let mut task = task.clone();
        let mut told = HashSet::new();
        let mut newest = None;
        if self.blocking {
            warm_up();
        }
        loop {
            let left = deadline.map_or(POLL, |d| d.saturating_duration_since(Instant::now()).min(POLL));
            let asked = Instant::now();
            let Some(now) = client.poll(&task, left, newest.as_deref(), deadline).await? else {
                return Ok(Waited::TimedOut);
            };
            // From here on by id: a prefix could become ambiguous while we wait.
            task = TaskRef(now.id.to_string());
            let mut new = false;
            for question in now.questions.iter().filter(|q| q.open) {
                if told.insert((now.run, question.id.clone())) {
                    on_question(&now, question);
                    newest = Some(question.id.clone());
                    new = true;
                }
            }
            if now.status.is_ended() {
                return Ok(Waited::Ended(Box::new(now)));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(Waited::TimedOut);
            }
            if !new && asked.elapsed() < NOTHING_NEW && left > NOTHING_NEW {
                self.pause(NOTHING_NEW).await;
            }
        }
    }

    /// One long poll for the record; `None` when the deadline passed while there was no daemon.
    async fn poll(
        &self,
        task: &TaskRef,
        wait: Duration,
        seen: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<Option<Task>, Refused> {
        let mut q = http::Query::new(http::task_path(task, "")?);
        // Whole seconds, rounded up: the deadline below cuts off what is too much.
        q.add("wait", &wait.as_millis().div_ceil(1000).to_string());
        q.add_opt("seen", seen.map(str::to_owned));
        // A little longer than the poll itself: its answer is the better one.
        let until = deadline.map(|d| d + Duration::from_millis(500));
        let call = Call::get(q.path()).repeatable().waits().slow(wait).until(until);
        let client = match until {
            Some(until) => self.patience(self.patience.at_most(until.saturating_duration_since(Instant::now()))),
            None => self.clone(),
        };
        match client.repeat(&call, http::read_json).await {
            Err(_) if until.is_some_and(|until| Instant::now() >= until) => Ok(None),
            result => result.map(Some),
        }
    }
}
