//! Keeps what a task printed from driving the reader's terminal.
//!
//! What comes out is valid UTF-8 of visible characters, newlines and tabs, and nothing else:
//!
//! * escape sequences (CSI, OSC, DCS, APC, PM, SOS and the rest, in their 7-bit form and as C1
//!   characters) vanish whole; one that carries a string ends at its terminator or at the end of the
//!   line, so that an unfinished one cannot hide the output behind it;
//! * other control characters, bidirectional and zero-width controls vanish;
//! * `\r` starts a new line: a progress bar becomes lines, and nothing can be overwritten unseen;
//! * bytes that are no UTF-8 become U+FFFD; marks piled up on one character are limited.
//!
//! It works on any pieces of a stream, and cleaning twice changes nothing.

use unicode_width::UnicodeWidthChar;

/// Marks that one character may carry: more than any language needs, few enough to draw.
const MARKS_MAX: u8 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// After ESC and any intermediate bytes.
    Escape,
    /// In a control sequence.
    Csi,
    /// In a string (OSC, DCS, APC, PM, SOS).
    String,
    /// In a string, after ESC: a backslash ends it.
    StringEscape,
}

/// Cleans a stream of bytes, in any pieces.
#[derive(Debug, Default)]
pub struct Sanitizer {
    state: State,
    /// The beginning of a character whose rest has not come yet.
    partial: Vec<u8>,
    after_return: bool,
    marks: u8,
}

impl Sanitizer {
    /// Cleans the next piece and adds it to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut String) {
        while !self.partial.is_empty() && !bytes.is_empty() {
            self.partial.push(bytes[0]);
            bytes = &bytes[1..];
            let held = std::mem::take(&mut self.partial);
            self.decode(&held, out);
        }
        self.decode(bytes, out);
    }

    /// Tells what the end of the stream makes of an unfinished character.
    pub fn finish(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.character(char::REPLACEMENT_CHARACTER, out);
        }
        *self = Sanitizer::default();
    }

    fn decode(&mut self, mut bytes: &[u8], out: &mut String) {
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return self.text(text, out),
                Err(e) => {
                    let (good, bad) = bytes.split_at(e.valid_up_to());
                    self.text(std::str::from_utf8(good).unwrap_or_default(), out);
                    let Some(len) = e.error_len() else {
                        self.partial = bad.to_vec();
                        return;
                    };
                    self.character(char::REPLACEMENT_CHARACTER, out);
                    bytes = &bad[len..];
                }
            }
        }
    }

    fn text(&mut self, text: &str, out: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.state == State::Text {
                // The usual case by far: a run of plain ASCII.
                let plain = rest.bytes().take_while(|b| matches!(b, b' '..=b'~')).count();
                if plain > 0 {
                    out.push_str(&rest[..plain]);
                    rest = &rest[plain..];
                    (self.after_return, self.marks) = (false, 0);
                    continue;
                }
            }
            let mut chars = rest.chars();
            if let Some(c) = chars.next() {
                self.character(c, out);
            }
            rest = chars.as_str();
        }
    }

    fn character(&mut self, c: char, out: &mut String) {
        // Line ends, cancels and new introducers count in every state.
        match c {
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => return self.new_line(c, out),
            '\u{18}' | '\u{1a}' => return self.state = State::Text,
            '\u{1b}' if self.state != State::String => return self.state = State::Escape,
            '\u{1b}' => return self.state = State::StringEscape,
            _ => {}
        }
        match self.state {
            State::Text => self.plain(c, out),
            State::Escape => match c {
                '[' => self.state = State::Csi,
                ']' | 'P' | 'X' | '^' | '_' => self.state = State::String,
                ' '..='/' => {} // an intermediate byte; the final one follows
                '0'..='~' => self.state = State::Text,
                _ => self.abort(c, out),
            },
            State::Csi => match c {
                ' '..='?' => {}
                '@'..='~' => self.state = State::Text,
                _ if (c as u32) < 0x20 || c == '\u{7f}' => {} // terminals act on it and go on
                _ => self.abort(c, out),
            },
            State::String => {
                if matches!(c, '\u{7}' | '\u{9c}') {
                    self.state = State::Text;
                }
            }
            State::StringEscape => {
                self.state = State::Escape;
                if c == '\\' {
                    self.state = State::Text;
                } else {
                    self.character(c, out);
                }
            }
        }
    }

    /// A character that no escape sequence may hold: the sequence is over, the character counts.
    fn abort(&mut self, c: char, out: &mut String) {
        self.state = State::Text;
        self.plain(c, out);
    }

    fn new_line(&mut self, c: char, out: &mut String) {
        self.state = State::Text;
        self.marks = 0;
        // `\r\n` and any number of `\r` are one line end.
        if !(self.after_return && matches!(c, '\n' | '\r')) {
            out.push('\n');
        }
        self.after_return = c == '\r';
    }

    fn plain(&mut self, c: char, out: &mut String) {
        self.after_return = false;
        match c {
            '\u{9b}' => self.state = State::Csi,
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => self.state = State::String,
            '\t' => out.push(c),
            _ if c.is_control() || is_invisible(c) => {}
            _ if c.width() == Some(0) => {
                self.marks = self.marks.saturating_add(1);
                if self.marks <= MARKS_MAX {
                    out.push(c);
                }
            }
            _ => {
                self.marks = 0;
                out.push(c);
            }
        }
    }
}

/// Characters that draw nothing and change how others are read or drawn.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A whole text, cleaned; its lines stay lines.
#[must_use]
pub fn text(text: &str) -> String {
    bytes(text.as_bytes())
}

/// Whole output, cleaned; its lines stay lines.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut sanitizer = Sanitizer::default();
    sanitizer.push(bytes, &mut out);
    sanitizer.finish(&mut out);
    out
}

/// A text of which every character counts, such as a command that a person is to approve: nothing vanishes. What
/// would drive the terminal, or draw nothing, is shown by its number: `\u{1b}`.
#[must_use]
pub fn exact(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        let mark = !c.is_control() && c.width() == Some(0);
        marks = if mark { marks + 1 } else { 0 };
        let shown = matches!(c, '\n' | '\t')
            || !(c.is_control()
                || is_invisible(c)
                || matches!(c, '\u{2028}' | '\u{2029}')
                || marks > u32::from(MARKS_MAX));
        if shown {
            out.push(c);
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
    out
}

/// A text for one line: cleaned, its lines joined by spaces.
#[must_use]
pub fn line(text: &str) -> String {
    let clean = bytes(text.as_bytes());
    let mut out = String::with_capacity(clean.len());
    for piece in clean.split(['\n', '\t']).map(str::trim).filter(|piece| !piece.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_vanish_whole_and_text_stays() {
        for (dirty, clean) in [
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1bPq#0;2;0\x1b\\x", "x"),
            ("\x1b(Btext\x1b=\x1b>\x1b7\x1b8", "text"),
            ("\u{9b}31mred\u{9d}0;t\u{9c}x", "redx"),
            ("\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\ok", "ok"),
            ("\x1b[31\nred", "\nred"),
            ("\x1b]0;never ended\nnext line", "\nnext line"),
            ("\x1b[2é", "é"),
            ("\x1b\x1b[Ax", "x"),
            ("a\x1b]0;x\x1b[31mb", "ab"),
            ("\x1b]0;x\x18y", "y"),
        ] {
            assert_eq!(text(dirty), clean, "{dirty:?}");
        }
    }

    #[test]
    fn returns_are_line_ends() {
        assert_eq!(text("10%\r50%\r100%\r\ndone"), "10%\n50%\n100%\ndone");
        assert_eq!(text("a\r\r\nb\n\rc"), "a\nb\n\nc");
        assert_eq!(text("a\u{2028}b"), "a\nb");
    }

    #[test]
    fn controls_bidi_and_broken_utf8() {
        assert_eq!(text("a\0b\x08c\x7fd\u{85}e\tf"), "abcde\tf");
        assert_eq!(text("evil\u{202e}txt.exe\u{2066}\u{200b}\u{feff}"), "eviltxt.exe");
        assert_eq!(bytes(b"a\xff\xc3(\xe2\x82"), "a\u{fffd}\u{fffd}(\u{fffd}");
        assert_eq!(bytes(b"\xc3\x1b[m\xa9"), "\u{fffd}\u{fffd}", "a removed sequence must not join two halves");
        let marks = format!("e{}", "\u{301}".repeat(1000));
        assert_eq!(text(&marks).chars().count(), 1 + usize::from(MARKS_MAX));
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(line("  make\n\tall\x1b[2J 'a  b' \r\n "), "make all 'a  b'");
    }

    #[test]
    fn what_is_to_be_approved_hides_nothing() {
        assert_eq!(exact("ls -l\n\tx é日"), "ls -l\n\tx é日");
        assert_eq!(exact("true \x1b]0;; rm -rf ~ \x07\r\n"), "true \\u{1b}]0;; rm -rf ~ \\u{7}\\u{d}\n");
        assert_eq!(exact("a\u{202e}b\u{200b}c\u{2028}"), "a\\u{202e}b\\u{200b}c\\u{2028}");
        assert_eq!(
            exact(&format!("e{}", "\u{301}".repeat(10))),
            format!("e{}\\u{{301}}\\u{{301}}", "\u{301}".repeat(8))
        );
    }

    /// Bytes that are rich in what matters.
    fn dirt() -> impl Strategy<Value = Vec<u8>> {
        let bit = prop_oneof![
            3 => any::<u8>().prop_map(|b| vec![b]),
            2 => "[ -~]{1,6}".prop_map(String::into_bytes),
            2 => proptest::sample::select(vec![
                "\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1b\\", "\u{9b}", "\u{9c}", "\u{9d}", "\x07", "\r", "\n", "\r\n", "\t", "m",
                "\u{202e}", "\u{200b}", "\u{301}", "é", "日", "\u{1f600}", "\u{feff}", "\x18", ";", "0",
            ]).prop_map(|s| s.as_bytes().to_vec()),
            1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        ];
        proptest::collection::vec(bit, 0..60).prop_map(|v| v.concat())
    }

    fn is_safe(c: char) -> bool {
        c == '\n' || c == '\t' || !(c.is_control() || is_invisible(c))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn nothing_but_visible_characters_comes_out(dirty in dirt()) {
            let clean = bytes(&dirty);
            prop_assert!(clean.chars().all(is_safe), "{clean:?}");
            prop_assert_eq!(text(&clean), clean);
        }

        #[test]
        fn what_is_exact_is_clean_and_loses_no_visible_character(dirty in dirt()) {
            let dirty = String::from_utf8_lossy(&dirty);
            let shown = exact(&dirty);
            prop_assert_eq!(text(&shown), shown.clone());
            prop_assert!(shown.chars().count() >= dirty.chars().count());
        }

        #[test]
        fn pieces_of_any_size_give_the_same(dirty in dirt(), size in 1usize..9) {
            let mut out = String::new();
            let mut sanitizer = Sanitizer::default();
            for piece in dirty.chunks(size) {
                sanitizer.push(piece, &mut out);
            }
            sanitizer.finish(&mut out);
            prop_assert_eq!(out, bytes(&dirty));
        }

        #[test]
        fn visible_ascii_lines_are_untouched(lines in "[ -~\n\t]{0,200}") {
            prop_assert_eq!(text(&lines), lines);
        }
    }
}
