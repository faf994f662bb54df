//! Telegram's HTML: what the Bot API understands of it, and its complaints about the rest.

use serde_json::{Value, json};

/// The tags that Telegram knows and the kind of entity that they make.
const TAGS: [(&str, &str); 16] = [
    ("b", "bold"),
    ("strong", "bold"),
    ("i", "italic"),
    ("em", "italic"),
    ("u", "underline"),
    ("ins", "underline"),
    ("s", "strikethrough"),
    ("strike", "strikethrough"),
    ("del", "strikethrough"),
    ("span", "spoiler"),
    ("tg-spoiler", "spoiler"),
    ("a", "text_link"),
    ("tg-emoji", "custom_emoji"),
    ("code", "code"),
    ("pre", "pre"),
    ("blockquote", "blockquote"),
];

/// The length that Telegram counts.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Reads HTML as the Bot API does: the text that is shown, and its entities. The error is the end of a description.
pub(crate) fn parse(source: &str) -> Result<(String, Vec<Value>), String> {
    let mut shown = String::new();
    let mut entities = Vec::new();
    let mut open: Vec<(String, &str, usize)> = Vec::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let at = source.len() - rest.len();
        match next {
            '&' => rest = character(rest, &mut shown),
            '<' => {
                let end = rest.find('>').ok_or_else(|| format!("Unclosed start tag at byte offset {at}"))?;
                let tag = &rest[1..end];
                rest = &rest[end + 1..];
                if let Some(name) = tag.strip_prefix('/') {
                    let Some((expected, kind, from)) = open.pop() else {
                        return Err(format!("Unexpected end tag at byte offset {at}"));
                    };
                    let name = name.trim().to_ascii_lowercase();
                    if name != expected {
                        return Err(format!(
                            "Unmatched end tag at byte offset {at}, expected \"</{expected}>\", found \"</{name}>\""
                        ));
                    }
                    let length = units(&shown) - from;
                    if length > 0 {
                        entities.push(json!({"type": kind, "offset": from, "length": length}));
                    }
                } else {
                    let name: String =
                        tag.chars().take_while(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
                    let attributes = tag[name.len()..].trim();
                    let Some((_, kind)) = TAGS.iter().find(|(known, _)| *known == name) else {
                        return Err(format!("Unsupported start tag \"{name}\" at byte offset {at}"));
                    };
                    if name == "span" && attributes != "class=\"tg-spoiler\"" {
                        return Err(format!("Tag \"span\" must have class \"tg-spoiler\" at byte offset {at}"));
                    }
                    open.push((name, kind, units(&shown)));
                }
            }
            _ => {
                shown.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    if let Some((name, _, _)) = open.pop() {
        return Err(format!("Can't find end tag corresponding to start tag \"{name}\""));
    }
    Ok((shown, entities))
}

/// Reads what begins with `&`, and returns what comes after it.
fn character<'a>(rest: &'a str, shown: &mut String) -> &'a str {
    for (name, c) in [("&lt;", '<'), ("&gt;", '>'), ("&amp;", '&'), ("&quot;", '"')] {
        if let Some(after) = rest.strip_prefix(name) {
            shown.push(c);
            return after;
        }
    }
    let number = rest.strip_prefix("&#").and_then(|r| r.split_once(';'));
    let read = number.and_then(|(digits, after)| {
        let code = match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => digits.parse().ok()?,
        };
        Some((char::from_u32(code)?, after))
    });
    if let Some((c, after)) = read {
        shown.push(c);
        return after;
    }
    shown.push('&');
    &rest[1..]
}
