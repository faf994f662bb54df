//! Commands that change something: starts, which carry the update's key, and changes of a run, which are made once.

use octo::chat::Job;
use octo::command::{FollowupRequest, Refused, RefusedCode, StartRequest, TaskRef};
use octo::config::TelegramRun;
use octo::render::{self, name_of, sanitize};
use octo::task::{Kind, Task};

use super::{Hands, Who};
use crate::telegram::book::{Pending, Talk, Work};
use crate::telegram::calls::{Desk, exactly};
use crate::telegram::card;
use crate::telegram::errand::{Errand, Note};
use crate::telegram::text::{code, cut};
use crate::telegram::words;

/// A command that was written longer ago than this is asked about before it runs, in seconds.
const OLD: i64 = 3600;

/// A name that somebody typed.
fn quoted(name: &str) -> String {
    code(&cut(&sanitize::line(name), 100))
}

impl<D: Desk> Hands<D> {
    /// Saves the book now: what follows must not be done twice.
    pub(super) async fn keep(&self) -> Result<(), Refused> {
        let (bytes, keep) = (self.book().bytes(), self.keep.clone());
        let kept = tokio::task::spawn_blocking(move || keep(bytes)).await;
        let failed = |why: String| Refused::new(RefusedCode::Storage, format!("nothing was done: {why}"));
        kept.map_err(|e| failed(e.to_string()))?.map_err(failed)
    }

    /// Tells whether a change of this run is still to be made by this update. It is not when the update was applied
    /// before, to an earlier run.
    pub(super) async fn is_due(&self, update: u32, run: u32) -> Result<bool, Refused> {
        let key = self.key(update);
        if let Some(meant) = self.book().intent(&key) {
            return Ok(meant == run);
        }
        self.book().set_intent(&key, run);
        self.keep().await?;
        Ok(true)
    }

    /// `/bg COMMAND`.
    pub(super) async fn start(&self, who: Who, at: i64, command: String, update: u32) -> Result<Vec<Errand>, Refused> {
        if self.rules.run == TelegramRun::Off {
            return Ok(vec![self.is_off(who)]);
        }
        if let Some(word) = self.desk.unknown_program(&command).await {
            let why = format!("`{word}` is no program here, so nothing was started.");
            let work = Work::Agent { agent: String::new(), model: String::new() };
            return Ok(vec![self.ask_first(who, &command, work, update, &why)]);
        }
        // Phones put these in the place of what a shell understands.
        let odd = command.contains(['“', '”', '„', '‘', '’', '–', '—', '…', '\u{a0}']);
        let odd = odd.then_some("It holds typographic quotes, dashes or spaces, as phones put them in.");
        self.work(who, at, command, Work::Command, odd, update).await
    }

    /// `/agent PROMPT`.
    pub(super) async fn agent(&self, who: Who, at: i64, job: Job, update: u32) -> Result<Vec<Errand>, Refused> {
        let Job { agent, model, prompt } = job;
        self.work(who, at, prompt, Work::Agent { agent, model }, None, update).await
    }

    /// `/task ID followup TEXT`, and a reply to an ended task's card.
    pub(super) async fn followup(
        &self,
        who: Who,
        at: i64,
        task: &Task,
        text: String,
        update: u32,
    ) -> Result<Vec<Errand>, Refused> {
        if !task.status.is_ended() {
            let said = format!("<b>{}</b> has not ended: a follow-up starts from a result.", name_of(task));
            return Ok(vec![self.say(who, said)]);
        }
        self.work(who, at, text, Work::Followup { task: task.id }, None, update).await
    }

    /// Something for the supervisor agent.
    pub(super) async fn speak(&self, who: Who, at: i64, text: String, update: u32) -> Result<Vec<Errand>, Refused> {
        let talk = Talk::new(self.key(update), who.user, who.message, text);
        match self.rules.run {
            // It could start things.
            TelegramRun::Off => Ok(vec![self.is_off(who)]),
            TelegramRun::Ask | TelegramRun::On => match self.old(at) {
                Some(why) => Ok(vec![self.ask_first(who, &talk.text, Work::Say, update, &why)]),
                None => self.begin(talk).await.map(|()| Vec::new()),
            },
        }
    }

    /// From here on the book answers for it.
    async fn begin(&self, talk: Talk) -> Result<(), Refused> {
        if !self.book().begin_talk(talk) {
            let message = "too much that was said is not answered yet, so this was not said";
            return Err(Refused::new(RefusedCode::Conflict, message).hint("say it again in a while"));
        }
        self.keep().await
    }

    fn is_off(&self, who: Who) -> Errand {
        let off = "Commands from Telegram are switched off (`TELEGRAM_RUN=off`), so nothing was started.";
        self.say(who, words::prose(off))
    }

    /// That something was written long ago, if it was.
    fn old(&self, at: i64) -> Option<String> {
        let age = (self.clock)() / 1000 - at;
        (age > OLD).then(|| format!("It was written {}.", render::ago(age * 1000)))
    }

    /// Starts something, or asks first. `odd`: why it is asked about in any case.
    async fn work(
        &self,
        who: Who,
        at: i64,
        text: String,
        work: Work,
        odd: Option<&str>,
        update: u32,
    ) -> Result<Vec<Errand>, Refused> {
        let why: Vec<String> = self.old(at).into_iter().chain(odd.map(str::to_owned)).collect();
        match self.rules.run {
            TelegramRun::Off => Ok(vec![self.is_off(who)]),
            TelegramRun::On if why.is_empty() => {
                let task = self.start_now(who.user, &work, text, self.key(update)).await?;
                Ok(vec![self.send_card(who, &task).await])
            }
            TelegramRun::Ask | TelegramRun::On => Ok(vec![self.ask_first(who, &text, work, update, &why.join(" "))]),
        }
    }

    /// A card that starts it when it is tapped.
    fn ask_first(&self, who: Who, text: &str, work: Work, update: u32, why: &str) -> Errand {
        let heading = match &work {
            Work::Command => "Run this in the workspace folder?".to_owned(),
            Work::Agent { agent, model } => {
                let agent = if agent.is_empty() { "an agent".to_owned() } else { quoted(agent) };
                let model = if model.is_empty() { String::new() } else { format!(" on {}", quoted(model)) };
                format!("Give this to {agent}{model}?")
            }
            Work::Followup { task } => format!("Have an agent go on with this from the result of <b>{task}</b>?"),
            Work::Say => "Say this to the supervisor agent?".to_owned(),
        };
        self.book().set_pending(update, &self.key(update), who.user, text, work, (self.clock)());
        let heading = self.mask.apply(&heading);
        let card = self.draw(who, |face| card::run_this(&heading, text, update, why, face));
        self.send(who, card, Note::Nothing)
    }

    /// Starts a task; the same key again is the same task.
    pub(super) async fn start_now(&self, user: i64, work: &Work, text: String, key: String) -> Result<Task, Refused> {
        let start = |request| self.desk.start(user, request);
        match work.clone() {
            Work::Command => start(StartRequest { command: text, key, ..StartRequest::default() }).await,
            Work::Agent { agent: agent_id, model } => {
                let kind = Kind::Agent;
                start(StartRequest { kind, agent_id, model, prompt: text, key, ..StartRequest::default() }).await
            }
            Work::Followup { task } => self.desk.followup(user, task, FollowupRequest { text, key }).await,
            Work::Say => Err(Refused::new(RefusedCode::Internal, "what is said starts no task")),
        }
    }

    /// Says what waited for a tap.
    pub(super) async fn say_pending(&self, who: Who, pending: &Pending) -> Result<(), Refused> {
        let text = pending.command.clone();
        self.begin(Talk::new(pending.key.clone(), who.user, who.message, text)).await
    }

    /// `/task ID raise [TOKENS]`.
    pub(super) async fn raise(
        &self,
        who: Who,
        task: &TaskRef,
        tokens: Option<u64>,
        update: u32,
    ) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(task).await?;
        if self.is_due(update, render::budget_mark(&task)).await? {
            self.desk.raise(who.user, task.id, tokens).await?;
        }
        let task = self.desk.get(&exactly(task.id)).await?;
        Ok(vec![self.send_card(who, &task).await])
    }

    /// `/model M`; without a name: which one it is.
    pub(super) async fn model(&self, who: Who, model: Option<String>) -> Result<Vec<Errand>, Refused> {
        let said = match model {
            Some(model) => {
                self.book().wish(who.user).model.clone_from(&model);
                format!("The conversation goes on with {}, from your next words on.", quoted(&model))
            }
            None => {
                let chosen = self.book().wish(who.user).model.clone();
                let status = self.desk.status().await?;
                let set = status.settings.into_iter().find(|s| s.name == "OCTO_MODEL").map(|s| s.value);
                match (chosen, set.filter(|s| !s.is_empty())) {
                    (chosen, _) if !chosen.is_empty() => format!("{}, from your next words on.", quoted(&chosen)),
                    (_, Some(set)) => format!("{}, if you chose no other for this conversation.", quoted(&set)),
                    _ => words::prose("None is set: `OCTO_MODEL`, or `/model M`. `/model demo/tour` needs no key."),
                }
            }
        };
        Ok(vec![self.say(who, self.mask.apply(&said))])
    }

    /// `/new`.
    pub(super) fn begin_anew(&self, who: Who) -> Vec<Errand> {
        self.book().wish(who.user).new = true;
        vec![self.say(who, "Your next words begin a new conversation; tasks go on.".to_owned())]
    }

    pub(super) async fn cancel(&self, who: Who, task: &TaskRef, update: u32) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(task).await?;
        if task.status.is_ended() {
            let said = format!("<b>{}</b> has ended already.", name_of(&task));
            return Ok(vec![self.say(who, said), self.send_card(who, &task).await]);
        }
        if self.is_due(update, task.run).await? {
            self.desk.stop(who.user, task.id).await?;
        }
        let task = self.desk.get(&exactly(task.id)).await?;
        Ok(vec![self.send_card(who, &task).await])
    }

    pub(super) async fn retry(&self, who: Who, task: &TaskRef, update: u32) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(task).await?;
        if self.is_due(update, task.run).await? {
            self.desk.retry(who.user, task.id).await?;
        }
        let task = self.desk.get(&exactly(task.id)).await?;
        Ok(vec![self.send_card(who, &task).await])
    }

    /// `/bg clear`. It is about no run, so it is asked for once at most.
    pub(super) async fn clear(&self, who: Who, update: u32) -> Result<Vec<Errand>, Refused> {
        if self.book().intent(&self.key(update)).is_some() {
            let said = "Ended tasks were to be hidden when Octo was cut off; /tasks shows whether they are.";
            return Ok(vec![self.say(who, said.to_owned())]);
        }
        self.is_due(update, 0).await?;
        let cleared = usize::try_from(self.desk.clear(who.user).await?).unwrap_or(usize::MAX);
        let said = format!("{} hidden; the records stay.", render::count(cleared, "ended task"));
        Ok(vec![self.say(who, said)])
    }
}
