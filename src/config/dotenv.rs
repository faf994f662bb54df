//! Reads `.env` files: `NAME=value` lines, as shells and other tools understand them.
//!
//! A value may be bare (a ` #` begins a comment), in single quotes (taken as it is) or in double quotes
//! (with `\n`, `\t`, `\"`, `\\`, `\$`). Values do not refer to other variables: `$` means itself.

use std::collections::HashMap;

/// Each name with its value and the line it stands in (from 1); the last one counts.
pub(super) type Entries = HashMap<String, (String, usize)>;

/// Reads the text; a line that makes no sense is left out and told in `complaints` as (line, why).
pub(super) fn parse(text: &str, complaints: &mut Vec<(usize, &'static str)>) -> Entries {
    let mut entries = Entries::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        match entry(line) {
            Ok(Some((name, value))) => drop(entries.insert(name, (value, at + 1))),
            Ok(None) => {}
            Err(why) => complaints.push((at + 1, why)),
        }
    }
    entries
}

fn entry(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("is not of the form NAME=value")?;
    let name = name.trim();
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(fine) {
        return Err("has no proper name before the `=`");
    }
    Ok(Some((name.to_owned(), unquote(value.trim())?)))
}

fn unquote(value: &str) -> Result<String, &'static str> {
    match value.chars().next() {
        Some('\'') => {
            let (inside, rest) = value[1..].split_once('\'').ok_or("has a quote that is not closed")?;
            only_a_comment(rest).map(|()| inside.to_owned())
        }
        Some('"') => double_quoted(&value[1..]),
        Some('#') | None => Ok(String::new()),
        Some(_) => {
            let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
            Ok(value[..end].trim_end().to_owned())
        }
    }
}

fn double_quoted(text: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return only_a_comment(chars.as_str()).map(|()| value),
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some(c @ ('"' | '\\' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("has a quote that is not closed")
}

fn only_a_comment(rest: &str) -> Result<(), &'static str> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') { Ok(()) } else { Err("goes on after the closing quote") }
}
