//! Random commands, failing saves, deaths and reboots: after every step the indexes agree with the tasks,
//! nobody is forgotten, no run starts twice, slots are kept, and what was acknowledged is on disk.

use std::collections::{BTreeMap, BTreeSet};

use octo::agent::drive::Parking;
use octo::command::{Actor, Env, EnvValue, QuestionRequest, Receipt, Receipts, ResumeRequest, StartRequest, TaskRef};
use octo::exec::agent::{Report, Reserve};
use octo::store::{Persist as _, env_digest};
use octo::supervisor::core::{Ask, Input, Limits, NewQuestion, NewTask, Reply, Resolved};
use octo::task::{Delivery, Notice, Task, TaskId};
use octo::task::{Kind, Stamp};

use super::{Answer, Lab, limits};

const SLOTS: usize = 2;

/// A small generator (xorshift64*): the same seed is the same story.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len())]) }
    }
}

struct Story {
    lab: Option<Lab>,
    dice: Dice,
    keys: u64,
    /// Every task that was ever named to its starter, by key.
    known: BTreeMap<String, TaskId>,
    /// Those whose start was acknowledged and whose removal was never asked for.
    kept: BTreeSet<TaskId>,
    removed: BTreeSet<TaskId>,
    /// Questions that were acknowledged: the task, the key, the id.
    asked: BTreeSet<(TaskId, String, String)>,
    /// Answers that were acknowledged: whose.
    answered: BTreeMap<(TaskId, usize), String>,
    /// What drivers reported.
    reports: usize,
    /// Receipts that were acknowledged.
    told: BTreeSet<(TaskId, u64)>,
    at: String,
}

impl Story {
    fn lab(&mut self) -> &mut Lab {
        self.lab.as_mut().unwrap()
    }

    fn any(&mut self) -> Option<TaskId> {
        let ids: Vec<TaskId> = self.known.values().copied().collect();
        self.dice.one_of(&ids)
    }

    fn start(&mut self) {
        let count = 1 + self.dice.below(3);
        let mut tasks = Vec::new();
        let mut envs = Vec::new();
        for _ in 0..count {
            let again = self.dice.below(6) == 0;
            if !again {
                self.keys += 1;
            }
            let key =
                format!("k{}", if again { 1 + self.dice.below(self.keys.max(1) as usize) as u64 } else { self.keys });
            let mut request = StartRequest { command: "x".into(), key, ..StartRequest::default() };
            if self.dice.below(3) == 0 {
                request.kind = Kind::Agent;
                request.timeout = [0, 0, 40][self.dice.below(3)];
                request.budget_tokens = Some([2000, 50_000][self.dice.below(2)]);
            }
            if self.dice.below(3) == 0 {
                request.after.extend(self.any().map(|id| TaskRef(id.to_string())));
            }
            let env: Env = [("E".to_owned(), EnvValue::Text(self.dice.below(3).to_string()))].into();
            let (uuid, id) = TaskId::random();
            tasks.push(NewTask { request, id, uuid: uuid.to_string(), env_digest: env_digest(&env) });
            envs.push((env_digest(&env), env));
        }
        let keys: Vec<String> = tasks.iter().map(|t| t.request.key.clone()).collect();
        // An agent may start them.
        let driven: Vec<TaskId> = self.lab().agents.driven().into_iter().map(|(id, _)| id).collect();
        let parent = self.dice.one_of(&driven).filter(|_| self.dice.below(2) == 0);
        let actor = parent.map_or(Actor::Owner("test".into()), |id| Actor::Task(Some(id)));
        if let Ok(Reply::Started(started)) = self.lab().ask_as(actor, Ask::Start { tasks, envs }) {
            for (key, (shown, _)) in keys.into_iter().zip(started) {
                let id = match shown {
                    Resolved::Live(task) => task.id,
                    Resolved::Settled(id) => id,
                };
                if let Some(before) = self.known.get(&key) {
                    assert!(*before == id || !self.kept.contains(before), "{}: {key} started twice", self.at);
                }
                self.known.insert(key, id);
                self.kept.insert(id);
            }
        }
    }

    fn ask_about(&mut self, ask: impl FnOnce(TaskId) -> Ask) -> Option<(TaskId, Answer)> {
        let id = self.any()?;
        let answer = self.lab().ask(ask(id));
        Some((id, answer))
    }

    fn remove(&mut self) {
        // One that is refused was not tried, or was put back.
        if let Some((id, Ok(_))) = self.ask_about(|id| Ask::Remove { id }) {
            self.kept.remove(&id);
            self.removed.insert(id);
        }
    }

    /// Something happens to a run, and the supervisor may or may not be told.
    fn world(&mut self) {
        let running = self.lab().runs.running();
        let Some((id, run)) = self.dice.one_of(&running) else { return };
        let (how, code) = (self.dice.below(5), i32::try_from(self.dice.below(2)).unwrap());
        let poke = self.dice.below(3) > 0;
        let lab = self.lab();
        match how {
            0..3 => lab.runs.finish(id, run, code),
            3 => lab.runs.obey(id, run),
            _ => lab.runs.kill_shim(id, run),
        }
        if poke {
            lab.poke(id);
        }
    }

    /// A driver reports something, or says it twice.
    fn agent(&mut self) {
        let driven = self.lab().agents.driven();
        let Some((id, run)) = self.dice.one_of(&driven) else { return };
        let how = self.dice.below(16);
        let lab = self.lab();
        let until = |ms: i64| Stamp::from_millis(lab.now.wall + ms);
        let what = match how {
            0..3 => {
                let _ = lab.ask(Ask::Reserve(Reserve { id, run, prompt: 100, max_output: 1000, rates: None }));
                lab.agents.uses(id, 100, 400, None);
                Report::Working
            }
            3 => Report::Working,
            4 => Report::Lost("lost".into()),
            5 => Report::Parked(Parking::RateLimit { until: until(5000) }),
            6..8 => Report::Parked(Parking::Tasks { ids: vec![], until: Stamp::default() }),
            8 => {
                let ids = lab.task(id).children.first().copied().into_iter().collect();
                Report::Parked(Parking::Tasks { ids, until: until(20_000) })
            }
            9..11 if self.question_of(id) => Report::Parked(Parking::Question),
            9..11 => Report::Lost("it could not ask".into()),
            11 => Report::Failed("no model".into()),
            12 => Report::OverBudget("used up".into()),
            13 => Report::Ended { ok: false, text: "no".into() },
            _ => Report::Ended { ok: true, text: "done".into() },
        };
        self.reports += 1;
        let lab = self.lab();
        let report = lab.agents.report(id, run, what);
        let told = lab.ask(Ask::Agent(report.clone()));
        if how == 15 {
            let _ = lab.ask(Ask::Agent(report));
        } else if told.is_ok() && matches!(report.what, Report::Ended { .. }) {
            let there = lab.store.task(id).is_none_or(|t| t.status.is_ended() || t.run != run);
            assert!(there, "{}: an end that was taken in is not on disk", self.at);
        }
    }

    fn question_of(&mut self, id: TaskId) -> bool {
        self.keys += 1;
        let key = format!("q{}", self.keys);
        let request = QuestionRequest { text: "?".into(), key, ..QuestionRequest::default() };
        let new = Box::new(NewQuestion { request, action: None });
        let asked = self.lab().ask_as(Actor::Task(Some(id)), Ask::Question { id, new });
        if let Ok(Reply::Question(asked)) = &asked {
            self.asked.insert((id, asked.question.key.clone(), asked.question.id.clone()));
        }
        asked.is_ok()
    }

    fn step(&mut self) {
        if self.dice.below(3) == 0 {
            return self.agent();
        }
        match self.dice.below(22) {
            0..5 => self.start(),
            5..7 => drop(self.ask_about(|id| Ask::Stop { id, reason: String::new() })),
            7..9 if self.dice.below(3) == 0 => drop(self.ask_about(|id| Ask::Raise { id, tokens: None })),
            7..9 => drop(self.ask_about(|id| Ask::Retry { id })),
            9 => self.remove(),
            10..12 => self.world(),
            14 => {
                let n = 1 + self.dice.below(4) as u64;
                self.lab().store.fail_next(n);
            }
            15 => {
                let seconds = 1 + self.dice.below(30) as u64;
                self.lab().pass(seconds);
            }
            16 => {
                let slow = self.dice.below(2) == 0;
                self.lab().runs.slow(slow);
            }
            12 => self.question(),
            17 => self.poke_twice_with_a_retry(),
            13 => self.answer(),
            18 => self.lab().pass(1),
            20.. => self.receipts(),
            _ => {
                let lab = self.lab.take().unwrap().reboot();
                self.lab = Some(lab);
            }
        }
    }

    /// A running task asks, in a word or for a permission, or polls for what it asked before.
    fn question(&mut self) {
        let running = self.lab().runs.running();
        let Some((id, _)) = self.dice.one_of(&running) else { return };
        self.keys += 1;
        let key = format!("q{}", self.dice.below(self.keys as usize));
        let request = QuestionRequest {
            text: "?".into(),
            key,
            timeout: self.dice.below(3) as u64 * 40,
            ..QuestionRequest::default()
        };
        let new = Box::new(NewQuestion { request, action: None });
        if let Ok(Reply::Question(asked)) = self.lab().ask_as(Actor::Task(Some(id)), Ask::Question { id, new }) {
            self.asked.insert((id, asked.question.key.clone(), asked.question.id.clone()));
        }
    }

    fn answer(&mut self) {
        let asked: Vec<(TaskId, usize)> =
            self.asked.iter().map(|(id, _, q)| (*id, q.trim_start_matches('q').parse().unwrap())).collect();
        let Some((id, n)) = self.dice.one_of(&asked) else { return };
        let by = format!("surface{}", self.dice.below(3));
        self.keys += 1;
        let request =
            ResumeRequest { answer: by.clone(), question: Some(format!("q{n}")), key: format!("a{}", self.keys) };
        if self.lab().ask_as(Actor::Owner(by.clone()), Ask::Answer { id, request }).is_ok() {
            let before = self.answered.insert((id, n), by.clone());
            assert_eq!(before, None, "{}: q{n} of {id} was answered twice", self.at);
        }
        if self.dice.below(2) == 0 {
            let (lab, question) = (self.lab(), format!("q{n}"));
            lab.engine.core.step(Input::Polled { id, question }, lab.now);
            lab.turn();
        }
    }

    /// The bridge tells some of what is owed.
    fn receipts(&mut self) {
        let most = 1 + self.dice.below(6);
        let (owed, total) = self.lab().engine.core.owed("telegram", most);
        assert_eq!(owed.len(), total.min(most));
        let of = |(notice, task): &(Notice, Task)| Receipt { task: task.id, seq: notice.seq, delivery: Delivery::Sent };
        let receipts = Receipts { bridge: "telegram".into(), receipts: owed.iter().map(of).collect() };
        if self.lab().ask(Ask::Receipts(receipts)).is_ok() {
            self.told.extend(owed.iter().map(|(notice, task)| (task.id, notice.seq)));
        }
    }

    /// A poke, a retry and another poke that arrive together.
    fn poke_twice_with_a_retry(&mut self) {
        let Some(id) = self.any() else { return };
        let lab = self.lab();
        let (now, poke) = (lab.now, || octo::supervisor::core::Input::Poke { id });
        lab.engine.core.step(poke(), now);
        lab.engine.ask(u64::MAX, Actor::Owner("test".into()), Ask::Retry { id }, now);
        lab.engine.core.step(poke(), now);
        lab.turn();
    }

    fn check(&mut self) {
        let (kept, removed, at) = (self.kept.clone(), self.removed.clone(), self.at.clone());
        let (asked, answered, told) = (self.asked.clone(), self.answered.clone(), self.told.clone());
        let lab = self.lab();
        if let Err(wrong) = lab.engine.core.check() {
            panic!("{at}: {wrong}");
        }
        let records: BTreeMap<TaskId, _> = lab.store.tasks().into_iter().map(|t| (t.id, t)).collect();
        for id in kept {
            let task = records.get(&id).unwrap_or_else(|| panic!("{at}: {id} is lost"));
            assert!(lab.store.env(&task.env).is_ok(), "{at}: the environment of {id} is lost");
        }
        for (id, key, question) in &asked {
            let Some(task) = records.get(id) else { continue };
            let there = task.questions.iter().any(|q| q.key == *key && q.id == *question);
            assert!(there, "{at}: {question} of {id} is lost");
        }
        for ((id, n), by) in &answered {
            let Some(task) = records.get(id) else { continue };
            let texts: Vec<&String> =
                task.answers.iter().filter(|a| a.question == format!("q{n}")).map(|a| &a.text).collect();
            assert_eq!(texts, [by], "{at}: the answer to q{n} of {id} is lost, or was given twice");
        }
        let (owed, _) = lab.engine.core.owed("telegram", usize::MAX);
        for (notice, task) in &owed {
            assert!(!told.contains(&(task.id, notice.seq)), "{at}: a receipt of {} is lost", task.id);
            let on_disk = records.get(&task.id).is_some_and(|t| t.notices.contains(notice));
            assert!(on_disk, "{at}: a notice of {} is owed that is not on disk", task.id);
        }
        let all = records.values().flat_map(|t| &t.notices).filter(|n| n.to.get("telegram") == Some(&Delivery::Owed));
        assert_eq!(all.count(), owed.len(), "{at}: a notice is forgotten");
        assert!(removed.iter().all(|id| !records.contains_key(id)), "{at}: a removed task came back");
        let answered: BTreeSet<TaskId> = answered.into_keys().map(|(id, _)| id).collect();
        let paused = |id: &TaskId| records.get(id).is_some_and(|t| !t.questions.is_empty());
        let runs = lab.runs.running().into_iter().chain(lab.agents.driven());
        let running = runs.filter(|(id, _)| !answered.contains(id) && !paused(id)).count();
        assert!(running <= SLOTS, "{at}: more run than there are slots");
        for task in records.values() {
            let named = |child: &TaskId| records.get(child).is_none_or(|c| c.parent == Some(task.id));
            assert!(task.children.iter().all(named), "{at}: {} names a child of another one", task.id);
            if let Some(parent) = task.parent.and_then(|id| lab.engine.core.task(id)) {
                assert!(parent.children.contains(&task.id), "{at}: {} does not name its child", parent.id);
            }
        }
        assert!(lab.runs.all_started().values().all(|n| *n == 1), "{at}: a run started twice");
        let unnoted = lab.runs.all_started().into_keys().find(|(id, run)| !lab.store.may_have_begun(*id, *run));
        assert_eq!(unnoted, None, "{at}: a run began before the journal said so");
    }

    /// Everything that runs ends; then nothing may be left that has not.
    fn finish(&mut self) {
        let lab = self.lab();
        lab.store.fail_next(0);
        lab.runs.slow(false);
        for _ in 0..200 {
            for (id, run) in lab.runs.running() {
                lab.runs.finish(id, run, 0);
            }
            for (id, _) in lab.agents.driven() {
                let _ = lab.report(id, Report::Ended { ok: true, text: "done".into() });
            }
            for task in lab.store.tasks().iter().filter(|t| t.kind == Kind::Agent && !t.status.is_ended()) {
                for question in task.questions.iter().filter(|q| q.open) {
                    let question = Some(question.id.clone());
                    let request = ResumeRequest { answer: "end".into(), question, key: String::new() };
                    let _ = lab.ask(Ask::Answer { id: task.id, request });
                }
            }
            lab.pass(31);
            if lab.store.tasks().iter().all(|t| t.status.is_ended()) && lab.runs.running().is_empty() {
                break;
            }
            // Ends that nobody pokes about are found by the sweep.
            lab.now.boot += 600_000;
        }
        while self.lab().engine.core.owed_count("telegram") > 0 {
            self.receipts();
        }
        self.lab().pass(1200);
        let at = &self.at;
        let lab = self.lab.as_ref().unwrap();
        for task in lab.store.tasks() {
            let (here, run) = (lab.engine.core.task(task.id), lab.runs.state(task.id, task.run));
            assert!(task.status.is_ended(), "{at}: stuck: {task:?}; in memory {here:?}; its run {run:?}");
        }
        assert!(lab.engine.core.settled_ids().len() == lab.store.tasks().len(), "{at}: something is not settled");
    }
}

#[test]
fn random_lives_keep_every_index_in_step() {
    let (mut asked, mut answered, mut told, mut reports) = (0, 0, 0, 0);
    for seed in 1..=100_u64 {
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut story = Story {
            lab: Some(Lab::with(Limits { bridges: vec!["telegram".into()], ..limits(SLOTS) })),
            dice,
            keys: 0,
            known: BTreeMap::new(),
            kept: BTreeSet::new(),
            removed: BTreeSet::new(),
            asked: BTreeSet::new(),
            answered: BTreeMap::new(),
            told: BTreeSet::new(),
            reports: 0,
            at: String::new(),
        };
        for step in 0..110 {
            story.at = format!("seed {seed}, step {step}");
            story.step();
            story.check();
        }
        story.finish();
        story.check();
        asked += story.asked.len();
        told += story.told.len();
        answered += story.answered.len();
        reports += story.reports;
    }
    let counts = format!("{asked} questions, {answered} answers, {told} receipts, {reports} reports");
    assert!(asked > 100 && answered > 20 && told > 500 && reports > 500, "{counts}");
}
