//! Hands on a bench: what is heard, and the errands that follow from it.

use std::sync::atomic::{AtomicUsize, Ordering};

use octo::task::{Closed, Stamp, Status, Step, TaskId};

use super::*;
use crate::telegram::card::tests::{NOW, a_task, answered, permission, question, seal};
use crate::telegram::gate::tests::{ANN, BOT};
use crate::telegram::gate::{Replied, Tap};
use crate::telegram::post::{Key, Posted};
use crate::telegram::seal::{Button, What};
use crate::telegram::text::tests::balanced;
use crate::telegram::text::{MESSAGE_MAX, seen, units};

#[path = "tests/agents.rs"]
mod agents;
#[path = "tests/answers.rs"]
mod answers;
#[path = "tests/fake.rs"]
mod fake;
#[path = "tests/looks.rs"]
mod looks;
#[path = "tests/runs.rs"]
mod runs;

pub(crate) use fake::Fake;

/// Hands with a fake daemon, and a file for the book in memory.
pub(crate) struct Bench {
    pub(crate) hands: Hands<Fake>,
    pub(crate) fake: Fake,
    saves: Arc<AtomicUsize>,
}

pub(crate) fn bench(run: TelegramRun, tasks: Vec<Task>) -> Bench {
    let fake = Fake::default();
    fake.world().tasks = tasks;
    let saves = Arc::new(AtomicUsize::new(0));
    let count = saves.clone();
    let hands = Hands {
        desk: fake.clone(),
        rules: Rules { bot: BOT, name: "octo_bot".to_owned(), run, tz: TimeZone::UTC },
        seal: seal(),
        mask: Mask::new(["hunter2-hunter2"]),
        book: Arc::default(),
        keep: Arc::new(move |bytes| {
            Book::read(&bytes).map(drop)?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }),
        clock: || NOW,
    };
    Bench { hands, fake, saves }
}

pub(crate) fn text(said: &str) -> Text {
    Text {
        user: ANN,
        name: "Ann".to_owned(),
        chat: ANN,
        message: 50,
        text: said.to_owned(),
        reply: None,
        at: NOW / 1000 - 5,
    }
}

pub(crate) fn tap_of(data: &str) -> Tap {
    Tap { user: ANN, chat: ANN, message: 60, callback: "cb".to_owned(), data: data.to_owned() }
}

impl Bench {
    /// Says something; the errands are sound.
    async fn hear(&self, heard: Heard, update: u32) -> Result<Vec<Errand>, Later> {
        let errands = self.hands.hear(heard, update).await?;
        for errand in &errands {
            let (chat, html, most) = match &errand.post {
                Post::Message { chat, html, .. } | Post::Edit { chat, html, .. } => (*chat, html.as_str(), MESSAGE_MAX),
                Post::Document { chat, caption, .. } => (*chat, caption.as_str(), 1024),
                Post::Toast { text, .. } => (ANN, text.as_str(), 200),
                Post::Delete { chat, .. } => (*chat, "x", 1),
            };
            assert_eq!(chat, ANN);
            assert!(balanced(html) && units(&seen(html)) <= most, "{html}");
        }
        Ok(errands)
    }

    async fn say(&self, said: &str, update: u32) -> Vec<Errand> {
        self.hear(Heard::Text(text(said)), update).await.unwrap()
    }

    async fn reply(&self, said: &str, message: i32, data: &[String], update: u32) -> Vec<Errand> {
        let reply = Replied { message, own: true, data: data.to_vec() };
        self.hear(Heard::Text(Text { reply: Some(reply), ..text(said) }), update).await.unwrap()
    }

    async fn tap(&self, button: &Button, update: u32) -> Vec<Errand> {
        let data = seal().close(ANN, ANN, button).unwrap();
        self.hear(Heard::Tap(tap_of(&data)), update).await.unwrap()
    }

    fn note(&self, errand: &Errand, message: i32) -> Option<Post> {
        let posted = if matches!(errand.post, Post::Message { .. }) { Posted::Sent(message) } else { Posted::Done };
        errand.done(&posted, &mut self.hands.book())
    }
}

/// What an errand shows: its text, or its toast.
fn shows(errand: &Errand) -> String {
    match &errand.post {
        Post::Message { html, .. } | Post::Edit { html, .. } => seen(html),
        Post::Document { caption, .. } => seen(caption),
        Post::Toast { text, .. } => text.clone(),
        Post::Delete { .. } => String::new(),
    }
}

fn keys(errand: &Errand) -> Vec<Key> {
    match &errand.post {
        Post::Message { keys, .. } | Post::Edit { keys, .. } => keys.concat(),
        _ => Vec::new(),
    }
}

fn data(errand: &Errand) -> Vec<String> {
    keys(errand).into_iter().map(|k| k.data).collect()
}

fn button(errand: &Errand, label: &str) -> Button {
    let key = keys(errand).into_iter().find(|k| k.text == label).unwrap_or_else(|| panic!("no {label}: {errand:?}"));
    seal().open(ANN, ANN, &key.data).unwrap()
}

fn id(number: u64) -> TaskId {
    a_task(number, Status::Running).id
}

fn of_task(number: u64, what: What) -> Button {
    Button::Task(id(number), what)
}

/// The bridge runs in a task of its own.
#[test]
fn hearing_can_be_spawned() {
    fn sent<T: Send>(_: T) {}
    fn check(hands: &Hands<octo::client::Client>) {
        sent(hands.hear(Heard::Nothing("x"), 1));
    }
    let _ = check;
}

/// What the hands' clock says.
pub(crate) fn now() -> i64 {
    NOW
}
