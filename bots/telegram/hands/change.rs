//! Commands that change something: starts, which carry the update's key, and changes of a run, which are made once.

use octo::command::{Refused, RefusedCode, StartRequest, TaskRef};
use octo::config::TelegramRun;
use octo::render::{self, name_of};
use octo::task::Task;

use super::{Hands, Who};
use crate::telegram::calls::{Desk, exactly};
use crate::telegram::card;
use crate::telegram::errand::{Errand, Note};
use crate::telegram::words;

/// A command that was written longer ago than this is asked about before it runs, in seconds.
const OLD: i64 = 3600;

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
        let now = (self.clock)();
        let age = now / 1000 - at;
        let mut why = Vec::new();
        if age > OLD {
            why.push(format!("It was written {}.", render::ago(age * 1000)));
        }
        // Phones put these in the place of what a shell understands.
        if command.contains(['“', '”', '„', '‘', '’', '–', '—', '…', '\u{a0}']) {
            why.push("It holds typographic quotes, dashes or spaces, as phones put them in.".to_owned());
        }
        match self.rules.run {
            TelegramRun::Off => {
                let off = "Commands from Telegram are switched off (`TELEGRAM_RUN=off`), so nothing was started.";
                Ok(vec![self.say(who, words::prose(off))])
            }
            TelegramRun::On if why.is_empty() => {
                let task = self.start_now(who.user, command, self.key(update)).await?;
                Ok(vec![self.send_card(who, &task).await])
            }
            TelegramRun::Ask | TelegramRun::On => {
                self.book().set_pending(update, &self.key(update), who.user, &command, now);
                let card = self.draw(who, |face| card::run_this(&command, update, &why.join(" "), face));
                Ok(vec![self.send(who, card, Note::Nothing)])
            }
        }
    }

    pub(super) async fn start_now(&self, user: i64, command: String, key: String) -> Result<Task, Refused> {
        self.desk.start(user, StartRequest { command, key, ..StartRequest::default() }).await
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
