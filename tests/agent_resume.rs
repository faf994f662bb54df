//! An agent dies at every point of its life, over and over, and goes on from its journal as if nothing had been.
//!
//! The world here is a simulated one, with a disk that survives deaths: a journal, the effects of tools, questions,
//! tasks. A death strikes before or after any of the things that a driver does. Whatever happened, in the end every
//! effect happened once, every reply of the model was asked for until it was recorded and never again, and the
//! conversation is the one of a life without deaths.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use octo::agent::drive::{Asked, Leave, Lost, Parking, Ran, Telling, World, drive};
use octo::agent::journal::{Entry, Line, Setup, Source};
use octo::agent::model::prices::Usd;
use octo::agent::model::{
    Assistant, Format, Message, ModelError, ModelName, Provider, Reply, Request, Stop, Tokens, ToolCall, ToolSpec,
};
use octo::agent::step::{Pending, State};
use octo::agent::tools::policy::{Policy, Rule};
use octo::command::QuestionRequest;
use octo::task::{ALLOW, ALLOW_FOR_TASK, DENY, Stamp, Status, TaskId};
use serde_json::{Value, json};

/// Deaths of one run of the test; `OCTO_LONG=1` makes ten times as many.
const DEATHS: usize = 5000;

/// What a model reads when it is not known what its call did.
const UNKNOWN: &str = "effect unknown";

/// A small generator of numbers, the same ones for the same seed.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// What survives deaths.
#[derive(Default)]
struct Disk {
    journal: Vec<String>,
    /// How often each thing was done, by its name.
    effects: BTreeMap<String, u32>,
    /// Questions by key, with their answers.
    questions: BTreeMap<String, (QuestionRequest, Option<String>)>,
    /// Tasks by key: id, and whether it has ended.
    tasks: BTreeMap<String, (TaskId, bool)>,
    /// The turns of the model that were answered, in order.
    asked: Vec<usize>,
}

struct Sim<'a> {
    disk: &'a mut Disk,
    plan: &'a [Assistant],
    /// How many points are left until the death.
    fuel: Option<u32>,
    points: u32,
    clock: i64,
}

impl Sim<'_> {
    /// A point at which a death may strike.
    fn point(&mut self) -> Result<(), Lost> {
        self.points += 1;
        match &mut self.fuel {
            None => Ok(()),
            Some(0) => Err(Lost("death".to_owned())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn lines(&self) -> Vec<Line> {
        self.disk.journal.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn effect(&mut self, what: &str) -> Result<(), Lost> {
        self.point()?;
        *self.disk.effects.entry(what.to_owned()).or_default() += 1;
        self.point()
    }

    fn task(&mut self, key: String) -> Result<TaskId, Lost> {
        self.point()?;
        let count = self.disk.tasks.len();
        let id = format!("a{count:07x}").parse().unwrap();
        let id = self.disk.tasks.entry(key).or_insert((id, false)).0;
        self.point()?;
        Ok(id)
    }
}

fn result(text: impl Into<String>) -> Ran {
    Ran::Result { text: text.into(), is_error: false }
}

impl World for Sim<'_> {
    fn now(&self) -> Stamp {
        Stamp::from_millis(self.clock)
    }

    fn append(&mut self, line: &Line) -> Result<(), Lost> {
        self.point()?;
        self.clock += 1;
        if matches!(line.entry, Entry::Replied { .. }) {
            self.disk.asked.push(self.disk.asked.len());
        }
        self.disk.journal.push(serde_json::to_string(line).unwrap());
        self.point()
    }

    async fn reserve(&mut self, _: &State, _: u64, max_output: u32) -> Result<Result<u32, String>, Lost> {
        self.point()?;
        Ok(Ok(max_output))
    }

    async fn settle(&mut self, _: &State) -> Result<(), Lost> {
        self.point()
    }

    async fn call(&mut self, request: &Request) -> Result<Reply, ModelError> {
        let turn = request.messages.iter().filter(|m| matches!(m, Message::Assistant(_))).count();
        assert!(!self.disk.asked.contains(&turn), "a reply that was recorded is asked for again");
        let message = self.plan[turn].clone();
        let stop = if message.calls.is_empty() { Stop::EndTurn } else { Stop::ToolUse };
        let usage = Tokens { input: 10, output: 5, ..Tokens::default() };
        Ok(Reply { v: Format, message, stop, usage, model: request.model.clone() })
    }

    fn cost(&self, _: &ModelName, _: &Reply) -> Option<Usd> {
        Some(Usd::from_pico(7))
    }

    async fn ask(&mut self, question: &QuestionRequest) -> Result<Asked, Lost> {
        self.point()?;
        let known = self.disk.questions.entry(question.key.clone()).or_insert((question.clone(), None));
        assert_eq!(known.0, *question, "the same key is the same question");
        let answer = known.1.clone();
        self.point()?;
        Ok(answer.map_or(Asked::Open, |text| Asked::Answered { text, by: "repl".to_owned() }))
    }

    async fn run(&mut self, state: &State, pending: &Pending) -> Result<Ran, Lost> {
        let (name, ordinal) = (pending.call.name.as_str(), pending.ordinal);
        match name {
            "read_file" => {
                self.point()?;
                Ok(result("the file"))
            }
            "shell" => {
                self.effect(&format!("shell {ordinal}"))?;
                Ok(result(format!("output of {ordinal}")))
            }
            "write_file" | "srv__act" => {
                self.effect(&format!("{name} {ordinal}"))?;
                Ok(result(format!("done {ordinal}")))
            }
            "run_background_agent" => {
                let id = self.task(format!("{}:{ordinal}", state.setup.run))?;
                Ok(result(format!("started {id}")))
            }
            "transfer_task" => {
                assert!(pending.started.is_some(), "a wait counts from its start");
                let key = format!("{}:{ordinal}", state.setup.run);
                let id = self.task(key.clone())?;
                let ended = self.disk.tasks[&key].1;
                let parking = Parking::Tasks { ids: vec![id], until: Stamp::default() };
                Ok(if ended { result(format!("result of {id}")) } else { Ran::Waits(parking) })
            }
            other => panic!("{other} is not run here"),
        }
    }

    async fn recover(&mut self, _: &State, pending: &Pending) -> Result<Ran, Lost> {
        let ordinal = pending.ordinal;
        if pending.call.name == "shell" {
            // Its shim knows.
            let what = format!("shell {ordinal}");
            if !self.disk.effects.contains_key(&what) {
                self.effect(&what)?;
            }
            return Ok(result(format!("output of {ordinal}")));
        }
        self.point()?;
        Ok(Ran::Result { text: UNKNOWN.to_owned(), is_error: true })
    }

    async fn news(&mut self, _: &State) -> Result<Vec<Telling>, Lost> {
        self.point()?;
        let prompt = Telling {
            key: "prompt".to_owned(),
            from: Source::Owner { by: "cli".to_owned() },
            text: "do it".to_owned(),
        };
        let ended = self.disk.tasks.values().filter(|(_, ended)| *ended).map(|(id, _)| Telling {
            key: format!("task:{id}:1"),
            from: Source::Task { id: *id, status: Status::Completed },
            text: format!("task {id} has ended"),
        });
        Ok(std::iter::once(prompt).chain(ended).collect())
    }

    async fn has_tasks(&mut self) -> Result<bool, Lost> {
        self.point()?;
        Ok(self.disk.tasks.values().any(|(_, ended)| !ended))
    }
}

/// Runs a future that never waits.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing waits in this world"),
    }
}

fn setup() -> Setup {
    let tools = "read_file write_file shell think create_todos update_todos list_todos task_complete escalate_question \
                 run_background_agent transfer_task";
    let mcp = ToolSpec { name: "srv__act".to_owned(), description: String::new(), schema: json!({"type": "object"}) };
    Setup {
        v: Format,
        run: 1,
        agent: "root".to_owned(),
        team: None,
        model: ModelName::new(Provider::Demo, "sim").unwrap(),
        fallback: Vec::new(),
        system: "You are simulated.".to_owned(),
        tools: tools.split_whitespace().map(str::to_owned).collect(),
        sub_agents: vec!["helper".to_owned()],
        mcp: vec![mcp],
        policy: Policy { shell: Rule::Ask, network: Rule::Ask },
        folder: "/work".to_owned(),
        depth: 1,
        max_output: 1000,
        temperature: None,
        effort: None,
        chat: false,
    }
}

/// What the model of one life says, turn by turn.
fn plan(dice: &mut Dice) -> Vec<Assistant> {
    let mut plan = Vec::new();
    let mut calls = 0;
    for _ in 0..2 + dice.roll(4) {
        let count = 1 + dice.roll(3);
        let calls = (0..count).map(|_| {
            calls += 1;
            let (name, arguments) = call(dice.roll(12), calls);
            ToolCall { id: format!("call_{calls}"), name: name.to_owned(), arguments }
        });
        plan.push(Assistant { text: "On it.".to_owned(), calls: calls.collect(), opaque: None });
    }
    if dice.roll(2) == 0 {
        let complete = ToolCall {
            id: "call_end".to_owned(),
            name: "task_complete".to_owned(),
            arguments: json!({"summary": "all done"}),
        };
        plan.push(Assistant { calls: vec![complete], ..Assistant::default() });
    } else {
        // One that says nothing is asked again. What it says may also come before its tasks have ended.
        plan.push(Assistant::default());
        plan.extend((0..4).map(|_| Assistant { text: "All done.".to_owned(), ..Assistant::default() }));
    }
    plan
}

fn call(kind: usize, number: usize) -> (&'static str, Value) {
    match kind {
        0 => ("read_file", json!({"path": "a"})),
        1 => ("write_file", json!({"path": "a", "content": number.to_string()})),
        2 | 3 => ("shell", json!({"command": format!("make {number}")})),
        4 => ("srv__act", json!({"n": number})),
        5 => ("create_todos", json!({"descriptions": [format!("item {number}")]})),
        6 => ("update_todos", json!({"updates": [{"id": "todo_1", "status": "completed"}]})),
        7 => ("escalate_question", json!({"question": format!("Which {number}?")})),
        8 => ("run_background_agent", json!({"agent": "helper", "task": format!("task {number}")})),
        9 => ("transfer_task", json!({"agent": "helper", "task": format!("task {number}"), "expected_output": ""})),
        10 => ("no_such_tool", json!({})),
        _ => ("shell", json!({"comand": "misspelt"})),
    }
}

/// What the owner says to a question: by its key alone.
fn answer(question: &QuestionRequest) -> String {
    let sum: usize = question.key.bytes().map(usize::from).sum();
    match (question.action.is_some(), sum % 5) {
        (false, n) => format!("the {n}th"),
        (true, 0) => DENY.to_owned(),
        (true, 1) => ALLOW_FOR_TASK.to_owned(),
        (true, _) => ALLOW.to_owned(),
    }
}

/// How a life went.
struct Life {
    disk: Disk,
    points: u32,
    deaths: usize,
    state: State,
}

/// One life, with a death after each of these numbers of points.
fn live(plan: &[Assistant], mut deaths: impl Iterator<Item = u32>) -> Life {
    let mut disk = Disk::default();
    disk.journal.push(
        serde_json::to_string(&Line { at: Stamp::from_millis(0), entry: Entry::Began(Box::new(setup())) }).unwrap(),
    );
    let (mut points, mut died) = (0, 0);
    let mut fuel = deaths.next();
    loop {
        let lines: Vec<Line> = disk.journal.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut state = State::fold(&lines).unwrap().unwrap();
        let mut sim = Sim { clock: i64::try_from(lines.len()).unwrap(), disk: &mut disk, plan, fuel, points: 0 };
        let leave = now_or_never(drive(&mut state, &mut sim));
        points += sim.points;
        fuel = sim.fuel;
        if !matches!(leave, Leave::Lost(_)) {
            let lines = sim.lines();
            assert_eq!(State::fold(&lines).unwrap().unwrap(), state, "what is in memory is the fold of the journal");
        }
        match leave {
            Leave::Lost(_) => {
                died += 1;
                fuel = deaths.next();
            }
            Leave::Parked(Parking::Question) => {
                let open = disk.questions.values_mut().filter(|(_, answer)| answer.is_none());
                for (question, said) in open {
                    *said = Some(answer(question));
                }
            }
            Leave::Parked(Parking::Tasks { ids, .. }) => {
                let waited = |id: &TaskId| ids.is_empty() || ids.contains(id);
                disk.tasks.values_mut().filter(|(id, _)| waited(id)).for_each(|(_, ended)| *ended = true);
            }
            Leave::Ended { ok, .. } => {
                assert!(ok);
                return Life { disk, points, deaths: died, state };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The conversation, as it may differ: a call whose effect is unknown has another result, and a task's end may be
/// told a turn earlier or later.
fn story(state: &State) -> Vec<String> {
    let told = |m: &&Message| !matches!(m, Message::System { text } if text.starts_with("task "));
    state.messages.iter().filter(told).map(|m| serde_json::to_string(m).unwrap()).collect()
}

fn same_story(calm: &State, life: &State, disk: &Disk) {
    let (calm, life) = (story(calm), story(life));
    assert_eq!(calm.len(), life.len(), "{calm:#?}\n{life:#?}");
    for (calm, life) in calm.iter().zip(&life) {
        if calm != life {
            assert!(life.contains(UNKNOWN) && calm.contains("done "), "{calm}\n{life}");
        }
    }
    assert!(disk.effects.values().all(|times| *times == 1), "{:?}", disk.effects);
}

#[test]
fn deaths_at_every_point_change_nothing() {
    let long = std::env::var_os("OCTO_LONG").is_some_and(|v| v == "1");
    let wanted = if long { DEATHS * 10 } else { DEATHS };
    let (mut deaths, mut lives, mut unknown) = (0, 0, 0);
    let mut seed = 1;
    while deaths < wanted {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
        let plan = plan(&mut dice);
        let calm = live(&plan, std::iter::empty());
        assert_eq!(calm.deaths, 0);
        for at in 0..calm.points {
            // One death at this point, then now and then another.
            let more = dice.roll(3) as u32;
            let mut next = dice.clone();
            let rest = (0..more).map(move |_| u32::try_from(next.roll(calm.points as usize)).unwrap());
            let life = live(&plan, std::iter::once(at).chain(rest));
            assert!(life.deaths >= 1);
            same_story(&calm.state, &life.state, &life.disk);
            // What was lost by a death at the wrong moment is told, and only then.
            let shells =
                |disk: &Disk| disk.effects.keys().filter(|k| k.starts_with("shell")).cloned().collect::<Vec<_>>();
            assert_eq!(shells(&calm.disk), shells(&life.disk), "a shell run is found again");
            assert_eq!(calm.disk.tasks.len(), life.disk.tasks.len(), "no task is started twice");
            assert_eq!(calm.disk.questions.len(), life.disk.questions.len(), "no question is asked twice");
            assert_eq!(calm.disk.asked, life.disk.asked);
            assert_eq!((&calm.state.todos, &calm.state.grants), (&life.state.todos, &life.state.grants));
            unknown +=
                life.state.messages.iter().filter(|m| serde_json::to_string(m).unwrap().contains(UNKNOWN)).count();
            deaths += life.deaths;
            lives += 1;
        }
        seed += 1;
    }
    assert!(unknown > 0, "no death struck in the midst of an effect");
    println!(
        "{deaths} deaths in {lives} lives of {} agents: 0 effects twice, 0 steps lost, the same conversations; {unknown} \
         effects were told to be unknown",
        seed - 1
    );
}
