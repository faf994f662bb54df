//! A phone at the other end: the whole daemon, with a Bot API server on loopback.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

#[path = "phone/canary.rs"]
mod canary;
#[path = "phone/chat.rs"]
mod chat;
#[path = "phone/commands.rs"]
mod commands;
#[path = "telegram/fake.rs"]
mod fake;
mod harness;
#[path = "phone/questions.rs"]
mod questions;
#[path = "phone/soak.rs"]
mod soak;

use std::path::PathBuf;

use fake::{Call, Fake, TOKEN};
use harness::World;

/// The one user whom the daemon of a [`Phone`] listens to.
pub(crate) const ANN: i64 = 4711;

/// A daemon with a bot, and its owner's phone.
pub(crate) struct Phone {
    pub(crate) world: World,
    /// After the world: it lets go of polls when the daemon is gone.
    pub(crate) fake: Fake,
}

impl Phone {
    /// A daemon that runs and polls.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Phone {
        let phone = Phone::off(settings);
        phone.world.start();
        phone.polled();
        phone
    }

    /// The same, not started yet.
    pub(crate) fn off(settings: &[(&str, &str)]) -> Phone {
        let fake = Fake::start();
        fake.user(ANN, "Ann");
        let (url, ann) = (fake.url(), ANN.to_string());
        let mut env =
            vec![("TELEGRAM_BOT_TOKEN", TOKEN), ("TELEGRAM_API_URL", &url[..]), ("TELEGRAM_ALLOWED_USERS", &ann[..])];
        env.retain(|(name, _)| !settings.iter().any(|(set, _)| set == name));
        env.extend(settings);
        Phone { world: World::with(&env), fake }
    }

    /// Waits until the daemon asks for updates.
    pub(crate) fn polled(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.fake.polled(1));
    }

    /// Waits for a message to Ann that holds `text`; returns its number and text.
    pub(crate) fn message(&self, text: &str) -> (i32, String) {
        self.message_after(0, text)
    }

    /// As [`Phone::message`], among the calls from the `from`th on.
    pub(crate) fn message_after(&self, from: usize, text: &str) -> (i32, String) {
        self.fake.wait_for(text, |calls| {
            let fits = |c: &&Call| c.method == "sendMessage" && c.done && c.status == 200 && c.text().contains(text);
            let call = calls.iter().skip(from).find(fits)?;
            let number = call.answer["result"]["message_id"].as_i64()?;
            Some((i32::try_from(number).ok()?, call.text().to_owned()))
        })
    }

    /// Waits until a message shows `text`, after an edit or not.
    pub(crate) fn shows(&self, message: i32, text: &str) -> String {
        let shown = || self.fake.message(ANN, message).and_then(|m| m["text"].as_str().map(str::to_owned));
        harness::wait_for(text, || shown().is_some_and(|now| now.contains(text)));
        shown().unwrap()
    }

    /// How many calls there were so far.
    pub(crate) fn mark(&self) -> usize {
        self.fake.calls().len()
    }

    /// `octo` as a task finds it.
    pub(crate) fn octo_inside(&self) -> String {
        let link = self.world.octo_dir().join("bin").join("claude");
        std::fs::read_link(link).unwrap_or_else(|_| PathBuf::from("octo")).display().to_string()
    }
}
