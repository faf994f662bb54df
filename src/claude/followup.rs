//! Going on with the session of an ended `claude`.

use std::ffi::OsString;

use super::flags::{self, Takes};
use super::shell::{UNKNOWN, simple_command};

/// Options that say what the new command line says itself, or that were meant for that one run.
const DROPPED: &[&str] = &["--print", "--prefill", "--max-budget-usd", "--resume-session-at", "--input-format"];

/// The command line that resumes a session with new words: `claude -p --resume SESSION 'text'`, with the options of the
/// earlier command line that do not choose a session. An option whose value only the shell knew is left out.
#[must_use]
pub fn follow_up(command: &str, session: &str, text: &str) -> String {
    let (mut words, before) = kept(command).unwrap_or_default();
    words.push("claude".to_owned());
    words.extend(before);
    words.extend(["-p", "--resume", session].map(str::to_owned));
    // A text must not be taken for an option.
    words.extend(text.starts_with('-').then(|| "--".to_owned()));
    words.push(text.to_owned());
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The assignments before the earlier command, and its options.
fn kept(command: &str) -> Option<(Vec<String>, Vec<String>)> {
    let simple = simple_command(command)?;
    let (program, args) = simple.words.split_first()?;
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let reading = flags::read(&args);
    if program != "claude" || reading.print_run().is_none() {
        return None;
    }
    let known = |text: &str| !text.contains(UNKNOWN);
    let assigned = simple.assignments.iter().filter(|(_, value)| known(value));
    let assigned = assigned.map(|(name, value)| format!("{name}={value}")).collect();
    let mut options = Vec::new();
    for option in &reading.options {
        let values: Vec<&str> = option.value.iter().chain(&option.more).filter_map(|v| v.to_str()).collect();
        let all = option.value.iter().chain(&option.more).count() == values.len();
        if !all
            || !known(&option.name)
            || !values.iter().all(|v| known(v))
            || flags::is_of_session(&option.name)
            || DROPPED.contains(&option.name.as_str())
        {
            continue;
        }
        match values.as_slice() {
            // Nothing of a value that claude would have taken from the next word.
            [] if matches!(flags::takes(&option.name), Takes::Value | Takes::Many) => {}
            [] => options.push(option.name.clone()),
            values => options.extend(values.iter().map(|value| format!("{}={value}", option.name))),
        }
    }
    Some((assigned, options))
}

/// A word as a shell reads it again; an assignment stays one, and an option looks like one.
fn quoted(word: &str) -> String {
    let name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match word.split_once('=') {
        Some((left, value)) if name(left.trim_start_matches('-').replace('-', "_").as_str()) => {
            format!("{left}={}", shell_words::quote(value))
        }
        _ => shell_words::quote(word).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claude::is_single_claude;

    #[test]
    fn options_stay_and_the_session_is_the_one_that_ended() {
        for (command, expected) in [
            ("claude -p hi", "claude -p --resume S 'and the docs'"),
            ("claude -p \"$(cat x)\" --model opus", "claude --model=opus -p --resume S 'and the docs'"),
            ("claude --output-format json -p hi", "claude --output-format=json -p --resume S 'and the docs'"),
            (
                "claude -p hi --allowedTools 'Bash(make *)' Read --debug --verbose",
                "claude --allowedTools='Bash(make *)' --allowedTools=Read --debug --verbose -p --resume S 'and the docs'",
            ),
            ("claude -p --resume OLD hi -c --session-id x --fork-session", "claude -p --resume S 'and the docs'"),
            ("claude -p hi --max-budget-usd 1 --model \"$M\"", "claude -p --resume S 'and the docs'"),
            ("A='x y' B=$(date) claude -p hi", "A='x y' claude -p --resume S 'and the docs'"),
            ("claude -p hi | tee log", "claude -p --resume S 'and the docs'"),
            ("", "claude -p --resume S 'and the docs'"),
        ] {
            let made = follow_up(command, "S", "and the docs");
            assert_eq!(made, expected, "{command}");
            assert!(is_single_claude(&made).is_some_and(|c| c.resumes), "{made}");
        }
        assert_eq!(follow_up("claude -p hi", "S", "--help"), "claude -p --resume S -- --help");
        assert_eq!(follow_up("claude -p hi", "S", "it's A=1"), r#"claude -p --resume S 'it'\''s A=1'"#);
    }
}
