//! The REPL: the chat language on a terminal.
//!
//! ```text
//! editor thread (rustyline) ──lines──> main loop ───Client───> octod
//!      ▲ prompts ◄──────────────────────┘ │ words              │ long poll
//!      │                                  └──> talker <──SSE───┤
//!      └── external printer ◄── above (a thread) ◄── pump ◄────┘
//! ```
//!
//! The editor blocks, so it has a thread of its own; while it reads, only its external printer may
//! write to the terminal, and it redraws what is being typed. The printer may block, so it has a
//! thread too: neither the pump nor the talker waits for a terminal. Input that is no terminal is read by
//! [`piped`], a command a line.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use octo::cli::{self, World};
use octo::client::Client;
use octo::command::{ListQuery, Refused};
use octo::render::{self, Paint, count};
use tokio::signal::unix::{Signal, SignalKind, signal};

// This file is a module by `#[path]`, so its own modules need theirs.
#[path = "repl/above.rs"]
mod above;
#[path = "repl/act.rs"]
mod act;
#[path = "repl/agents.rs"]
mod agents;
#[path = "repl/cursor.rs"]
mod cursor;
#[path = "repl/editor.rs"]
mod editor;
#[path = "repl/known.rs"]
mod known;
#[path = "repl/notices.rs"]
mod notices;
#[path = "repl/piped.rs"]
mod piped;
#[path = "repl/prose.rs"]
mod prose;
#[path = "repl/talk.rs"]
mod talk;
#[path = "repl/terminal.rs"]
mod terminal;

use editor::{Editor, Typed};
use known::Known;
use talk::{Talker, Voice};

/// How many tasks completion and hints know.
const KNOWN: usize = 50;

/// Runs the REPL and returns the exit code. `history` is the file that keeps what was typed.
pub(crate) fn run(runtime: &tokio::runtime::Runtime, mut world: World, history: Option<PathBuf>) -> u8 {
    world.surface = "repl";
    if !(std::io::stdin().is_terminal() && world.terminal.is_one) {
        return piped::run(runtime, &world);
    }
    let terminal = terminal::Saved::take();
    let code = match runtime.block_on(talk(&world, history)) {
        Ok(()) => 0,
        Err(refused) => cli::report(&world, &refused.into()),
    };
    terminal.restore();
    code
}

/// What the loop needs at every turn.
struct Session<'a> {
    world: &'a World,
    client: Client,
    known: Arc<Mutex<Known>>,
    interrupts: Signal,
    voice: Voice,
    /// What stands at the next prompt already: an offer that Enter accepts.
    offer: RefCell<String>,
}

/// The conversation, from the greeting to the farewell.
async fn talk(world: &World, history: Option<PathBuf>) -> Result<(), Refused> {
    let client = world.client()?;
    client.ensure().await?;
    let mut session = Session {
        world,
        client,
        known: Arc::default(),
        interrupts: handler(SignalKind::interrupt())?,
        voice: Voice::default(),
        offer: RefCell::default(),
    };
    let mut ended = handler(SignalKind::terminate())?;
    let mut hung_up = handler(SignalKind::hangup())?;
    session.refresh().await;
    session.greet();
    let cursor = cursor::Cursor::of(&session.client.workspace().octo);
    let after = notices::tell_absence(&session.client, &cursor, &session.known, &world.terminal, |text| {
        drop(world.print(text))
    })
    .await;
    let (mut editor, printer) = Editor::open(world.terminal, session.known.clone(), history)?;
    let above = above::Above::new(printer, cursor);
    let pump = notices::Pump::new(session.client.clone(), world.terminal, session.known.clone(), above.clone());
    tokio::spawn(pump.run(after));
    let (talker, voice) = Talker::new(session.client.clone(), world.terminal, session.known.clone(), above);
    session.voice = voice;
    tokio::spawn(talker.run());
    loop {
        let begun = session.offer.take();
        let typed = tokio::select! {
            typed = editor.read(begun) => typed,
            _ = ended.recv() => {
                // The cursor stands behind what was being typed.
                drop(world.print("\n"));
                return Ok(());
            }
            _ = hung_up.recv() => return Ok(()),
        };
        match typed {
            Typed::Line(line) => {
                if session.input(&line).await == Turn::Leave {
                    break;
                }
            }
            Typed::Cleared => {}
            Typed::Interrupted => session.voice.stop(),
            Typed::End => break,
        }
    }
    session.voice.flush().await;
    session.farewell();
    Ok(())
}

fn handler(kind: SignalKind) -> Result<Signal, Refused> {
    signal(kind)
        .map_err(|e| Refused::new(octo::command::RefusedCode::Internal, format!("signals cannot be handled: {e}")))
}

/// What comes after a line was dealt with.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Stay,
    Leave,
}

impl Session<'_> {
    /// Deals with what was typed or pasted.
    async fn input(&mut self, input: &str) -> Turn {
        for line in act::commands(input) {
            if self.turn(line).await == Turn::Leave {
                return Turn::Leave;
            }
        }
        Turn::Stay
    }

    /// Deals with one line; Ctrl-C gives up waiting for it.
    async fn turn(&mut self, line: &str) -> Turn {
        let ask = act::understand(line);
        if matches!(ask, Ok(octo::chat::Ask::Quit)) {
            return Turn::Leave;
        }
        let style = act::Style::Terminal;
        let Session { world, client, known, voice, offer, interrupts } = self;
        let here = act::Here { world, client, known, style, voice, offer };
        let result = match ask {
            Ok(ask) => tokio::select! {
                result = act::carry_out(here, ask) => result,
                _ = interrupts.recv() => {
                    // The terminal has echoed `^C` in the middle of a line.
                    drop(world.print("\n"));
                    Ok(())
                }
            },
            Err(misunderstood) => Err(misunderstood),
        };
        if let Err(failure) = result {
            cli::report(self.world, &failure);
        }
        self.refresh().await;
        Turn::Stay
    }

    /// Learns the tasks anew, for completion and hints; without a daemon the old ones do.
    async fn refresh(&self) {
        refresh(&self.client, &self.known).await;
    }

    fn greet(&self) {
        let view = self.world.view();
        let active = known::lock(&self.known).active();
        let tasks = if active == 0 { String::new() } else { format!(" · {}", count(active, "active task")) };
        let cut = |text: String| view.width.map_or(text.clone(), |width| render::fit(&text, width));
        let place = self.client.workspace().root.display().to_string();
        let line = cut(format!("Octo {} · {}{tasks}", env!("CARGO_PKG_VERSION"), render::sanitize::line(&place)));
        let help =
            cut("/bg COMMAND runs a command in the background, plain words talk to the agent, /help shows the rest"
                .to_owned());
        let (line, help) = (view.paint(Paint::Bold, &line), view.paint(Paint::Dim, &help));
        drop(self.world.print(format!("{line}\n{help}\n")));
    }

    fn farewell(&self) {
        let active = known::lock(&self.known).active();
        let line = match active {
            0 => "Bye.\n".to_owned(),
            1 => "Bye. 1 task goes on; `octo` comes back to it.\n".to_owned(),
            n => format!("Bye. {} go on; `octo` comes back to them.\n", count(n, "task")),
        };
        drop(self.world.print(self.world.view().paint(Paint::Dim, &line)));
    }
}

/// Learns the tasks of the workspace; never starts a daemon.
async fn refresh(client: &Client, known: &Mutex<Known>) {
    let query = ListQuery { limit: Some(KNOWN), ..ListQuery::default() };
    if let Ok(listing) = client.only_connect().list(&query).await {
        known::lock(known).learn(&listing);
    }
}
