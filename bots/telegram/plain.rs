//! Telegram's HTML without HTML: for texts that Telegram did not understand, or found too long.

/// The tags that Octo's texts use; anything else between angle brackets is text.
const TAGS: [&str; 12] = ["b", "i", "u", "s", "a", "code", "pre", "blockquote", "tg-spoiler", "strong", "em", "span"];

/// The text as it would be shown.
pub(crate) fn plain(html: &str) -> String {
    let mut shown = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = after_tag(rest) {
            rest = after;
            continue;
        }
        let known = [("&lt;", '<'), ("&gt;", '>'), ("&amp;", '&'), ("&quot;", '"')];
        match known.into_iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, c)) => {
                shown.push(c);
                rest = &rest[name.len()..];
            }
            None => {
                shown.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    shown.push_str(rest);
    shown
}

fn after_tag(rest: &str) -> Option<&str> {
    let inner = rest.strip_prefix('<')?;
    let (tag, after) = inner.split_once('>')?;
    let name = tag.strip_prefix('/').unwrap_or(tag).split(' ').next()?;
    TAGS.contains(&name).then_some(after)
}

/// At most so many UTF-16 units of a text, with a mark at the end where something is missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.encode_utf16().count() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |c: &char| match left.checked_sub(c.len_utf16()) {
        Some(less) => {
            left = less;
            true
        }
        None => false,
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}
