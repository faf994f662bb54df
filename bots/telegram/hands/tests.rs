use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use octo::command::{FollowupRequest, Listing, NoticePage, ResumeRequest, StartRequest, StatusReport};
use octo::task::{Answer, Closed, NoticeKind, Stamp, Status, Step, Stop, TaskId};

use super::*;
use crate::telegram::book::Work;
use crate::telegram::calls::Output;
use crate::telegram::card::tests::{NOW, a_task, answered, item, permission, question, seal};
use crate::telegram::gate::tests::{ANN, BOT};
use crate::telegram::gate::{Replied, Tap};
use crate::telegram::post::{Key, Posted};
use crate::telegram::seal::{Button, What};
use crate::telegram::text::tests::balanced;
use crate::telegram::text::{MESSAGE_MAX, seen, units};

/// A daemon in memory.
#[derive(Default, Clone)]
pub(crate) struct Fake(Arc<Mutex<World>>);

#[derive(Default)]
pub(crate) struct World {
    pub(crate) tasks: Vec<Task>,
    /// What changed something, in order.
    pub(crate) effects: Vec<String>,
    started: HashMap<String, TaskId>,
    output: Vec<u8>,
    output_from: u64,
    down: bool,
    /// An effect takes place, and then the daemon is not there to say so.
    cut_off: bool,
}

impl Fake {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn effects(&self) -> Vec<String> {
        self.world().effects.clone()
    }
}

fn gone() -> Refused {
    Refused::new(RefusedCode::Unavailable, "the daemon went away")
}

impl World {
    fn up(&self) -> Result<(), Refused> {
        if self.down { Err(gone()) } else { Ok(()) }
    }

    fn find(&mut self, id: TaskId) -> Result<&mut Task, Refused> {
        self.up()?;
        self.tasks.iter_mut().find(|t| t.id == id).ok_or_else(|| Refused::no_such_task(id))
    }

    fn told<T>(&self, value: T) -> Result<T, Refused> {
        if self.cut_off { Err(gone()) } else { Ok(value) }
    }
}

impl Desk for Fake {
    async fn start(&self, user: i64, request: StartRequest) -> Result<Task, Refused> {
        let mut world = self.world();
        world.up()?;
        if let Some(id) = world.started.get(&request.key).copied() {
            return world.find(id).cloned();
        }
        let number = world.tasks.len() as u64 + 100;
        let mut task = a_task(number, Status::Dispatched);
        task.command = request.command;
        let mut what = task.command.clone();
        if request.kind == Kind::Agent {
            (task.kind, task.prompt, task.agent_name) = (request.kind, request.prompt, request.agent_id);
            task.model = request.model;
            what = format!("agent {:?} on {:?}: {}", task.agent_name, task.model, task.prompt);
        }
        world.started.insert(request.key.clone(), task.id);
        world.effects.push(format!("start {what} by {user} as {}", request.key));
        world.tasks.push(task.clone());
        world.told(task)
    }

    async fn list(&self, query: ListQuery) -> Result<Listing, Refused> {
        let world = self.world();
        world.up()?;
        let fits = |t: &&Task| query.status.is_none_or(|s| s == t.status);
        let (ended, active): (Vec<Task>, Vec<Task>) =
            world.tasks.iter().filter(fits).cloned().partition(|t| t.status.is_ended());
        Ok(Listing { active, total: ended.len(), history: ended, next: None })
    }

    async fn get(&self, task: &TaskRef) -> Result<Task, Refused> {
        let world = self.world();
        world.up()?;
        let is = |t: &&Task| t.id.to_string() == task.0 || t.number.to_string() == task.0;
        world.tasks.iter().find(is).cloned().ok_or_else(|| Refused::no_such_task(task))
    }

    async fn answer(&self, user: i64, task: TaskId, request: ResumeRequest) -> Result<Task, Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if record.answers.iter().any(|a| a.key == request.key) {
            return Ok(record.clone());
        }
        let id = request.question.unwrap();
        let conflict = |why: &str| Refused::new(RefusedCode::Conflict, why);
        let question = record.questions.iter_mut().find(|q| q.id == id).ok_or_else(|| conflict("no such question"))?;
        if !question.open {
            return Err(conflict("already answered"));
        }
        let text = question
            .accepts(&request.answer)
            .ok_or_else(|| Refused::new(RefusedCode::BadRequest, "none of the choices"))?;
        (question.open, question.closed) = (false, Some(Closed::Answered));
        let by = format!("telegram:{user}");
        let effect = format!("answer {id} of {task} by {by} as {}: {text}", request.key);
        let at = Stamp::from_millis(NOW);
        record.answers.push(Answer { question: id, text, by, at, key: request.key, ..Answer::default() });
        let record = record.clone();
        world.effects.push(effect);
        world.told(record)
    }

    async fn stop(&self, user: i64, task: TaskId) -> Result<(), Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if record.status.is_ended() {
            return Err(Refused::new(RefusedCode::Conflict, "it has ended"));
        }
        let (by, at) = (format!("telegram:{user}"), Stamp::from_millis(NOW));
        record.stop = Some(Stop { by, at, reason: "cancel".to_owned(), extra: serde_json::Map::new() });
        world.effects.push(format!("stop {task} by {user}"));
        world.told(())
    }

    async fn retry(&self, user: i64, task: TaskId) -> Result<(), Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if !record.status.is_ended() {
            return Err(Refused::new(RefusedCode::Conflict, "it has not ended"));
        }
        record.run += 1;
        record.take(Step::Retry, &Stamp::from_millis(NOW)).unwrap();
        world.effects.push(format!("retry {task} by {user}"));
        world.told(())
    }

    async fn raise(&self, user: i64, task: TaskId, tokens: Option<u64>) -> Result<(), Refused> {
        let mut world = self.world();
        let record = world.find(task)?;
        if record.status != Status::BudgetExceeded {
            return Err(Refused::new(RefusedCode::Conflict, "it has its budget"));
        }
        record.budget.tokens = record.budget.tokens.map(|most| most + tokens.unwrap_or(50_000));
        record.take(Step::Raise, &Stamp::from_millis(NOW)).unwrap();
        world.effects.push(format!("raise {task} by {user}: {tokens:?}"));
        world.told(())
    }

    async fn followup(&self, user: i64, task: TaskId, request: FollowupRequest) -> Result<Task, Refused> {
        self.world().find(task)?;
        let prompt = format!("{} after {task}", request.text);
        let request = StartRequest { kind: Kind::Agent, prompt, key: request.key, ..StartRequest::default() };
        self.start(user, request).await
    }

    async fn unknown_program(&self, command: &str) -> Option<String> {
        command.strip_prefix("prose ").map(|_| "prose".to_owned())
    }

    async fn clear(&self, user: i64) -> Result<u64, Refused> {
        let mut world = self.world();
        world.up()?;
        world.effects.push(format!("clear by {user}"));
        world.told(3)
    }

    async fn output(&self, _: TaskId, most: u32) -> Result<Output, Refused> {
        let world = self.world();
        world.up()?;
        let from = world.output.len().saturating_sub(most as usize);
        Ok(Output { bytes: world.output[from..].to_vec(), from: world.output_from + from as u64 })
    }

    async fn status(&self) -> Result<StatusReport, Refused> {
        self.world().up()?;
        let setting = octo::command::SettingInfo {
            name: "SECRET_SETTING".to_owned(),
            value: "x".to_owned(),
            source: ".env".to_owned(),
        };
        let workspace = "/srv/<work> 123456789:AAExxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_owned();
        Ok(StatusReport { pid: 7, workspace, settings: vec![setting], ..StatusReport::default() })
    }

    async fn lately(&self) -> Result<NoticePage, Refused> {
        self.world().up()?;
        let notices = vec![item(a_task(1, Status::Failed), NoticeKind::Failed)];
        Ok(NoticePage { notices, cursor: 1, more: false })
    }
}

/// Hands with a fake daemon, and a file for the book in memory.
pub(crate) struct Bench {
    pub(crate) hands: Hands<Fake>,
    pub(crate) fake: Fake,
    saves: Arc<AtomicUsize>,
}

pub(crate) fn bench(run: TelegramRun, tasks: Vec<Task>) -> Bench {
    let fake = Fake::default();
    fake.world().tasks = tasks;
    let saves = Arc::new(AtomicUsize::new(0));
    let count = saves.clone();
    let hands = Hands {
        desk: fake.clone(),
        rules: Rules { bot: BOT, name: "octo_bot".to_owned(), run, tz: TimeZone::UTC },
        seal: seal(),
        mask: Mask::new(["hunter2-hunter2"]),
        book: Arc::default(),
        keep: Arc::new(move |bytes| {
            Book::read(&bytes).map(drop)?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }),
        clock: || NOW,
    };
    Bench { hands, fake, saves }
}

pub(crate) fn text(said: &str) -> Text {
    Text {
        user: ANN,
        name: "Ann".to_owned(),
        chat: ANN,
        message: 50,
        text: said.to_owned(),
        reply: None,
        at: NOW / 1000 - 5,
    }
}

pub(crate) fn tap_of(data: &str) -> Tap {
    Tap { user: ANN, chat: ANN, message: 60, callback: "cb".to_owned(), data: data.to_owned() }
}

impl Bench {
    /// Says something; the errands are sound.
    async fn hear(&self, heard: Heard, update: u32) -> Result<Vec<Errand>, Later> {
        let errands = self.hands.hear(heard, update).await?;
        for errand in &errands {
            let (chat, html, most) = match &errand.post {
                Post::Message { chat, html, .. } | Post::Edit { chat, html, .. } => (*chat, html.as_str(), MESSAGE_MAX),
                Post::Document { chat, caption, .. } => (*chat, caption.as_str(), 1024),
                Post::Toast { text, .. } => (ANN, text.as_str(), 200),
                Post::Delete { chat, .. } => (*chat, "x", 1),
            };
            assert_eq!(chat, ANN);
            assert!(balanced(html) && units(&seen(html)) <= most, "{html}");
        }
        Ok(errands)
    }

    async fn say(&self, said: &str, update: u32) -> Vec<Errand> {
        self.hear(Heard::Text(text(said)), update).await.unwrap()
    }

    async fn reply(&self, said: &str, message: i32, data: &[String], update: u32) -> Vec<Errand> {
        let reply = Replied { message, own: true, data: data.to_vec() };
        self.hear(Heard::Text(Text { reply: Some(reply), ..text(said) }), update).await.unwrap()
    }

    async fn tap(&self, button: &Button, update: u32) -> Vec<Errand> {
        let data = seal().close(ANN, ANN, button).unwrap();
        self.hear(Heard::Tap(tap_of(&data)), update).await.unwrap()
    }

    fn note(&self, errand: &Errand, message: i32) -> Option<Post> {
        let posted = if matches!(errand.post, Post::Message { .. }) { Posted::Sent(message) } else { Posted::Done };
        errand.done(&posted, &mut self.hands.book())
    }
}

/// What an errand shows: its text, or its toast.
fn shows(errand: &Errand) -> String {
    match &errand.post {
        Post::Message { html, .. } | Post::Edit { html, .. } => seen(html),
        Post::Document { caption, .. } => seen(caption),
        Post::Toast { text, .. } => text.clone(),
        Post::Delete { .. } => String::new(),
    }
}

fn keys(errand: &Errand) -> Vec<Key> {
    match &errand.post {
        Post::Message { keys, .. } | Post::Edit { keys, .. } => keys.concat(),
        _ => Vec::new(),
    }
}

fn data(errand: &Errand) -> Vec<String> {
    keys(errand).into_iter().map(|k| k.data).collect()
}

fn button(errand: &Errand, label: &str) -> Button {
    let key = keys(errand).into_iter().find(|k| k.text == label).unwrap_or_else(|| panic!("no {label}: {errand:?}"));
    seal().open(ANN, ANN, &key.data).unwrap()
}

fn id(number: u64) -> TaskId {
    a_task(number, Status::Running).id
}

fn of_task(number: u64, what: What) -> Button {
    Button::Task(id(number), what)
}

#[tokio::test]
async fn a_command_runs_once_after_any_number_of_taps() {
    let bench = bench(TelegramRun::Ask, vec![]);
    let asked = bench.say("/bg make <x>", 7).await;
    assert!(bench.fake.effects().is_empty());
    assert!(shows(&asked[0]).contains("make <x>"));
    let run = button(&asked[0], "Run");
    let first = bench.tap(&run, 8).await;
    for update in [8, 9, 10] {
        let again = bench.tap(&run, update).await;
        assert!(shows(&again[0]).contains("over"), "{again:?}");
    }
    assert_eq!(bench.fake.effects(), [format!("start make <x> by {ANN} as tg:{BOT}:7")]);
    assert!(matches!(&first[1].post, Post::Edit { message: 60, .. }));
    assert_eq!(first[1].note, Note::Card { task: id(100), ended: false });
    let dropped = bench.tap(&button(&asked[0], "Drop"), 11).await;
    assert!(shows(&dropped[0]).contains("over"), "{dropped:?}");
}

#[tokio::test]
async fn a_dropped_or_forgotten_command_does_not_run() {
    let bench = bench(TelegramRun::Ask, vec![]);
    let asked = bench.say("/bg make", 7).await;
    bench.tap(&button(&asked[0], "Drop"), 8).await;
    let run = bench.tap(&button(&asked[0], "Run"), 9).await;
    assert!(shows(&run[0]).contains("over"));
    bench.say("/bg other", 10).await;
    *bench.hands.book() = Book::default();
    assert!(shows(&bench.tap(&Button::Run(10), 11).await[0]).contains("not kept"));
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_crash_between_the_start_and_its_card_starts_nothing_twice() {
    let bench = bench(TelegramRun::Ask, vec![]);
    let asked = bench.say("/bg make", 7).await;
    let book = bench.hands.book().clone();
    let run = button(&asked[0], "Run");
    bench.tap(&run, 8).await;
    *bench.hands.book() = book;
    let again = bench.tap(&run, 8).await;
    assert!(shows(&again[1]).contains("#100"), "{again:?}");
    assert_eq!(bench.fake.effects().len(), 1);
}

#[tokio::test]
async fn telegram_run_decides_what_a_typed_command_needs() {
    let on = bench(TelegramRun::On, vec![]);
    let card = on.say("/bg make", 7).await;
    on.say("/bg make", 7).await;
    assert_eq!(on.fake.effects().len(), 1, "the same update is the same task");
    assert_eq!(card[0].note, Note::Card { task: id(100), ended: false });
    let old = Text { at: NOW / 1000 - 3601, ..text("/bg make") };
    let asked = on.hear(Heard::Text(old), 8).await.unwrap();
    assert!(shows(&asked[0]).contains("1h ago"), "{asked:?}");
    let asked = on.say("/bg echo “x” —all", 9).await;
    assert!(shows(&asked[0]).contains("typographic"), "{asked:?}");
    assert_eq!(on.fake.effects().len(), 1);

    let off = bench(TelegramRun::Off, vec![]);
    assert!(shows(&off.say("/bg make", 7).await[0]).contains("switched off"));
    off.hands.book().set_pending(6, &format!("tg:{BOT}:6"), ANN, "make", Work::Command, NOW);
    assert!(shows(&off.tap(&Button::Run(6), 8).await[0]).contains("switched off"));
    assert!(off.fake.effects().is_empty());
}

#[tokio::test]
async fn a_tap_answers_and_the_loser_hears_who_was_first() {
    let bench = bench(TelegramRun::Ask, vec![a_task(9, Status::Paused)]);
    bench.hands.book().set_asked(ANN, 61, id(9), "q1");
    let yes = of_task(9, What::Answer("q1".to_owned(), 0));
    for _ in 0..2 {
        let done = bench.tap(&yes, 7).await;
        assert_eq!(shows(&done[0]), "answered by Telegram (4711) at 10:00: yes", "the same update again is the same");
        let edited: Vec<_> =
            done[1..].iter().map(|e| (data(e), matches!(e.post, Post::Edit { message: 60 | 61, .. }))).collect();
        assert_eq!(edited, [(vec![], true), (vec![], true)], "the card that was tapped, and the one that is known");
    }
    let late = bench.tap(&of_task(9, What::Answer("q1".to_owned(), 1)), 8).await;
    assert_eq!(shows(&late[0]), "already answered by Telegram (4711) at 10:00: yes");
    assert!(shows(&late[1]).contains("answered by"));
    assert_eq!(bench.fake.effects(), [format!("answer q1 of {} by telegram:{ANN} as tg:{BOT}:7: yes", id(9))]);
}

#[tokio::test]
async fn the_repl_was_first() {
    let bench = bench(TelegramRun::Ask, vec![answered(a_task(9, Status::Paused), "repl", "yes")]);
    let late = bench.tap(&of_task(9, What::Answer("q1".to_owned(), 1)), 7).await;
    assert_eq!(shows(&late[0]), "already answered by REPL at 09:59: yes");
    let mut closed = a_task(9, Status::Paused);
    (closed.questions[0].open, closed.questions[0].closed) = (false, Some(Closed::TaskEnded));
    bench.fake.world().tasks = vec![closed];
    assert_eq!(
        shows(&bench.tap(&of_task(9, What::Answer("q1".to_owned(), 1)), 8).await[0]),
        "This is over. task ended"
    );
    for button in [of_task(9, What::Answer("q9".to_owned(), 0)), of_task(9, What::Answer("q1".to_owned(), 9))] {
        assert_eq!(shows(&bench.tap(&button, 9).await[0]), "This is over.");
    }
    let none = bench.tap(&of_task(8, What::Cancel(1)), 10).await;
    assert!(shows(&none[0]).contains("over"));
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_reply_answers_by_the_book_or_by_the_cards_own_buttons() {
    let mut task = a_task(9, Status::Paused);
    task.questions.push(question("q2", "What next?", &[]));
    let bench = bench(TelegramRun::Ask, vec![task.clone()]);
    bench.hands.book().set_asked(ANN, 61, id(9), "q1");
    let wrong = bench.reply("perhaps", 61, &[], 7).await;
    assert!(shows(&wrong[0]).contains("none of the choices") && shows(&wrong[0]).contains("2. no"), "{wrong:?}");
    for _ in 0..2 {
        let right = bench.reply("NO", 61, &[], 8).await;
        assert!(matches!(right[0].post, Post::Edit { message: 61, .. }), "{right:?}");
        assert_eq!(right.len(), 1);
    }
    // The book knows nothing of this card; its buttons do.
    let card =
        bench.hands.draw(Who { user: ANN, chat: ANN, message: 1 }, |f| card::asks(&task, &task.questions[1], false, f));
    let sealed: Vec<String> = card.keys.concat().into_iter().map(|k| k.data).collect();
    bench.reply("/usr/bin is right", 70, &sealed, 9).await;
    let late = bench.reply("no", 70, &sealed, 10).await;
    assert!(shows(late.last().unwrap()).contains("Too late: answered by Telegram (Ann)"), "{late:?}");
    let prefix = format!("by telegram:{ANN} as tg:{BOT}");
    assert_eq!(
        bench.fake.effects(),
        [
            format!("answer q1 of {} {prefix}:8: no", id(9)),
            format!("answer q2 of {} {prefix}:9: /usr/bin is right", id(9))
        ]
    );
}

#[tokio::test]
async fn forged_buttons_of_a_replied_message_bind_nothing() {
    let bench = bench(TelegramRun::Ask, vec![a_task(9, Status::Paused)]);
    let foreign = seal().close(4712, 4712, &of_task(9, What::Answer("q1".to_owned(), 0))).unwrap();
    let done = bench.reply("yes", 70, &[foreign, "1:c4b1e009:aq1.0:AAAAAAAAAAAAAAAA".to_owned()], 7).await;
    assert!(shows(&done[0]).contains("one question is open"), "{done:?}");
    let other = Replied { message: 61, own: false, data: vec![] };
    bench.hands.book().set_asked(ANN, 61, id(9), "q1");
    bench.hear(Heard::Text(Text { reply: Some(other), ..text("yes") }), 8).await.unwrap();
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn plain_text_is_never_an_answer() {
    let bench = bench(TelegramRun::On, vec![a_task(9, Status::Paused)]);
    let told = bench.say("yes", 7).await;
    assert!(shows(&told[0]).contains("one question is open"));
    assert_eq!(told[1].note, Note::Question { task: id(9), question: "q1".to_owned() });
    bench.fake.world().tasks.clear();
    assert!(bench.hands.book().talkers().is_empty());
    assert!(bench.say("yes", 8).await.is_empty());
    assert_eq!(bench.hands.book().talk(ANN).unwrap().text, "yes");
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn what_is_said_to_the_agent_is_kept_before_the_update_counts_as_applied() {
    let bench = bench(TelegramRun::Ask, vec![]);
    bench.say("/new", 5).await;
    bench.say("/model demo/tour", 6).await;
    assert!(shows(&bench.say("/model", 7).await[0]).contains("demo/tour"));
    let saves = bench.saves.load(Ordering::SeqCst);
    for _ in 0..2 {
        assert!(bench.say("how are my tasks?\nand why?", 8).await.is_empty(), "the answer comes by itself");
    }
    assert!(bench.saves.load(Ordering::SeqCst) > saves);
    bench.say("and now?", 9).await;
    let book = Book::read(&bench.hands.book().bytes()).unwrap();
    let first = book.talk(ANN).unwrap().clone();
    assert_eq!((first.key.as_str(), first.message), (&format!("tg:{BOT}:8")[..], 50));
    assert_eq!(first.text, "how are my tasks?\nand why?");
    assert!(first.wish.new && first.wish.model == "demo/tour");
    bench.hands.book().end_talk(&first.key);
    let second = bench.hands.book().talk(ANN).unwrap().clone();
    assert_eq!((second.text.as_str(), second.wish), ("and now?", crate::telegram::book::Wish::default()));
    bench.hands.book().end_talk(&second.key);
    assert!(bench.hands.book().talkers().is_empty());
}

#[tokio::test]
async fn old_words_are_asked_about_and_said_once() {
    let bench = bench(TelegramRun::On, vec![]);
    let old = Text { at: NOW / 1000 - 7200, ..text("delete <all>") };
    let asked = bench.hear(Heard::Text(old), 7).await.unwrap();
    assert!(shows(&asked[0]).contains("It was written 2h ago"), "{asked:?}");
    assert!(bench.hands.book().talkers().is_empty());
    let said = bench.tap(&button(&asked[0], "Run"), 8).await;
    assert!(shows(&said[1]).contains("You said: delete <all>"), "{said:?}");
    assert_eq!(bench.hands.book().talk(ANN).unwrap().key, format!("tg:{BOT}:7"));
    bench.hands.book().end_talk(&format!("tg:{BOT}:7"));
    assert!(shows(&bench.tap(&button(&asked[0], "Run"), 9).await[0]).contains("over"));
    assert!(bench.hands.book().talkers().is_empty());
    let off = self::bench(TelegramRun::Off, vec![a_task(3, Status::Failed)]);
    for said in ["hello", "/agent do it", "/bg make", "/task 3 followup more"] {
        assert!(shows(&off.say(said, 7).await[0]).contains("TELEGRAM_RUN=off"), "{said}");
    }
    assert!(off.hands.book().talkers().is_empty() && off.fake.effects().is_empty());
}

#[tokio::test]
async fn an_agents_job_runs_after_a_tap_and_once() {
    let bench = bench(TelegramRun::Ask, vec![a_task(3, Status::Completed)]);
    let asked = bench.say("/agent --agent=coder --model x/y fix <it>", 7).await;
    assert!(shows(&asked[0]).contains("Give this to coder on x/y?\nfix <it>"), "{asked:?}");
    let prose = bench.say("/bg prose for an agent", 8).await;
    assert!(shows(&prose[0]).contains("`prose` is no program here"), "{prose:?}");
    let follow = bench.say("/task 3 followup and the docs", 9).await;
    assert!(shows(&follow[0]).contains("from the result of c4b1e003?"), "{follow:?}");
    assert!(bench.fake.effects().is_empty());
    for asked in [asked, prose, follow] {
        for update in [10, 11] {
            bench.tap(&button(&asked[0], "Run"), update).await;
        }
    }
    let as_key = |n: u32| format!("by {ANN} as tg:{BOT}:{n}");
    assert_eq!(
        bench.fake.effects(),
        [
            format!("start agent \"coder\" on \"x/y\": fix <it> {}", as_key(7)),
            format!("start agent \"\" on \"\": prose for an agent {}", as_key(8)),
            format!("start agent \"\" on \"\": and the docs after c4b1e003 {}", as_key(9)),
        ]
    );
    let on = self::bench(TelegramRun::On, vec![a_task(3, Status::Completed), a_task(4, Status::Running)]);
    on.hands.book().set_card(id(3), ANN, 81, true);
    for _ in 0..2 {
        let card = on.reply("and the docs", 81, &[], 7).await;
        assert_eq!(card[0].note, Note::Card { task: id(102), ended: false });
    }
    assert_eq!(on.fake.effects().len(), 1);
    assert!(shows(&on.say("/task 4 followup x", 8).await[0]).contains("has not ended"));
}

#[tokio::test]
async fn a_budget_is_raised_by_the_button_of_that_budget_once() {
    let mut spent = a_task(9, Status::BudgetExceeded);
    (spent.kind, spent.prompt) = (Kind::Agent, "fix it".to_owned());
    (spent.budget.tokens, spent.usage.input_tokens) = (Some(50_000), 50_001);
    let bench = bench(TelegramRun::Ask, vec![spent, a_task(3, Status::Failed)]);
    let card = bench.say("/task 9", 7).await;
    assert!(shows(&card[0]).contains("50,001 tokens · 100 % of its budget"), "{card:?}");
    let raise = button(&card[0], "Raise");
    let done = bench.tap(&raise, 8).await;
    assert!(shows(&done[0]).contains("goes on"), "{done:?}");
    // The same tap after a crash, and another one when the larger budget is used up, too.
    bench.tap(&raise, 8).await;
    bench.fake.world().tasks[0].take(Step::Run, &Stamp::from_millis(NOW)).unwrap();
    bench.fake.world().tasks[0].take(Step::End(Status::BudgetExceeded), &Stamp::from_millis(NOW)).unwrap();
    assert!(shows(&bench.tap(&raise, 9).await[0]).contains("over"));
    assert_eq!(bench.fake.effects(), [format!("raise {} by {ANN}: None", id(9))]);
    for _ in 0..2 {
        bench.say("/task 9 raise 1000", 10).await;
    }
    assert_eq!(bench.fake.effects().len(), 2);
    assert!(keys(&bench.say("/task 3", 11).await[0]).iter().all(|k| k.text != "Raise"));
}

#[tokio::test]
async fn a_reply_to_a_tasks_card_is_bound_to_no_question() {
    let bench =
        bench(TelegramRun::Ask, vec![a_task(9, Status::Paused), a_task(3, Status::Failed), a_task(4, Status::Running)]);
    for (message, number) in [(80, 9), (81, 3), (82, 4)] {
        bench.hands.book().set_card(id(number), ANN, message, false);
    }
    assert!(shows(&bench.reply("yes", 80, &[], 7).await[0]).contains("Which question"));
    assert!(shows(&bench.reply("and now?", 81, &[], 8).await[0]).contains("from the result of c4b1e003?"));
    assert!(shows(&bench.reply("hm", 82, &[], 9).await[0]).contains("asks nothing"));
    let logs = seal().close(ANN, ANN, &of_task(3, What::Logs)).unwrap();
    assert!(shows(&bench.reply("and now?", 99, &[logs], 10).await[0]).contains("from the result of"));
    assert!(shows(&bench.reply("/task 3", 81, &[], 11).await[0]).contains("#3"), "a command stays one");
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn resume_in_words() {
    let bench = bench(TelegramRun::On, vec![a_task(9, Status::Paused)]);
    for _ in 0..2 {
        let done = bench.say("/task 9 resume yes", 7).await;
        assert_eq!(shows(&done[0]), "#9 c4b1e009 answered by Telegram (Ann) at 10:00: yes");
    }
    let late = shows(&bench.say("/task 9 resume no", 8).await[0]);
    assert_eq!(late, "#9 c4b1e009 asks nothing any more: answered by Telegram (Ann) at 10:00: yes");
    assert!(shows(&bench.say("/task 9 resume --question q1 no", 9).await[0]).contains("Too late: answered"));
    let mut two = a_task(8, Status::Paused);
    two.questions = vec![permission("q2", "rm x", "command")];
    bench.fake.world().tasks.push(two);
    assert!(shows(&bench.say("/task 8 resume yes", 10).await[0]).contains("Which question"), "a permission is named");
    assert_eq!(bench.say("/task 8 resume", 10).await.len(), 2, "its card and what it asks");
    assert_eq!(bench.fake.effects().len(), 1);
    bench.say("/task 8 resume --question q2 yes", 11).await;
    assert!(bench.fake.effects()[1].ends_with(": allow"));
}

#[tokio::test]
async fn buttons_of_an_older_run_do_nothing() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed), a_task(4, Status::Running)]);
    let done = bench.tap(&of_task(3, What::Retry(1)), 7).await;
    assert!(shows(&done[0]).contains("runs again") && keys(&done[1])[0].text == "Cancel", "{done:?}");
    for button in [
        of_task(3, What::Retry(1)),
        of_task(3, What::Cancel(1)),
        of_task(3, What::Retry(2)),
        of_task(4, What::Retry(1)),
    ] {
        let over = bench.tap(&button, 8).await;
        assert!(shows(&over[0]).starts_with("This is over. #"), "{over:?}");
        assert!(matches!(over[1].post, Post::Edit { .. }));
    }
    bench.tap(&of_task(4, What::Cancel(1)), 9).await;
    assert_eq!(bench.fake.effects(), [format!("retry {} by {ANN}", id(3)), format!("stop {} by {ANN}", id(4))]);
}

#[tokio::test]
async fn typed_changes_of_a_run_are_made_once_over_a_crash() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed), a_task(4, Status::Running)]);
    // The daemon is cut off after each change, and the update is applied again.
    for (said, update, effect) in
        [("/task 3 retry", 7, format!("retry {} by {ANN}", id(3))), ("/bg clear", 8, format!("clear by {ANN}"))]
    {
        bench.fake.world().effects.clear();
        bench.fake.world().cut_off = true;
        assert!(bench.hear(Heard::Text(text(said)), update).await.is_err());
        bench.fake.world().cut_off = false;
        // Meanwhile the second run has ended, too.
        let at = Stamp::from_millis(NOW);
        if let Ok(task) = bench.fake.world().find(id(3)) {
            task.take(Step::End(Status::Failed), &at).ok();
        }
        bench.say(said, update).await;
        assert_eq!(bench.fake.effects(), [effect], "{said}");
    }
    // A stop, a retry by somebody else, and the stop's update once more.
    bench.fake.world().effects.clear();
    bench.say("/task 4 cancel", 9).await;
    {
        let mut world = bench.fake.world();
        let task = world.find(id(4)).unwrap();
        task.take(Step::End(Status::Cancelled), &Stamp::from_millis(NOW)).unwrap();
        task.take(Step::Retry, &Stamp::from_millis(NOW)).unwrap();
        task.run = 2;
    }
    bench.say("/task 4 cancel", 9).await;
    assert_eq!(bench.fake.effects(), [format!("stop {} by {ANN}", id(4))]);
    bench.say("/bg kill 4", 10).await;
    assert_eq!(bench.fake.effects().len(), 2);
    assert!(bench.saves.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn nothing_is_changed_when_the_book_cannot_be_saved() {
    let mut bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed)]);
    bench.hands.keep = Arc::new(|_| Err("no space left on device".to_owned()));
    let told = bench.say("/task 3 retry", 7).await;
    assert!(shows(&told[0]).contains("Nothing was done: no space left"), "{told:?}");
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_daemon_that_is_away_is_for_later_and_a_refusal_is_told() {
    let bench = bench(TelegramRun::On, vec![a_task(9, Status::Paused)]);
    bench.fake.world().down = true;
    for said in ["/bg make", "/tasks", "yes", "/task 9 resume yes", "/status", "/recap"] {
        assert!(bench.hear(Heard::Text(text(said)), 7).await.is_err(), "{said}");
    }
    let yes = seal().close(ANN, ANN, &of_task(9, What::Answer("q1".to_owned(), 0))).unwrap();
    assert!(bench.hear(Heard::Tap(tap_of(&yes)), 7).await.is_err());
    bench.fake.world().down = false;
    assert!(shows(&bench.say("/task nope", 8).await[0]).starts_with("No such task: nope."));
    assert!(shows(&bench.say("/tsak 9", 9).await[0]).contains("/task"));
}

#[tokio::test]
async fn logs_come_in_a_message_or_as_a_file() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed)]);
    assert_eq!(shows(&bench.say("/task 3 logs", 7).await[0]), "#3 c4b1e003 has printed nothing.");
    bench.fake.world().output = b"one\x1b[31m <two> hunter2-hunter2\n".to_vec();
    assert_eq!(shows(&bench.say("/task_3_logs", 7).await[0]), "Output of #3 c4b1e003:\none <two> •••");
    bench.fake.world().output = (1..=2000).flat_map(|n| format!("line {n} hunter2-hunter2\n").into_bytes()).collect();
    let tapped = bench.tap(&of_task(3, What::Logs), 8).await;
    let Post::Document { name, bytes, caption, .. } = &tapped[1].post else { panic!("{tapped:?}") };
    assert_eq!(name, "task-3-c4b1e003.txt");
    assert!(caption.contains("line 2000 •••") && !String::from_utf8_lossy(bytes).contains("hunter2"));
    assert!(bytes.starts_with(b"line 1 ") && bytes.ends_with(b"line 2000 \xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2\n"));
    bench.fake.world().output_from = 5;
    let cut = bench.tap(&of_task(3, What::Logs), 9).await;
    let Post::Document { bytes, caption, .. } = &cut[1].post else { panic!("{cut:?}") };
    assert!(caption.contains("(its end)") && bytes.starts_with(b"line 2 "), "the first line may be half of one");
}

#[tokio::test]
async fn what_only_tells_changes_nothing() {
    let mut task = a_task(9, Status::Paused);
    task.questions.push(permission("q2", &"x".repeat(5000), "command"));
    let bench = bench(TelegramRun::On, vec![task, a_task(3, Status::Failed)]);
    for (said, part) in [
        ("/tasks", "/task_9"),
        ("/bg list", "/task_3"),
        ("/tasks running", "There is no task that is running."),
        ("/task 9", "#9"),
        ("/status", "/srv/<work> •••"),
        ("/recap", "Lately"),
        ("/help", "/task ID resume"),
        ("/start", "This is Octo"),
        ("/quit", "nothing to leave"),
        ("/task 3 rm", "in the terminal"),
    ] {
        let told = bench.say(said, 7).await;
        assert!(shows(&told[0]).contains(part), "{said}: {told:?}");
    }
    assert!(!shows(&bench.say("/status", 7).await[0]).contains("SECRET_SETTING"));
    assert_eq!(bench.say("/task 9", 7).await.len(), 3, "its card and its questions");
    assert_eq!(bench.say("  ", 7).await, []);
    let whole = bench.tap(&of_task(9, What::Show("q2".to_owned())), 8).await;
    assert!(matches!(&whole[1].post, Post::Document { bytes, .. } if bytes.len() > 5000), "{whole:?}");
    let card = bench.tap(&of_task(9, What::Show("q1".to_owned())), 8).await;
    assert_eq!(card[1].note, Note::Card { task: id(9), ended: false });
    assert!(shows(&bench.tap(&Button::Recap, 8).await[1]).contains("Lately"));
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn one_card_for_a_task_stays_in_the_chat() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed)]);
    let first = bench.say("/task 3", 7).await;
    assert_eq!(bench.note(&first[0], 90), None);
    let second = bench.say("/task 3", 8).await;
    assert_eq!(bench.note(&second[0], 91), Some(Post::Delete { chat: ANN, message: 90 }));
}

#[tokio::test]
async fn blocked_chats_are_remembered_until_they_speak() {
    let bench = bench(TelegramRun::On, vec![]);
    bench.hear(Heard::Blocked(ANN), 1).await.unwrap();
    assert_eq!(bench.hands.book().unreachable().len(), 1);
    bench.hear(Heard::Back(ANN), 2).await.unwrap();
    assert_eq!(bench.hands.book().unreachable().len(), 0);
    bench.hear(Heard::Blocked(ANN), 3).await.unwrap();
    bench.say("/help", 4).await;
    assert_eq!(bench.hands.book().unreachable().len(), 0);
}

/// The bridge runs in a task of its own.
#[test]
fn hearing_can_be_spawned() {
    fn sent<T: Send>(_: T) {}
    fn check(hands: &Hands<octo::client::Client>) {
        sent(hands.hear(Heard::Nothing("x"), 1));
    }
    let _ = check;
}

/// What the hands' clock says.
pub(crate) fn now() -> i64 {
    NOW
}
