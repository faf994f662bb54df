//! Words for the agent, jobs for agents, follow-ups, and budgets.

use super::*;
use crate::telegram::book::Wish;

#[tokio::test]
async fn what_is_said_to_the_agent_is_kept_before_the_update_counts_as_applied() {
    let bench = bench(TelegramRun::Ask, vec![]);
    bench.say("/new", 5).await;
    bench.say("/model demo/tour", 6).await;
    assert!(shows(&bench.say("/model", 7).await[0]).contains("demo/tour"));
    let saves = bench.saves.load(Ordering::SeqCst);
    for _ in 0..2 {
        assert!(bench.say("how are my tasks?\nand why?", 8).await.is_empty(), "the answer comes by itself");
    }
    assert!(bench.saves.load(Ordering::SeqCst) > saves);
    bench.say("and now?", 9).await;
    let book = Book::read(&bench.hands.book().bytes()).unwrap();
    let first = book.talk(ANN).unwrap().clone();
    assert_eq!((first.key.as_str(), first.message), (&format!("tg:{BOT}:8")[..], 50));
    assert_eq!(first.text, "how are my tasks?\nand why?");
    assert!(first.wish.new && first.wish.model == "demo/tour");
    bench.hands.book().end_talk(&first.key);
    let second = bench.hands.book().talk(ANN).unwrap().clone();
    assert_eq!((second.text.as_str(), second.wish), ("and now?", Wish::default()));
    bench.hands.book().end_talk(&second.key);
    assert!(bench.hands.book().talkers().is_empty());
}

#[tokio::test]
async fn old_words_are_asked_about_and_said_once() {
    let bench = bench(TelegramRun::On, vec![]);
    let old = Text { at: NOW / 1000 - 7200, ..text("delete <all>") };
    let asked = bench.hear(Heard::Text(old), 7).await.unwrap();
    assert!(shows(&asked[0]).contains("It was written 2h ago"), "{asked:?}");
    assert!(bench.hands.book().talkers().is_empty());
    let said = bench.tap(&button(&asked[0], "Run"), 8).await;
    assert!(shows(&said[1]).contains("You said: delete <all>"), "{said:?}");
    assert_eq!(bench.hands.book().talk(ANN).unwrap().key, format!("tg:{BOT}:7"));
    bench.hands.book().end_talk(&format!("tg:{BOT}:7"));
    assert!(shows(&bench.tap(&button(&asked[0], "Run"), 9).await[0]).contains("over"));
    assert!(bench.hands.book().talkers().is_empty());
    let off = super::bench(TelegramRun::Off, vec![a_task(3, Status::Failed)]);
    for said in ["hello", "/agent do it", "/bg make", "/task 3 followup more"] {
        assert!(shows(&off.say(said, 7).await[0]).contains("TELEGRAM_RUN=off"), "{said}");
    }
    assert!(off.hands.book().talkers().is_empty() && off.fake.effects().is_empty());
}

#[tokio::test]
async fn an_agents_job_runs_after_a_tap_and_once() {
    let bench = bench(TelegramRun::Ask, vec![a_task(3, Status::Completed)]);
    let asked = bench.say("/agent --agent=coder --model x/y fix <it>", 7).await;
    assert!(shows(&asked[0]).contains("Give this to coder on x/y?\nfix <it>"), "{asked:?}");
    let prose = bench.say("/bg prose for an agent", 8).await;
    assert!(shows(&prose[0]).contains("`prose` is no program here"), "{prose:?}");
    let follow = bench.say("/task 3 followup and the docs", 9).await;
    assert!(shows(&follow[0]).contains("from the result of c4b1e003?"), "{follow:?}");
    assert!(bench.fake.effects().is_empty());
    for asked in [asked, prose, follow] {
        for update in [10, 11] {
            bench.tap(&button(&asked[0], "Run"), update).await;
        }
    }
    let as_key = |n: u32| format!("by {ANN} as tg:{BOT}:{n}");
    assert_eq!(
        bench.fake.effects(),
        [
            format!("start agent \"coder\" on \"x/y\": fix <it> {}", as_key(7)),
            format!("start agent \"\" on \"\": prose for an agent {}", as_key(8)),
            format!("start agent \"\" on \"\": and the docs after c4b1e003 {}", as_key(9)),
        ]
    );
    let on = super::bench(TelegramRun::On, vec![a_task(3, Status::Completed), a_task(4, Status::Running)]);
    on.hands.book().set_card(id(3), ANN, 81, true);
    for _ in 0..2 {
        let card = on.reply("and the docs", 81, &[], 7).await;
        assert_eq!(card[0].note, Note::Card { task: id(102), ended: false });
    }
    assert_eq!(on.fake.effects().len(), 1);
    assert!(shows(&on.say("/task 4 followup x", 8).await[0]).contains("has not ended"));
}

#[tokio::test]
async fn a_budget_is_raised_by_the_button_of_that_budget_once() {
    let mut spent = a_task(9, Status::BudgetExceeded);
    (spent.kind, spent.prompt) = (Kind::Agent, "fix it".to_owned());
    (spent.budget.tokens, spent.usage.input_tokens) = (Some(50_000), 50_001);
    let bench = bench(TelegramRun::Ask, vec![spent, a_task(3, Status::Failed)]);
    let card = bench.say("/task 9", 7).await;
    assert!(shows(&card[0]).contains("50,001 tokens · 100 % of its budget"), "{card:?}");
    let raise = button(&card[0], "Raise");
    let done = bench.tap(&raise, 8).await;
    assert!(shows(&done[0]).contains("goes on"), "{done:?}");
    // The same tap after a crash, and another one when the larger budget is used up, too.
    bench.tap(&raise, 8).await;
    bench.fake.world().tasks[0].take(Step::Run, &Stamp::from_millis(NOW)).unwrap();
    bench.fake.world().tasks[0].take(Step::End(Status::BudgetExceeded), &Stamp::from_millis(NOW)).unwrap();
    assert!(shows(&bench.tap(&raise, 9).await[0]).contains("over"));
    assert_eq!(bench.fake.effects(), [format!("raise {} by {ANN}: None", id(9))]);
    for _ in 0..2 {
        bench.say("/task 9 raise 1000", 10).await;
    }
    assert_eq!(bench.fake.effects().len(), 2);
    assert!(keys(&bench.say("/task 3", 11).await[0]).iter().all(|k| k.text != "Raise"));
}
