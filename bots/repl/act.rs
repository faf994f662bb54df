//! Carries out what a line asks for.

use std::cell::RefCell;
use std::sync::Mutex;

use octo::chat::{self, Ask, COMMANDS, Job};
use octo::cli::{self, Failure, LogsArgs, World};
use octo::client::{Client, new_key};
use octo::command::{FollowupRequest, ListQuery, Refused, RefusedCode, ResumeRequest, StartRequest, Started, TaskRef};
use octo::render::{self, ListLimits, Room, Tongue, count, name_of};
use octo::task::{Kind, Status, Task};

use super::agents;
use super::known::{self, Known};
use super::talk::Voice;

/// Rows of a list.
const ROWS: usize = 20;

/// Lines of output that `/task ID logs` begins with.
const LOG_LINES: u64 = 40;

/// How far `/recap` looks back, in notices.
const RECAP: u64 = 50;

/// Whom the answers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A person.
    Terminal,
    /// A program: a start prints the id alone, logs are not followed.
    Pipe,
}

/// Reads a line.
pub(crate) fn understand(line: &str) -> Result<Ask, Failure> {
    chat::parse(line).map_err(|m| Refused::new(RefusedCode::BadRequest, m.message).hint(m.hint).into())
}

/// The commands of an input: one, or, where each of several lines is a command of its own (pasted ones), each.
pub(crate) fn commands(input: &str) -> Vec<&str> {
    let lines: Vec<&str> = input.lines().filter(|l| !l.trim().is_empty()).collect();
    let named = |line: &&str| line.split_whitespace().next().is_some_and(|w| COMMANDS.iter().any(|c| c.name == w));
    if lines.len() > 1 && lines.iter().all(named) { lines } else { vec![input] }
}

/// Where a line is carried out.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) world: &'a World,
    pub(crate) client: &'a Client,
    /// What the person has seen.
    pub(crate) known: &'a Mutex<Known>,
    pub(crate) style: Style,
    /// Talks to the supervisor agent.
    pub(crate) voice: &'a Voice,
    /// What is to stand at the next prompt.
    pub(crate) offer: &'a RefCell<String>,
}

/// Does what is asked; [`Ask::Quit`] is the caller's.
pub(crate) async fn carry_out(here: Here<'_>, ask: Ask) -> Result<(), Failure> {
    match act(here, ask).await {
        Err(Failure::Refused(refused)) => {
            let hint = chat_words(&refused.hint);
            Err(Refused { hint, ..refused }.into())
        }
        other => other,
    }
}

/// A hint in the words of the chat: `octo task 1 retry` is `/task 1 retry` here, where the chat has it.
fn chat_words(hint: &str) -> String {
    let said = |(i, part): (usize, &str)| {
        let here = part.strip_prefix("octo ").filter(|_| i % 2 == 1).map(|words| format!("/{words}"));
        here.filter(|words| chat::parse(words).is_ok()).unwrap_or_else(|| part.to_owned())
    };
    hint.split('`').enumerate().map(said).collect::<Vec<_>>().join("`")
}

async fn act(here: Here<'_>, ask: Ask) -> Result<(), Failure> {
    let Here { world, client, known, style, voice, .. } = here;
    match ask {
        Ask::Nothing | Ask::Quit => Ok(()),
        Ask::Start(command) => start(here, command).await,
        Ask::Agent(job) => agent(here, job).await,
        Ask::Agents => agents::show(world, client).await,
        Ask::Model(None) => model(here).await,
        Ask::Model(Some(model)) => {
            done(world, style, &format!("the conversation goes on with {model}, from your next words on"))?;
            voice.choose(model);
            Ok(())
        }
        Ask::New => {
            voice.begin_anew();
            done(world, style, "your next words begin a new conversation; tasks go on")
        }
        Ask::Followup { task, text } => {
            let started = client.follow_up(&task, FollowupRequest { text, key: new_key() }).await?;
            tell_start(here, &started)
        }
        Ask::Raise { task, tokens } => {
            let record = client.raise(&task, tokens).await?;
            let budget = render::budgets(&record).join(", ");
            done(world, style, format!("{} goes on: {budget}", name_of(&record)).trim_end_matches([':', ' ']))
        }
        Ask::List(status) => list(world, client, status).await,
        Ask::Clear => {
            let cleared = usize::try_from(client.clear().await?).unwrap_or(usize::MAX);
            world.print(format!("{} hidden; the records stay\n", count(cleared, "ended task")))
        }
        Ask::Show(task) => {
            let record = cli::show(world, client, &task, Tongue::Chat).await?;
            known::lock(known).saw(&record);
            Ok(())
        }
        Ask::Cancel(task) => {
            let record = client.get(&task).await?;
            client.stop(&task).await?;
            done(world, style, &format!("{} is being stopped", name_of(&record)))
        }
        Ask::Retry(task) => {
            client.retry(&task).await?;
            done(world, style, &format!("{} runs again", name_of(&client.get(&task).await?)))
        }
        Ask::Remove(task) => {
            let record = client.get(&task).await?;
            client.remove(&task).await?;
            done(world, style, &format!("{} is removed", name_of(&record)))
        }
        Ask::Resume { task, question: _, answer } if answer.is_empty() => ask_again(here, &task).await,
        Ask::Resume { task, question, answer } => resume(here, &task, question, answer).await,
        Ask::Logs(task) => logs(world, client, &task, style).await,
        Ask::Status => world.print(render::report(&client.status().await?, "/recap shows them", &world.view())),
        Ask::Recap => recap(here).await,
        Ask::Help => world.print(chat::help()),
        Ask::Say(text) => voice.say(world, client, text).await,
    }
}

/// A person hears that it was done; a program sees it by the absence of an error.
fn done(world: &World, style: Style, text: &str) -> Result<(), Failure> {
    if style == Style::Terminal { world.print(format!("{text}\n")) } else { Ok(()) }
}

async fn start(here: Here<'_>, command: String) -> Result<(), Failure> {
    if let Some(word) = chat::unknown_program(&command).await {
        return prose(here, &word, &command);
    }
    let request = StartRequest { command, ..StartRequest::default() };
    let started = cli::start_one(here.world, here.client, request).await?;
    tell_start(here, &started)
}

async fn agent(here: Here<'_>, job: Job) -> Result<(), Failure> {
    let Job { agent: agent_id, model, prompt } = job;
    let request = StartRequest { kind: Kind::Agent, agent_id, model, prompt, ..StartRequest::default() };
    let started = cli::start_one(here.world, here.client, request).await?;
    tell_start(here, &started)
}

fn tell_start(here: Here<'_>, started: &Started) -> Result<(), Failure> {
    let Here { world, style, .. } = here;
    match style {
        Style::Pipe => world.print(format!("{}\n", started.instance_id)),
        Style::Terminal => {
            let task = &started.task;
            let line = format!("{} {}", task.status.icon(), name_of(task));
            let line = world.view().paint(render::status_paint(task.status), &line);
            world.print(format!("{line} {}\n", task.status))
        }
    }
}

/// A job in plain words where a command should be: nothing is started. A person is offered to have an agent do it: the
/// line that does it stands at the next prompt.
fn prose(here: Here<'_>, word: &str, command: &str) -> Result<(), Failure> {
    let message = format!("`{word}` is no program, builtin or function, so nothing was started");
    if word == "claude" {
        let hint = "Claude Code is not installed, or its folder is not in the PATH here";
        return Err(Refused::new(RefusedCode::BadRequest, message).hint(hint).into());
    }
    let anyway = format!("to run it as a command all the same: /bg sh -c {}", shell_words::quote(command));
    match here.style {
        Style::Pipe => {
            let hint = format!("for a job in plain words there are agents: /agent {command}; {anyway}");
            Err(Refused::new(RefusedCode::BadRequest, message).hint(hint).into())
        }
        Style::Terminal => {
            here.offer.replace(format!("/agent {command}"));
            let view = here.world.view();
            let offer = "Enter has an agent do it; Ctrl-C drops it.";
            here.world.print(format!("{message}.\n{offer}\n{}\n", view.paint(render::Paint::Dim, &anyway)))
        }
    }
}

/// `/model`: the one that was chosen here, else the settings'.
async fn model(here: Here<'_>) -> Result<(), Failure> {
    let chosen = here.voice.chosen();
    if !chosen.is_empty() {
        return here.world.print(format!("{chosen}, from your next words on\n"));
    }
    let status = here.client.status().await?;
    let set = status.settings.iter().find(|s| s.name == "OCTO_MODEL").filter(|s| !s.value.is_empty());
    here.world.print(match set {
        Some(set) => {
            format!("{} (OCTO_MODEL, {}); what a conversation was given before stays\n", set.value, set.source)
        }
        None => "none is set: OCTO_MODEL, or /model M; /model demo/tour needs neither key nor network\n".to_owned(),
    })
}

async fn list(world: &World, client: &Client, status: Option<Status>) -> Result<(), Failure> {
    let listing = client.list(&ListQuery { status, limit: Some(ROWS), ..ListQuery::default() }).await?;
    let more = "/tasks STATUS narrows it down, `octo tasks --limit 0` lists all";
    world.print(render::list(&listing, ListLimits { rows: ROWS, more }, &world.view()))
}

async fn logs(world: &World, client: &Client, task: &TaskRef, style: Style) -> Result<(), Failure> {
    if style == Style::Pipe {
        return cli::print_logs(world, client, task, LogsArgs::default()).await;
    }
    let record = client.get(task).await?;
    let follow = !record.status.is_ended();
    if follow {
        let line = format!("following {}; Ctrl-C comes back\n", name_of(&record));
        world.print(world.view().paint(render::Paint::Dim, &line))?;
    }
    let task = TaskRef(record.id.to_string());
    cli::print_logs(world, client, &task, LogsArgs { follow, lines: Some(LOG_LINES) }).await?;
    if !follow { Ok(()) } else { tell_end(world, &client.get(&task).await?) }
}

fn tell_end(world: &World, task: &Task) -> Result<(), Failure> {
    let line = format!("{} {} {}\n", task.status.icon(), name_of(task), task.status);
    world.print(world.view().paint(render::status_paint(task.status), &line))
}

/// `/task ID resume` without an answer: what is asked, and how to answer.
async fn ask_again(here: Here<'_>, task: &TaskRef) -> Result<(), Failure> {
    let record = here.client.get(task).await?;
    known::lock(here.known).saw(&record);
    let view = here.world.view();
    let open = record.questions.iter().filter(|q| q.open);
    let text: String = open.map(|q| render::question(&record, q, Tongue::Chat, Room::ALL, &view)).collect();
    here.world.print(if text.is_empty() { format!("{} asks nothing at present\n", name_of(&record)) } else { text })
}

/// Answers a question. An answer without an id is for the question that the person saw: one that took its place
/// unseen does not get it.
async fn resume(here: Here<'_>, task: &TaskRef, question: Option<String>, answer: String) -> Result<(), Failure> {
    let Here { world, client, known, style, .. } = here;
    let mut request = ResumeRequest { answer, question, key: new_key() };
    let mut task = task.clone();
    if request.question.is_none() && style == Style::Terminal {
        let record = client.get(&task).await?;
        task = TaskRef(record.id.to_string());
        let shown = known::lock(known).shown(&task.0);
        match shown.as_slice() {
            [] => {}
            [one] => {
                let permission = |id: &str| record.questions.iter().any(|q| q.id == *id && q.is_permission());
                // A permission is never given without naming it: the daemon says so.
                request.question = Some(one.clone()).filter(|id| !permission(id));
            }
            several => {
                let which = several.join(", ");
                let message = format!("{} asks several questions: say which one is meant: {which}", name_of(&record));
                let hint = format!("/task {} resume --question {} ANSWER", record.number, several[0]);
                return Err(Refused::new(RefusedCode::Conflict, message).hint(hint).into());
            }
        }
    }
    known::lock(known).answers(&request.key);
    match cli::answer(client, &task, request).await {
        Ok(told) => done(world, style, &told),
        Err(refused) => {
            if refused.code == RefusedCode::Conflict {
                known::lock(known).forget(&task.0);
            }
            Err(refused.into())
        }
    }
}

async fn recap(here: Here<'_>) -> Result<(), Failure> {
    let Here { world, client, known, .. } = here;
    let (view, tz) = (world.view(), jiff::tz::TimeZone::system());
    let newest = client.newest_notice().await?;
    let page = client.notices(newest.saturating_sub(RECAP)).await?;
    let listing = client.list(&ListQuery { limit: Some(1), ..ListQuery::default() }).await?;
    let questions = render::open_questions(&listing.active, Tongue::Chat, &view);
    for task in listing.active.iter().filter(|t| t.questions.iter().any(|q| q.open)) {
        known::lock(known).saw(task);
    }
    let told = render::digest("Lately:", &page.notices, 0, &view, &tz);
    let told = if told.is_empty() && questions.is_empty() { "nothing has happened yet\n".to_owned() } else { told };
    let active = match listing.active.len() {
        0 => "nothing runs or waits\n".to_owned(),
        n => format!("{}: /tasks lists them\n", count(n, "active task")),
    };
    world.print(questions + &told + &active)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_lines_are_commands_of_their_own_only_when_each_is_one() {
        assert_eq!(commands("/bg echo 1\n\n/bg echo 2\n"), ["/bg echo 1", "/bg echo 2"]);
        for one in ["/bg echo 1", "/bg cat <<E\nx\nE", "/bg ls \\\n/usr/bin", "", "two\nlines"] {
            assert_eq!(commands(one), [one]);
        }
    }

    #[test]
    fn hints_speak_of_the_chats_commands_where_it_has_them() {
        for (hint, here) in [
            ("`octo tasks` lists them", "`/tasks` lists them"),
            (
                "`octo task c4b1e09a` shows it, `octo task 1 retry` runs it",
                "`/task c4b1e09a` shows it, `/task 1 retry` runs it",
            ),
            ("`octo task 1 wait` waits", "`octo task 1 wait` waits"),
            ("`octo doctor` says more, or octo tasks", "`octo doctor` says more, or octo tasks"),
        ] {
            assert_eq!(chat_words(hint), here);
        }
    }
}
