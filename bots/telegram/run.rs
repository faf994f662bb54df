//! The bridge at work: what receives, what tells, and what says how it is, joined and kept running.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use octo::bridge::{Board, Candidate, Health};
use octo::client::Client;
use octo::command::{ListQuery, Refused};
use octo::config::{QuietHours, Secret, TelegramRun};
use octo::render;
use octo::task::{Status, TaskId};
use octo::workspace::Workspace;
use teloxide::types::Me;
use tokio::sync::watch;

use super::api::{Api, Fail};
use super::book::Book;
use super::calls::exactly;
use super::card::{self, Face};
use super::condition::{Condition, Polling, moment};
use super::errand::{Errand, Note};
use super::file::{self, Loaded};
use super::gate::{Gate, Heard};
use super::hands::{Hands, Keep, Later, Rules};
use super::inbox::Inbox;
use super::lock::{self, Place};
use super::mask::Mask;
use super::post::{Post, Posted, Why};
use super::pump::Pump;
use super::receive::{self, Apply, Arrived, Receiver};
use super::seal::Seal;
use super::sender::{self, Sender};
use super::wait::Backoff;
use super::words;

/// The name of the bridge in records and routes.
pub(crate) const NAME: &str = "telegram";

/// How long an update waits for its answers to be sent before it counts as done: an answer that a death of the daemon
/// swallowed is given again while it does not. Nobody waits in a chat that has to be slow.
const ANSWERED: Duration = Duration::from_millis(100);

/// With so many answers on their way, updates wait for none of them.
const ON_THEIR_WAY: usize = 1;

/// How long a task is looked at after its start, for its card to say that it runs.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// The stack of the bridge's thread: cards are drawn deep inside of what waits for Telegram. Untouched pages cost nothing.
const STACK: usize = 8 << 20;

/// Strangers that are named in the log, a minute.
const STRANGERS: u32 = 10;

/// What the bridge is given.
pub(crate) struct Setup {
    pub(crate) token: Secret,
    pub(crate) url: String,
    pub(crate) allowed: Vec<i64>,
    pub(crate) run: TelegramRun,
    pub(crate) quiet: Option<QuietHours>,
    /// What must never be shown.
    pub(crate) secrets: Vec<String>,
    pub(crate) workspace: Workspace,
    pub(crate) board: Arc<Board>,
    pub(crate) client: Client,
    /// True when the daemon leaves.
    pub(crate) leaving: watch::Receiver<bool>,
}

/// Runs the bridge on a thread of its own until the daemon leaves.
///
/// # Errors
/// When there can be no thread.
pub(crate) fn start(setup: Setup) -> std::io::Result<std::thread::JoinHandle<()>> {
    setup.board.set_health(Health { name: NAME.to_owned(), health: "starting".to_owned(), ..Health::default() });
    std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(2).enable_all().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(bridge(setup));
                runtime.shutdown_timeout(Duration::from_secs(1));
            }
            Err(error) => unwell(&setup.board, "not running", &format!("no event loop: {error}")),
        }
    })
}

fn unwell(board: &Board, health: &str, problem: &str) {
    tracing::warn!(bridge = NAME, health, problem, "the bridge is not well");
    let (health, problem) = (health.to_owned(), problem.to_owned());
    board.set_health(Health { name: NAME.to_owned(), health, problem, owed: 0 });
}

async fn bridge(setup: Setup) {
    let api = match Api::new(&setup.token, &setup.url) {
        Ok(api) => api,
        Err(why) => return unwell(&setup.board, "not running", &why),
    };
    let mut leaving = setup.leaving.clone();
    let (mut book, seal) = tokio::select! {
        _ = leaving.wait_for(|left| *left) => return,
        there = opened(&setup, api.id()) => there,
    };
    // What came before is applied also while Telegram cannot be reached.
    if book.bot_name.is_empty() {
        tokio::select! {
            _ = leaving.wait_for(|left| *left) => return,
            name = own_name(&setup.board, &api) => book.bot_name = name,
        }
        if let Err(error) = file::save_bytes(&book_path(&setup.workspace), &book.bytes()) {
            tracing::warn!(%error, "what the Telegram bridge remembers cannot be saved");
        }
    }
    let name = book.bot_name.clone();
    let bridge = Arc::new(Bridge::new(setup, &api, name, book, seal));
    let condition = watch::Sender::new(Condition::default());
    let receiver = Receiver {
        shelf: Inbox::new(&bridge.workspace.octo, api.id()),
        source: api,
        apply: Arc::clone(&bridge),
        pace: receive::Pace::default(),
        place: lock::state_folder().map(|folder| Place::new(&folder, bridge.bot, &bridge.workspace.root)),
        condition,
    };
    let seen = receiver.condition.subscribe();
    // What was said before this daemon's time.
    bridge.answer_talks();
    let register = async {
        if let Err(why) = bridge.sender.register(words::REGISTERED).await {
            tracing::warn!(%why, "Telegram does not take the list of commands");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = leaving.wait_for(|left| *left) => {}
        () = receiver.run() => {}
        () = Pump::new(&bridge).run() => {}
        () = bridge.let_in() => {}
        () = bridge.say_how_it_is(seen) => {}
        () = register => {}
    }
    bridge.sender.close(Duration::from_secs(2)).await;
}

/// The bot's user name, which Telegram is asked for until it answers.
async fn own_name(board: &Board, api: &Api) -> String {
    let mut pauses = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let fail = match api.call(&teloxide::payloads::GetMe::new(), Duration::from_secs(20)).await {
            Ok(me) => match serde_json::from_str::<Me>(me.get()) {
                Ok(me) => return me.user.username.unwrap_or_default(),
                Err(_) => Fail::Passing("an answer that makes no sense".to_owned()),
            },
            Err(fail) => fail,
        };
        let condition = Condition { polling: Polling::from(fail), ..Condition::default() };
        unwell(board, condition.health(), &condition.problem());
        tokio::time::sleep(pauses.next()).await;
    }
}

/// What is remembered, as soon as the disk gives it.
async fn opened(setup: &Setup, bot: i64) -> (Book, Seal) {
    let mut pauses = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
    loop {
        match remembered(&setup.workspace, bot) {
            Ok(there) => return there,
            Err(error) => unwell(&setup.board, "not running", &format!("its files cannot be used: {error}")),
        }
        tokio::time::sleep(pauses.next()).await;
    }
}

/// The book, and the seal of buttons. A lost seal makes the buttons of old cards void, and nothing else.
fn remembered(workspace: &Workspace, bot: i64) -> std::io::Result<(Book, Seal)> {
    let (bots, quarantine) = (workspace.octo.join("bots"), workspace.octo.join("quarantine"));
    file::folder(&bots)?;
    file::tidy(&bots)?;
    let book = match file::load::<Book>(&book_path(workspace), &quarantine)? {
        Loaded::Whole(book) => book,
        Loaded::Missing => Book::default(),
        Loaded::Damaged { why, kept } => {
            tracing::warn!(%why, kept = %kept.display(), "what the Telegram bridge remembered is damaged: it starts anew");
            Book::default()
        }
    };
    let path = bots.join("telegram-seal.json");
    let key = match file::load::<[u8; 32]>(&path, &quarantine)? {
        Loaded::Whole(key) => key,
        Loaded::Missing | Loaded::Damaged { .. } => {
            let mut key = [0; 32];
            std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut key)?;
            file::save(&path, &key)?;
            key
        }
    };
    Ok((book, Seal::new(key, bot)))
}

fn book_path(workspace: &Workspace) -> PathBuf {
    workspace.octo.join("bots").join("telegram.json")
}

/// What became of an errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its chat has it, or it is needless by now.
    Done,
    /// Its chat cannot be reached.
    Unreachable,
    /// Telegram does not take it.
    Refused,
}

/// The bridge of one bot. What it tells is in `pump.rs`.
pub(super) struct Bridge {
    workspace: Workspace,
    board: Arc<Board>,
    pub(super) client: Client,
    bot: i64,
    /// Those whom the settings name; the book knows the others.
    allowed: Vec<i64>,
    pub(super) quiet: Option<QuietHours>,
    gate: Mutex<Gate>,
    pub(super) hands: Hands<Client>,
    sender: Arc<Sender>,
    /// The users who are being answered by the agent.
    talking: Mutex<HashSet<i64>>,
    /// Answers that were not sent yet.
    under_way: AtomicUsize,
    /// Counts what `octo status` and the telling must hear of: who was let in, who can be reached, what was refused.
    pub(super) news: watch::Sender<u64>,
    /// The book as it was saved last.
    kept: Mutex<Vec<u8>>,
    /// What kept a notice from being delivered last, other than that its reader cannot be reached.
    refusal: Mutex<String>,
    strangers: Mutex<(std::time::Instant, u32)>,
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Bridge {
    fn new(setup: Setup, api: &Api, name: String, book: Book, seal: Seal) -> Bridge {
        let bot = api.id();
        let path = book_path(&setup.workspace);
        let keep: Keep = Arc::new(move |bytes: Vec<u8>| file::save_bytes(&path, &bytes).map_err(|e| e.to_string()));
        let allowed = setup.allowed.iter().copied().chain(book.users.iter().map(|u| u.id));
        let gate = Mutex::new(Gate::new(bot, allowed));
        let hands = Hands {
            desk: setup.client.clone(),
            rules: Rules { bot, name, run: setup.run, tz: TimeZone::system() },
            seal,
            mask: Mask::new(setup.secrets.iter().map(String::as_str)),
            book: Arc::new(Mutex::new(book)),
            keep,
            clock: now,
        };
        Bridge {
            workspace: setup.workspace,
            board: setup.board,
            client: setup.client,
            bot,
            allowed: setup.allowed,
            quiet: setup.quiet,
            gate,
            hands,
            sender: Arc::new(Sender::new(api.clone(), sender::Pace::default())),
            talking: Mutex::default(),
            under_way: AtomicUsize::new(0),
            news: watch::Sender::new(0),
            kept: Mutex::default(),
            refusal: Mutex::default(),
            strangers: Mutex::new((std::time::Instant::now(), 0)),
        }
    }

    /// The users who are being answered; taken before the book.
    pub(super) fn talking(&self) -> MutexGuard<'_, HashSet<i64>> {
        held(&self.talking)
    }

    /// Posts something, and notes when its chat cannot be reached.
    pub(super) async fn post(&self, post: Post) -> Posted {
        let errand = Errand::from(post);
        let posted = self.sender.post(errand.post.clone()).await;
        self.fate(&errand, &posted);
        posted
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        held(&self.hands.book)
    }

    /// Saves the book if it is not what was saved last; false: it could not be saved.
    pub(super) async fn keep(&self) -> bool {
        let bytes = self.book().bytes();
        if *held(&self.kept) == bytes {
            return true;
        }
        let (keep, text) = (Arc::clone(&self.hands.keep), bytes.clone());
        let saved = tokio::task::spawn_blocking(move || keep(text)).await;
        match saved.unwrap_or_else(|_| Err("a defect in Octo".to_owned())) {
            Ok(()) => {
                *held(&self.kept) = bytes;
                true
            }
            Err(why) => {
                tracing::warn!(%why, "what the Telegram bridge remembers cannot be saved");
                false
            }
        }
    }

    /// The users who may talk to the bot.
    pub(super) fn users(&self) -> Vec<i64> {
        let book = self.book();
        let mut seen = HashSet::new();
        let all = self.allowed.iter().copied().chain(book.users.iter().map(|u| u.id));
        all.filter(|id| seen.insert(*id)).collect()
    }

    /// The chats that are told: those of the users who can be reached.
    pub(super) fn chats(&self) -> Vec<i64> {
        let users = self.users();
        let book = self.book();
        users.into_iter().filter(|id| !book.unreachable().iter().any(|u| u.chat == *id)).collect()
    }

    /// Does one errand, until it is certain what became of it.
    pub(super) async fn run(&self, errand: Errand) -> Fate {
        let posted = self.sender.post(errand.post.clone()).await;
        let fate = self.fate(&errand, &posted);
        let next = errand.done(&posted, &mut self.book());
        if let Some(next) = next {
            self.sender.post(next).await;
        }
        fate
    }

    fn fate(&self, errand: &Errand, posted: &Posted) -> Fate {
        let why = match (posted, errand.chat()) {
            (Posted::Sent(_) | Posted::Done, _) => {
                self.set_refusal("");
                return Fate::Done;
            }
            (Posted::Refused(Why::Unreachable(why)), Some(chat)) => return self.lose(chat, why),
            (Posted::Refused(Why::Moved(_)), Some(chat)) => {
                return self.lose(chat, "the chat became a group, which nobody approved");
            }
            (Posted::Refused(Why::Gone), chat) => {
                if let (Post::Edit { message, .. } | Post::Delete { message, .. }, Some(chat)) = (&errand.post, chat) {
                    self.book().forget_card(chat, *message);
                }
                return Fate::Done;
            }
            (Posted::Refused(Why::Other(why)), _) => why.as_str(),
            (Posted::Refused(Why::Unreachable(_) | Why::Moved(_)), None) => "a tap could not be answered",
        };
        tracing::warn!(why, "Telegram refused a message");
        self.set_refusal(why);
        Fate::Refused
    }

    fn set_refusal(&self, why: &str) {
        let mut refusal = held(&self.refusal);
        if *refusal != why {
            why.clone_into(&mut refusal);
            drop(refusal);
            self.news.send_modify(|n| *n += 1);
        }
    }

    fn lose(&self, chat: i64, why: &str) -> Fate {
        self.book().set_unreachable(chat, why, now());
        self.news.send_modify(|n| *n += 1);
        Fate::Unreachable
    }

    /// Lets in whom the owner accepted in the terminal.
    async fn let_in(&self) {
        loop {
            let Candidate { id, name } = self.board.accepted(NAME).await;
            {
                let mut book = self.book();
                book.pair(id, &name, now());
                book.set_reachable(id);
            }
            self.keep().await;
            held(&self.gate).set_allowed(self.users());
            self.news.send_modify(|n| *n += 1);
            tracing::info!(user = id, "a Telegram user was let in");
            let waiting = self.waiting().await;
            let html = format!(
                "Welcome. This bot tells you when tasks end, and brings you their questions.\n{waiting}{}",
                words::help()
            );
            self.run(message(id, html).into()).await;
        }
    }

    /// A line about the questions that wait, some of them perhaps from before there was a bot.
    async fn waiting(&self) -> String {
        let query = ListQuery { limit: Some(1), ..ListQuery::default() };
        let Ok(listing) = self.client.list(&query).await else { return String::new() };
        match listing.active.iter().flat_map(|t| &t.questions).filter(|q| q.open).count() {
            0 => String::new(),
            n => format!("{}; /tasks lists them.\n", render::waiting(n)),
        }
    }

    /// Keeps `octo status` up to date.
    async fn say_how_it_is(&self, mut condition: watch::Receiver<Condition>) {
        let mut trouble = self.sender.trouble();
        let mut news = self.news.subscribe();
        loop {
            let (health, mut problems) = {
                let condition = condition.borrow_and_update();
                (condition.health(), vec![condition.problem()])
            };
            if let Some(why) = trouble.borrow_and_update().clone() {
                problems.push(format!("messages cannot be sent at the moment: {why}"));
            }
            let refusal = held(&self.refusal).clone();
            if !refusal.is_empty() {
                problems.push(format!("Telegram refused a message: {refusal}"));
            }
            if self.users().is_empty() {
                problems.push("nobody may talk to the bot yet: `octo pair telegram` lets you in".to_owned());
            }
            for chat in self.book().unreachable() {
                let since = moment(chat.since.millis().unwrap_or(0));
                problems.push(format!("user {} cannot be reached since {since}: {}", chat.chat, chat.why));
            }
            problems.retain(|problem| !problem.is_empty());
            let problem = self.hands.mask.apply(&problems.join("; "));
            self.board.set_health(Health { name: NAME.to_owned(), health: health.to_owned(), problem, owed: 0 });
            tokio::select! {
                _ = condition.changed() => {}
                _ = trouble.changed() => {}
                _ = news.changed() => {}
            }
        }
    }

    fn stranger(&self, id: i64, name: &str, text: &str) {
        if self.board.is_pairing(NAME) && self.board.try_code(NAME, text, Candidate { id, name: name.to_owned() }) {
            tracing::info!(user = id, "a Telegram user sent the pairing code");
            return;
        }
        let mut strangers = held(&self.strangers);
        if strangers.0.elapsed() > Duration::from_secs(60) {
            *strangers = (std::time::Instant::now(), 0);
        }
        strangers.1 += 1;
        if strangers.1 <= STRANGERS {
            tracing::info!(user = id, "a stranger wrote to the Telegram bot and got no answer");
        }
    }

    /// The card of a task that was just started says so; soon it can say that the task runs.
    pub(super) async fn follow_start(self: Arc<Self>, task: TaskId, chat: i64) {
        let until = tokio::time::Instant::now() + STARTS_WITHIN;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let Ok(now_is) = self.client.get(&exactly(task)).await else { return };
            match now_is.status {
                Status::Dispatched => {}
                Status::Running => {
                    let edit = {
                        let book = self.book();
                        let Some(at) = book.card(task, chat).filter(|at| !at.ended).map(|at| at.message) else {
                            return;
                        };
                        let Hands { seal, mask, rules, .. } = &self.hands;
                        let names = &book.names;
                        let face = Face { seal, chat, user: chat, tz: &rules.tz, now: now(), names, mask };
                        let card = card::task(&now_is, None, &face);
                        Post::Edit { chat, message: at, html: card.html, keys: card.keys }
                    };
                    self.run(Errand { post: edit, note: Note::Card { task, ended: false } }).await;
                    return;
                }
                _ => return,
            }
        }
    }
}

pub(super) fn message(chat: i64, html: String) -> Post {
    Post::Message { chat, html, keys: Vec::new(), reply_to: None, silent: false, force_reply: false }
}

impl Apply for Arc<Bridge> {
    async fn apply(&self, arrived: &Arrived) -> Result<(), Refused> {
        let heard = held(&self.gate).arrived(&arrived.update, &arrived.raw);
        match &heard {
            Heard::Stranger { id, name, text } => {
                self.stranger(*id, name, text);
                return Ok(());
            }
            Heard::Nothing(why) => {
                tracing::debug!(key = arrived.key, why, "an update says nothing that counts");
                return Ok(());
            }
            Heard::Text(_) | Heard::Tap(_) | Heard::Blocked(_) | Heard::Back(_) => {}
        }
        let unreachable = self.book().unreachable().len();
        let errands = self.hands.hear(heard, arrived.update.id.0).await.map_err(|Later(refused)| refused)?;
        self.keep().await;
        self.answer_talks();
        if self.book().unreachable().len() != unreachable {
            self.news.send_modify(|n| *n += 1);
        }
        self.answer(errands).await;
        Ok(())
    }

    async fn gap(&self, from: i64, to: i64) -> Result<(), Refused> {
        let html = format!(
            "Octo was away. Messages that you sent between {} and {} may be lost: Telegram keeps them for a day.",
            moment(from),
            moment(to)
        );
        // Nothing waits for it: a chat may have to be slow.
        for chat in self.chats() {
            let (bridge, html) = (Self::clone(self), html.clone());
            tokio::spawn(async move { bridge.run(message(chat, html).into()).await });
        }
        Ok(())
    }
}

impl Bridge {
    /// Sends the answers to an update, and waits for that while there is no crowd.
    async fn answer(self: &Arc<Self>, errands: Vec<Errand>) {
        if errands.is_empty() {
            return;
        }
        let count = errands.len();
        let before = self.under_way.fetch_add(count, Ordering::Relaxed);
        let bridge = Arc::clone(self);
        let sent = tokio::spawn(async move {
            for errand in errands {
                let started = match (&errand.note, errand.chat()) {
                    (Note::Card { task, ended: false }, Some(chat)) => Some((*task, chat)),
                    _ => None,
                };
                bridge.run(errand).await;
                bridge.under_way.fetch_sub(1, Ordering::Relaxed);
                if let Some((task, chat)) = started {
                    tokio::spawn(Arc::clone(&bridge).follow_start(task, chat));
                }
            }
            bridge.keep().await;
        });
        if before < ON_THEIR_WAY {
            let _ = tokio::time::timeout(ANSWERED, sent).await;
        }
    }
}
