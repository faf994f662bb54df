//! The notice pump: tells at once what happens to tasks, over any number of restarts of the daemon.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use octo::cli::{Terminal, error_text};
use octo::client::{Client, Trouble};
use octo::command::{ListQuery, NoticeItem, RefusedCode};
use octo::render::{self, Paint, Tongue, View};

use super::above::Above;
use super::cursor::Cursor;
use super::known::{self, Known};

/// How long the daemon holds one poll open.
const POLL: Duration = Duration::from_secs(50);

/// How often a stopped daemon is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The pause after a trouble that may last.
const CALM_DOWN: Duration = Duration::from_secs(5);

/// The most notices that are read to tell of an absence; older ones are just counted.
const ABSENCE_MAX: u64 = 300;

/// Tells what waits for an answer and what happened since the cursor, in a few lines, and returns the cursor to go
/// on from.
pub(crate) async fn tell_absence(
    client: &Client,
    cursor: &Cursor,
    known: &Mutex<Known>,
    terminal: &Terminal,
    print: impl Fn(&str),
) -> u64 {
    let (seen, view) = (cursor.read(), terminal.view());
    let Ok(newest) = client.newest_notice().await else { return seen };
    if newest < seen {
        // The store was made anew: its numbers began again.
        cursor.set(newest);
        return newest;
    }
    let mut after = seen.max(newest.saturating_sub(ABSENCE_MAX));
    let skipped = usize::try_from(after - seen).unwrap_or(usize::MAX);
    let mut items: Vec<NoticeItem> = Vec::new();
    while let Ok(page) = client.notices(after).await {
        after = page.cursor.max(after);
        items.extend(page.notices);
        if !page.more {
            break;
        }
    }
    // Read after the notices: what arises from here on is told by the pump.
    print(&waiting(client, known, &view).await);
    print(&render::digest("While you were away:", &items, skipped, &view, &TimeZone::system()));
    cursor.advance(after);
    after
}

/// The questions that wait; now the person has seen them.
async fn waiting(client: &Client, known: &Mutex<Known>, view: &View) -> String {
    let query = ListQuery { limit: Some(1), ..ListQuery::default() };
    let Ok(listing) = client.only_connect().list(&query).await else { return String::new() };
    for task in listing.active.iter().filter(|t| t.questions.iter().any(|q| q.open)) {
        known::lock(known).saw(task);
    }
    render::open_questions(&listing.active, Tongue::Chat, view)
}

/// How the daemon was when it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Up,
    /// It died, or cannot be reached.
    Gone,
    /// Somebody stopped it in good order: it is not started again unasked.
    Stopped,
}

/// Reads notices for as long as the REPL lives.
pub(crate) struct Pump {
    client: Client,
    terminal: Terminal,
    known: Arc<Mutex<Known>>,
    above: Above,
    daemon: Daemon,
}

impl Pump {
    pub(crate) fn new(client: Client, terminal: Terminal, known: Arc<Mutex<Known>>, above: Above) -> Self {
        Pump { client, terminal, known, above, daemon: Daemon::Up }
    }

    /// Tells notices from a cursor on, for ever.
    pub(crate) async fn run(mut self, mut after: u64) {
        loop {
            // A daemon that was away answers at once, so that its return is told.
            let wait = if self.daemon == Daemon::Up { POLL } else { Duration::ZERO };
            match self.client.await_notices(after, wait).await {
                Ok(page) => {
                    self.is_up();
                    for item in &page.notices {
                        let news = known::lock(&self.known).hear(item);
                        let tell = || render::notice(item, Tongue::Chat, &self.terminal.view(), &TimeZone::system());
                        self.say(if news { tell() } else { String::new() }, Some(item.notice.seq));
                    }
                    after = page.cursor.max(after);
                    if !page.notices.is_empty() {
                        super::refresh(&self.client, &self.known).await;
                    }
                }
                Err(trouble) => self.cope(trouble).await,
            }
        }
    }

    async fn cope(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Refused(r) if r.code == RefusedCode::Unavailable => {
                self.was_stopped();
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Trouble::CutOff | Trouble::Absent(_) if self.daemon == Daemon::Stopped => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Trouble::CutOff | Trouble::Absent(_) => self.start_again().await,
            trouble @ (Trouble::Refused(_) | Trouble::Silent | Trouble::Start(_)) => {
                if self.daemon == Daemon::Up {
                    self.daemon = Daemon::Gone;
                    let refused = trouble.refused(self.client.workspace());
                    self.say(error_text(&refused), None);
                }
                tokio::time::sleep(CALM_DOWN).await;
            }
        }
    }

    async fn start_again(&mut self) {
        if self.daemon == Daemon::Up {
            self.daemon = Daemon::Gone;
            self.remark("The daemon went away; tasks go on. Starting it again ...");
        }
        if let Err(refused) = self.client.ensure().await {
            self.say(error_text(&refused), None);
            tokio::time::sleep(CALM_DOWN).await;
        }
        // It is back when it answers the next poll: a daemon that dies may still take a connection.
    }

    fn was_stopped(&mut self) {
        if self.daemon != Daemon::Stopped {
            self.daemon = Daemon::Stopped;
            self.remark("The daemon was stopped; tasks go on. Your next command starts it again.");
        }
    }

    fn is_up(&mut self) {
        if self.daemon != Daemon::Up {
            self.daemon = Daemon::Up;
            self.remark("The daemon is back.");
        }
    }

    fn remark(&self, text: &str) {
        self.say(format!("{}\n", self.terminal.view().paint(Paint::Dim, text)), None);
    }

    fn say(&self, text: String, cursor: Option<u64>) {
        self.above.tell(text, cursor);
    }
}
