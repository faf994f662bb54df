//! From words to a command: clap's complaints in Octo's form.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use super::Cli;
use crate::command::{Refused, RefusedCode};

/// Why there is no command to run.
#[derive(Debug)]
pub enum NoCommand {
    /// Help or the version was asked for: clap prints it.
    Asked(clap::Error),
    /// The words make no sense.
    Refused(Refused),
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// Help that was asked for, or what is wrong and what to do about it.
    pub fn read(words: &[OsString]) -> Result<Cli, NoCommand> {
        Cli::try_parse_from(words)
            .map_err(|e| if e.use_stderr() { NoCommand::Refused(refusal(&e, words)) } else { NoCommand::Asked(e) })
    }
}

fn refusal(e: &clap::Error, words: &[OsString]) -> Refused {
    let verb = verb_of(words);
    let unknown = unknown_word(e);
    let text = e.render().to_string();
    let (message, mut tips) = said(&text);
    if let (Some("task"), Some(word)) = (verb.as_deref(), unknown) {
        tips.extend(near_verb_of_a_task(word));
    }
    let help = verb.map_or_else(|| "octo --help".to_owned(), |verb| format!("octo {verb} --help"));
    let hint: Vec<String> = tips.into_iter().chain([format!("`{help}` shows what it takes")]).collect();
    Refused::new(RefusedCode::BadRequest, message).hint(hint.join("; "))
}

/// The word that stands where a command, or what is done with a task, should.
fn unknown_word(e: &clap::Error) -> Option<&str> {
    let kind = match e.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    match e.get(kind) {
        Some(ContextValue::String(word)) if !word.starts_with('-') => Some(word),
        _ => None,
    }
}

fn near_verb_of_a_task(word: &str) -> Option<String> {
    let cli = Cli::command();
    let names: Vec<&str> = cli.find_subcommand("task")?.get_subcommands().map(clap::Command::get_name).collect();
    crate::chat::nearest(word, &names).map(|near| format!("did you mean `octo task ID {near}`"))
}

/// The command that the words name, if it is one.
fn verb_of(words: &[OsString]) -> Option<String> {
    let mut words = words.iter().skip(1).filter_map(|w| w.to_str());
    loop {
        match words.next()? {
            "--workspace" => drop(words.next()),
            option if option.starts_with('-') => {}
            word => return Cli::command().find_subcommand(word).map(|c| c.get_name().to_owned()),
        }
    }
}

/// Clap's text as one line, and its tips.
fn said(text: &str) -> (String, Vec<String>) {
    let about = |paragraph: &&str| !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information");
    let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.trim_end().split("\n\n").filter(about);
    let message = one_line(paragraphs.next().unwrap_or_default());
    let lines = paragraphs.flat_map(str::lines).map(one_line);
    let tips = lines.map(|line| line.strip_prefix("tip: ").map(str::to_owned).unwrap_or(line)).collect();
    (message.strip_prefix("error: ").unwrap_or(&message).to_owned(), tips)
}
