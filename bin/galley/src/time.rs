//! Times as people say them. Clocks are read here and nowhere else in this
//! package; decisions never depend on them.

use std::time::Duration;

use jiff::Timestamp;

/// `12 s ago` for an RFC 3339 time, `in 5 s` for one to come; the text itself
/// if it is no time.
pub(crate) fn ago(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(at) => between(at, Timestamp::now()),
        Err(_) => time.to_owned(),
    }
}

/// How long ago something was of which only the hour is known, by its begin:
/// `this hour`, `about 3 h ago`; the text itself if it is no time.
pub(crate) fn hour_ago(time: &str) -> String {
    time.parse().map_or_else(|_| time.to_owned(), |at| hours_between(at, Timestamp::now()))
}

fn hours_between(hour: Timestamp, now: Timestamp) -> String {
    let since = Duration::from_secs(u64::try_from(now.as_second() - hour.as_second()).unwrap_or(0));
    match since.as_secs() / 3_600 {
        0 => "this hour".into(),
        hours @ 1..48 => format!("about {hours} h ago"),
        _ => format!("{} ago", rough(since)),
    }
}

/// An RFC 3339 time as people in a zone say it: `Mon 2026-11-30 09:30`; the text
/// itself where that cannot be said.
pub(crate) fn local(time: &str, zone: &str) -> String {
    let at = time.parse::<Timestamp>().and_then(|at| at.in_tz(zone));
    at.map_or_else(|_| time.to_owned(), |at| at.strftime("%a %Y-%m-%d %H:%M").to_string())
}

/// An RFC 3339 time for a receipt, to the second, in the zone of whoever reads
/// it: `2026-03-01 09:30:05 +01:00`; the text itself if it is no time.
pub(crate) fn exact(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
        Err(_) => time.to_owned(),
    }
}

fn between(at: Timestamp, now: Timestamp) -> String {
    let millis = now.as_millisecond() - at.as_millisecond();
    let amount = rough(Duration::from_millis(millis.unsigned_abs()));
    if millis.unsigned_abs() < 1_000 {
        "now".into()
    } else if millis > 0 {
        format!("{amount} ago")
    } else {
        format!("in {amount}")
    }
}

/// Seconds since an RFC 3339 time; 0 if it is none or still to come.
pub(crate) fn since(time: &str) -> Duration {
    let at = time.parse::<Timestamp>().unwrap_or_else(|_| Timestamp::now());
    let millis = Timestamp::now().as_millisecond() - at.as_millisecond();
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The time between two RFC 3339 times; 0 if one is none.
pub(crate) fn between_texts(start: &str, end: &str) -> Duration {
    let (Ok(start), Ok(end)) = (start.parse::<Timestamp>(), end.parse::<Timestamp>()) else {
        return Duration::ZERO;
    };
    Duration::from_millis(u64::try_from(end.as_millisecond() - start.as_millisecond()).unwrap_or(0))
}

/// A duration in its largest unit.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_399 => format!("{} min", seconds / 60),
        5_400..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A run time: milliseconds below ten seconds are worth showing.
pub(crate) fn run_time(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=9_999 => format!("{:.1} s", millis as f64 / 1_000.0),
        _ => rough(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{between, hours_between, run_time};

    #[test]
    fn times_are_relative() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        let of = |text: &str| between(text.parse().expect("a time"), now);
        assert_eq!(of("2026-03-01T11:59:59.5Z"), "now");
        assert_eq!(of("2026-03-01T11:59:48Z"), "12 s ago");
        assert_eq!(of("2026-03-01T11:50:00Z"), "10 min ago");
        assert_eq!(of("2026-03-01T09:00:00Z"), "3 h ago");
        assert_eq!(of("2026-02-20T12:00:00Z"), "9 d ago");
        assert_eq!(of("2026-03-01T12:00:05Z"), "in 5 s");
    }

    #[test]
    fn an_hour_is_no_minute() {
        let now: Timestamp = "2026-03-01T12:20:00Z".parse().expect("a time");
        let of = |text: &str| hours_between(text.parse().expect("a time"), now);
        assert_eq!(of("2026-03-01T12:00:00Z"), "this hour");
        assert_eq!(of("2026-03-01T09:00:00Z"), "about 3 h ago");
        assert_eq!(of("2026-02-20T12:00:00Z"), "9 d ago");
    }

    #[test]
    fn run_times_keep_what_matters() {
        assert_eq!([420, 1_240, 61_000].map(run_time), ["420 ms", "1.2 s", "61 s"]);
    }
}
