//! Long texts made short.

/// The room for the remark, besides the words that say where the whole is.
const REMARK: usize = 96;

/// The text, at most `max` bytes long: when it is longer, its middle gives way to a remark that says how much is
/// missing and where the whole is (`where_whole_is` ends the sentence "the whole is in ..."). Two thirds of what is
/// shown are its beginning. It is cut between lines where there are any, and never inside a character.
#[must_use]
pub fn cap(text: &str, max: usize, where_whole_is: &str) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let Some(room) = max.checked_sub(REMARK + where_whole_is.len()).filter(|room| *room >= REMARK) else {
        // No room for words: what can be shown is the beginning.
        return text[..text.floor_char_boundary(max)].to_owned();
    };
    let head = head(text, room / 3 * 2);
    let tail = tail(text, room - room / 3 * 2);
    let missing = text.len() - head.len() - tail.len();
    let line_end = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    format!("{head}{line_end}[... {missing} bytes are not shown; the whole is in {where_whole_is} ...]\n{tail}")
}

/// The beginning: up to a line's end if that keeps at least half of it.
fn head(text: &str, max: usize) -> &str {
    let part = &text[..text.floor_char_boundary(max)];
    match part.rfind('\n') {
        Some(at) if at + 1 >= max / 2 => &part[..=at],
        _ => part,
    }
}

/// The end: from a line's beginning if that keeps at least half of it.
fn tail(text: &str, max: usize) -> &str {
    let part = &text[text.ceil_char_boundary(text.len() - max)..];
    match part.find('\n') {
        Some(at) if part.len() - at > max / 2 => &part[at + 1..],
        _ => part,
    }
}
