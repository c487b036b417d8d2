//! Forty years: each a zone, and a year in which its days were not all alike.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A zone, and the first day of its year.
pub(super) const YEARS: [(&str, &str); 40] = [
    ("UTC", "2023-12-31"),
    // Ordinary clock changes, north and south.
    ("Europe/Berlin", "2024-01-01"),
    ("Europe/London", "2024-01-01"),
    ("Europe/Lisbon", "2024-01-01"),
    ("Europe/Dublin", "2024-01-01"),
    ("America/New_York", "2024-01-01"),
    ("America/Los_Angeles", "2024-01-01"),
    ("Australia/Sydney", "2024-01-01"),
    ("Pacific/Auckland", "2024-01-01"),
    ("Pacific/Chatham", "2024-01-01"),
    // Half an hour, two hours, thirty minutes for good.
    ("Australia/Lord_Howe", "2024-01-01"),
    ("Antarctica/Troll", "2024-01-01"),
    ("America/Caracas", "2016-01-01"),
    ("Asia/Kathmandu", "1985-07-01"),
    ("Pacific/Norfolk", "2019-01-01"),
    // No midnight in spring, two in autumn.
    ("Asia/Beirut", "2024-01-01"),
    ("Africa/Cairo", "2024-01-01"),
    ("America/Santiago", "2023-01-01"),
    ("Pacific/Easter", "2023-01-01"),
    ("America/Havana", "2024-01-01"),
    ("America/Asuncion", "2023-01-01"),
    ("America/Sao_Paulo", "2018-01-01"),
    ("Asia/Tehran", "2021-06-01"),
    ("Asia/Damascus", "2021-06-01"),
    ("Asia/Amman", "2021-06-01"),
    ("Asia/Gaza", "2019-01-01"),
    ("America/Scoresbysund", "2023-06-01"),
    ("Atlantic/Azores", "2024-01-01"),
    // A clock change one minute after midnight: a date comes back.
    ("America/St_Johns", "2006-01-01"),
    ("America/Goose_Bay", "2010-06-01"),
    // Days that never were, and one that was twice.
    ("Pacific/Apia", "2011-06-01"),
    ("Pacific/Fakaofo", "2011-06-01"),
    ("Pacific/Kiritimati", "1994-06-01"),
    ("Pacific/Kwajalein", "1993-03-01"),
    ("Pacific/Pago_Pago", "1892-03-01"),
    // Changes that a government made up.
    ("Asia/Pyongyang", "2018-01-01"),
    ("Africa/Casablanca", "2019-01-01"),
    ("Europe/Volgograd", "2020-06-01"),
    ("Europe/Istanbul", "2016-01-01"),
    ("Africa/Juba", "2020-06-01"),
];

/// A local day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    pub(super) date: Date,
    /// Its first instant.
    pub(super) begins: Timestamp,
    /// The first instant of the date after it.
    pub(super) ends: Timestamp,
}

impl Day {
    /// How long it is, minutes.
    pub(super) fn minutes(&self) -> i64 {
        self.ends.duration_since(self.begins).as_mins()
    }
}

/// The 365 days from a date on; dates that a zone never had are not among
/// them.
pub(super) fn days(zone: &TimeZone, first: Date) -> Vec<Day> {
    let begin = |date: Date| date.to_zoned(zone.clone()).unwrap().start_of_day().unwrap().timestamp();
    let mut days = Vec::with_capacity(365);
    let mut date = first;
    while days.len() < 365 {
        let next = date.tomorrow().unwrap();
        let (begins, ends) = (begin(date), begin(next));
        if zone.to_datetime(begins).date() == date {
            days.push(Day { date, begins, ends });
        }
        date = next;
    }
    days
}

/// A microsecond, the least that Postgres knows.
pub(super) fn before(at: Timestamp) -> Timestamp {
    at - 1.microsecond()
}

#[test]
fn the_calendar_has_what_it_is_about() {
    let zone = |name| TimeZone::get(name).unwrap();
    let all: Vec<(&str, Vec<Day>)> =
        YEARS.iter().map(|(name, first)| (*name, days(&zone(name), first.parse().unwrap()))).collect();
    let has = |what: &str, is: &dyn Fn(&TimeZone, &Day) -> bool, least: usize| {
        let found = all.iter().filter(|(name, days)| days.iter().any(|day| is(&zone(name), day))).count();
        assert!(found >= least, "{what}: {found} zones");
    };
    has("a day of 23 hours", &|_, day| day.minutes() == 23 * 60, 20);
    has("a day of 25 hours", &|_, day| day.minutes() == 25 * 60, 20);
    let odd = [22 * 60, 23 * 60, 24 * 60, 25 * 60, 26 * 60];
    has("a day of another length", &|_, day| !odd.contains(&day.minutes()), 4);
    has("no midnight", &|zone, day| zone.to_datetime(day.begins).hour() > 0, 8);
    has("a day of two days", &|_, day| day.minutes() >= 47 * 60, 1);
    let missing = |days: &[Day]| days.windows(2).any(|two| two[0].date.tomorrow().unwrap() != two[1].date);
    assert!(all.iter().filter(|(_, days)| missing(days)).count() >= 4, "a date that never was");
}
