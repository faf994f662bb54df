//! `edit_file`: one text in a file becomes another.

use std::path::Path;
use std::time::Duration;

use similar::TextDiff;

use super::ToolError;
use super::call::EditFile;
use super::folder::Folder;
use super::output::cap;
use super::write::{TEXT_MAX, replace, text_of, writable};

/// The longest diff in an answer, in bytes.
const DIFF_MAX: usize = 16 << 10;

/// How long a diff may be looked for; what is found until then is correct, if longer than need be.
const DIFF_WITHIN: Duration = Duration::from_millis(100);

/// How many places are named when a text is not unique.
const PLACES: usize = 5;

/// Edits a file.
pub(super) fn edit_file(folder: &Folder, args: &EditFile) -> Result<String, ToolError> {
    let watch = folder.watch();
    let place = writable(folder, &args.path, &watch)?;
    if place.stat.is_none() {
        return Err(place.error("does not exist. list_files shows what there is; write_file makes a new file"));
    }
    let old = text_of(folder, &place, &watch)?;
    let (new, count) = edited(&old, args).map_err(|why| place.error(why))?;
    if new.len() as u64 > TEXT_MAX {
        return Err(place.error(format_args!("would have {} bytes, more than {TEXT_MAX}", new.len())));
    }
    replace(folder, &place, new.as_bytes())?;
    let times = if count == 1 { String::new() } else { format!(" in {count} places") };
    Ok(format!("Edited `{}`{times}.\n{}", place.said, diff(&place.path(), &old, &new)))
}

/// The text after the edit, and how many places were changed. The error ends the sentence "`path` ...".
fn edited(text: &str, args: &EditFile) -> Result<(String, usize), String> {
    if args.old_string.is_empty() {
        return Err("was not changed: `old_string` is empty. Give the text to replace, or use write_file".to_owned());
    }
    let (mut old, mut new) = (args.old_string.clone(), args.new_string.clone());
    let mut count = text.matches(&old).count();
    if count == 0 && text.contains("\r\n") {
        // read_file shows lines without their ends, so a model writes plain ones.
        (old, new) = (with_crlf(&old), with_crlf(&new));
        count = text.matches(&old).count();
    }
    match count {
        0 => Err(format!("was not changed: {}", not_there(text, args))),
        1 => Ok((text.replacen(&old, &new, 1), 1)),
        _ if args.replace_all == Some(true) => Ok((text.replace(&old, &new), count)),
        _ => {
            let lines: Vec<_> = text.match_indices(&old).take(PLACES).map(|(at, _)| line_at(text, at)).collect();
            let more = if count > PLACES { ", ..." } else { "" };
            Err(format!(
                "was not changed: `old_string` is in it {count} times (lines {}{more}). Give more of the lines around the \
                 one you mean, or set replace_all",
                lines.join(", ")
            ))
        }
    }
}

fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// The number of the line that a byte is in.
fn line_at(text: &str, at: usize) -> String {
    (text[..at].matches('\n').count() + 1).to_string()
}

/// Why a text is not in a file, as far as can be told, and what to do.
fn not_there(text: &str, args: &EditFile) -> String {
    const WHAT: &str = "`old_string` is not in it.";
    if !args.new_string.trim().is_empty() && text.matches(&args.new_string).count() == 1 {
        let at = text.find(&args.new_string).unwrap_or_default();
        return format!("{WHAT} But `new_string` is, at line {}: perhaps this edit was made before", line_at(text, at));
    }
    let numbered = args.old_string.lines().all(|line| {
        let digits = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        digits.starts_with('\t') && !line.trim_start().starts_with('\t')
    });
    if numbered {
        return format!("{WHAT} Leave out the line numbers that read_file puts before the lines");
    }
    if let Some(line) = similar_at(text, &args.old_string) {
        return format!("{WHAT} At line {line} is one that differs only in white space: read_file shows it exactly");
    }
    format!("{WHAT} Read the file again with read_file and give the text exactly as it is")
}

/// The line at which the same words stand with other white space between the lines' words and at their ends.
fn similar_at(text: &str, wanted: &str) -> Option<usize> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted: Vec<String> = wanted.trim().lines().map(words).collect();
    if wanted.iter().all(String::is_empty) {
        return None;
    }
    let lines: Vec<String> = text.lines().map(words).collect();
    lines.windows(wanted.len()).position(|part| part == wanted).map(|at| at + 1)
}

/// What changed, as a unified diff, cut if it is long.
pub(super) fn diff(path: &Path, old: &str, new: &str) -> String {
    let name = path.display().to_string().escape_debug().to_string();
    let diff = TextDiff::configure().timeout(DIFF_WITHIN).diff_lines(old, new);
    let text = diff.unified_diff().context_radius(3).header(&format!("a/{name}"), &format!("b/{name}")).to_string();
    cap(&text, DIFF_MAX, "the file, which read_file shows")
}
