//! "Did you mean ...?"

/// The candidate that a mistyped word most likely meant; `None` when none is near.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect::<String>().to_lowercase();
    let prefixed = candidates.iter().filter(|c| word.len() > 1 && c.starts_with(&word)).min_by_key(|c| c.len());
    if let Some(candidate) = prefixed {
        return Some(candidate);
    }
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|c| (distance(&word, c), *c))
        .filter(|(d, _)| *d <= bound)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// How many characters must be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistypings_find_their_word_and_other_words_do_not() {
        let names = ["/bg", "/tasks", "/task", "/recap", "/status", "/help", "/quit"];
        for (typed, meant) in [
            ("/taks", "/tasks"),
            ("/tsaks", "/tasks"),
            ("/hlep", "/help"),
            ("/stat", "/status"),
            ("/q", "/quit"),
            ("/BG", "/bg"),
        ] {
            assert_eq!(nearest(typed, &names), Some(meant), "{typed}");
        }
        for typed in ["/elephant", "/", "/orchestrate", ""] {
            assert_eq!(nearest(typed, &names), None, "{typed}");
        }
    }
}
