use octo::task::{Closed, Stamp, Status};

use super::*;
use crate::telegram::card::tests::{NOW, a_task, answered, item, permission, question, seal};
use crate::telegram::gate::tests::ANN;
use crate::telegram::post::Posted;
use crate::telegram::text::seen;

const BOB: i64 = 4712;

/// Quiet from 9 to 11 in UTC: now, at 10.
const NOW_QUIET: QuietHours = QuietHours { from: 9 * 60, until: 11 * 60 };

struct World {
    seal: Seal,
    mask: Mask,
    book: Book,
    quiet: Option<QuietHours>,
}

impl World {
    fn new() -> Self {
        World { seal: seal(), mask: Mask::default(), book: Book::default(), quiet: None }
    }

    fn with<T>(&self, what: impl FnOnce(&Teller, &Book) -> T) -> T {
        let (seal, mask, quiet) = (&self.seal, &self.mask, self.quiet);
        what(&Teller { chats: &[ANN, BOB], seal, mask, tz: &TimeZone::UTC, quiet, now: NOW }, &self.book)
    }

    fn tell(&self, item: &NoticeItem) -> Telling {
        self.with(|teller, book| teller.tell(item, Load::default(), book))
    }

    /// Tells it, does it, and returns what is shown: `+` a new message, `=` an edit, `-` a deletion.
    fn done(&mut self, item: &NoticeItem, first: i32) -> Vec<String> {
        let Telling::Now(errands) = self.tell(item) else { panic!("held") };
        let mut shown = Vec::new();
        for (n, errand) in (first..).zip(&errands) {
            let (posted, text) = match &errand.post {
                Post::Message { html, reply_to, silent, .. } => {
                    let below = reply_to.map(|m| format!(" below {m}")).unwrap_or_default();
                    let silent = if *silent { " silently" } else { "" };
                    (Posted::Sent(n), format!("+{n}{below}{silent} {}", seen(html).lines().next().unwrap()))
                }
                Post::Edit { message, html, keys, .. } => {
                    let last = seen(html).lines().last().unwrap().to_owned();
                    (Posted::Done, format!("={message} ({} rows) {last}", keys.len()))
                }
                other => panic!("{other:?}"),
            };
            shown.push(text);
            shown.extend(errand.done(&posted, &mut self.book).map(|post| match post {
                Post::Delete { message, .. } => format!("-{message}"),
                other => panic!("{other:?}"),
            }));
        }
        shown
    }
}

#[test]
fn the_life_of_a_question_in_two_chats() {
    let mut world = World::new();
    let task = a_task(9, Status::Paused);
    world.book.set_card(task.id, ANN, 5, false);
    let asked = item(task.clone(), NoticeKind::Question);
    let name = "? #9 c4b1e009";
    let first = format!("{name} asks, in its own words:");
    assert_eq!(world.done(&asked, 10), [format!("+10 below 5 {first}"), format!("+11 {first}")]);
    assert_eq!(world.done(&asked, 12), [""; 0], "told twice after a crash, it is sent once");
    let reminder = item(task.clone(), NoticeKind::Reminder);
    let still = format!("{name} still asks: Also refactor the helpers?");
    assert_eq!(world.done(&reminder, 20), [format!("+20 below 10 {still}"), format!("+21 below 11 {still}")]);
    let mut task = answered(task, "repl", "yes");
    task.take(octo::task::Step::Run, &octo::task::Stamp::from_millis(NOW)).unwrap();
    let words = "answered by REPL at 09:59: yes";
    let closed = world.done(&item(task.clone(), NoticeKind::Closed), 30);
    let mut edits: Vec<String> = [10, 20, 11, 21].iter().map(|m| format!("={m} (0 rows) {words}")).collect();
    edits.insert(2, "=5 (1 rows) make -C /srv/project9 test && echo <done>".to_owned());
    assert_eq!(closed, edits);
    let late = item(task, NoticeKind::Question);
    assert_eq!(world.done(&late, 40), [""; 0], "a question that is closed is not asked any more");
}

#[test]
fn permissions_are_shown_whole_also_in_reminders() {
    let mut world = World::new();
    let mut task = a_task(9, Status::Paused);
    task.questions = vec![permission("q1", "rm -rf build", "command")];
    world.book.set_asked(ANN, 10, task.id, "q1");
    let Telling::Now(errands) = world.tell(&item(task, NoticeKind::Reminder)) else { panic!() };
    assert!(
        errands
            .iter()
            .all(|e| matches!(&e.post, Post::Message { html, .. } if html.contains("<pre>rm -rf build</pre>")))
    );
}

#[test]
fn an_end_draws_the_card_anew_and_a_stale_end_is_a_line() {
    let mut world = World::new();
    let task = a_task(3, Status::Failed);
    world.book.set_card(task.id, ANN, 5, false);
    let ended = item(task, NoticeKind::Failed);
    let head = "✗ #3 c4b1e003 failed (exit 2) after 1m 3s";
    assert_eq!(world.done(&ended, 10), [format!("+10 {head}"), "-5".to_owned(), format!("+11 {head}")]);
    let stale = item(a_task(3, Status::Running), NoticeKind::Failed);
    assert_eq!(world.done(&stale, 20), ["+20 Before its retry:", "+21 Before its retry:"]);
}

#[test]
fn quiet_hours_hold_ends_and_let_questions_through() {
    let mut world = World::new();
    world.quiet = Some(NOW_QUIET);
    for status in [Status::Completed, Status::Failed, Status::Interrupted] {
        let kind = NoticeKind::of_end(status).unwrap();
        assert_eq!(world.tell(&item(a_task(3, status), kind)), Telling::Hold(Vec::new()));
    }
    let asking = a_task(9, Status::Paused);
    assert!(world.done(&item(asking.clone(), NoticeKind::Question), 10)[0].starts_with("+10 ? #9"));
    assert!(world.done(&item(asking, NoticeKind::Reminder), 20)[0].starts_with("+20 below 10 silently"));
    world.book.hold(a_task(3, Status::Failed).id, 7, NoticeKind::Failed);
    assert_eq!(world.with(|t, book| t.digest(&[], book)), []);
    assert_eq!(world.with(|t, _| t.quiet_until()), Some(NOW + 3600 * 1000));
    world.quiet = Some(QuietHours { from: 60, until: 120 });
    let digest = world.with(|t, book| t.digest(&[item(a_task(3, Status::Failed), NoticeKind::Failed)], book));
    assert_eq!(digest.len(), 2, "one message for each chat");
    let Post::Message { html, .. } = &digest[0].post else { panic!() };
    assert!(seen(html).starts_with("While it was quiet:\n1 failed\n✗ #3"), "{html}");
}

#[test]
fn a_burst_becomes_one_message() {
    let mut world = World::new();
    let ends: Vec<NoticeItem> = (1..=100).map(|n| item(a_task(n, Status::Completed), NoticeKind::Completed)).collect();
    let load = Load::of(&Owed { notices: ends.clone(), total: 10_000 });
    assert_eq!(load, Load { many: true, many_questions: false });
    for end in &ends {
        assert_eq!(world.with(|t, book| t.tell(end, load, book)), Telling::Hold(Vec::new()));
        world.book.hold(end.task.id, end.notice.seq, end.notice.kind);
    }
    assert_eq!(Teller::wanted(&world.book).len(), DIGEST_ROWS);
    assert_eq!(Teller::wanted(&world.book).last().unwrap().0, ends[99].task.id);
    let digest = world.with(|t, book| t.digest(&ends[85..], book));
    assert!(
        matches!(&digest[0].post, Post::Message { html, .. } if html.contains("100 completed") && html.contains("/task_100"))
    );
    let questions: Vec<NoticeItem> = (1..=21).map(|n| item(a_task(n, Status::Paused), NoticeKind::Question)).collect();
    let load = Load::of(&Owed { total: 21, notices: questions.clone() });
    assert!(load.many_questions);
    assert_eq!(world.with(|t, book| t.tell(&questions[0], load, book)), Telling::Hold(Vec::new()));
    let few = Load::of(&Owed { total: 20, notices: questions[..20].to_vec() });
    assert_eq!(few, Load::default());
}

#[test]
fn a_question_nobody_answered_is_closed_too() {
    let mut world = World::new();
    let mut task = a_task(9, Status::Paused);
    (task.questions[0].open, task.questions[0].closed) = (false, Some(Closed::NoAnswer));
    world.book.set_asked(BOB, 10, task.id, "q1");
    assert_eq!(world.done(&item(task, NoticeKind::Closed), 20), ["=10 (0 rows) no answer in time"]);
}

#[test]
fn the_end_of_a_task_closes_its_open_questions_also_when_it_is_quiet() {
    let mut world = World::new();
    let mut task = a_task(3, Status::Failed);
    let mut open = question("q2", "Go on?", &[]);
    (open.open, open.closed, open.closed_at) = (false, Some(Closed::TaskEnded), task.completed_at.clone());
    let mut older = open.clone();
    (older.id, older.closed_at) = ("q1".to_owned(), Stamp::from_millis(NOW - 3_600_000));
    task.questions = vec![older, open];
    world.book.set_asked(ANN, 6, task.id, "q1");
    world.book.set_asked(ANN, 7, task.id, "q2");
    world.book.set_asked(BOB, 8, task.id, "q2");
    let ended = item(task, NoticeKind::Failed);
    let shown = world.done(&ended, 10);
    assert_eq!(shown[..2], ["=7 (0 rows) task ended", "=8 (0 rows) task ended"]);
    assert!(shown.len() == 4 && shown[2].starts_with("+12 ✗ #3"), "{shown:?}");
    world.quiet = Some(NOW_QUIET);
    let Telling::Hold(errands) = world.tell(&ended) else { panic!("told") };
    assert!(errands.len() == 2 && errands.iter().all(|e| matches!(e.post, Post::Edit { .. })));
}

#[test]
fn a_notice_is_found_by_its_number() {
    let mut task = a_task(3, Status::Failed);
    let notice = item(task.clone(), NoticeKind::Failed).notice;
    task.notices.push(notice.clone());
    assert_eq!(item_of(task.clone(), notice.seq).map(|i| i.notice), Some(notice));
    assert!(item_of(task, 99).is_none());
}
