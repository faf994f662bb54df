//! Points in time as records hold them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time, UTC, RFC 3339 with milliseconds; empty means "not yet".
///
/// It keeps the text it was read from, so that a record of another tool is written back unchanged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "2026-11-20T10:00:00.000Z")]
pub struct Stamp(String);

impl Stamp {
    /// The stamp of a number of milliseconds since 1970.
    #[must_use]
    pub fn from_millis(ms: i64) -> Self {
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Stamp(format!("{at:.3}"))
    }

    /// Milliseconds since 1970; `None` when empty or not a time.
    ///
    /// A time without an offset (as the ancestor may have written) is read as UTC.
    #[must_use]
    pub fn millis(&self) -> Option<i64> {
        if self.0.is_empty() {
            return None;
        }
        if let Ok(at) = self.0.parse::<jiff::Timestamp>() {
            return Some(at.as_millisecond());
        }
        let civil: jiff::civil::DateTime = self.0.parse().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
    }

    /// Tells whether it means "not yet".
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millis_and_text_agree() {
        let s = Stamp::from_millis(1_763_632_800_123);
        assert_eq!(s.as_str(), "2025-11-20T10:00:00.123Z");
        assert_eq!(s.millis(), Some(1_763_632_800_123));
        assert_eq!(Stamp::from_millis(0).as_str(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_ancestors_forms_are_read() {
        for text in ["2025-11-20T10:00:00+00:00", "2025-11-20T10:00:00", "2025-11-20T11:00:00.000000+01:00"] {
            let s: Stamp = serde_json::from_value(serde_json::json!(text)).unwrap();
            assert_eq!(s.millis(), Some(1_763_632_800_000), "{text}");
            assert_eq!(s.as_str(), text);
        }
        assert_eq!(Stamp::default().millis(), None);
    }
}
