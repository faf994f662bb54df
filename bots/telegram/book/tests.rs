use serde_json::json;

use super::*;

const NOW: i64 = 1_763_632_800_000;

fn id(n: usize) -> TaskId {
    format!("a{n:07x}").parse().unwrap()
}

#[test]
fn a_book_is_read_as_it_was_written_and_keeps_what_it_does_not_know() {
    let mut book = Book::default();
    book.pair(4711, "Ann", NOW);
    book.set_card(id(1), 4711, 5, false);
    book.set_asked(4711, 6, id(1), "q1");
    book.set_pending(7, "tg:9:7", 4711, "make", Work::Command, NOW);
    book.set_unreachable(4712, "blocked", NOW);
    book.hold(id(1), 3, NoticeKind::Completed);
    book.set_intent("tg:9:8", 2);
    book.newest_update = Some(8);
    book.polled_at = Stamp::from_millis(NOW);
    assert_eq!(Book::read(&book.bytes()).unwrap(), book);

    let mut value: Value = serde_json::from_slice(&book.bytes()).unwrap();
    value["newer"] = json!({"x": [1]});
    for list in ["users", "cards", "asked", "pending", "unreachable", "held", "intents"] {
        value[list][0]["newer"] = json!("y");
    }
    let mut read = Book::read(value.to_string().as_bytes()).unwrap();
    read.learn_name(4712, "Bob");
    value["names"]["4712"] = json!("Bob");
    assert_eq!(serde_json::from_slice::<Value>(&read.bytes()).unwrap(), value);
}

#[test]
fn an_old_or_empty_book_is_read_and_a_damaged_one_is_said_to_be() {
    assert_eq!(Book::read(b"{}").unwrap(), Book::default());
    for bad in [&b""[..], b"[1]", b"{\"cards\": 5}", b"\xff\xfe", b"{\"users\": [{\"name\": \"x\"}]}", &[0; 100]] {
        assert!(Book::read(bad).is_err());
    }
}

#[test]
fn one_card_for_a_task_and_chat() {
    let mut book = Book::default();
    assert_eq!(book.set_card(id(1), 1, 5, false), None);
    assert_eq!(book.set_card(id(1), 2, 6, false), None);
    assert_eq!(book.set_card(id(1), 1, 5, true), None, "the same message");
    assert_eq!(book.set_card(id(1), 1, 9, true), Some(5));
    assert_eq!((book.task_of(1, 5), book.task_of(1, 9), book.task_of(2, 9)), (None, Some(id(1)), None));
    assert_eq!(book.card(id(1), 2).unwrap().message, 6);
    book.forget_card(1, 9);
    assert_eq!(book.card(id(1), 1), None);
}

#[test]
fn the_oldest_cards_of_ended_tasks_go_first() {
    let mut book = Book::default();
    book.set_card(id(0), 1, 1, false);
    for n in 1..=ENDED_CARDS_MAX + 10 {
        book.set_card(id(n), 1, i32::try_from(n).unwrap() + 1, true);
    }
    assert!(book.card(id(0), 1).is_some(), "a task that has not ended keeps its card");
    assert!(book.card(id(10), 1).is_none() && book.card(id(11), 1).is_some());
    for n in 1..=CARDS_MAX + 10 {
        book.set_card(id(10_000 + n), 1, 1, false);
    }
    assert_eq!(book.cards.len(), CARDS_MAX);
}

#[test]
fn messages_and_their_questions_are_bounded() {
    let mut book = Book::default();
    for n in 0..ASKED_MAX + 5 {
        book.set_asked(1, i32::try_from(n).unwrap(), id(n / 2), "q1");
    }
    assert_eq!((book.asked(1, 4), book.asked(1, 5)), (None, Some((id(2), "q1".to_owned()))));
    assert_eq!(book.messages_of(id(3), "q1"), [(1, 6), (1, 7)]);
    assert_eq!(book.messages_of(id(3), "q2"), []);
    book.set_asked(1, 6, id(9), "q2");
    assert_eq!(book.asked(1, 6), Some((id(9), "q2".to_owned())));
}

#[test]
fn commands_wait_a_day_for_their_own_user() {
    let mut book = Book::default();
    book.set_pending(7, "k7", 4711, "make", Work::Command, NOW);
    book.set_pending(7, "k7", 4711, "other", Work::Command, NOW + 5);
    assert_eq!(book.pending.len(), 1);
    assert_eq!(book.pending(7, 4711, NOW).unwrap().command, "make");
    assert!(book.pending(7, 4712, NOW).is_none() && book.pending(8, 4711, NOW).is_none());
    assert!(book.pending(7, 4711, NOW + PENDING_LIFE).is_none());
    for n in 0..300 {
        book.set_pending(n, &format!("n{n}"), 4711, "x", Work::Command, NOW + PENDING_LIFE + 1);
    }
    assert_eq!(book.pending.len(), PENDING_MAX);
    assert!(book.pending.iter().all(|p| p.key != "k7"));
}

#[test]
fn chats_notices_and_intents() {
    let mut book = Book::default();
    book.set_unreachable(1, "blocked", NOW);
    book.set_unreachable(1, "gone", NOW + 9);
    assert_eq!(book.unreachable()[0].why, "blocked");
    assert!(book.set_reachable(1) && !book.set_reachable(1));
    for n in 0..HELD_MAX as u64 + 3 {
        book.hold(id(1), n, NoticeKind::Failed);
        book.hold(id(1), n, NoticeKind::Failed);
    }
    assert_eq!((book.held().0.len(), book.held().1, book.held().0[0].seq), (HELD_MAX, 3, 3));
    book.forget_held();
    assert_eq!((book.held().0.len(), book.held().1), (0, 0));
    book.set_intent("a", 1);
    book.set_intent("b", 2);
    book.set_intent("a", 3);
    assert_eq!((book.intent("a"), book.intent("b"), book.intent("c")), (Some(3), Some(2), None));
    for n in 0..1000 {
        book.learn_name(n, "x");
        book.set_intent(&n.to_string(), 1);
    }
    assert_eq!((book.names.len(), book.intents.len()), (NAMES_MAX, INTENTS_MAX));
}
