use octo::command::{Listing, NoticeItem};
use octo::task::{
    ALLOW, ALLOW_FOR_TASK, Action, Answer, Closed, DENY, Notice, NoticeKind, PERMISSION, Question, Step, Stop,
};
use proptest::prelude::*;
use serde_json::Map;

use super::*;
use crate::telegram::gate::tests::{ANN, BOT};
use crate::telegram::seal::DATA_MAX;
use crate::telegram::text::tests::balanced;

/// "Now" in these tests: 20 November 2025, 10:00 UTC.
pub(crate) const NOW: i64 = 1_763_632_800_000;

pub(crate) fn seal() -> Seal {
    Seal::new([7; 32], BOT)
}

/// A task with this number that stands there; it began 123 s ago and ended, where it did, 60 s ago.
pub(crate) fn a_task(number: u64, status: Status) -> Task {
    let at = |s: i64| Stamp::from_millis(NOW - s * 1000);
    let mut task = Task::new(format!("c4b1e{number:03}").parse().unwrap(), number, at(130));
    task.command = format!("make -C /srv/project{number} test && echo <done>");
    if status == Status::Dispatched {
        return task;
    }
    task.take(Step::Run, &at(123)).unwrap();
    task.started_at = at(123);
    match status {
        Status::Paused => {
            task.take(Step::Pause, &at(50)).unwrap();
            task.paused_reason = "question".to_owned();
            task.questions.push(question("q1", "Also refactor the helpers?", &["yes", "no"]));
        }
        ended if ended.is_ended() => task.take(Step::End(ended), &at(60)).unwrap(),
        _ => {}
    }
    if status == Status::Failed {
        task.exit_code = Some(2);
        task.error = "exit code 2".to_owned();
        task.result = "compiling\n\x1b[31merror\x1b[0m: missing ; in <x>\n".to_owned();
    }
    task
}

pub(crate) fn question(id: &str, text: &str, choices: &[&str]) -> Question {
    Question {
        id: id.to_owned(),
        text: text.to_owned(),
        choices: choices.iter().map(|c| (*c).to_owned()).collect(),
        asked_at: Stamp::from_millis(NOW - 50_000),
        kind: "question".to_owned(),
        open: true,
        ..Question::default()
    }
}

pub(crate) fn permission(id: &str, what: &str, format: &str) -> Question {
    let action = Action {
        tool: "Bash".to_owned(),
        folder: "/srv/project9".to_owned(),
        what: what.to_owned(),
        format: format.to_owned(),
        digest: "d".repeat(64),
        extra: Map::new(),
    };
    let kind = PERMISSION.to_owned();
    Question { kind, action: Some(action), ..question(id, "", &[ALLOW, ALLOW_FOR_TASK, DENY]) }
}

/// Closes a task's first question with this answer.
pub(crate) fn answered(mut task: Task, by: &str, text: &str) -> Task {
    let first = &mut task.questions[0];
    (first.open, first.closed) = (false, Some(Closed::Answered));
    let question = first.id.clone();
    let at = Stamp::from_millis(NOW - 3_000);
    task.answers.push(Answer { question, text: text.to_owned(), by: by.to_owned(), at, ..Answer::default() });
    task
}

pub(crate) fn item(task: Task, kind: NoticeKind) -> NoticeItem {
    let question = task.questions.first().map(|q| q.id.clone()).unwrap_or_default();
    let at = Stamp::from_millis(NOW - 60_000);
    let text = String::new();
    let notice =
        Notice { rev: task.rev, seq: task.number, kind, at, question, text, to: BTreeMap::new(), extra: Map::new() };
    NoticeItem { notice, task }
}

/// Draws for Ann, who reads in Berlin's time, one hour ahead.
fn draw(what: impl FnOnce(&Face) -> Card) -> Card {
    let (seal, mask) = (seal(), Mask::new(["hunter2-hunter2"]));
    let tz = TimeZone::get("Europe/Berlin").unwrap();
    let names = BTreeMap::from([(ANN, "Ann".to_owned()), (5, "@evil t.me/x".to_owned())]);
    what(&Face { seal: &seal, chat: ANN, user: ANN, tz: &tz, now: NOW, names: &names, mask: &mask })
}

/// The card as a person sees it: the HTML, then a row of buttons a line.
fn shown(card: &Card) -> String {
    let row = |row: &Vec<Key>| row.iter().map(|k| format!("[{}]", k.text)).collect::<Vec<_>>().join(" ");
    let keys: Vec<String> = card.keys.iter().map(row).collect();
    format!("{}\n{}", card.html, keys.join("\n"))
}

fn sound(card: &Card) {
    assert!(units(&seen(&card.html)) <= MESSAGE_MAX, "{}", units(&seen(&card.html)));
    assert!(balanced(&card.html), "{}", card.html);
    assert!(!seen(&card.html).trim().is_empty());
    for key in card.keys.iter().flatten() {
        assert!(key.data.len() <= DATA_MAX && !key.text.trim().is_empty(), "{key:?}");
        assert!(seal().open(ANN, ANN, &key.data).is_some());
    }
    assert!(card.keys.iter().flatten().count() <= 100);
}

#[test]
fn a_task_in_each_state() {
    let mut running = a_task(3, Status::Running);
    running.name = "build".to_owned();
    (running.usage.input_tokens, running.usage.output_tokens) = (12_000, 345);
    running.usage.cost_usd = Some(0.0213);
    running.run = 2;
    let mut stopping = a_task(4, Status::Running);
    let at = Stamp::from_millis(NOW);
    stopping.stop = Some(Stop { by: "repl".into(), at, reason: "cancel".into(), extra: Map::new() });
    let mut launch = a_task(5, Status::Failed);
    (launch.exit_code, launch.error) = (None, "launch: no such folder: /srv/<x> http://evil.example".to_owned());
    let mut asking = a_task(9, Status::Paused);
    asking.questions.push(permission("q2", "rm -rf build", "command"));
    let mut cancelled = a_task(6, Status::Cancelled);
    cancelled.error = "cancelled by telegram:4711".to_owned();
    let cards = [
        draw(|f| task(&running, Some("one\ntwo\n\n"), f)),
        draw(|f| task(&stopping, None, f)),
        draw(|f| task(&a_task(12, Status::Failed), Some("not shown"), f)),
        draw(|f| task(&launch, None, f)),
        draw(|f| task(&asking, None, f)),
        draw(|f| task(&a_task(13, Status::Dispatched), None, f)),
        draw(|f| task(&cancelled, None, f)),
    ];
    cards.iter().for_each(sound);
    insta::assert_snapshot!(cards.map(|c| shown(&c)).join("\n--\n"), @r##"
    ▶ <b>#3 c4b1e003</b> running, 2m 3s so far at 11:00
    <code>build</code>
    <code>make -C /srv/project3 test &amp;&amp; echo &lt;done&gt;</code>
    12,345 tokens · $0.02 · run 2
    <pre>one
    two</pre>
    [Cancel] [Logs]
    --
    ▶ <b>#4 c4b1e004</b> running (stopping), 2m 3s so far at 11:00
    <code>make -C /srv/project4 test &amp;&amp; echo &lt;done&gt;</code>
    REPL asked to stop it at 11:00
    [Logs]
    --
    ✗ <b>#12 c4b1e012</b> failed (exit 2) after 1m 3s
    <code>make -C /srv/project12 test &amp;&amp; echo &lt;done&gt;</code>
    <pre>compiling
    error: missing ; in &lt;x&gt;</pre>
    [Retry] [Logs]
    --
    ✗ <b>#5 c4b1e005</b> failed (launch) after 1m 3s
    <code>make -C /srv/project5 test &amp;&amp; echo &lt;done&gt;</code>
    <pre>compiling
    error: missing ; in &lt;x&gt;</pre>
    error: <code>launch: no such folder: /srv/&lt;x&gt; http://evil.example</code>
    [Retry] [Logs]
    --
    ? <b>#9 c4b1e009</b> paused (question), 2m 3s so far at 11:00
    <code>make -C /srv/project9 test &amp;&amp; echo &lt;done&gt;</code>
    ? asks: <code>Also refactor the helpers?</code>
    ? asks for permission: <code>Bash</code>
    [Cancel] [Logs]
    --
    … <b>#13 c4b1e013</b> dispatched
    <code>make -C /srv/project13 test &amp;&amp; echo &lt;done&gt;</code>
    [Cancel] [Logs]
    --
    ✗ <b>#6 c4b1e006</b> cancelled after 1m 3s
    <code>make -C /srv/project6 test &amp;&amp; echo &lt;done&gt;</code>
    cancelled by Telegram (Ann)
    [Retry] [Logs]
    "##);
}

#[test]
fn questions_and_permissions() {
    let mut asking = a_task(9, Status::Paused);
    asking.questions.push(question("q2", "What next? @all /kill", &[]));
    asking.questions[1].deadline = Stamp::from_millis(NOW + 24 * 3600 * 1000);
    asking.questions.push(question("q3", "Which one?", &["the first of them, which is long", "short", "x", "y"]));
    asking.questions[2].free = true;
    let mut wants = permission("q4", "--- a\n+++ b\n-old <x>\n+new", "diff");
    wants.text = "I need this to finish".to_owned();
    asking.questions.push(wants);
    let cards: Vec<Card> = asking.questions.iter().map(|q| draw(|f| asks(&asking, q, q.id == "q3", f))).collect();
    cards.iter().for_each(sound);
    insta::assert_snapshot!(cards.iter().map(shown).collect::<Vec<_>>().join("\n--\n"), @r##"
    ? <b>#9 c4b1e009</b> asks, in its own words:
    <pre>Also refactor the helpers?</pre>
    from <code>make -C /srv/project9 test &amp;&amp; echo &lt;done&gt;</code>
    3 more questions of this task are open.
    [yes] [no]
    [Task]
    --
    ? <b>#9 c4b1e009</b> asks, in its own words:
    <pre>What next? @all /kill</pre>
    from <code>make -C /srv/project9 test &amp;&amp; echo &lt;done&gt;</code>
    Reply to this message to answer. It waits until 21 Nov 11:00.
    3 more questions of this task are open.
    [Task]
    --
    ? <b>#9 c4b1e009</b> still asks, in its own words:
    <pre>Which one?</pre>
    from <code>make -C /srv/project9 test &amp;&amp; echo &lt;done&gt;</code>
    Tap, or reply to this message with words of your own.
    3 more questions of this task are open.
    [the first of them, which is long]
    [short]
    [x]
    [y]
    [Task]
    --
    ? <b>#9 c4b1e009</b> asks for permission
    <code>make -C /srv/project9 test &amp;&amp; echo &lt;done&gt;</code>
    <code>Bash</code> in <code>/srv/project9</code>:
    <pre><code class="language-diff">--- a
    +++ b
    -old &lt;x&gt;
    +new</code></pre>
    The task says:
    <pre>I need this to finish</pre>
    “Allow for this task” also allows every later use of <code>Bash</code> by this task, whatever it does, unasked.
    3 more questions of this task are open.
    [Allow] [Deny]
    [Allow for this task]
    [Task]
    "##);
}

#[test]
fn closed_questions_say_by_whom_and_have_no_buttons() {
    let one = |by: &str| answered(a_task(9, Status::Paused), by, "yes");
    let mut unanswered = a_task(9, Status::Paused);
    (unanswered.questions[0].open, unanswered.questions[0].closed) = (false, Some(Closed::NoAnswer));
    let mut ended = unanswered.clone();
    ended.questions[0].closed = Some(Closed::TaskEnded);
    let mut allowed = a_task(9, Status::Paused);
    allowed.questions[0] = permission("q1", "rm -rf build", "command");
    let allowed = answered(allowed, "cli", "allow");
    let cards: Vec<Card> =
        [&one("repl"), &one("telegram:4711"), &one("telegram:5"), &one("telegram:6"), &unanswered, &ended, &allowed]
            .map(|t| draw(|f| asks(t, &t.questions[0], false, f)))
            .into();
    cards.iter().for_each(sound);
    assert!(cards.iter().all(|c| c.keys.is_empty()));
    insta::assert_snapshot!(cards.iter().map(shown).collect::<Vec<_>>().join("--\n"), @r##"
    ✓ <b>#9 c4b1e009</b> asked
    <pre>Also refactor the helpers?</pre>
    answered by REPL at 10:59: <code>yes</code>
    --
    ✓ <b>#9 c4b1e009</b> asked
    <pre>Also refactor the helpers?</pre>
    answered by Telegram (Ann) at 10:59: <code>yes</code>
    --
    ✓ <b>#9 c4b1e009</b> asked
    <pre>Also refactor the helpers?</pre>
    answered by Telegram ( evil t me x) at 10:59: <code>yes</code>
    --
    ✓ <b>#9 c4b1e009</b> asked
    <pre>Also refactor the helpers?</pre>
    answered by Telegram (6) at 10:59: <code>yes</code>
    --
    ✗ <b>#9 c4b1e009</b> asked
    <pre>Also refactor the helpers?</pre>
    no answer in time
    --
    ✗ <b>#9 c4b1e009</b> asked
    <pre>Also refactor the helpers?</pre>
    task ended
    --
    ✓ <b>#9 c4b1e009</b> asked for permission
    <code>Bash</code>:
    <pre>rm -rf build</pre>
    answered by the command line at 10:59: <code>allow</code>
    "##);
}

#[test]
fn times_of_other_days_carry_their_date() {
    let mut task = answered(a_task(9, Status::Paused), "repl", "yes");
    task.answers[0].at = Stamp::from_millis(NOW - 24 * 3600 * 1000);
    draw(|f| {
        assert_eq!(closed_words(&task, &task.questions[0], f), "answered by REPL at 19 Nov 11:00: yes");
        Card::default()
    });
}

#[test]
fn an_action_that_is_not_shown_whole_says_so() {
    let mut task = a_task(9, Status::Paused);
    task.questions[0] = permission("q1", &"echo x\n".repeat(1000), "command");
    let card = draw(|f| asks(&task, &task.questions[0], false, f));
    sound(&card);
    assert!(card.html.contains("more characters are not shown here"), "{}", card.html);
    assert_eq!(card.keys.last().unwrap()[0].text, "Show all");
    task.questions[0] = permission("q1", "rm\u{202e} -rf\u{200b} x", "command");
    let card = draw(|f| asks(&task, &task.questions[0], false, f));
    assert!(card.html.contains("<pre>rm -rf x</pre>") && card.html.contains("not shown"), "{}", card.html);
    assert_eq!(card.keys.last().unwrap()[0].text, "Task");
    task.questions[0] = permission("q1", "curl -H hunter2-hunter2", "command");
    assert!(draw(|f| asks(&task, &task.questions[0], false, f)).html.contains("<pre>curl -H •••</pre>"));
}

#[test]
fn many_and_empty_choices_still_have_buttons_and_are_listed() {
    let mut task = a_task(9, Status::Paused);
    let choices: Vec<String> = (0..150).map(|n| format!("choice number {n}")).collect();
    task.questions[0].choices = choices;
    let card = draw(|f| asks(&task, &task.questions[0], false, f));
    sound(&card);
    assert!(card.html.contains("\n… 90 more</pre>") && card.html.contains("number of a choice"), "{}", card.html);
    task.questions[0].choices = vec!["\x1b[2J".to_owned(), "\u{200b}".to_owned()];
    let card = draw(|f| asks(&task, &task.questions[0], false, f));
    assert_eq!(shown(&card).lines().rev().nth(1), Some("[1] [2]"));
}

#[test]
fn lists_digests_and_recaps() {
    let listing = Listing {
        active: vec![a_task(12, Status::Running), a_task(9, Status::Paused)],
        history: vec![a_task(11, Status::Completed), a_task(10, Status::Failed)],
        next: None,
        total: 1200,
    };
    let ends: Vec<NoticeItem> = (1..=37).map(|n| item(a_task(n, Status::Completed), NoticeKind::Completed)).collect();
    let mut some = vec![item(a_task(40, Status::Failed), NoticeKind::Failed)];
    some.push(item(a_task(41, Status::Running), NoticeKind::Interrupted));
    let cards = [
        draw(|f| super::listing(&listing, None, f)),
        draw(|f| super::listing(&Listing::default(), Some(Status::Paused), f)),
        draw(|f| digest("While it was quiet:", &[NoticeKind::Failed, NoticeKind::Interrupted], &some, 0, f)),
        draw(|f| recap(&some, &listing.active, f)),
        draw(|f| recap(&[], &[], f)),
    ];
    cards.iter().for_each(sound);
    insta::assert_snapshot!(cards.map(|c| shown(&c)).join("\n--\n"), @r##"
    ▶ <b>#12 c4b1e012</b> running 2m 3s
    <code>make -C /srv/project12 test &amp;&amp; echo &lt;done&gt;</code> /task_12
    ? <b>#9 c4b1e009</b> paused (question) 2m 3s
    <code>make -C /srv/project9 test &amp;&amp; echo &lt;done&gt;</code> /task_9
    ✓ <b>#11 c4b1e011</b> completed 1m 3s
    <code>make -C /srv/project11 test &amp;&amp; echo &lt;done&gt;</code> /task_11
    ✗ <b>#10 c4b1e010</b> failed (exit 2) 1m 3s
    <code>make -C /srv/project10 test &amp;&amp; echo &lt;done&gt;</code> /task_10
    … 1198 more: /tasks STATUS narrows it down

    --
    There is no task that is paused.

    --
    <b>While it was quiet:</b>
    1 failed, 1 interrupted
    ✗ <b>#40 c4b1e040</b> failed (exit 2) after 1m 3s at 10:59
    <code>make -C /srv/project40 test &amp;&amp; echo &lt;done&gt;</code> /task_40
    ! <b>#41 c4b1e041</b> interrupted at 10:59
    <code>make -C /srv/project41 test &amp;&amp; echo &lt;done&gt;</code> /task_41

    --
    <b>Lately:</b>
    ✗ <b>#40 c4b1e040</b> failed (exit 2) after 1m 3s at 10:59
    <code>make -C /srv/project40 test &amp;&amp; echo &lt;done&gt;</code> /task_40
    ! <b>#41 c4b1e041</b> interrupted at 10:59
    <code>make -C /srv/project41 test &amp;&amp; echo &lt;done&gt;</code> /task_41
    2 active tasks: /tasks
    1 open question
    [Again]
    --
    Nothing has happened yet.
    Nothing runs or waits.
    [Again]
    "##);
    let long = draw(|f| digest("Lately:", &[NoticeKind::Completed; 37], &ends, 100, f));
    sound(&long);
    assert!(long.html.contains("37 completed, 100 before these") && !long.html.contains("c4b1e022"), "{}", long.html);
}

#[test]
fn commands_are_shown_whole_before_they_run() {
    insta::assert_snapshot!(shown(&draw(|f| run_this("Run this in the workspace folder?", "rm -rf <x> && echo @all", 7, "It is two hours old.", f))), @r##"
    Run this in the workspace folder?
    <pre>rm -rf &lt;x&gt; &amp;&amp; echo @all</pre>
    It is two hours old.
    [Run] [Drop]
    "##);
    let hidden = draw(|f| run_this("Run this?", "echo \u{202e}x", 7, "", f));
    assert!(hidden.html.contains("characters that are not shown"), "{}", hidden.html);
    let long = draw(|f| run_this("Run this?", &"x".repeat(4000), 7, "", f));
    assert!(long.html.contains("1,000 more characters"));
    sound(&long);
}

/// Texts that are rich in what could break out.
fn evil() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "</pre><b>",
            "&lt;",
            "\x1b[31m",
            "@all",
            "/bg rm",
            "\u{202e}",
            "😀",
            "\n",
            "<a href=\"http://x.y\">",
            "&",
            "t.me/x",
        ])
        .prop_map(str::to_owned),
        "[ -~\n]{0,200}",
        any::<String>(),
    ]
    .prop_flat_map(|text| (1usize..60).prop_map(move |n| text.repeat(n)))
}

/// What is seen outside of `<code>` and `<pre>`.
fn outside_code(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = [rest.find("<code"), rest.find("<pre>")].into_iter().flatten().min() {
        out.push_str(&rest[..at]);
        let end = if rest[at..].starts_with("<pre>") { "</pre>" } else { "</code>" };
        rest = rest[at..].find(end).map_or("", |to| &rest[at + to + end.len()..]);
    }
    seen(&(out + rest))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn no_word_of_a_task_breaks_out_of_its_card(a in evil(), b in evil(), paused in any::<bool>(), free in any::<bool>()) {
        let mut it = a_task(9, if paused { Status::Paused } else { Status::Failed });
        for field in [&mut it.name, &mut it.command, &mut it.result, &mut it.error, &mut it.paused_reason] {
            a.clone_into(field);
        }
        it.exit_code = None;
        it.questions = vec![question("q1", &a, &[&b, &a]), permission("q2", &a, "diff"), permission("q3", &b, &a)];
        it.questions[0].free = free;
        if let Some(action) = &mut it.questions[2].action {
            (action.tool, action.folder) = (a.clone(), b.clone());
        }
        it.questions[2].text.clone_from(&b);
        let mut cards = vec![draw(|f| task(&it, Some(&b), f)), draw(|f| run_this("Run this?", &a, 1, "", f))];
        cards.extend(it.questions.iter().map(|q| draw(|f| asks(&it, q, free, f))));
        cards.extend(it.questions.iter().map(|q| draw(|f| still_asks(&it, q, f))));
        let closed = answered(it.clone(), &b, &b);
        cards.push(draw(|f| asks(&closed, &closed.questions[0], false, f)));
        let listing = Listing { active: vec![it.clone(); 9], history: vec![], next: None, total: 0 };
        cards.push(draw(|f| super::listing(&listing, None, f)));
        let notices = vec![item(it.clone(), NoticeKind::Failed); 9];
        cards.push(draw(|f| digest("Lately:", &[NoticeKind::Question; 9], &notices, 0, f)));
        for card in &cards {
            sound(card);
            let outside = outside_code(&card.html);
            for bad in ["@all", "/bg", "t.me", "http://"] {
                prop_assert!(!outside.contains(bad), "{outside}");
            }
            prop_assert_eq!(octo::render::sanitize::text(&seen(&card.html)), seen(&card.html));
        }
    }
}
