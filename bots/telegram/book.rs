//! What the bridge remembers: `.octo/bots/telegram.json`. Losing it costs comfort, never a promise: what is owed is in
//! the records, and a reply finds its question by the sealed buttons of the message as well.
//!
//! Everything in it is bounded. Fields of other versions are kept.

use std::collections::BTreeMap;

use octo::task::{NoticeKind, Stamp, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Cards of ended tasks that are remembered.
const ENDED_CARDS_MAX: usize = 500;
/// Cards in all.
const CARDS_MAX: usize = 5_000;
/// Messages with a question that are remembered.
const ASKED_MAX: usize = 2_000;
/// Messages for the agent that are not answered yet: more are not taken.
const TALKS_MAX: usize = 200;
/// Commands that wait for a tap.
const PENDING_MAX: usize = 200;
/// How long such a command waits, in milliseconds.
pub(crate) const PENDING_LIFE: i64 = 24 * 3600 * 1000;
/// Notices that wait for the end of quiet hours.
const HELD_MAX: usize = 2_000;
/// Intents that are remembered: more than an inbox holds.
const INTENTS_MAX: usize = 500;
/// Names of people.
const NAMES_MAX: usize = 200;

/// A user who was let in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Paired {
    /// The user's number.
    pub(crate) id: i64,
    /// The name that the user went by then.
    #[serde(default)]
    pub(crate) name: String,
    /// When.
    #[serde(default)]
    pub(crate) at: Stamp,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A task's card in a chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CardAt {
    /// The task.
    pub(crate) task: TaskId,
    /// The chat.
    pub(crate) chat: i64,
    /// The message.
    pub(crate) message: i32,
    /// The task had ended when it was last shown.
    #[serde(default)]
    pub(crate) ended: bool,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A message that asks a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskedAt {
    /// The chat.
    pub(crate) chat: i64,
    /// The message.
    pub(crate) message: i32,
    /// The task.
    pub(crate) task: TaskId,
    /// The question's id.
    pub(crate) question: String,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// What becomes of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Work {
    /// It is run as a shell command.
    #[default]
    Command,
    /// An agent gets it as its job.
    Agent {
        /// The agent of the team; empty: its root.
        #[serde(default)]
        agent: String,
        /// The model; empty: the agent's own.
        #[serde(default)]
        model: String,
    },
    /// An agent goes on with it from an ended task's result.
    Followup {
        /// The task.
        task: TaskId,
    },
    /// It is said to the supervisor agent.
    Say,
}

fn is_command(work: &Work) -> bool {
    *work == Work::Command
}

/// What a user wants of the conversation from the next words on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    /// A new one.
    pub(crate) new: bool,
    /// This model; empty: as before.
    pub(crate) model: String,
}

/// Something that a user said to the supervisor agent, and that is not answered to its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Talk {
    /// The key under which it is said, once.
    pub(crate) key: String,
    /// Who said it.
    pub(crate) user: i64,
    /// The message that said it.
    pub(crate) message: i32,
    /// What was said.
    pub(crate) text: String,
    /// What it changes of the conversation.
    #[serde(default)]
    pub(crate) wish: Wish,
    /// The message that shows the answer as it comes, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<i32>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Talk {
    /// Something that was said.
    pub(crate) fn new(key: String, user: i64, message: i32, text: String) -> Self {
        Talk { key, user, message, text, ..Talk::default() }
    }
}

/// A command that waits for a tap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The update that it came with: what its buttons carry.
    pub(crate) update: u32,
    /// The key under which it is started, whoever taps how often.
    pub(crate) key: String,
    /// Who may tap.
    pub(crate) user: i64,
    /// The command, or the words for an agent.
    pub(crate) command: String,
    /// What is to become of it.
    #[serde(default, skip_serializing_if = "is_command")]
    pub(crate) work: Work,
    /// When it was asked for.
    #[serde(default)]
    pub(crate) at: Stamp,
    /// The task that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskId>,
    /// It was dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dropped: bool,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A chat that cannot be reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unreachable {
    /// The chat.
    pub(crate) chat: i64,
    /// Why, in Telegram's words.
    #[serde(default)]
    pub(crate) why: String,
    /// Since when.
    #[serde(default)]
    pub(crate) since: Stamp,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A notice that waits for the end of quiet hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The task.
    pub(crate) task: TaskId,
    /// The notice's number.
    pub(crate) seq: u64,
    /// What it tells.
    pub(crate) kind: NoticeKind,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A change that was about to be asked for when the book was last saved: the same update, applied once more after a
/// crash, changes nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The update's key.
    pub(crate) key: String,
    /// The run that it is about; 0: it is about no run.
    #[serde(default)]
    pub(crate) run: u32,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// The book.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Book {
    /// The bot's user name, once Telegram told it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) bot_name: String,
    /// The users who were let in by pairing.
    pub(crate) users: Vec<Paired>,
    /// The names that people went by when they were last heard.
    pub(crate) names: BTreeMap<i64, String>,
    /// Which message is which task's card; the newest last.
    cards: Vec<CardAt>,
    /// Which message asks which question; the newest last.
    asked: Vec<AskedAt>,
    /// Commands that wait for a tap; the newest last.
    pending: Vec<Pending>,
    /// Chats that cannot be reached.
    unreachable: Vec<Unreachable>,
    /// Notices that wait for the end of quiet hours; the oldest first.
    held: Vec<Held>,
    /// How many more there were than fit.
    held_more: u64,
    intents: Vec<Intent>,
    /// What was said to the agent and is not answered yet; the oldest first.
    talks: Vec<Talk>,
    /// What users want of their conversations.
    wishes: BTreeMap<i64, Wish>,
    /// The newest update that was received.
    pub(crate) newest_update: Option<u32>,
    /// When updates were last asked for.
    pub(crate) polled_at: Stamp,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// Drops the oldest entries beyond a number.
fn bound<T>(entries: &mut Vec<T>, most: usize) {
    let over = entries.len().saturating_sub(most);
    entries.drain(..over);
}

impl Book {
    /// Reads a book, as a start does.
    #[cfg(test)]
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }

    /// The book as it is saved.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Maps with whole numbers and texts as keys: nothing here can fail to be JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Lets a user in, from now on.
    pub(crate) fn pair(&mut self, id: i64, name: &str, now: i64) {
        self.users.retain(|u| u.id != id);
        self.users.push(Paired { id, name: name.to_owned(), at: Stamp::from_millis(now), extra: Map::new() });
        self.learn_name(id, name);
    }

    /// Learns what an allowed user is called.
    pub(crate) fn learn_name(&mut self, id: i64, name: &str) {
        if self.names.get(&id).is_some_and(|known| known == name) || name.is_empty() {
            return;
        }
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&id) {
            self.names.pop_first();
        }
        self.names.insert(id, name.to_owned());
    }

    /// A message became a task's card. Returns the one that it takes the place of.
    pub(crate) fn set_card(&mut self, task: TaskId, chat: i64, message: i32, ended: bool) -> Option<i32> {
        let old = self.cards.iter().position(|c| c.task == task && c.chat == chat).map(|at| self.cards.remove(at));
        self.cards.push(CardAt { task, chat, message, ended, extra: Map::new() });
        let mut over = self.cards.iter().filter(|c| c.ended).count().saturating_sub(ENDED_CARDS_MAX);
        self.cards.retain(|c| {
            let drop = c.ended && over > 0;
            over -= usize::from(drop);
            !drop
        });
        bound(&mut self.cards, CARDS_MAX);
        old.map(|c| c.message).filter(|old| *old != message)
    }

    /// A card is gone.
    pub(crate) fn forget_card(&mut self, chat: i64, message: i32) {
        self.cards.retain(|c| (c.chat, c.message) != (chat, message));
    }

    /// A task's card in a chat.
    pub(crate) fn card(&self, task: TaskId, chat: i64) -> Option<&CardAt> {
        self.cards.iter().rev().find(|c| c.task == task && c.chat == chat)
    }

    /// The task whose card a message is.
    pub(crate) fn task_of(&self, chat: i64, message: i32) -> Option<TaskId> {
        self.cards.iter().rev().find(|c| (c.chat, c.message) == (chat, message)).map(|c| c.task)
    }

    /// A message asks a question.
    pub(crate) fn set_asked(&mut self, chat: i64, message: i32, task: TaskId, question: &str) {
        self.asked.retain(|a| (a.chat, a.message) != (chat, message));
        self.asked.push(AskedAt { chat, message, task, question: question.to_owned(), extra: Map::new() });
        bound(&mut self.asked, ASKED_MAX);
    }

    /// The question that a message asks.
    pub(crate) fn asked(&self, chat: i64, message: i32) -> Option<(TaskId, String)> {
        let asked = self.asked.iter().rev().find(|a| (a.chat, a.message) == (chat, message))?;
        Some((asked.task, asked.question.clone()))
    }

    /// The messages of all chats that ask a question.
    pub(crate) fn messages_of(&self, task: TaskId, question: &str) -> Vec<(i64, i32)> {
        let asks = |a: &&AskedAt| a.task == task && a.question == question;
        self.asked.iter().filter(asks).map(|a| (a.chat, a.message)).collect()
    }

    /// A command waits for a tap; the same update again is the same command.
    pub(crate) fn set_pending(&mut self, update: u32, key: &str, user: i64, command: &str, work: Work, now: i64) {
        self.pending.retain(|p| now - p.at.millis().unwrap_or(0) < PENDING_LIFE);
        if self.pending.iter().any(|p| p.key == key) {
            return;
        }
        self.pending.push(Pending {
            update,
            key: key.to_owned(),
            user,
            command: command.to_owned(),
            work,
            at: Stamp::from_millis(now),
            ..Pending::default()
        });
        bound(&mut self.pending, PENDING_MAX);
    }

    /// The command that a user's update brought, while it counts.
    pub(crate) fn pending(&mut self, update: u32, user: i64, now: i64) -> Option<&mut Pending> {
        let counts = |p: &&mut Pending| {
            let age = now - p.at.millis().unwrap_or(0);
            p.update == update && p.user == user && age < PENDING_LIFE
        };
        self.pending.iter_mut().rev().find(counts)
    }

    /// Somebody said something to the agent, with what was wished before; the same key again is the same. False: there
    /// are too many already.
    pub(crate) fn begin_talk(&mut self, mut talk: Talk) -> bool {
        if self.talks.iter().any(|t| t.key == talk.key) {
            return true;
        }
        if self.talks.len() >= TALKS_MAX {
            return false;
        }
        talk.wish = self.wishes.remove(&talk.user).unwrap_or_default();
        self.talks.push(talk);
        true
    }

    /// What a user said first of what is not answered yet.
    pub(crate) fn talk(&self, user: i64) -> Option<&Talk> {
        self.talks.iter().find(|t| t.user == user)
    }

    /// Those who wait for an answer.
    pub(crate) fn talkers(&self) -> Vec<i64> {
        let mut users: Vec<i64> = self.talks.iter().map(|t| t.user).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Where the answer is being shown.
    pub(crate) fn set_answer(&mut self, key: &str, message: i32) {
        if let Some(talk) = self.talks.iter_mut().find(|t| t.key == key) {
            talk.answer = Some(message);
        }
    }

    /// It was answered.
    pub(crate) fn end_talk(&mut self, key: &str) {
        self.talks.retain(|t| t.key != key);
    }

    /// What a user wants of the conversation from the next words on.
    pub(crate) fn wish(&mut self, user: i64) -> &mut Wish {
        if self.wishes.len() >= NAMES_MAX && !self.wishes.contains_key(&user) {
            self.wishes.pop_first();
        }
        self.wishes.entry(user).or_default()
    }

    /// A chat cannot be reached.
    pub(crate) fn set_unreachable(&mut self, chat: i64, why: &str, now: i64) {
        if !self.unreachable.iter().any(|u| u.chat == chat) {
            let since = Stamp::from_millis(now);
            self.unreachable.push(Unreachable { chat, why: why.to_owned(), since, extra: Map::new() });
            bound(&mut self.unreachable, NAMES_MAX);
        }
    }

    /// A chat can be reached again; tells whether it could not before.
    pub(crate) fn set_reachable(&mut self, chat: i64) -> bool {
        let before = self.unreachable.len();
        self.unreachable.retain(|u| u.chat != chat);
        self.unreachable.len() < before
    }

    /// The chats that cannot be reached.
    pub(crate) fn unreachable(&self) -> &[Unreachable] {
        &self.unreachable
    }

    /// A notice waits for the end of quiet hours; the same one again is the same.
    pub(crate) fn hold(&mut self, task: TaskId, seq: u64, kind: NoticeKind) {
        if self.held.iter().any(|h| (h.task, h.seq) == (task, seq)) {
            return;
        }
        self.held.push(Held { task, seq, kind, extra: Map::new() });
        let over = self.held.len().saturating_sub(HELD_MAX);
        self.held_more += over as u64;
        bound(&mut self.held, HELD_MAX);
    }

    /// The notices that wait, oldest first, and how many older ones there were.
    pub(crate) fn held(&self) -> (&[Held], u64) {
        (&self.held, self.held_more)
    }

    /// What waited was told.
    pub(crate) fn forget_held(&mut self) {
        self.held.clear();
        self.held_more = 0;
    }

    /// What this update was about to do to a run, if that was saved before.
    pub(crate) fn intent(&self, key: &str) -> Option<u32> {
        self.intents.iter().find(|i| i.key == key).map(|i| i.run)
    }

    /// This update is about to change a run (0: something else).
    pub(crate) fn set_intent(&mut self, key: &str, run: u32) {
        self.intents.retain(|i| i.key != key);
        self.intents.push(Intent { key: key.to_owned(), run, extra: Map::new() });
        bound(&mut self.intents, INTENTS_MAX);
    }
}

#[cfg(test)]
#[path = "book/tests.rs"]
mod tests;
