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
    ] {
        assert!(ok(line), "{line}");
    }
    for line in ["octo task", "octo task 12 explode", "octo tasks --status done", "octo tasks --kind thing"] {
        assert!(!ok(line), "{line}");
    }
}
