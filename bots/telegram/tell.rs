//! What becomes of the notices that are owed: which messages tell them, and when.
//!
//! ```text
//! loop:  owed ──Load──> each notice ──tell──> Now(errands): do them, then receipts
//!                                        └──> Hold(errands): into the book, save it, do them, then receipts
//!        nothing more is owed, and it is not quiet: digest of what is held, then forget it
//! ```
//!
//! Telling a notice twice does little harm: a question that a chat has is not sent to it again, a task's new card takes
//! the place of the old one, and an edit is an edit.

use jiff::tz::TimeZone;
use octo::command::{NoticeItem, Owed};
use octo::config::QuietHours;
use octo::task::{Closed, NoticeKind, Question, Task, TaskId};

use super::book::Book;
use super::card::{self, Card, DIGEST_ROWS, Face};
use super::errand::{Errand, Note};
use super::mask::Mask;
use super::post::Post;
use super::quiet::{self, When};
use super::seal::Seal;

/// More notices than this at a time become one message.
const BURST: usize = 20;

/// How much there is to tell at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// Too many notices for a message each.
    pub(crate) many: bool,
    /// Too many questions, too.
    pub(crate) many_questions: bool,
}

impl Load {
    /// The load of a page.
    pub(crate) fn of(owed: &Owed) -> Self {
        let asks = |i: &&NoticeItem| matches!(i.notice.kind, NoticeKind::Question | NoticeKind::Reminder);
        Load {
            many: owed.total.max(owed.notices.len()) > BURST,
            many_questions: owed.notices.iter().filter(asks).count() > BURST,
        }
    }
}

/// What is done with a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Telling {
    /// These errands, now; none when there is nothing left to tell.
    Now(Vec<Errand>),
    /// It waits in the book for the next digest; these errands, which make no sound, now.
    Hold(Vec<Errand>),
}

/// Who is told, and how it is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teller<'a> {
    /// The chats that are told: those of the allowed users who can be reached.
    pub(crate) chats: &'a [i64],
    /// Seals buttons.
    pub(crate) seal: &'a Seal,
    /// What must not be shown.
    pub(crate) mask: &'a Mask,
    /// The readers' time zone.
    pub(crate) tz: &'a TimeZone,
    /// The quiet hours.
    pub(crate) quiet: Option<QuietHours>,
    /// Now, in milliseconds since 1970.
    pub(crate) now: i64,
}

impl Teller<'_> {
    fn face<'a>(&'a self, chat: i64, book: &'a Book) -> Face<'a> {
        let names = &book.names;
        Face { seal: self.seal, chat, user: chat, tz: self.tz, now: self.now, names, mask: self.mask }
    }

    /// What is done with a notice.
    pub(crate) fn tell(&self, item: &NoticeItem, load: Load, book: &Book) -> Telling {
        let (kind, task) = (item.notice.kind, &item.task);
        let when = quiet::when(self.quiet, self.tz, self.now, kind);
        let silent = when == When::Silently;
        let question = task.questions.iter().find(|q| q.id == item.notice.question);
        match kind {
            NoticeKind::Question | NoticeKind::Reminder => {
                // One that is closed meanwhile has a notice of that.
                let Some(question) = question.filter(|q| q.open) else { return Telling::Now(Vec::new()) };
                if load.many_questions {
                    return Telling::Hold(Vec::new());
                }
                let again = kind == NoticeKind::Reminder;
                Telling::Now(self.each(|chat| self.ask(chat, task, question, again, silent, book)))
            }
            NoticeKind::Closed => {
                let Some(question) = question else { return Telling::Now(Vec::new()) };
                Telling::Now(self.each(|chat| self.close(chat, task, question, book)))
            }
            NoticeKind::Budget => Telling::Now(self.each(|chat| {
                let card = card::budget(item, &self.face(chat, book));
                vec![self.message(chat, card, None, silent, Note::Nothing)]
            })),
            NoticeKind::Completed
            | NoticeKind::Failed
            | NoticeKind::Cancelled
            | NoticeKind::BudgetExceeded
            | NoticeKind::Interrupted => {
                let mut errands = self.each(|chat| self.close_all(chat, item, book));
                if load.many || matches!(when, When::At(_)) {
                    return Telling::Hold(errands);
                }
                errands.extend(self.each(|chat| vec![self.end(chat, item, book)]));
                Telling::Now(errands)
            }
        }
    }

    fn each(&self, errands: impl Fn(i64) -> Vec<Errand>) -> Vec<Errand> {
        self.chats.iter().flat_map(|chat| errands(*chat)).collect()
    }

    fn message(&self, chat: i64, card: Card, reply_to: Option<i32>, silent: bool, note: Note) -> Errand {
        // A reply field would open by itself with `force_reply`, but such a message cannot be edited any more.
        let post = Post::Message { chat, html: card.html, keys: card.keys, reply_to, silent, force_reply: false };
        Errand { post, note }
    }

    fn ask(&self, chat: i64, task: &Task, q: &Question, again: bool, silent: bool, book: &Book) -> Vec<Errand> {
        let known = in_chat(book, chat, task.id, &q.id);
        let face = self.face(chat, book);
        let note = Note::Question { task: task.id, question: q.id.clone() };
        match known.last().copied() {
            Some(_) if !again => Vec::new(),
            Some(first) => {
                vec![self.message(chat, card::still_asks(task, q, &face), Some(first), silent, note)]
            }
            None => {
                let below = book.card(task.id, chat).map(|c| c.message);
                vec![self.message(chat, card::asks(task, q, again, &face), below, silent, note)]
            }
        }
    }

    /// The cards of a question, with what became of it.
    fn edits(&self, chat: i64, task: &Task, question: &Question, book: &Book) -> Vec<Errand> {
        let closed = card::asks(task, question, false, &self.face(chat, book));
        let messages = in_chat(book, chat, task.id, &question.id).into_iter();
        messages.map(|message| edit(chat, message, closed.clone()).into()).collect()
    }

    /// The questions that the end of the run closed have no notices of their own.
    fn close_all(&self, chat: i64, item: &NoticeItem, book: &Book) -> Vec<Errand> {
        /// The end and its notice are of one save.
        const SAME: i64 = 5_000;
        let ended = item.notice.at.millis().unwrap_or(0);
        let with_it = |q: &&Question| {
            q.closed == Some(Closed::TaskEnded) && q.closed_at.millis().is_some_and(|at| (at - ended).abs() <= SAME)
        };
        let closed = item.task.questions.iter().filter(with_it);
        closed.flat_map(|question| self.edits(chat, &item.task, question, book)).collect()
    }

    /// The cards of a question say what became of it, and the task's card that it goes on.
    fn close(&self, chat: i64, task: &Task, question: &Question, book: &Book) -> Vec<Errand> {
        let face = self.face(chat, book);
        let mut errands = self.edits(chat, task, question, book);
        // The end of a task draws its card anew.
        if let Some(at) = book.card(task.id, chat).filter(|_| !task.status.is_ended()) {
            let note = Note::Card { task: task.id, ended: false };
            errands.push(Errand { post: edit(chat, at.message, card::task(task, None, &face)), note });
        }
        errands
    }

    /// An end: the task's card comes anew, at the end of the chat and with sound. An end that a retry left behind is
    /// told in a line.
    fn end(&self, chat: i64, item: &NoticeItem, book: &Book) -> Errand {
        let (task, kind) = (&item.task, item.notice.kind);
        let face = self.face(chat, book);
        if NoticeKind::of_end(task.status) == Some(kind) {
            let note = Note::Card { task: task.id, ended: true };
            return self.message(chat, card::task(task, None, &face), None, false, note);
        }
        let card = card::digest("Before its retry:", &[kind], std::slice::from_ref(item), 0, &face);
        self.message(chat, card, None, false, Note::Nothing)
    }

    /// The tasks whose records the digest of what is held needs, with the numbers of their notices: the newest.
    pub(crate) fn wanted(book: &Book) -> Vec<(TaskId, u64)> {
        let (held, _) = book.held();
        held[held.len().saturating_sub(DIGEST_ROWS)..].iter().map(|h| (h.task, h.seq)).collect()
    }

    /// The digest of what is held; none while it is quiet, or when nothing is held. `newest`: the records that
    /// [`Teller::wanted`] named and that are still there, with their notices.
    pub(crate) fn digest(&self, newest: &[NoticeItem], book: &Book) -> Vec<Errand> {
        let (held, more) = book.held();
        if held.is_empty() || self.quiet_until().is_some() {
            return Vec::new();
        }
        let kinds: Vec<NoticeKind> = held.iter().map(|h| h.kind).collect();
        let heading = if self.quiet.is_some() { "While it was quiet:" } else { "Lately:" };
        self.each(|chat| {
            let card = card::digest(heading, &kinds, newest, more, &self.face(chat, book));
            vec![self.message(chat, card, None, false, Note::Nothing)]
        })
    }

    /// Until when it is quiet; `None` when it is not.
    pub(crate) fn quiet_until(&self) -> Option<i64> {
        quiet::end(self.quiet?, self.tz, self.now)
    }
}

fn edit(chat: i64, message: i32, card: Card) -> Post {
    Post::Edit { chat, message, html: card.html, keys: card.keys }
}

/// The notice of this number, with its task; `None` when it is not there any more.
pub(crate) fn item_of(task: Task, seq: u64) -> Option<NoticeItem> {
    let notice = task.notices.iter().find(|n| n.seq == seq)?.clone();
    Some(NoticeItem { notice, task })
}

/// The messages of a chat that ask a question, oldest first.
fn in_chat(book: &Book, chat: i64, task: TaskId, question: &str) -> Vec<i32> {
    book.messages_of(task, question).into_iter().filter(|(c, _)| *c == chat).map(|(_, message)| message).collect()
}

#[cfg(test)]
#[path = "tell/tests.rs"]
mod tests;
