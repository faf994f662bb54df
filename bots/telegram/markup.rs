//! What models write, as Telegram's HTML: the little of Markdown that they always use. Anything else is text as it is.

use super::text::{code, escape, pre};

/// A text with fences, `code`, **bold** and headings as HTML, whose tags are balanced whatever the text.
pub(crate) fn html(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut fenced: Option<Vec<&str>> = None;
    for line in text.trim().lines() {
        let is_fence = line.trim_start().starts_with("```");
        match (&mut fenced, is_fence) {
            (None, true) => fenced = Some(Vec::new()),
            (None, false) => out.push(inline(line)),
            (Some(lines), true) => {
                out.push(pre(&lines.join("\n")));
                fenced = None;
            }
            (Some(lines), false) => lines.push(line),
        }
    }
    // It is still being written, or was forgotten.
    out.extend(fenced.map(|lines| pre(&lines.join("\n"))));
    out.join("\n")
}

/// One line outside of fences.
fn inline(line: &str) -> String {
    let hashes = line.bytes().take_while(|b| *b == b'#').count();
    if (1..=6).contains(&hashes) && line[hashes..].starts_with(' ') {
        return format!("<b>{}</b>", escape(line[hashes..].trim()));
    }
    let mut out = String::new();
    let mut parts = line.split('`');
    out.push_str(&bold(parts.next().unwrap_or_default()));
    let rest: Vec<&str> = parts.collect();
    for pair in rest.chunks(2) {
        match pair {
            [inside, behind] if !inside.is_empty() => out.push_str(&format!("{}{}", code(inside), bold(behind))),
            [inside, behind] => out.push_str(&format!("``{}{}", escape(inside), bold(behind))),
            // The last one has no partner.
            _ => out.push_str(&format!("`{}", bold(pair.first().copied().unwrap_or_default()))),
        }
    }
    out
}

fn bold(text: &str) -> String {
    let parts: Vec<&str> = text.split("**").collect();
    let odd = parts.len().is_multiple_of(2);
    let last = parts.len() - 1;
    let mut out = String::new();
    for (i, part) in parts.iter().enumerate() {
        match i % 2 {
            1 if odd && i == last => out.push_str(&format!("**{}", escape(part))),
            1 if part.trim().is_empty() => out.push_str(&format!("**{}**", escape(part))),
            1 => out.push_str(&format!("<b>{}</b>", escape(part))),
            _ => out.push_str(&escape(part)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::text::seen;
    use super::super::text::tests::balanced;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_models_write_reads_well() {
        for (text, shown) in [
            ("plain <b> & text", "plain &lt;b&gt; &amp; text"),
            (
                "# Done\n\nAll **tests** pass: `cargo test`.",
                "<b>Done</b>\n\nAll <b>tests</b> pass: <code>cargo test</code>.",
            ),
            ("```rust\nlet a = \"`x`\" < 2;\n```\nend", "<pre>let a = &quot;`x`&quot; &lt; 2;</pre>\nend"),
            ("```\nstill being written", "<pre>still being written</pre>"),
            ("2 ** 3 and `open", "2 ** 3 and `open"),
            ("a * b ** c ** d", "a * b <b> c </b> d"),
            ("#hashtag ####### seven", "#hashtag ####### seven"),
            ("``", "``"),
        ] {
            assert_eq!(html(text), shown, "{text}");
        }
    }

    proptest! {
        #[test]
        fn its_tags_are_balanced_and_no_word_is_lost(text in "([a-z<>&]{1,6}|\\*\\*|`|```|# |\n| ){0,40}") {
            let html = html(&text);
            prop_assert!(balanced(&html), "{html}");
            let letters = |text: &str| text.chars().filter(|c| c.is_ascii_lowercase()).collect::<String>();
            // What stands behind the marks of a fence is its language.
            let fences = text.lines().any(|l| l.trim_start().starts_with("```"));
            prop_assert!(fences || letters(&seen(&html)) == letters(&text), "{text:?} {html:?}");
        }
    }
}
