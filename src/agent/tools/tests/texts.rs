//! Long texts made short.

use proptest::prelude::*;

use super::*;

#[test]
fn the_beginning_and_the_end_stay() {
    let text: String = (1..=1000).map(|n| format!("line {n}\n")).collect();
    let cut = cap(&text, 1000, "the task's log");
    assert!(cut.len() <= 1000, "{}", cut.len());
    assert!(cut.starts_with("line 1\nline 2\n") && cut.ends_with("line 999\nline 1000\n"), "{cut}");
    assert!(cut.contains("bytes are not shown; the whole is in the task's log ...]\nline "), "{cut}");
    assert_eq!(cap(&text, text.len(), ""), text);
}

#[test]
fn the_remark_counts_what_is_missing() {
    let text = "x".repeat(5000);
    let cut = cap(&text, 1000, "it");
    let shown = cut.matches('x').count();
    assert!(cut.contains(&format!("[... {} bytes are not shown", 5000 - shown)), "{cut}");
}

proptest! {
    #[test]
    fn never_longer_never_broken(text in "(\\PC|\n|\u{1F419}){0,400}", max in 0usize..900, place in "\\PC{0,20}") {
        let cut = cap(&text, max, &place);
        prop_assert!(cut.len() <= max.max(text.len().min(max)));
        prop_assert_eq!(text.len() <= max, cut == text || text.is_empty());
        // What is shown was there: the beginning, and after a remark the end.
        match cut.split_once("[... ") {
            Some((head, tail)) if cut != text => {
                let head = head.strip_suffix('\n').filter(|h| text.starts_with(h)).unwrap_or(head);
                prop_assert!(text.starts_with(head));
                let tail = tail.split_once(" ...]\n").map(|(_, tail)| tail);
                prop_assert!(tail.is_some_and(|tail| text.ends_with(tail)));
            }
            _ => prop_assert!(text.starts_with(&cut)),
        }
    }
}
