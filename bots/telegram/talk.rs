//! Answers of the supervisor agent: one message that grows while the answer comes.
//!
//! ```text
//! book: what was said ──> a worker for each user ──say (its key)──> the daemon
//!            ▲                  │ events ──> one message, edited now and then ──> sender
//!            └── answered ──────┘
//! ```
//!
//! What was said stays in the book until its whole answer was sent, so that after a death of the daemon it is said again
//! under the same key, which makes no second message of it, and its answer comes all the same.

use std::sync::Arc;
use std::time::Duration;

use octo::client::{ChatEvent, ChatStream};
use octo::command::{ChatRequest, Refused, RefusedCode, TaskRef};
use octo::render::sanitize;
use octo::task::TaskId;
use tokio::time::Instant;

use super::book::Talk;
use super::calls::of;
use super::card::{self, Face};
use super::errand::{Errand, Note};
use super::hands::Hands;
use super::markup;
use super::post::{Post, Posted, Why};
use super::run::{Bridge, message, now};
use super::text::{MESSAGE_MAX, clean, cut, escape, seen, split, units};
use super::wait::Backoff;
use super::words;

/// How often the message is edited while an answer comes: Telegram allows a message a second in a chat, and others have
/// something to say there, too.
const EVERY: Duration = Duration::from_millis(2500);

/// How long the beginning of an answer is gathered before it is shown.
const FIRST: Duration = Duration::from_millis(700);

/// An answer of more messages than this becomes a file.
const PARTS_MAX: usize = 4;

/// Units of an unfinished answer that are shown: its end.
const SHOWN_MAX: usize = 3500;

/// Units of the line about the tool that is at work.
const TOOL_MAX: usize = 120;

impl Bridge {
    /// Sees to it that everybody who said something is answered.
    pub(super) fn answer_talks(self: &Arc<Self>) {
        let users = self.book().talkers();
        for user in users {
            if !self.talking().insert(user) {
                continue;
            }
            let bridge = Arc::clone(self);
            tokio::spawn(async move {
                let mut pauses = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
                while let Some(talk) = bridge.next_talk(user) {
                    let key = talk.key.clone();
                    if bridge.converse(talk).await {
                        bridge.book().end_talk(&key);
                        bridge.keep().await;
                        pauses.reset();
                    } else {
                        tokio::time::sleep(pauses.next()).await;
                    }
                }
            });
        }
    }

    /// What a user said next; none ends their worker, in one step with the look.
    fn next_talk(&self, user: i64) -> Option<Talk> {
        let mut talking = self.talking();
        let talk = self.book().talk(user).cloned();
        if talk.is_none() {
            talking.remove(&user);
        }
        talk
    }

    /// Says something and sends its answer; false: that is to be tried again.
    async fn converse(self: &Arc<Self>, talk: Talk) -> bool {
        let request = ChatRequest {
            text: talk.text.clone(),
            key: talk.key.clone(),
            new: talk.wish.new,
            model: talk.wish.model.clone(),
        };
        let mut screen = Screen { bridge: Arc::clone(self), message: talk.answer, talk, shown: String::new() };
        let mut answer = Answer::default();
        let ended = match of(&self.client, screen.talk.user).chat(request).await {
            Ok(stream) => self.listen(stream, &mut answer, &mut screen).await,
            Err(refused) => Err(refused),
        };
        match ended {
            Ok(()) => screen.finish(&answer.text, None).await,
            // The daemon leaves, or something else that passes.
            Err(refused) if matches!(refused.code, RefusedCode::Unavailable | RefusedCode::Storage) => return false,
            Err(refused) => screen.finish(&answer.text, Some(&refused)).await,
        }
        true
    }

    async fn listen(
        self: &Arc<Self>,
        mut stream: ChatStream,
        answer: &mut Answer,
        screen: &mut Screen,
    ) -> Result<(), Refused> {
        let mut due: Option<Instant> = None;
        loop {
            let until = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = stream.next() => match event? {
                    None => return Ok(()),
                    Some(ChatEvent::Task { id }) => self.show_task(&screen.talk, &id).await,
                    Some(event) => if answer.take(event) {
                        due = due.or_else(|| Some(Instant::now() + if screen.message.is_none() { FIRST } else { EVERY }));
                    },
                },
                () = until => {
                    screen.show(&answer.so_far(&self.hands)).await;
                    due = None;
                }
            }
        }
    }

    /// The card of a task that the agent started.
    async fn show_task(self: &Arc<Self>, talk: &Talk, id: &str) {
        let (Ok(task), Ok(started)) = (id.parse::<TaskId>(), self.client.get(&TaskRef(id.to_owned())).await) else {
            return;
        };
        let chat = talk.user;
        let errand = {
            let book = self.book();
            let Hands { seal, mask, rules, .. } = &self.hands;
            let face = Face { seal, chat, user: chat, tz: &rules.tz, now: now(), names: &book.names, mask };
            let card = card::task(&started, None, &face);
            let post = Post::Message {
                chat,
                html: card.html,
                keys: card.keys,
                reply_to: None,
                silent: true,
                force_reply: false,
            };
            Errand { post, note: Note::Card { task, ended: started.status.is_ended() } }
        };
        self.run(errand).await;
        tokio::spawn(Arc::clone(self).follow_start(task, chat));
    }
}

/// An answer as far as it came.
#[derive(Debug, Default)]
struct Answer {
    /// All of its text.
    text: String,
    /// The text since the last tool.
    piece: String,
    /// The tool that is at work.
    tool: String,
}

impl Answer {
    /// Takes an event; tells whether there is something new to show.
    fn take(&mut self, event: ChatEvent) -> bool {
        match event {
            ChatEvent::Delta(text) if text.is_empty() => return false,
            ChatEvent::Delta(text) => {
                if self.piece.is_empty() && !self.text.is_empty() {
                    self.text.push_str("\n\n");
                }
                self.text.push_str(&text);
                self.piece.push_str(&text);
                self.tool.clear();
            }
            ChatEvent::Tool { line, .. } => {
                self.piece.clear();
                self.tool = line;
            }
            ChatEvent::Again => *self = Answer::default(),
            // It has a card of its own.
            ChatEvent::Question { .. } | ChatEvent::Task { .. } => return false,
            ChatEvent::Done(text) => {
                self.tool.clear();
                if self.piece.trim().is_empty() {
                    return self.take(ChatEvent::Delta(text));
                }
            }
        }
        true
    }

    /// What is shown of an answer that has not ended.
    fn so_far<D>(&self, hands: &Hands<D>) -> String {
        let text = clean(&self.text, &hands.mask);
        let mut start = text.len().saturating_sub(SHOWN_MAX);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        let text = if start > 0 { format!("…{}", &text[start..]) } else { text };
        let mut html = markup::html(&text);
        if !self.tool.is_empty() {
            let tool = cut(&sanitize::line(&hands.mask.apply(&self.tool)), TOOL_MAX);
            html.push_str(&format!("\n<i>{}</i>", escape(&tool)));
        }
        html.trim().to_owned()
    }
}

/// The messages of one answer.
struct Screen {
    bridge: Arc<Bridge>,
    talk: Talk,
    /// The message that grows.
    message: Option<i32>,
    /// What it shows.
    shown: String,
}

impl Screen {
    /// Shows this in the message.
    async fn show(&mut self, html: &str) {
        if html.is_empty() || self.shown == html {
            return;
        }
        let chat = self.talk.user;
        if let Some(message) = self.message {
            let edit = Post::Edit { chat, message, html: html.to_owned(), keys: Vec::new() };
            match self.bridge.post(edit).await {
                // Somebody deleted it: the answer is sent anew.
                Posted::Refused(Why::Gone) => self.message = None,
                _ => {
                    html.clone_into(&mut self.shown);
                    return;
                }
            }
        }
        let reply_to = Some(self.talk.message).filter(|m| *m != 0);
        let (html, keys) = (html.to_owned(), Vec::new());
        let post = Post::Message { chat, html: html.clone(), keys, reply_to, silent: false, force_reply: false };
        if let Posted::Sent(message) = self.bridge.post(post).await {
            self.message = Some(message);
            self.bridge.book().set_answer(&self.talk.key, message);
            self.bridge.keep().await;
        }
        self.shown = html;
    }

    /// Sends the whole answer, and why it goes no further, if it does not.
    async fn finish(mut self, text: &str, refused: Option<&Refused>) {
        let whole = clean(text, &self.bridge.hands.mask);
        let mut html = markup::html(&whole);
        if let Some(refused) = refused {
            let why = self.bridge.hands.mask.apply(&words::refusal(refused));
            html = format!("{html}\n\n{why}").trim().to_owned();
        }
        if html.is_empty() {
            "(no answer)".clone_into(&mut html);
        }
        let mut parts = split(&html, MESSAGE_MAX).into_iter();
        let chat = self.talk.user;
        if parts.len() <= PARTS_MAX {
            self.show(&parts.next().unwrap_or_default()).await;
            for part in parts {
                self.bridge.post(message(chat, part)).await;
            }
            return;
        }
        const REMARK: &str = "\n<i>… the whole answer is in the file</i>";
        let beginning = split(&html, MESSAGE_MAX - units(&seen(REMARK))).swap_remove(0);
        self.show(&(beginning + REMARK)).await;
        let name = "answer.md".to_owned();
        let document = Post::Document { chat, name, bytes: whole.into_bytes(), caption: "The whole answer".to_owned() };
        self.bridge.post(document).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_gathered_from_its_pieces() {
        let mut answer = Answer::default();
        let delta = |text: &str| ChatEvent::Delta(text.to_owned());
        assert!(!answer.take(delta("")));
        assert!(answer.take(delta("I look")) && answer.take(delta(" at it.")));
        assert!(answer.take(ChatEvent::Tool { name: "shell".to_owned(), line: "shell: ls".to_owned() }));
        assert_eq!((answer.text.as_str(), answer.tool.as_str()), ("I look at it.", "shell: ls"));
        assert!(answer.take(ChatEvent::Done("All is well.".to_owned())));
        assert_eq!((answer.text.as_str(), answer.tool.as_str()), ("I look at it.\n\nAll is well.", ""));
        answer.take(ChatEvent::Again);
        assert!(answer.take(delta("Once more.")));
        answer.take(ChatEvent::Done("Once more.".to_owned()));
        assert_eq!(answer.text, "Once more.");
    }
}
