//! `octo bg`: starts process tasks.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::start::{Options, dollars, usage};
use super::{Failure, World};
use crate::command::{Refused, StartRequest};

/// The options of `octo bg`.
#[derive(Debug, Clone, Default, Args)]
pub struct BgArgs {
    #[command(flatten)]
    options: Options,
    /// What each `claude -p` in it may cost, in US dollars
    #[arg(long, value_name = "X", value_parser = dollars)]
    budget_usd: Option<f64>,
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
    let base = StartRequest { budget_usd: args.budget_usd, ..args.options.request(world)? };
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
    args.options.tell(world, started, args.batch.is_some()).await
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
