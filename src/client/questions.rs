//! Asking, answering, and what push bridges do with notices.

use std::time::{Duration, Instant};

use super::http::{self, Call, Trouble};
use super::{Client, Patience, new_key};
use crate::bridge::Candidate;
use crate::command::{
    Owed, QuestionRequest, QuestionState, Receipt, Receipts, Refused, RefusedCode, ResumeRequest, TaskRef,
};
use crate::task::Task;

/// One poll for an answer. The daemon takes an asker that polls for present, and one that does not for gone.
const POLL: Duration = Duration::from_secs(30);

/// The pause after an answer that says nothing new.
const CALM: Duration = Duration::from_secs(1);

impl Client {
    /// Asks the owner of a task; a key is made when there is none. Returns as soon as the question is durable;
    /// waits through restarts of the daemon, however long they take, but no longer than the question's own time-out.
    ///
    /// # Errors
    /// The daemon's refusal: the task has ended, or the question is malformed; `Unavailable` when the time is up and
    /// no daemon took the question.
    pub async fn question(&self, task: &TaskRef, mut request: QuestionRequest) -> Result<QuestionState, Refused> {
        if request.key.is_empty() {
            request.key = new_key();
        }
        let timeout = Some(Duration::from_secs(request.timeout)).filter(|t| !t.is_zero());
        let until = timeout.and_then(|t| Instant::now().checked_add(t));
        let call = Call::post(http::task_path(task, "/questions")?).body(&request)?.repeatable().waits();
        self.persist(&call.until(until), until).await
    }

    /// Waits until a question is closed, for ever and through any number of restarts of the daemon, or until
    /// `until`; then it may still be open.
    ///
    /// # Errors
    /// The daemon's refusal: no such task or question; `Unavailable` when `until` has come and no daemon has.
    pub async fn answer(&self, task: &TaskRef, id: &str, until: Option<Instant>) -> Result<QuestionState, Refused> {
        // A little longer than the poll itself: its answer is the better one.
        let limit = until.map(|until| until + Duration::from_millis(500));
        loop {
            let left = until.map_or(POLL, |until| until.saturating_duration_since(Instant::now()).min(POLL));
            let began = Instant::now();
            let mut query = http::Query::new(http::task_path(task, &format!("/questions/{id}"))?);
            query.add("wait", &left.as_millis().div_ceil(1000).to_string());
            let call = Call::get(query.path()).repeatable().waits().slow(left).until(limit);
            let state = self.persist(&call, limit).await?;
            if !state.question.open || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(state);
            }
            if began.elapsed() < CALM {
                self.pause(CALM).await;
            }
        }
    }

    /// Makes a call over whatever keeps the daemon from answering, until the time is up.
    async fn persist(&self, call: &Call, until: Option<Instant>) -> Result<QuestionState, Refused> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let client = self.patience(left.map_or(Patience::Forever, Patience::For));
            match client.repeat(call, http::read_json).await {
                Err(r) if r.code == RefusedCode::Unavailable && self.start && left.is_none_or(|l| !l.is_zero()) => {
                    self.pause(CALM.min(left.unwrap_or(CALM))).await;
                }
                result => return result,
            }
        }
    }

    /// Answers a question of a task. With a key it may be repeated: the same key again is the same answer.
    ///
    /// # Errors
    /// `Conflict` when it was answered already (by whom, when and what is in the message), when it is not clear
    /// which question is meant, or when none is open; `BadRequest` for an answer that is none of the choices.
    pub async fn resume(&self, task: &TaskRef, mut request: ResumeRequest) -> Result<Task, Refused> {
        if request.key.is_empty() {
            request.key = new_key();
        }
        self.json(Call::post(http::task_path(task, "/resume")?).body(&request)?.repeatable()).await
    }

    /// What a push bridge has still to tell. Answers as soon as there is something, and after `wait` in any case;
    /// one attempt, which starts no daemon.
    ///
    /// # Errors
    /// What became of the attempt.
    pub async fn owed(&self, bridge: &str, wait: Duration) -> Result<Owed, Trouble> {
        let mut query = http::Query::new("/owed");
        query.add("bridge", bridge);
        query.add("wait", &wait.as_secs().to_string());
        let call = Call::get(query.path()).slow(wait);
        http::read_json(self.only_connect().once(&call).await?).await
    }

    /// Leaves receipts of a push bridge; durable when it returns. Those of notices that are gone do no harm.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn receipts(&self, bridge: &str, receipts: Vec<Receipt>) -> Result<(), Refused> {
        let body = Receipts { bridge: bridge.to_owned(), receipts };
        self.done(Call::post("/receipts").body(&body)?.repeatable()).await
    }

    /// Opens a pairing of a bridge and returns its code.
    ///
    /// # Errors
    /// `NotFound` when the daemon has no such bridge; `Unavailable`.
    pub async fn open_pairing(&self, bridge: &str) -> Result<String, Refused> {
        #[derive(serde::Deserialize)]
        struct Opened {
            code: String,
        }
        self.json::<Opened>(Call::post(format!("/bridges/{bridge}/pairing"))).await.map(|o| o.code)
    }

    /// Waits until somebody sent the pairing code. `None`: nobody did within `wait`, or the pairing ended.
    ///
    /// # Errors
    /// The daemon's refusal, or `Unavailable`.
    pub async fn pairing_candidate(&self, bridge: &str, wait: Duration) -> Result<Option<Candidate>, Refused> {
        let path = format!("/bridges/{bridge}/pairing?wait={}", wait.as_secs());
        self.json(Call::get(path).slow(wait).repeatable()).await
    }

    /// Lets the user who sent the code in, or not.
    ///
    /// # Errors
    /// `Conflict` when there is nobody to decide on; `Unavailable`.
    pub async fn decide_pairing(&self, bridge: &str, accept: bool) -> Result<(), Refused> {
        let body = serde_json::json!({ "accept": accept });
        self.done(Call::post(format!("/bridges/{bridge}/pairing/decision")).body(&body)?).await
    }

    /// The same client, speaking for a user of a bridge: `telegram:4711`. Its name goes into records.
    #[must_use]
    pub fn speaking_for(&self, who: impl Into<String>) -> Self {
        Client { surface: who.into().into(), ..self.clone() }
    }
}
