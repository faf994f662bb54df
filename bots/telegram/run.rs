//! The bridge at work: what receives, what tells, and what says how it is, joined and kept running.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use jiff::tz::TimeZone;
use octo::bridge::{Board, Candidate, Health};
use octo::client::{Client, Trouble};
use octo::command::{NoticeItem, Receipt, Refused, RefusedCode};
use octo::config::{QuietHours, Secret, TelegramRun};
use octo::task::{Delivery, Status, TaskId};
use octo::workspace::Workspace;
use teloxide::types::Me;
use tokio::sync::{Notify, watch};

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
use super::receive::{self, Apply, Arrived, Receiver};
use super::seal::Seal;
use super::sender::{self, Sender};
use super::tell::{self, Load, Teller, Telling};
use super::wait::Backoff;
use super::words;

/// The name of the bridge in records and routes.
pub(crate) const NAME: &str = "telegram";

/// How long one look for what is owed is held open.
const OWED: Duration = Duration::from_secs(50);

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
    let (mut book, seal) = match remembered(&setup.workspace, api.id()) {
        Ok(there) => there,
        Err(error) => return unwell(&setup.board, "not running", &format!("its files cannot be used: {error}")),
    };
    let mut leaving = setup.leaving.clone();
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
    let register = async {
        if let Err(why) = bridge.sender.register(words::REGISTERED).await {
            tracing::warn!(%why, "Telegram does not take the list of commands");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = leaving.wait_for(|left| *left) => {}
        () = receiver.run() => {}
        () = bridge.tell() => {}
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

struct Bridge {
    workspace: Workspace,
    board: Arc<Board>,
    client: Client,
    bot: i64,
    /// Those whom the settings name; the book knows the others.
    allowed: Vec<i64>,
    quiet: Option<QuietHours>,
    gate: Mutex<Gate>,
    hands: Hands<Client>,
    sender: Arc<Sender>,
    /// Answers that were not sent yet.
    under_way: AtomicUsize,
    /// Somebody was let in, or can be reached again or not any more.
    people: Notify,
    /// What kept a notice from being delivered last, other than that its reader cannot be reached.
    refusal: Mutex<String>,
    strangers: Mutex<(std::time::Instant, u32)>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> i64 {
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
            under_way: AtomicUsize::new(0),
            people: Notify::new(),
            refusal: Mutex::default(),
            strangers: Mutex::new((std::time::Instant::now(), 0)),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        held(&self.hands.book)
    }

    /// Saves the book if it is not what it was; a book that cannot be saved costs a card that is sent twice.
    async fn keep_if_changed(&self, before: &[u8]) {
        let bytes = self.book().bytes();
        if bytes == before {
            return;
        }
        let keep = Arc::clone(&self.hands.keep);
        match tokio::task::spawn_blocking(move || keep(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(%why, "what the Telegram bridge remembers cannot be saved"),
            Err(_) => {}
        }
    }

    /// The users who may talk to the bot.
    fn users(&self) -> Vec<i64> {
        let book = self.book();
        let mut seen = HashSet::new();
        let all = self.allowed.iter().copied().chain(book.users.iter().map(|u| u.id));
        all.filter(|id| seen.insert(*id)).collect()
    }

    /// The chats that are told: those of the users who can be reached.
    fn chats(&self) -> Vec<i64> {
        let users = self.users();
        let book = self.book();
        users.into_iter().filter(|id| !book.unreachable().iter().any(|u| u.chat == *id)).collect()
    }

    /// Does one errand.
    async fn run(&self, errand: Errand) {
        let posted = self.sender.post(errand.post.clone()).await;
        if let Some(next) = self.became(&errand, &posted) {
            self.sender.post(next).await;
        }
    }

    /// Notes what became of an errand; returns what is to be done besides.
    fn became(&self, errand: &Errand, posted: &Posted) -> Option<Post> {
        match (posted, errand.chat()) {
            (Posted::Sent(_) | Posted::Done, _) => {}
            (Posted::Refused(Why::Unreachable(why)), Some(chat)) => self.lose(chat, why),
            (Posted::Refused(Why::Moved(_)), Some(chat)) => {
                self.lose(chat, "the chat became a group, which nobody approved")
            }
            (Posted::Refused(Why::Gone), Some(chat)) => {
                if let Post::Edit { message, .. } | Post::Delete { message, .. } = errand.post {
                    self.book().forget_card(chat, message);
                }
            }
            (Posted::Refused(why), _) => {
                tracing::warn!(?why, "Telegram refused a message");
                if let Why::Other(why) = why {
                    why.clone_into(&mut held(&self.refusal));
                    self.people.notify_one();
                }
            }
        }
        errand.done(posted, &mut self.book())
    }

    fn lose(&self, chat: i64, why: &str) {
        self.book().set_unreachable(chat, why, now());
        self.people.notify_one();
    }

    /// Tells what is owed, for ever.
    async fn tell(&self) {
        let mut pauses = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let page = match self.client.owed(NAME, self.patience()).await {
                Ok(page) => page,
                Err(trouble) => {
                    if !matches!(&trouble, Trouble::Refused(r) if r.code == RefusedCode::Unavailable) {
                        tracing::warn!(?trouble, "what is owed cannot be read");
                    }
                    tokio::time::sleep(pauses.next()).await;
                    continue;
                }
            };
            pauses.reset();
            let before = self.book().bytes();
            let chats = self.chats();
            if chats.is_empty() && !page.notices.is_empty() {
                if self.users().is_empty() {
                    // There is nobody to tell, and there was nobody: no one waits for these.
                    self.receipts(&page.notices, Delivery::Dropped).await;
                } else {
                    let _ = tokio::time::timeout(Duration::from_secs(60), self.people.notified()).await;
                }
                continue;
            }
            let load = Load::of(&page);
            self.tell_page(&chats, load, page.notices).await;
            self.keep_if_changed(&before).await;
            if page.total == 0 {
                self.digest(&chats).await;
            }
        }
    }

    /// How long to wait for something to tell: not past the end of quiet hours while something is held.
    fn patience(&self) -> Duration {
        let (held, _) = {
            let book = self.book();
            (book.held().0.len(), ())
        };
        if held == 0 {
            return OWED;
        }
        let chats = [];
        let until = self.teller(&chats).quiet_until();
        let left = until.map_or(0, |at| (at - now()).max(0));
        // A second later: the hours are over then by every clock.
        OWED.min(Duration::from_millis(left.unsigned_abs()) + Duration::from_secs(1))
    }

    fn teller<'a>(&'a self, chats: &'a [i64]) -> Teller<'a> {
        let Hands { seal, mask, rules, .. } = &self.hands;
        Teller { chats, seal, mask, tz: &rules.tz, quiet: self.quiet, now: now() }
    }

    /// Tells each notice of a page. Those of one task wait for each other; chats wait for nobody but themselves.
    async fn tell_page(&self, chats: &[i64], load: Load, items: Vec<NoticeItem>) {
        let mut under_way = FuturesUnordered::new();
        let mut tasks = HashSet::new();
        for item in items {
            if !tasks.insert(item.task.id) {
                while under_way.next().await.is_some() {}
                tasks.clear();
                tasks.insert(item.task.id);
            }
            let telling = {
                let teller = self.teller(chats);
                let mut book = self.book();
                let telling = teller.tell(&item, load, &book);
                if matches!(telling, Telling::Hold(_)) {
                    book.hold(item.task.id, item.notice.seq, item.notice.kind);
                }
                telling
            };
            let (errands, is_held) = match telling {
                Telling::Now(errands) => (errands, false),
                Telling::Hold(errands) => (errands, true),
            };
            under_way.push(async move {
                if is_held {
                    self.keep_if_changed(&[]).await;
                }
                // Each is put into its chat's lane now, so that their order is that of the notices.
                join_all(errands.into_iter().map(|errand| self.run(errand))).await;
                self.receipts(std::slice::from_ref(&item), Delivery::Sent).await;
            });
        }
        while under_way.next().await.is_some() {}
    }

    async fn receipts(&self, items: &[NoticeItem], delivery: Delivery) {
        let receipts =
            items.iter().map(|item| Receipt { task: item.task.id, seq: item.notice.seq, delivery }).collect::<Vec<_>>();
        if receipts.is_empty() {
            return;
        }
        if let Err(refused) = self.client.receipts(NAME, receipts).await {
            // It is told again, since it counts as owed.
            tracing::warn!(%refused, "a receipt could not be left");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Tells in one message what was held back.
    async fn digest(&self, chats: &[i64]) {
        if self.book().held().0.is_empty() || self.teller(chats).quiet_until().is_some() {
            return;
        }
        let wanted = Teller::wanted(&self.book());
        let mut items = Vec::new();
        for (task, seq) in wanted {
            if let Ok(task) = self.client.get(&exactly(task)).await {
                items.extend(tell::item_of(task, seq));
            }
        }
        let errands = self.teller(chats).digest(&items, &self.book());
        join_all(errands.into_iter().map(|errand| self.run(errand))).await;
        self.book().forget_held();
        self.keep_if_changed(&[]).await;
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
            self.keep_if_changed(&[]).await;
            held(&self.gate).set_allowed(self.users());
            self.people.notify_one();
            tracing::info!(user = id, "a Telegram user was let in");
            let html = "Welcome. This bot tells you when tasks end, and brings you their questions.\n".to_owned()
                + &words::help();
            self.run(message(id, html).into()).await;
        }
    }

    /// Keeps `octo status` up to date.
    async fn say_how_it_is(&self, mut condition: watch::Receiver<Condition>) {
        let mut trouble = self.sender.trouble();
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
                () = self.people.notified() => {
                    // Others wait for the same news.
                    self.people.notify_waiters();
                }
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
    async fn follow_start(self: Arc<Self>, task: TaskId, chat: i64) {
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
                    return self.run(Errand { post: edit, note: Note::Card { task, ended: false } }).await;
                }
                _ => return,
            }
        }
    }
}

fn message(chat: i64, html: String) -> Post {
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
        let before = self.book().bytes();
        let unreachable = self.book().unreachable().len();
        let errands = self.hands.hear(heard, arrived.update.id.0).await.map_err(|Later(refused)| refused)?;
        self.keep_if_changed(&before).await;
        if self.book().unreachable().len() != unreachable {
            self.people.notify_one();
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
            let book = bridge.book().bytes();
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
            bridge.keep_if_changed(&book).await;
        });
        if before < ON_THEIR_WAY {
            let _ = tokio::time::timeout(ANSWERED, sent).await;
        }
    }
}
