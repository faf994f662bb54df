//! Talking with the supervisor agent from the phone, and agents that are started there.

use std::fs;

use serde_json::json;

use crate::harness::wait_for;
use crate::{ANN, Phone};

/// The calls that show `text` to Ann, new messages only.
fn sent(phone: &Phone, text: &str) -> usize {
    let shown = |c: &&crate::Call| c.method == "sendMessage" && c.done && c.text().contains(text);
    phone.fake.calls().iter().filter(shown).count()
}

#[test]
fn an_answer_is_one_message_and_the_next_words_have_their_own() {
    let phone = Phone::new(&[("OCTO_MODEL", "demo/script:talk.txt")]);
    fs::write(
        phone.world.path("talk.txt"),
        "say I **look** at it.\ncall list_files {\"path\": \".\"}\n---\nsay All is `well`.\n---\nsay second\n",
    )
    .unwrap();
    let asked = phone.fake.say(ANN, "how is it going?");
    let (first, _) = phone.message("look");
    let whole = phone.shows(first, "All is");
    assert!(whole.contains("I look at it.") && whole.contains("All is well."), "{whole}");
    assert_eq!(phone.fake.message(ANN, first).unwrap()["reply_to_message"]["message_id"], asked);
    phone.fake.say(ANN, "and now?");
    let (second, _) = phone.message("second");
    assert_ne!(first, second);
    assert_eq!((sent(&phone, "look"), sent(&phone, "second")), (1, 1));
    assert_eq!(phone.world.status()["counts"], json!({}), "a conversation is no task in the lists");
}

#[test]
fn a_long_answer_comes_whole_in_parts() {
    let phone = Phone::new(&[("OCTO_MODEL", "demo/script:talk.txt")]);
    let words: String = (1..=1200).map(|n| format!("word{n} ")).collect();
    fs::write(phone.world.path("talk.txt"), format!("say {words}\n")).unwrap();
    phone.fake.say(ANN, "tell me all");
    let (last, text) = phone.message("word1200");
    assert!(!text.contains("word1 "), "{text}");
    wait_for("the beginning in the message before", || {
        phone.fake.message(ANN, last - 1).is_some_and(|m| m["text"].as_str().is_some_and(|t| t.contains("word1 ")))
    });
}

#[test]
fn what_was_said_before_a_kill_is_answered_after_it_and_said_once() {
    let phone = Phone::new(&[("OCTO_MODEL", "demo/script:talk.txt")]);
    fs::write(phone.world.path("talk.txt"), "wait 600\nsay never\n").unwrap();
    phone.fake.say(ANN, "remember me");
    let tasks = phone.world.octo_dir().join("tasks");
    let journals = || {
        let folders = fs::read_dir(&tasks).into_iter().flatten().flatten();
        folders.filter_map(|f| fs::read_to_string(f.path().join("journal.jsonl")).ok()).collect::<String>()
    };
    wait_for("the agent to hear it", || journals().contains("remember me"));
    phone.fake.say(ANN, "and this");
    wait_for("both to be taken", || phone.fake.unconfirmed() == 0);
    phone.world.kill_daemon();
    fs::write(phone.world.path("talk.txt"), "say I remember.\n---\nsay That, too.\n").unwrap();
    phone.world.start();
    phone.message("I remember.");
    phone.message("That, too.");
    assert_eq!((journals().matches("remember me").count(), journals().matches("and this").count()), (1, 1));
    phone.world.kill_daemon();
    phone.world.start();
    phone.fake.say(ANN, "/tasks");
    phone.message("no tasks");
    assert_eq!((sent(&phone, "I remember."), sent(&phone, "That, too.")), (1, 1), "what was answered stays answered");
}

#[test]
fn without_a_model_it_says_what_to_set() {
    let phone = Phone::new(&[]);
    phone.fake.say(ANN, "hello");
    let (_, text) = phone.message("OCTO_MODEL");
    assert!(text.contains("demo/tour"), "the quick way is named: {text}");
    phone.fake.say(ANN, "/model demo/echo");
    phone.message("from your next words on");
    phone.fake.say(ANN, "hello again");
    phone.message("You said: hello again");
}

#[test]
fn an_agent_starts_after_a_tap_its_budget_is_raised_and_it_is_followed_up() {
    let phone = Phone::new(&[("OCTO_MODEL", "demo/spender"), ("OCTO_AGENT_BUDGET", "3000")]);
    phone.fake.say(ANN, "/agent spend it all");
    let (card, text) = phone.message("spend it all");
    assert!(text.starts_with("Give this to an agent?"), "{text}");
    assert_eq!(phone.world.status()["counts"], json!({}));
    phone.fake.tap(ANN, card, "Run");
    let (spent, text) = phone.message("budget exceeded");
    assert!(text.contains("% of its budget"), "{text}");
    let id = phone.world.get("/background-agents?limit=0").json()["history"][0]["id"].as_str().unwrap().to_owned();
    let before = phone.world.task(&id)["usage"]["turns"].as_u64().unwrap();
    let mark = phone.mark();
    phone.fake.tap(ANN, spent, "Raise");
    let (again, _) = phone.message_after(mark, "budget exceeded");
    let task = phone.world.task(&id);
    assert_eq!(task["budget"]["tokens"], 6000);
    assert!(task["usage"]["turns"].as_u64().unwrap() > before, "it went on from where it was: {task:#}");
    phone.fake.reply(ANN, again, "and now the rest");
    let (card, text) = phone.message("and now the rest");
    assert!(text.contains(&id), "{text}");
    phone.fake.tap(ANN, card, "Run");
    wait_for("the follow-up", || {
        let all = phone.world.get("/background-agents?limit=0").json();
        let tasks = all["active"].as_array().unwrap().iter().chain(all["history"].as_array().unwrap());
        tasks.filter(|t| t["prompt"].as_str().is_some_and(|p| p.contains("and now the rest"))).count() == 1
    });
}
