//! A post, and what the book notes once it is done.

use octo::task::TaskId;

use super::book::Book;
use super::post::{Post, Posted};

/// What a message is, so that a later tap or reply is understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Note {
    /// Nothing that is remembered.
    #[default]
    Nothing,
    /// The card of a task.
    Card {
        /// The task.
        task: TaskId,
        /// It has ended.
        ended: bool,
    },
    /// A question.
    Question {
        /// The task.
        task: TaskId,
        /// The question's id.
        question: String,
    },
}

/// Something to do at the Bot API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Errand {
    /// What.
    pub(crate) post: Post,
    /// What is noted when it is done.
    pub(crate) note: Note,
}

impl From<Post> for Errand {
    fn from(post: Post) -> Self {
        Errand { post, note: Note::Nothing }
    }
}

impl Errand {
    /// The chat that it is for; `None` for the answer to a tap.
    pub(crate) fn chat(&self) -> Option<i64> {
        match &self.post {
            Post::Message { chat, .. }
            | Post::Edit { chat, .. }
            | Post::Delete { chat, .. }
            | Post::Document { chat, .. } => Some(*chat),
            Post::Toast { .. } => None,
        }
    }

    /// Notes what became of it. Returns what is still to be done: the card that this one takes the place of goes.
    pub(crate) fn done(&self, posted: &Posted, book: &mut Book) -> Option<Post> {
        let (chat, message) = match (&self.post, posted) {
            (Post::Message { chat, .. }, Posted::Sent(message)) => (*chat, *message),
            (Post::Edit { chat, message, .. }, Posted::Done | Posted::Sent(_)) => (*chat, *message),
            _ => return None,
        };
        match &self.note {
            Note::Nothing => None,
            Note::Card { task, ended } => {
                if book.card(*task, chat).is_some_and(|newest| newest.message > message) {
                    // A newer card came while this one was being changed.
                    return Some(Post::Delete { chat, message });
                }
                let old = book.set_card(*task, chat, message, *ended)?;
                Some(Post::Delete { chat, message: old })
            }
            Note::Question { task, question } => {
                book.set_asked(chat, message, *task, question);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::post::Why;

    #[test]
    fn what_was_sent_is_noted_and_the_older_card_goes() {
        let mut book = Book::default();
        let task: TaskId = "c4b1e09a".parse().unwrap();
        let message = Post::Message {
            chat: 1,
            html: "x".to_owned(),
            keys: vec![],
            reply_to: None,
            silent: false,
            force_reply: false,
        };
        let card = Errand { post: message.clone(), note: Note::Card { task, ended: false } };
        assert_eq!(card.done(&Posted::Refused(Why::Gone), &mut book), None);
        assert_eq!(book.task_of(1, 5), None);
        assert_eq!(card.done(&Posted::Sent(5), &mut book), None);
        assert_eq!(card.done(&Posted::Sent(5), &mut book), None);
        assert_eq!(card.done(&Posted::Sent(6), &mut book), Some(Post::Delete { chat: 1, message: 5 }));
        let edit = |message| Errand {
            post: Post::Edit { chat: 1, message, html: "x".to_owned(), keys: vec![] },
            note: Note::Card { task, ended: false },
        };
        assert_eq!(edit(5).done(&Posted::Done, &mut book), Some(Post::Delete { chat: 1, message: 5 }), "it is late");
        assert_eq!(book.task_of(1, 6), Some(task));
        assert_eq!(edit(9).done(&Posted::Done, &mut book), Some(Post::Delete { chat: 1, message: 6 }));
        let asks = Errand { post: message, note: Note::Question { task, question: "q1".to_owned() } };
        assert_eq!(asks.done(&Posted::Sent(7), &mut book), None);
        assert_eq!(book.asked(1, 7), Some((task, "q1".to_owned())));
    }
}
