//! Quiet hours: what is told at once, what without sound, and what waits for the morning.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use octo::config::QuietHours;
use octo::task::NoticeKind;

/// When a notice is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// At once, with sound.
    Now,
    /// At once, without.
    Silently,
    /// Not before this moment (milliseconds since 1970), together with all others that wait.
    At(i64),
}

/// When a notice of this kind is sent, `now` being in milliseconds since 1970. Questions and requests for permission
/// are urgent: somebody waits. A reminder of one comes without sound, and ends come when the quiet hours are over.
pub(crate) fn when(hours: Option<QuietHours>, tz: &TimeZone, now: i64, kind: NoticeKind) -> When {
    let Some(end) = hours.and_then(|hours| end(hours, tz, now)) else { return When::Now };
    match kind {
        NoticeKind::Question => When::Now,
        NoticeKind::Reminder | NoticeKind::Closed | NoticeKind::Budget => When::Silently,
        NoticeKind::Completed
        | NoticeKind::Failed
        | NoticeKind::Cancelled
        | NoticeKind::BudgetExceeded
        | NoticeKind::Interrupted => When::At(end),
    }
}

/// The first moment after `now` that is not quiet; `None` when `now` is not.
///
/// It looks at minute after minute, as the clock on the wall shows them: where clocks are changed, a minute of the day
/// may come twice or never.
pub(crate) fn end(hours: QuietHours, tz: &TimeZone, now: i64) -> Option<i64> {
    const MINUTE: i64 = 60_000;
    /// Longer than any day.
    const LONGEST: i64 = 30 * 60;
    let quiet = |ms: i64| {
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(tz.clone());
        let minute = u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        hours.holds(minute)
    };
    if !quiet(now) {
        return None;
    }
    let first = now - now.rem_euclid(MINUTE) + MINUTE;
    (0..LONGEST).map(|n| first + n * MINUTE).find(|at| !quiet(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn hours(from: u16, until: u16) -> QuietHours {
        QuietHours { from, until }
    }

    const NIGHT: QuietHours = QuietHours { from: 22 * 60, until: 7 * 60 };

    #[test]
    fn questions_come_at_once_and_ends_wait_for_the_morning() {
        let (tz, night, day) = (TimeZone::UTC, at("2026-11-20T23:10:20Z"), at("2026-11-20T12:00:00Z"));
        let morning = When::At(at("2026-11-21T07:00:00Z"));
        for (kind, then) in [
            (NoticeKind::Question, When::Now),
            (NoticeKind::Reminder, When::Silently),
            (NoticeKind::Closed, When::Silently),
            (NoticeKind::Completed, morning),
            (NoticeKind::Failed, morning),
            (NoticeKind::Cancelled, morning),
            (NoticeKind::BudgetExceeded, morning),
            (NoticeKind::Interrupted, morning),
        ] {
            assert_eq!(when(Some(NIGHT), &tz, night, kind), then);
            assert_eq!(when(Some(NIGHT), &tz, day, kind), When::Now);
            assert_eq!(when(None, &tz, night, kind), When::Now);
        }
    }

    #[test]
    fn the_edges_of_the_night() {
        let tz = TimeZone::UTC;
        assert_eq!(end(NIGHT, &tz, at("2026-11-20T21:59:59.999Z")), None);
        assert_eq!(end(NIGHT, &tz, at("2026-11-20T22:00:00Z")), Some(at("2026-11-21T07:00:00Z")));
        assert_eq!(end(NIGHT, &tz, at("2026-11-21T06:59:59.999Z")), Some(at("2026-11-21T07:00:00Z")));
        assert_eq!(end(NIGHT, &tz, at("2026-11-21T07:00:00Z")), None);
        let all_but_a_minute = hours(1, 0);
        assert_eq!(end(all_but_a_minute, &tz, at("2026-11-21T00:01:00Z")), Some(at("2026-11-22T00:00:00Z")));
    }

    #[test]
    fn local_time_is_meant_also_when_clocks_change() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // Summer time ends on 25 October 2026 at 3:00, which becomes 2:00 again.
        assert_eq!(end(NIGHT, &berlin, at("2026-10-24T22:00:00Z")), Some(at("2026-10-25T06:00:00Z")));
        // The half hour before 2:30 comes twice, and is quiet twice.
        let early = hours(22 * 60, 150);
        assert_eq!(end(early, &berlin, at("2026-10-25T00:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(end(early, &berlin, at("2026-10-25T01:10:00Z")), Some(at("2026-10-25T01:30:00Z")));
        // It begins on 29 March 2026 at 2:00, which becomes 3:00: 2:30 does not come, and 3:00 is not quiet.
        assert_eq!(end(early, &berlin, at("2026-03-29T00:10:00Z")), Some(at("2026-03-29T01:00:00Z")));
        assert_eq!(end(NIGHT, &berlin, at("2026-03-28T21:30:00Z")), Some(at("2026-03-29T05:00:00Z")));
    }
}
