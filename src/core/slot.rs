//! When a post goes out: the next free slot of its account within the limits
//! of the day. Advisory: what binds is the counter that is taken with the
//! intent.

use std::collections::BTreeMap;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How far ahead a slot is looked for.
const HORIZON_DAYS: i32 = 400;

/// Whose days the limits count in. A change of the zone is in force from the
/// next full day: see [`DayZone::change`].
#[derive(Clone, Debug)]
pub struct DayZone {
    /// The zone in force from `since` on.
    pub zone: TimeZone,
    /// The zone before that.
    pub previous: Option<(TimeZone, Timestamp)>,
}

impl DayZone {
    /// A zone that was always in force.
    pub fn always(zone: TimeZone) -> Self {
        Self { zone, previous: None }
    }

    /// The local day of an instant.
    pub fn day(&self, at: Timestamp) -> Date {
        self.at(at).to_datetime(at).date()
    }

    fn at(&self, at: Timestamp) -> &TimeZone {
        match &self.previous {
            Some((previous, since)) if at < *since => previous,
            _ => &self.zone,
        }
    }

    /// The first instant of the day after the one an instant is in. A day
    /// begins when its date does: at 01:00 where a clock change skips midnight.
    pub fn next_day(&self, at: Timestamp) -> Timestamp {
        let zone = self.at(at);
        let next = start_of(zone, self.day(at).tomorrow().unwrap_or(Date::MAX), at);
        match &self.previous {
            Some((_, since)) if at < *since && next > *since => *since,
            _ => next,
        }
    }

    /// From when a change to `zone`, made at `now`, is in force: the first full
    /// day of the new zone after the day of the old one is over.
    pub fn change(&self, zone: &TimeZone, now: Timestamp) -> Timestamp {
        let over = self.next_day(now);
        let day = zone.to_datetime(over).date();
        let begun = start_of(zone, day, over);
        if begun >= over { begun } else { start_of(zone, day.tomorrow().unwrap_or(Date::MAX), over) }
    }
}

fn start_of(zone: &TimeZone, day: Date, or: Timestamp) -> Timestamp {
    day.to_zoned(zone.clone()).and_then(|day| day.start_of_day()).map_or(or, |day| day.timestamp())
}

/// What limits an account's slots.
#[derive(Clone, Debug)]
pub struct SlotRules<'a> {
    /// The account's zone, in which its times of day are meant.
    pub zone: &'a TimeZone,
    /// Times of day, sorted; empty: any time.
    pub times: &'a [Time],
    /// Least minutes between two posts of the account.
    pub spacing_minutes: u32,
    /// Most posts per day of the account and of the workspace.
    pub limits: [Option<u32>; 2],
    /// Whose days they count in.
    pub days: &'a DayZone,
}

/// What is booked already.
#[derive(Clone, Debug, Default)]
pub struct Booked {
    /// Posts per day that went out or have a slot, of the account and of the
    /// workspace.
    pub per_day: [BTreeMap<Date, u32>; 2],
    /// The instants of the account's posts.
    pub instants: Vec<Timestamp>,
}

/// The next free slot at or after `from`; `None` when there is none within a
/// year.
pub fn next_slot(rules: &SlotRules<'_>, booked: &Booked, from: Timestamp) -> Option<Timestamp> {
    let fits =
        |at: Timestamp| {
            let day = rules.days.day(at);
            rules.limits.iter().zip(&booked.per_day).all(|(limit, per_day)| {
                limit.is_none_or(|limit| per_day.get(&day).copied().unwrap_or(0) < limit)
            })
        };
    if rules.times.is_empty() {
        let mut at = from;
        for _ in 0..HORIZON_DAYS {
            let spaced = spaced(rules, booked, at);
            if fits(spaced) {
                return Some(spaced);
            }
            at = rules.days.next_day(spaced);
        }
        return None;
    }
    let mut day = rules.zone.to_datetime(from).date();
    for _ in 0..HORIZON_DAYS {
        for time in rules.times {
            // A time that a clock change skips is taken after the gap, one
            // that it repeats the first time.
            let Ok(at) = rules.zone.to_ambiguous_timestamp(day.to_datetime(*time)).compatible() else {
                continue;
            };
            if at >= from && fits(at) && spaced(rules, booked, at) == at {
                return Some(at);
            }
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// The first instant at or after `at` that is far enough from every booked one.
fn spaced(rules: &SlotRules<'_>, booked: &Booked, at: Timestamp) -> Timestamp {
    // Two posts of one account never share an instant of a time of day.
    let least = i64::from(rules.spacing_minutes).max(i64::from(!rules.times.is_empty()));
    if least == 0 {
        return at;
    }
    let mut instants = booked.instants.clone();
    instants.sort_unstable();
    let mut at = at;
    for taken in instants {
        let apart = at.duration_since(taken).as_secs().abs();
        if apart < least * 60 {
            at = taken.checked_add(least.minutes()).unwrap_or(at);
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        crate::automation::time_zone(name).expect("zone")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("instant")
    }

    fn date(text: &str) -> Date {
        text.parse().expect("date")
    }

    fn fill(rules: &SlotRules<'_>, from: Timestamp, posts: usize) -> Vec<Timestamp> {
        let mut booked = Booked::default();
        (0..posts)
            .map(|_| {
                let slot = next_slot(rules, &booked, from).expect("a slot");
                for per_day in &mut booked.per_day {
                    *per_day.entry(rules.days.day(slot)).or_default() += 1;
                }
                booked.instants.push(slot);
                slot
            })
            .collect()
    }

    #[test]
    fn overflow_fills_the_following_days_in_order() {
        let utc = zone("UTC");
        let days = DayZone::always(utc.clone());
        let rules =
            SlotRules { zone: &utc, times: &[], spacing_minutes: 0, limits: [None, Some(3)], days: &days };
        let slots = fill(&rules, at("2026-03-10T15:00:00Z"), 7);
        let dates: Vec<_> = slots.iter().map(|slot| days.day(*slot).to_string()).collect();
        assert_eq!(dates[..3], ["2026-03-10", "2026-03-10", "2026-03-10"]);
        assert_eq!(dates[3..6], ["2026-03-11", "2026-03-11", "2026-03-11"]);
        assert_eq!(slots[6], at("2026-03-12T00:00:00Z"));
    }

    #[test]
    fn times_of_day_are_the_accounts_and_spacing_holds() {
        let (lisbon, tokyo) = (zone("Europe/Lisbon"), zone("Asia/Tokyo"));
        let days = DayZone::always(lisbon);
        let times = [Time::constant(9, 0, 0, 0), Time::constant(9, 30, 0, 0), Time::constant(18, 0, 0, 0)];
        let rules =
            SlotRules { zone: &tokyo, times: &times, spacing_minutes: 60, limits: [None, None], days: &days };
        let slots = fill(&rules, at("2026-01-05T00:30:00Z"), 3);
        // 09:30 is now in Tokyo, 18:00 later, and 09:30 tomorrow only after 09:00.
        assert_eq!(slots[0], at("2026-01-05T00:30:00Z"));
        assert_eq!(slots[1], at("2026-01-05T09:00:00Z"));
        assert_eq!(slots[2], at("2026-01-06T00:00:00Z"));
    }

    #[test]
    fn a_day_begins_when_its_date_does() {
        // Midnight does not exist in Beirut on that day.
        let days = DayZone::always(zone("Asia/Beirut"));
        let before = at("2024-03-30T20:00:00Z");
        let begins = days.next_day(before);
        assert_eq!(days.day(begins), date("2024-03-31"));
        assert_eq!(begins, at("2024-03-30T22:00:00Z"));
        // The autumn day has 25 hours.
        let days = DayZone::always(zone("Europe/Berlin"));
        let begins = days.next_day(at("2026-10-24T12:00:00Z"));
        assert_eq!(days.next_day(begins).duration_since(begins).as_hours(), 25);
    }

    #[test]
    fn a_changed_zone_is_in_force_from_its_next_full_day() {
        for (from, to) in
            [("Asia/Tokyo", "America/New_York"), ("America/New_York", "Asia/Tokyo"), ("UTC", "UTC")]
        {
            let old = DayZone::always(zone(from));
            let now = at("2026-05-05T10:00:00Z");
            let since = old.change(&zone(to), now);
            assert!(since >= old.next_day(now), "{from} to {to}: the day that runs is not cut short");
            let new = zone(to);
            assert_eq!(new.to_datetime(since).time(), Time::midnight(), "{from} to {to}: a full day");
            let days = DayZone { zone: new, previous: Some((zone(from), since)) };
            assert_eq!(days.day(now), old.day(now));
            assert!(since.duration_since(now).as_hours() <= 48);
        }
    }

    #[test]
    fn a_full_year_is_no_endless_search() {
        let utc = zone("UTC");
        let days = DayZone::always(utc.clone());
        let rules =
            SlotRules { zone: &utc, times: &[], spacing_minutes: 0, limits: [Some(0), None], days: &days };
        assert_eq!(next_slot(&rules, &Booked::default(), at("2026-01-01T00:00:00Z")), None);
    }
}
