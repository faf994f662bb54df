//! A Bot API server on loopback for tests and benches: it keeps chats, updates and taps as Telegram does, refuses
//! what Telegram refuses in Telegram's words, and misbehaves on demand.
//!
//! ```text
//! the bot under test ──HTTP──> fake/http.rs ──> fake/methods.rs   what each method does
//!                              (faults)    `──> fake/updates.rs   getUpdates: the queue
//! the test: say, reply, tap ──> fake/play.rs       fake/html.rs   Telegram's HTML
//! ```
//!
//! It runs on a thread of its own, so that it also serves tests that block and bots that are other processes.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "tests and benches use different parts; a lock here is never poisoned"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot, watch};

#[path = "fake/html.rs"]
pub(crate) mod html;
#[path = "fake/http.rs"]
mod http;
#[path = "fake/methods.rs"]
mod methods;
#[path = "fake/play.rs"]
mod play;
#[path = "fake/updates.rs"]
mod updates;

/// How long a waiter waits before it says that a condition never came true.
const LONG: Duration = Duration::from_secs(60);

/// A call of the bot, as it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// When it came.
    pub(crate) at: Instant,
    /// Its method, in Telegram's spelling: `sendMessage`.
    pub(crate) method: &'static str,
    /// Its parameters; of an uploaded file the text, its name in `document_name`.
    pub(crate) params: Value,
    /// Whether it was carried out, whatever was answered.
    pub(crate) done: bool,
    /// The HTTP status that was answered; 0: none (reset, silence).
    pub(crate) status: u16,
    /// What was answered.
    pub(crate) answer: Value,
}

impl Call {
    /// The chat that it was for, or 0.
    pub(crate) fn chat(&self) -> i64 {
        chat_of(&self.params)
    }

    /// Its text, caption or toast.
    pub(crate) fn text(&self) -> &str {
        let of = |name: &str| self.params.get(name).and_then(Value::as_str);
        of("text").or_else(|| of("caption")).unwrap_or_default()
    }
}

fn chat_of(params: &Value) -> i64 {
    let chat = &params["chat_id"];
    chat.as_i64().or_else(|| chat.as_str()?.parse().ok()).unwrap_or(0)
}

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A refusal in JSON, as Telegram words it; nothing is done.
    Refuse(u16, String, Value),
    /// A page of a proxy; nothing is done.
    Html(u16),
    /// The call is done, and never answered.
    DoneThenSilent,
    /// Nothing is done and nothing answered.
    Silent,
    /// The connection is reset before anything is done.
    Reset,
    /// The call is done and the connection reset.
    DoneThenReset,
}

impl Fault {
    fn refuse(code: u16, text: &str) -> Fault {
        Fault::Refuse(code, text.to_owned(), Value::Null)
    }

    /// 429.
    pub(crate) fn too_many(retry_after: u64) -> Fault {
        let text = format!("Too Many Requests: retry after {retry_after}");
        Fault::Refuse(429, text, json!({"retry_after": retry_after}))
    }

    /// 500.
    pub(crate) fn internal() -> Fault {
        Fault::refuse(500, "Internal Server Error")
    }

    /// 502 with a page of nginx.
    pub(crate) fn bad_gateway() -> Fault {
        Fault::Html(502)
    }

    /// 409: somebody else polls.
    pub(crate) fn conflict() -> Fault {
        Fault::refuse(409, updates::TERMINATED)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Fault {
        Fault::refuse(401, "Unauthorized")
    }

    /// 403.
    pub(crate) fn blocked() -> Fault {
        Fault::refuse(403, "Forbidden: bot was blocked by the user")
    }

    /// 400: there is no such chat.
    pub(crate) fn no_chat() -> Fault {
        Fault::refuse(400, "Bad Request: chat not found")
    }

    /// 400 with the chat's new number.
    pub(crate) fn moved(to: i64) -> Fault {
        let text = "Bad Request: group chat was upgraded to a supergroup chat".to_owned();
        Fault::Refuse(400, text, json!({"migrate_to_chat_id": to}))
    }

    /// 400: the text's HTML is not understood.
    pub(crate) fn no_entities() -> Fault {
        let text = "Bad Request: can't parse entities: Unsupported start tag \"x\" at byte offset 0";
        Fault::refuse(400, text)
    }
}

#[derive(Debug)]
struct Planned {
    method: String,
    chat: Option<i64>,
    times: usize,
    fault: Fault,
}

/// How the queue of updates misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mischief {
    /// Every answer also brings back this many updates that were confirmed before.
    pub(crate) repeat: usize,
    /// Every answer holds its updates last first.
    pub(crate) reversed: bool,
    /// So many numbers are left out between two updates.
    pub(crate) gap: u64,
}

#[derive(Debug, Default)]
struct Inner {
    token: String,
    bot: i64,
    webhook: bool,
    commands: Value,
    users: BTreeMap<i64, String>,
    blocked: HashSet<i64>,
    messages: HashMap<(i64, i32), Value>,
    last_message: i32,
    /// Taps that nobody answered yet, by number.
    taps: HashMap<String, bool>,
    last_tap: u64,
    queue: Vec<Value>,
    confirmed: Vec<Value>,
    next_update: u64,
    allowed: Option<Vec<String>>,
    poll: u64,
    mischief: Mischief,
    /// The longest that a poll is held; `None`: as long as it asks for.
    hold: Option<Duration>,
    faults: Vec<Planned>,
    calls: Vec<Call>,
}

impl Inner {
    /// Takes the fault that is due for this call, if any.
    fn fault(&mut self, method: &str, chat: i64) -> Option<Fault> {
        let fits = |p: &Planned| {
            let named = p.method == "*" || p.method.eq_ignore_ascii_case(method);
            p.times > 0 && named && p.chat.is_none_or(|c| c == chat)
        };
        let planned = self.faults.iter_mut().find(|p| fits(p))?;
        planned.times = planned.times.saturating_sub(1);
        Some(planned.fault.clone())
    }
}

#[derive(Debug)]
struct World {
    inner: Mutex<Inner>,
    /// Counts what happened: whoever waits for something looks again.
    changed: watch::Sender<u64>,
    /// Held polls look again.
    arrived: Notify,
    /// Connections end when this is dropped.
    leaving: watch::Sender<bool>,
}

impl World {
    fn held(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
        self.arrived.notify_waiters();
    }
}

/// The server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Fake {
    world: Arc<World>,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The token of the bot that [`Fake::start`] serves.
pub(crate) const TOKEN: &str = "5550001234:AAF-canary_0123456789abcdefghijklmno";

/// The number of that bot.
pub(crate) const BOT: i64 = 5_550_001_234;

impl Fake {
    /// Starts a server for one bot with the token [`TOKEN`].
    pub(crate) fn start() -> Fake {
        let inner = Inner {
            token: TOKEN.to_owned(),
            bot: BOT,
            next_update: 700_000_001,
            last_message: 100,
            ..Inner::default()
        };
        let world = Arc::new(World {
            inner: Mutex::new(inner),
            changed: watch::Sender::new(0),
            arrived: Notify::new(),
            leaving: watch::Sender::new(false),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&world);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(http::serve(listener, serving, stopped));
        });
        Fake { world, addr, stop: Some(stop), thread: Some(thread) }
    }

    /// Its address for `TELEGRAM_API_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The next calls of `method` (`*`: of any) go wrong, so many times.
    pub(crate) fn fault(&self, method: &str, times: usize, fault: Fault) {
        self.world.held().faults.push(Planned { method: method.to_owned(), chat: None, times, fault });
    }

    /// As [`Fake::fault`], for one chat only.
    pub(crate) fn fault_in(&self, chat: i64, method: &str, times: usize, fault: Fault) {
        self.world.held().faults.push(Planned { method: method.to_owned(), chat: Some(chat), times, fault });
    }

    /// All goes well again.
    pub(crate) fn heal(&self) {
        self.world.held().faults.clear();
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.world.held().calls.clone()
    }

    /// Every call of one method so far.
    pub(crate) fn calls_of(&self, method: &str) -> Vec<Call> {
        self.world.held().calls.iter().filter(|c| c.method == method).cloned().collect()
    }

    /// Waits, blocking, until `found` finds something in the calls.
    pub(crate) fn wait_for<T>(&self, what: &str, found: impl FnMut(&[Call]) -> Option<T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.until(what, found))
    }

    /// Waits until `found` finds something in the calls.
    pub(crate) async fn until<T>(&self, what: &str, mut found: impl FnMut(&[Call]) -> Option<T>) -> T {
        self.until_inner(what, |inner| found(&inner.calls)).await
    }

    async fn until_inner<T>(&self, what: &str, mut found: impl FnMut(&Inner) -> Option<T>) -> T {
        let mut changed = self.world.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let seen = found(&self.world.held());
                if let Some(seen) = seen {
                    return seen;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(LONG, wait).await {
            Ok(seen) => seen,
            Err(_) => panic!("never came: {what}; calls: {:#?}", self.calls()),
        }
    }

    /// The updates that the bot has not confirmed.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.world.held().queue.len()
    }

    /// Waits until the bot has confirmed every update.
    pub(crate) async fn all_confirmed(&self) {
        self.until_inner("every update confirmed", |inner| Some(()).filter(|()| inner.queue.is_empty())).await;
    }

    /// Waits until the bot has begun so many polls that no fault hit.
    pub(crate) async fn polled(&self, times: u64) {
        self.until_inner("a poll", |inner| Some(()).filter(|()| inner.poll >= times)).await;
    }

    /// A message as the chat shows it now.
    pub(crate) fn message(&self, chat: i64, message: i32) -> Option<Value> {
        self.world.held().messages.get(&(chat, message)).cloned()
    }

    /// The commands that were registered.
    pub(crate) fn commands(&self) -> Value {
        self.world.held().commands.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.world.leaving.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
