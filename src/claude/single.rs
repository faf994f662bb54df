//! Whether a task's whole command is one `claude` whose JSON is the log.

use std::ffi::{OsStr, OsString};

use super::flags;
use super::shell::{UNKNOWN, simple_command};
use super::wrapper::additions;

/// A command line that is one print-mode `claude` and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaudeCommand {
    /// Whether its log holds a result event: the output format is `json` or `stream-json`.
    pub json: bool,
    /// The output format; empty for claude's default, and where only the shell can know it.
    pub format: String,
    /// Whether it goes on with an earlier session, whose costs claude counts with its own.
    pub resumes: bool,
}

/// Tells whether the whole command line is one print-mode `claude` whose standard output is the log.
///
/// In doubt it is `None`: a wrong yes would turn a good task into a failed one, a wrong no only leaves the
/// plain output as the result.
#[must_use]
pub fn is_single_claude(command: &str) -> Option<ClaudeCommand> {
    is_single_claude_with(command, "")
}

/// As [`is_single_claude`], for a task whose environment says `ADDITIONAL_CLAUDE_ARGS=additional`, which
/// may hold the output format.
#[must_use]
pub fn is_single_claude_with(command: &str, additional: &str) -> Option<ClaudeCommand> {
    let simple = simple_command(command)?;
    let (program, args) = simple.words.split_first()?;
    if program != "claude" || args.iter().any(|arg| hides_an_option(arg)) {
        return None;
    }
    let mut args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let at = flags::read(&args).print_run()?;
    let own = simple.assignments.iter().rev().find(|(name, _)| name == "ADDITIONAL_CLAUDE_ARGS");
    let additional = own.map_or(additional, |(_, value)| value);
    let (added, _) = additions(&args, OsStr::new(additional), "");
    args.splice(at..at, added);
    let reading = flags::read(&args);
    let format = reading.output_format().and_then(OsStr::to_str).map(str::to_owned).unwrap_or_default();
    let format = if format.contains(UNKNOWN) { String::new() } else { format };
    let json = matches!(format.as_str(), "json" | "stream-json");
    Some(ClaudeCommand { json, format, resumes: reading.resumes() })
}

/// Tells whether only the shell knows which option a word is.
fn hides_an_option(word: &str) -> bool {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    name.starts_with('-') && name.contains(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(command: &str) -> Option<bool> {
        is_single_claude(command).map(|c| c.json)
    }

    #[test]
    fn one_print_mode_claude_is_seen() {
        for (command, expected) in [
            ("claude -p hi --output-format json", true),
            ("claude -p hi --output-format=stream-json --verbose", true),
            ("claude --output-format json -p \"it's; a | b && c > d\"", true),
            ("FOO=1 claude -p \"$PROMPT\" --output-format json 2>/dev/null < in.txt", true),
            ("claude -p \"$(cat prompt.md)\" \\\n  --output-format json \\\n  --model opus\n", true),
            ("claude -p --output-format json -- '--output-format text'", true),
            ("claude --append-system-prompt --output-format -p json", false),
            ("claude -p hi", false),
            ("claude -p hi --output-format text", false),
            ("claude -p hi --output-format json --output-format text", false),
            ("claude -p hi --output-format \"$F\"", false),
            ("claude -p hi --output-format=\"js$F\"", false),
            ("claude -p hi -- --output-format json", false),
            ("'claude' -p hi --output-format json", true),
        ] {
            assert_eq!(json(command), Some(expected), "{command}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for command in [
            "",
            "claude",
            "claude hi",
            "claude mcp list",
            "claude --version",
            "claude -p --help",
            "octo -p hi",
            "cd x && claude -p hi --output-format json",
            "claude -p hi --output-format json | jq .result",
            "claude -p hi --output-format json > out.json",
            "claude -p hi --output-format json; true",
            "claude -p hi --output-format json &",
            "echo hi | claude -p --output-format json",
            "/usr/bin/claude -p hi --output-format json",
            "./claude -p hi",
            "exec claude -p hi",
            "env claude -p hi",
            "$(echo claude) -p hi",
            "\"$C\" -p hi",
            "claude $ARGS -p hi",
            "(claude -p hi)",
            "! claude -p hi",
            "claude -p <<EOF\nhi\nEOF",
            "FOO=1",
            "sh -c 'claude -p hi'",
            "claude -p 'hi",
            "claude -p \"--$X\"",
            "claude -p \"-$X\" --output-format json",
        ] {
            assert_eq!(is_single_claude(command), None, "{command}");
        }
    }

    #[test]
    fn the_added_options_count_too() {
        let json = |command, additional| is_single_claude_with(command, additional).unwrap().json;
        assert!(json("claude -p hi", "--output-format json"));
        assert!(!json("claude -p hi --output-format text", "--output-format json"));
        assert!(!json("ADDITIONAL_CLAUDE_ARGS= claude -p hi", "--output-format json"));
        assert!(json("ADDITIONAL_CLAUDE_ARGS='--output-format json' claude -p hi", ""));
        assert!(!json("claude -p hi", "--output-format 'json"));
    }
}
