//! Talking to the supervisor agent: what is said goes out one after the other, and the answers come above the prompt.
//!
//! ```text
//! Voice (the prompt) ──orders──> Talker: says it ──Client──> octod
//!                                  └── the answer, line by line ──> Above
//! ```
//!
//! What is said while an answer comes is handed to the daemon at once, and its own answer is told afterwards.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use octo::cli::{Failure, Terminal, World, error_text};
use octo::client::{ChatEvent, Client, new_key};
use octo::command::{ChatRequest, Refused, RefusedCode, TaskRef};
use octo::render::sanitize::{self, Sanitizer};
use octo::render::{self, Paint, fit, name_of};
use tokio::sync::{mpsc, oneshot};

use super::above::Above;
use super::known::{self, Known};
use super::prose::Prose;

/// How long what was said may take to be safe when the REPL is left.
const SAFE_WITHIN: Duration = Duration::from_secs(3);

/// What the next words are to change.
#[derive(Debug, Default)]
struct Wish {
    new: bool,
    model: String,
}

enum Order {
    Say(ChatRequest),
    /// Nobody waits for the answer any more.
    Stop,
    /// Tell when everything that was said is safe.
    Flush(oneshot::Sender<()>),
}

/// What the person says.
#[derive(Default)]
pub(crate) struct Voice {
    wish: Mutex<Wish>,
    /// `None`: answers are waited for, and go to standard output.
    orders: Option<mpsc::UnboundedSender<Order>>,
}

impl Voice {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next words begin a new conversation.
    pub(crate) fn begin_anew(&self) {
        self.wish().new = true;
    }

    /// The next words choose the model.
    pub(crate) fn choose(&self, model: String) {
        self.wish().model = model;
    }

    /// The model that was chosen and not yet used; may be empty.
    pub(crate) fn chosen(&self) -> String {
        self.wish().model.clone()
    }

    /// Says something. On a terminal its answer comes by and by; else it is printed when this returns.
    pub(crate) async fn say(&self, world: &World, client: &Client, text: String) -> Result<(), Failure> {
        let Wish { new, model } = std::mem::take(&mut *self.wish());
        let request = ChatRequest { text, key: new_key(), new, model };
        match &self.orders {
            None => print(world, client, request).await,
            Some(orders) => {
                // The talker lives as long as the REPL.
                let _ = orders.send(Order::Say(request));
                Ok(())
            }
        }
    }

    /// Stops waiting for an answer. The conversation goes on.
    pub(crate) fn stop(&self) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order::Stop);
        }
    }

    /// Returns when everything that was said is safe, or there is no hope for that.
    pub(crate) async fn flush(&self) {
        let Some(orders) = &self.orders else { return };
        let (reply, safe) = oneshot::channel();
        if orders.send(Order::Flush(reply)).is_ok() {
            let _ = tokio::time::timeout(SAFE_WITHIN, safe).await;
        }
    }
}

/// Prints an answer for a program: its text as it comes, and nothing else.
async fn print(world: &World, client: &Client, request: ChatRequest) -> Result<(), Failure> {
    let mut stream = client.chat(request).await.map_err(explained)?;
    let (mut sanitizer, mut last, mut open) = (Sanitizer::default(), ' ', false);
    let mut put = |text: &str| {
        let mut clean = String::new();
        sanitizer.push(text.as_bytes(), &mut clean);
        last = clean.chars().last().unwrap_or(last);
        world.print(clean)
    };
    while let Some(event) = stream.next().await.map_err(explained)? {
        match event {
            ChatEvent::Delta(text) if !text.is_empty() => {
                put(&text)?;
                open = true;
            }
            ChatEvent::Delta(_) | ChatEvent::Question { .. } => {}
            ChatEvent::Tool { .. } | ChatEvent::Task { .. } | ChatEvent::Again => {
                if std::mem::take(&mut open) {
                    put("\n")?;
                }
            }
            ChatEvent::Done(text) => {
                if !open {
                    put(&text)?;
                }
            }
        }
    }
    if last == '\n' { Ok(()) } else { world.print("\n") }
}

/// A refusal with the quick way named, where it is for want of a model.
fn explained(refused: Refused) -> Refused {
    let wants_model = refused.message.contains("model") || refused.message.contains("API_KEY");
    let known = refused.message.contains("demo/") || refused.hint.contains("demo/");
    if refused.code != RefusedCode::Conflict || !wants_model || known {
        return refused;
    }
    let hint = format!("{}; `/model demo/tour` needs neither key nor network", refused.hint);
    Refused { hint, ..refused }
}

/// Carries the words of one REPL.
pub(crate) struct Talker {
    client: Client,
    terminal: Terminal,
    known: Arc<Mutex<Known>>,
    above: Above,
    orders: mpsc::UnboundedReceiver<Order>,
    /// What was said and is still to be answered here.
    queue: VecDeque<ChatRequest>,
    /// The answer that was told last.
    last: String,
}

/// Whether an answer is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Go {
    On,
    Away,
}

impl Talker {
    /// The talker, which is to be [run](Talker::run), and what gives it its orders.
    pub(crate) fn new(client: Client, terminal: Terminal, known: Arc<Mutex<Known>>, above: Above) -> (Talker, Voice) {
        let (sender, orders) = mpsc::unbounded_channel();
        let voice = Voice { wish: Mutex::default(), orders: Some(sender) };
        (Talker { client, terminal, known, above, orders, queue: VecDeque::new(), last: String::new() }, voice)
    }

    /// Says what is to be said, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let (request, early) = match self.queue.pop_front() {
                Some(request) => (request, true),
                None => match self.orders.recv().await {
                    Some(Order::Say(request)) => (request, false),
                    Some(Order::Stop) => continue,
                    Some(Order::Flush(reply)) => {
                        let _ = reply.send(());
                        continue;
                    }
                    None => return,
                },
            };
            known::lock(&self.known).answering = true;
            let ended = self.converse(request, early).await;
            known::lock(&self.known).answering = !self.queue.is_empty();
            match ended {
                Ok(Go::On) => {}
                Ok(Go::Away) => {
                    self.queue.clear();
                    known::lock(&self.known).answering = false;
                    self.remark("Not waiting for the answer any more; the conversation goes on.");
                }
                Err(refused) => self.above.say(error_text(&explained(refused))),
            }
        }
    }

    /// Says something and tells its answer. `early`: it was handed over before.
    async fn converse(&mut self, request: ChatRequest, early: bool) -> Result<Go, Refused> {
        let client = self.client.clone();
        // Not waiting for it does not take it back.
        let mut said = tokio::spawn(async move { client.chat(request).await });
        let mut stream = loop {
            tokio::select! {
                stream = &mut said => {
                    break stream.unwrap_or_else(|_| Err(Refused::new(RefusedCode::Internal, "a defect in Octo")))?;
                }
                order = self.orders.recv() => if self.order(order).await == Go::Away { return Ok(Go::Away) },
            }
        };
        let mut answer = Answer { prose: Prose::new(self.terminal.width), spoken: false, begun: false };
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                order = self.orders.recv() => {
                    if self.order(order).await == Go::Away {
                        self.above.say(answer.prose.finish());
                        return Ok(Go::Away);
                    }
                    continue;
                }
            };
            match event {
                Ok(Some(ChatEvent::Done(text))) => {
                    // Two things that were said may have one answer.
                    let known = early && !answer.begun && text == self.last;
                    if !answer.spoken && !known {
                        self.above.say(answer.prose.push(&text));
                    }
                    self.above.say(answer.prose.finish());
                    self.last = text;
                    return Ok(Go::On);
                }
                Ok(Some(event)) => self.tell(event, &mut answer).await,
                Ok(None) => return Ok(Go::On),
                Err(refused) => {
                    self.above.say(answer.prose.finish());
                    return Err(refused);
                }
            }
        }
    }

    async fn tell(&self, event: ChatEvent, answer: &mut Answer) {
        match event {
            ChatEvent::Delta(text) => {
                answer.spoken |= !text.trim().is_empty();
                answer.begun |= answer.spoken;
                self.above.say(answer.prose.push(&text));
            }
            ChatEvent::Tool { line, .. } => {
                let line = sanitize::line(&line);
                let line = self.fitting(&format!("  · {line}"));
                self.between(answer, &format!("{}\n", self.terminal.view().paint(Paint::Dim, &line)));
            }
            ChatEvent::Task { id } => {
                let card = self.card(&id).await;
                self.between(answer, &card);
                super::refresh(&self.client, &self.known).await;
            }
            // It is a notice as well, which says how to answer.
            ChatEvent::Question { .. } => self.between(answer, ""),
            ChatEvent::Again => {
                let told = answer.spoken;
                self.between(answer, "");
                if told {
                    self.remark("  The daemon was away; the answer once more:");
                }
            }
            ChatEvent::Done(_) => {}
        }
    }

    /// Something else stands in the midst of an answer.
    fn between(&self, answer: &mut Answer, line: &str) {
        self.above.say(answer.prose.finish() + line);
        (answer.spoken, answer.begun) = (false, true);
    }

    /// A task that was dispatched, in a line.
    async fn card(&self, id: &str) -> String {
        let view = self.terminal.view();
        let (head, title, paint) = match self.client.only_connect().get(&TaskRef(id.to_owned())).await {
            Ok(task) => {
                let head = format!("  {} {}", task.status.icon(), name_of(&task));
                (head, sanitize::line(task.title()), render::status_paint(task.status))
            }
            // Its name is enough to find it by.
            Err(_) => (format!("  … {}", sanitize::line(id)), String::new(), Paint::Dim),
        };
        let line = self.fitting(&format!("{head}  {title}"));
        let rest = line.strip_prefix(&head).unwrap_or_default().trim_end();
        format!("{}{rest}\n", view.paint(paint, &head))
    }

    fn fitting(&self, line: &str) -> String {
        (self.terminal.width)().map_or_else(|| line.to_owned(), |width| fit(line, width.saturating_sub(1)))
    }

    /// Takes an order while an answer comes.
    async fn order(&mut self, order: Option<Order>) -> Go {
        match order {
            Some(Order::Say(request)) => {
                // From here on it is safe, whatever becomes of the REPL.
                match self.client.chat(request.clone()).await {
                    Ok(_) => self.queue.push_back(ChatRequest { new: false, ..request }),
                    Err(refused) => self.above.say(error_text(&explained(refused))),
                }
                Go::On
            }
            Some(Order::Flush(reply)) => {
                let _ = reply.send(());
                Go::On
            }
            Some(Order::Stop) | None => Go::Away,
        }
    }

    fn remark(&self, text: &str) {
        self.above.say(format!("{}\n", self.terminal.view().paint(Paint::Dim, text)));
    }
}

/// An answer that is being told.
struct Answer {
    prose: Prose,
    /// Something of the present piece of text was told.
    spoken: bool,
    /// Something of it was told at all.
    begun: bool,
}
