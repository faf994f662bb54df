//! Waiting for a task's end, over any number of restarts of the daemon.

use std::time::{Duration, Instant};

use super::http::{self, Call};
use super::{Client, Patience};
use crate::command::{Refused, TaskRef};
use crate::task::{Question, Stamp, Task, TaskId};

/// How long one poll is held open by the daemon.
const POLL: Duration = Duration::from_secs(50);

/// The pause after a poll that answered at once with nothing new (a question that is still open).
const NOTHING_NEW: Duration = Duration::from_millis(500);

mod deputy;

pub use deputy::Deputy;

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

/// What is to be remembered of a wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vigil {
    /// When it is given up.
    deadline: Option<Instant>,
    /// The questions that were told, with their runs; the newest comes last.
    told: Vec<(u32, String)>,
    /// When a deputy began the poll that has come to nothing.
    asked: Option<Instant>,
}

impl Vigil {
    /// A wait that begins now and is given up after `timeout`; `None` waits for ever.
    #[must_use]
    pub fn new(timeout: Option<Duration>) -> Vigil {
        Vigil { deadline: timeout.map(|t| Instant::now() + t), ..Vigil::default() }
    }

    /// Notes a question; whether it is news.
    fn hear(&mut self, run: u32, question: &str) -> bool {
        let news = !self.told.iter().any(|(r, q)| (*r, q.as_str()) == (run, question));
        if news {
            self.told.push((run, question.to_owned()));
        }
        news
    }

    fn newest(&self) -> Option<&str> {
        self.told.last().map(|(_, question)| question.as_str())
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// How long one poll may last.
    fn left(&self) -> Duration {
        self.deadline.map_or(POLL, |d| d.saturating_duration_since(Instant::now()).min(POLL))
    }
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
        on_question: impl FnMut(&Task, &Question),
    ) -> Result<Waited, Refused> {
        self.keep(task, Vigil::new(timeout), None, on_question).await
    }

    /// As [`Client::wait`], for a process that does nothing else and after that just ends: it may hand over to a
    /// deputy, and then this call does not return. `vigil` is new, or what a deputy handed back.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub async fn keep(
        &self,
        task: &TaskRef,
        mut vigil: Vigil,
        mut deputy: Option<Deputy>,
        mut on_question: impl FnMut(&Task, &Question),
    ) -> Result<Waited, Refused> {
        let client = if vigil.deadline.is_none() { self.patience(Patience::Forever) } else { self.clone() };
        let mut task = task.clone();
        if self.blocking && deputy.is_none() {
            warm_up();
        }
        loop {
            let left = vigil.left();
            // With a deputy at hand this is but a look.
            let hold = deputy.is_none().then_some(left);
            let asked = if deputy.is_some() { vigil.asked.take() } else { Some(Instant::now()) };
            let Some(now) = client.poll(&task, hold, &vigil).await? else {
                return Ok(Waited::TimedOut);
            };
            // From here on by id: a prefix could become ambiguous while we wait.
            task = TaskRef(now.id.to_string());
            let mut new = false;
            for question in now.questions.iter().filter(|q| q.open) {
                if vigil.hear(now.run, &question.id) {
                    on_question(&now, question);
                    new = true;
                }
            }
            if now.status.is_ended() {
                return Ok(Waited::Ended(Box::new(now)));
            }
            if vigil.is_over() {
                return Ok(Waited::TimedOut);
            }
            if !new && asked.is_some_and(|at| at.elapsed() < NOTHING_NEW) && left > NOTHING_NEW {
                self.pause(NOTHING_NEW).await;
            }
            if let Some(deputy) = deputy.take() {
                // It comes back only when that was not possible.
                deputy.take_over(&client, &task, &vigil);
            }
        }
    }

    /// Asks for the record, which the daemon may hold back for so long; `None` when the deadline passed while there
    /// was no daemon.
    async fn poll(&self, task: &TaskRef, hold: Option<Duration>, vigil: &Vigil) -> Result<Option<Task>, Refused> {
        // A little longer than the poll itself: its answer is the better one.
        let until = vigil.deadline.map(|d| d + Duration::from_millis(500));
        let path = record_path(task, hold, vigil)?;
        let call = Call::get(path).repeatable().waits().slow(hold.unwrap_or_default()).until(until);
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

/// The path of a poll.
fn record_path(task: &TaskRef, hold: Option<Duration>, vigil: &Vigil) -> Result<String, Refused> {
    let mut q = http::Query::new(http::task_path(task, "")?);
    if let Some(hold) = hold {
        // Whole seconds, rounded up: the deadline cuts off what is too much.
        q.add("wait", &hold.as_millis().div_ceil(1000).to_string());
        q.add_opt("seen", vigil.newest().map(str::to_owned));
    }
    Ok(q.path())
}
