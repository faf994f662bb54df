//! Taps on buttons. A button says what is meant; whether it is still to be done, the state of the task decides.

use octo::command::{Refused, RefusedCode, TaskRef};
use octo::config::TelegramRun;
use octo::render::{self, name_of};
use octo::task::{Task, TaskId};

use super::reply::{Given, find};
use super::{Hands, Who};
use crate::telegram::book::Work;
use crate::telegram::calls::{Desk, exactly};
use crate::telegram::card::{self, Card};
use crate::telegram::errand::{Errand, Note};
use crate::telegram::gate::Tap;
use crate::telegram::post::Post;
use crate::telegram::seal::{Button, What};
use crate::telegram::text::{cut, escape};

/// Units of a toast.
const TOAST_MAX: usize = 190;

/// What a button says that this daemon did not make for this user in this chat, or whose key is gone.
const INVALID: &str = "This button does not count here. /tasks lists the tasks.";

/// What an old button says.
const OVER: &str = "This is over.";

/// The answer to a tap; `alert`: as a box.
pub(super) fn toast(tap: &Tap, text: &str, alert: bool) -> Errand {
    Post::Toast { callback: tap.callback.clone(), text: cut(text, TOAST_MAX), alert }.into()
}

fn edit(tap: &Tap, card: Card, note: Note) -> Errand {
    let post = Post::Edit { chat: tap.chat, message: tap.message, html: card.html, keys: card.keys };
    Errand { post, note }
}

impl<D: Desk> Hands<D> {
    pub(super) async fn tap(&self, tap: &Tap, update: u32) -> Result<Vec<Errand>, Refused> {
        let who = Who { user: tap.user, chat: tap.chat, message: tap.message };
        let Some(button) = self.seal.open(tap.chat, tap.user, &tap.data) else {
            return Ok(vec![toast(tap, INVALID, false)]);
        };
        match button {
            Button::Run(asked) => self.run_pending(who, tap, asked).await,
            Button::Drop(asked) => self.drop_pending(who, tap, asked).await,
            Button::Recap => {
                let card = self.recap(who).await?;
                Ok(vec![toast(tap, "", false), edit(tap, card, Note::Nothing)])
            }
            Button::Task(task, what) => match self.desk.get(&exactly(task)).await {
                Ok(task) => self.tap_task(who, tap, task, what, update).await,
                Err(refused) if refused.code == RefusedCode::NotFound => {
                    Ok(vec![toast(tap, "This is over: the task is not there any more.", false)])
                }
                Err(refused) => Err(refused),
            },
        }
    }

    async fn tap_task(&self, who: Who, tap: &Tap, task: Task, what: What, update: u32) -> Result<Vec<Errand>, Refused> {
        match what {
            What::Answer(question, option) => self.tap_answer(who, tap, &task, &question, option, update).await,
            What::Show(question) => self.tap_show(who, tap, &task, &question).await,
            What::Cancel(run) => {
                if task.run != run || task.status.is_ended() {
                    return self.over(who, tap, &task).await;
                }
                match self.desk.stop(who.user, task.id).await {
                    Ok(()) => self.done(who, tap, task.id, "is being stopped").await,
                    Err(refused) => self.refused(who, tap, task.id, refused).await,
                }
            }
            What::Retry(run) => {
                if task.run != run || !task.status.is_ended() {
                    return self.over(who, tap, &task).await;
                }
                match self.desk.retry(who.user, task.id).await {
                    Ok(()) => self.done(who, tap, task.id, "runs again").await,
                    Err(refused) => self.refused(who, tap, task.id, refused).await,
                }
            }
            What::Raise(mark) => {
                if render::budget_mark(&task) != mark || !render::can_be_raised(&task) {
                    return self.over(who, tap, &task).await;
                }
                match self.desk.raise(who.user, task.id, None).await {
                    Ok(()) => self.done(who, tap, task.id, "goes on").await,
                    Err(refused) => self.refused(who, tap, task.id, refused).await,
                }
            }
            What::Logs => {
                let mut errands = vec![toast(tap, "", false)];
                errands.extend(self.logs(who, &task).await?);
                Ok(errands)
            }
        }
    }

    /// The tapped card becomes that of the task as it stands now.
    async fn redraw(&self, who: Who, tap: &Tap, task: &Task) -> Errand {
        let card = self.card(who, task).await;
        edit(tap, card, Note::Card { task: task.id, ended: task.status.is_ended() })
    }

    async fn done(&self, who: Who, tap: &Tap, task: TaskId, said: &str) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(&exactly(task)).await?;
        let words = format!("{} {said}", name_of(&task));
        Ok(vec![toast(tap, &words, false), self.redraw(who, tap, &task).await])
    }

    /// The button was drawn for another state: it does nothing, and the card shows the present one.
    async fn over(&self, who: Who, tap: &Tap, task: &Task) -> Result<Vec<Errand>, Refused> {
        let words = format!("{OVER} {} is {}.", name_of(task), task.status.word().replace('_', " "));
        Ok(vec![toast(tap, &words, false), self.redraw(who, tap, task).await])
    }

    /// The state changed between the look and the call.
    async fn refused(&self, who: Who, tap: &Tap, task: TaskId, refused: Refused) -> Result<Vec<Errand>, Refused> {
        if refused.code != RefusedCode::Conflict {
            return Err(refused);
        }
        let task = self.desk.get(&exactly(task)).await?;
        self.over(who, tap, &task).await
    }

    async fn tap_answer(
        &self,
        who: Who,
        tap: &Tap,
        task: &Task,
        id: &str,
        option: u16,
        update: u32,
    ) -> Result<Vec<Errand>, Refused> {
        let choice = find(task, id).and_then(|q| q.choices.get(usize::from(option)));
        let Some(choice) = choice else { return Ok(vec![toast(tap, OVER, false)]) };
        let (task, late) = match self.give(who.user, task.id, id, choice.clone(), update).await? {
            Given::Taken(task) => (task, false),
            Given::Late(task) => (task, true),
        };
        let Some(question) = find(&task, id) else { return Ok(vec![toast(tap, OVER, false)]) };
        let words = self.draw(who, |face| card::closed_words(&task, question, face));
        let words = match (late, words.starts_with("answered")) {
            (true, true) => format!("already {words}"),
            (true, false) => format!("{OVER} {words}"),
            (false, _) => words,
        };
        let mut errands = vec![toast(tap, &words, late)];
        errands.extend(self.edit_cards(who, &task, question, Some(tap.message)));
        Ok(errands)
    }

    /// All of an action that its card could not hold, else the task.
    async fn tap_show(&self, who: Who, tap: &Tap, task: &Task, id: &str) -> Result<Vec<Errand>, Refused> {
        let Some(question) = find(task, id) else { return Ok(vec![toast(tap, OVER, false)]) };
        let mut errands = vec![toast(tap, "", false)];
        match question.action.as_ref().filter(|a| self.draw(who, |face| card::is_cut(a, face))) {
            Some(action) => {
                let text = self.draw(who, |face| card::whole_action(action, face));
                let caption = format!("What <b>{}</b> asks permission for", name_of(task));
                let name = format!("task-{}-{id}.txt", task.number);
                errands.push(Post::Document { chat: who.chat, name, bytes: text.into_bytes(), caption }.into());
            }
            None => errands.push(self.send_card(who, task).await),
        }
        Ok(errands)
    }

    /// Runs the command that waits, once, whoever taps how often: its key is that of the message it came with.
    async fn run_pending(&self, who: Who, tap: &Tap, asked: u32) -> Result<Vec<Errand>, Refused> {
        let pending = self.book().pending(asked, who.user, (self.clock)()).cloned();
        let Some(pending) = pending.filter(|p| !p.dropped) else {
            return Ok(vec![toast(tap, "This is over: the command is not kept any more. Send it again.", true)]);
        };
        if let Some(task) = pending.task {
            return self.runs_already(who, tap, task).await;
        }
        if self.rules.run == TelegramRun::Off {
            return Ok(vec![toast(tap, "Commands from Telegram are switched off (TELEGRAM_RUN=off).", true)]);
        }
        if pending.work == Work::Say {
            self.say_pending(who, &pending).await?;
            if let Some(pending) = self.book().pending(asked, who.user, (self.clock)()) {
                pending.dropped = true;
            }
            let card = Card::new(&[format!("You said: {}", escape(&self.mask.apply(&pending.command)))], Vec::new());
            return Ok(vec![toast(tap, "Said", false), edit(tap, card, Note::Nothing)]);
        }
        let task = self.start_now(who.user, &pending.work, pending.command, pending.key).await?;
        if let Some(pending) = self.book().pending(asked, who.user, (self.clock)()) {
            pending.task = Some(task.id);
        }
        let words = format!("{} {}", name_of(&task), task.status.word());
        Ok(vec![toast(tap, &words, false), self.redraw(who, tap, &task).await])
    }

    async fn runs_already(&self, who: Who, tap: &Tap, task: TaskId) -> Result<Vec<Errand>, Refused> {
        match self.desk.get(&TaskRef(task.to_string())).await {
            Ok(task) => self.over(who, tap, &task).await,
            Err(refused) if refused.code == RefusedCode::NotFound => Ok(vec![toast(tap, OVER, false)]),
            Err(refused) => Err(refused),
        }
    }

    async fn drop_pending(&self, who: Who, tap: &Tap, asked: u32) -> Result<Vec<Errand>, Refused> {
        let started = match self.book().pending(asked, who.user, (self.clock)()) {
            Some(pending) => {
                pending.dropped = pending.task.is_none();
                pending.task
            }
            None => None,
        };
        if let Some(task) = started {
            return self.runs_already(who, tap, task).await;
        }
        let card = Card::new(&["Dropped: nothing was started.".to_owned()], Vec::new());
        Ok(vec![toast(tap, "Dropped", false), edit(tap, card, Note::Nothing)])
    }
}
