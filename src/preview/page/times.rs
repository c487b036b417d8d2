//! Times as people read them: how long ago, and exactly when.

use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `5 min ago`, `in 2 h`; whole units only, so that a page does not change all
/// the time while it is looked at.
pub(super) fn relative(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    let span = match seconds.abs() {
        ..MINUTE => return if seconds < 0 { "any moment" } else { "just now" }.to_owned(),
        length @ MINUTE..HOUR => format!("{} min", length / MINUTE),
        length @ HOUR..DAY => format!("{} h", length / HOUR),
        length if length < 2 * DAY => "1 day".to_owned(),
        length => format!("{} days", length / DAY),
    };
    if seconds < 0 { format!("in {span}") } else { format!("{span} ago") }
}

/// `Wed 3 Jun 2026, 14:32` in this computer's zone.
pub(super) fn absolute(then: Timestamp, zone: &TimeZone) -> String {
    then.to_zoned(zone.clone()).strftime("%a %-d %b %Y, %H:%M").to_string()
}

/// `3 June 2026`.
pub(super) fn day(then: Timestamp, zone: &TimeZone) -> String {
    then.to_zoned(zone.clone()).strftime("%-d %B %Y").to_string()
}

/// The relative time, with everything exact in its tooltip.
pub(super) fn ago(then: Timestamp, now: Timestamp, zone: &TimeZone) -> Markup {
    html! {
        time datetime=(then) title=(absolute(then, zone)) { (relative(then, now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        let now: Timestamp = "2026-06-03T12:00:00Z".parse().unwrap();
        let told = |text: &str| relative(text.parse().unwrap(), now);
        assert_eq!(told("2026-06-03T11:59:30Z"), "just now");
        assert_eq!(told("2026-06-03T11:01:00Z"), "59 min ago");
        assert_eq!(told("2026-06-03T09:59:00Z"), "2 h ago");
        assert_eq!(told("2026-06-02T11:00:00Z"), "1 day ago");
        assert_eq!(told("2026-05-01T12:00:00Z"), "33 days ago");
        assert_eq!(told("2026-06-03T12:00:30Z"), "any moment");
        assert_eq!(told("2026-06-03T14:10:00Z"), "in 2 h");
    }
}
