//! The soak: clients that work, a killer that kills, and the comparison afterwards.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::checker::{End, Findings, Kind, Known, Plan, check};
use crate::common::{LONG, Rng, World, holds_within, pause};

/// Clients that work at the same time.
const CLIENTS: u64 = 4;
/// Tasks that wait or run at most: the load goes on for as long as the kills do.
const BACKLOG: usize = 40;

/// How a soak went.
pub(crate) struct Soaked {
    pub(crate) kills: u64,
    /// Kills that met a living daemon.
    pub(crate) hits: u64,
    pub(crate) seed: u64,
    pub(crate) tasks: usize,
    repeats: u64,
    stops: usize,
    cut_off: u64,
    pub(crate) findings: Findings,
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Soaked { kills, hits, seed, tasks, repeats, stops, cut_off, findings } = self;
        write!(f, "kills={kills} hits={hits} seed={seed} tasks={tasks} ")?;
        write!(f, "repeated_keys={repeats} cancels={stops} unanswered={cut_off} {findings}")
    }
}

/// What the threads share.
struct Shared<'w> {
    world: &'w World,
    broken: bool,
    history: Mutex<Vec<Known>>,
    findings: Mutex<Findings>,
    /// Starts that were put on the wire.
    sent: AtomicU64,
    repeats: AtomicU64,
    cut_off: AtomicU64,
    /// The killing is over: finish what was begun.
    over: AtomicBool,
    give_up: AtomicBool,
}

/// Lets the clients go when the killer is done, well or not.
struct EndClients<'s>(&'s Shared<'s>);

impl Drop for EndClients<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        self.0.give_up.store(true, Ordering::SeqCst);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a soak; `broken` is what `OCTO_BREAK` switches off.
pub(crate) fn run(kills: u64, seed: u64, broken: &str) -> Soaked {
    let mut world = World::new();
    world.set("BG_MAX_CONCURRENT", "8");
    world.set("OCTO_BREAK", broken);
    let shared = Shared {
        world: &world,
        broken: !broken.is_empty(),
        history: Mutex::default(),
        findings: Mutex::default(),
        sent: AtomicU64::new(0),
        repeats: AtomicU64::new(0),
        cut_off: AtomicU64::new(0),
        over: AtomicBool::new(false),
        give_up: AtomicBool::new(false),
    };
    let hits = std::thread::scope(|scope| {
        let _end = EndClients(&shared);
        let shared = &shared;
        let work = |client| move || shared.client(client, &mut Rng::new(seed * 1000 + client));
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(work(client))).collect();
        let hits = shared.kill(kills, &mut Rng::new(seed));
        shared.over.store(true, Ordering::SeqCst);
        let mut last = world.spawn_daemon();
        assert!(last.ready(), "{}", world.complaints());
        // Nothing is compared while a client still has a start under way.
        clients.into_iter().for_each(|client| client.join().unwrap());
        shared.settle();
        shared.compare();
        last.kill();
        hits
    });
    let history = locked(&shared.history);
    Soaked {
        kills,
        hits,
        seed,
        tasks: history.len(),
        repeats: shared.repeats.load(Ordering::Relaxed),
        stops: history.iter().filter(|k| k.stopped).count(),
        cut_off: shared.cut_off.load(Ordering::Relaxed),
        findings: std::mem::take(&mut locked(&shared.findings)),
    }
}

impl Shared<'_> {
    /// Starts daemons and kills each: while it boots, when it is ready, or just after a start was sent.
    fn kill(&self, kills: u64, rng: &mut Rng) -> u64 {
        let mut hits = 0;
        for _ in 0..kills {
            let mut daemon = self.world.spawn_daemon();
            match rng.below(3) {
                0 => pause(rng.up_to(40)),
                1 => {
                    daemon.ready();
                    pause(rng.up_to(40));
                }
                _ => {
                    daemon.ready();
                    let before = self.sent.load(Ordering::SeqCst);
                    let limit = Duration::from_millis(200);
                    holds_within(limit, || self.sent.load(Ordering::SeqCst) > before);
                    pause(rng.up_to(10));
                }
            }
            hits += u64::from(daemon.kill());
        }
        hits
    }

    /// Waits until every task has ended.
    fn settle(&self) {
        let at_rest = || {
            let idle = self.world.get("/background-agents?limit=1")["active"].as_array().is_some_and(Vec::is_empty);
            idle && locked(&self.history).iter().all(|k| k.id.is_some() || k.refused)
        };
        let limit = if self.broken { Duration::from_secs(5) } else { LONG };
        if !holds_within(limit, at_rest) {
            let active = self.world.get("/background-agents?limit=1")["active"].to_string();
            locked(&self.findings).add(Kind::Lost, format!("without kills there is still {active}"));
        }
    }

    fn compare(&self) {
        let mut findings = locked(&self.findings);
        check(self.world, &mut locked(&self.history), false, &mut findings);
        // What is broken on purpose leaves things behind for ever.
        if !self.broken {
            let left = [self.world.left_over(), self.world.left_files()].concat();
            left.into_iter().for_each(|what| findings.add(Kind::LeftOver, what));
        }
    }

    fn client(&self, client: u64, rng: &mut Rng) {
        let mut number = 0;
        while !self.over.load(Ordering::SeqCst) {
            if self.backlog() >= BACKLOG {
                (0..8).for_each(|_| self.look_at_one(rng));
                pause(Duration::from_millis(2));
                continue;
            }
            number += 1;
            let at = self.plan(format!("key-{client}-{number}"), rng);
            self.submit(at);
            if rng.percent(10) {
                self.repeats.fetch_add(1, Ordering::Relaxed);
                self.submit(at);
            }
            if self.wants_stop(at) || rng.percent(8) {
                pause(rng.up_to(60));
                self.stop(at);
            }
            self.look_at_one(rng);
        }
    }

    /// Tasks that are not known to have ended.
    fn backlog(&self) -> usize {
        locked(&self.history).iter().filter(|k| k.seen.is_none() && !k.refused).count()
    }

    fn plan(&self, key: String, rng: &mut Rng) -> usize {
        let mut history = locked(&self.history);
        let end = match rng.below(100) {
            0..55 => End::Code(0),
            55..80 => End::Code(rng.pick(&[1, 2, 7, 42, 126, 127, 255])),
            80..85 => End::Signal(rng.pick(&[9, 15, 10])),
            85..90 => End::Timeout,
            _ => End::Never,
        };
        let earlier = history.len().saturating_sub(1).min(10) as u64;
        let after = (rng.percent(15) && earlier > 0).then(|| history.len() - 1 - rng.below(earlier) as usize);
        let after = after.filter(|at| history[*at].id.is_some());
        // Some outputs are longer than what a record holds.
        let lines = if rng.percent(10) { 2000 } else { rng.below(60) as usize };
        let millis = if rng.percent(40) { rng.below(120) } else { 0 };
        history.push(Known::new(Plan { key, end, lines, millis, leaves: rng.percent(10), after }));
        history.len() - 1
    }

    /// Sends a start again and again under its key, until it is answered.
    fn submit(&self, at: usize) {
        let body = {
            let history = locked(&self.history);
            let ids: Vec<Option<String>> = history.iter().map(|k| k.id.clone()).collect();
            history[at].plan.request(self.world, &ids).to_string()
        };
        let Some(answer) = self.insist("POST", "/background-agents/start", &body, true) else { return };
        let id = answer["instanceId"].as_str().map(str::to_owned);
        let mut history = locked(&self.history);
        let known = &mut history[at];
        if id.is_none() && known.plan.after.is_some() && answer["error"]["code"] == "conflict" {
            known.refused = true;
            return;
        }
        match (&known.id, id) {
            (None, Some(id)) => known.id = Some(id),
            (Some(old), Some(id)) if *old == id => {}
            (old, _) => {
                let what = format!("{} was {old:?} and is now answered with {answer}", known.plan.key);
                locked(&self.findings).add(Kind::Lost, what);
            }
        }
    }

    fn wants_stop(&self, at: usize) -> bool {
        locked(&self.history)[at].plan.end == End::Never
    }

    fn stop(&self, at: usize) {
        let id = {
            let mut history = locked(&self.history);
            history[at].stopped = true;
            history[at].id.clone()
        };
        // That it has ended already is an answer too.
        if let Some(id) = id {
            self.insist("POST", &format!("/background-agents/{id}/stop"), "", false);
        }
    }

    /// Reads some task's record: it is there, and an end that was seen stays.
    fn look_at_one(&self, rng: &mut Rng) {
        let open: Vec<usize> = {
            let history = locked(&self.history);
            let acknowledged = (0..history.len()).filter(|at| history[*at].id.is_some());
            let (ended, open): (Vec<usize>, Vec<usize>) = acknowledged.partition(|at| history[*at].seen.is_some());
            if rng.percent(20) || open.is_empty() { ended } else { open }
        };
        if open.is_empty() {
            return;
        }
        let at = rng.pick(&open);
        let Some(id) = locked(&self.history)[at].id.clone() else { return };
        let Ok(answer) = self.world.ask("GET", &format!("/background-agents/{id}"), "") else { return };
        let mut findings = locked(&self.findings);
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            findings.add(Kind::Lost, format!("{id} was acknowledged: {} {text}", answer.status));
            return;
        }
        if let Some(what) = locked(&self.history)[at].look(&answer.json()) {
            findings.add(Kind::Changed, what);
        }
    }

    /// Repeats a request until it is answered.
    fn insist(&self, method: &str, path: &str, body: &str, start: bool) -> Option<Value> {
        let deadline = Instant::now() + LONG * 3;
        while Instant::now() < deadline && !self.give_up.load(Ordering::SeqCst) {
            if start {
                self.sent.fetch_add(1, Ordering::SeqCst);
            }
            match self.world.ask(method, path, body) {
                Ok(answer) if answer.status < 500 => return Some(answer.json()),
                Ok(_) => {}
                Err(_) => {
                    self.cut_off.fetch_add(1, Ordering::Relaxed);
                }
            }
            pause(Duration::from_millis(3));
        }
        locked(&self.findings).add(Kind::Lost, format!("{method} {path} was never answered: {body}"));
        None
    }
}
