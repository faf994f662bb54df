//! Answers from the phone while the daemon is killed again and again, and races between channels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{scale, wait_for, wait_within};
use crate::{ANN, Phone};

/// A small generator (xorshift64*): the same seed is the same story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

#[allow(clippy::disallowed_methods, reason = "the moment of a kill, or a head start, is random: nothing is waited for")]
fn a_moment(dice: &mut Dice, micros: u64) {
    std::thread::sleep(Duration::from_micros(dice.below(micros)));
}

fn seed() -> u64 {
    std::env::var("OCTO_SOAK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// Asks `count` questions of one task; they are `q1` to `q<count>`.
fn ask(phone: &Phone, id: &str, count: usize) {
    for n in 1..=count {
        let body = json!({"text": format!("Question {n}?"), "key": format!("k{n}")}).to_string();
        let said = phone.world.http("POST", &format!("/background-agents/{id}/questions"), body.as_bytes());
        assert_eq!(said.status, 201, "{said:?}");
    }
}

/// 2,000 answers in the long form, with SIGKILL at random points of receive, store, apply and confirm.
#[test]
fn answers_survive_kills_at_any_point() {
    let (answers, per_task) = (scale(120, 2000), 40);
    let phone = Phone::new(&[("BG_MAX_CONCURRENT", "100"), ("OCTO_REMIND", "off")]);
    let tasks: Vec<String> =
        (0..answers / per_task).map(|_| phone.world.bg_with(&["--notify", "failures"], "exec sleep 100000")).collect();
    for id in &tasks {
        phone.world.until(id, "running");
        ask(&phone, id, per_task);
    }
    let (done, kills) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed()));
            while !done.load(Ordering::Relaxed) {
                a_moment(&mut dice, 300_000);
                phone.world.kill_daemon();
                kills.fetch_add(1, Ordering::Relaxed);
                phone.world.start();
            }
        });
        let mut dice = Dice(seed() + 77);
        let mut said = 0;
        for n in 1..=per_task {
            for id in &tasks {
                phone.fake.say(ANN, &format!("/task {id} resume --question q{n} answer {n} of {id}"));
                said += 1;
                // In bursts, so that batches of every size arrive.
                if dice.below(8) == 0 {
                    wait_within(Duration::from_secs(120), "the queue to get shorter", || phone.fake.unconfirmed() < 40);
                }
            }
        }
        assert_eq!(said, tasks.len() * per_task);
        wait_within(Duration::from_secs(300), "every update to be confirmed", || phone.fake.unconfirmed() == 0);
        done.store(true, Ordering::Relaxed);
    });
    let (mut lost, mut twice, mut wrong) = (0, 0, 0);
    for id in &tasks {
        let given = |task: &Value| task["answers"].as_array().map_or(0, Vec::len);
        // What was confirmed lies in the inbox at least.
        wait_within(Duration::from_secs(60), "every answer to be applied", || given(&phone.world.task(id)) >= per_task);
        let task = phone.world.task(id);
        let mut by_question: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for answer in task["answers"].as_array().unwrap() {
            let text = |name: &str| answer[name].as_str().unwrap().to_owned();
            by_question.entry(text("question")).or_default().push((text("text"), text("by")));
        }
        for n in 1..=per_task {
            let wanted = (format!("answer {n} of {id}"), format!("telegram:{ANN}"));
            match by_question.get(&format!("q{n}")).map(Vec::as_slice) {
                None => lost += 1,
                Some([one]) if *one == wanted => {}
                Some([_]) => wrong += 1,
                Some(_) => twice += 1,
            }
        }
    }
    let (answers, kills) = (tasks.len() * per_task, kills.into_inner());
    println!("{answers} answers, {kills} kills: lost {lost}, applied twice {twice}, wrong {wrong}");
    assert_eq!((lost, twice, wrong), (0, 0, 0));
    assert!(kills > 5, "{kills} kills");
}

/// 1,000 races in the long form: one winner each, and the loser is told who that was.
#[test]
fn races_between_the_phone_and_the_api_have_one_winner_each() {
    let (races, per_task) = (scale(40, 1000), 20);
    let phone = Phone::new(&[("BG_MAX_CONCURRENT", "100"), ("OCTO_REMIND", "off")]);
    let (mut by_phone, mut by_api) = (0, 0);
    for round in 0..races / per_task {
        let id = phone.world.bg_with(&["--notify", "failures"], "exec sleep 100000");
        phone.world.until(&id, "running");
        ask(&phone, &id, per_task);
        let mut dice = Dice(seed() + round as u64 + 1);
        for n in 1..=per_task {
            let question = format!("q{n}");
            phone.fake.say(ANN, &format!("/task {id} resume --question {question} phone"));
            // The phone's way is longer: sometimes it gets a start.
            a_moment(&mut dice, 12_000);
            let body = json!({"answer": "api", "question": question}).to_string();
            let said = phone.world.http("POST", &format!("/background-agents/{id}/resume"), body.as_bytes());
            wait_for("the phone's answer to be dealt with", || phone.fake.unconfirmed() == 0);
            let task = phone.world.task(&id);
            let all: Vec<&Value> =
                task["answers"].as_array().unwrap().iter().filter(|a| a["question"] == question.as_str()).collect();
            assert_eq!(all.len(), 1, "{all:?}");
            if all[0]["text"] == "api" {
                by_api += 1;
                assert_eq!(said.status, 200);
            } else {
                by_phone += 1;
                assert_eq!((said.status, &all[0]["text"]), (409, &json!("phone")));
                let told = said.json();
                let message = told["error"]["message"].as_str().unwrap();
                assert!(message.contains("already answered by Telegram at "), "{message}");
                assert!(message.ends_with(": phone"), "{message}");
            }
        }
    }
    println!("{} races: {by_phone} won by the phone, {by_api} by the API", by_phone + by_api);
    assert!(by_phone > 0 && by_api > 0, "{by_phone} and {by_api}: no race");
}
