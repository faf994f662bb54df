//! The chat language, line by line.

use super::*;

fn id(s: &str) -> TaskRef {
    TaskRef(s.to_owned())
}

fn resumed(task: &str, question: Option<&str>, answer: &str) -> Ask {
    Ask::Resume { task: id(task), question: question.map(str::to_owned), answer: answer.to_owned() }
}

fn job(agent: &str, model: &str, prompt: &str) -> Ask {
    Ask::Agent(Job { agent: agent.to_owned(), model: model.to_owned(), prompt: prompt.to_owned() })
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
        ("/agent fix  the tests", job("", "", "fix  the tests")),
        ("/bg --agent fix the tests", job("", "", "fix the tests")),
        ("/bg --agent=coder --model x/y  fix\nthis ", job("coder", "x/y", "fix\nthis")),
        ("/bg --model x/y fix -- this", job("", "x/y", "fix -- this")),
        ("/bg --model=x/y -- --agent", job("", "x/y", "--agent")),
        ("/agent --agent=coder -v what", job("coder", "", "-v what")),
        ("/agents", Ask::Agents),
        ("/model", Ask::Model(None)),
        ("/model ollama/qwen3:8b", Ask::Model(Some("ollama/qwen3:8b".into()))),
        ("/new", Ask::New),
        ("/task #12 followup  and  the docs ", Ask::Followup { task: id("12"), text: "and  the docs".into() }),
        ("/task 12 raise", Ask::Raise { task: id("12"), tokens: None }),
        ("/task 12 raise 50,000", Ask::Raise { task: id("12"), tokens: Some(50_000) }),
    ] {
        assert_eq!(parse(line), Ok(ask), "{line}");
    }
}

#[test]
fn mistakes_are_explained() {
    let told: String = [
        "/bg",
        "/bg kill",
        "/bg --agent",
        "/bg --agent= x",
        "/bg --model x/y",
        "/agent --modle x y",
        "/model x y",
        "/bg --name x make",
        "/tasks compleet",
        "/task",
        "/task 12 cancle",
        "/task 12 dance wildly",
        "/task 12 resume --question",
        "/task 12 followup",
        "/task 12 raise much",
        "/task 12 raise 0",
        "/quit now",
        "/tsk 12",
        "/agent",
        "/new one",
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
    /bg --agent
        an agent needs to know what it is to do
        /agent run all the tests and fix any failures
    /bg --agent= x
        --agent= needs a name
        /bg --agent=NAME PROMPT
    /bg --model x/y
        an agent needs to know what it is to do
        /agent run all the tests and fix any failures
    /agent --modle x y
        /agent has no option --modle
        there are --agent[=NAME] and --model M; `/agent --agent -- PROMPT` takes it as words
    /model x y
        a model has a name without spaces
        /model anthropic/claude-sonnet-4-5
    /bg --name x make
        /bg has no option --name
        there are --agent[=NAME] and --model M; `/bg -- COMMAND` takes it as a command
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
        a follow-up needs to say what is to be done
        /task 12 followup TEXT
    /task 12 raise much
        `much` is no number of tokens
        /task 12 raise 50000
    /task 12 raise 0
        `0` is no number of tokens
        /task 12 raise 50000
    /quit now
        /quit takes no arguments
        type /quit
    /tsk 12
        there is no command /tsk
        did you mean /task?
    /agent
        an agent needs to know what it is to do
        /agent run all the tests and fix any failures
    /new one
        /new takes no arguments
        type /new
    /frobnicate
        there is no command /frobnicate
        /help lists the commands
    "#);
}

#[test]
fn help_is_the_table() {
    insta::assert_snapshot!(help(), @r#"
      /bg COMMAND                 runs a shell command in the background
      /bg --agent[=NAME] PROMPT   gives an agent a job in plain words
      /bg --model M PROMPT        the same, on this model
      /bg list                    lists tasks
      /bg kill ID                 stops a task
      /bg clear                   hides ended tasks from lists; their records stay
      /agent PROMPT               gives an agent a job in plain words
      /tasks [STATUS]             lists tasks: active ones, then the newest ended
      /task ID                    shows a task and the end of its output
      /task ID logs               shows its output and follows it; Ctrl-C comes back
      /task ID resume ANSWER      answers what it asks (--question q2 ANSWER: of several)
      /task ID followup TEXT      starts a new task that knows what this one did
      /task ID cancel             stops it, with everything that it started
      /task ID retry              runs an ended task again
      /task ID raise [TOKENS]     lets an agent go on that used up its budget
      /task ID rm                 removes an ended task
      /agents                     shows the agents of the team, and what agents are at work
      /model [M]                  shows or chooses the model of this conversation
      /new                        begins a new conversation; tasks go on
      /recap                      tells again what happened last
      /status                     shows the daemon, its slots and its settings
      /help                       shows this
      /quit                       leaves; tasks go on
    Anything else is said to the supervisor agent, which can start tasks itself.
    ID is a task's number, its id, or the beginning of its id. Tab completes, the arrow keys go back.
    "#);
}

#[test]
fn every_form_of_every_command_is_understood() {
    for command in COMMANDS {
        for (form, _) in command.forms {
            let line = format!("{} {}", command.name, form.replace("ID", "12").replace("[STATUS]", "failed"));
            let line = line.replace("[=NAME]", "=coder").replace("[M]", "x/y").replace("[TOKENS]", "1000");
            assert!(parse(&line).is_ok(), "{line}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_line_is_too_much(line in "/?(bg|agent|model|task|tasks|help)? ?(12)? ?(kill|list|followup|raise|--model|--agent=?|--)? ?\\PC{0,40}") {
        let _ = parse(&line);
        let _ = first_word(&line);
    }
}
