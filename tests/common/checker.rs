//! Compares what a client knows of its tasks with what Octo says of them.
//!
//! The client knows what it asked for, which ids it was told, which ends it has seen, and, from a side file
//! that each command writes a line to, how often each command ran. What Octo says afterwards has to fit.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::{Value, json};

use super::World;
use super::world::quoted;

/// How a command is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Code(i64),
    /// By this signal, which it sends itself.
    Signal(i64),
    /// By the task's time-out.
    Timeout,
    /// Only by a cancel.
    Never,
}

/// One task that a client wants.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) key: String,
    pub(crate) end: End,
    /// Lines of output, all written before the end.
    pub(crate) lines: usize,
    /// How long it takes, in milliseconds, in the middle of its work.
    pub(crate) millis: u64,
    /// Leaves a process behind, which Octo has to end.
    pub(crate) leaves: bool,
    /// Index in the history of the task that must complete first.
    pub(crate) after: Option<usize>,
}

impl Plan {
    pub(crate) fn new(key: impl Into<String>, end: End) -> Plan {
        Plan { key: key.into(), end, lines: 3, millis: 0, leaves: false, after: None }
    }

    pub(crate) fn output(&self) -> Vec<u8> {
        (1..=self.lines).map(|n| format!("{} line {n}\n", self.key)).collect::<String>().into_bytes()
    }

    pub(crate) fn command(&self, world: &World) -> String {
        let (key, half) = (&self.key, self.lines / 2);
        let mut text = format!("echo \"$OCTO_RUN\" >> {}\n", quoted(&world.side(key)));
        text += &format!("seq -f '{key} line %.0f' 1 {half}\n");
        if self.millis > 0 {
            text += &format!("sleep {}.{:03}\n", self.millis / 1000, self.millis % 1000);
        }
        text += &format!("seq -f '{key} line %.0f' {} {}\n", half + 1, self.lines);
        if self.leaves {
            text += "sleep 600 >/dev/null 2>&1 &\n";
        }
        text += &match self.end {
            End::Code(code) => format!("exit {code}\n"),
            End::Signal(number) => format!("kill -{number} $$\n"),
            End::Timeout | End::Never => "exec sleep 600\n".to_owned(),
        };
        text
    }

    /// The body of its start.
    pub(crate) fn request(&self, world: &World, ids: &[Option<String>]) -> Value {
        let after: Vec<&String> = self.after.iter().filter_map(|at| ids[*at].as_ref()).collect();
        json!({
            "command": self.command(world), "key": self.key, "after": after,
            "timeout": if self.end == End::Timeout { 1 } else { 0 },
        })
    }
}

/// What a client knows of one task.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) plan: Plan,
    /// The id that a start was answered with.
    pub(crate) id: Option<String>,
    /// The start was refused: the task that it was to wait for had ended otherwise.
    pub(crate) refused: bool,
    /// A cancel was sent.
    pub(crate) stopped: bool,
    /// The end as it was first seen: it never changes.
    pub(crate) seen: Option<Value>,
}

impl Known {
    pub(crate) fn new(plan: Plan) -> Known {
        Known { plan, id: None, refused: false, stopped: false, seen: None }
    }

    /// Takes note of a record that was read; tells what contradicts what was seen before.
    pub(crate) fn look(&mut self, record: &Value) -> Option<String> {
        if !super::world::has_ended(record) {
            return self.seen.as_ref().map(|_| format!("{}: ended, and then {}", self.plan.key, record["status"]));
        }
        let end = end_of(record);
        let first = self.seen.get_or_insert_with(|| end.clone());
        (*first != end).then(|| format!("{}: its end changed from {first} to {end}", self.plan.key))
    }
}

/// The part of a record that never changes once it has ended.
fn end_of(record: &Value) -> Value {
    let part = ["status", "exit_code", "signal", "error", "completed_at", "result", "run"];
    part.iter().map(|name| ((*name).to_owned(), record[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// What was found wrong, by kind; each with its sentences.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) found: BTreeMap<Kind, Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Acknowledged, and no record, or more than one, or one that never ended.
    Lost,
    /// It ended in another way than it did.
    Wrong,
    /// Its command ran more than once.
    Twice,
    /// Its output is not what it wrote.
    Incomplete,
    /// An end that was seen changed.
    Changed,
    /// Its end has no notice.
    Untold,
    /// Processes that nobody owns any more.
    LeftOver,
}

const KINDS: [Kind; 7] =
    [Kind::Lost, Kind::Wrong, Kind::Twice, Kind::Incomplete, Kind::Changed, Kind::Untold, Kind::LeftOver];

impl Findings {
    pub(crate) fn add(&mut self, kind: Kind, what: String) {
        let list = self.found.entry(kind).or_default();
        // Who looks again and again finds the same thing once.
        if !list.contains(&what) {
            list.push(what);
        }
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.found.get(&kind).map_or(0, Vec::len)
    }

    #[track_caller]
    pub(crate) fn assert_none(&self) {
        assert!(self.found.is_empty(), "{self}\n{:#?}", self.found);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            KINDS.iter().map(|k| format!("{}={}", format!("{k:?}").to_lowercase(), self.count(*k))).collect();
        f.write_str(&each.join(" "))
    }
}

/// Compares a history with a daemon that has come to rest. `interrupted` says whether an end that nobody
/// saw is allowed (the shim was killed, or the power was cut).
pub(crate) fn check(world: &World, history: &mut [Known], interrupted: bool, findings: &mut Findings) {
    let records = world.records();
    let mut by_key: HashMap<String, Vec<&Value>> = HashMap::new();
    for record in &records {
        by_key.entry(record["key"].as_str().unwrap_or_default().to_owned()).or_default().push(record);
    }
    let statuses: Vec<String> = history
        .iter()
        .map(|k| by_key.get(&k.plan.key).and_then(|r| r[0]["status"].as_str()).unwrap_or_default().to_owned())
        .collect();
    let told = told(world, findings);
    for at in 0..history.len() {
        let dependency = history[at].plan.after.map(|dep| statuses[dep].clone());
        let known = &mut history[at];
        let found = by_key.get(&known.plan.key).cloned().unwrap_or_default();
        let [record] = found.as_slice() else {
            if known.id.is_some() || found.len() > 1 || world.runs(&known.plan.key) > 0 {
                findings.add(Kind::Lost, format!("{} has {} records", known.plan.key, found.len()));
            }
            continue;
        };
        if known.refused {
            findings.add(Kind::Wrong, format!("{} was refused, and there is {record}", known.plan.key));
        }
        if let Some(what) = known.look(record) {
            findings.add(Kind::Changed, what);
        }
        check_one(world, known, record, dependency.as_deref(), interrupted, findings);
        let id = record["id"].as_str().unwrap_or_default();
        if told.get(id) != Some(&statuses[at]) {
            let what = format!("{} {id} is {}, told was {:?}", known.plan.key, statuses[at], told.get(id));
            findings.add(Kind::Untold, what);
        }
    }
}

/// The end that each task's notice tells, by id.
fn told(world: &World, findings: &mut Findings) -> HashMap<String, String> {
    let (mut told, mut last) = (HashMap::new(), 0);
    for item in world.notices() {
        let seq = item["notice"]["seq"].as_u64().unwrap_or(0);
        if seq <= last {
            findings.add(Kind::Untold, format!("notice {seq} comes after notice {last}"));
        }
        last = seq;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        told.insert(text(&item["task"]["id"]), text(&item["notice"]["kind"]));
    }
    told
}

fn check_one(
    world: &World,
    known: &Known,
    record: &Value,
    dependency: Option<&str>,
    interrupted: bool,
    findings: &mut Findings,
) {
    let plan = &known.plan;
    let about = || format!("{} {} {} {}", plan.key, record["id"], record["status"], record["error"]);
    if let Some(id) = &known.id
        && record["id"].as_str() != Some(id)
    {
        findings.add(Kind::Lost, format!("{}: acknowledged as {id}", about()));
    }
    if !super::world::has_ended(record) {
        findings.add(Kind::Lost, format!("{}: never ended", about()));
        return;
    }
    let runs = world.runs(&plan.key);
    if runs > 1 {
        findings.add(Kind::Twice, format!("{}: ran {runs} times", about()));
    }
    let ended = Ended::of(record);
    let held_back = dependency.is_some_and(|status| status != "completed");
    let fits = if held_back {
        ended.status == "cancelled" && runs == 0
    } else {
        ended.fits(plan) && runs == 1
            || known.stopped && ended.status == "cancelled"
            || interrupted && ended.status == "interrupted"
    };
    if !fits {
        findings.add(
            Kind::Wrong,
            format!("{} after {runs} runs, wanted {:?} (stopped: {})", about(), plan.end, known.stopped),
        );
    }
    let by_itself = ended.fits(plan) && plan.end != End::Timeout;
    check_output(world, plan, record, by_itself, findings);
}

fn check_output(world: &World, plan: &Plan, record: &Value, whole: bool, findings: &mut Findings) {
    let log = world.log(record["id"].as_str().unwrap_or_default());
    let wanted = plan.output();
    let fits = if whole { log == wanted } else { wanted.starts_with(&log) };
    if !fits {
        let what = format!("{} {}: {} of {} bytes", plan.key, record["id"], log.len(), wanted.len());
        findings.add(Kind::Incomplete, what);
    }
}

struct Ended<'a> {
    status: &'a str,
    error: &'a str,
    code: Option<i64>,
    signal: Option<i64>,
}

impl<'a> Ended<'a> {
    fn of(record: &'a Value) -> Ended<'a> {
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        let (code, signal) = (record["exit_code"].as_i64(), record["signal"].as_i64());
        Ended { status: text("status"), error: text("error"), code, signal }
    }

    /// Whether it ended as planned, by itself or by its time-out.
    fn fits(&self, plan: &Plan) -> bool {
        match plan.end {
            End::Code(0) => (self.status, self.code, self.signal) == ("completed", Some(0), None),
            End::Code(code) => (self.status, self.code, self.signal) == ("failed", Some(code), None),
            End::Signal(number) => (self.status, self.code, self.signal) == ("failed", None, Some(number)),
            End::Timeout => self.status == "failed" && self.error.starts_with("timeout"),
            End::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_changes_is_seen() {
        let mut known = Known::new(Plan::new("k", End::Code(0)));
        let record = |status: &str| json!({"status": status, "exit_code": 0});
        assert_eq!(known.look(&record("running")), None);
        assert_eq!(known.look(&record("completed")), None);
        assert_eq!(known.look(&record("completed")), None);
        assert!(known.look(&record("failed")).is_some());
        assert!(known.look(&record("running")).is_some());
    }

    #[test]
    fn only_the_planned_end_fits() {
        let ended = |plan: End, record: Value| Ended::of(&record).fits(&Plan::new("k", plan));
        let seven = json!({"status": "failed", "exit_code": 7, "signal": null});
        assert!(ended(End::Code(7), seven.clone()));
        assert!(!ended(End::Code(0), seven.clone()) && !ended(End::Code(8), seven.clone()));
        assert!(!ended(End::Signal(7), seven) && !ended(End::Code(0), json!({"status": "interrupted"})));
        assert!(ended(End::Timeout, json!({"status": "failed", "error": "timeout: 1 s"})));
    }
}
