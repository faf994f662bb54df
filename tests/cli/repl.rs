//! The REPL: in a pseudo-terminal, and with input from a pipe.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use expectrl::session::OsSession;
use expectrl::{ControlCode, Eof, Expect, Regex, Session};
use octo::task::{Question, Status};
use serde_json::{Value, json};

use super::fake::Fake;

fn open(fake: &Fake) -> OsSession {
    open_telling(fake, "")
}

/// A REPL that tells something before its first prompt.
fn open_telling(fake: &Fake, told: &str) -> OsSession {
    let mut repl = Session::spawn(fake.octo()).unwrap();
    repl.set_expect_timeout(Some(Duration::from_secs(20)));
    repl.get_process_mut().set_window_size(100, 30).unwrap();
    repl.expect(told).unwrap();
    repl.expect("octo> ").unwrap();
    repl
}

fn leave(mut repl: OsSession) {
    repl.send(ControlCode::EndOfTransmission).unwrap();
    repl.expect("Bye.").unwrap();
    repl.expect(Eof).unwrap();
}

#[test]
fn a_notice_comes_at_once_and_leaves_the_typed_line_as_it_was() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("make\x1b]0;pwned\x07 test");
    let mut repl = open(&fake);
    repl.send("/task 1 lo").unwrap();
    // The hint is drawn and wiped between the letters.
    repl.expect(Regex(r"/task 1 l[^\n]*o")).unwrap();
    fake.ends(1, Status::Failed, "fine\n\x1b[2Jerror: \u{202e}x\n");
    repl.expect("✗ #1 c4b1e001").unwrap();
    let rest = repl.expect(Regex("octo> .*/task 1 lo")).unwrap();
    let shown = String::from_utf8_lossy(rest.before()).into_owned();
    assert!(shown.contains("failed (exit 3) after 1.0s: make test"), "{shown:?}");
    assert!(shown.contains("error: x"), "{shown:?}");
    assert!(!shown.contains("pwned") && !shown.contains("\x1b[2J") && !shown.contains('\u{202e}'), "{shown:?}");
    // The line can be finished: completion, then Enter.
    fake.change(|facts| facts.log = b"the whole \x1b[5mlog\x1b[0m".to_vec());
    repl.send("\t\r").unwrap();
    repl.expect("the whole log\r\n").unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    let history = std::fs::read_to_string(fake.history()).unwrap();
    assert!(history.contains("/task 1 logs"), "{history}");
}

#[test]
fn ctrl_c_clears_the_line_and_ctrl_d_leaves_while_tasks_go_on() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("sleep 60");
    let mut repl = open(&fake);
    repl.send("/bg rm -rf everything").unwrap();
    repl.expect("everything").unwrap();
    repl.send(ControlCode::EndOfText).unwrap();
    repl.expect("octo> ").unwrap();
    repl.send("\r").unwrap();
    repl.expect("octo> ").unwrap();
    repl.send(ControlCode::EndOfTransmission).unwrap();
    repl.expect("1 task goes on").unwrap();
    repl.expect(Eof).unwrap();
    assert!(fake.facts().starts.is_empty());
}

/// Several lines in one read: somebody types ahead, or pastes into a terminal that does not mark it.
#[test]
fn what_was_typed_ahead_is_not_lost() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("sleep 60");
    let mut repl = open(&fake);
    repl.send("/task 1\r/help\r/quit\r").unwrap();
    repl.expect("started").unwrap();
    repl.expect("leaves; tasks go on").unwrap();
    repl.expect("Bye.").unwrap();
    repl.expect(Eof).unwrap();
}

#[test]
fn a_followed_log_comes_back_to_the_prompt_on_ctrl_c() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("sleep 60");
    fake.change(|facts| facts.log = b"so far".to_vec());
    let mut repl = open(&fake);
    repl.send("/task 1 logs\r").unwrap();
    repl.expect("so far").unwrap();
    assert_eq!(fake.facts().followers, 1);
    repl.send(ControlCode::EndOfText).unwrap();
    repl.expect("octo> ").unwrap();
    fake.until("the follower is gone", |facts| facts.followers == 0);
    leave(repl);
}

#[test]
fn what_happened_meanwhile_is_told_once() {
    let mut fake = Fake::new();
    fake.serve();
    for n in 1..=14 {
        fake.runs(&format!("job {n}"));
        fake.ends(n, Status::Completed, "");
    }
    let mut repl = Session::spawn(fake.octo()).unwrap();
    repl.set_expect_timeout(Some(Duration::from_secs(20)));
    repl.expect("While you were away:").unwrap();
    repl.expect("4 notices before these").unwrap();
    repl.expect("job 14").unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    let mut repl = Session::spawn(fake.octo()).unwrap();
    repl.set_expect_timeout(Some(Duration::from_secs(20)));
    let greeting = repl.expect("octo> ").unwrap();
    assert!(!String::from_utf8_lossy(greeting.before()).contains("away"));
    leave(repl);
}

#[test]
fn a_dead_daemon_is_told_and_nothing_is_missed() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("sleep 60");
    let mut repl = open(&fake);
    fake.die();
    repl.expect("The daemon went away; tasks go on.").unwrap();
    fake.ends(1, Status::Completed, "all well");
    fake.serve();
    repl.expect("The daemon is back.").unwrap();
    repl.expect("all well").unwrap();
    leave(repl);
}

#[test]
fn a_stopped_daemon_stays_stopped_until_the_next_command() {
    let mut fake = Fake::new();
    fake.serve();
    let mut repl = open(&fake);
    fake.change(|facts| facts.stopping = true);
    repl.expect("The daemon was stopped; tasks go on. Your next command starts it again.").unwrap();
    fake.die();
    fake.change(|facts| facts.stopping = false);
    fake.serve();
    repl.expect("The daemon is back.").unwrap();
    leave(repl);
}

#[test]
fn prose_and_mistakes_start_nothing() {
    let mut fake = Fake::new();
    fake.serve();
    let mut repl = open(&fake);
    for (typed, told) in [
        ("/bg frobnicate all the tests", "`frobnicate` is no program, builtin or function"),
        ("/taks", "did you mean /tasks?"),
        ("/tasks", "no tasks"),
        ("/recap", "nothing has happened yet"),
        ("/help", "/task ID logs"),
    ] {
        repl.send(format!("{typed}\r")).unwrap();
        repl.expect(told).unwrap();
        repl.expect("octo> ").unwrap();
    }
    leave(repl);
    assert!(fake.facts().starts.is_empty());
}

fn says(fake: &Fake, name: &'static str, data: Value) {
    fake.change(|facts| facts.answer.push((name, data)));
}

#[test]
fn an_answer_streams_in_above_the_line_that_is_being_typed() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("make test");
    let mut repl = open(&fake);
    repl.send("how are my tasks?\r").unwrap();
    // The prompt is back at once, and says what goes on.
    repl.expect("octo> ").unwrap();
    repl.expect("Ctrl-C stops waiting").unwrap();
    fake.until("it was said", |facts| facts.said.len() == 1);
    repl.send("/task 1 l").unwrap();
    repl.expect(Regex(r"/task 1[^\n]*l")).unwrap();
    says(&fake, "delta", json!({"text": "I look\u{1b}[2J at it.\nThis line"}));
    repl.expect("  I look at it.\r\n").unwrap();
    let rest = repl.expect(Regex("octo> .*/task 1 l")).unwrap();
    assert!(!String::from_utf8_lossy(rest.before()).contains("This line"), "no line is printed in parts");
    says(&fake, "tool", json!({"name": "view", "line": "view: \u{1b}[31mtask 1"}));
    repl.expect("  This line\r\n").unwrap();
    repl.expect("\u{1b}[2m  · view: task 1\u{1b}[0m").unwrap();
    repl.expect(Regex("octo> .*/task 1 l")).unwrap();
    fake.ends(1, Status::Completed, "in the midst of it");
    repl.expect("✓ #1 c4b1e001").unwrap();
    repl.expect(Regex("octo> .*/task 1 l")).unwrap();
    fake.runs("another");
    says(&fake, "task", json!({"id": "c4b1e002"}));
    repl.expect("▶ #2 c4b1e002").unwrap();
    repl.expect("another").unwrap();
    says(&fake, "done", json!({"text": "All is well."}));
    repl.expect("  All is well.\r\n").unwrap();
    repl.expect(Regex("octo> .*/task 1 l")).unwrap();
    // The first Ctrl-C drops the line; with nothing typed and nothing to wait for, another one does nothing.
    repl.send(ControlCode::EndOfText).unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    let facts = fake.facts();
    assert_eq!(facts.said[0]["text"], "how are my tasks?");
    assert_eq!(facts.said[0]["key"].as_str().unwrap().len(), 32);
}

#[test]
fn what_is_said_meanwhile_is_safe_at_once_and_ctrl_c_ends_only_the_waiting() {
    let mut fake = Fake::new();
    fake.serve();
    let mut repl = open(&fake);
    for line in ["/new", "/model x/y", "first"] {
        repl.send(format!("{line}\r")).unwrap();
        repl.expect("octo> ").unwrap();
    }
    fake.until("it was said", |facts| facts.said.len() == 1);
    repl.send("second\r").unwrap();
    fake.until("the other was said, too", |facts| facts.said.len() == 2);
    repl.expect("octo> ").unwrap();
    says(&fake, "delta", json!({"text": "half an ans"}));
    repl.send(ControlCode::EndOfText).unwrap();
    repl.expect("  half an ans").unwrap();
    repl.expect("Not waiting for the answer any more; the conversation goes on.").unwrap();
    // Nothing is heard of it from here on.
    says(&fake, "done", json!({"text": "half an answer"}));
    fake.change(|facts| facts.no_model = true);
    repl.send("third\r").unwrap();
    repl.expect("error: no model is chosen for agents: set OCTO_MODEL, or use demo/tour").unwrap();
    repl.expect("hint: ").unwrap();
    leave(repl);
    let facts = fake.facts();
    let said: Vec<_> =
        facts.said.iter().map(|s| (s["text"].as_str().unwrap(), s["new"] == true, &s["model"])).collect();
    assert_eq!(said[0], ("first", true, &json!("x/y")));
    assert_eq!(said[1], ("second", false, &Value::Null), "a wish counts once");
    assert_eq!(said[2].0, "third");
}

#[test]
fn a_job_in_plain_words_is_offered_to_an_agent_and_enter_accepts() {
    let mut fake = Fake::new();
    fake.serve();
    let mut repl = open(&fake);
    for accept in [false, true] {
        repl.send("/bg frobnicate all the tests\r").unwrap();
        repl.expect("`frobnicate` is no program, builtin or function, so nothing was started").unwrap();
        repl.expect("/agent frobnicate all the tests").unwrap();
        assert!(fake.facts().starts.is_empty());
        if accept {
            repl.send("\r").unwrap();
        } else {
            repl.send(ControlCode::EndOfText).unwrap();
            repl.expect("octo> ").unwrap();
        }
    }
    repl.expect("▶ #1 c4b1e001").unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    let start = &fake.facts().starts[0];
    assert_eq!((&start["type"], &start["task"]), (&json!("agent"), &json!("frobnicate all the tests")));
}

#[test]
fn programs_that_talk_get_the_answer_alone() {
    let mut fake = Fake::new();
    fake.serve();
    for (name, data) in [
        ("delta", json!({"text": "I look. "})),
        ("tool", json!({"name": "view", "line": "view"})),
        ("delta", json!({"text": "All is"})),
        ("delta", json!({"text": " \u{1b}[1mwell."})),
        ("done", json!({"text": "All is well."})),
    ] {
        says(&fake, name, data);
    }
    let mut child = fake.octo().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = "/model demo/tour\n/new\nhow are you?\n/agent --agent=coder --model x/y fix  it\n/bg frobnicate it\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "I look. \nAll is well.\nc4b1e001\n");
    assert!(err.starts_with("error: `frobnicate` is no program") && err.contains("/agent frobnicate it"), "{err}");
    assert_eq!(output.status.code(), Some(2));
    let facts = fake.facts();
    assert_eq!(facts.said[0]["text"], "how are you?");
    assert_eq!((&facts.said[0]["new"], &facts.said[0]["model"]), (&json!(true), &json!("demo/tour")));
    let start = &facts.starts[0];
    assert_eq!(
        (&start["agentId"], &start["model"], &start["task"]),
        (&json!("coder"), &json!("x/y"), &json!("fix  it"))
    );
}

#[test]
fn piped_commands_are_answered_for_programs_and_the_end_leaves_at_once() {
    let mut fake = Fake::new();
    fake.serve();
    let mut child = fake.octo().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fake.runs("asks");
    fake.asks(1, question("Go on?", &["yes", "no"]));
    let input =
        "/bg echo 'a  b'\n\n/bg frobnicate it\n/bg list\n/task 1 resume Yes\n/task 1 resume no\n/quit\n/bg never\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.starts_with("c4b1e002\n? #1 c4b1e001  paused"), "{out}");
    assert!(out.contains("Go on?  [yes / no]") && !out.contains("answered"), "{out}");
    assert!(err.starts_with("error: `frobnicate` is no program") && err.contains("hint: "), "{err}");
    assert!(err.contains("error: task 1 asks nothing"), "{err}");
    assert_eq!(output.status.code(), Some(2));
    let facts = fake.facts();
    assert_eq!(facts.starts.len(), 1);
    assert_eq!(facts.starts[0]["command"], "echo 'a  b'");
    assert_eq!((facts.tasks[0].answers.len(), facts.tasks[0].answers[0].text.as_str()), (1, "yes"));
}

fn question(text: &str, choices: &[&str]) -> Question {
    let choices = choices.iter().map(|c| (*c).to_owned()).collect();
    Question { text: text.to_owned(), choices, kind: "question".to_owned(), ..Question::default() }
}

fn permission(format: &str, what: &str) -> Question {
    let action = octo::task::Action {
        tool: "Bash".to_owned(),
        folder: "/srv".to_owned(),
        what: what.to_owned(),
        format: format.to_owned(),
        ..octo::task::Action::default()
    };
    Question {
        kind: "permission".to_owned(),
        action: Some(action),
        ..question("", &["allow", "allow for this task", "deny"])
    }
}

#[test]
fn a_question_appears_at_once_and_is_answered_with_the_line_it_shows() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("deploy.sh");
    let mut repl = open(&fake);
    repl.send("/tas").unwrap();
    repl.expect("/ta").unwrap();
    fake.asks(1, question("Deploy\x1b]0;pwned\x07 it?\nTests are green.", &["yes", "not now"]));
    for part in ["? #1 c4b1e001", "asks: deploy.sh", "Deploy it?", "Tests are green.", "1  yes", "2  not now"] {
        repl.expect(part).unwrap();
    }
    repl.expect("/task 1 resume yes\r\n").unwrap();
    // What was being typed is still there, and the number of the task is completed, then the answer.
    repl.expect(Regex("octo> .*/tas")).unwrap();
    repl.send("k \t resume n\t\r").unwrap();
    repl.expect("answered not now to q1: Deploy it? Tests are green.").unwrap();
    let rest = repl.expect("octo> ").unwrap();
    assert!(!String::from_utf8_lossy(rest.before()).contains("answered by"), "its own answer is no news");
    // Somebody else is first, and a late answer hears of it. Its own closing was not told before that.
    fake.asks(1, question("And now?", &[]));
    repl.expect("/task 1 resume ANSWER").unwrap();
    fake.answers(1, "q2", "later", "telegram:4711");
    let rest = repl.expect("answered by Telegram at").unwrap();
    assert!(!String::from_utf8_lossy(rest.before()).contains("answered by REPL"));
    repl.send("/task 1 resume --question q2 never\r").unwrap();
    repl.expect("q2 was already answered by telegram:4711 at 12:03: later").unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    let facts = fake.facts();
    let answers: Vec<_> = facts.tasks[0].answers.iter().map(|a| (a.text.as_str(), a.by.as_str())).collect();
    assert_eq!(answers, [("not now", "repl"), ("later", "telegram:4711")]);
}

#[test]
fn an_answer_is_for_the_question_that_was_seen() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("loop.sh");
    fake.asks(1, question("Delete a?", &["yes", "no"]));
    let mut repl = open_telling(&fake, "Delete a?");
    // The next question is open, and this REPL has not heard of it: its notices are held back.
    fake.change(|facts| facts.hold = true);
    fake.answers(1, "q1", "no", "cli");
    fake.asks(1, question("Delete everything?", &["yes", "no"]));
    repl.send("/task 1 resume yes\r").unwrap();
    repl.expect("q1 was already answered by cli").unwrap();
    assert!(fake.facts().tasks[0].questions[1].open);
    fake.change(|facts| facts.hold = false);
    repl.expect("Delete everything?").unwrap();
    repl.expect("/task 1 resume yes\r\n").unwrap();
    // Two are open: which one is meant has to be said.
    fake.asks(1, question("Delete nothing?", &["yes", "no"]));
    repl.expect("resume --question q3 yes").unwrap();
    repl.send("/task 1 resume yes\r").unwrap();
    repl.expect("say which one is meant: q2, q3").unwrap();
    repl.send("/task 1 resume --question q3 yes\r").unwrap();
    repl.expect("answered yes to q3").unwrap();
    repl.send("/task 1 resume\r").unwrap();
    repl.expect("Delete everything?").unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    assert!(fake.facts().tasks[0].questions[1].open);
}

#[test]
fn a_permission_shows_the_whole_action_and_is_given_by_its_id_alone() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("claude -p x");
    let mut repl = open(&fake);
    fake.asks(1, permission("command", "rm -rf \x1b]0; build"));
    repl.expect("wants to use Bash").unwrap();
    repl.expect("$ rm -rf \\u{1b}]0; build").unwrap();
    repl.expect("/task 1 resume --question q1 allow\r\n").unwrap();
    repl.send("/task 1 resume yes\r").unwrap();
    repl.expect("asks for a permission").unwrap();
    repl.expect("octo> ").unwrap();
    repl.send("/task 1 resume --question q1 de\t\r").unwrap();
    repl.expect("answered deny to q1: Bash: rm -rf").unwrap();
    let diff: String = (1..=30).map(|n| format!("+line {n}\n")).collect();
    fake.asks(1, permission("diff", &diff));
    repl.expect("\x1b[32m+line 20\x1b[0m").unwrap();
    repl.expect("… 10 more lines: /task 1 shows all").unwrap();
    repl.send("/task 1\r").unwrap();
    repl.expect("+line 30").unwrap();
    repl.expect("octo> ").unwrap();
    leave(repl);
    assert_eq!(fake.facts().tasks[0].answers.len(), 1);
}

#[test]
fn open_questions_stand_first_whenever_somebody_comes_back() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("deploy.sh");
    fake.runs("make test");
    fake.asks(1, question("Deploy it?", &["yes", "no"]));
    fake.ends(2, Status::Completed, "");
    for turn in 0..2 {
        let mut repl = Session::spawn(fake.octo()).unwrap();
        repl.set_expect_timeout(Some(Duration::from_secs(20)));
        repl.expect("1 question waits:").unwrap();
        repl.expect("/task 1 resume yes").unwrap();
        let rest = repl.expect("octo> ").unwrap();
        let away = String::from_utf8_lossy(rest.before()).contains("While you were away:");
        assert_eq!(away, turn == 0, "ends are told once, what waits each time");
        repl.expect("1 question waits: /recap shows it").unwrap();
        repl.send("/recap\r").unwrap();
        repl.expect("1 question waits:").unwrap();
        repl.expect("Deploy it?").unwrap();
        repl.expect("Lately:").unwrap();
        repl.expect("octo> ").unwrap();
        leave(repl);
    }
}

#[test]
fn how_many_questions_wait_is_true_after_a_notice() {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("deploy.sh");
    fake.runs("make test");
    fake.asks(1, question("Deploy it?", &["yes", "no"]));
    let mut repl = open(&fake);
    repl.expect("1 question waits: /recap shows it").unwrap();
    fake.asks(2, question("Go on?", &["yes", "no"]));
    repl.expect("/task 2 resume yes").unwrap();
    repl.expect("octo> ").unwrap();
    repl.expect("2 questions wait: /recap shows them").unwrap();
    leave(repl);
}
