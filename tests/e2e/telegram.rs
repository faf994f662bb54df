//! Telegram as its owner meets it, against a Bot API server that is not ours.

use std::time::Duration;

use expectrl::{Eof, Expect, Regex, Session};

use crate::botapi::Phone;
use crate::main_job::StopAtEnd;
use crate::world::{World, wait_for};

/// `octo pair telegram`, and the code sent from the phone.
fn pair(world: &World, phone: &Phone) {
    let mut command = world.command(env!("CARGO_BIN_EXE_octo"), &[]);
    command.args(["pair", "telegram"]);
    let mut terminal = Session::spawn(command).unwrap();
    terminal.set_expect_timeout(Some(Duration::from_secs(60)));
    let told = terminal.expect(Regex("Code: ([A-Z0-9]+)")).unwrap();
    let code = String::from_utf8_lossy(told.get(1).unwrap()).into_owned();
    phone.say(&code);
    terminal.expect("Ann, user 4711, sent it.").unwrap();
    terminal.send_line("y").unwrap();
    terminal.expect("is let in").unwrap();
    terminal.expect(Eof).unwrap();
    phone.message(0, &["Welcome"]);
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_phone_commands_and_answers() {
    let world = World::new();
    let phone = Phone::of(&world);
    let _stop = StopAtEnd(&world);
    pair(&world, &phone);

    // A command runs after a tap; its card follows it.
    phone.command("/bg echo hello; octo ask --choice yes --choice no 'Publish 1.4.0?'");
    let card = phone.message(0, &["octo ask", "?"]);
    assert_eq!(card.labels()[0], "Run", "{card:?}");
    assert_eq!(world.octo_json(&["tasks"]).unwrap().as_array().unwrap().len(), 0, "nothing ran unasked");
    phone.tap(&card, "Run");

    // Its question has a button for each choice.
    let question = phone.message(card.id, &["Publish 1.4.0?"]);
    assert_eq!(question.labels()[..2], ["yes", "no"], "{question:?}");
    phone.tap(&question, "yes");
    let end = phone.message(question.id, &["completed"]);
    assert!(end.text.contains("hello\nyes"), "{end:?}");
    wait_for("the question to show its answer", || {
        phone.screen().into_iter().find(|s| s.id == question.id && s.text.contains("answered"))
    });

    // A question without choices is answered by a reply.
    let asks = world.octo(&["bg", "octo ask 'Which version?'; seq 3000"]);
    assert!(asks.status.success(), "{asks:?}");
    let question = phone.message(end.id, &["Which version?"]);
    assert_eq!(question.labels(), ["Task"], "{question:?}");
    phone.reply(&question, "1.4.1");
    let end = phone.message(question.id, &["completed"]);

    phone.command("/tasks");
    phone.message(end.id, &["echo hello", "Which version?"]);
    phone.command("/task 1 logs");
    let short = phone.message(end.id, &["Output of", "hello\nyes"]);
    assert_eq!(short.file(), None);
    phone.command("/task 2 logs");
    let long = phone.message(end.id, &["Output of", "2999\n3000"]);
    let (name, content) = long.file().expect("a long output is a file");
    assert!(name.starts_with("task-2-"), "{name}");
    assert!(content.starts_with("1.4.1\n1\n2\n") && content.ends_with("\n3000\n"), "{content}");
}
