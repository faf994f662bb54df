//! What changes runs: started, stopped and retried once, whatever is tapped, said or cut off.

use super::*;
use crate::telegram::book::Work;

#[tokio::test]
async fn a_command_runs_once_after_any_number_of_taps() {
    let bench = bench(TelegramRun::Ask, vec![]);
    let asked = bench.say("/bg make <x>", 7).await;
    assert!(bench.fake.effects().is_empty());
    assert!(shows(&asked[0]).contains("make <x>"));
    let run = button(&asked[0], "Run");
    let first = bench.tap(&run, 8).await;
    for update in [8, 9, 10] {
        let again = bench.tap(&run, update).await;
        assert!(shows(&again[0]).contains("over"), "{again:?}");
    }
    assert_eq!(bench.fake.effects(), [format!("start make <x> by {ANN} as tg:{BOT}:7")]);
    assert!(matches!(&first[1].post, Post::Edit { message: 60, .. }));
    assert_eq!(first[1].note, Note::Card { task: id(100), ended: false });
    let dropped = bench.tap(&button(&asked[0], "Drop"), 11).await;
    assert!(shows(&dropped[0]).contains("over"), "{dropped:?}");
}

#[tokio::test]
async fn a_dropped_or_forgotten_command_does_not_run() {
    let bench = bench(TelegramRun::Ask, vec![]);
    let asked = bench.say("/bg make", 7).await;
    bench.tap(&button(&asked[0], "Drop"), 8).await;
    let run = bench.tap(&button(&asked[0], "Run"), 9).await;
    assert!(shows(&run[0]).contains("over"));
    bench.say("/bg other", 10).await;
    *bench.hands.book() = Book::default();
    assert!(shows(&bench.tap(&Button::Run(10), 11).await[0]).contains("not kept"));
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_crash_between_the_start_and_its_card_starts_nothing_twice() {
    let bench = bench(TelegramRun::Ask, vec![]);
    let asked = bench.say("/bg make", 7).await;
    let book = bench.hands.book().clone();
    let run = button(&asked[0], "Run");
    bench.tap(&run, 8).await;
    *bench.hands.book() = book;
    let again = bench.tap(&run, 8).await;
    assert!(shows(&again[1]).contains("#100"), "{again:?}");
    assert_eq!(bench.fake.effects().len(), 1);
}

#[tokio::test]
async fn telegram_run_decides_what_a_typed_command_needs() {
    let on = bench(TelegramRun::On, vec![]);
    let card = on.say("/bg make", 7).await;
    on.say("/bg make", 7).await;
    assert_eq!(on.fake.effects().len(), 1, "the same update is the same task");
    assert_eq!(card[0].note, Note::Card { task: id(100), ended: false });
    let old = Text { at: NOW / 1000 - 3601, ..text("/bg make") };
    let asked = on.hear(Heard::Text(old), 8).await.unwrap();
    assert!(shows(&asked[0]).contains("1h ago"), "{asked:?}");
    let asked = on.say("/bg echo “x” —all", 9).await;
    assert!(shows(&asked[0]).contains("typographic"), "{asked:?}");
    assert_eq!(on.fake.effects().len(), 1);

    let off = bench(TelegramRun::Off, vec![]);
    assert!(shows(&off.say("/bg make", 7).await[0]).contains("switched off"));
    off.hands.book().set_pending(6, &format!("tg:{BOT}:6"), ANN, "make", Work::Command, NOW);
    assert!(shows(&off.tap(&Button::Run(6), 8).await[0]).contains("switched off"));
    assert!(off.fake.effects().is_empty());
}

#[tokio::test]
async fn buttons_of_an_older_run_do_nothing() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed), a_task(4, Status::Running)]);
    let done = bench.tap(&of_task(3, What::Retry(1)), 7).await;
    assert!(shows(&done[0]).contains("runs again") && keys(&done[1])[0].text == "Cancel", "{done:?}");
    for button in [
        of_task(3, What::Retry(1)),
        of_task(3, What::Cancel(1)),
        of_task(3, What::Retry(2)),
        of_task(4, What::Retry(1)),
    ] {
        let over = bench.tap(&button, 8).await;
        assert!(shows(&over[0]).starts_with("This is over. #"), "{over:?}");
        assert!(matches!(over[1].post, Post::Edit { .. }));
    }
    bench.tap(&of_task(4, What::Cancel(1)), 9).await;
    assert_eq!(bench.fake.effects(), [format!("retry {} by {ANN}", id(3)), format!("stop {} by {ANN}", id(4))]);
}

#[tokio::test]
async fn typed_changes_of_a_run_are_made_once_over_a_crash() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed), a_task(4, Status::Running)]);
    // The daemon is cut off after each change, and the update is applied again.
    for (said, update, effect) in
        [("/task 3 retry", 7, format!("retry {} by {ANN}", id(3))), ("/bg clear", 8, format!("clear by {ANN}"))]
    {
        bench.fake.world().effects.clear();
        bench.fake.world().cut_off = true;
        assert!(bench.hear(Heard::Text(text(said)), update).await.is_err());
        bench.fake.world().cut_off = false;
        // Meanwhile the second run has ended, too.
        let at = Stamp::from_millis(NOW);
        if let Ok(task) = bench.fake.world().find(id(3)) {
            task.take(Step::End(Status::Failed), &at).ok();
        }
        bench.say(said, update).await;
        assert_eq!(bench.fake.effects(), [effect], "{said}");
    }
    // A stop, a retry by somebody else, and the stop's update once more.
    bench.fake.world().effects.clear();
    bench.say("/task 4 cancel", 9).await;
    {
        let mut world = bench.fake.world();
        let task = world.find(id(4)).unwrap();
        task.take(Step::End(Status::Cancelled), &Stamp::from_millis(NOW)).unwrap();
        task.take(Step::Retry, &Stamp::from_millis(NOW)).unwrap();
        task.run = 2;
    }
    bench.say("/task 4 cancel", 9).await;
    assert_eq!(bench.fake.effects(), [format!("stop {} by {ANN}", id(4))]);
    bench.say("/bg kill 4", 10).await;
    assert_eq!(bench.fake.effects().len(), 2);
    assert!(bench.saves.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn nothing_is_changed_when_the_book_cannot_be_saved() {
    let mut bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed)]);
    bench.hands.keep = Arc::new(|_| Err("no space left on device".to_owned()));
    let told = bench.say("/task 3 retry", 7).await;
    assert!(shows(&told[0]).contains("Nothing was done: no space left"), "{told:?}");
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_daemon_that_is_away_is_for_later_and_a_refusal_is_told() {
    let bench = bench(TelegramRun::On, vec![a_task(9, Status::Paused)]);
    bench.fake.world().down = true;
    for said in ["/bg make", "/tasks", "yes", "/task 9 resume yes", "/status", "/recap"] {
        assert!(bench.hear(Heard::Text(text(said)), 7).await.is_err(), "{said}");
    }
    let yes = seal().close(ANN, ANN, &of_task(9, What::Answer("q1".to_owned(), 0))).unwrap();
    assert!(bench.hear(Heard::Tap(tap_of(&yes)), 7).await.is_err());
    bench.fake.world().down = false;
    assert!(shows(&bench.say("/task nope", 8).await[0]).starts_with("No such task: nope."));
    assert!(shows(&bench.say("/tsak 9", 9).await[0]).contains("/task"));
}
