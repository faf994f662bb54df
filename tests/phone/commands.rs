//! Commands from the phone, and who may give them.

use serde_json::json;

use crate::harness::wait_for;
use crate::{ANN, Phone};

#[test]
fn a_command_runs_after_a_tap_and_its_card_follows_it() {
    let phone = Phone::new(&[]);
    phone.fake.say(ANN, "/bg echo from the phone");
    let (card, text) = phone.message("echo from the phone");
    assert!(text.to_lowercase().contains("run"), "{text}");
    assert_eq!(phone.world.status()["counts"], json!({}));
    let button = phone.fake.message(ANN, card).unwrap()["reply_markup"]["inline_keyboard"][0][0].clone();
    assert_eq!(button["text"], "Run");
    phone.fake.tap(ANN, card, "Run");
    let (end, text) = phone.message("completed");
    assert!(text.contains("from the phone"), "{text}");
    // A client that kept the button, or sent it twice.
    phone.fake.tap_data(ANN, card, button["callback_data"].as_str().unwrap());
    phone.fake.wait_for("both taps to be answered", |calls| {
        (calls.iter().filter(|c| c.method == "answerCallbackQuery").count() >= 2).then_some(())
    });
    assert_eq!(phone.world.status()["counts"], json!({"completed": 1}), "two taps start one task");
    // There is one card of the task, and it is the one that came last.
    wait_for("the older card to go", || phone.fake.message(ANN, card).is_none());
    assert!(phone.fake.message(ANN, end).unwrap()["text"].as_str().unwrap().contains("completed"));
}

#[test]
fn with_run_on_it_starts_at_once_and_with_off_never() {
    let phone = Phone::new(&[("TELEGRAM_RUN", "on")]);
    phone.fake.say(ANN, "/bg echo at once");
    phone.message("completed");
    let phone = Phone::new(&[("TELEGRAM_RUN", "off")]);
    phone.fake.say(ANN, "/bg echo never");
    phone.message("TELEGRAM_RUN");
    assert_eq!(phone.world.status()["counts"], json!({}));
}

#[test]
fn what_was_said_while_octo_was_off_is_answered_when_it_is_back() {
    let phone = Phone::new(&[("TELEGRAM_RUN", "on")]);
    phone.world.stop();
    phone.fake.say(ANN, "/bg echo said while off");
    phone.fake.say(ANN, "/status");
    phone.world.start();
    phone.message("slots");
    phone.message("completed");
    assert_eq!(phone.world.status()["counts"], json!({"completed": 1}));
}

#[test]
fn strangers_get_silence() {
    let phone = Phone::new(&[("TELEGRAM_RUN", "on")]);
    for text in ["/bg touch hacked", "/tasks", "hello", "/start"] {
        phone.fake.say(4712, text);
    }
    phone.fake.say(ANN, "/help");
    phone.message("/bg");
    wait_for("every update", || phone.fake.unconfirmed() == 0);
    let to_others = phone.fake.calls().into_iter().filter(|c| c.chat() != 0 && c.chat() != ANN).count();
    assert_eq!(to_others, 0);
    assert_eq!(phone.world.status()["counts"], json!({}));
    assert!(!phone.world.path("hacked").exists());
}

#[test]
fn a_list_a_task_its_logs_and_its_end_by_button() {
    let phone = Phone::new(&[]);
    let id = phone.world.bg("for i in $(seq 3000); do echo line $i of a long log; done; exec sleep 1000");
    phone.world.until(&id, "running");
    phone.fake.say(ANN, "/tasks");
    phone.message(&id);
    phone.fake.say(ANN, "/task 1 logs");
    let file = phone.fake.wait_for("the log as a file", |calls| {
        calls.iter().find(|c| c.method == "sendDocument" && c.status == 200).map(|c| c.params.clone())
    });
    assert!(file.to_string().contains(&id) || file["document_name"].as_str().is_some(), "{file}");
    let mark = phone.mark();
    phone.fake.say(ANN, "/task 1");
    let (card, _) = phone.message_after(mark, &id);
    phone.fake.tap(ANN, card, "Cancel");
    assert_eq!(phone.world.ended(&id)["status"], "cancelled");
    phone.message("cancelled");
}

#[test]
fn a_phone_is_paired_by_a_code_from_the_terminal() {
    let phone = Phone::new(&[("TELEGRAM_ALLOWED_USERS", "")]);
    wait_for("the status to say that nobody is there", || {
        phone.world.status()["bridges"][0]["problem"].as_str().is_some_and(|p| p.contains("octo pair telegram"))
    });
    let asks = phone.world.bg(&format!("{} ask 'Since when?'", phone.octo_inside()));
    phone.world.until(&asks, "paused");
    let opened = phone.world.post("/bridges/telegram/pairing", &json!({})).json();
    let code = opened["code"].as_str().unwrap().to_owned();
    phone.fake.say(ANN, "ABCDEFGH");
    phone.fake.say(ANN, &code);
    let candidate = phone.world.get("/bridges/telegram/pairing?wait=60").json();
    assert_eq!(candidate, json!({"id": ANN, "name": "Ann"}));
    assert_eq!(phone.world.post("/bridges/telegram/pairing/decision", &json!({"accept": true})).status, 200);
    let (_, welcome) = phone.message("Welcome");
    assert!(welcome.contains("1 question waits"), "{welcome}");
    phone.world.kill_daemon();
    phone.world.start();
    phone.fake.say(ANN, "/tasks");
    phone.message("task");
}

#[test]
fn a_poll_that_is_held_is_known_to_go_well() {
    let phone = Phone::new(&[]);
    wait_for("the bridge to poll", || phone.world.status()["bridges"][0]["health"] == "polling");
    assert_eq!(phone.fake.calls_of("getUpdates").len(), 0, "the first poll was not answered yet");
}
