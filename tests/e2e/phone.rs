//! The real claude asks, and its owner answers with a thumb.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::asks::NOTE;
use crate::fake::{Call, Fake, TOKEN};
use crate::main_job::{StopAtEnd, is_gone};
use crate::world::{World, wait_for};

const ANN: i64 = 4711;

/// A workspace whose `.env` names a bot, and the server of that bot.
fn with_phone() -> (Fake, World) {
    let fake = Fake::start();
    fake.user(ANN, "Ann");
    let world = World::new();
    let settings =
        format!("TELEGRAM_BOT_TOKEN={TOKEN}\nTELEGRAM_API_URL={}\nTELEGRAM_ALLOWED_USERS={ANN}\n", fake.url());
    fs::write(world.work().join(".env"), settings).unwrap();
    (fake, world)
}

/// The newest message to Ann that holds `text`.
fn card(fake: &Fake, text: &str) -> i32 {
    let number = fake.wait_for(text, |calls| {
        let fits = |c: &&Call| c.method == "sendMessage" && c.status == 200 && c.text().contains(text);
        calls.iter().rev().find(fits).and_then(|c| c.answer["result"]["message_id"].as_i64())
    });
    i32::try_from(number).unwrap()
}

fn kill_daemon(world: &World) {
    let daemon = world.daemon().unwrap();
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    wait_for("the daemon is gone", || is_gone(daemon));
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn a_question_and_a_permission_are_answered_by_buttons_over_a_kill() {
    let (fake, world) = with_phone();
    let _stop = StopAtEnd(&world);
    let asks = world.claude(&[], "choose a database", "");
    let writes = world.claude(&[], "write the note", "");
    let question = card(&fake, "Postgres or SQLite?");
    let permission = card(&fake, "note.txt");
    let shown = fake.message(ANN, permission).unwrap()["text"].to_string();
    assert!(shown.contains("Write") && shown.contains("+two é"), "{shown}");
    kill_daemon(&world);
    // Both taps come while no daemon runs.
    fake.tap(ANN, question, "SQLite");
    fake.tap(ANN, permission, "Allow");
    assert_eq!(world.note(), None);
    assert!(world.octo(&["tasks"]).status.success(), "a new daemon comes");
    assert_eq!(world.completed(&asks)["result"], "The owner chose SQLite.");
    assert_eq!(world.completed(&writes)["result"], "That was the note.");
    assert_eq!(world.note().as_deref(), Some(NOTE));
    assert_eq!((world.questions_of(&asks), world.questions_of(&writes)), (1, 1), "nothing was asked twice");
    card(&fake, "The owner chose SQLite.");
    card(&fake, "That was the note.");
}

#[test]
#[ignore = "needs tests/e2e/setup.sh"]
fn nothing_is_written_after_a_tap_on_deny() {
    let (fake, world) = with_phone();
    let _stop = StopAtEnd(&world);
    let id = world.claude(&[], "write the note", "");
    let permission = card(&fake, "note.txt");
    kill_daemon(&world);
    assert!(world.octo(&["tasks"]).status.success(), "a new daemon comes");
    fake.tap(ANN, permission, "Deny");
    world.completed(&id);
    assert_eq!(world.note(), None);
}
