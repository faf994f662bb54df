//! Texts for Telegram: cleaned, escaped, measured as Telegram measures them, cut and split.
//!
//! Everything that a task wrote is put into `<code>` or `<pre>`, never elsewhere. Telegram makes no mentions, links,
//! commands or hashtags inside of them, and what is copied out of them is what the task wrote; zero-width joiners
//! behind `@` and `/` would do the former, but not the latter.

use octo::render::sanitize;
use unicode_segmentation::UnicodeSegmentation;

use super::mask::Mask;

/// The longest message, in UTF-16 units after Telegram has taken its tags and entities out.
pub(crate) const MESSAGE_MAX: usize = 4096;

/// The length of a text as Telegram counts it.
pub(crate) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The text with what HTML would understand written out.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// A text in one line, without control characters and secrets, of at most so many units.
pub(crate) fn line(text: &str, most: usize, mask: &Mask) -> String {
    cut(&mask.apply(&sanitize::line(text)), most)
}

/// A text of several lines, without control characters and secrets.
pub(crate) fn clean(text: &str, mask: &Mask) -> String {
    mask.apply(&sanitize::text(text))
}

/// `<code>` around a text, which is escaped; nothing for an empty one.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<code>{}</code>", escape(text)) }
}

/// `<pre>` around a text, which is escaped; nothing for a blank one.
pub(crate) fn pre(text: &str) -> String {
    let text = text.trim_end();
    if text.trim().is_empty() { String::new() } else { format!("<pre>{}</pre>", escape(text)) }
}

/// The longest beginning of a text of at most so many units that parts no character as people see them.
fn beginning(text: &str, most: usize) -> usize {
    let mut used = 0;
    for (at, grapheme) in text.grapheme_indices(true) {
        used += units(grapheme);
        if used > most {
            if at > 0 {
                return at;
            }
            // One monstrous grapheme: then it is parted.
            let mut used = 0;
            let fits = |c: &char| {
                used += c.len_utf16();
                used <= most
            };
            return text.chars().take_while(fits).map(char::len_utf8).sum();
        }
    }
    text.len()
}

/// The text, or its beginning and an ellipsis: at most so many units.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if units(text) <= most {
        return text.to_owned();
    }
    let kept = &text[..beginning(text, most.saturating_sub(1))];
    format!("{}…", kept.trim_end())
}

/// The last lines of a text: at most so many lines and units. A line that is too long by itself loses its beginning.
pub(crate) fn tail(text: &str, lines: usize, most: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let mut kept: Vec<String> = Vec::new();
    let mut left = most;
    for line in all.iter().rev().take(lines) {
        let used = units(line) + usize::from(!kept.is_empty());
        if used <= left {
            left -= used;
            kept.push((*line).to_owned());
            continue;
        }
        if kept.is_empty() && left > 1 {
            let graphemes: Vec<&str> = line.graphemes(true).collect();
            let mut room = left - 1;
            let fits = |g: &&&str| {
                let fits = units(g) <= room;
                room = room.saturating_sub(units(g));
                fits
            };
            let count = graphemes.iter().rev().take_while(fits).count();
            kept.push(format!("…{}", graphemes[graphemes.len() - count..].concat()));
        }
        break;
    }
    kept.reverse();
    kept.join("\n")
}

/// Where a text of more than `most` units is parted: behind a line, else behind a space, else behind a character.
fn part(text: &str, most: usize) -> usize {
    let end = beginning(text, most);
    if end == text.len() {
        return end;
    }
    let fits = &text[..end];
    // A boundary near the beginning would make a part of a few words.
    let far = |at: &usize| *at >= end / 4;
    let behind = |at: usize| at + 1;
    let line = fits.rfind('\n').map(behind).filter(far);
    line.or_else(|| fits.rfind(' ').map(behind).filter(far)).unwrap_or(end).max(1)
}

/// A piece of HTML: text as it is seen, with the tags that stand in it.
struct Parsed<'a> {
    text: String,
    /// Each tag and where in the text it stands.
    tags: Vec<(usize, &'a str)>,
}

/// Takes our own HTML apart: the tags that we write, and the four entities.
fn parse(html: &str) -> Parsed<'_> {
    let mut parsed = Parsed { text: String::with_capacity(html.len()), tags: Vec::new() };
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        let tag = rest.strip_prefix('<').and_then(|r| r.find('>')).map(|at| at + 2);
        if let Some(tag) = tag {
            parsed.tags.push((parsed.text.len(), &rest[..tag]));
            rest = &rest[tag..];
            continue;
        }
        let entities = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"')];
        if let Some((entity, means)) = entities.iter().find(|(entity, _)| rest.starts_with(entity)) {
            parsed.text.push(*means);
            rest = &rest[entity.len()..];
            continue;
        }
        parsed.text.push(c);
        rest = &rest[c.len_utf8()..];
    }
    parsed
}

/// The text that is seen of HTML.
pub(crate) fn seen(html: &str) -> String {
    parse(html).text
}

/// Splits HTML into parts of at most `most` units each; tags that are open at the end of a part are closed there and
/// opened again in the next. What is seen of the parts is together what is seen of the whole.
pub(crate) fn split(html: &str, most: usize) -> Vec<String> {
    let parsed = parse(html);
    let mut parts = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut tags = parsed.tags.iter().peekable();
    let mut from = 0;
    loop {
        let to = from + part(&parsed.text[from..], most.max(2));
        let last = to >= parsed.text.len();
        let mut out: String = open.concat();
        let mut at = from;
        while let Some((place, tag)) = tags.next_if(|(place, _)| *place < to || last) {
            out.push_str(&escape(&parsed.text[at..*place]));
            at = *place;
            out.push_str(tag);
            if tag.starts_with("</") {
                open.pop();
            } else {
                open.push(tag);
            }
        }
        out.push_str(&escape(&parsed.text[at..to]));
        for tag in open.iter().rev() {
            out.push_str(&closing(tag));
        }
        parts.push(out);
        if last {
            return parts;
        }
        from = to;
    }
}

fn closing(tag: &str) -> String {
    let name = tag.trim_start_matches('<').trim_end_matches('>').split_whitespace().next().unwrap_or("");
    format!("</{name}>")
}

#[cfg(test)]
#[path = "text/tests.rs"]
pub(crate) mod tests;
