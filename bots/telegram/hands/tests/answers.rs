//! Answers: by a tap, a reply or in words; to the question that they are for, or to none.

use super::*;

#[tokio::test]
async fn a_tap_answers_and_the_loser_hears_who_was_first() {
    let bench = bench(TelegramRun::Ask, vec![a_task(9, Status::Paused)]);
    bench.hands.book().set_asked(ANN, 61, id(9), "q1");
    let yes = of_task(9, What::Answer("q1".to_owned(), 0));
    for _ in 0..2 {
        let done = bench.tap(&yes, 7).await;
        assert_eq!(shows(&done[0]), "answered by Telegram (4711) at 10:00: yes", "the same update again is the same");
        let edited: Vec<_> =
            done[1..].iter().map(|e| (data(e), matches!(e.post, Post::Edit { message: 60 | 61, .. }))).collect();
        assert_eq!(edited, [(vec![], true), (vec![], true)], "the card that was tapped, and the one that is known");
    }
    let late = bench.tap(&of_task(9, What::Answer("q1".to_owned(), 1)), 8).await;
    assert_eq!(shows(&late[0]), "already answered by Telegram (4711) at 10:00: yes");
    assert!(shows(&late[1]).contains("answered by"));
    assert_eq!(bench.fake.effects(), [format!("answer q1 of {} by telegram:{ANN} as tg:{BOT}:7: yes", id(9))]);
}

#[tokio::test]
async fn the_repl_was_first() {
    let bench = bench(TelegramRun::Ask, vec![answered(a_task(9, Status::Paused), "repl", "yes")]);
    let late = bench.tap(&of_task(9, What::Answer("q1".to_owned(), 1)), 7).await;
    assert_eq!(shows(&late[0]), "already answered by REPL at 09:59: yes");
    let mut closed = a_task(9, Status::Paused);
    (closed.questions[0].open, closed.questions[0].closed) = (false, Some(Closed::TaskEnded));
    bench.fake.world().tasks = vec![closed];
    assert_eq!(
        shows(&bench.tap(&of_task(9, What::Answer("q1".to_owned(), 1)), 8).await[0]),
        "This is over. task ended"
    );
    for button in [of_task(9, What::Answer("q9".to_owned(), 0)), of_task(9, What::Answer("q1".to_owned(), 9))] {
        assert_eq!(shows(&bench.tap(&button, 9).await[0]), "This is over.");
    }
    let none = bench.tap(&of_task(8, What::Cancel(1)), 10).await;
    assert!(shows(&none[0]).contains("over"));
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_reply_answers_by_the_book_or_by_the_cards_own_buttons() {
    let mut task = a_task(9, Status::Paused);
    task.questions.push(question("q2", "What next?", &[]));
    let bench = bench(TelegramRun::Ask, vec![task.clone()]);
    bench.hands.book().set_asked(ANN, 61, id(9), "q1");
    let wrong = bench.reply("perhaps", 61, &[], 7).await;
    assert!(shows(&wrong[0]).contains("none of the choices") && shows(&wrong[0]).contains("2. no"), "{wrong:?}");
    for _ in 0..2 {
        let right = bench.reply("NO", 61, &[], 8).await;
        assert!(matches!(right[0].post, Post::Edit { message: 61, .. }), "{right:?}");
        assert_eq!(right.len(), 1);
    }
    // The book knows nothing of this card; its buttons do.
    let card =
        bench.hands.draw(Who { user: ANN, chat: ANN, message: 1 }, |f| card::asks(&task, &task.questions[1], false, f));
    let sealed: Vec<String> = card.keys.concat().into_iter().map(|k| k.data).collect();
    bench.reply("/usr/bin is right", 70, &sealed, 9).await;
    let late = bench.reply("no", 70, &sealed, 10).await;
    assert!(shows(late.last().unwrap()).contains("Too late: answered by Telegram (Ann)"), "{late:?}");
    let prefix = format!("by telegram:{ANN} as tg:{BOT}");
    assert_eq!(
        bench.fake.effects(),
        [
            format!("answer q1 of {} {prefix}:8: no", id(9)),
            format!("answer q2 of {} {prefix}:9: /usr/bin is right", id(9))
        ]
    );
}

#[tokio::test]
async fn forged_buttons_of_a_replied_message_bind_nothing() {
    let bench = bench(TelegramRun::Ask, vec![a_task(9, Status::Paused)]);
    let foreign = seal().close(4712, 4712, &of_task(9, What::Answer("q1".to_owned(), 0))).unwrap();
    let done = bench.reply("yes", 70, &[foreign, "1:c4b1e009:aq1.0:AAAAAAAAAAAAAAAA".to_owned()], 7).await;
    assert!(shows(&done[0]).contains("one question is open"), "{done:?}");
    let other = Replied { message: 61, own: false, data: vec![] };
    bench.hands.book().set_asked(ANN, 61, id(9), "q1");
    bench.hear(Heard::Text(Text { reply: Some(other), ..text("yes") }), 8).await.unwrap();
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn plain_text_is_never_an_answer() {
    let bench = bench(TelegramRun::On, vec![a_task(9, Status::Paused)]);
    let told = bench.say("yes", 7).await;
    assert!(shows(&told[0]).contains("one question is open"));
    assert_eq!(told[1].note, Note::Question { task: id(9), question: "q1".to_owned() });
    bench.fake.world().tasks.clear();
    assert!(bench.hands.book().talkers().is_empty());
    assert!(bench.say("yes", 8).await.is_empty());
    assert_eq!(bench.hands.book().talk(ANN).unwrap().text, "yes");
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn a_reply_to_a_tasks_card_is_bound_to_no_question() {
    let bench =
        bench(TelegramRun::Ask, vec![a_task(9, Status::Paused), a_task(3, Status::Failed), a_task(4, Status::Running)]);
    for (message, number) in [(80, 9), (81, 3), (82, 4)] {
        bench.hands.book().set_card(id(number), ANN, message, false);
    }
    assert!(shows(&bench.reply("yes", 80, &[], 7).await[0]).contains("Which question"));
    assert!(shows(&bench.reply("and now?", 81, &[], 8).await[0]).contains("from the result of c4b1e003?"));
    assert!(shows(&bench.reply("hm", 82, &[], 9).await[0]).contains("asks nothing"));
    let logs = seal().close(ANN, ANN, &of_task(3, What::Logs)).unwrap();
    assert!(shows(&bench.reply("and now?", 99, &[logs], 10).await[0]).contains("from the result of"));
    assert!(shows(&bench.reply("/task 3", 81, &[], 11).await[0]).contains("#3"), "a command stays one");
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn resume_in_words() {
    let bench = bench(TelegramRun::On, vec![a_task(9, Status::Paused)]);
    for _ in 0..2 {
        let done = bench.say("/task 9 resume yes", 7).await;
        assert_eq!(shows(&done[0]), "#9 c4b1e009 answered by Telegram (Ann) at 10:00: yes");
    }
    let late = shows(&bench.say("/task 9 resume no", 8).await[0]);
    assert_eq!(late, "#9 c4b1e009 asks nothing any more: answered by Telegram (Ann) at 10:00: yes");
    assert!(shows(&bench.say("/task 9 resume --question q1 no", 9).await[0]).contains("Too late: answered"));
    let mut two = a_task(8, Status::Paused);
    two.questions = vec![permission("q2", "rm x", "command")];
    bench.fake.world().tasks.push(two);
    assert!(shows(&bench.say("/task 8 resume yes", 10).await[0]).contains("Which question"), "a permission is named");
    assert_eq!(bench.say("/task 8 resume", 10).await.len(), 2, "its card and what it asks");
    assert_eq!(bench.fake.effects().len(), 1);
    bench.say("/task 8 resume --question q2 yes", 11).await;
    assert!(bench.fake.effects()[1].ends_with(": allow"));
}
