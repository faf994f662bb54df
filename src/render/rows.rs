//! Text cut into rows of the terminal's width, so that nothing is lost at its edge.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Paint;

/// Text cut into rows, and how many of them are left out.
pub(super) struct Rows {
    pub(super) shown: Vec<String>,
    pub(super) left: usize,
}

/// Cuts a clean text into rows of the width: at words, or, where every character counts, anywhere.
pub(super) fn cut(text: &str, width: Option<usize>, at_words: bool, max: usize) -> Rows {
    let mut all = Vec::new();
    for line in text.trim_end().lines() {
        wrap(&line.replace('\t', "    "), width.unwrap_or(usize::MAX), at_words, &mut all);
    }
    let left = all.len().saturating_sub(max);
    all.truncate(max);
    Rows { shown: all, left }
}

fn wrap(line: &str, width: usize, at_words: bool, rows: &mut Vec<String>) {
    let mut row = String::new();
    let mut used = 0;
    for c in line.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns > width && !row.is_empty() {
            let gap = row.rfind(' ').filter(|i| at_words && c != ' ' && !row[..*i].trim().is_empty());
            let rest = gap.map_or_else(String::new, |i| row.split_off(i + 1));
            if gap.is_some() {
                row.pop();
            }
            rows.push(std::mem::replace(&mut row, rest));
            used = row.width();
        }
        row.push(c);
        used += columns;
    }
    rows.push(row);
}

/// As [`Rows`], each with the colour of its line.
pub(super) struct DiffRows {
    pub(super) shown: Vec<(Option<Paint>, String)>,
    pub(super) left: usize,
}

/// Rows with the colour that their line has in a diff.
pub(super) fn diff_rows(text: &str, width: Option<usize>, max: usize) -> DiffRows {
    let mut shown = Vec::new();
    let mut left = 0;
    for line in text.trim_end_matches('\n').lines() {
        let paint = match line.as_bytes().first() {
            Some(b'+') => Some(Paint::Green),
            Some(b'-') => Some(Paint::Red),
            Some(b'@') => Some(Paint::Cyan),
            _ => None,
        };
        let cut = rows_of_line(line, width);
        let room = max.saturating_sub(shown.len()).min(cut.len());
        left += cut.len() - room;
        shown.extend(cut.into_iter().take(room).map(|row| (paint, row)));
    }
    DiffRows { shown, left }
}

fn rows_of_line(line: &str, width: Option<usize>) -> Vec<String> {
    let mut out = Vec::new();
    wrap(&line.replace('\t', "    "), width.unwrap_or(usize::MAX), false, &mut out);
    out
}
