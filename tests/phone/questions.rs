//! Questions on the phone: seen, answered by taps and replies, once.

use serde_json::json;

use crate::fake::Fault;
use crate::{ANN, Phone};

#[test]
fn a_tap_answers_and_the_card_says_so() {
    let phone = Phone::new(&[]);
    let octo = phone.octo_inside();
    let id = phone.world.bg(&format!("echo got $({octo} ask --choice yes --choice no 'Deploy to production?')"));
    let (card, text) = phone.message("Deploy to production?");
    assert!(text.contains(&id), "{text}");
    phone.fake.tap(ANN, card, "yes");
    let task = phone.world.ended(&id);
    assert_eq!((&task["status"], &task["result"]), (&json!("completed"), &json!("got yes\n")));
    assert_eq!(task["answers"][0]["by"], format!("telegram:{ANN}"));
    let shown = phone.shows(card, "answered");
    assert!(shown.contains("Telegram"), "{shown}");
    let (end, text) = phone.message("completed");
    assert!(end > card && text.contains("got yes"), "{text}");
    // The buttons are gone; a client that kept them changes nothing.
    let markup = &phone.fake.message(ANN, card).unwrap()["reply_markup"];
    assert!(!markup.to_string().contains("\"no\""), "{markup}");
}

#[test]
fn a_reply_answers_in_free_words_and_over_a_kill() {
    let phone = Phone::new(&[]);
    let octo = phone.octo_inside();
    let script = format!("{octo} ask 'Which version?'; {octo} ask 'And which name?'");
    std::fs::write(phone.world.path("script"), script).unwrap();
    let id = phone.world.bg("sh script");
    let (first, _) = phone.message("Which version?");
    phone.world.kill_daemon();
    phone.fake.reply(ANN, first, "1.2.3 <b>&");
    phone.world.start();
    let (second, _) = phone.message("And which name?");
    phone.fake.reply(ANN, second, "blue");
    assert_eq!(phone.world.ended(&id)["result"], "1.2.3 <b>&\nblue\n");
}

#[test]
fn who_is_late_hears_who_was_first() {
    let phone = Phone::new(&[]);
    let octo = phone.octo_inside();
    let id = phone.world.bg(&format!("{octo} ask --choice yes --choice no 'Really?'; exec sleep 1000"));
    let (card, _) = phone.message("Really?");
    // The answer in the terminal and the tap cross: the card is still as it was.
    phone.fake.fault("editMessageText", 1, Fault::too_many(2));
    phone.world.octo(&["task", &id, "resume", "no"]).exits(0);
    let tap = phone.fake.tap(ANN, card, "yes");
    let toast = phone.fake.wait_for("the toast", |calls| {
        let answered =
            |c: &&crate::fake::Call| c.method == "answerCallbackQuery" && c.params["callback_query_id"] == tap;
        calls.iter().find(answered).map(|c| c.text().to_owned())
    });
    assert!(toast.contains("lready answered") && toast.contains("no"), "{toast}");
    let shown = phone.shows(card, "answered");
    assert!(shown.contains("no"), "{shown}");
    let task = phone.world.task(&id);
    assert_eq!(task["answers"].as_array().unwrap().len(), 1);
    assert_eq!(task["answers"][0]["text"], "no");
}

#[test]
fn a_permission_shows_the_exact_action() {
    let phone = Phone::new(&[]);
    let id = phone.world.bg("exec sleep 1000");
    phone.world.until(&id, "running");
    let action = json!({"tool": "Bash", "input": {"command": "rm -rf build && make"}, "folder": "/srv/project"});
    let body = json!({"key": "k", "by": "claude", "action": action}).to_string();
    let asked = phone.world.http("POST", &format!("/background-agents/{id}/questions"), body.as_bytes());
    assert_eq!(asked.status, 201);
    let (card, text) = phone.message("rm -rf build");
    assert!(text.contains("Bash") && text.contains("/srv/project"), "{text}");
    phone.fake.tap(ANN, card, "Deny");
    phone.shows(card, "answered");
    assert_eq!(phone.world.task(&id)["answers"][0]["text"], "deny");
}

#[test]
fn what_could_not_be_sent_is_in_the_status_and_is_sent_later() {
    let phone = Phone::new(&[]);
    phone.fake.fault("sendMessage", 1000, Fault::bad_gateway());
    let id = phone.world.bg("echo said; exit 3");
    phone.world.ended(&id);
    phone.fake.wait_for("a try", |calls| calls.iter().find(|c| c.method == "sendMessage").map(drop));
    crate::harness::wait_for("the status to say so", || {
        let bridge = &phone.world.status()["bridges"][0];
        bridge["owed"] == 1 && bridge["problem"].as_str().is_some_and(|p| p.contains("cannot be sent"))
    });
    phone.world.kill_daemon();
    phone.fake.heal();
    phone.world.start();
    let (_, text) = phone.message(&id);
    assert!(text.contains("failed") && text.contains("said"), "{text}");
    crate::harness::wait_for("the receipt", || phone.world.status()["bridges"][0]["owed"] == 0);
}

#[test]
fn what_a_blocked_bot_could_not_tell_stays_owed_until_it_can() {
    let phone = Phone::new(&[]);
    phone.fake.fault("sendMessage", 1000, Fault::blocked());
    let id = phone.world.bg("echo while blocked");
    phone.world.ended(&id);
    crate::harness::wait_for("the status to say so", || {
        let bridge = &phone.world.status()["bridges"][0];
        bridge["owed"] == 1 && bridge["problem"].as_str().is_some_and(|p| p.contains("blocked"))
    });
    phone.fake.heal();
    phone.fake.say(ANN, "/help");
    let (_, text) = phone.message(&id);
    assert!(text.contains("while blocked"), "{text}");
    crate::harness::wait_for("the receipt", || phone.world.status()["bridges"][0]["owed"] == 0);
    assert_eq!(phone.world.status()["bridges"][0]["problem"], json!(null));
}
