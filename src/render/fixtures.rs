//! Records for the tests of rendering.

use crate::task::{
    ALLOW, ALLOW_FOR_TASK, Action, DENY, Kind, Notice, NoticeKind, PERMISSION, Question, Stamp, Status, Step, Task,
    TaskId,
};

/// "Now" in these tests.
pub(crate) const NOW: i64 = 1_763_632_800_000;

/// A task with this number that stands there; it began 123 s ago and ended, where it did, 60 s ago.
pub(crate) fn task(number: u64, status: Status) -> Task {
    let at = |s: i64| Stamp::from_millis(NOW - s * 1000);
    let id: TaskId = format!("c4b1e{number:03}").parse().unwrap();
    let mut task = Task::new(id, number, at(130));
    task.command = format!("make -C /srv/project{number} test && echo done");
    task.cwd = "/srv".to_owned();
    if status == Status::Dispatched {
        return task;
    }
    task.take(Step::Run, &at(123)).unwrap();
    task.started_at = at(123);
    match status {
        Status::Paused => {
            task.take(Step::Pause, &at(50)).unwrap();
            task.paused_reason = "question".to_owned();
            task.paused_question = "Also refactor the helpers?".to_owned();
            task.questions.push(Question {
                id: "q1".to_owned(),
                text: task.paused_question.clone(),
                choices: vec!["yes".to_owned(), "no".to_owned()],
                asked_at: at(50),
                kind: "question".to_owned(),
                open: true,
                ..Question::default()
            });
        }
        ended if ended.is_ended() => task.take(Step::End(ended), &at(60)).unwrap(),
        _ => {}
    }
    if status == Status::Completed {
        task.exit_code = Some(0);
        task.result = "ok\n".to_owned();
    }
    if status == Status::Failed {
        task.exit_code = Some(2);
        task.error = "exit code 2".to_owned();
        task.result = "compiling\nerror: missing semicolon\n".to_owned();
    }
    debug_assert_eq!(task.kind, Kind::Process);
    task
}

/// A task that wants its owner's permission for this.
pub(crate) fn permission(number: u64, format: &str, what: &str) -> Task {
    let mut task = task(number, Status::Paused);
    task.paused_reason = PERMISSION.to_owned();
    let question = &mut task.questions[0];
    question.kind = PERMISSION.to_owned();
    question.text.clear();
    question.choices = [ALLOW, ALLOW_FOR_TASK, DENY].map(str::to_owned).into();
    question.by = "claude".to_owned();
    question.action = Some(Action {
        tool: if format == "diff" { "Edit" } else { "Bash" }.to_owned(),
        folder: "/srv/work".to_owned(),
        what: what.to_owned(),
        format: format.to_owned(),
        digest: "d1ge57".to_owned(),
        ..Action::default()
    });
    task
}

/// The notice of a task's end or question.
pub(crate) fn notice_of(task: &Task) -> Notice {
    Notice {
        rev: task.rev,
        seq: task.number,
        kind: NoticeKind::of_end(task.status).unwrap_or(NoticeKind::Question),
        at: Stamp::from_millis(NOW - 60_000),
        question: String::new(),
        text: String::new(),
        to: std::collections::BTreeMap::new(),
        extra: serde_json::Map::new(),
    }
}
