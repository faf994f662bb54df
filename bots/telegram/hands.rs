//! Applies what was heard: calls of the API, and what is to be sent for them.
//!
//! An update may be applied twice, when the daemon died before it was marked as applied. So whatever changes something
//! carries the update's key (starts, answers), or is about a run: then the book says which run was meant when it was
//! applied first, and is saved before the call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;
use octo::chat::Ask;
use octo::command::{ListQuery, Refused, RefusedCode, TaskRef};
use octo::config::TelegramRun;
use octo::render::{self, View};
use octo::task::{Kind, Task};

use super::book::Book;
use super::calls::Desk;
use super::card::{self, Card, Face};
use super::errand::{Errand, Note};
use super::gate::{Heard, Text};
use super::mask::Mask;
use super::post::Post;
use super::seal::Seal;
use super::text::pre;
use super::words;

#[path = "hands/change.rs"]
mod change;
#[path = "hands/logs.rs"]
mod logs;
#[path = "hands/reply.rs"]
mod reply;
#[path = "hands/tap.rs"]
mod tap;

/// Rows of a list that are asked for.
const ROWS: usize = 20;

/// Bytes of the end of a running task's output that its card is made from.
const TAIL: u32 = 4096;

/// Open questions that are shown again at a time.
const QUESTIONS_SHOWN: usize = 3;

/// Saves the book, durably, off the event loop.
pub(crate) type Keep = Arc<dyn Fn(Vec<u8>) -> Result<(), String> + Send + Sync>;

/// The daemon cannot say at present what becomes of an update: it is to be applied again later, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Later(pub(crate) Refused);

/// What the hands need to know of the bot and its settings.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The bot's number.
    pub(crate) bot: i64,
    /// Its user name, without `@`.
    pub(crate) name: String,
    /// What a command typed on Telegram needs.
    pub(crate) run: TelegramRun,
    /// The readers' time zone.
    pub(crate) tz: TimeZone,
}

/// What applies updates.
pub(crate) struct Hands<D> {
    /// The API.
    pub(crate) desk: D,
    /// The settings.
    pub(crate) rules: Rules,
    /// Seals buttons.
    pub(crate) seal: Seal,
    /// What must not be shown.
    pub(crate) mask: Mask,
    /// What is remembered.
    pub(crate) book: Arc<Mutex<Book>>,
    /// Saves it.
    pub(crate) keep: Keep,
    /// Now, in milliseconds since 1970.
    pub(crate) clock: fn() -> i64,
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy)]
struct Who {
    user: i64,
    chat: i64,
    /// The message that is answered.
    message: i32,
}

impl<D: Desk> Hands<D> {
    /// Applies what update number `update` said. The caller saves the book, then does the errands in order, then marks
    /// the update as applied.
    ///
    /// # Errors
    /// [`Later`]: nothing is certain yet; the update is to be applied again.
    pub(crate) async fn hear(&self, heard: Heard, update: u32) -> Result<Vec<Errand>, Later> {
        match heard {
            Heard::Text(text) if text.user == text.chat && text.user > 0 => {
                {
                    let mut book = self.book();
                    book.learn_name(text.user, &text.name);
                    book.set_reachable(text.chat);
                }
                let who = Who { user: text.user, chat: text.chat, message: text.message };
                settle(self.text(who, &text, update).await, |refused| vec![self.say(who, words::refusal(refused))])
            }
            Heard::Tap(tap) if tap.user == tap.chat && tap.user > 0 => {
                let done = self.tap(&tap, update).await;
                settle(done, |refused| vec![tap::toast(&tap, &self.mask.apply(&refused.message), true)])
            }
            Heard::Blocked(user) => {
                self.book().set_unreachable(user, "the user blocked the bot", (self.clock)());
                Ok(Vec::new())
            }
            Heard::Back(user) => {
                self.book().set_reachable(user);
                Ok(Vec::new())
            }
            Heard::Text(_) | Heard::Tap(_) | Heard::Stranger { .. } | Heard::Nothing(_) => Ok(Vec::new()),
        }
    }

    /// The key of an update: the same update is the same change.
    pub(crate) fn key(&self, update: u32) -> String {
        format!("tg:{}:{update}", self.rules.bot)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws a card for somebody.
    fn draw<T>(&self, who: Who, draw: impl FnOnce(&Face) -> T) -> T {
        let book = self.book();
        draw(&Face {
            seal: &self.seal,
            chat: who.chat,
            user: who.user,
            tz: &self.rules.tz,
            now: (self.clock)(),
            names: &book.names,
            mask: &self.mask,
        })
    }

    /// A sentence in answer to a message.
    fn say(&self, who: Who, html: String) -> Errand {
        self.send(who, Card::new(&[html], Vec::new()), Note::Nothing)
    }

    /// A card in answer to a message.
    fn send(&self, who: Who, card: Card, note: Note) -> Errand {
        let post = Post::Message {
            chat: who.chat,
            html: card.html,
            keys: card.keys,
            reply_to: Some(who.message),
            silent: false,
            force_reply: false,
        };
        Errand { post, note }
    }

    /// The card of a task as it stands, with the end of its output.
    async fn card(&self, who: Who, task: &Task) -> Card {
        let mut tail = None;
        if !task.status.is_ended() && !task.started_at.is_empty() {
            // A card without output is better than none.
            let output = self.desk.output(task.id, TAIL).await.unwrap_or_default();
            tail = Some(logs::whole_lines(&output));
        }
        self.draw(who, |face| card::task(task, tail.as_deref(), face))
    }

    async fn send_card(&self, who: Who, task: &Task) -> Errand {
        let card = self.card(who, task).await;
        self.send(who, card, Note::Card { task: task.id, ended: task.status.is_ended() })
    }

    async fn text(&self, who: Who, text: &Text, update: u32) -> Result<Vec<Errand>, Refused> {
        if let Some(reply) = &text.reply
            && let Some(errands) = self.reply(who, text, reply, update).await?
        {
            return Ok(errands);
        }
        match words::understand(&text.text, &self.rules.name) {
            Ok(ask) => self.ask(who, text, ask, update).await,
            Err(wrong) => Ok(vec![self.say(who, words::misunderstood(&wrong))]),
        }
    }

    async fn ask(&self, who: Who, text: &Text, ask: Ask, update: u32) -> Result<Vec<Errand>, Refused> {
        match ask {
            Ask::Nothing => Ok(Vec::new()),
            Ask::Say(said) => self.plain(who, text.at, said, update).await,
            Ask::Start(command) => self.start(who, text.at, command, update).await,
            Ask::Agent(job) => self.agent(who, text.at, job, update).await,
            Ask::Agents => self.list(who, ListQuery { kind: Some(Kind::Agent), ..ListQuery::default() }).await,
            Ask::Model(model) => self.model(who, model).await,
            Ask::New => Ok(self.begin_anew(who)),
            Ask::Followup { task, text: said } => {
                let task = self.desk.get(&task).await?;
                self.followup(who, text.at, &task, said, update).await
            }
            Ask::Raise { task, tokens } => self.raise(who, &task, tokens, update).await,
            Ask::List(status) => self.list(who, ListQuery { status, ..ListQuery::default() }).await,
            Ask::Clear => self.clear(who, update).await,
            Ask::Show(task) => self.show(who, &task).await,
            Ask::Cancel(task) => self.cancel(who, &task, update).await,
            Ask::Retry(task) => self.retry(who, &task, update).await,
            Ask::Logs(task) => {
                let task = self.desk.get(&task).await?;
                self.logs(who, &task).await
            }
            Ask::Resume { task, question, answer } => self.resume(who, &task, question, answer, update).await,
            Ask::Remove(_) => {
                Ok(vec![self.say(who, words::prose("Records are removed in the terminal: `octo task ID rm`."))])
            }
            Ask::Status => {
                let mut status = self.desk.status().await?;
                // They are the terminal's business.
                status.settings.clear();
                let report = render::report(&status, "/recap shows them", &View::plain((self.clock)()));
                let card = Card::new(&[pre(&self.mask.apply(&report))], Vec::new());
                Ok(vec![self.send(who, card, Note::Nothing)])
            }
            Ask::Recap => {
                let card = self.recap(who).await?;
                Ok(vec![self.send(who, card, Note::Nothing)])
            }
            Ask::Help => Ok(vec![self.say(who, words::help())]),
            Ask::Quit => Ok(vec![self.say(who, "There is nothing to leave: this chat is always open.".to_owned())]),
        }
    }

    async fn list(&self, who: Who, query: ListQuery) -> Result<Vec<Errand>, Refused> {
        let status = query.status;
        let listing = self.desk.list(ListQuery { limit: Some(ROWS), ..query }).await?;
        let card = self.draw(who, |face| card::listing(&listing, status, face));
        Ok(vec![self.send(who, card, Note::Nothing)])
    }

    async fn recap(&self, who: Who) -> Result<Card, Refused> {
        let page = self.desk.lately().await?;
        let listing = self.desk.list(ListQuery { limit: Some(1), ..ListQuery::default() }).await?;
        Ok(self.draw(who, |face| card::recap(&page.notices, &listing.active, face)))
    }

    /// `/task ID`: its card, and its open questions once more.
    async fn show(&self, who: Who, task: &TaskRef) -> Result<Vec<Errand>, Refused> {
        let task = self.desk.get(task).await?;
        let mut errands = vec![self.send_card(who, &task).await];
        errands.extend(self.open_questions(who, &task).take(QUESTIONS_SHOWN));
        Ok(errands)
    }
}

/// A refusal that will pass by itself is for later; any other is told.
fn settle(
    done: Result<Vec<Errand>, Refused>,
    told: impl FnOnce(&Refused) -> Vec<Errand>,
) -> Result<Vec<Errand>, Later> {
    match done {
        Err(refused) if refused.code == RefusedCode::Unavailable => Err(Later(refused)),
        Err(refused) => Ok(told(&refused)),
        Ok(errands) => Ok(errands),
    }
}

#[cfg(test)]
#[path = "hands/forged.rs"]
mod forged;
#[cfg(test)]
#[path = "hands/tests.rs"]
mod tests;
