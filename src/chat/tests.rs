//! The chat language, line by line.

use super::*;

fn id(s: &str) -> TaskRef {
    TaskRef(s.to_owned())
}

fn resumed(task: &str, question: Option<&str>, answer: &str) -> Ask {
    Ask::Resume { task: id(task), question: question.map(str::to_owned), answer: answer.to_owned() }
}

#[test]
fn lines_and_what_they_ask() {
    for (line, ask) in [
        ("", Ask::Nothing),
        ("   ", Ask::Nothing),
        ("/bg make  -j4 && echo 'a  b'", Ask::Start("make  -j4 && echo 'a  b'".into())),
        ("/bg -- -odd name", Ask::Start("-odd name".into())),
        ("/bg list", Ask::List(None)),
        ("/bg list files here", Ask::Start("list files here".into())),
        ("/bg clear", Ask::Clear),
        ("/bg kill 12", Ask::Cancel(id("12"))),
        ("/bg kill c4b1", Ask::Cancel(id("c4b1"))),
        ("/bg kill -9 4711", Ask::Start("kill -9 4711".into())),
        ("/bg kill %1", Ask::Start("kill %1".into())),
        ("/tasks", Ask::List(None)),
        ("/tasks failed", Ask::List(Some(Status::Failed))),
        ("/tasks pending", Ask::List(Some(Status::Dispatched))),
        ("/task 12", Ask::Show(id("12"))),
        ("/task #12 logs", Ask::Logs(id("12"))),
        ("/task c4b1e09a cancel", Ask::Cancel(id("c4b1e09a"))),
        ("/task 12 retry", Ask::Retry(id("12"))),
        ("/task 12 raise", Ask::Raise(id("12"), None)),
        ("/task #12 raise 1000", Ask::Raise(id("12"), Some(1000))),
        ("/task 12  followup  and  more ", Ask::FollowUp { task: id("12"), text: "and  more".into() }),
        ("/task 12 rm", Ask::Remove(id("12"))),
        ("/task 12 resume yes", resumed("12", None, "yes")),
        ("/task  #12  resume  two  words -x ", resumed("12", None, "two  words -x")),
        ("/task 12 resume --question q2 allow for this task", resumed("12", Some("q2"), "allow for this task")),
        ("/task 12 resume --question=q2 no", resumed("12", Some("q2"), "no")),
        ("/task 12 resume --question q2", resumed("12", Some("q2"), "")),
        ("/task 12 resume -- --question", resumed("12", None, "--question")),
        ("/task resume resume resume", resumed("resume", None, "resume")),
        ("/task 12 resume", resumed("12", None, "")),
        ("/status", Ask::Status),
        ("/recap", Ask::Recap),
        ("/help", Ask::Help),
        ("/help me", Ask::Help),
        (" /quit ", Ask::Quit),
        ("/exit", Ask::Quit),
        ("how are my tasks?", Ask::Say("how are my tasks?".into())),
    ] {
        assert_eq!(parse(line), Ok(ask), "{line}");
    }
}

#[test]
fn mistakes_are_explained() {
    let told: String = [
        "/bg",
        "/bg kill",
        "/bg --agent fix the tests",
        "/bg --model x y",
        "/bg --name x make",
        "/tasks compleet",
        "/task",
        "/task 12 cancle",
        "/task 12 dance wildly",
        "/task 12 resume --question",
        "/task 12 followup",
        "/task 12 raise much",
        "/quit now",
        "/tsk 12",
        "/agent do it",
        "/frobnicate",
    ]
    .iter()
    .map(|line| match parse(line) {
        Err(m) => format!("{line}\n    {}\n    {}\n", m.message, m.hint),
        Ok(ask) => panic!("{line}: {ask:?}"),
    })
    .collect();
    insta::assert_snapshot!(told, @r#"
    /bg
        /bg needs a command
        /bg make test, or /bg list | kill ID | clear
    /bg kill
        /bg kill needs a task
        /bg kill ID; /tasks lists them
    /bg --agent fix the tests
        /bg --agent needs agents, which this version of Octo does not have
        /bg COMMAND runs a shell command
    /bg --model x y
        /bg --model needs agents, which this version of Octo does not have
        /bg COMMAND runs a shell command
    /bg --name x make
        /bg has no option --name
        `octo bg --help` shows what the command line has; `/bg -- COMMAND` takes it as a command
    /tasks compleet
        `compleet` is no status; there are: dispatched, running, paused, resumed, completed, failed, cancelled, budget_exceeded, interrupted
        did you mean /tasks completed?
    /task
        /task needs a task
        /task ID; /tasks lists them
    /task 12 cancle
        a task has no `cancle`
        did you mean /task 12 cancel?
    /task 12 dance wildly
        a task has no `dance wildly`
        there are: cancel, followup, logs, raise, resume, retry, rm
    /task 12 resume --question
        --question needs the id of a question
        /task 12 shows what is open
    /task 12 followup
        a follow-up needs words
        /task 12 followup TEXT says what is to be done next
    /task 12 raise much
        `much` is no number of tokens
        /task 12 raise 50000, or /task 12 raise for the original budget again
    /quit now
        /quit takes no arguments
        type /quit
    /tsk 12
        there is no command /tsk
        did you mean /task?
    /agent do it
        /agent needs agents, which this version of Octo does not have
        /bg COMMAND runs a shell command
    /frobnicate
        there is no command /frobnicate
        /help lists the commands
    "#);
}

#[test]
fn help_is_the_table() {
    insta::assert_snapshot!(help(), @r#"
      /bg COMMAND               runs a shell command in the background
      /bg list                  lists tasks
      /bg kill ID               stops a task
      /bg clear                 hides ended tasks from lists; their records stay
      /tasks [STATUS]           lists tasks: active ones, then the newest ended
      /task ID                  shows a task and the end of its output
      /task ID logs             shows its output and follows it; Ctrl-C comes back
      /task ID resume ANSWER    answers what it asks (--question q2 ANSWER: of several)
      /task ID cancel           stops it, with everything that it started
      /task ID retry            runs an ended task again
      /task ID raise [TOKENS]   lets an agent go on that used up its budget
      /task ID followup TEXT    starts a new task that knows what this one did
      /task ID rm               removes an ended task
      /recap                    tells again what happened last
      /status                   shows the daemon, its slots and its settings
      /help                     shows this
      /quit                     leaves; tasks go on
    ID is a task's number, its id, or the beginning of its id. Tab completes, the arrow keys go back.
    "#);
}

#[test]
fn every_form_of_every_command_is_understood() {
    for command in COMMANDS {
        for (form, _) in command.forms {
            let line = format!(
                "{} {}",
                command.name,
                form.replace("ID", "12").replace("[STATUS]", "failed").replace("[TOKENS]", "9")
            );
            assert!(parse(&line).is_ok(), "{line}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_line_is_too_much(line in "/?(bg|task|tasks|help)? ?(kill|list|--)? ?\\PC{0,40}") {
        let _ = parse(&line);
        let _ = first_word(&line);
    }
}
