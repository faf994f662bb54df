//! Thousands of forged updates through the gate and the hands: nothing happens, and nothing is told.

use octo::config::TelegramRun;
use octo::task::Status;
use serde_json::{Value, json};

use super::tests::{Bench, bench};
use super::*;
use crate::telegram::book::Work;
use crate::telegram::card::tests::{a_task, answered, permission, seal};
use crate::telegram::gate::Gate;
use crate::telegram::gate::tests::{ANN, BOT, bot, message, private, spoilers, tap, tap_spoilers, update, user, with};
use crate::telegram::seal::{Button, Seal, What};

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % n
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const COMMANDS: &[&str] = &[
    "/bg touch /tmp/owned",
    "/bg@octo_bot touch /tmp/owned",
    "/task 9 resume yes",
    "/task 9 resume --question q2 allow",
    "/task 4 cancel",
    "/bg kill 4",
    "/task 3 retry",
    "/bg clear",
    "/tasks",
    "/status",
    "/task 3 logs",
    "/help",
    "/start",
    "yes",
    "ABCD2345",
];

fn world() -> Bench {
    let mut paused = a_task(9, Status::Paused);
    paused.questions.push(permission("q2", "rm -rf /", "command"));
    let bench = bench(TelegramRun::On, vec![paused, a_task(3, Status::Failed), a_task(4, Status::Running)]);
    bench.hands.book().set_asked(ANN, 6, a_task(9, Status::Paused).id, "q1");
    bench.hands.book().set_pending(5, &bench.hands.key(5), ANN, "touch /tmp/owned", Work::Command, super::tests::now());
    bench
}

fn buttons() -> Vec<Button> {
    let of = |number, what| Button::Task(a_task(number, Status::Running).id, what);
    vec![
        of(9, What::Answer("q1".to_owned(), 0)),
        of(9, What::Answer("q2".to_owned(), 1)),
        of(9, What::Show("q2".to_owned())),
        of(4, What::Cancel(1)),
        of(3, What::Retry(1)),
        of(3, What::Logs),
        Button::Run(5),
        Button::Drop(5),
        Button::Recap,
    ]
}

fn sealed(button: &Button) -> String {
    seal().close(ANN, ANN, button).unwrap()
}

/// A recent message of Ann's that would do something: a command, or a reply to a question.
fn honest_message(dice: &mut Dice) -> Value {
    let said = with(message(COMMANDS[dice.below(COMMANDS.len())]), "/message/date", json!(super::tests::now() / 1000));
    if dice.below(3) > 0 {
        return said;
    }
    let data = sealed(&buttons()[0]);
    let keyboard = json!({"inline_keyboard": [[{"text": "yes", "callback_data": data}]]});
    let card = json!({"message_id": 6, "date": 1, "chat": private(ANN), "from": bot(), "text": "card", "reply_markup": keyboard});
    with(with(said, "/message/text", json!("yes")), "/message/reply_to_message", card)
}

/// One or more lies in an honest update.
fn spoiled(dice: &mut Dice, mut honest: Value, lies: &[(&'static str, Value)]) -> Value {
    for _ in 0..=dice.below(3) {
        let (path, value) = dice.pick(lies);
        // A lie may have taken away the place of another.
        if honest.pointer(path.rsplit_once('/').unwrap().0).is_some_and(Value::is_object) {
            honest = with(honest, path, value.clone());
        }
    }
    honest
}

/// An update of another kind that carries a message.
fn of_other_kind(dice: &mut Dice, honest: &Value) -> Value {
    let kinds = [
        "edited_message",
        "channel_post",
        "edited_channel_post",
        "business_message",
        "edited_business_message",
        "guest_message",
    ];
    json!({"update_id": 1, (*dice.pick(&kinds)): honest["message"]})
}

/// Somebody else in their own chat, under Ann's name, sometimes with the data of Ann's buttons.
fn stranger(dice: &mut Dice) -> Value {
    let id = *dice.pick(&[5i64, 4712, 4710, 47_110, 1_087_968_825]);
    let mut from = user(id);
    from["username"] = json!("ann");
    if dice.below(2) == 0 {
        let said = with(honest_message(dice), "/message/from", from);
        return with(said, "/message/chat", private(id));
    }
    let tapped = with(tap(&sealed(dice.pick(&buttons()))), "/callback_query/from", from);
    with(tapped, "/callback_query/message/chat", private(id))
}

/// Data that this daemon never gave Ann.
fn false_data(dice: &mut Dice) -> String {
    let button = dice.pick(&buttons()).clone();
    let whole = sealed(&button);
    match dice.below(7) {
        0 => seal().close(4712, 4712, &button).unwrap(),
        1 => seal().close(-100, ANN, &button).unwrap(),
        2 => Seal::new([8; 32], BOT).close(ANN, ANN, &button).unwrap(),
        3 => Seal::new([7; 32], BOT + 1).close(ANN, ANN, &button).unwrap(),
        4 => {
            let at = dice.below(whole.len());
            let other = if whole.as_bytes()[at] == b'0' { "1" } else { "0" };
            format!("{}{other}{}", &whole[..at], &whole[at + 1..])
        }
        5 => whole[..dice.below(whole.len())].to_owned(),
        _ => whole.replacen("1:c4b1e0", "1:c4b1e1", 1) + ["", ":", "A", "\n"][dice.below(4)],
    }
}

#[tokio::test]
async fn five_thousand_forged_updates_have_no_effect_and_no_answer() {
    let bench = world();
    let gate = Gate::new(BOT, [ANN]);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut strangers, mut toasts, mut sent, mut n) = (0, 0, 0, 0);
    while sent < 5_000 {
        n += 1;
        let data = sealed(dice.pick(&buttons()));
        let honest = honest_message(&mut dice);
        let forged = match n % 5 {
            0 => spoiled(&mut dice, honest, &spoilers()),
            1 => spoiled(&mut dice, tap(&data), &tap_spoilers()),
            2 => of_other_kind(&mut dice, &honest),
            3 => stranger(&mut dice),
            _ => match false_data(&mut dice) {
                // Without a lie in it after all.
                same if buttons().iter().any(|b| sealed(b) == same) => continue,
                data => tap(&data),
            },
        };
        sent += 1;
        let heard = gate.hear(&update(forged.clone()));
        strangers += u32::from(matches!(heard, Heard::Stranger { .. }));
        let errands = bench.hands.hear(heard, 1000 + n).await.unwrap();
        for errand in &errands {
            let bare = matches!(&errand.post, Post::Toast { text, .. } if text == "This button does not count here. /tasks lists the tasks.");
            assert!(bare && n % 5 == 4, "{forged}: {errand:?}");
            toasts += 1;
        }
    }
    let effects = bench.fake.world().effects.clone();
    assert_eq!(effects, Vec::<String>::new());
    assert!(bench.hands.book().talkers().is_empty(), "nobody else is heard by the agent");
    assert!(strangers > 300 && toasts > 900, "{strangers} {toasts}: the forgeries reach the gate and the seal");
    assert_eq!(bench.hands.book().unreachable().len(), 0);
}

/// Ann's own buttons, tapped again when all is over.
#[tokio::test]
async fn replayed_buttons_do_nothing() {
    let bench = world();
    {
        let mut world = bench.fake.world();
        let mut paused = answered(world.tasks.remove(0), "repl", "no");
        (paused.questions[1].open, paused.questions[1].closed) = (false, Some(octo::task::Closed::TaskEnded));
        paused.take(octo::task::Step::End(Status::Completed), &octo::task::Stamp::default()).unwrap();
        let mut again = a_task(3, Status::Running);
        again.run = 2;
        world.tasks = vec![paused, again, a_task(4, Status::Completed)];
    }
    bench.hands.book().pending(5, ANN, super::tests::now()).unwrap().dropped = true;
    let gate = Gate::new(BOT, [ANN]);
    let mut dice = Dice(7);
    for n in 0..500 {
        let button = dice.pick(&buttons()).clone();
        let heard = gate.hear(&update(tap(&sealed(&button))));
        let errands = bench.hands.hear(heard, 1000 + n).await.unwrap();
        assert!(matches!(errands[0].post, Post::Toast { .. }));
        let shows = matches!(&button, Button::Task(_, What::Logs | What::Show(_)));
        let new = errands.iter().any(|e| matches!(e.post, Post::Message { .. } | Post::Document { .. }));
        assert_eq!(new, shows, "{button:?}: {errands:?}");
    }
    assert_eq!(bench.fake.world().effects, Vec::<String>::new());
}

/// The same updates without the lies do have effects: the forged ones are not harmless by themselves.
#[tokio::test]
async fn honest_updates_have_effects() {
    let gate = Gate::new(BOT, [ANN]);
    let (mut dice, mut effects) = (Dice(7), 0);
    for n in 0..200 {
        let bench = world();
        let honest = if n % 2 == 0 { honest_message(&mut dice) } else { tap(&sealed(dice.pick(&buttons()))) };
        let errands = bench.hands.hear(gate.hear(&update(honest)), 1000 + n).await.unwrap();
        assert!(!errands.is_empty() || !bench.hands.book().talkers().is_empty());
        effects += bench.fake.world().effects.len();
    }
    assert!(effects > 80, "{effects}");
}
