//! The whole program against the machine it runs on: `cargo bench --bench whole [-- ROW...]`.
//!
//! ```text
//!   this process ──octo bg, wait, logs──► the real octod, octo-shim       "ours"
//!        └──────── bare spawns, synced writes, pipes, task-spooler ──►    the yardsticks beside it
//! ```
//!
//! Every row measures its yardsticks in the same run, in turns with what it judges, and compares medians:
//! a machine that is slow today is slow for both. One table comes out; the exit code is 1 when a row missed
//! its limit. It needs no network. task-spooler (`tsp`) is used where it is installed.
//!
//! Rows are chosen by the beginning of their names (`-- submit bulk`); `--list` names them. Without a
//! choice all are run but `idle`, which watches the daemon for a minute: `-- all` runs that one too.
#![allow(clippy::disallowed_methods)] // what is measured from outside announces nothing to wait for

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

mod agents;
mod ask;
mod bulk;
mod fake;
mod flow;
mod idle;
mod many;
mod model;
mod submit;
mod world;
mod yard;

/// One line of the table.
struct Row {
    name: String,
    /// What Octo needed, for people.
    ours: String,
    /// What it is held against.
    yardstick: String,
    /// Ours by the limit: the row is kept when it is at most 1. `None`: there was nothing to compare with.
    ratio: Option<f64>,
    /// The limit in words.
    limit: String,
}

impl Row {
    /// A row that wants `ours` to be at most `limit`.
    fn at_most(name: &str, ours: Duration, yardstick: String, limit: Duration, words: &str) -> Row {
        let ratio = Some(ours.as_secs_f64() / limit.as_secs_f64());
        Row { name: name.to_owned(), ours: ms(ours), yardstick, ratio, limit: words.to_owned() }
    }

    /// A row that wants a figure of ours to be at least `limit`.
    fn at_least(name: &str, ours: f64, unit: &str, yardstick: String, limit: f64, words: &str) -> Row {
        let ours_text = format!("{ours:.0} {unit}");
        Row { name: name.to_owned(), ours: ours_text, yardstick, ratio: Some(limit / ours), limit: words.to_owned() }
    }

    /// A row that wants a figure of ours to be at most a fixed `limit`.
    fn below(name: &str, ours: f64, unit: &str, limit: f64) -> Row {
        Row {
            name: name.to_owned(),
            ours: format!("{ours:.2} {unit}"),
            yardstick: String::new(),
            ratio: Some(ours / limit),
            limit: format!("<= {limit} {unit}"),
        }
    }

    /// A figure without a limit.
    fn figure(name: &str, ours: String, yardstick: String, why: &str) -> Row {
        Row { name: name.to_owned(), ours, yardstick, ratio: None, limit: why.to_owned() }
    }

    fn missed(&self) -> bool {
        self.ratio.is_some_and(|r| r > 1.0)
    }

    fn print(&self) {
        let (ratio, verdict) = match self.ratio {
            Some(ratio) => (format!("{ratio:.2}"), if self.missed() { "FAIL" } else { "ok" }),
            None => ("-".to_owned(), "-"),
        };
        println!("{:<28} {:>14}  {:<58} {:<34} {ratio:>6} {verdict}", self.name, self.ours, self.yardstick, self.limit);
    }
}

/// A duration for people: 1.23 ms, 45 us, 2.1 s.
fn ms(time: Duration) -> String {
    match time.as_micros() {
        0..1000 => format!("{} us", time.as_micros()),
        1000..1_000_000 => format!("{:.2} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// A named group of rows that are measured together.
struct Group {
    name: &'static str,
    run: fn() -> Result<Vec<Row>>,
    /// Left out unless it is asked for.
    long: bool,
}

const GROUPS: [Group; 13] = [
    Group { name: "submit", run: submit::submit, long: false },
    Group { name: "first", run: submit::first_instruction, long: false },
    Group { name: "bulk", run: bulk::bulk, long: false },
    Group { name: "many", run: many::many, long: false },
    Group { name: "output", run: flow::output, long: false },
    Group { name: "wait", run: flow::wait, long: false },
    Group { name: "follow", run: flow::follow, long: false },
    Group { name: "question", run: ask::on_the_repl, long: false },
    Group { name: "phone", run: ask::on_the_phone, long: false },
    Group { name: "step", run: agents::step, long: false },
    Group { name: "agents", run: agents::agents, long: false },
    Group { name: "ready", run: idle::ready_again, long: false },
    Group { name: "idle", run: idle::idle, long: true },
];

fn main() -> ExitCode {
    if let Some(code) = fake::helper() {
        return code;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    if words.iter().any(|w| w == "--list") {
        GROUPS.iter().for_each(|g| println!("{}", g.name));
        return ExitCode::SUCCESS;
    }
    let all = words.iter().any(|w| w == "all");
    let chosen = |g: &&Group| match words.as_slice() {
        [] => !g.long,
        words => all || words.iter().any(|w| g.name.starts_with(w.as_str())),
    };
    println!("{:<28} {:>14}  {:<58} {:<34} {:>6}", "row", "ours", "beside it", "limit", "share");
    let mut bad = 0;
    for group in GROUPS.iter().filter(chosen) {
        match (group.run)() {
            Ok(rows) => {
                rows.iter().for_each(Row::print);
                bad += rows.iter().filter(|r| r.missed()).count();
            }
            Err(error) => {
                println!("{:<28} could not be measured: {error:#}", group.name);
                bad += 1;
            }
        }
    }
    println!("\n`share` is ours by the limit: up to 1.00 is kept. {bad} missed.");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
