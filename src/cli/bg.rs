//! `octo bg`: starts process tasks.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, World, wait};
use crate::client::{Client, Vigil};
use crate::command::{Refused, RefusedCode, StartRequest, Started, TaskRef};
use crate::render::parse_duration;
use crate::task::{NotifyPolicy, Task};

/// The options of `octo bg`.
#[derive(Debug, Clone, Default, Args)]
pub struct BgArgs {
    /// What you call the task
    #[arg(long, value_name = "T")]
    name: Option<String>,
    /// The folder to run in [default: the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Sets a variable; K alone takes its value from here (may repeat)
    #[arg(long, value_name = "K[=V]")]
    env: Vec<OsString>,
    /// Stops the task after so long
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    timeout: Option<u64>,
    /// Waits for another task to complete first (may repeat)
    #[arg(long, value_name = "ID")]
    after: Vec<String>,
    /// Which notices you want: all, end, failures, none
    #[arg(long, value_name = "WHICH", default_value = "all", hide_default_value = true)]
    notify: NotifyPolicy,
    /// Leaves alone what the command left behind when it ends
    #[arg(long)]
    leave_children: bool,
    /// Lets the task start others
    #[arg(long)]
    allow_dispatch: bool,
    /// Prints the record as JSON instead of the id
    #[arg(long)]
    json: bool,
    /// Waits for the end; exits 0 when the task completed
    #[arg(long)]
    wait: bool,
    /// Starts one task a line of FILE (- is standard input): all, or none
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    batch: Option<PathBuf>,
    /// One argument: a shell command line; several: exactly these words
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required_unless_present = "batch")]
    command: Vec<OsString>,
}

/// Starts the tasks and tells their ids.
pub(super) async fn run(world: &World, args: BgArgs) -> Result<(), Failure> {
    let mut client = world.client()?;
    if args.batch.is_none() {
        client = client.ahead();
    }
    let base = request(world, &args)?;
    let started = match &args.batch {
        None => {
            let command = command_line(&args.command)?;
            vec![client.start(StartRequest { command, ..base }).await?]
        }
        Some(file) => {
            let lines = batch(&read_batch(file)?, file)?;
            client.start_all(requests(&base, lines)).await?
        }
    };
    if !args.json {
        let ids: String = started.iter().map(|s| format!("{}\n", s.instance_id)).collect();
        world.print(ids)?;
    } else if !args.wait {
        print_records(world, &args, started.into_iter().map(|s| s.task).collect())?;
        return Ok(());
    }
    if args.wait { wait_for_all(world, &args, &started).await } else { Ok(()) }
}

/// One request a line; the environment, which may be large, travels once.
fn requests(base: &StartRequest, lines: Vec<String>) -> Vec<StartRequest> {
    let later = StartRequest { env: None, same_env: true, ..base.clone() };
    let of = |(i, command): (usize, String)| match i {
        0 => StartRequest { command, ..base.clone() },
        _ => StartRequest { command, ..later.clone() },
    };
    lines.into_iter().enumerate().map(of).collect()
}

/// Starts one shell command line in the current folder, with this environment.
///
/// # Errors
/// The daemon's refusal, or that the current folder cannot be used.
pub async fn start_one(world: &World, client: &Client, command: String) -> Result<Started, Refused> {
    let base = request(world, &BgArgs::default())?;
    client.start(StartRequest { command, ..base }).await
}

fn print_records(world: &World, args: &BgArgs, records: Vec<Task>) -> Result<(), Failure> {
    match (&args.batch, records.as_slice()) {
        (None, [one]) => world.print_json(one),
        _ => world.print_json(&records),
    }
}

async fn wait_for_all(world: &World, args: &BgArgs, started: &[Started]) -> Result<(), Failure> {
    let id = |one: &Started| TaskRef(one.instance_id.to_string());
    if let [one] = started
        && !args.json
    {
        return wait::run(world, &id(one), Vigil::default()).await;
    }
    let mut ended = Vec::new();
    for one in started {
        if let Some(task) = wait::until_end(world, &id(one)).await? {
            ended.push(task);
        }
    }
    let verdict = ended.iter().try_for_each(|task| wait::verdict(world, task));
    if args.json {
        print_records(world, args, ended)?;
    }
    verdict
}

/// The part of the request that all tasks of one call share.
fn request(world: &World, args: &BgArgs) -> Result<StartRequest, Refused> {
    let cwd = match &args.cwd {
        Some(dir) => world.cwd()?.join(dir),
        None => world.cwd()?.to_owned(),
    };
    let cwd = cwd.into_os_string().into_string().map_err(|dir| {
        usage(format!("the folder {} has a name that is no UTF-8", Path::new(&dir).display()))
            .hint("run in another folder and `cd` in the command")
    })?;
    Ok(StartRequest {
        name: args.name.clone().unwrap_or_default(),
        cwd,
        env: Some(world.env()),
        env_overrides: overrides(world, &args.env)?,
        timeout: args.timeout.unwrap_or(0),
        after: args.after.iter().cloned().map(TaskRef).collect(),
        notify: args.notify,
        leave_children: args.leave_children,
        allow_dispatch: args.allow_dispatch,
        ..StartRequest::default()
    })
}

/// Reads `--env K=V` and `--env K`.
fn overrides(world: &World, given: &[OsString]) -> Result<BTreeMap<String, String>, Refused> {
    let mut set = BTreeMap::new();
    for one in given {
        let Some(text) = one.to_str() else {
            return Err(usage("--env: what is no UTF-8 cannot be set".to_owned())
                .hint("set it in the command itself, or in the environment of `octo`"));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (text, value_here(world, text)?),
        };
        if name.is_empty() {
            return Err(usage(format!("--env {text}: a variable needs a name")).hint("write --env NAME=VALUE"));
        }
        set.insert(name.to_owned(), value);
    }
    Ok(set)
}

fn value_here(world: &World, name: &str) -> Result<String, Refused> {
    let value = world.vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let value = value.ok_or_else(|| {
        usage(format!("--env {name}: {name} is not set here"))
            .hint(format!("write --env {name}=VALUE, or set and export {name} first"))
    })?;
    value.into_string().map_err(|_| {
        usage(format!("--env {name}: its value is no UTF-8"))
            .hint(format!("leave --env {name} out: the command gets the caller's environment as it is"))
    })
}

/// One word is a shell command line as it is; several are exactly those words.
fn command_line(words: &[OsString]) -> Result<String, Refused> {
    let words: Option<Vec<&str>> = words.iter().map(|w| w.to_str()).collect();
    let words = words.ok_or_else(|| {
        usage("the command holds a word that is no UTF-8".to_owned())
            .hint("write the command into a script and run that")
    })?;
    let line = match words.as_slice() {
        [line] => (*line).to_owned(),
        words => shell_words::join(words),
    };
    if line.trim().is_empty() {
        return Err(usage("there is no command to run".to_owned()).hint("octo bg make test"));
    }
    Ok(line)
}

fn read_batch(file: &Path) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.map_err(|e| {
        usage(format!("{} cannot be read: {e}", shown(file))).hint("--batch takes a file, or - for standard input")
    })?;
    Ok(bytes)
}

/// How messages name a batch file.
fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// The commands of a batch: its lines but blank ones and those that begin with `#`.
fn batch(bytes: &[u8], file: &Path) -> Result<Vec<String>, Refused> {
    let mut commands = Vec::new();
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| {
            usage(format!("{}, line {}: no UTF-8", shown(file), i + 1))
                .hint("write the command into a script and run that")
        })?;
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            commands.push(line.to_owned());
        }
    }
    if commands.is_empty() {
        return Err(usage(format!("{} holds no commands", shown(file)))
            .hint("one command a line; blank lines and those that begin with # do not count"));
    }
    Ok(commands)
}

fn usage(message: String) -> Refused {
    Refused::new(RefusedCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Result<String, Refused> {
        command_line(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn one_argument_is_a_shell_line_and_several_are_exact_words() {
        assert_eq!(line(&["make && echo 'a  b'"]).unwrap(), "make && echo 'a  b'");
        for words in [&["echo", "a  b"][..], &["echo", "$HOME", "*", "it's", ""], &["printf", "%s\n", "a;b", "-x"]] {
            assert_eq!(shell_words::split(&line(words).unwrap()).unwrap(), words);
        }
        assert!(line(&[" "]).is_err());
    }

    #[test]
    fn a_batch_is_its_lines_without_blanks_and_comments() {
        let file = Path::new("f");
        assert_eq!(batch(b"true\r\n\n  # no\n sleep 1 # yes\n", file).unwrap(), ["true", "sleep 1 # yes"]);
        assert!(batch(b"\n#\n", file).unwrap_err().message.contains("holds no commands"));
        assert_eq!(batch(b"", Path::new("-")).unwrap_err().message, "standard input holds no commands");
        assert!(batch(b"true\n\xff\n", file).unwrap_err().message.contains("line 2"));
    }
}
