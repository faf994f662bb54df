//! The command line's grammar.

use clap::{CommandFactory, Parser};

use super::*;

fn bg(words: &[&str]) -> String {
    match Cli::try_parse_from(["octo", "bg"].iter().chain(words)) {
        Ok(Cli { verb: Some(Verb::Bg(args)), .. }) => format!("{args:?}"),
        Ok(other) => format!("{other:?}"),
        Err(e) => e.kind().to_string(),
    }
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn options_end_at_the_first_word_of_the_command() {
    let command = |words: &[&str]| bg(words).split("command: ").nth(1).unwrap_or("").to_owned();
    assert_eq!(
        command(&["--name", "n", "make", "--name", "x", "-j4", "--", "--help"]),
        r#"["make", "--name", "x", "-j4", "--", "--help"] }"#
    );
    assert_eq!(command(&["--", "--odd", "--json"]), r#"["--odd", "--json"] }"#);
    assert_eq!(command(&["ls", "--workspace", "x"]), r#"["ls", "--workspace", "x"] }"#);
    assert!(bg(&["--json", "true"]).contains("json: true"));
    assert!(bg(&["--timeout", "10m", "--env", "A=b", "--env", "C", "true"]).contains("timeout: Some(600)"));
}

#[test]
fn mistakes_are_usage_errors_not_commands() {
    assert_eq!(bg(&["--nmae", "x", "make"]), "unexpected argument found");
    for words in [&[][..], &["--timeout", "soon", "x"], &["--notify", "never", "x"], &["--batch", "f", "x"]] {
        let error = Cli::try_parse_from(["octo", "bg"].iter().chain(words)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
}

#[test]
fn a_tasks_verbs_follow_its_id() {
    let ok = |line: &str| Cli::try_parse_from(shell_words::split(line).unwrap()).is_ok();
    for line in [
        "octo task 12",
        "octo task c4b1 --json",
        "octo task 12 logs -f --lines 5",
        "octo task 12 wait --timeout 2h",
        "octo task 12 cancel",
        "octo --workspace /x task 12 rm",
        "octo task 12 retry --workspace /x",
        "octo completions bash",
        "octo task 12 resume yes",
        "octo task 12 resume --question q2 allow for this task",
        "octo task 12 resume -1 --question",
        "octo ask Delete the logs?",
        "octo ask --choice yes --choice no --timeout 10m 'Go on?'",
        "octo ask 'Go on?' --choice yes",
        "octo pair telegram",
        "octo agent fix the tests",
        "octo agent --agent=coder --team t.yaml --model demo/tour --budget-tokens 9 --budget-usd 0.5 --max-turns 3 -- x",
        "octo agent --name n --cwd /x --env A=b --timeout 2h --after 1 --notify end --allow-dispatch --json --wait x",
        "octo task 12 raise",
        "octo task 12 raise 1000",
        "octo task 12 followup and --the docs",
        "octo replay 12",
    ] {
        assert!(ok(line), "{line}");
    }
    for line in [
        "octo task",
        "octo task 12 explode",
        "octo tasks --status done",
        "octo tasks --kind thing",
        "octo ask",
        "octo ask --choice yes",
        "octo pair",
        "octo pair icq",
        "octo task 12 resume",
        "octo task 12 followup",
        "octo task 12 raise much",
        "octo task 12 raise 0",
        "octo agent",
        "octo agent --budget-usd 0 x",
        "octo agent --budget-tokens -1 x",
        "octo agent --max-turns 0 x",
        "octo replay",
    ] {
        assert!(!ok(line), "{line}");
    }
}

/// What a person reads when the words make no sense, and the exit code.
fn complaint(line: &str) -> (String, u8) {
    let words: Vec<std::ffi::OsString> = shell_words::split(line).unwrap().into_iter().map(Into::into).collect();
    match Cli::read(&words).unwrap_err() {
        NoCommand::Refused(refused) => (error_text(&refused), refused.code.exit()),
        NoCommand::Asked(text) => panic!("{line}: {text}"),
    }
}

#[test]
fn options_of_agents_end_at_the_first_word_of_the_prompt() {
    let words = ["octo", "agent", "--model", "m", "fix", "--model", "of", "-x"];
    match Cli::try_parse_from(words).unwrap().verb {
        Some(Verb::Agent(args)) => {
            let shown = format!("{args:?}");
            assert!(shown.contains(r#"prompt: ["fix", "--model", "of", "-x"]"#), "{shown}");
            assert!(shown.contains(r#"model: Some("m")"#), "{shown}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_usage_error_is_an_error_and_a_hint() {
    for (line, error, hint) in [
        ("octo bg --nmae x make", "unexpected argument '--nmae' found", "'--name'; to pass"),
        ("octo bg", "the following required arguments were not provided: <COMMAND>...", "`octo bg --help`"),
        ("octo bg --notify never x", "invalid value 'never' for '--notify <WHICH>'", "`octo bg --help`"),
        ("octo bg --batch f x", "cannot be used with", "`octo bg --help`"),
        ("octo taks", "unrecognized subcommand 'taks'", "'tasks'"),
        ("octo task", "required arguments", "`octo task --help`"),
        ("octo task 12 cancle", "'cancle'", "did you mean `octo task ID cancel`; `octo task --help`"),
        ("octo agent --budget-usd much x", "an amount like 0.50", "`octo agent --help`"),
        ("octo task 12 folowup x", "'folowup'", "did you mean `octo task ID followup`"),
        ("octo --frob", "unexpected argument '--frob' found", "`octo --help`"),
    ] {
        let (text, code) = complaint(line);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            matches!(lines[..], [e, h] if e.starts_with("error: ") && e.contains(error)
            && h.starts_with("hint: ") && h.contains(hint)),
            "{line}: {text}"
        );
        assert_eq!(code, 2, "{line}");
    }
    for line in ["octo --help", "octo bg --help", "octo --version"] {
        let words: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
        assert!(matches!(Cli::read(&words), Err(NoCommand::Asked(e)) if e.exit_code() == 0), "{line}");
    }
}

#[test]
fn no_refusal_goes_without_a_hint() {
    let text = error_text(&Refused::new(crate::command::RefusedCode::Forbidden, "no"));
    assert!(text.starts_with("error: no\nhint: ") && text.len() > 25, "{text}");
}
