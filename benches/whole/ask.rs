//! How soon a person sees a question.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;
use expectrl::{Expect as _, Session};

use crate::Row;
use crate::world::World;
use crate::yard::median;

#[path = "../../tests/telegram/fake.rs"]
mod fake;

const ROUNDS: usize = 20;

/// From a question's arrival at the daemon until it stands on the REPL's screen.
pub(crate) fn on_the_repl() -> Result<Vec<Row>> {
    let world = World::new("ask", 3)?;
    let id = world.says(&["bg", "exec sleep 1000"])?;
    world.until("the task to run", || Ok(world.get(&format!("/background-agents/{id}"))?.contains("\"running\"")))?;
    let mut command = world.octo(&[]);
    // The terminal is put in their place.
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).env("TERM", "xterm");
    let mut repl = Session::spawn(command)?;
    repl.set_expect_timeout(Some(Duration::from_secs(20)));
    repl.expect("octo> ")?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let text = format!("Shall round {round} begin?");
        let began = Instant::now();
        world.ask(&id, &text)?;
        repl.expect(&text)?;
        times.push(began.elapsed());
        world.says(&["task", &id, "resume", "--question", &format!("q{}", round + 1), "yes"])?;
    }
    let median = median(&mut times);
    Ok(vec![Row::at_most(
        "question on the REPL",
        median,
        String::new(),
        Duration::from_millis(100),
        "<= 100 ms, median",
    )])
}

/// From a question's arrival at the daemon until its card is at the Bot API.
pub(crate) fn on_the_phone() -> Result<Vec<Row>> {
    const ANN: i64 = 4711;
    let fake = fake::Fake::start();
    fake.user(ANN, "Ann");
    let mut world = World::empty("phone", 3)?;
    world.set("TELEGRAM_BOT_TOKEN", fake::TOKEN);
    world.set("TELEGRAM_API_URL", &fake.url());
    world.set("TELEGRAM_ALLOWED_USERS", &ANN.to_string());
    world.start()?;
    let id = world.says(&["bg", "exec sleep 1000"])?;
    world.until("the task to run", || Ok(world.get(&format!("/background-agents/{id}"))?.contains("\"running\"")))?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let text = format!("Shall round {round} begin?");
        let began = Instant::now();
        world.ask(&id, &text)?;
        let came = fake.wait_for("the card", |calls| {
            calls.iter().find(|c| c.method == "sendMessage" && c.text().contains(&text)).map(|c| c.at)
        });
        times.push(came.saturating_duration_since(began));
        world.says(&["task", &id, "resume", "--question", &format!("q{}", round + 1), "yes"])?;
        // A chat gets a message a second: the next one must not wait for its turn.
        std::thread::sleep(Duration::from_millis(2100));
    }
    let median = median(&mut times);
    Ok(vec![Row::at_most(
        "question on the phone",
        median,
        String::new(),
        Duration::from_millis(300),
        "<= 300 ms, median",
    )])
}

impl World {
    /// Asks a question of a running task.
    pub(crate) fn ask(&self, id: &str, text: &str) -> Result<()> {
        let body = serde_json::json!({ "text": text, "choices": ["yes", "no"] }).to_string();
        self.post(&format!("/background-agents/{id}/questions"), &body)
    }
}
