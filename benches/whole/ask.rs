//! How soon a person sees a question.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use expectrl::{Expect as _, Session};

use crate::Row;
use crate::world::World;
use crate::yard::median;

const ROUNDS: usize = 30;

/// From a question's arrival at the daemon until it stands on the REPL's screen.
pub(crate) fn on_the_repl() -> Result<Vec<Row>> {
    let world = World::new("ask", 3)?;
    let id = world.says(&["bg", "exec sleep 1000"])?;
    world.until("the task to run", || Ok(world.get(&format!("/background-agents/{id}"))?.contains("\"running\"")))?;
    let mut repl = Session::spawn(world.octo(&[]))?;
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

impl World {
    /// Asks a question of a running task.
    pub(crate) fn ask(&self, id: &str, text: &str) -> Result<()> {
        let body = serde_json::json!({ "text": text, "choices": ["yes", "no"] }).to_string();
        let dir = std::fs::File::open(self.octo_dir())?;
        let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/octo.sock", dir.as_raw_fd()))?;
        write!(
            stream,
            "POST /background-agents/{id}/questions HTTP/1.0\r\nhost: octo\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let head = answer.lines().next().context("no HTTP answer")?;
        if !head.contains(" 201 ") {
            bail!("a question was refused: {answer}");
        }
        Ok(())
    }
}
