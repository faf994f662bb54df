//! Agents: parked without a slot, woken at the head of the queue, stopped with all that they started, and driven again
//! from their journals after every death.

use octo::agent::drive::Parking;
use octo::command::{Actor, ListQuery, QuestionRequest, RefusedCode, ResumeRequest, StartRequest, TaskRef};
use octo::exec::agent::Report;
use octo::supervisor::core::{Ask, NewQuestion, NewTask, Reply};
use octo::task::{Kind, NoticeKind, Stamp, Status, Task, TaskId};

use super::{Answer, Lab, started};

/// Waits for all children.
pub(super) fn for_all() -> Parking {
    Parking::Tasks { ids: Vec::new(), until: Stamp::default() }
}

impl Lab {
    pub(super) fn agent(&mut self, key: &str) -> TaskId {
        started(&self.agent_with(key, |_| {}))
    }

    pub(super) fn agent_with(&mut self, key: &str, change: impl FnOnce(&mut StartRequest)) -> Answer {
        self.start_with(key, |request| {
            request.kind = Kind::Agent;
            request.prompt = std::mem::take(&mut request.command);
            change(request);
        })
    }

    /// A task that a task starts.
    pub(super) fn child(&mut self, parent: TaskId, key: &str, kind: Kind) -> TaskId {
        started(&self.child_with(parent, key, kind, |_| {}))
    }

    pub(super) fn child_with(
        &mut self,
        parent: TaskId,
        key: &str,
        kind: Kind,
        change: impl FnOnce(&mut StartRequest),
    ) -> Answer {
        let mut request =
            StartRequest { kind, prompt: "do".into(), command: "x".into(), key: key.into(), ..StartRequest::default() };
        change(&mut request);
        let (uuid, id) = TaskId::random();
        let task = NewTask { request, id, uuid: uuid.to_string(), env_digest: String::new() };
        self.ask_as(Actor::Task(Some(parent)), Ask::Start { tasks: vec![task], envs: vec![] })
    }

    pub(super) fn report(&mut self, id: TaskId, what: Report) -> Answer {
        let run = self.task(id).run;
        let report = self.agents.report(id, run, what);
        self.ask(Ask::Agent(report))
    }

    pub(super) fn works(&mut self, id: TaskId) {
        self.report(id, Report::Working).unwrap();
    }

    pub(super) fn completes(&mut self, id: TaskId) {
        self.report(id, Report::Ended { ok: true, text: "done".into() }).unwrap();
    }

    pub(super) fn parks(&mut self, id: TaskId, parking: Parking) {
        self.report(id, Report::Parked(parking)).unwrap();
    }

    /// The agent asks, and its driver leaves.
    fn asks(&mut self, id: TaskId, key: &str) -> Answer {
        let request = QuestionRequest { text: format!("{key}?"), key: key.into(), ..QuestionRequest::default() };
        let new = Box::new(NewQuestion { request, action: None });
        self.ask_as(Actor::Task(Some(id)), Ask::Question { id, new })
    }

    fn answers(&mut self, id: TaskId, question: &str) -> Answer {
        let request = ResumeRequest { answer: "yes".into(), question: Some(question.into()), key: String::new() };
        self.ask(Ask::Answer { id, request })
    }

    pub(super) fn is_driven(&self, id: TaskId) -> bool {
        self.agents.driven().iter().any(|(driven, _)| *driven == id)
    }

    fn steps(&self, id: TaskId) -> Vec<Status> {
        self.task(id).history.iter().map(|h| h.status).collect()
    }

    fn saved(&self, id: TaskId) -> Task {
        self.store.task(id).unwrap()
    }
}

#[test]
fn an_agent_lives_from_start_to_settled() {
    let mut lab = Lab::new(1);
    let id = started(&lab.agent_with("a", |r| {
        r.agent_id = "writer".into();
        r.model = "demo/tour".into();
        r.team = "team.yaml".into();
        r.max_turns = Some(7);
    }));
    let task = lab.saved(id);
    assert_eq!((task.kind, task.status, task.prompt.as_str()), (Kind::Agent, Status::Dispatched, "run a"));
    assert_eq!(
        (task.agent_name.as_str(), task.model.as_str(), task.team.as_str()),
        ("writer", "demo/tour", "team.yaml")
    );
    assert_eq!((task.max_turns, task.budget.tokens), (7, Some(50_000)));
    assert_eq!(lab.agents.launches(), [(id, 1)]);
    assert_eq!(lab.status(id), Status::Dispatched, "nothing was heard of it yet");
    lab.works(id);
    assert_eq!(lab.status(id), Status::Running);
    lab.agents.uses(id, 100, 20, None);
    lab.works(id);
    lab.pass(2);
    let task = lab.saved(id);
    assert_eq!((task.status, task.usage.tokens(), task.hours[0].tokens), (Status::Running, 120, 120), "saved lazily");
    lab.agents.uses(id, 1, 1, None);
    lab.report(id, Report::Ended { ok: true, text: "It is written.".into() }).unwrap();
    let task = lab.saved(id);
    assert_eq!((task.status, task.result.as_str(), task.usage.tokens()), (Status::Completed, "It is written.", 122));
    assert_eq!(task.notices.iter().map(|n| n.kind).collect::<Vec<_>>(), [NoticeKind::Completed]);
    lab.pass(2);
    assert!(lab.engine.core.is_settled(id));
    lab.report(id, Report::Working).expect("who comes late is not told off");
    assert_eq!(lab.steps(id), [Status::Dispatched, Status::Running, Status::Completed]);
    lab.engine.core.check().unwrap();
}

#[test]
fn an_agent_that_fails_says_why_and_one_of_an_older_run_says_nothing() {
    let mut lab = Lab::new(1);
    let id = lab.agent("a");
    lab.report(id, Report::Failed("no model answers".into())).unwrap();
    assert_eq!((lab.saved(id).status, lab.saved(id).error.as_str()), (Status::Failed, "no model answers"));
    lab.ask(Ask::Retry { id }).unwrap();
    assert_eq!(lab.agents.launches(), [(id, 1), (id, 2)]);
    let old = lab.agents.report(id, 1, Report::Ended { ok: true, text: "old".into() });
    lab.ask(Ask::Agent(old)).unwrap();
    lab.works(id);
    assert_eq!(lab.status(id), Status::Running);
    let long = "ä".repeat(20_000);
    lab.report(id, Report::Ended { ok: false, text: long.clone() }).unwrap();
    let task = lab.saved(id);
    assert!(
        task.status == Status::Failed && long.starts_with(&task.error) && task.error.len() > 16_000,
        "its beginning"
    );
    assert!(task.error.len() <= octo::task::RESULT_MAX);
}

#[test]
fn a_question_parks_an_agent_and_its_answer_puts_it_at_the_head_of_the_queue() {
    let mut lab = Lab::new(1);
    let (a, b, c) = (lab.agent("a"), lab.agent("b"), lab.agent("c"));
    lab.works(a);
    lab.asks(a, "q").unwrap();
    lab.parks(a, Parking::Question);
    let task = lab.saved(a);
    assert_eq!((task.status, task.paused_reason.as_str()), (Status::Paused, "question"));
    assert!(lab.is_driven(b), "a paused task holds no slot");
    lab.works(b);
    lab.pass(600);
    assert_eq!(lab.status(a), Status::Paused, "an agent waits itself: nobody has to poll for it");
    lab.answers(a, "q1").unwrap();
    let task = lab.saved(a);
    assert_eq!((task.status, task.paused_question.as_str()), (Status::Resumed, ""));
    lab.pass(5);
    assert!(!lab.is_driven(a) && !lab.is_driven(c), "the only slot is taken");
    lab.completes(b);
    assert!(lab.is_driven(a) && !lab.is_driven(c), "who had begun goes first");
    assert_eq!(lab.saved(a).status, Status::Running);
    lab.works(a);
    lab.completes(a);
    assert!(lab.is_driven(c));
    let life =
        [Status::Dispatched, Status::Running, Status::Paused, Status::Resumed, Status::Running, Status::Completed];
    assert_eq!(lab.steps(a), life);
    lab.engine.core.check().unwrap();
}

#[test]
fn an_answer_that_comes_while_the_driver_leaves_is_not_missed() {
    let mut lab = Lab::new(1);
    let (a, b) = (lab.agent("a"), lab.agent("b"));
    lab.works(a);
    lab.asks(a, "q").unwrap();
    lab.answers(a, "q1").unwrap();
    assert_eq!(lab.saved(a).status, Status::Running);
    lab.parks(a, Parking::Question);
    assert!(!lab.is_driven(a), "the other one took the slot while it was paused");
    lab.completes(b);
    assert!(lab.is_driven(a), "it has what it waits for");
    assert_eq!(lab.agents.launches(), [(a, 1), (b, 1), (a, 1)]);
    // One that heard the answer itself just works on.
    lab.asks(a, "r").unwrap();
    lab.answers(a, "q2").unwrap();
    lab.works(a);
    assert_eq!(lab.status(a), Status::Running);
    lab.engine.core.check().unwrap();
}

#[test]
fn of_two_open_questions_each_answer_is_heard() {
    let mut lab = Lab::new(1);
    let id = lab.agent("a");
    lab.works(id);
    lab.asks(id, "x").unwrap();
    lab.asks(id, "y").unwrap();
    lab.parks(id, Parking::Question);
    lab.answers(id, "q2").unwrap();
    assert!(lab.is_driven(id));
    lab.parks(id, Parking::Question);
    let task = lab.saved(id);
    assert_eq!((task.status, task.paused_question.as_str()), (Status::Paused, "x?"), "it waits for the other one");
    lab.answers(id, "q1").unwrap();
    assert!(lab.is_driven(id));
    lab.engine.core.check().unwrap();
}

#[test]
fn a_rate_limit_parks_until_its_time_and_holds_no_slot() {
    let mut lab = Lab::new(1);
    let (a, b) = (lab.agent("a"), lab.agent("b"));
    lab.works(a);
    let until = Stamp::from_millis(lab.now.wall + 30_000);
    lab.parks(a, Parking::RateLimit { until });
    let task = lab.saved(a);
    assert_eq!((task.status, task.paused_reason.as_str()), (Status::Paused, "rate_limit"));
    lab.completes(b);
    lab.pass(29);
    assert!(!lab.is_driven(a));
    lab.pass(2);
    assert!(lab.is_driven(a));
    assert_eq!((lab.status(a), lab.task(a).paused_reason.as_str()), (Status::Running, ""));
    // A time that is over already is no reason to spin.
    for n in 0..5 {
        let before = lab.agents.launches().len();
        lab.parks(a, Parking::RateLimit { until: Stamp::from_millis(1) });
        assert_eq!(lab.agents.launches().len(), before, "{n}");
        lab.pass(2);
        assert_eq!(lab.agents.launches().len(), before + 1);
    }
}

#[test]
fn on_one_slot_a_parent_that_waits_lets_its_children_run() {
    let mut lab = Lab::new(1);
    let parent = lab.agent("parent");
    lab.works(parent);
    let (agent, process) = (lab.child(parent, "agent", Kind::Agent), lab.child(parent, "process", Kind::Process));
    assert_eq!(lab.saved(parent).children, [agent, process]);
    assert_eq!((lab.saved(agent).parent, lab.saved(process).parent), (Some(parent), Some(parent)));
    let stranger = lab.agent("stranger");
    lab.parks(parent, for_all());
    assert_eq!(lab.status(parent), Status::Running);
    assert!(lab.is_driven(agent));
    let grandchild = lab.child(agent, "grandchild", Kind::Agent);
    lab.parks(agent, Parking::Tasks { ids: vec![grandchild], until: Stamp::default() });
    lab.pass(1);
    assert_eq!(lab.status(process), Status::Running, "first come, first served");
    lab.finish(process, 0);
    lab.pass(1);
    assert!(lab.is_driven(stranger) && !lab.is_driven(parent), "there is another child");
    lab.completes(stranger);
    assert!(lab.is_driven(grandchild));
    lab.completes(grandchild);
    assert!(lab.is_driven(agent) && !lab.is_driven(parent));
    lab.completes(agent);
    assert!(lab.is_driven(parent), "all have ended");
    // Who has nobody to wait for does not wait.
    lab.parks(parent, for_all());
    assert!(lab.is_driven(parent));
    lab.completes(parent);
    lab.pass(3);
    lab.engine.core.check().unwrap();
}

#[test]
fn a_wait_for_tasks_ends_when_its_time_is_over() {
    let mut lab = Lab::new(2);
    let parent = lab.agent("parent");
    lab.works(parent);
    let child = lab.child(parent, "child", Kind::Agent);
    let until = Stamp::from_millis(lab.now.wall + 10_000);
    lab.parks(parent, Parking::Tasks { ids: vec![child], until });
    lab.pass(9);
    assert!(!lab.is_driven(parent));
    lab.pass(2);
    assert!(lab.is_driven(parent) && lab.is_driven(child));
    lab.engine.core.check().unwrap();
}

#[test]
fn a_lost_driver_is_replaced_after_a_growing_pause() {
    let mut lab = Lab::new(1);
    let id = lab.agent("a");
    lab.works(id);
    let mut waited = Vec::new();
    for _ in 0..4 {
        lab.report(id, Report::Lost("the disk is full".into())).unwrap();
        let mut seconds = 0;
        while !lab.is_driven(id) {
            lab.pass(1);
            seconds += 1;
        }
        waited.push(seconds);
    }
    assert_eq!(waited, [1, 2, 4, 8]);
    assert_eq!(lab.status(id), Status::Running);
    lab.agents.uses(id, 1, 1, None);
    lab.works(id);
    lab.report(id, Report::Lost("again".into())).unwrap();
    lab.pass(1);
    assert!(lab.is_driven(id), "it had got on");
    for _ in 0..20 {
        lab.report(id, Report::Lost("the disk is full".into())).unwrap();
        lab.pass(300);
        assert!(lab.is_driven(id), "never longer than five minutes");
    }
}

#[test]
fn stopping_a_parent_stops_all_below_it_and_nobody_else() {
    let mut lab = Lab::new(4);
    let parent = lab.agent("parent");
    let other = lab.agent("other");
    lab.works(parent);
    let (child, process) = (lab.child(parent, "child", Kind::Agent), lab.child(parent, "process", Kind::Process));
    lab.works(child);
    let grandchild = lab.child(child, "grandchild", Kind::Agent);
    lab.pass(1);
    // The middle of the chain has ended and is settled.
    lab.completes(child);
    lab.pass(3);
    assert!(lab.engine.core.is_settled(child));
    lab.parks(parent, for_all());
    let reply = lab.ask(Ask::Stop { id: parent, reason: String::new() }).unwrap();
    assert!(matches!(reply, Reply::Task(task) if task.id == parent));
    lab.runs.obey(process, 1);
    lab.poke(process);
    for id in [parent, grandchild, process] {
        assert_eq!(lab.saved(id).status, Status::Cancelled, "{id}");
    }
    assert_eq!(lab.saved(parent).error, "cancelled by test");
    let why = format!("cancelled by test: its parent #{} {parent} was stopped", lab.task(parent).number);
    assert_eq!((lab.saved(grandchild).error, lab.saved(process).error), (why.clone(), why));
    assert_eq!((lab.saved(child).status, lab.is_driven(other)), (Status::Completed, true));
    assert!(lab.agents.stops().contains(&(parent, 1)), "what it ran may be there although it waited");
    lab.engine.core.check().unwrap();
}

#[test]
fn queued_and_parked_agents_are_stopped_at_once_and_a_stop_that_is_not_heard_comes_again() {
    let mut lab = Lab::new(1);
    let (a, queued) = (lab.agent("a"), lab.agent("queued"));
    lab.ask(Ask::Stop { id: queued, reason: String::new() }).unwrap();
    assert_eq!((lab.status(queued), lab.agents.stops()), (Status::Cancelled, vec![]));
    lab.works(a);
    lab.asks(a, "q").unwrap();
    lab.parks(a, Parking::Question);
    lab.ask(Ask::Stop { id: a, reason: String::new() }).unwrap();
    assert_eq!(lab.saved(a).status, Status::Cancelled);
    assert!(lab.saved(a).questions.iter().all(|q| !q.open));
    let deaf = lab.agent("deaf");
    lab.works(deaf);
    lab.agents.deaf(true);
    lab.ask(Ask::Stop { id: deaf, reason: String::new() }).unwrap();
    lab.pass(21);
    assert_eq!(lab.agents.stops().iter().filter(|(id, _)| *id == deaf).count(), 2);
    assert_eq!(lab.status(deaf), Status::Running);
    // It came to its end by itself, before.
    lab.completes(deaf);
    assert_eq!(lab.status(deaf), Status::Completed);
}

#[test]
fn a_stop_in_the_turn_of_the_launch_never_leaves_a_driver_behind() {
    let mut lab = Lab::new(1);
    let (first, id) = (lab.agent("first"), lab.agent("a"));
    lab.works(first);
    lab.agents.deaf(true);
    let report = lab.agents.report(first, 1, Report::Ended { ok: true, text: "done".into() });
    let owner = || Actor::Owner("test".into());
    lab.engine.ask(900, owner(), Ask::Agent(report), lab.now);
    lab.engine.core.schedule(lab.now);
    lab.engine.ask(901, owner(), Ask::Stop { id, reason: String::new() }, lab.now);
    lab.turn();
    assert_eq!(lab.agents.stops(), [(id, 1)]);
    assert!(!lab.is_driven(id), "the stop was carried out before");
}

#[test]
fn a_deadline_counts_from_the_start_and_stands_still_in_a_pause() {
    let mut lab = Lab::new(2);
    let id = started(&lab.agent_with("a", |r| r.timeout = 60));
    let child_of = lab.agent("parent");
    lab.works(child_of);
    lab.works(id);
    lab.pass(30);
    lab.asks(id, "q").unwrap();
    lab.parks(id, Parking::Question);
    lab.pass(100);
    let mut lab = lab.reboot();
    lab.pass(100);
    lab.answers(id, "q1").unwrap();
    lab.works(id);
    lab.pass(25);
    assert_eq!(lab.status(id), Status::Running);
    let child = lab.child(id, "child", Kind::Agent);
    lab.parks(id, for_all());
    lab.pass(6);
    let task = lab.saved(id);
    assert_eq!((task.status, task.error.as_str()), (Status::Failed, "timeout: stopped after 60 s"));
    assert_eq!(lab.status(child), Status::Cancelled, "nobody is left behind");
    lab.engine.core.check().unwrap();
}

#[test]
fn an_agent_waits_for_the_tasks_before_it() {
    let mut lab = Lab::new(3);
    let first = lab.start("first");
    let then = |r: &mut StartRequest| r.after = vec![TaskRef(first.to_string())];
    let good = started(&lab.agent_with("good", then));
    let next = started(&lab.agent_with("next", |r| r.after = vec![TaskRef(good.to_string())]));
    lab.pass(1);
    assert_eq!(lab.agents.launches(), []);
    let mut lab = lab.reboot();
    assert_eq!(lab.agents.launches(), []);
    lab.finish(first, 0);
    assert!(lab.is_driven(good));
    lab.report(good, Report::Failed("no".into())).unwrap();
    assert_eq!(lab.status(next), Status::Cancelled);
}

/// An agent in each state at which a daemon can die.
#[test]
fn a_boot_drives_again_who_had_begun_and_leaves_alone_who_waits_for_an_answer() {
    let mut lab = Lab::new(8);
    let ids: Vec<TaskId> =
        ["running", "asking", "answered", "limited", "parent"].iter().map(|key| lab.agent(key)).collect();
    let [running, asking, answered, limited, parent] = ids[..] else { panic!() };
    ids.iter().for_each(|id| lab.works(*id));
    for id in [asking, answered] {
        lab.asks(id, "q").unwrap();
        lab.parks(id, Parking::Question);
    }
    lab.parks(limited, Parking::RateLimit { until: Stamp::from_millis(lab.now.wall + 1_000_000) });
    let child = lab.child(parent, "child", Kind::Agent);
    lab.works(child);
    lab.parks(parent, for_all());
    let stopped = lab.agent("stopped");
    lab.works(stopped);
    lab.pass(2);
    lab.agents.deaf(true);
    lab.ask(Ask::Stop { id: stopped, reason: String::new() }).unwrap();
    lab.agents.deaf(false);
    lab.limits.slots = 1;
    // Something that never began comes after all of those, although its number is not the highest.
    let fresh = lab.agent("fresh");
    lab.report(fresh, Report::Lost("it never began".into())).unwrap();
    let mut task = lab.saved(answered);
    task.status = Status::Resumed;
    task.questions[0].open = false;
    lab.store.put_record(&task);

    let mut lab = lab.reboot();
    assert_eq!(lab.saved(stopped).status, Status::Cancelled, "the intent is carried out");
    assert_eq!(lab.status(asking), Status::Paused);
    lab.engine.core.check().unwrap();
    let before = lab.agents.launches().len();
    let mut order = Vec::new();
    for _ in 0..10 {
        let Some((id, _)) = lab.agents.driven().first().copied() else { break };
        lab.works(id);
        order.push(id);
        if id == parent && lab.status(child) != Status::Completed {
            lab.parks(id, for_all());
        } else {
            lab.completes(id);
        }
    }
    assert_eq!(order, [running, answered, limited, parent, child, parent, fresh]);
    assert_eq!(lab.agents.launches().len(), before + order.len() - 1, "one at a time");
    assert!(!lab.is_driven(asking));
    lab.answers(asking, "q1").unwrap();
    assert!(lab.is_driven(asking));
    lab.completes(asking);
    lab.pass(3);
    assert_eq!(lab.engine.core.settled_ids().len(), lab.store.tasks().len());
}

/// The store dies after every write n of a life with a question, a child and a rate limit, told and untold: a driver
/// that reports again what its journal says always brings the story to the same end.
#[test]
fn a_death_after_any_write_costs_no_agent_its_life() {
    for untold in [false, true] {
        for n in 0..30 {
            let mut lab = Lab::new(1);
            let id = lab.agent("a");
            if untold {
                lab.store.die_untold_after(n);
            } else {
                lab.store.die_after(n);
            }
            let (mut limited, mut ended) = (false, false);
            let mut deaths = 0;
            for _ in 0..40 {
                if lab.store.is_dead() {
                    deaths += 1;
                    lab = lab.reboot();
                }
                // What the journal says comes first, in this order.
                let driven = lab.agents.driven();
                let Some((now, _)) = driven.first().copied() else {
                    if ended && lab.saved(id).status == Status::Completed {
                        break;
                    }
                    if lab.saved(id).questions.iter().any(|q| q.open) {
                        let _ = lab.answers(id, "q1");
                    }
                    lab.pass(3);
                    continue;
                };
                let _ = lab.report(now, Report::Working);
                if now != id {
                    let _ = lab.report(now, Report::Ended { ok: true, text: "child".into() });
                } else if ended {
                    let _ = lab.report(id, Report::Ended { ok: true, text: "all".into() });
                } else if lab.saved(id).answers.is_empty() {
                    let what = match lab.asks(id, "q") {
                        Ok(_) => Report::Parked(Parking::Question),
                        Err(_) => Report::Lost("it could not ask".into()),
                    };
                    let _ = lab.report(id, what);
                } else if !limited {
                    limited = true;
                    let until = Stamp::from_millis(lab.now.wall + 1000);
                    let _ = lab.report(id, Report::Parked(Parking::RateLimit { until }));
                } else {
                    let child = lab.child_with(id, "child", Kind::Agent, |_| {});
                    let done = matches!(&child, Ok(Reply::Started(_)) if lab.status(started(&child)).is_ended());
                    ended |= done;
                    let what = match child {
                        Ok(_) if done => Report::Ended { ok: true, text: "all".into() },
                        Ok(_) => Report::Parked(for_all()),
                        Err(_) => Report::Lost("it could not start one".into()),
                    };
                    let _ = lab.report(id, what);
                }
                if let Err(wrong) = lab.engine.core.check() {
                    panic!("{n} {untold}: {wrong}");
                }
            }
            let task = lab.saved(id);
            assert_eq!((task.status, task.result.as_str()), (Status::Completed, "all"), "{n} {untold}: {task:?}");
            assert_eq!((task.children.len(), task.answers.len(), task.questions.len()), (1, 1, 1), "{n} {untold}");
            assert_eq!(lab.store.tasks().len(), 2, "{n} {untold}: the child was started twice");
            assert!(deaths == 1 || n > 15, "{n} {untold}: it did not die");
        }
    }
}

#[test]
fn a_save_that_fails_never_leaves_an_agent_without_a_driver() {
    let mut lab = Lab::new(1);
    let id = lab.agent("a");
    lab.works(id);
    lab.pass(2);
    lab.store.fail_next(1);
    let refused = lab.report(id, Report::Ended { ok: true, text: "done".into() }).unwrap_err();
    assert_eq!(refused.code, RefusedCode::Storage);
    assert!(!lab.status(id).is_ended() && !lab.is_driven(id));
    lab.pass(2);
    assert!(lab.is_driven(id), "it says again what its journal says");
    lab.store.fail_next(1);
    lab.report(id, Report::Parked(Parking::RateLimit { until: Stamp::from_millis(1) })).unwrap_err();
    lab.pass(2);
    lab.completes(id);
    assert_eq!(lab.saved(id).status, Status::Completed);

    let (a, b) = (lab.agent("b"), lab.agent("c"));
    lab.works(a);
    lab.asks(a, "q").unwrap();
    lab.parks(a, Parking::Question);
    lab.completes(b);
    lab.pass(3);
    lab.store.fail_next(1);
    lab.answers(a, "q1").unwrap_err();
    assert!(!lab.is_driven(a) && lab.status(a) == Status::Paused);
    lab.answers(a, "q1").unwrap();
    assert!(lab.is_driven(a));
    // A child that could not be saved is none.
    lab.store.fail_next(1);
    let _ = lab.child_with(a, "child", Kind::Agent, |_| {});
    lab.pass(2);
    let child = lab.child(a, "child", Kind::Agent);
    lab.completes(a);
    assert_eq!(lab.saved(a).children, [child]);
    lab.engine.core.check().unwrap();
}

#[test]
fn a_conversation_needs_no_slot_and_stands_in_no_list() {
    let mut lab = Lab::new(1);
    let busy = lab.start("busy");
    lab.pass(1);
    let chat = |lab: &mut Lab, who: &str| {
        let new = NewTask::chat(who, "demo/tour", "/w");
        match lab.ask(Ask::Chat(Box::new(new))) {
            Ok(Reply::Task(task)) => *task,
            other => panic!("no conversation: {other:?}"),
        }
    };
    let task = chat(&mut lab, "repl");
    assert_eq!((task.thread_id.as_str(), task.budget.tokens, task.cwd.as_str()), ("chat:repl", None, "/w"));
    let id = task.id;
    assert!(lab.is_driven(id), "it waits for nobody");
    lab.works(id);
    lab.agents.uses(id, 90_000, 1000, None);
    lab.works(id);
    assert_eq!(chat(&mut lab, "repl").id, id);
    let other = chat(&mut lab, "telegram:1").id;
    assert_ne!(other, id);
    lab.asks(id, "q").unwrap();
    lab.parks(id, Parking::Question);
    assert_eq!(lab.saved(id).notices.iter().map(|n| n.kind).collect::<Vec<_>>(), [NoticeKind::Question]);
    let report = lab.engine.core.status_report();
    assert_eq!((report.slots_used, report.counts.values().sum::<usize>(), report.open_questions), (1, 1, 1));
    let page = lab.engine.core.list(&ListQuery::default());
    assert_eq!(page.active.iter().map(|t| t.id).collect::<Vec<_>>(), [busy]);
    assert!(lab.engine.core.get(&TaskRef(id.to_string())).is_ok());
    let mut lab = lab.reboot();
    assert!(!lab.is_driven(id) && lab.is_driven(other));
    assert_eq!(chat(&mut lab, "repl").id, id, "also after a restart");
    lab.answers(id, "q1").unwrap();
    assert!(lab.is_driven(id));
    let child = lab.child(id, "child", Kind::Agent);
    lab.ask(Ask::StopAll).unwrap();
    assert_eq!(lab.status(id), Status::Running, "the conversation is no task to be stopped with the others");
    assert_eq!((lab.status(child), lab.engine.core.unfinished()), (Status::Cancelled, 1));
    let mut lab = lab.reboot();
    let child = lab.child(id, "child-2", Kind::Agent);
    lab.ask(Ask::Stop { id, reason: String::new() }).unwrap();
    assert_eq!(lab.saved(id).status, Status::Cancelled);
    assert_ne!(lab.status(child), Status::Cancelled, "tasks go on");
    assert_eq!(lab.saved(id).notices.iter().filter(|n| n.kind.is_end()).count(), 0);
    lab.pass(3);
    assert!(lab.engine.core.is_settled(id));
    assert_eq!(lab.engine.core.list(&ListQuery::default()).history.len(), 1, "just the child that was stopped");
    assert_ne!(chat(&mut lab, "repl").id, id, "the next word begins a new one");
    lab.engine.core.check().unwrap();
    let lab = lab.reboot();
    assert_eq!(lab.engine.core.list(&ListQuery::default()).history.len(), 1);
    lab.engine.core.check().unwrap();
}

#[test]
fn agents_start_agents_ten_levels_deep_at_most() {
    let mut lab = Lab::new(20);
    let mut deepest = lab.agent("0");
    for n in 1..10 {
        deepest = lab.child(deepest, &n.to_string(), Kind::Agent);
    }
    let refused = lab.child_with(deepest, "10", Kind::Agent, |_| {}).unwrap_err();
    assert!(refused.message.contains("10 levels deep"), "{refused}");
    lab.child(deepest, "process", Kind::Process);
}

#[test]
fn what_an_agent_starts_cannot_wait_for_it() {
    let mut lab = Lab::new(3);
    let root = started(&lab.agent_with("root", |_| {}));
    lab.works(root);
    let of = |id: TaskId| vec![octo::command::TaskRef(id.to_string())];
    let later = started(&lab.start_with("later", |r| r.after = of(root)));
    for dep in [root, later] {
        let refused = lab.child_with(root, "child", Kind::Process, |r| r.after = of(dep)).unwrap_err();
        assert!(refused.message.contains(&format!("task {root} waits for what it starts")), "{refused:?}");
    }
    // A child may wait for another child, and a process waits for nothing that it starts.
    let child = lab.child(root, "first", Kind::Process);
    let second = started(&lab.child_with(root, "second", Kind::Process, |r| r.after = of(child)));
    started(&lab.child_with(child, "third", Kind::Process, |r| r.after = of(child)));
    lab.pass(2);
    lab.finish(child, 0);
    lab.pass(2);
    assert_eq!(lab.status(second), Status::Running);
}
