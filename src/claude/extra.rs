//! `ADDITIONAL_CLAUDE_ARGS`: the options that are added to every print-mode run.
//!
//! Each option becomes one word, `--flag=value`, which can neither swallow a prompt behind it nor be
//! taken for a value of the option before it. Options add to what a command says, they never overrule it:
//! where the command decides the same thing itself, the added option is left out.

use std::ffi::OsString;

use super::flags::{self, Given, Reading, Takes};

/// One added option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extra {
    /// What it says.
    pub(super) given: Given,
    /// The word to add.
    pub(super) word: String,
}

impl Extra {
    fn new(name: &str, value: Option<&str>) -> Self {
        let word = value.map_or_else(|| name.to_owned(), |v| format!("{name}={v}"));
        Extra { given: Given { name: name.to_owned(), value: value.map(OsString::from), more: Vec::new() }, word }
    }

    /// Tells whether the option still says something beside what the command line says.
    pub(super) fn is_wanted_beside(&self, reading: &Reading) -> bool {
        let Given { name, value, .. } = &self.given;
        if flags::adds_up(name) {
            let same = |o: &Given| flags::decides(&o.name) == flags::decides(name);
            let says = |o: &Given| o.value == *value || value.as_ref().is_some_and(|v| o.more.contains(v));
            return !reading.options.iter().any(|o| same(o) && says(o));
        }
        !reading.options.iter().any(|o| flags::decides(&o.name) == flags::decides(name))
    }
}

/// Splits the setting into options.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Extra>, String> {
    let words = shell_words::split(text).map_err(|_| "a quote is not closed".to_owned())?;
    let mut extras = Vec::new();
    let mut rest = words.iter().map(String::as_str).peekable();
    while let Some(word) = rest.next() {
        let name = option_name(word)?;
        if name == "--print" {
            continue;
        }
        if let Some((name, value)) = name.split_once('=') {
            extras.push(Extra::new(name, Some(value)));
            continue;
        }
        let needs_value = matches!(flags::takes(name), Takes::Value | Takes::Many);
        // An option that must have a value takes the next word as it is, just as claude would.
        let Some(value) = rest.next_if(|w| needs_value || !is_option(w)) else {
            if needs_value {
                return Err(format!("`{word}` has no value"));
            }
            extras.push(Extra::new(name, None));
            continue;
        };
        if flags::is_switch(name) || !name.starts_with("--") {
            return Err(format!("`{word}` takes no value, but `{value}` follows it"));
        }
        extras.push(Extra::new(name, Some(value)));
        while let Some(more) = rest.next_if(|w| flags::takes(name) == Takes::Many && !is_option(w)) {
            extras.push(Extra::new(name, Some(more)));
        }
    }
    Ok(extras)
}

fn is_option(word: &str) -> bool {
    flags::looks_like_option(word.as_ref())
}

/// The option that `word` is, by its long name where it has one.
fn option_name(word: &str) -> Result<&str, String> {
    if word == "--" || !is_option(word) {
        return Err(format!("`{word}` belongs to no option"));
    }
    Ok(match word.as_bytes() {
        [b'-', short] => flags::long_name(*short).unwrap_or(word),
        _ => word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> Result<Vec<String>, String> {
        parse(text).map(|extras| extras.into_iter().map(|e| e.word).collect())
    }

    #[test]
    fn options_become_single_words() {
        for (text, words) in [
            ("", vec![]),
            ("--verbose", vec!["--verbose"]),
            ("--model opus", vec!["--model=opus"]),
            ("--model=opus --verbose", vec!["--model=opus", "--verbose"]),
            ("--append-system-prompt 'be brief, \"x\"'", vec!["--append-system-prompt=be brief, \"x\""]),
            ("--append-system-prompt '- be brief'", vec!["--append-system-prompt=- be brief"]),
            ("--append-system-prompt=a=b", vec!["--append-system-prompt=a=b"]),
            (
                "--allowedTools Read 'Bash(git *)' --bare",
                vec!["--allowedTools=Read", "--allowedTools=Bash(git *)", "--bare"],
            ),
            ("--tools ''", vec!["--tools="]),
            ("--debug hooks", vec!["--debug=hooks"]),
            ("--debug --bare", vec!["--debug", "--bare"]),
            ("-n x -c", vec!["--name=x", "--continue"]),
            ("-p --print --bare", vec!["--bare"]),
            ("--new-in-3.0 x", vec!["--new-in-3.0=x"]),
            ("--new-in-3.0 --bare", vec!["--new-in-3.0", "--bare"]),
        ] {
            assert_eq!(added(text), Ok(words.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_a_whole() {
        for text in ["--model 'opus", "hello", "--verbose hello", "--model", "--bare -- x", "--model a b", "-", "-x y"]
        {
            assert!(added(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_wins() {
        for (text, line, wanted) in [
            ("--model a", "-p --model b", false),
            ("--model a", "-p hi", true),
            ("--append-system-prompt a", "-p --append-system-prompt-file b", false),
            ("--dangerously-skip-permissions", "-p --permission-mode plan", false),
            ("--verbose", "-p --verbose", false),
            ("--allowedTools a", "-p --allowed-tools b", true),
            ("--allowedTools a", "-p --allowed-tools a", false),
            ("--continue", "-p --resume x", false),
            ("--model a", "-p -- --model b", true),
        ] {
            let args: Vec<OsString> = shell_words::split(line).unwrap().into_iter().map(OsString::from).collect();
            let extras = parse(text).unwrap();
            assert_eq!(extras[0].is_wanted_beside(&flags::read(&args)), wanted, "{text} | {line}");
        }
    }
}
