use proptest::prelude::*;

use super::*;

fn none() -> Mask {
    Mask::default()
}

/// Tells whether every tag is closed, in the right order.
pub(crate) fn balanced(html: &str) -> bool {
    let mut open: Vec<String> = Vec::new();
    for (_, tag) in parse(html).tags {
        if tag.starts_with("</") {
            if open.pop().as_deref() != Some(tag) {
                return false;
            }
        } else {
            open.push(closing(tag));
        }
    }
    open.is_empty()
}

#[test]
fn lengths_are_utf16_units() {
    assert_eq!((units("aé日"), units("😀"), units("")), (3, 2, 0));
    assert_eq!(units(&seen("<b>&lt;&amp;</b>😀")), 4);
}

#[test]
fn cutting_parts_no_character_and_says_that_it_cut() {
    assert_eq!(cut("hello", 5), "hello");
    assert_eq!(cut("hello!", 5), "hell…");
    let family = "👨‍👩‍👧";
    assert_eq!(cut(&format!("ab{family}"), 6), "ab…");
    assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 4), "e\u{301}…");
    assert_eq!(cut("abc", 0), "…");
}

#[test]
fn the_last_lines_are_the_last_ones() {
    let text: String = (1..=20).map(|n| format!("line {n}\n\n")).collect();
    assert_eq!(tail(&text, 3, 600), "line 18\nline 19\nline 20");
    assert_eq!(tail(&text, 3, 15), "line 19\nline 20");
    assert_eq!(tail("abcdefgh", 3, 5), "…efgh");
    assert_eq!(tail("\n \n", 3, 5), "");
}

#[test]
fn what_a_task_wrote_is_harmless() {
    let evil =
        "a\x1b[31m<b>\u{202e}@everyone /start http://x.y & \"q\"\n123456789:AAExxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    let shown = pre(&clean(evil, &none()));
    assert_eq!(shown, "<pre>a&lt;b&gt;@everyone /start http://x.y &amp; &quot;q&quot;\n•••</pre>");
    assert!(!line(evil, 40, &none()).contains('\n'));
    assert_eq!((pre(" \n"), code("")), (String::new(), String::new()));
}

#[test]
fn lines_then_spaces_then_characters() {
    assert_eq!(split("aaaa bbbb\ncccc dddd", 12), ["aaaa bbbb\n", "cccc dddd"]);
    assert_eq!(split("aaaa bbbb cccc", 12), ["aaaa bbbb ", "cccc"]);
    assert_eq!(split("aaaabbbbcccc", 5), ["aaaab", "bbbcc", "cc"]);
    assert_eq!(split("", 5), [""]);
}

#[test]
fn a_pre_is_closed_and_opened_again() {
    let html = "<b>x</b><pre><code class=\"language-diff\">+ one\n- two &lt;\n</code></pre>";
    let diff = |text: &str| format!("<pre><code class=\"language-diff\">{text}</code></pre>");
    assert_eq!(split(html, 7), [format!("<b>x</b>{}", diff("+ one\n")), diff("- two "), diff("&lt;\n")]);
}

/// HTML as this module writes it.
fn html() -> impl Strategy<Value = String> {
    let bit = prop_oneof![
        4 => "[ -~\n]{0,30}".prop_map(|t| escape(&t)),
        1 => proptest::sample::select(vec!["😀", "日本語", "e\u{301}", "👨‍👩‍👧‍👦", "\u{1f1e9}\u{1f1ea}", "\n\n", "      "]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(|c| escape(&c.to_string())),
    ];
    let block = (proptest::collection::vec(bit, 0..8), 0..5usize).prop_map(|(bits, tag)| {
        let text = bits.concat();
        match tag {
            0 => format!("<b>{text}</b>"),
            1 => format!("<pre>{text}</pre>"),
            2 => format!("<pre><code class=\"language-diff\">{text}</code></pre>"),
            3 => format!("<b>{text}<code>{text}</code></b>"),
            _ => text,
        }
    });
    proptest::collection::vec(block, 0..8).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn parts_are_the_whole_are_short_and_balanced(html in html(), most in 2usize..80) {
        let parts = split(&html, most);
        let together: String = parts.iter().map(|p| seen(p)).collect();
        prop_assert_eq!(together, seen(&html));
        for part in &parts {
            prop_assert!(units(&seen(part)) <= most, "{} of {most}: {part:?}", units(&seen(part)));
            prop_assert!(balanced(part), "{part:?}");
        }
    }

    #[test]
    fn escaped_text_is_seen_as_it_was(text in any::<String>()) {
        prop_assert_eq!(seen(&escape(&text)), text.clone());
        prop_assert!(!escape(&text).contains(['<', '>', '"']));
    }

    #[test]
    fn cut_and_tail_are_short_enough(text in any::<String>(), most in 1usize..40, lines in 1usize..6) {
        prop_assert!(units(&cut(&text, most)) <= most);
        prop_assert!(units(&tail(&text, lines, most)) <= most);
        prop_assert!(tail(&text, lines, most).lines().count() <= lines);
    }
}
