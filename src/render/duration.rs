//! Durations and ages: how people write and read them.

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; write 90, 90s, 10m, 2h or 1d")]
pub struct BadDuration(pub String);

/// Reads a duration: `90`, `90s`, `10m`, `2h`, `1d`; the result is in seconds.
///
/// # Errors
/// [`BadDuration`] for everything else, also when the number is too large.
pub fn parse_duration(text: &str) -> Result<u64, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    let (digits, unit) = match text.char_indices().next_back() {
        Some((i, 's')) => (&text[..i], 1),
        Some((i, 'm')) => (&text[..i], 60),
        Some((i, 'h')) => (&text[..i], 3600),
        Some((i, 'd')) => (&text[..i], 86400),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    // A year of centuries: far from the limits of any clock.
    number.checked_mul(unit).filter(|s| *s <= 3_155_760_000).ok_or_else(bad)
}

/// A duration in milliseconds for people: `0.4s`, `12s`, `2m 3s`, `1h 5m`, `3d 4h`.
#[must_use]
pub fn duration(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0..10 => format!("{}.{}s", s, ms.max(0) % 1000 / 100),
        10..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86400, s % 86400 / 3600),
    }
}

/// An age in milliseconds for people, in one unit: `now`, `12s ago`, `3m ago`, `5h ago`, `2d ago`.
#[must_use]
pub fn ago(ms: i64) -> String {
    let s = ms / 1000;
    match s {
        ..5 => "now".to_owned(),
        5..60 => format!("{s}s ago"),
        60..3600 => format!("{}m ago", s / 60),
        3600..86400 => format!("{}h ago", s / 3600),
        _ => format!("{}d ago", s / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_documented_and_not_otherwise() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("0", 0)] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        for bad in
            ["", "s", "-1", "+1", "1.5h", "1w", "1 m", "10M", "99999999999999999999", "99999999999d", "é", "1h30m"]
        {
            assert_eq!(parse_duration(bad), Err(BadDuration(bad.to_owned())));
        }
    }

    #[test]
    fn durations_and_ages_are_short() {
        let shown = [-5, 0, 420, 9_999, 10_000, 123_000, 3_900_000, 273_600_000].map(duration);
        assert_eq!(shown, ["0.0s", "0.0s", "0.4s", "9.9s", "10s", "2m 3s", "1h 5m", "3d 4h"]);
        assert_eq!(
            [-9, 6_000, 61_000, 7_200_000, 200_000_000].map(ago),
            ["now", "6s ago", "1m ago", "2h ago", "2d ago"]
        );
    }
}
