//! Reads a shell command line that is one simple command; everything else it leaves alone.
//!
//! This is no shell: it answers `None` at the first doubt (a list, a pipe, a here-document, an expansion
//! that could become several words, a redirection of the output). What it does accept, `sh`, `dash` and
//! `bash` read alike.

use std::iter::Peekable;
use std::str::Chars;

/// Stands in a word for what only the shell can know, such as the value of `"$PROMPT"`.
pub(super) const UNKNOWN: char = '\u{fffc}';

/// One simple command whose standard output goes where the shell's goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Simple {
    /// The assignments before the command: name and value.
    pub(super) assignments: Vec<(String, String)>,
    /// The words, the program first; unknown parts are [`UNKNOWN`].
    pub(super) words: Vec<String>,
}

/// Reads `command`; `None` unless it is surely one simple command with its output left alone.
pub(super) fn simple_command(command: &str) -> Option<Simple> {
    if command.contains([UNKNOWN, '\0', '\r']) {
        return None;
    }
    let mut chars = command.chars().peekable();
    let mut simple = Simple::default();
    loop {
        skip_blanks(&mut chars);
        match chars.peek().copied() {
            None => return Some(simple),
            Some('\n') => {
                chars.next();
                let begun = !simple.words.is_empty() || !simple.assignments.is_empty();
                if begun && !only_blank(&mut chars) {
                    return None;
                }
            }
            Some('#') => while chars.next_if(|c| *c != '\n').is_some() {},
            Some('<') => input(&mut chars)?,
            Some(';' | '&' | '|' | '(' | ')' | '>') => return None,
            Some(_) => one_word(&mut chars, &mut simple)?,
        }
    }
}

type Input<'a> = Peekable<Chars<'a>>;

/// Reads a word, an assignment, or a redirection that begins with a descriptor.
fn one_word(chars: &mut Input<'_>, simple: &mut Simple) -> Option<()> {
    let word = word(chars)?;
    if matches!(chars.peek(), Some('<' | '>')) && !word.quoted && word.text.bytes().all(|b| b.is_ascii_digit()) {
        return match word.text.as_str() {
            "0" => input(chars),
            "2" => errors(chars),
            _ => None,
        };
    }
    if simple.words.is_empty()
        && let Some((name, value)) = word.assignment()
    {
        simple.assignments.push((name.to_owned(), value.to_owned()));
        return Some(());
    }
    // An expansion outside quotes may become several words, or none.
    (!word.splits).then(|| simple.words.push(word.text))
}

/// Reads `< file`.
fn input(chars: &mut Input<'_>) -> Option<()> {
    chars.next_if_eq(&'<')?;
    target(chars).map(drop)
}

/// Reads `2> file`, `2>> file`, `2>| file`, `2>&1` and `2>&-`.
fn errors(chars: &mut Input<'_>) -> Option<()> {
    chars.next_if_eq(&'>')?;
    if chars.next_if_eq(&'&').is_some() {
        return target(chars).filter(|t| matches!(t.text.as_str(), "1" | "2" | "-")).map(drop);
    }
    chars.next_if(|c| matches!(c, '>' | '|'));
    target(chars).map(drop)
}

/// Reads the word that a redirection names.
fn target(chars: &mut Input<'_>) -> Option<Word> {
    skip_blanks(chars);
    if matches!(chars.peek(), None | Some('\n' | '#' | ';' | '&' | '|' | '(' | ')' | '<' | '>')) {
        return None;
    }
    word(chars)
}

fn skip_blanks(chars: &mut Input<'_>) {
    loop {
        if chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {
            continue;
        }
        let mut ahead = chars.clone();
        if ahead.next() == Some('\\') && ahead.next() == Some('\n') {
            *chars = ahead;
            continue;
        }
        return;
    }
}

/// Tells whether nothing but blank lines and comments is left.
fn only_blank(chars: &mut Input<'_>) -> bool {
    let rest: String = chars.collect();
    rest.lines().map(|l| l.trim_matches([' ', '\t'])).all(|l| l.is_empty() || l.starts_with('#'))
}

/// One word, with the quotes removed.
#[derive(Debug, Default)]
struct Word {
    text: String,
    /// Whether any part was quoted.
    quoted: bool,
    /// Whether the shell may make several words of it.
    splits: bool,
    /// How many bytes of the text came before anything quoted or unknown.
    plain: usize,
}

impl Word {
    /// The name and value of `NAME=value`, whose name must be written plainly.
    fn assignment(&self) -> Option<(&str, &str)> {
        let (name, value) = self.text.split_once('=').filter(|(name, _)| name.len() < self.plain)?;
        let head = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        (head && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((name, value))
    }

    fn push_plain(&mut self, c: char) {
        if !self.quoted && !self.splits {
            self.plain = self.text.len() + c.len_utf8();
        }
        self.text.push(c);
    }
}

/// Reads one word, up to a blank or an operator.
fn word(chars: &mut Input<'_>) -> Option<Word> {
    let mut word = Word::default();
    while let Some(c) = chars.next_if(|c| !matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>')) {
        match c {
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => {
                    word.quoted = true;
                    word.text.push(c);
                }
                None => return None,
            },
            '\'' => {
                word.quoted = true;
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.text.push(c),
                    }
                }
            }
            '"' => {
                word.quoted = true;
                double_quoted(chars, &mut word.text)?;
            }
            // Quoting of its own kind in bash, none in dash.
            '$' if matches!(chars.peek(), Some('\'' | '"')) => return None,
            '$' | '`' => {
                let before = word.text.len();
                expansion(c, chars, &mut word.text)?;
                word.splits |= word.text[before..].contains(UNKNOWN);
            }
            '{' => return None,
            // A pattern that begins a word may turn into files whose names look like options.
            '*' | '?' | '[' if word.text.is_empty() => return None,
            c => word.push_plain(c),
        }
    }
    Some(word)
}

/// Reads up to the closing quote.
fn double_quoted(chars: &mut Input<'_>, text: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                '\n' => {}
                c @ ('$' | '`' | '"' | '\\') => text.push(c),
                c => text.extend(['\\', c]),
            },
            c @ ('$' | '`') => expansion(c, chars, text)?,
            c => text.push(c),
        }
    }
}

/// Reads what `$` or a backtick begins.
fn expansion(first: char, chars: &mut Input<'_>, text: &mut String) -> Option<()> {
    let next = chars.peek().copied();
    match next {
        _ if first == '`' => backticks(chars)?,
        Some('(') => substitution(chars)?,
        Some('{') => braces(chars)?,
        Some(c) if c.is_ascii_alphabetic() || c == '_' => {
            while chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_').is_some() {}
        }
        Some('0'..='9' | '?' | '$' | '!' | '#' | '-') => drop(chars.next()),
        Some('@' | '*') => return None,
        _ => {
            text.push('$');
            return Some(());
        }
    }
    text.push(UNKNOWN);
    Some(())
}

fn backticks(chars: &mut Input<'_>) -> Option<()> {
    loop {
        match chars.next()? {
            '`' => return Some(()),
            '\\' => drop(chars.next()?),
            _ => {}
        }
    }
}

/// Skips `{...}` of a parameter; without nested quotes, which shells read differently.
fn braces(chars: &mut Input<'_>) -> Option<()> {
    loop {
        match chars.next()? {
            '}' => return Some(()),
            '@' | '*' | '"' | '\'' | '`' | '\\' | '$' => return None,
            _ => {}
        }
    }
}

/// Skips `(...)` of a command substitution, whose output never is the log.
///
/// Here-documents, comments and `case` can hide parentheses that do not count, so they are doubts.
fn substitution(chars: &mut Input<'_>) -> Option<()> {
    let mut depth = 0;
    let mut plain = String::new();
    loop {
        match chars.next()? {
            '(' => depth += 1,
            ')' => depth -= 1,
            '\\' => drop(chars.next()?),
            '\'' => while chars.next()? != '\'' {},
            '"' => double_quoted(chars, &mut String::new())?,
            '`' => backticks(chars)?,
            c => plain.push(c),
        }
        if depth == 0 {
            let doubtful = plain.contains("<<") || plain.contains('#') || plain.contains("case");
            return (!doubtful).then_some(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Option<Vec<String>> {
        simple_command(command).map(|s| s.words)
    }

    #[test]
    fn reads_simple_commands_like_a_shell() {
        for (command, expected) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("  a\tb ", vec!["a", "b"]),
            ("\n\na b\n\n # x\n", vec!["a", "b"]),
            ("a \\\n  b", vec!["a", "b"]),
            ("a b\\\nc", vec!["a", "bc"]),
            ("a 'b c' \"d e\" f\\ g", vec!["a", "b c", "d e", "f g"]),
            ("a 'b;|&<>()$`' c", vec!["a", "b;|&<>()$`", "c"]),
            (r#"a "\"\\\$\`\n""#, vec!["a", r#""\$`\n"#]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("a 'it'\"'\"'s'", vec!["a", "it's"]),
            ("a # b ; c", vec!["a"]),
            ("a b#c", vec!["a", "b#c"]),
            ("a \"$X\" b", vec!["a", "\u{fffc}", "b"]),
            ("a \"x $X\"", vec!["a", "x \u{fffc}"]),
            (
                "a \"${X}\" \"$(cat 'a)b' | wc)\" \"`date`\" \"$((1+2))\"",
                vec!["a", "\u{fffc}", "\u{fffc}", "\u{fffc}", "\u{fffc}"],
            ),
            ("a \"costs $ 5\" $", vec!["a", "costs $ 5", "$"]),
            ("a 2>/dev/null b", vec!["a", "b"]),
            ("a 2>> x 2>&1 <in b 0< in", vec!["a", "b"]),
            ("a 2 b", vec!["a", "2", "b"]),
            ("X=1 Y=\"a b\" Z=$(date) a b=c", vec!["a", "b=c"]),
            ("a what? why*", vec!["a", "what?", "why*"]),
            ("a é", vec!["a", "é"]),
        ] {
            assert_eq!(words(command), Some(expected.into_iter().map(str::to_owned).collect()), "{command}");
        }
    }

    #[test]
    fn leaves_everything_else_alone() {
        for command in [
            "a; b",
            "a;",
            "a && b",
            "a || b",
            "a | b",
            "a &",
            "a & b",
            "(a)",
            "{ a; }",
            "a\nb",
            "a > f",
            "a >> f",
            "a 1> f",
            "a >&2",
            "a 1>&2",
            "a 3>f",
            "a &> f",
            "a << E\nE",
            "a <<< x",
            "a <(b)",
            "a <> f",
            "a <&3",
            "a $X",
            "a `b`",
            "a $(b)",
            "a x$X",
            "a \"$@\"",
            "a \"${X[@]}\"",
            "a \"${X:-\"b\"}\"",
            "a $'b'",
            "a $\"b\"",
            "a 'b",
            "a \"b",
            "a b\\",
            "a \"$(b",
            "a \"`b\"",
            "a {b,c}",
            "a *",
            "a ?b",
            "a [b]",
            "$X a",
            "a <",
            "a 2>",
            "a 2>&3",
            "a 2> > b",
            "a \"$(cat <<E\nE\n)\"",
            "a \"$(case x in x) ;; esac)\"",
            "a \"$(b # )\n)\"",
            "a\r\n",
        ] {
            assert_eq!(words(command), None, "{command}");
        }
    }

    #[test]
    fn assignments_are_told_from_words() {
        let assigned = |command| simple_command(command).unwrap().assignments;
        assert_eq!(assigned("A=1 _b2='x y' a C=3"), [("A".into(), "1".into()), ("_b2".into(), "x y".into())]);
        assert_eq!(assigned("'A'=1 a"), []);
        assert_eq!(assigned("A'='1 a"), []);
        assert_eq!(assigned("1A=1 a"), []);
    }
}
