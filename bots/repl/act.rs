//! Carries out what a line asks for.

use std::process::Stdio;

use octo::chat::{self, Ask, COMMANDS};
use octo::cli::{self, Failure, LogsArgs, World};
use octo::client::Client;
use octo::command::{ListQuery, Refused, RefusedCode, TaskRef};
use octo::render::{self, ListLimits, count, name_of};
use octo::task::{Status, Task};

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

/// Does what is asked; [`Ask::Quit`] is the caller's.
pub(crate) async fn carry_out(world: &World, client: &Client, ask: Ask, style: Style) -> Result<(), Failure> {
    match act(world, client, ask, style).await {
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

async fn act(world: &World, client: &Client, ask: Ask, style: Style) -> Result<(), Failure> {
    match ask {
        Ask::Nothing | Ask::Quit => Ok(()),
        Ask::Start(command) => start(world, client, command, style).await,
        Ask::List(status) => list(world, client, status).await,
        Ask::Clear => {
            let cleared = usize::try_from(client.clear().await?).unwrap_or(usize::MAX);
            world.print(format!("{} hidden; the records stay\n", count(cleared, "ended task")))
        }
        Ask::Show(task) => cli::show(world, client, &task, |task| format!("/task {} logs", task.number)).await,
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
        Ask::Logs(task) => logs(world, client, &task, style).await,
        Ask::Status => world.print(render::report(&client.status().await?, &world.view())),
        Ask::Recap => recap(world, client).await,
        Ask::Help => world.print(chat::help()),
        Ask::Say(_) => Err(Refused::new(
            RefusedCode::Unsupported,
            "there is nobody to talk to yet: the supervisor agent is not in this version of Octo",
        )
        .hint("commands begin with a slash; /help lists them")
        .into()),
    }
}

/// A person hears that it was done; a program sees it by the absence of an error.
fn done(world: &World, style: Style, text: &str) -> Result<(), Failure> {
    if style == Style::Terminal { world.print(format!("{text}\n")) } else { Ok(()) }
}

async fn start(world: &World, client: &Client, command: String, style: Style) -> Result<(), Failure> {
    if let Some(word) = unknown_program(&command).await {
        return Err(prose(&word, &command).into());
    }
    let started = cli::start_one(world, client, command).await?;
    match style {
        Style::Pipe => world.print(format!("{}\n", started.instance_id)),
        Style::Terminal => {
            let task = started.task;
            let line = format!("{} {}", task.status.icon(), name_of(&task));
            let line = world.view().paint(render::status_paint(task.status), &line);
            world.print(format!("{line} {}\n", task.status))
        }
    }
}

/// The first word of a command, when the shell knows no program, builtin or function of that name.
///
/// The shell itself is asked; what only the shell can understand is taken for a command.
async fn unknown_program(command: &str) -> Option<String> {
    let word = chat::first_word(command)?;
    // A path names a program, though perhaps one that does not exist.
    if word.contains('/') {
        return None;
    }
    let known = tokio::process::Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", word])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    matches!(known, Ok(status) if !status.success()).then(|| word.to_owned())
}

fn prose(word: &str, command: &str) -> Refused {
    let message = format!("`{word}` is no program, builtin or function, so nothing was started");
    let hint = format!(
        "a job in plain words needs an agent, and agents are not in this version of Octo; to run it as a command all the same: /bg sh -c {}",
        shell_words::quote(command)
    );
    Refused::new(RefusedCode::BadRequest, message).hint(hint)
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

async fn recap(world: &World, client: &Client) -> Result<(), Failure> {
    let newest = client.newest_notice().await?;
    let page = client.notices(newest.saturating_sub(RECAP)).await?;
    let listing = client.list(&ListQuery { limit: Some(1), ..ListQuery::default() }).await?;
    let told = render::digest("Lately:", &page.notices, 0, &world.view());
    let told = if told.is_empty() { "nothing has happened yet\n".to_owned() } else { told };
    let active = match listing.active.len() {
        0 => "nothing runs or waits\n".to_owned(),
        n => format!("{}: /tasks lists them\n", count(n, "active task")),
    };
    world.print(told + &active)
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

    #[tokio::test]
    async fn prose_is_told_from_commands_by_the_shell() {
        assert_eq!(unknown_program("frobnicate all the tests").await.as_deref(), Some("frobnicate"));
        for command in ["cd x && ls", "sh -c x", "if true; then :; fi", "./not-there", "$X y", "A=b env"] {
            assert_eq!(unknown_program(command).await, None, "{command}");
        }
        let refused = prose("run", "run it's tests");
        assert!(refused.hint.ends_with("/bg sh -c 'run it'\\''s tests'"), "{}", refused.hint);
    }
}
