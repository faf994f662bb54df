//! Questions: one arbiter, durable before anybody is told, and nobody is answered by chance.

use octo::command::{
    ActionRequest, Actor, QuestionRequest, QuestionState, Receipt, Receipts, RefusedCode, ResumeRequest,
};
use octo::supervisor::core::{Ask, Input, NewQuestion, PAGE_BYTES, Reply, Resolved};
use octo::supervisor::engine::Out;
use octo::task::{Closed, Delivery, NoticeKind, NotifyPolicy, Status, TaskId};

use super::{Answer, Lab, limits, started};

fn question(key: &str) -> QuestionRequest {
    QuestionRequest { text: format!("Delete {key}?"), key: key.to_owned(), by: "octo ask".into(), ..Default::default() }
}

impl Lab {
    /// A lab with a bridge, one running task, and nothing told yet.
    fn asking(slots: usize) -> (Lab, TaskId) {
        let mut lab = Lab::with(octo::supervisor::core::Limits { bridges: vec!["telegram".into()], ..limits(slots) });
        let id = lab.start("a");
        lab.pass(1);
        assert_eq!(lab.status(id), Status::Running);
        (lab, id)
    }

    fn question(&mut self, id: TaskId, request: QuestionRequest) -> Result<QuestionState, octo::command::Refused> {
        let action = request.action.as_ref().map(|a| octo::action::describe(a, |_| None));
        let new = Box::new(NewQuestion { request, action });
        match self.ask_as(Actor::Task(Some(id)), Ask::Question { id, new })? {
            Reply::Question(state) => Ok(*state),
            other => panic!("no question: {other:?}"),
        }
    }

    fn answer(&mut self, by: &str, id: TaskId, question: Option<&str>, answer: &str, key: &str) -> Answer {
        let request =
            ResumeRequest { answer: answer.into(), question: question.map(str::to_owned), key: key.to_owned() };
        self.ask_as(Actor::Owner(by.into()), Ask::Answer { id, request })
    }

    fn poll(&mut self, id: TaskId, question: &str) {
        self.engine.core.step(Input::Polled { id, question: question.into() }, self.now);
        self.turn();
    }

    /// Polls every ten seconds for a while, as an asker does.
    fn attend(&mut self, id: TaskId, question: &str, seconds: u64) {
        for _ in 0..seconds.div_ceil(10) {
            self.poll(id, question);
            self.pass(10);
        }
    }

    /// What the bridge has still to tell; it tells all of it.
    fn deliver(&mut self) -> Vec<(NoticeKind, String)> {
        let mut told = self.deliver_page();
        while self.engine.core.owed_count("telegram") > 0 {
            told.extend(self.deliver_page());
        }
        told
    }

    fn deliver_page(&mut self) -> Vec<(NoticeKind, String)> {
        let (owed, total) = self.engine.core.owed("telegram", 1000);
        assert_eq!(total == 0, owed.is_empty());
        let receipts = owed
            .iter()
            .map(|(notice, task)| Receipt { task: task.id, seq: notice.seq, delivery: Delivery::Sent })
            .collect();
        self.ask(Ask::Receipts(Receipts { bridge: "telegram".into(), receipts })).unwrap();
        owed.into_iter().map(|(notice, _)| (notice.kind, notice.question)).collect()
    }
}

fn why(answer: Answer) -> (RefusedCode, String) {
    let refused = answer.expect_err("it should be refused");
    (refused.code, refused.message)
}

#[test]
fn a_question_pauses_and_its_answer_lets_go_on() {
    let (mut lab, id) = Lab::asking(1);
    let other = lab.start("b");
    lab.pass(1);
    assert_eq!(lab.status(other), Status::Dispatched, "the only slot is taken");
    let asked = lab.question(id, question("x")).unwrap();
    assert_eq!((asked.question.id.as_str(), asked.question.open, asked.answer), ("q1", true, None));
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.paused_reason.as_str()), (Status::Paused, "question"));
    assert_eq!(task.paused_question, "Delete x?");
    assert!(!task.paused_at.is_empty());
    lab.pass(1);
    assert_eq!(lab.status(other), Status::Running, "a paused task holds no slot");
    assert_eq!(lab.deliver(), [(NoticeKind::Question, "q1".into())]);
    lab.answer("repl", id, None, " yes ", "k1").unwrap();
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.paused_question.as_str()), (Status::Running, ""));
    assert!(task.paused_at.is_empty() && task.paused_reason.is_empty());
    let answer = &task.answers[0];
    assert_eq!((answer.question.as_str(), answer.text.as_str(), answer.by.as_str()), ("q1", "yes", "repl"));
    assert_eq!(task.questions[0].closed, Some(Closed::Answered));
    assert_eq!(lab.deliver(), [(NoticeKind::Closed, "q1".into())]);
    let status = lab.engine.core.status_report();
    assert_eq!((status.slots, status.slots_used), (1, 2), "the answered one goes on at once");
    lab.finish(other, 0);
    lab.finish(id, 0);
    lab.deliver();
    lab.pass(3);
    assert!(lab.engine.core.is_settled(id) && lab.engine.core.is_settled(other));
    lab.engine.core.check().unwrap();
}

#[test]
fn the_first_answer_wins_and_later_ones_hear_whose_it_was() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    lab.answer("repl", id, Some("q1"), "yes", "k1").unwrap();
    let at = lab.task(id).answers[0].at.to_string();
    let (code, message) = why(lab.answer("telegram:4711", id, Some("q1"), "no", "k2"));
    assert_eq!(code, RefusedCode::Conflict);
    assert_eq!(message, format!("q1 of task {id} was already answered by REPL at {}: yes", &at[11..16]));
    assert_eq!(lab.task(id).answers.len(), 1);
    lab.answer("repl", id, Some("q1"), "yes", "k1").expect("the same key again is the same answer");
    assert_eq!(lab.task(id).answers.len(), 1);
    lab.finish(id, 0);
    lab.deliver();
    lab.pass(3);
    assert!(lab.engine.core.is_settled(id));
    lab.answer("repl", id, Some("q1"), "yes", "k1").expect("also when the task is over and put away");
    let (code, message) = why(lab.answer("cli", id, Some("q1"), "no", "k3"));
    assert_eq!(code, RefusedCode::Conflict);
    assert!(message.contains("was already answered by REPL"), "{message}");
}

#[test]
fn the_same_key_is_the_same_question() {
    let (mut lab, id) = Lab::asking(1);
    assert_eq!(lab.question(id, question("x")).unwrap().question.id, "q1");
    assert_eq!(lab.question(id, question("x")).unwrap().question.id, "q1");
    assert_eq!(lab.question(id, question("y")).unwrap().question.id, "q2");
    assert_eq!(lab.deliver().len(), 2);
    lab.answer("cli", id, Some("q1"), "no", "").unwrap();
    let again = lab.question(id, question("x")).unwrap();
    assert_eq!(again.answer.unwrap().text, "no", "a repeat after the answer meets it");
    let mut lab = lab.reboot();
    assert_eq!(lab.question(id, question("y")).unwrap().question.id, "q2", "also after a restart");
    assert_eq!(lab.status(id), Status::Paused);
}

#[test]
fn an_answer_reaches_the_question_it_was_given_for_or_nobody() {
    let (mut lab, id) = Lab::asking(1);
    let (code, message) = why(lab.answer("cli", id, None, "yes", ""));
    assert_eq!((code, message.contains("asks nothing")), (RefusedCode::Conflict, true), "{message}");
    lab.question(id, question("x")).unwrap();
    lab.question(id, question("y")).unwrap();
    let (code, message) = why(lab.answer("cli", id, None, "yes", ""));
    assert_eq!((code, message.contains("2 open questions")), (RefusedCode::Conflict, true), "{message}");
    let (code, _) = why(lab.answer("cli", id, Some("q9"), "yes", ""));
    assert_eq!(code, RefusedCode::NotFound);
    lab.answer("cli", id, Some("q2"), "two", "").unwrap();
    assert_eq!(lab.status(id), Status::Paused, "q1 is still open");
    assert_eq!(lab.task(id).paused_question, "Delete x?");
    lab.answer("cli", id, None, "one", "").unwrap();
    assert_eq!(lab.status(id), Status::Running);
    let answers: Vec<_> = lab.task(id).answers.iter().map(|a| (a.question.clone(), a.text.clone())).collect();
    assert_eq!(answers, [("q2".into(), "two".into()), ("q1".into(), "one".into())]);
}

#[test]
fn choices_are_kept_to() {
    let (mut lab, id) = Lab::asking(1);
    let choices = ["Yes", "No", "Only tests"].map(str::to_owned).to_vec();
    let ask = |key: &str, free| QuestionRequest { choices: choices.clone(), free, ..question(key) };
    lab.question(id, ask("x", false)).unwrap();
    for bad in ["maybe", "0", "4", "", "yes no"] {
        let (code, _) = why(lab.answer("cli", id, None, bad, ""));
        assert_eq!(code, RefusedCode::BadRequest, "{bad}");
    }
    lab.answer("cli", id, None, "only TESTS", "").unwrap();
    lab.question(id, ask("y", false)).unwrap();
    lab.answer("cli", id, None, "2", "").unwrap();
    lab.question(id, ask("z", true)).unwrap();
    lab.answer("cli", id, None, "something else", "").unwrap();
    let texts: Vec<_> = lab.task(id).answers.into_iter().map(|a| a.text).collect();
    assert_eq!(texts, ["Only tests", "No", "something else"]);
}

#[test]
fn a_question_that_nobody_polls_for_is_unattended_and_stays_open() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    lab.attend(id, "q1", 300);
    assert_eq!(lab.status(id), Status::Paused, "its asker is there");
    lab.pass(70);
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.paused_question.as_str()), (Status::Running, "Delete x?"));
    assert!(task.questions[0].open);
    lab.poll(id, "q1");
    assert_eq!(lab.store.task(id).unwrap().status, Status::Paused, "the asker came back");
    lab.pass(70);
    lab.answer("cli", id, None, "late but welcome", "").unwrap();
    assert_eq!(lab.task(id).answers[0].text, "late but welcome");
    assert_eq!(lab.status(id), Status::Running);
    let mut lab = lab.reboot();
    lab.question(id, question("y")).unwrap();
    lab.attend(id, "q2", 30);
    let mut lab = lab.reboot();
    assert_eq!(lab.status(id), Status::Paused);
    lab.pass(50);
    assert_eq!(lab.status(id), Status::Paused, "after a restart its asker has a minute");
    lab.pass(20);
    assert_eq!(lab.status(id), Status::Running);
    lab.engine.core.check().unwrap();
}

#[test]
fn a_deadline_ends_in_no_answer_and_never_in_a_made_up_one() {
    let (mut lab, id) = Lab::asking(1);
    let request = QuestionRequest { timeout: 120, choices: vec!["yes".into(), "no".into()], ..question("x") };
    lab.question(id, request.clone()).unwrap();
    lab.attend(id, "q1", 60);
    let mut lab = lab.reboot();
    lab.attend(id, "q1", 50);
    assert_eq!(lab.status(id), Status::Paused);
    lab.attend(id, "q1", 20);
    let task = lab.store.task(id).unwrap();
    assert_eq!((task.status, task.questions[0].closed), (Status::Running, Some(Closed::NoAnswer)));
    assert!(task.answers.is_empty());
    let again = lab.question(id, request).unwrap();
    assert_eq!((again.answer, again.question.closed), (None, Some(Closed::NoAnswer)));
    let (code, message) = why(lab.answer("cli", id, Some("q1"), "yes", ""));
    assert_eq!((code, message.contains("its time for an answer has passed")), (RefusedCode::Conflict, true));
    assert_eq!(lab.deliver(), [(NoticeKind::Question, "q1".into()), (NoticeKind::Closed, "q1".into())]);
}

#[test]
fn reminders_come_at_their_times_and_once_after_an_absence() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    lab.deliver();
    lab.attend(id, "q1", 590);
    assert_eq!(lab.deliver(), []);
    lab.attend(id, "q1", 20);
    assert_eq!(lab.deliver(), [(NoticeKind::Reminder, "q1".into())]);
    lab.attend(id, "q1", 2980);
    assert_eq!(lab.deliver(), []);
    lab.attend(id, "q1", 30);
    assert_eq!(lab.deliver(), [(NoticeKind::Reminder, "q1".into())]);
    lab.attend(id, "q1", 10_000);
    assert_eq!(lab.deliver(), [], "there are two, and no more");
    lab.answer("cli", id, None, "ok", "").unwrap();
    lab.question(id, question("y")).unwrap();
    lab.deliver();
    lab.now.wall += 7_200_000;
    lab.now.boot += 7_200_000;
    let mut lab = lab.reboot();
    assert_eq!(lab.deliver(), [(NoticeKind::Reminder, "q2".into())], "one for those that were missed");
    lab.attend(id, "q2", 10_000);
    assert_eq!(lab.deliver(), []);
}

#[test]
fn the_end_of_a_task_closes_its_questions() {
    for how in 0..3 {
        let (mut lab, id) = Lab::asking(1);
        lab.question(id, question("x")).unwrap();
        match how {
            0 => lab.finish(id, 0),
            1 => {
                lab.ask(Ask::Stop { id, reason: String::new() }).unwrap();
                lab.runs.obey(id, 1);
                lab.poke(id);
            }
            _ => {
                lab.runs.kill_shim(id, 1);
                lab.poke(id);
            }
        }
        let task = lab.store.task(id).unwrap();
        assert!(task.status.is_ended());
        assert_eq!((task.questions[0].closed, task.paused_question.as_str()), (Some(Closed::TaskEnded), ""));
        let (code, _) = why(lab.answer("cli", id, Some("q1"), "yes", ""));
        assert_eq!(code, RefusedCode::Conflict);
        let refused = lab.question(id, question("y")).unwrap_err();
        assert_eq!(refused.code, RefusedCode::Conflict);
        lab.engine.core.check().unwrap();
        let next = lab.start("b");
        lab.pass(1);
        assert_eq!(lab.status(next), Status::Running, "its slot is free");
        lab.ask(Ask::Retry { id }).unwrap();
        lab.finish(next, 0);
        lab.pass(1);
        let asked = lab.question(id, question("x2")).unwrap();
        assert_eq!((asked.question.id.as_str(), asked.question.run), ("q2", 2));
    }
}

#[test]
fn a_clock_stands_still_while_its_task_is_paused() {
    let mut lab = Lab::new(1);
    // The fake runs' shims started when the machine did, a thousand seconds ago.
    let id = started(&lab.start_with("a", |r| r.timeout = 1100));
    lab.pass(1);
    lab.question(id, question("x")).unwrap();
    lab.attend(id, "q1", 500);
    assert_eq!(lab.status(id), Status::Paused);
    let mut lab = lab.reboot();
    lab.attend(id, "q1", 500);
    lab.answer("cli", id, None, "go", "").unwrap();
    assert!(lab.task(id).paused_ms >= 1_000_000, "{}", lab.task(id).paused_ms);
    lab.pass(60);
    assert_eq!((lab.status(id), lab.task(id).stop), (Status::Running, None));
    lab.pass(60);
    assert_eq!(lab.task(id).stop.unwrap().reason, "timeout");
}

fn permission(key: &str, tool: &str, command: &str) -> QuestionRequest {
    let action = ActionRequest {
        tool: tool.into(),
        input: serde_json::json!({ "command": command }),
        folder: "/srv/project".into(),
    };
    QuestionRequest { text: String::new(), action: Some(action), ..question(key) }
}

#[test]
fn a_permission_is_for_one_action_unless_the_tool_is_allowed_for_the_task() {
    let (mut lab, id) = Lab::asking(1);
    let asked = lab.question(id, permission("a", "Bash", "rm -r build")).unwrap();
    let action = asked.question.action.unwrap();
    let whole = serde_json::json!({"command": "rm -r build"});
    assert_eq!(action.digest, octo::action::digest("Bash", "/srv/project", &whole));
    assert_eq!(asked.question.choices, ["allow", "allow for this task", "deny"]);
    assert_eq!(lab.task(id).paused_reason, "permission");
    let (code, message) = why(lab.answer("cli", id, None, "allow", ""));
    assert_eq!((code, message.contains("permission")), (RefusedCode::Conflict, true), "never without its id");
    lab.answer("cli", id, Some("q1"), "yes", "").unwrap();
    assert!(lab.question(id, permission("b", "Bash", "rm -r build")).unwrap().question.open, "it was for once");
    lab.answer("cli", id, Some("q2"), "Allow for this task", "").unwrap();
    lab.deliver();
    let granted = lab.question(id, permission("c", "Bash", "rm -r dist")).unwrap();
    assert_eq!(granted.answer.map(|a| (a.text, a.by)), Some(("allow".into(), "cli".into())));
    assert_eq!((lab.status(id), lab.deliver()), (Status::Running, vec![]), "nobody is asked");
    assert!(lab.question(id, permission("d", "Write", "x")).unwrap().question.open, "another tool");
    lab.answer("cli", id, Some("q4"), "no", "").unwrap();
    assert_eq!(lab.task(id).answers.last().unwrap().text, "deny");
    lab.finish(id, 1);
    lab.ask(Ask::Retry { id }).unwrap();
    lab.pass(1);
    assert!(lab.question(id, permission("e", "Bash", "ls")).unwrap().question.open, "a new run asks again");
}

#[test]
fn who_wants_no_questions_gets_none() {
    for policy in [NotifyPolicy::End, NotifyPolicy::Failures, NotifyPolicy::None] {
        let mut lab = Lab::with(octo::supervisor::core::Limits { bridges: vec!["telegram".into()], ..limits(1) });
        let id = started(&lab.start_with("a", |r| r.notify = policy));
        lab.pass(1);
        lab.question(id, question("x")).unwrap();
        lab.attend(id, "q1", 700);
        assert_eq!(lab.deliver(), []);
        lab.answer("cli", id, None, "yes", "").unwrap();
        lab.finish(id, 0);
        assert_eq!(lab.deliver().len(), usize::from(policy == NotifyPolicy::End));
    }
}

#[test]
fn a_notice_is_owed_until_its_receipt_over_any_number_of_restarts() {
    let (mut lab, id) = Lab::asking(1);
    lab.finish(id, 0);
    lab.pass(5);
    assert!(!lab.engine.core.is_settled(id), "its notice is not told yet");
    assert_eq!(lab.engine.core.next_due(), None, "nothing is tried again and again for that");
    lab.engine.core.check().unwrap();
    let mut lab = lab.reboot();
    lab.pass(5);
    assert_eq!(lab.engine.core.owed_count("telegram"), 1);
    lab.store.fail_next(1);
    let (owed, _) = lab.engine.core.owed("telegram", 10);
    let receipt = Receipt { task: id, seq: owed[0].0.seq, delivery: Delivery::Sent };
    let receipts = Receipts { bridge: "telegram".into(), receipts: vec![receipt] };
    assert_eq!(why(lab.ask(Ask::Receipts(receipts.clone()))).0, RefusedCode::Storage);
    assert_eq!(lab.engine.core.owed_count("telegram"), 1, "a receipt that is not saved is none");
    lab.ask(Ask::Receipts(receipts.clone())).unwrap();
    lab.pass(5);
    assert!(lab.engine.core.is_settled(id));
    lab.ask(Ask::Receipts(receipts)).expect("once more does no harm");
    lab.limits.bridges.clear();
    let mut lab = lab.reboot();
    let next = lab.start("b");
    lab.finish(next, 0);
    lab.pass(5);
    assert!(lab.engine.core.is_settled(next), "no bridge, nothing owed");
}

impl Lab {
    /// Asks for something that waits for the next turn, as what arrives with other requests does.
    fn put(&mut self, request: u64, ask: Ask) {
        assert!(self.engine.ask(request, Actor::Owner("test".into()), ask, self.now).is_none());
    }

    fn owed(&self) -> Vec<(NoticeKind, bool)> {
        let (owed, total) = self.engine.core.owed("telegram", 10);
        assert_eq!((total, total), (owed.len(), self.engine.core.owed_count("telegram")));
        owed.iter().map(|(notice, task)| (notice.kind, task.questions.iter().any(|q| q.open))).collect()
    }
}

#[test]
fn what_is_owed_is_told_as_it_is_on_disk_whatever_is_being_saved() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    let request = || ResumeRequest { answer: "yes".into(), question: Some("q1".into()), key: "k".into() };
    for saved in [false, true] {
        lab.put(900, Ask::Answer { id, request: request() });
        assert_eq!(lab.owed(), [(NoticeKind::Question, true)], "neither hidden nor ahead of its save");
        lab.store.fail_next(u64::from(!saved));
        lab.turn();
    }
    assert_eq!(lab.owed(), [(NoticeKind::Question, false), (NoticeKind::Closed, false)]);
    lab.deliver();
    lab.finish(id, 0);
    lab.pass(3);
    for saved in [false, true] {
        lab.put(901, Ask::Remove { id });
        assert_eq!(lab.owed(), [(NoticeKind::Completed, false)], "it may be put back");
        lab.store.fail_next(u64::from(!saved));
        lab.turn();
    }
    assert_eq!(lab.owed(), []);
}

/// Who reads by a cursor shall neither see what may not happen, nor be led past what will.
#[test]
fn what_is_shown_and_where_cursors_stand_is_on_disk() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    let first = lab.engine.core.notice_seq();
    let shown = |lab: &Lab| match lab.engine.core.get(&octo::command::TaskRef(id.to_string())).unwrap() {
        Resolved::Live(task) => task.questions[0].open,
        Resolved::Settled(id) => panic!("{id} is not settled"),
    };
    let request = || ResumeRequest { answer: "yes".into(), question: Some("q1".into()), key: "k".into() };
    for saved in [false, true] {
        lab.put(900, Ask::Answer { id, request: request() });
        assert!(shown(&lab));
        assert_eq!((lab.engine.core.notice_seq(), lab.engine.core.notices_after(first, 9)), (first, (vec![], false)));
        assert_eq!(lab.engine.core.notices_after(0, 9).0, [(first, id)]);
        lab.store.fail_next(u64::from(!saved));
        lab.turn();
        assert_eq!(shown(&lab), !saved);
    }
    let second = lab.engine.core.notice_seq();
    assert!(second > first);
    assert_eq!(lab.engine.core.notices_after(first, 9).0, [(second, id)]);
    // No end of the run can be saved, and the daemon dies of it.
    lab.store.fail_next(20);
    lab.finish(id, 0);
    lab.pass(9);
    let latest = lab.engine.core.notice_seq();
    let mut lab = lab.reboot();
    lab.store.fail_next(0);
    lab.pass(5);
    assert!(lab.status(id).is_ended());
    assert_eq!(lab.engine.core.notices_after(latest, 9).0.len(), 1, "its notice comes after the cursor");
}

#[test]
fn a_receipt_that_is_left_twice_is_saved_for_both_or_for_none() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    let seq = lab.engine.core.owed("telegram", 1).0[0].0.seq;
    let receipt = Receipt { task: id, seq, delivery: Delivery::Sent };
    let receipts = Receipts { bridge: "telegram".into(), receipts: vec![receipt] };
    for saved in [false, true] {
        lab.put(900, Ask::Receipts(receipts.clone()));
        lab.put(901, Ask::Receipts(receipts.clone()));
        assert_eq!(lab.owed().len(), 1);
        lab.store.fail_next(u64::from(!saved));
        let told = lab.turn().into_iter().filter_map(|out| match out {
            Out::Reply { result, .. } => Some(result.is_ok()),
            Out::Ring(_) => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [saved, saved]);
        assert_eq!(lab.owed().len(), usize::from(!saved));
    }
}

#[test]
fn what_a_record_from_elsewhere_owes_is_not_ours_to_tell() {
    let (mut lab, id) = Lab::asking(1);
    lab.finish(id, 0);
    assert_eq!(lab.owed().len(), 1);
    let before = lab.store.task(id).unwrap();
    lab.limits.mark = "elsewhere".into();
    let mut lab = lab.reboot();
    assert_eq!(lab.owed(), []);
    let receipt = Receipt { task: id, seq: before.notices[0].seq, delivery: Delivery::Sent };
    lab.ask(Ask::Receipts(Receipts { bridge: "telegram".into(), receipts: vec![receipt] })).unwrap();
    assert_eq!(lab.store.task(id).unwrap(), before, "it is shown, and never touched");
}

#[test]
fn very_many_questions_do_not_swell_the_record() {
    for told in [true, false] {
        let (mut lab, id) = Lab::asking(1);
        for n in 0..300 {
            let asked = lab.question(id, question(&n.to_string())).unwrap();
            assert_eq!(asked.question.id, format!("q{}", n + 1));
            lab.answer("cli", id, None, "ok", "").unwrap();
            if told {
                lab.deliver();
            }
        }
        let task = lab.task(id);
        assert!(task.questions.len() <= 201 && task.answers.len() <= 201 && task.notices.len() <= 402);
        assert_eq!(task.answers.last().unwrap().question, "q300");
        assert!(task.history.len() <= 404, "{}", task.history.len());
        let steps: Vec<Status> = task.history.iter().map(|h| h.status).collect();
        assert_eq!(steps[..3], [Status::Dispatched, Status::Running, Status::Paused]);
        assert!(steps[1..].chunks(2).all(|s| s[0] == Status::Running && s.get(1).is_none_or(|s| *s == Status::Paused)));
        lab.engine.core.check().unwrap();
        for n in 0..100 {
            lab.question(id, question(&format!("open {n}"))).unwrap();
        }
        let refused = lab.question(id, question("one more")).unwrap_err();
        assert_eq!(refused.code, RefusedCode::Conflict);
        lab.finish(id, 0);
        lab.deliver();
        lab.pass(5);
        assert!(lab.engine.core.is_settled(id));
        lab.engine.core.check().unwrap();
    }
}

#[test]
fn a_page_of_notices_of_a_large_record_is_no_larger_for_that() {
    let (mut lab, id) = Lab::asking(1);
    for n in 0..60 {
        let text = "x".repeat(16 << 10);
        lab.question(id, QuestionRequest { text, ..question(&n.to_string()) }).unwrap();
    }
    let (owed, total) = lab.engine.core.owed("telegram", 100);
    let bytes: usize = owed.iter().map(|(_, task)| serde_json::to_vec(task).unwrap().len()).sum();
    assert!(total == 60 && !owed.is_empty() && bytes < PAGE_BYTES * 5 / 4, "{} of {total}: {bytes}", owed.len());
    assert_eq!(lab.deliver().len(), 60);
}

#[test]
fn an_answer_is_there_for_its_asker_however_many_came_since_it_asked() {
    for set_back in [0, 3_600_000] {
        let (mut lab, id) = Lab::asking(1);
        lab.question(id, question("first")).unwrap();
        for n in 0..250 {
            lab.question(id, question(&n.to_string())).unwrap();
            lab.answer("cli", id, Some(&format!("q{}", n + 2)), "ok", "").unwrap();
        }
        lab.now.wall -= set_back;
        lab.answer("cli", id, Some("q1"), "at last", "").unwrap();
        assert_eq!(lab.store.task(id).unwrap().answers.last().unwrap().text, "at last");
        let again = lab.question(id, question("first")).unwrap();
        assert_eq!((again.question.id.as_str(), again.answer.unwrap().text.as_str()), ("q1", "at last"));
    }
}

/// The store dies after every write n of a question's life, told and untold: what anybody was told is there
/// after the restart, an answer counts once, and the story can always be brought to its end.
#[test]
fn a_death_after_any_write_loses_no_answer_and_applies_none_twice() {
    for untold in [false, true] {
        for n in 0..14 {
            let (mut lab, id) = Lab::asking(1);
            if untold {
                lab.store.die_untold_after(n);
            } else {
                lab.store.die_after(n);
            }
            let first = lab.question(id, question("x"));
            let won = lab.answer("repl", id, Some("q1"), "yes", "k1");
            let mut lab = lab.reboot();
            let again = lab.question(id, question("x")).unwrap();
            assert_eq!(again.question.id, "q1");
            if first.is_ok() {
                assert_eq!(lab.task(id).questions.len(), 1, "{n}");
            }
            if won.is_ok() {
                assert_eq!(again.answer.as_ref().map(|a| a.text.as_str()), Some("yes"), "{n} {untold}");
            }
            let late = lab.answer("telegram:1", id, Some("q1"), "no", "k2");
            let repeat = lab.answer("repl", id, Some("q1"), "yes", "k1");
            let task = lab.task(id);
            assert_eq!(task.answers.len(), 1, "{n} {untold}");
            let text = &task.answers[0].text;
            assert_eq!((late.is_ok(), repeat.is_ok()), (text == "no", text == "yes"), "{n} {untold}: one wins");
            assert_eq!(lab.store.task(id).unwrap().answers, task.answers);
            let told = lab.deliver();
            assert_eq!(told.iter().filter(|(kind, _)| *kind == NoticeKind::Closed).count(), 1, "{n} {untold}");
            lab.finish(id, 0);
            lab.deliver();
            lab.pass(5);
            assert!(lab.engine.core.is_settled(id));
        }
    }
}

/// Two channels answer in the same turn: one save, one winner, and the loser hears of it.
#[test]
fn two_answers_in_one_turn_have_one_winner() {
    let (mut lab, id) = Lab::asking(1);
    lab.question(id, question("x")).unwrap();
    let ask = |by: &str, answer: &str| {
        let request = ResumeRequest { answer: answer.into(), question: Some("q1".into()), key: by.into() };
        (Actor::Owner(by.into()), Ask::Answer { id, request })
    };
    for (n, (actor, ask)) in [ask("repl", "yes"), ask("telegram:1", "no")].into_iter().enumerate() {
        assert!(lab.engine.ask(900 + n as u64, actor, ask, lab.now).is_none());
    }
    let results: Vec<_> = lab
        .turn()
        .into_iter()
        .filter_map(|out| match out {
            Out::Reply { request, result } => Some((request, result.is_ok())),
            Out::Ring(_) => None,
        })
        .collect();
    assert_eq!(results.len(), 2);
    assert_eq!(results.iter().filter(|(_, won)| *won).collect::<Vec<_>>(), [&(900, true)]);
    assert_eq!(lab.store.task(id).unwrap().answers.len(), 1);
}
