//! Demo models: they need no key and no network, are the same every time, and drive the real machinery.
//!
//! | name | what it does |
//! |---|---|
//! | `demo/tour` | looks around with the tools that are offered, asks a question, and completes the task |
//! | `demo/echo` | says what it was told |
//! | `demo/spender` | goes on and on and claims many tokens, so that budgets can be tried |
//! | `demo/script` | plays the script in its prompt; `demo/script:FILE` the one in a file of the workspace (see [`script`]) |
//!
//! Every reply says that it comes from a demo. A reply depends on the request alone, except that a scripted failure
//! counts how often it was met. Tokens are guessed from lengths and marked so, and the most that a reply may have is
//! kept to, so that budgets work as with a real model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{
    Assistant, Calling, ErrorKind, Format, Model, ModelError, ModelName, Reply, Request, Stop, Tokens, estimate,
};

pub mod script;
mod spender;
mod tour;

/// What a demo does in one turn.
#[derive(Debug, Clone, Default)]
struct Turn {
    said: Assistant,
    /// What it claims to have used; `None`: as long as it is.
    usage: Option<(u64, u64)>,
    /// `None`: as the calls say.
    stop: Option<Stop>,
    /// Before the first word.
    wait: Duration,
    /// After each word.
    slow: Duration,
    /// What it fails with instead of ending.
    fail: Option<ModelError>,
}

impl Turn {
    fn say(text: impl Into<String>) -> Turn {
        Turn { said: Assistant { text: text.into(), ..Assistant::default() }, ..Turn::default() }
    }
}

/// The demos by name, and what each does.
const DEMOS: [(&str, &str); 4] = [
    ("tour", "looks around, asks a question and completes the task"),
    ("echo", "says what it was told"),
    ("spender", "claims many tokens, to try budgets"),
    ("script", "plays the script in its prompt"),
];

/// All demo models.
pub struct Demo {
    folder: PathBuf,
    /// How often each request that a script lets fail was met.
    met: Mutex<HashMap<String, u32>>,
}

impl Demo {
    /// `folder` is where the files of `demo/script:FILE` are looked for.
    #[must_use]
    pub fn new(folder: &Path) -> Demo {
        Demo { folder: folder.to_owned(), met: Mutex::new(HashMap::new()) }
    }

    /// Tells whether there is such a demo.
    ///
    /// # Errors
    /// With those that there are.
    pub fn check(&self, model: &ModelName) -> Result<(), ModelError> {
        let name = model.model().split(':').next().unwrap_or_default();
        if DEMOS.iter().any(|(known, _)| *known == name) {
            return Ok(());
        }
        let known: Vec<String> = DEMOS.iter().map(|(name, does)| format!("demo/{name} ({does})")).collect();
        let message = format!("there is no demo model `{model}`; there are: {}", known.join(", "));
        Err(ModelError::new(ErrorKind::Invalid, message))
    }

    fn turn(&self, request: &Request) -> Result<Turn, ModelError> {
        self.check(&request.model)?;
        let (name, file) = request.model.model().split_once(':').unwrap_or((request.model.model(), ""));
        match name {
            "tour" => Ok(tour::turn(request)),
            "spender" => Ok(spender::turn(request)),
            "script" => {
                let mut turn = script::turn(request, file, &self.folder)?;
                if let Some((_, times)) = &turn.fail
                    && self.meet(request) > *times
                {
                    turn.fail = None;
                }
                Ok(Turn { fail: turn.fail.map(|(error, _)| error), ..turn.turn })
            }
            _ => Ok(Turn::say(echo(request))),
        }
    }

    fn meet(&self, request: &Request) -> u32 {
        const MOST: usize = 10_000;
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.len() > MOST {
            met.clear();
        }
        let times = met.entry(request.digest()).or_default();
        *times += 1;
        *times
    }

    async fn play(&self, request: &Request, on_text: &mut (dyn FnMut(&str) + Send)) -> Result<Reply, ModelError> {
        let mut turn = self.turn(request)?;
        pause(turn.wait).await;
        if let Some(error) = turn.fail.take() {
            if error.kind == ErrorKind::Cut {
                let words: Vec<&str> = turn.said.text.split_inclusive(' ').collect();
                words[..words.len() / 2].iter().for_each(|word| on_text(word));
            }
            return Err(error);
        }
        turn.said.text = format!("[{}: a demo, no real model] {}", request.model, turn.said.text);
        let reply = reply(request, turn.said, turn.usage, turn.stop);
        for word in reply.message.text.split_inclusive(' ') {
            on_text(word);
            pause(turn.slow).await;
        }
        Ok(reply)
    }
}

impl Model for Demo {
    fn call<'a>(&'a self, request: &'a Request, on_text: &'a mut (dyn FnMut(&str) + Send)) -> Calling<'a> {
        Box::pin(self.play(request, on_text))
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Keeps to the most tokens that the reply may have, as a real model does: what is beyond them is cut off.
fn reply(request: &Request, mut said: Assistant, claimed: Option<(u64, u64)>, stop: Option<Stop>) -> Reply {
    let most = request.max_output_tokens.map_or(u64::MAX, u64::from);
    let mut stop = stop.unwrap_or(if said.calls.is_empty() { Stop::EndTurn } else { Stop::ToolUse });
    if estimate::output(&said) > most {
        said.calls.clear();
        let kept = usize::try_from(most.saturating_mul(4)).unwrap_or(usize::MAX);
        said.text.truncate(said.text.floor_char_boundary(kept));
        while estimate::output(&said) > most && said.text.pop().is_some() {}
        stop = Stop::MaxTokens;
    }
    let usage = match claimed {
        Some((input, output)) => Tokens { input, output: output.min(most), estimated: true, ..Tokens::default() },
        None => estimate::turn(request, &said),
    };
    Reply { v: Format, message: said, stop, usage, model: request.model.clone() }
}

fn echo(request: &Request) -> String {
    match tour::last_user(request) {
        Some((_, text)) => format!("You said: {text}"),
        None => "You said nothing.".to_owned(),
    }
}
