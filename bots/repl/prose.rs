//! An answer as it comes, in whole lines: what is printed above a prompt cannot grow at its end.

use octo::render::sanitize::Sanitizer;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns before each line of an answer.
const INDENT: &str = "  ";

/// The narrowest that lines get.
const NARROWEST: usize = 20;

/// Breaks text that comes in pieces into lines of the terminal's width, at spaces where there are any.
pub(crate) struct Prose {
    sanitizer: Sanitizer,
    /// The line that has not ended.
    line: String,
    width: fn() -> Option<usize>,
}

impl Prose {
    pub(crate) fn new(width: fn() -> Option<usize>) -> Self {
        Prose { sanitizer: Sanitizer::default(), line: String::new(), width }
    }

    /// Takes a piece; returns the lines that it completes, each ended.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let mut clean = String::new();
        self.sanitizer.push(piece.as_bytes(), &mut clean);
        self.take(&clean)
    }

    /// The rest, ended.
    pub(crate) fn finish(&mut self) -> String {
        let mut clean = String::new();
        std::mem::take(&mut self.sanitizer).finish(&mut clean);
        let mut out = self.take(&clean);
        let rest = std::mem::take(&mut self.line);
        if !rest.trim_end().is_empty() {
            emit(&rest, &mut out);
        }
        out
    }

    fn take(&mut self, clean: &str) -> String {
        let mut out = String::new();
        let room = (self.width)().map_or(usize::MAX, |w| w.saturating_sub(INDENT.len() + 1).max(NARROWEST));
        for c in clean.chars() {
            if c == '\n' {
                emit(&std::mem::take(&mut self.line), &mut out);
                continue;
            }
            match c {
                // A tab's width depends on where it stands.
                '\t' => self.line.push_str("    "),
                c => self.line.push(c),
            }
            while self.line.width() > room {
                let rest = self.line.split_off(part(&self.line, room));
                emit(&std::mem::replace(&mut self.line, rest), &mut out);
            }
        }
        out
    }
}

/// One line of an answer.
fn emit(line: &str, out: &mut String) {
    out.push_str(format!("{INDENT}{line}").trim_end());
    out.push('\n');
}

/// Where a line that is too wide is parted: behind its last space that fits, else where it has to be.
fn part(line: &str, room: usize) -> usize {
    let (mut used, mut end, mut space) = (0, 0, None);
    for (at, c) in line.char_indices() {
        used += c.width().unwrap_or(0);
        // The space at which a line is parted may stand beyond its end.
        if c == ' ' {
            space = Some(at + 1);
        }
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    // A line of spaces alone, or an indentation, is no place to part at.
    space.filter(|at| !line[..*at].trim().is_empty()).unwrap_or(end).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(text: &str, size: usize) -> String {
        let mut prose = Prose::new(|| Some(30));
        let chars: Vec<char> = text.chars().collect();
        let mut out: String = chars.chunks(size).map(|piece| prose.push(&piece.iter().collect::<String>())).collect();
        out.push_str(&prose.finish());
        out
    }

    #[test]
    fn lines_come_out_whole_and_the_same_however_the_text_comes() {
        let text = "Two tasks run, one of them for an hour now.\n\n  indented\tx\nAverylongwordthatfitsnowhereatall,日本語日本語日本語日本語日本語\x1b[2J end";
        let whole = in_pieces(text, 1000);
        insta::assert_snapshot!(whole, @"");
        for size in 1..20 {
            assert_eq!(in_pieces(text, size), whole, "pieces of {size}");
        }
        assert!(whole.lines().all(|l| l.width() < 30), "{whole}");
        assert_eq!(in_pieces("a\n", 1), "  a\n");
        assert_eq!(in_pieces("", 1), "");
    }
}
