//! `octo ask`, `octo task ID resume` and `octo task ID wait` on questions.

use std::process::{Child, Command, Stdio};

use octo::task::{Question, Status};

use super::fake::Fake;
use super::{Seen, octo};

/// `octo` inside the task with the number 1.
fn inside(fake: &Fake, args: &[&str]) -> Command {
    let mut octo = fake.octo();
    octo.args(args).env("OCTO_TASK_ID", "c4b1e001");
    octo
}

/// Asks in the background; the question is open when it returns.
fn ask(fake: &Fake, args: &[&str]) -> Child {
    let before = open(fake);
    let child = inside(fake, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fake.until("a question", |facts| facts.tasks[0].questions.iter().filter(|q| q.open).count() > before);
    child
}

fn open(fake: &Fake) -> usize {
    fake.facts().tasks[0].questions.iter().filter(|q| q.open).count()
}

fn end(child: Child) -> Seen {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Seen { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn world() -> Fake {
    let mut fake = Fake::new();
    fake.serve();
    fake.runs("deploy.sh");
    fake
}

#[test]
fn an_answer_is_printed_alone_and_every_asking_is_a_question_of_its_own() {
    let fake = world();
    for (id, said) in [("q1", "yes"), ("q2", "no")] {
        let asker = ask(&fake, &["ask", "--choice", "yes", "--choice", "no", "Delete", "it?"]);
        fake.answers(1, id, said, "telegram:4711");
        let seen = end(asker);
        assert_eq!((seen.code, seen.out, seen.err), (0, format!("{said}\n"), String::new()));
    }
    let facts = fake.facts();
    let [first, second] = &facts.tasks[0].questions[..] else { panic!("{:?}", facts.tasks[0].questions) };
    assert_eq!((first.text.as_str(), first.by.as_str()), ("Delete it?", "octo ask"));
    assert_eq!(first.choices, ["yes", "no"]);
    assert_eq!(first.key.len(), 32);
    assert_ne!(first.key, second.key);
}

#[test]
fn an_asking_whose_answer_is_lost_is_repeated_as_the_same_question() {
    let fake = world();
    fake.change(|facts| facts.cut_off = true);
    let asker = ask(&fake, &["ask", "Go on?"]);
    fake.until("the repetition", |facts| facts.asks == 2);
    fake.answers(1, "q1", "two\nlines", "repl");
    assert_eq!(end(asker).out, "two\nlines\n");
    assert_eq!(fake.facts().tasks[0].questions.len(), 1);
}

#[test]
fn it_waits_through_a_restart_for_the_answer() {
    let mut fake = world();
    let asker = ask(&fake, &["ask", "Go on?"]);
    fake.die();
    // Answered by a daemon that the asker has not met.
    fake.answers(1, "q1", "yes", "repl");
    fake.serve();
    let seen = end(asker);
    assert_eq!((seen.code, seen.out.as_str()), (0, "yes\n"));
    assert_eq!(fake.facts().tasks[0].questions.len(), 1);
}

#[test]
fn without_an_answer_nothing_is_printed_and_the_exit_code_is_124() {
    let mut fake = world();
    let lapsed = ask(&fake, &["ask", "--timeout", "1h", "Go on?"]);
    fake.lapses(1, "q1");
    let seen = end(lapsed);
    assert_eq!((seen.code, seen.out.as_str()), (124, ""));
    assert!(seen.err.starts_with("error: no answer: nobody answered within 1h 0m\nhint: "), "{}", seen.err);
    // No daemon comes back: then its own clock counts.
    let alone = ask(&fake, &["ask", "--timeout", "1", "Go on?"]);
    fake.die();
    let seen = end(alone);
    assert_eq!((seen.code, seen.out.as_str()), (124, ""));
    assert!(seen.err.contains("nobody answered within 1.0s, and no daemon runs"), "{}", seen.err);
    let never = end(inside(&fake, &["ask", "--timeout", "1", "Go on?"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap());
    assert_eq!((never.code, never.out.as_str()), (124, ""));
    fake.serve();
    let cut_short = ask(&fake, &["ask", "Go on?"]);
    fake.ends(1, Status::Failed, "");
    let seen = end(cut_short);
    assert_eq!((seen.code, seen.out.as_str()), (124, ""));
    assert!(seen.err.contains("the run that asked has ended"), "{}", seen.err);
    let output = inside(&fake, &["ask", "Go on?"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(124), Vec::new()), "a process that its task left behind");
}

#[test]
fn a_question_that_makes_no_sense_is_a_usage_error() {
    let fake = world();
    let outside = fake.octo().args(["ask", "Go on?"]).env_remove("OCTO_TASK_ID").output().unwrap();
    let err = String::from_utf8(outside.stderr).unwrap();
    assert_eq!((outside.status.code(), outside.stdout), (Some(2), Vec::new()));
    assert!(err.starts_with("error: this is not inside a task: OCTO_TASK_ID is not set\nhint: "), "{err}");
    for args in
        [&["--choice", "", "q"][..], &["--choice", "a", "--choice", "A", "q"], &["  "], &["--timeout", "0", "q"]]
    {
        let seen = inside(&fake, &[&["ask"], args].concat()).output().unwrap();
        assert_eq!(seen.status.code(), Some(2), "{args:?}");
    }
    assert_eq!(fake.facts().asks, 0);
}

fn question(text: &str, choices: &[&str]) -> Question {
    let choices = choices.iter().map(|c| (*c).to_owned()).collect();
    Question { text: text.to_owned(), choices, kind: "question".to_owned(), ..Question::default() }
}

#[test]
fn an_answer_says_what_it_answered_and_a_late_one_who_was_first() {
    let fake = world();
    fake.asks(1, question("Delete\x1b[2J the logs?", &["yes", "no"]));
    let wrong = octo(&fake, &["task", "1", "resume", "perhaps"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    let first = octo(&fake, &["task", "1", "resume", "--question", "q1", "1"]);
    assert_eq!(
        (first.code, first.out.as_str(), first.err.as_str()),
        (0, "#1 c4b1e001: answered yes to q1: Delete the logs?\n", "")
    );
    let late = octo(&fake, &["task", "1", "resume", "--question", "q1", "no"]);
    assert_eq!((late.code, late.out.as_str()), (6, ""));
    assert!(late.err.starts_with("error: q1 was already answered by cli at 12:03: yes\n"), "{}", late.err);
    fake.asks(1, question("Which name?", &[]));
    let words = octo(&fake, &["task", "c4b1e001", "resume", "a", "--better", "one"]);
    assert_eq!(words.out, "#1 c4b1e001: answered a --better one to q2: Which name?\n");
    assert_eq!(octo(&fake, &["task", "9", "resume", "yes"]).code, 4);
    assert_eq!(octo(&fake, &["task", "1", "resume"]).code, 2);
    let shown = octo(&fake, &["task", "1"]).out;
    for part in ["asked q1  Delete the logs?", "by cli: yes", "asked q2  Which name?", "by cli: a --better one"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_wait_tells_a_question_and_how_to_answer_it() {
    let fake = world();
    fake.asks(1, question("Delete the logs?\nAll of them.", &["yes", "no"]));
    let seen = octo(&fake, &["task", "1", "wait", "--timeout", "1"]);
    assert_eq!((seen.code, seen.out.as_str()), (124, ""));
    for part in
        ["? #1 c4b1e001 asks", "All of them.", "  2  no", "answer: octo task c4b1e001 resume --question q1 yes\n"]
    {
        assert!(seen.err.contains(part), "{part}: {}", seen.err);
    }
}
