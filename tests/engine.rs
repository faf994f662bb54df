//! The engine with a store that dies and runs that never were: the life of tasks, and every death in it.

#![allow(clippy::unwrap_used)] // a test that cannot go on should panic

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use octo::command::{Actor, ListQuery, RefusedCode, StartRequest, TaskRef};
use octo::exec::agent::Report as AgentReport;
use octo::exec::{Executors, LaunchError, Report};
use octo::store::Loaded;
use octo::supervisor::core::{Ask, Core, Input, Limits, NewTask, Now, Reply, Resolved};
use octo::supervisor::engine::{Engine, Out};
use octo::task::{Status, Task, TaskId};
use octo::testkit::{FakeAgents, FakeRuns, MemStore, RunState};

#[path = "engine/agents.rs"]
mod agents;
#[path = "engine/budgets.rs"]
mod budgets;
#[path = "engine/questions.rs"]
mod questions;
#[path = "engine/random.rs"]
mod random;

/// A supervisor without threads, sockets or a clock.
struct Lab {
    engine: Engine<MemStore, Executors<FakeRuns>>,
    store: MemStore,
    runs: FakeRuns,
    agents: FakeAgents,
    now: Now,
    requests: u64,
    limits: Limits,
}

type Answer = Result<Reply, octo::command::Refused>;

fn limits(slots: usize) -> Limits {
    Limits {
        slots,
        bridges: vec![],
        mark: "here".into(),
        trusted: HashSet::new(),
        log_quota: 1 << 20,
        reminders: vec![600, 3600],
        time_zone: jiff::tz::TimeZone::UTC,
        agent_budget: 50_000,
        global_budget: 200_000,
    }
}

impl Lab {
    fn new(slots: usize) -> Lab {
        Lab::with(limits(slots))
    }

    fn with(limits: Limits) -> Lab {
        let now = Now { wall: 1_000_000, boot: 1_000_000 };
        Lab::on(limits, MemStore::new(), (FakeRuns::default(), FakeAgents::default()), Loaded::default(), now)
    }

    fn on(limits: Limits, store: MemStore, (runs, agents): (FakeRuns, FakeAgents), loaded: Loaded, now: Now) -> Lab {
        let core = Core::boot(limits.clone(), loaded, now);
        let exec = Executors::new(runs.clone(), Arc::new(agents.clone()), "/nonexistent".into());
        let engine = Engine::new(core, store.clone(), exec);
        let mut lab = Lab { engine, store, runs, agents, now, requests: 0, limits };
        lab.turn();
        lab
    }

    /// The daemon dies; a new one starts on what is on disk, with the runs as they are.
    fn reboot(self) -> Lab {
        for task in self.store.tasks() {
            if task.status.is_ended() && self.runs.state(task.id, task.run).is_none_or(|s| s == RunState::Folded) {
                self.store.remove_folder(task.id);
            }
        }
        let loaded = self.store.boot();
        self.agents.die();
        let mut lab = Lab::on(self.limits, self.store, (self.runs, self.agents), loaded, self.now);
        lab.pass(1);
        lab
    }

    fn turn(&mut self) -> Vec<Out> {
        let mut out = self.engine.turn(self.now);
        // What a thread would report.
        for (id, run) in self.runs.take_swept() {
            self.engine.core.step(Input::LeftEnded { id, run, report: Report::default() }, self.now);
            out.extend(self.engine.turn(self.now));
        }
        for (id, run) in self.agents.take_stopped() {
            let report = self.agents.report(id, run, AgentReport::Stopped);
            self.engine.ask(0, Actor::Owner("octo".into()), Ask::Agent(report), self.now);
            out.extend(self.engine.turn(self.now));
        }
        out
    }

    /// Lets time pass, in steps of a second.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now.boot += 1000;
            self.now.wall += 1000;
            self.turn();
        }
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        self.ask_as(Actor::Owner("test".into()), ask)
    }

    fn ask_as(&mut self, actor: Actor, ask: Ask) -> Answer {
        self.requests += 1;
        let request = self.requests;
        let direct = self.engine.ask(request, actor, ask, self.now);
        let outs = self.turn();
        let mine = direct.into_iter().chain(outs).find_map(|out| match out {
            Out::Reply { request: r, result } if r == request => Some(result),
            _ => None,
        });
        mine.expect("every request is answered in its turn")
    }

    fn start_with(&mut self, key: &str, change: impl FnOnce(&mut StartRequest)) -> Answer {
        let mut request = StartRequest { command: format!("run {key}"), key: key.into(), ..StartRequest::default() };
        change(&mut request);
        let (uuid, id) = TaskId::random();
        let task = NewTask { request, id, uuid: uuid.to_string(), env_digest: String::new() };
        self.ask(Ask::Start { tasks: vec![task], envs: vec![] })
    }

    fn start(&mut self, key: &str) -> TaskId {
        started(&self.start_with(key, |_| {}))
    }

    fn task(&self, id: TaskId) -> Task {
        self.engine.core.task(id).cloned().or_else(|| self.store.task(id)).expect("the task is there")
    }

    fn status(&self, id: TaskId) -> Status {
        self.task(id).status
    }

    fn poke(&mut self, id: TaskId) {
        self.engine.core.step(Input::Poke { id }, self.now);
        self.turn();
    }

    fn finish(&mut self, id: TaskId, code: i32) {
        let run = self.task(id).run;
        self.runs.finish(id, run, code);
        self.poke(id);
    }
}

fn started(answer: &Answer) -> TaskId {
    match answer {
        Ok(Reply::Started(tasks)) => match &tasks[0].0 {
            Resolved::Live(task) => task.id,
            Resolved::Settled(id) => *id,
        },
        other => panic!("not started: {other:?}"),
    }
}

#[test]
fn a_task_lives_from_start_to_settled() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(1);
    assert_eq!(lab.status(id), Status::Running);
    lab.finish(id, 0);
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.exit_code, task.result.as_str()), (Status::Completed, Some(0), "run 1"));
    assert_eq!(task.notices.len(), 1);
    assert_eq!(task.notices[0].rev, task.rev, "the notice names the save that raised it");
    let steps: Vec<Status> = task.history.iter().map(|h| h.status).collect();
    assert_eq!(steps, [Status::Dispatched, Status::Running, Status::Completed]);
    assert_eq!(lab.runs.told(), [id], "the shim need not wait");
    assert!(!lab.engine.core.is_settled(id), "the clean-up comes when nothing else is going on");
    lab.pass(1);
    assert!(lab.engine.core.is_settled(id), "its folder is folded away");
    assert_eq!(lab.store.noted().len(), 1);
}

#[test]
fn a_released_command_is_looked_at_a_moment_later_and_a_stopped_one_at_once() {
    let mut lab = Lab::new(2);
    let (quick, long) = (lab.start("quick"), lab.start("long"));
    let claimed = |lab: &mut Lab, id| {
        lab.engine.core.step(Input::Claimed { id }, lab.now);
        lab.turn();
    };
    claimed(&mut lab, quick);
    claimed(&mut lab, long);
    assert_eq!((lab.status(quick), lab.status(long)), (Status::Dispatched, Status::Dispatched));
    lab.finish(quick, 0);
    let steps: Vec<Status> = lab.task(quick).history.iter().map(|h| h.status).collect();
    assert_eq!(steps, [Status::Dispatched, Status::Running, Status::Completed]);
    lab.now.boot += 20;
    lab.turn();
    assert_eq!(lab.status(long), Status::Running);
    lab.runs.slow(true);
    let stopped = lab.start("stopped");
    lab.ask(Ask::Stop { id: stopped, reason: String::new() }).unwrap();
    lab.runs.claim(stopped, 1);
    claimed(&mut lab, stopped);
    assert!(lab.task(stopped).status.is_ended() || lab.runs.stops() == [(stopped, 1)], "a stop does not wait");
}

#[test]
fn the_clean_up_waits_for_a_quiet_moment_and_never_for_too_many() {
    let mut lab = Lab::new(1);
    let first = lab.start("first");
    lab.finish(first, 0);
    for n in 0..30 {
        lab.now.boot += 900;
        let id = lab.start(&n.to_string());
        lab.finish(id, 0);
        assert!(!lab.engine.core.is_settled(first), "{n}: something has just ended");
    }
    for n in 0..2100 {
        let id = lab.start(&format!("more-{n}"));
        lab.finish(id, 0);
    }
    assert!(lab.engine.core.is_settled(first), "too many wait: the oldest goes first");
    let waiting = lab.store.tasks().len() - lab.engine.core.settled_ids().len();
    assert!((2000..=2060).contains(&waiting), "{waiting} wait");
    lab.pass(40);
    assert_eq!(lab.engine.core.settled_ids().len(), lab.store.tasks().len());
}

#[test]
fn slots_are_kept_and_the_queue_is_first_in_first_out() {
    let mut lab = Lab::new(2);
    let ids: Vec<TaskId> = (0..5).map(|i| lab.start(&i.to_string())).collect();
    lab.pass(2);
    assert_eq!(lab.runs.running().len(), 2);
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(lab.status(*id), Status::Running, "task {i}");
        lab.finish(*id, 0);
        lab.pass(1);
        assert_eq!(lab.runs.running().len(), 2.min(4 - i));
    }
}

#[test]
fn the_same_key_is_the_same_task_also_when_it_is_settled() {
    let mut lab = Lab::new(1);
    let id = lab.start("k");
    assert_eq!(lab.start("k"), id);
    lab.pass(1);
    lab.finish(id, 0);
    assert_eq!(lab.start("k"), id);
    let mut lab = lab.reboot();
    assert_eq!(lab.start("k"), id);
    assert_eq!(lab.runs.started(id, 1), 1);
}

#[test]
fn exit_codes_signals_and_launch_errors_are_told_apart() {
    let mut lab = Lab::new(3);
    let (fails, cut, stopped) = (lab.start("f"), lab.start("c"), lab.start("s"));
    lab.pass(1);
    lab.finish(fails, 7);
    assert_eq!((lab.status(fails), lab.task(fails).error.as_str()), (Status::Failed, "exit code 7"));
    lab.runs.kill_shim(cut, 1);
    lab.poke(cut);
    assert_eq!(lab.status(cut), Status::Interrupted);
    // SIGTERM to the shim that nobody here asked for: the session or machine went down.
    lab.runs.obey(stopped, 1);
    lab.poke(stopped);
    assert_eq!(lab.status(stopped), Status::Interrupted);
}

#[test]
fn a_cancel_is_an_intent_first_and_survives_a_death() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(1);
    lab.ask(Ask::Stop { id, reason: String::new() }).unwrap();
    assert_eq!(lab.store.task(id).unwrap().stop.unwrap().by, "test");
    assert_eq!(lab.runs.stops(), [(id, 1)]);
    let mut lab = lab.reboot();
    assert_eq!(lab.runs.stops(), [(id, 1), (id, 1)], "sent again at the boot");
    lab.runs.obey(id, 1);
    lab.poke(id);
    assert_eq!(lab.status(id), Status::Cancelled);
    let again = lab.ask(Ask::Stop { id, reason: String::new() }).unwrap_err();
    assert_eq!(again.code, RefusedCode::Conflict);
}

#[test]
fn a_shim_that_does_not_obey_is_killed_after_20_seconds() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(1);
    lab.ask(Ask::Stop { id, reason: String::new() }).unwrap();
    lab.pass(19);
    assert_eq!(lab.runs.kills(), []);
    lab.pass(3);
    assert_eq!(lab.runs.kills(), [(id, 1)]);
    assert_eq!(lab.status(id), Status::Cancelled);
}

#[test]
fn a_queued_task_is_cancelled_at_once_and_never_starts() {
    let mut lab = Lab::new(1);
    let (a, b) = (lab.start("a"), lab.start("b"));
    lab.ask(Ask::Stop { id: b, reason: "no".into() }).unwrap();
    assert_eq!(lab.status(b), Status::Cancelled);
    lab.pass(1);
    lab.finish(a, 0);
    lab.pass(3);
    assert_eq!(lab.runs.started(b, 1), 0);
}

#[test]
fn a_cancel_before_the_claim_voids_it_or_signals_by_it() {
    let mut lab = Lab::new(2);
    lab.runs.slow(true);
    let (void, late) = (lab.start("a"), lab.start("b"));
    lab.runs.claim(late, 1);
    lab.ask(Ask::Stop { id: void, reason: String::new() }).unwrap();
    assert_eq!(lab.status(void), Status::Cancelled);
    assert_eq!(lab.runs.started(void, 1), 0);
    lab.ask(Ask::Stop { id: late, reason: String::new() }).unwrap();
    assert_eq!(lab.runs.stops(), [(late, 1)]);
}

#[test]
fn a_launch_without_a_claim_is_voided_after_30_seconds_and_tried_three_times() {
    let mut lab = Lab::new(1);
    lab.runs.slow(true);
    let id = lab.start("a");
    lab.pass(29);
    assert_eq!(lab.task(id).run, 1);
    lab.pass(4);
    assert_eq!(lab.task(id).run, 2);
    lab.pass(80);
    let task = lab.task(id);
    assert_eq!(task.status, Status::Failed);
    assert!(task.error.starts_with("launch"), "{}", task.error);
    assert_eq!(lab.runs.all_started(), BTreeMap::new());
}

#[test]
fn a_shortage_never_fails_a_task_but_a_real_error_does_after_three_launches() {
    let mut lab = Lab::new(1);
    let short = || LaunchError { why: "too many open files".into(), passing: true };
    lab.runs.fail_launches((0..10).map(|_| short()).collect());
    let id = lab.start("a");
    lab.pass(30);
    assert_eq!((lab.status(id), lab.task(id).launches), (Status::Running, 0));
    lab.finish(id, 0);
    let real = || LaunchError { why: "argument list too long".into(), passing: false };
    lab.runs.fail_launches((0..3).map(|_| real()).collect());
    let id = lab.start("b");
    lab.pass(30);
    let task = lab.task(id);
    assert_eq!(task.status, Status::Failed);
    assert!(task.error.starts_with("launch: argument list too long"), "{}", task.error);
}

#[test]
fn after_waits_for_completion_and_cancels_with_the_reason() {
    let mut lab = Lab::new(3);
    let first = lab.start("first");
    let then = |r: &mut StartRequest| r.after = vec![TaskRef(first.to_string())];
    let good = started(&lab.start_with("then", then));
    let chained = started(&lab.start_with("chained", |r| r.after = vec![TaskRef(good.to_string())]));
    lab.pass(2);
    assert_eq!(lab.status(good), Status::Dispatched);
    let refused = lab.ask(Ask::Remove { id: first }).unwrap_err();
    assert_eq!(refused.code, RefusedCode::Conflict);
    lab.finish(first, 0);
    lab.pass(1);
    let refused = lab.ask(Ask::Remove { id: good }).unwrap_err();
    assert_eq!(refused.code, RefusedCode::Conflict);
    assert_eq!(lab.status(good), Status::Running);
    let mut lab = lab.reboot();
    lab.finish(good, 1);
    assert_eq!(lab.status(chained), Status::Cancelled);
    assert!(lab.task(chained).error.contains(good.as_str()), "{}", lab.task(chained).error);
}

#[test]
fn a_task_whose_dependency_failed_while_the_daemon_was_dead_is_cancelled_at_the_boot() {
    let mut lab = Lab::new(2);
    let first = lab.start("first");
    let then = started(&lab.start_with("then", |r| r.after = vec![TaskRef(first.to_string())]));
    lab.pass(1);
    lab.runs.finish(first, 1, 9);
    let lab = lab.reboot();
    assert_eq!((lab.status(first), lab.status(then)), (Status::Failed, Status::Cancelled));
}

#[test]
fn a_deadline_stops_the_task_and_says_so() {
    let mut lab = Lab::new(1);
    let id = started(&lab.start_with("a", |r| r.timeout = 5000));
    lab.pass(1);
    // The pretended claim began at boot: 1,000 seconds have passed on the boot clock.
    assert_eq!(lab.runs.stops(), []);
    lab.pass(4001);
    assert_eq!(lab.runs.stops(), [(id, 1)]);
    lab.runs.obey(id, 1);
    lab.poke(id);
    let task = lab.task(id);
    assert_eq!(task.status, Status::Failed);
    assert!(task.error.starts_with("timeout"), "{}", task.error);
}

#[test]
fn a_retry_is_a_new_run_with_a_clean_sheet() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(1);
    lab.ask(Ask::Stop { id, reason: String::new() }).unwrap();
    lab.runs.obey(id, 1);
    lab.poke(id);
    lab.ask(Ask::Retry { id }).unwrap();
    lab.pass(1);
    let task = lab.task(id);
    assert_eq!((task.status, task.run, task.stop, task.error.as_str()), (Status::Running, 2, None, ""));
    let refused = lab.ask(Ask::Retry { id }).unwrap_err();
    assert_eq!(refused.code, RefusedCode::Conflict);
    lab.finish(id, 0);
    assert_eq!(lab.task(id).notices.len(), 2);
    assert_eq!((lab.runs.started(id, 1), lab.runs.started(id, 2)), (1, 1));
    let lab = lab.reboot();
    assert_eq!(lab.engine.core.notices_after(0, 9).0, [(1, id), (2, id)], "both ends are told after a restart");
}

#[test]
fn a_retry_does_not_wait_for_what_completed_and_was_removed() {
    let mut lab = Lab::new(2);
    let first = lab.start("first");
    let then = started(&lab.start_with("then", |r| r.after = vec![TaskRef(first.to_string())]));
    lab.pass(1);
    lab.finish(first, 0);
    lab.pass(1);
    lab.finish(then, 1);
    lab.ask(Ask::Remove { id: first }).unwrap();
    lab.ask(Ask::Retry { id: then }).unwrap();
    lab.pass(2);
    assert_eq!(lab.status(then), Status::Running);
}

#[test]
fn a_number_is_never_used_twice() {
    let mut lab = Lab::new(1);
    let a = lab.start("a");
    lab.pass(1);
    lab.finish(a, 0);
    lab.ask(Ask::Remove { id: a }).unwrap();
    assert_eq!(lab.store.task(a), None);
    let mut lab = lab.reboot();
    let b = lab.start("b");
    assert_eq!(lab.task(b).number, 2);
    lab.pass(1);
    lab.finish(b, 0);
    assert_eq!(lab.task(b).notices[0].seq, 2, "nor is a cursor's number");
}

#[test]
fn a_failed_accept_is_undone_and_refused() {
    let mut lab = Lab::new(1);
    lab.store.fail_next(1);
    let refused = lab.start_with("a", |_| {}).unwrap_err();
    assert_eq!(refused.code, RefusedCode::Storage);
    assert!(!refused.hint.is_empty());
    assert_eq!(lab.engine.core.list(&ListQuery::default()).active.len(), 0);
    let id = lab.start("a");
    lab.pass(1);
    assert_eq!(lab.status(id), Status::Running);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let mut lab = Lab::new(1);
    let tasks = |n: usize| -> Vec<NewTask> {
        let one = |i: usize| {
            let (uuid, id) = TaskId::random();
            let request = StartRequest { command: format!("{i}"), ..StartRequest::default() };
            NewTask { request, id, uuid: uuid.to_string(), env_digest: String::new() }
        };
        (0..n).map(one).collect()
    };
    lab.store.fail_next(1);
    assert!(lab.ask(Ask::Start { tasks: tasks(5), envs: vec![] }).is_err());
    lab.pass(2);
    assert_eq!(lab.store.tasks().len(), 0, "what was saved of it is taken back");
    assert_eq!(lab.runs.all_started(), BTreeMap::new());
    let Ok(Reply::Started(all)) = lab.ask(Ask::Start { tasks: tasks(5), envs: vec![] }) else { panic!() };
    assert_eq!(all.len(), 5);
}

#[test]
fn a_batch_that_a_death_cuts_short_is_there_whole_or_not_at_all() {
    for untold in [false, true] {
        for n in 0..8 {
            let mut lab = Lab::new(1);
            if untold {
                lab.store.die_untold_after(n)
            } else {
                lab.store.die_after(n)
            }
            let one = |i: usize| {
                let (uuid, id) = TaskId::random();
                let request = StartRequest { command: format!("{i}"), ..StartRequest::default() };
                NewTask { request, id, uuid: uuid.to_string(), env_digest: String::new() }
            };
            let told = lab.ask(Ask::Start { tasks: (0..5).map(one).collect(), envs: vec![] }).is_ok();
            let mut lab = lab.reboot();
            settle(&mut lab);
            let there = lab.store.tasks();
            assert!(there.is_empty() && !told || there.len() == 5, "{} of 5 after write {n}", there.len());
            assert!(there.iter().all(|t| t.status == Status::Completed));
        }
    }
}

#[test]
fn a_failed_save_of_an_end_is_tried_again_and_told_once() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(2);
    lab.store.fail_next(2);
    lab.finish(id, 0);
    assert_eq!(lab.status(id), Status::Running, "it goes on in memory");
    assert!(!lab.engine.core.status_report().degraded.is_empty());
    lab.pass(4);
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.notices.len()), (Status::Completed, 1));
    assert_eq!(lab.engine.core.status_report().degraded, "");
}

#[test]
fn a_store_that_can_save_again_is_found_out_with_nothing_to_save() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(2);
    // The cancel, and the first look whether there is room again.
    lab.store.fail_next(2);
    assert!(lab.ask(Ask::Stop { id, reason: String::new() }).is_err());
    lab.pass(3);
    assert!(!lab.engine.core.status_report().degraded.is_empty());
    lab.pass(3);
    assert_eq!(lab.engine.core.status_report().degraded, "");
}

#[test]
fn a_failed_cancel_is_refused_and_changes_nothing() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(2);
    lab.store.fail_next(1);
    assert!(lab.ask(Ask::Stop { id, reason: String::new() }).is_err());
    lab.pass(30);
    assert_eq!(lab.runs.stops(), []);
    assert_eq!(lab.status(id), Status::Running);
}

#[test]
fn records_from_elsewhere_are_shown_and_not_used_until_they_are_trusted() {
    let mut task = Task::new("12345678".parse().unwrap(), 0, octo::task::Stamp::from_millis(5));
    task.command = "rm -rf /".into();
    let loaded = Loaded { live: vec![task], ..Loaded::default() };
    let mut lab =
        Lab::on(limits(1), MemStore::new(), Default::default(), loaded, Now { wall: 1_000_000, boot: 1_000_000 });
    let id: TaskId = "12345678".parse().unwrap();
    lab.pass(60);
    assert_eq!(lab.runs.all_started(), BTreeMap::new());
    assert_eq!(lab.ask(Ask::Stop { id, reason: String::new() }).unwrap_err().code, RefusedCode::Forbidden);
    assert!(lab.engine.core.status_report().problems.iter().any(|p| p.contains("octo trust")));
    lab.ask(Ask::Trust { records: HashSet::new() }).unwrap();
    lab.pass(2);
    assert_eq!(lab.runs.started(id, 1), 1);
    assert_eq!(lab.task(id).number, 1, "a record of the ancestor gets a number");
}

#[test]
fn a_low_disk_starts_nothing_and_stops_the_worst_writer() {
    let mut lab = Lab::new(2);
    let a = lab.start("a");
    lab.pass(1);
    lab.engine.core.step(Input::Disk { low: true, writer: Some(a) }, lab.now);
    let b = lab.start("b");
    lab.pass(5);
    assert_eq!((lab.runs.stops(), lab.runs.started(b, 1)), (vec![(a, 1)], 0));
    lab.runs.obey(a, 1);
    lab.poke(a);
    assert!(lab.task(a).error.starts_with("low_disk"));
    lab.engine.core.step(Input::Disk { low: false, writer: None }, lab.now);
    lab.pass(2);
    assert_eq!(lab.status(b), Status::Running);
}

#[test]
fn references_resolve_by_id_number_and_prefix() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    let core = &lab.engine.core;
    for text in [id.to_string(), "1".into(), "#1".into(), id.as_str()[..5].to_owned()] {
        assert_eq!(core.resolve(&TaskRef(text)), Ok(id));
    }
    for text in ["", "2", "zz", "../x"] {
        assert_eq!(core.resolve(&TaskRef(text.into())).unwrap_err().code, RefusedCode::NotFound);
    }
}

#[test]
fn clear_hides_and_pages_go_on_where_they_ended() {
    let mut lab = Lab::new(5);
    let ids: Vec<TaskId> = (0..5).map(|i| lab.start(&i.to_string())).collect();
    lab.pass(1);
    for id in &ids {
        lab.finish(*id, 0);
        lab.pass(1);
    }
    let page = |lab: &Lab, cursor: Option<String>| {
        lab.engine.core.list(&ListQuery { limit: Some(2), cursor, ..ListQuery::default() })
    };
    let (mut seen, mut cursor) = (vec![], None);
    loop {
        let found = page(&lab, cursor);
        assert_eq!(found.total, 5);
        seen.extend(found.history);
        cursor = found.next;
        if cursor.is_none() {
            break;
        }
    }
    seen.reverse();
    assert_eq!(seen, ids, "newest end first, nothing twice");
    lab.ask(Ask::Clear).unwrap();
    assert_eq!(page(&lab, None).total, 0);
    let lab = lab.reboot();
    assert_eq!(page(&lab, None).total, 0);
    let all = lab.engine.core.list(&ListQuery { hidden: true, ..ListQuery::default() });
    assert_eq!(all.total, 5);
}

/// What the outside world was told in a scenario that may be cut off anywhere.
#[derive(Default)]
struct Told {
    started: BTreeMap<String, TaskId>,
    cancelled: Vec<TaskId>,
    removed: Vec<TaskId>,
    retried: Vec<TaskId>,
}

/// Starts, ends, cancels, retries and removes; returns what was acknowledged.
fn scenario(lab: &mut Lab) -> Told {
    let mut told = Told::default();
    for key in ["a", "b", "c", "d"] {
        let answer = lab.start_with(key, |_| {});
        if answer.is_ok() {
            told.started.insert(key.into(), started(&answer));
        }
        lab.pass(1);
    }
    let get = |told: &Told, key: &str| told.started.get(key).copied();
    if let Some(a) = get(&told, "a") {
        if lab.runs.state(a, 1) == Some(RunState::Running) {
            lab.finish(a, 0);
        }
        if lab.ask(Ask::Retry { id: a }).is_ok() {
            told.retried.push(a);
        }
    }
    if let Some(b) = get(&told, "b")
        && lab.ask(Ask::Stop { id: b, reason: String::new() }).is_ok()
    {
        told.cancelled.push(b);
    }
    if let Some(c) = get(&told, "c") {
        if lab.runs.state(c, 1) == Some(RunState::Running) {
            lab.finish(c, 3);
        }
        lab.pass(1);
        if lab.ask(Ask::Remove { id: c }).is_ok() {
            told.removed.push(c);
        }
    }
    lab.pass(1);
    told
}

/// Drives everything that is left to its end.
fn settle(lab: &mut Lab) {
    for _ in 0..60 {
        for (id, run) in lab.runs.stops() {
            lab.runs.obey(id, run);
        }
        for (id, run) in lab.runs.running() {
            if lab.engine.core.task(id).is_some_and(|t| t.stop.is_none()) {
                lab.runs.finish(id, run, 0);
            }
            lab.poke(id);
        }
        lab.pass(1);
    }
}

fn check(lab: &Lab, told: &Told, at: &str) {
    for ((id, run), times) in lab.runs.all_started() {
        assert!(times <= 1, "{at}: run {run} of {id} ran {times} times");
    }
    for (key, id) in &told.started {
        if told.removed.contains(id) {
            assert!(lab.store.task(*id).is_none(), "{at}: {key} came back");
            continue;
        }
        let Some(task) = lab.store.task(*id) else {
            // A removal whose answer never came may have happened.
            assert_eq!(key, "c", "{at}: {key} is lost");
            continue;
        };
        assert!(task.status.is_ended(), "{at}: {key} is stuck as {}", task.status);
        assert!(!task.notices.is_empty(), "{at}: nobody was told of {key}");
        if told.cancelled.contains(id) {
            assert_eq!(task.status, Status::Cancelled, "{at}: the cancel of {key} was forgotten");
        }
        if told.retried.contains(id) {
            assert!(task.run >= 2, "{at}: the retry of {key} was forgotten");
        }
    }
    assert!(lab.runs.running().is_empty(), "{at}: something still runs");
}

#[test]
fn the_daemon_may_die_after_every_single_write() {
    let whole = {
        let mut lab = Lab::new(2);
        scenario(&mut lab);
        settle(&mut lab);
        lab.store.writes()
    };
    assert!(whole >= 12, "the scenario writes enough to be worth it: {whole}");
    for untold in [false, true] {
        for n in 0..=whole {
            let mut lab = Lab::new(2);
            if untold {
                lab.store.die_untold_after(n)
            } else {
                lab.store.die_after(n)
            }
            let told = scenario(&mut lab);
            let mut lab = lab.reboot();
            settle(&mut lab);
            check(&lab, &told, &format!("death after write {n} of {whole} (untold: {untold})"));
            // The client repeats what it was not told of, with the same keys.
            for key in ["a", "b", "c", "d"] {
                let id = lab.start(key);
                if let Some(first) = told.started.get(key) {
                    assert!(*first == id || told.removed.contains(first) || key == "c");
                }
            }
        }
    }
}

#[test]
fn an_id_that_another_task_has_is_drawn_again() {
    let mut lab = Lab::new(1);
    let first = lab.start("a");
    let task = |key: &str| {
        let request = StartRequest { command: "x".into(), key: key.into(), ..StartRequest::default() };
        NewTask { request, id: first, uuid: String::new(), env_digest: String::new() }
    };
    let answer = lab.ask(Ask::Start { tasks: vec![task("b"), task("c")], envs: vec![] });
    let Ok(Reply::Started(started)) = answer else { panic!("{answer:?}") };
    assert!(started.iter().all(|(_, fresh)| *fresh));
    assert_eq!(lab.store.tasks().len(), 3);
    assert_eq!(lab.store.task(first).unwrap().key, "a");
}

#[test]
fn a_stop_is_sent_soon_after_a_look_that_failed() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(2);
    lab.runs.fail_looks(1);
    lab.ask(Ask::Stop { id, reason: String::new() }).unwrap();
    assert!(lab.runs.stops().is_empty());
    lab.pass(2);
    assert_eq!(lab.runs.stops(), [(id, 1)]);
}

#[test]
fn a_fold_that_was_due_leaves_the_run_of_a_retry_alone() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(1);
    lab.runs.hold(true);
    lab.finish(id, 0);
    lab.runs.hold(false);
    // The shim lets go and its owner retries: both are heard of in one turn.
    lab.engine.core.step(Input::Poke { id }, lab.now);
    lab.ask(Ask::Retry { id }).unwrap();
    assert_eq!(lab.runs.state(id, 2), Some(RunState::Running));
}

#[test]
fn a_refused_clear_hides_nothing_and_a_refused_shutdown_shuts_nothing() {
    let mut lab = Lab::new(1);
    let id = lab.start("a");
    lab.pass(1);
    lab.finish(id, 0);
    lab.store.fail_next(1);
    lab.ask(Ask::Clear).unwrap_err();
    assert_eq!(lab.engine.core.list(&ListQuery::default()).history, [id]);
    lab.start("b");
    lab.store.fail_next(1);
    lab.ask(Ask::StopAll).unwrap_err();
    lab.start("c");
}

/// The ended tasks that lists show, by number.
fn shown(lab: &Lab) -> Vec<u64> {
    let page = lab.engine.core.list(&ListQuery::default());
    assert_eq!(page.total, page.history.len());
    page.history.iter().map(|id| lab.task(*id).number).collect()
}

#[test]
fn a_clock_that_is_set_back_after_a_clear_hides_no_new_end_and_shows_no_old_one() {
    let mut lab = Lab::new(4);
    lab.now.wall = 9_000_000;
    let [old, running, silent] = ["old", "running", "silent"].map(|key| lab.start(key));
    lab.pass(1);
    lab.finish(old, 0);
    lab.pass(2);
    lab.ask(Ask::Clear).unwrap();
    assert_eq!(shown(&lab), [] as [u64; 0]);
    lab.now.wall = 5_000_000;
    lab.finish(running, 0);
    let new = started(&lab.start_with("new", |r| r.notify = octo::task::NotifyPolicy::None));
    lab.pass(2);
    lab.finish(new, 0);
    lab.pass(5);
    assert_eq!(shown(&lab), [4, 2], "{:?}", lab.store.marks());
    lab.engine.core.check().unwrap();
    lab = lab.reboot();
    assert_eq!(shown(&lab), [4, 2], "after a restart");
    lab.engine.core.check().unwrap();
    // One that cannot be saved hides nothing.
    lab.store.fail_next(1);
    assert!(lab.ask(Ask::Clear).is_err());
    assert_eq!(shown(&lab), [4, 2]);
    // Cleared by the clock that was set back: nothing of before comes up again.
    lab.now.wall = 2_000_000;
    lab.ask(Ask::Clear).unwrap();
    assert_eq!(shown(&lab), [] as [u64; 0]);
    lab.finish(silent, 0);
    lab.pass(3);
    assert_eq!(shown(&lab), [3]);
    let hidden = lab.engine.core.list(&ListQuery { hidden: true, ..ListQuery::default() });
    assert_eq!((hidden.total, hidden.history.len()), (4, 4));
}

#[test]
fn a_run_that_could_not_be_looked_at_yet_keeps_its_slot() {
    let mut lab = Lab::new(1);
    let first = lab.start("first");
    lab.pass(1);
    assert_eq!(lab.status(first), Status::Running);
    // The new daemon cannot look at once; meanwhile somebody asks for another task.
    lab.runs.fail_looks(3);
    let loaded = lab.store.boot();
    lab = Lab::on(limits(1), lab.store, (lab.runs, lab.agents), loaded, lab.now);
    let second = lab.start("second");
    for _ in 0..6 {
        assert!(lab.runs.running().len() <= 1, "more than one runs: {:?}", lab.runs.running());
        lab.pass(1);
    }
    assert_eq!(lab.status(first), Status::Running);
    lab.finish(first, 0);
    lab.pass(2);
    assert_eq!(lab.status(second), Status::Running);
}

/// A record that has ended, made by nobody of this installation.
fn foreign(id: &str, number: u64, key: &str) -> Task {
    let mut task = Task::new(id.parse().unwrap(), number, octo::task::Stamp::from_millis(5));
    task.command = "true".into();
    task.key = key.into();
    task.status = Status::Completed;
    task.completed_at = octo::task::Stamp::from_millis(6);
    task.mark = "elsewhere".into();
    task
}

#[test]
fn ours_keeps_its_number_whatever_a_record_from_elsewhere_says() {
    for settled in [false, true] {
        let mut lab = Lab::new(1);
        let id = lab.start("ours");
        lab.pass(1);
        if settled {
            lab.finish(id, 0);
            lab.pass(3);
            assert!(lab.engine.core.is_settled(id));
        }
        let intruder = foreign("00000001", 1, "");
        lab.store.put_record(&intruder);
        lab = lab.reboot();
        lab.pass(3);
        assert_eq!(lab.engine.core.resolve(&TaskRef("1".into())).unwrap(), id, "settled: {settled}");
        assert_eq!(lab.task(id).number, 1);
        assert_eq!(lab.engine.core.resolve(&TaskRef("2".into())).unwrap(), intruder.id);
    }
}

#[test]
fn a_key_is_compared_and_a_record_from_elsewhere_has_none() {
    let mut lab = Lab::new(4);
    lab.store.put_record(&foreign("00000001", 1, "mine"));
    lab = lab.reboot();
    let mine = lab.start("mine");
    assert_ne!(mine.as_str(), "00000001", "a record from elsewhere swallowed the start");
    lab.pass(1);
    lab.finish(mine, 0);
    lab.pass(3);
    assert!(lab.engine.core.is_settled(mine));
    assert_eq!(lab.start("mine"), mine, "settled, and the same key again");
    // A summary that claims another key's hash: what a collision of hashes looks like.
    let mut summary = octo::store::Summary::of(&lab.task(mine));
    summary.key_hash = octo::store::key_hash("other");
    lab.engine.core.replace_settled(summary);
    let other = lab.start("other");
    assert_ne!(other, mine, "another key was taken for this one");
    assert_eq!(lab.start("other"), other);
}
