//! Telling a shell command from prose by its first word.

use std::process::Stdio;

/// The word of a shell command line that names what is run; `None` when the line begins with anything
/// but a plain word (an expansion, a quote, a redirection, a group), so that only the shell can tell.
///
/// Assignments before it (`CC=gcc make`) are skipped.
#[must_use]
pub fn first_word(line: &str) -> Option<&str> {
    for word in line.split_whitespace() {
        let end = word.find([';', '&', '|', '<', '>', '(', ')']).unwrap_or(word.len());
        let plain = &word[..end];
        if plain.is_empty() || plain.contains(['$', '`', '"', '\'', '\\', '*', '?', '[', '{', '}', '~', '#', '!']) {
            return None;
        }
        if !is_assignment(plain) {
            return Some(plain);
        }
        if end < word.len() {
            return None;
        }
    }
    None
}

/// The first word of a command, when the shell knows no program, builtin or function of that name: then it is a job in
/// plain words.
///
/// The shell itself is asked; what only the shell can understand is taken for a command. It needs an event loop.
pub async fn unknown_program(command: &str) -> Option<String> {
    let word = first_word(command)?;
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

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_names_the_program_is_found() {
        for (line, word) in [
            ("make -j4", Some("make")),
            ("run all the tests", Some("run")),
            ("  CC=gcc A= make", Some("make")),
            ("cd x && make", Some("cd")),
            ("ls;pwd", Some("ls")),
            ("sleep 1&", Some("sleep")),
            ("./run.sh", Some("./run.sh")),
            ("if true; then x; fi", Some("if")),
            ("f() { :; }; f", Some("f")),
            ("$CMD x", None),
            ("\"my prog\" x", None),
            ("(cd x; make)", None),
            ("{ a; }", None),
            ("! grep x", None),
            (">f echo", None),
            ("A=b", None),
            ("A=b;make", None),
            ("A=$(date) make", None),
            ("~/bin/x", None),
            ("", None),
        ] {
            assert_eq!(first_word(line), word, "{line}");
        }
    }

    #[tokio::test]
    async fn prose_is_told_from_commands_by_the_shell() {
        assert_eq!(unknown_program("frobnicate all the tests").await.as_deref(), Some("frobnicate"));
        for command in ["cd x && ls", "sh -c x", "if true; then :; fi", "./not-there", "$X y", "A=b env"] {
            assert_eq!(unknown_program(command).await, None, "{command}");
        }
    }
}
