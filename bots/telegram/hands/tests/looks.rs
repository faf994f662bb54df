//! What only tells, and the chat that it is told in.

use super::*;

#[tokio::test]
async fn logs_come_in_a_message_or_as_a_file() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed)]);
    assert_eq!(shows(&bench.say("/task 3 logs", 7).await[0]), "#3 c4b1e003 has printed nothing.");
    bench.fake.world().output = b"one\x1b[31m <two> hunter2-hunter2\n".to_vec();
    assert_eq!(shows(&bench.say("/task_3_logs", 7).await[0]), "Output of #3 c4b1e003:\none <two> •••");
    bench.fake.world().output = (1..=2000).flat_map(|n| format!("line {n} hunter2-hunter2\n").into_bytes()).collect();
    let tapped = bench.tap(&of_task(3, What::Logs), 8).await;
    let Post::Document { name, bytes, caption, .. } = &tapped[1].post else { panic!("{tapped:?}") };
    assert_eq!(name, "task-3-c4b1e003.txt");
    assert!(caption.contains("line 2000 •••") && !String::from_utf8_lossy(bytes).contains("hunter2"));
    assert!(bytes.starts_with(b"line 1 ") && bytes.ends_with(b"line 2000 \xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2\n"));
    bench.fake.world().output_from = 5;
    let cut = bench.tap(&of_task(3, What::Logs), 9).await;
    let Post::Document { bytes, caption, .. } = &cut[1].post else { panic!("{cut:?}") };
    assert!(caption.contains("(its end)") && bytes.starts_with(b"line 2 "), "the first line may be half of one");
}

#[tokio::test]
async fn what_only_tells_changes_nothing() {
    let mut task = a_task(9, Status::Paused);
    task.questions.push(permission("q2", &"x".repeat(5000), "command"));
    let bench = bench(TelegramRun::On, vec![task, a_task(3, Status::Failed)]);
    for (said, part) in [
        ("/tasks", "/task_9"),
        ("/bg list", "/task_3"),
        ("/tasks running", "There is no task that is running."),
        ("/task 9", "#9"),
        ("/status", "/srv/<work> •••"),
        ("/recap", "Lately"),
        ("/help", "/task ID resume"),
        ("/start", "This is Octo"),
        ("/quit", "nothing to leave"),
        ("/task 3 rm", "in the terminal"),
    ] {
        let told = bench.say(said, 7).await;
        assert!(shows(&told[0]).contains(part), "{said}: {told:?}");
    }
    assert!(!shows(&bench.say("/status", 7).await[0]).contains("SECRET_SETTING"));
    assert_eq!(bench.say("/task 9", 7).await.len(), 3, "its card and its questions");
    assert_eq!(bench.say("  ", 7).await, []);
    let whole = bench.tap(&of_task(9, What::Show("q2".to_owned())), 8).await;
    assert!(matches!(&whole[1].post, Post::Document { bytes, .. } if bytes.len() > 5000), "{whole:?}");
    let card = bench.tap(&of_task(9, What::Show("q1".to_owned())), 8).await;
    assert_eq!(card[1].note, Note::Card { task: id(9), ended: false });
    assert!(shows(&bench.tap(&Button::Recap, 8).await[1]).contains("Lately"));
    assert!(bench.fake.effects().is_empty());
}

#[tokio::test]
async fn one_card_for_a_task_stays_in_the_chat() {
    let bench = bench(TelegramRun::On, vec![a_task(3, Status::Failed)]);
    let first = bench.say("/task 3", 7).await;
    assert_eq!(bench.note(&first[0], 90), None);
    let second = bench.say("/task 3", 8).await;
    assert_eq!(bench.note(&second[0], 91), Some(Post::Delete { chat: ANN, message: 90 }));
}

#[tokio::test]
async fn blocked_chats_are_remembered_until_they_speak() {
    let bench = bench(TelegramRun::On, vec![]);
    bench.hear(Heard::Blocked(ANN), 1).await.unwrap();
    assert_eq!(bench.hands.book().unreachable().len(), 1);
    bench.hear(Heard::Back(ANN), 2).await.unwrap();
    assert_eq!(bench.hands.book().unreachable().len(), 0);
    bench.hear(Heard::Blocked(ANN), 3).await.unwrap();
    bench.say("/help", 4).await;
    assert_eq!(bench.hands.book().unreachable().len(), 0);
}
