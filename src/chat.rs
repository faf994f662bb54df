//! The chat language: what people type into the REPL, and where sensible to chat bots.
//!
//! [`COMMANDS`] is the one table: parsing, completion, hints, suggestions and help all come from it.
//! Parsing is pure; a surface decides how it carries an [`Ask`] out.

use crate::command::TaskRef;
use crate::task::Status;

mod nearest;
mod shell;

pub use nearest::nearest;
pub use shell::{first_word, unknown_program};

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Nothing was said.
    Nothing,
    /// `/bg COMMAND`: a process task.
    Start(String),
    /// `/agent PROMPT`, `/bg --agent[=NAME] PROMPT`, `/bg --model M PROMPT`: an agent task.
    Agent(Job),
    /// `/agents`.
    Agents,
    /// `/model M`; without a name: which one it is.
    Model(Option<String>),
    /// `/new`: a new conversation.
    New,
    /// `/task ID followup TEXT`: an agent that goes on from an ended task's result.
    Followup {
        /// The task.
        task: TaskRef,
        /// What is to be done next, as it was typed.
        text: String,
    },
    /// `/task ID raise [TOKENS]`.
    Raise {
        /// The task.
        task: TaskRef,
        /// How many tokens are added; `None`: the original budget again.
        tokens: Option<u64>,
    },
    /// `/tasks [STATUS]`, `/bg list`.
    List(Option<Status>),
    /// `/bg clear`: hide ended tasks.
    Clear,
    /// `/task ID`.
    Show(TaskRef),
    /// `/task ID cancel`, `/bg kill ID`.
    Cancel(TaskRef),
    /// `/task ID retry`.
    Retry(TaskRef),
    /// `/task ID logs`.
    Logs(TaskRef),
    /// `/task ID rm`.
    Remove(TaskRef),
    /// `/task ID resume ANSWER`; without an answer: what is asked.
    Resume {
        /// The task.
        task: TaskRef,
        /// `--question q2`: the question that is meant.
        question: Option<String>,
        /// The answer's words as they were typed; empty: none was given.
        answer: String,
    },
    /// `/status`.
    Status,
    /// `/recap`.
    Recap,
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
    /// Anything without a slash: it is said to the supervisor agent.
    Say(String),
}

/// What an agent is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// The agent of the team; empty: its root.
    pub agent: String,
    /// The model; empty: the agent's own.
    pub model: String,
    /// The job, as it was typed.
    pub prompt: String,
}

/// A line that asks for nothing that there is: what is wrong, and what to type instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misunderstood {
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// What the word after a command can be completed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Nothing in particular.
    Free,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A status.
    Status,
    /// A task, then one of these words.
    Task(&'static [&'static str]),
}

/// One command.
pub struct Command {
    /// Its name, with the slash.
    pub name: &'static str,
    /// Its arguments as help shows them; each form is one line of help, with its meaning.
    pub forms: &'static [(&'static str, &'static str)],
    /// What its arguments complete to.
    pub argument: Argument,
    parse: fn(&str) -> Result<Ask, Misunderstood>,
}

const TASK_VERBS: &[&str] = &["cancel", "followup", "logs", "raise", "resume", "retry", "rm"];
const BG_VERBS: &[&str] = &["--agent", "--model", "clear", "kill", "list"];

/// Every command, in the order of help.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "/bg",
        forms: &[
            ("COMMAND", "runs a shell command in the background"),
            ("--agent[=NAME] PROMPT", "gives an agent a job in plain words"),
            ("--model M PROMPT", "the same, on this model"),
            ("list", "lists tasks"),
            ("kill ID", "stops a task"),
            ("clear", "hides ended tasks from lists; their records stay"),
        ],
        argument: Argument::Words(BG_VERBS),
        parse: bg,
    },
    Command {
        name: "/agent",
        forms: &[("PROMPT", "gives an agent a job in plain words")],
        argument: Argument::Free,
        parse: |rest| job("/agent", rest),
    },
    Command {
        name: "/tasks",
        forms: &[("[STATUS]", "lists tasks: active ones, then the newest ended")],
        argument: Argument::Status,
        parse: tasks,
    },
    Command {
        name: "/task",
        forms: &[
            ("ID", "shows a task and the end of its output"),
            ("ID logs", "shows its output and follows it; Ctrl-C comes back"),
            ("ID resume ANSWER", "answers what it asks (--question q2 ANSWER: of several)"),
            ("ID followup TEXT", "starts a new task that knows what this one did"),
            ("ID cancel", "stops it, with everything that it started"),
            ("ID retry", "runs an ended task again"),
            ("ID raise [TOKENS]", "lets an agent go on that used up its budget"),
            ("ID rm", "removes an ended task"),
        ],
        argument: Argument::Task(TASK_VERBS),
        parse: task,
    },
    Command {
        name: "/agents",
        forms: &[("", "shows the agents of the team, and what agents are at work")],
        argument: Argument::Free,
        parse: |rest| bare(rest, Ask::Agents, "/agents"),
    },
    Command {
        name: "/model",
        forms: &[("[M]", "shows or chooses the model of this conversation")],
        argument: Argument::Free,
        parse: model,
    },
    Command {
        name: "/new",
        forms: &[("", "begins a new conversation; tasks go on")],
        argument: Argument::Free,
        parse: |rest| bare(rest, Ask::New, "/new"),
    },
    Command {
        name: "/recap",
        forms: &[("", "tells again what happened last")],
        argument: Argument::Free,
        parse: |rest| bare(rest, Ask::Recap, "/recap"),
    },
    Command {
        name: "/status",
        forms: &[("", "shows the daemon, its slots and its settings")],
        argument: Argument::Free,
        parse: |rest| bare(rest, Ask::Status, "/status"),
    },
    Command { name: "/help", forms: &[("", "shows this")], argument: Argument::Free, parse: |_| Ok(Ask::Help) },
    Command {
        name: "/quit",
        forms: &[("", "leaves; tasks go on")],
        argument: Argument::Free,
        parse: |rest| bare(rest, Ask::Quit, "/quit"),
    },
];

/// Reads one line.
///
/// # Errors
/// What is wrong with it, and a hint.
pub fn parse(line: &str) -> Result<Ask, Misunderstood> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Ask::Nothing);
    }
    if !line.starts_with('/') {
        return Ok(Ask::Say(line.to_owned()));
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    // What other programs call it.
    let name = if matches!(name, "/exit" | "/q") { "/quit" } else { name };
    if let Some(command) = COMMANDS.iter().find(|c| c.name == name) {
        return (command.parse)(rest.trim());
    }
    if name == "/panel" {
        return Err(wrong("the panel is not in this version of Octo", "/tasks lists tasks, /status shows the daemon"));
    }
    let names: Vec<&str> = COMMANDS.iter().map(|c| c.name).collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean {near}?"),
        None => "/help lists the commands".to_owned(),
    };
    Err(wrong(format!("there is no command {name}"), hint))
}

/// The commands as people read them.
#[must_use]
pub fn help() -> String {
    let lines: Vec<(String, &str)> = COMMANDS
        .iter()
        .flat_map(|c| c.forms.iter().map(|(form, means)| (format!("{} {form}", c.name).trim_end().to_owned(), *means)))
        .collect();
    let width = lines.iter().map(|(form, _)| form.len()).max().unwrap_or(0);
    let mut out: String = lines.iter().map(|(form, means)| format!("  {form:<width$}   {means}\n")).collect();
    out.push_str("Anything else is said to the supervisor agent, which can start tasks itself.\n");
    out.push_str("ID is a task's number, its id, or the beginning of its id. Tab completes, the arrow keys go back.\n");
    out
}

fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Misunderstood {
    Misunderstood { message: message.into(), hint: hint.into() }
}

fn bare(rest: &str, ask: Ask, name: &str) -> Result<Ask, Misunderstood> {
    if rest.is_empty() { Ok(ask) } else { Err(wrong(format!("{name} takes no arguments"), format!("type {name}"))) }
}

/// `/bg` has three words of its own; with anything more behind them they are a command like any other.
fn bg(rest: &str) -> Result<Ask, Misunderstood> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.as_slice() {
        [] => Err(wrong("/bg needs a command", "/bg make test, or /bg list | kill ID | clear")),
        ["list"] => Ok(Ask::List(None)),
        ["clear"] => Ok(Ask::Clear),
        ["kill"] => Err(wrong("/bg kill needs a task", "/bg kill ID; /tasks lists them")),
        // `kill -9 4711` and `kill %1` are the shell's.
        ["kill", id] if is_task_ref(id) => Ok(Ask::Cancel(TaskRef((*id).to_owned()))),
        [option, ..] if is_agents(option) => job("/bg", rest),
        ["--", ..] => start(rest[2..].trim()),
        [option, ..] if option.starts_with('-') => Err(wrong(
            format!("/bg has no option {option}"),
            "there are --agent[=NAME] and --model M; `/bg -- COMMAND` takes it as a command",
        )),
        _ => start(rest),
    }
}

fn start(command: &str) -> Result<Ask, Misunderstood> {
    if command.is_empty() {
        return Err(wrong("/bg needs a command", "/bg make test"));
    }
    Ok(Ask::Start(command.to_owned()))
}

/// An option that makes an agent's job of `/bg`.
fn is_agents(option: &str) -> bool {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    matches!(name, "--agent" | "--model")
}

/// `[--agent[=NAME]] [--model M] [--] PROMPT`, the prompt as it was typed.
fn job(command: &str, rest: &str) -> Result<Ask, Misunderstood> {
    let mut job = Job::default();
    let mut rest = rest;
    loop {
        let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let behind = behind.trim_start();
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        rest = match (name, value) {
            ("--", None) => {
                job.prompt = behind.to_owned();
                break;
            }
            ("--agent", None) => behind,
            ("--agent" | "--model", Some("")) => {
                return Err(wrong(format!("{name}= needs a name"), format!("{command} {name}=NAME PROMPT")));
            }
            ("--agent", Some(agent)) => {
                agent.clone_into(&mut job.agent);
                behind
            }
            ("--model", Some(model)) => {
                model.clone_into(&mut job.model);
                behind
            }
            ("--model", None) => {
                let (model, behind) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
                model.clone_into(&mut job.model);
                behind.trim_start()
            }
            (option, _) if option.starts_with("--") => {
                let hint =
                    format!("there are --agent[=NAME] and --model M; `{command} --agent -- PROMPT` takes it as words");
                return Err(wrong(format!("{command} has no option {option}"), hint));
            }
            _ => {
                rest.clone_into(&mut job.prompt);
                break;
            }
        };
    }
    if job.prompt.is_empty() {
        return Err(wrong("an agent needs to know what it is to do", "/agent run all the tests and fix any failures"));
    }
    Ok(Ask::Agent(job))
}

fn model(rest: &str) -> Result<Ask, Misunderstood> {
    match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] => Ok(Ask::Model(None)),
        [model] => Ok(Ask::Model(Some((*model).to_owned()))),
        _ => Err(wrong("a model has a name without spaces", "/model anthropic/claude-sonnet-4-5")),
    }
}

fn is_task_ref(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_hexdigit()) && word.len() <= 8 || word.bytes().all(|b| b.is_ascii_digit())
}

fn tasks(rest: &str) -> Result<Ask, Misunderstood> {
    if rest.is_empty() {
        return Ok(Ask::List(None));
    }
    rest.parse().map(|status| Ask::List(Some(status))).map_err(|e| {
        let words = Status::ALL.map(Status::word);
        let hint = nearest(rest, &words).map_or(String::new(), |near| format!("did you mean /tasks {near}?"));
        wrong(e, hint)
    })
}

fn task(rest: &str) -> Result<Ask, Misunderstood> {
    let mut words = rest.split_whitespace();
    let Some(id) = words.next() else {
        return Err(wrong("/task needs a task", "/task ID; /tasks lists them"));
    };
    // `#12` is how every card names a task.
    let task = TaskRef(id.strip_prefix('#').unwrap_or(id).to_owned());
    let verb = words.next();
    let more = words.next();
    // What follows such a verb is taken as it was typed.
    let behind = |verb: &str| rest[id.len()..].trim_start()[verb.len()..].trim();
    match (verb, more) {
        (Some(verb @ "resume"), _) => resume(task, behind(verb)),
        (Some(verb @ ("followup" | "follow-up")), _) => match behind(verb) {
            "" => Err(wrong("a follow-up needs to say what is to be done", format!("/task {id} followup TEXT"))),
            text => Ok(Ask::Followup { task, text: text.to_owned() }),
        },
        (Some(verb @ "raise"), _) => match behind(verb) {
            "" => Ok(Ask::Raise { task, tokens: None }),
            tokens => match tokens.replace([',', '_'], "").parse() {
                Ok(tokens) if tokens > 0 => Ok(Ask::Raise { task, tokens: Some(tokens) }),
                _ => Err(wrong(format!("`{tokens}` is no number of tokens"), format!("/task {id} raise 50000"))),
            },
        },
        (None, _) => Ok(Ask::Show(task)),
        (Some("cancel" | "kill" | "stop"), None) => Ok(Ask::Cancel(task)),
        (Some("retry"), None) => Ok(Ask::Retry(task)),
        (Some("logs" | "log"), None) => Ok(Ask::Logs(task)),
        (Some("rm"), None) => Ok(Ask::Remove(task)),
        (Some(verb), _) => {
            let hint = match nearest(verb, TASK_VERBS) {
                Some(near) => format!("did you mean /task {id} {near}?"),
                None => format!("there are: {}", TASK_VERBS.join(", ")),
            };
            Err(wrong(format!("a task has no `{}`", rest[id.len()..].trim()), hint))
        }
    }
}

/// `[--question QID] [--] ANSWER`.
fn resume(task: TaskRef, rest: &str) -> Result<Ask, Misunderstood> {
    let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (question, answer) = match word.strip_prefix("--question") {
        Some("") => {
            let (id, answer) = behind.trim_start().split_once(char::is_whitespace).unwrap_or((behind.trim(), ""));
            (Some(id), answer)
        }
        Some(id) if id.starts_with('=') => (Some(&id[1..]), behind),
        _ => (None, rest),
    };
    if question == Some("") {
        return Err(wrong("--question needs the id of a question", format!("/task {task} shows what is open")));
    }
    let answer = answer.trim();
    let answer = answer.strip_prefix("--").filter(|a| a.starts_with(char::is_whitespace)).map_or(answer, str::trim);
    Ok(Ask::Resume { task, question: question.map(str::to_owned), answer: answer.to_owned() })
}

#[cfg(test)]
mod tests;
