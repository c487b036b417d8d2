//! Recurring workflows: when a schedule's time comes, and what becomes of times
//! that passed while nobody looked. Pure arithmetic on instants that come in as
//! arguments.
//!
//! The rule about clock changes, in one place: a time that a change skips runs
//! as long after the gap as it lay behind its beginning, one that it repeats
//! runs the first time: each once. A schedule of every hour of the day follows
//! the clock instead: nothing in the gap, and both passes of a repeated hour,
//! so that its runs stay evenly apart.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::automation::time_zone;
use crate::plan::Problem;

/// A time that is later than this is missed: whoever looks was away.
pub const ON_TIME: SignedDuration = SignedDuration::from_mins(5);

/// Longest pattern that is looked at, in bytes.
const MAX_PATTERN_BYTES: usize = 200;

/// A field of a pattern.
struct Field {
    name: &'static str,
    /// What it takes, for people.
    takes: &'static str,
    /// How many values there are: a longer step is a mistake.
    values: u32,
    /// The words it may have in it.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", takes: "0-59", values: 60, words: &[] },
    Field { name: "hour", takes: "0-23", values: 24, words: &[] },
    Field {
        name: "day of month",
        takes: "1-31, `L` (the last), `15W` (the weekday nearest the 15th)",
        values: 31,
        words: &["L", "W", "LW"],
    },
    Field {
        name: "month",
        takes: "1-12 or JAN-DEC",
        values: 12,
        words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field {
        name: "day of week",
        takes: "0-7 or SUN-SAT, `FRI#2` (the second), `5L` (the last Friday)",
        values: 7,
        words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"],
    },
];

/// What happens with times that passed while no scheduler looked, or while the
/// policy kept schedules off.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are gone; it goes on with the next time to come.
    Skip,
    /// The last of them runs, once, however many they were.
    #[default]
    RunLast,
}

impl Missed {
    /// Every rule.
    pub const ALL: [Self; 2] = [Self::Skip, Self::RunLast];

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::RunLast => "run_last",
        }
    }

    /// The rule of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|missed| missed.word() == word)
    }
}

/// Whether a schedule's times become workflows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ScheduleState {
    /// They do.
    Active,
    /// A person paused it.
    Paused,
    /// The policy of the workspace keeps all schedules off.
    Off,
}

impl ScheduleState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Paused, Self::Off];

    /// The word used in the API, the CLI and the docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Off => "off",
        }
    }
}

/// When a schedule's times are: a cron pattern in a time zone.
#[derive(Clone, Debug)]
pub struct Recurrence {
    cron: Cron,
    zone: TimeZone,
    /// Whether no hour of the day is left out: it follows the clock.
    hourly: bool,
}

/// What to do about a schedule whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The last time that has come. Earlier ones since the schedule was looked
    /// at are gone either way: it never runs twice to catch up.
    pub at: Timestamp,
    /// Whether that one runs.
    pub run: bool,
    /// The time after it.
    pub next: Option<Timestamp>,
}

impl Recurrence {
    /// Reads a pattern of five fields (minute, hour, day of month, month, day of
    /// week) and an IANA time zone.
    ///
    /// # Errors
    /// Every problem with its place: `cron` (which names the field), `timeZone`.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let cron = cron(pattern).map_err(|problem| problems.push(Problem::new("cron", problem)));
        let zone = time_zone(zone).map_err(|problem| problems.push(Problem::new("timeZone", problem)));
        match (cron, zone) {
            (Ok(cron), Ok(zone)) => Ok(Self { hourly: is_hourly(pattern), cron, zone }),
            _ => Err(problems),
        }
    }

    /// The first time after an instant; `None` when there is none within four
    /// years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.hourly { self.next_on_the_clock(after) } else { self.next_once_each(after) }
    }

    /// The next `count` times after an instant.
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(after), |at| self.next(*at)).take(count).collect()
    }

    /// An instant as people in its zone say it: `Mon 2026-11-30 09:30`.
    pub fn local(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M").to_string()
    }

    /// What to do at `now` about a schedule that waits for `due`, which has
    /// come.
    pub fn turn(&self, due: Timestamp, now: Timestamp, missed: Missed) -> Turn {
        // A zone's rules may have changed since: then no time of today's rules
        // need lie between, and the promised one holds.
        let at = self.last(due, now).unwrap_or(due);
        let on_time = now.duration_since(at) <= ON_TIME;
        Turn { at, run: on_time || missed == Missed::RunLast, next: self.next(now.max(at)) }
    }

    /// The last time from `first` to `now`, both included. Looks back in
    /// growing steps, so that years of minutes need not be walked.
    fn last(&self, first: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let before = first.checked_sub(1.second()).ok()?;
        let mut back = SignedDuration::from_hours(1);
        loop {
            let from = now.checked_sub(back).map_or(before, |from| from.max(before));
            let passed = std::iter::successors(self.next(from), |at| self.next(*at));
            if let Some(last) = passed.take_while(|at| *at <= now).last() {
                return Some(last);
            }
            if from == before {
                return None;
            }
            back = back.checked_mul(24)?;
        }
    }

    /// Each local time once, whatever the clock does.
    fn next_once_each(&self, after: Timestamp) -> Option<Timestamp> {
        // A skipped time runs after later ones of the same night; so where the
        // clock changed lately the look begins before the change. No change is
        // larger than a day.
        let before = after.checked_sub(SignedDuration::from_hours(25)).ok()?;
        let changed = self.zone.to_offset(before) != self.zone.to_offset(after);
        let mut local = self.zone.to_datetime(if changed { before } else { after });
        let mut best: Option<Timestamp> = None;
        loop {
            local = match self.civil_after(local) {
                Some(local) => local,
                None => return best,
            };
            if best.is_some_and(|best| local > self.zone.to_datetime(best)) {
                return best;
            }
            // Jiff's "compatible": behind a gap by as much, the first of two.
            let at = self.zone.to_ambiguous_timestamp(local).compatible().ok()?;
            if at > after {
                best = Some(best.map_or(at, |best| best.min(at)));
            }
        }
    }

    /// Whatever the clock shows, as often as it shows it.
    fn next_on_the_clock(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        let mut local = self.zone.to_datetime(after);
        loop {
            let offset = self.zone.to_offset(from);
            let at = offset.to_timestamp(self.civil_after(local)?).ok()?;
            let change = self.zone.following(from).next().map(|change| change.timestamp());
            let Some(change) = change.filter(|change| *change <= at) else { return Some(at) };
            // From here on the clock shows other times; this very one counts.
            from = change;
            local = self.zone.to_datetime(change).checked_sub(1.second()).ok()?;
        }
    }

    /// The first local time of the pattern after a local time.
    fn civil_after(&self, local: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&local, false).ok()
    }
}

fn cron(pattern: &str) -> Result<Cron, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("at most {MAX_PATTERN_BYTES} bytes"));
    }
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    if fields.len() == 6 {
        return Err("six fields: there are no seconds, a schedule runs once a minute at most; \
                    write minute, hour, day of month, month, day of week"
            .into());
    }
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "{} fields where five belong: minute, hour, day of month, month, day of week, as in `30 9 * * MON-FRI`",
            fields.len()
        ));
    }
    for (index, (field, text)) in FIELDS.iter().zip(&fields).enumerate() {
        let mut alone = ["*"; FIELDS.len()];
        alone[index] = text;
        if !field.can_be(text) || read(&alone.join(" ")).is_err() {
            return Err(format!(
                "{} `{text}` cannot be read: {}; also lists `1,3`, ranges `1-5`, steps `*/2`",
                field.name, field.takes
            ));
        }
    }
    let cron = read(&fields.join(" ")).map_err(|error| error.to_string())?;
    // Any beginning will do: what is not there within a leap year's cycle never is.
    match cron.find_next_occurrence(&DateTime::constant(2024, 1, 1, 0, 0, 0, 0), true) {
        Ok(_) => Ok(cron),
        Err(_) => Err(format!("`{pattern}` never comes: no such month has such a day")),
    }
}

impl Field {
    /// Whether a text has nothing that the parser would take for something
    /// else: it reads `JAN` as a minute, and a step of 90 minutes as an hour.
    fn can_be(&self, text: &str) -> bool {
        let upper = text.to_uppercase();
        let words = upper.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        let steps = upper.split(',').filter_map(|item| item.split_once('/'));
        words.into_iter().all(|word| self.words.contains(&word))
            && steps.into_iter().all(|(_, step)| step.parse().is_ok_and(|step: u32| step <= self.values))
            && upper.split(',').all(|item| !item.is_empty())
    }
}

fn read(pattern: &str) -> Result<Cron, CronError> {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build().parse(pattern)
}

/// Whether the hours of a valid pattern leave no hour out.
fn is_hourly(pattern: &str) -> bool {
    let hours = pattern.split_whitespace().nth(1).unwrap_or_default();
    let Ok(cron) = read(&format!("0 {hours} * * *")) else { return false };
    (0..24).all(|hour| cron.is_time_matching(&DateTime::constant(2024, 1, 1, hour, 0, 0, 0)).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("instant")
    }

    fn recurrence(pattern: &str, zone: &str) -> Recurrence {
        Recurrence::parse(pattern, zone).expect("a good schedule")
    }

    fn runs(pattern: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let upcoming = recurrence(pattern, zone).upcoming(at(after), count);
        upcoming.iter().map(ToString::to_string).collect()
    }

    fn problems(pattern: &str, zone: &str) -> Vec<String> {
        let problems = Recurrence::parse(pattern, zone).expect_err("a bad schedule");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn times_are_those_of_the_pattern() {
        let friday = "2026-11-27T12:00:00Z";
        let table = [
            ("30 9 * * MON-FRI", "UTC", &["2026-11-30T09:30:00Z", "2026-12-01T09:30:00Z"][..]),
            ("0 12 * * *", "UTC", &["2026-11-28T12:00:00Z", "2026-11-29T12:00:00Z"]),
            ("0 9 1 * MON", "UTC", &["2026-11-30T09:00:00Z", "2026-12-01T09:00:00Z", "2026-12-07T09:00:00Z"]),
            ("0 9 * * fri#2", "UTC", &["2026-12-11T09:00:00Z", "2027-01-08T09:00:00Z"]),
            ("0 9 L * *", "Asia/Tokyo", &["2026-11-30T00:00:00Z", "2026-12-31T00:00:00Z"]),
            ("0 0 29 2 *", "UTC", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("*/20 * * * *", "UTC", &["2026-11-27T12:20:00Z", "2026-11-27T12:40:00Z"]),
            ("* * * * *", "UTC", &["2026-11-27T12:01:00Z", "2026-11-27T12:02:00Z"]),
        ];
        for (pattern, zone, expected) in table {
            assert_eq!(runs(pattern, zone, friday, expected.len()), expected, "{pattern} {zone}");
        }
    }

    #[test]
    fn a_skipped_time_runs_after_the_gap_and_a_repeated_one_the_first_time() {
        // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
        let table = [
            ("30 2 * * *", &["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"][..]),
            // 02:30 runs at 03:30, behind 03:00 and together with 03:30.
            (
                "0,30 2-3 * * *",
                &[
                    "2026-03-28T01:00:00Z",
                    "2026-03-28T01:30:00Z",
                    "2026-03-28T02:00:00Z",
                    "2026-03-28T02:30:00Z",
                    "2026-03-29T01:00:00Z",
                    "2026-03-29T01:30:00Z",
                    "2026-03-30T00:00:00Z",
                ],
            ),
            ("15 2,3 29 3 *", &["2026-03-29T01:15:00Z", "2027-03-29T00:15:00Z"]),
        ];
        for (pattern, expected) in table {
            assert_eq!(
                runs(pattern, "Europe/Berlin", "2026-03-28T00:00:00Z", expected.len()),
                expected,
                "{pattern}"
            );
        }
        // 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC.
        let autumn = runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        // Asked in between, the second pass is no second run.
        assert_eq!(runs("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", 1), ["2026-10-26T01:30:00Z"]);
        // No midnight in Beirut on 31 March 2024; no 30 December 2011 in Apia.
        assert_eq!(runs("0 0 * * *", "Asia/Beirut", "2024-03-30T12:00:00Z", 1), ["2024-03-30T22:00:00Z"]);
        assert_eq!(
            runs("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 2),
            ["2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"]
        );
    }

    #[test]
    fn what_runs_every_hour_stays_evenly_apart() {
        let spring = runs("30 * * * *", "Europe/Berlin", "2026-03-28T23:45:00Z", 3);
        assert_eq!(spring, ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]);
        let autumn = runs("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4);
        assert_eq!(
            autumn,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]
        );
        // Half an hour is skipped and repeated on Lord Howe Island.
        let howe = runs("*/15 0-23 * * *", "Australia/Lord_Howe", "2026-10-03T15:14:00Z", 3);
        assert_eq!(howe, ["2026-10-03T15:15:00Z", "2026-10-03T15:30:00Z", "2026-10-03T15:45:00Z"]);
    }

    #[test]
    fn problems_name_their_place_and_field() {
        let table = [
            ("61 * * * *", "cron: minute `61` cannot be read: 0-59;"),
            ("JAN * * * *", "cron: minute `JAN` "),
            ("1,,2 * * * *", "cron: minute `1,,2` "),
            ("*/90 * * * *", "cron: minute `*/90` "),
            ("*/0 * * * *", "cron: minute `*/0` "),
            ("* 9-25 * * *", "cron: hour `9-25` "),
            ("* * 0 * *", "cron: day of month `0` "),
            ("* * * MON *", "cron: month `MON` "),
            ("* * * * MON-", "cron: day of week `MON-` "),
            ("* * * * FRIDAY", "cron: day of week `FRIDAY` "),
            ("0 0 30 2 *", "cron: `0 0 30 2 *` never comes"),
            ("", "cron: 0 fields where five belong"),
            ("@daily", "cron: 1 fields where five belong"),
            ("*/10 * * * * *", "cron: six fields: there are no seconds"),
            ("0 9 * * * Europe/Lisbon", "cron: six fields"),
        ];
        for (pattern, expected) in table {
            let told = problems(pattern, "UTC");
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(expected), "{pattern}: {told:?}");
            assert!(!told[0].contains('\n'), "{told:?}");
        }
        let both = problems("* * *", "Mars/Olympus");
        assert!(both[0].starts_with("cron: ") && both[1].starts_with("timeZone: `Mars/Olympus`"), "{both:?}");
        assert!(problems(&"1,".repeat(200), "UTC")[0].contains("at most 200 bytes"));
    }

    #[test]
    fn missed_times_run_once_or_not_at_all() {
        let nine = recurrence("0 9 * * *", "UTC");
        let due = at("2026-06-01T09:00:00Z");
        let table = [
            // now, rule, the time it is about, whether it runs, what is next
            ("2026-06-01T09:00:00Z", Missed::Skip, "2026-06-01", true, "2026-06-02"),
            ("2026-06-01T09:05:00Z", Missed::Skip, "2026-06-01", true, "2026-06-02"),
            ("2026-06-01T09:05:01Z", Missed::Skip, "2026-06-01", false, "2026-06-02"),
            ("2026-06-01T09:05:01Z", Missed::RunLast, "2026-06-01", true, "2026-06-02"),
            ("2026-06-05T08:59:59Z", Missed::Skip, "2026-06-04", false, "2026-06-05"),
            ("2026-06-05T08:59:59Z", Missed::RunLast, "2026-06-04", true, "2026-06-05"),
            // Away for days, and back right in time.
            ("2026-06-05T09:00:10Z", Missed::Skip, "2026-06-05", true, "2026-06-06"),
        ];
        for (now, missed, last, run, next) in table {
            let day = |day: &str| at(&format!("{day}T09:00:00Z"));
            let expected = Turn { at: day(last), run, next: Some(day(next)) };
            assert_eq!(nine.turn(due, at(now), missed), expected, "{now} {missed:?}");
        }
        // Years of minutes are not walked one by one.
        let often = recurrence("* * * * *", "UTC");
        let turn = often.turn(at("2020-01-01T00:00:00Z"), at("2026-06-05T08:59:59Z"), Missed::RunLast);
        assert_eq!(turn.at, at("2026-06-05T08:59:00Z"));
        let rare = recurrence("0 0 29 2 *", "UTC");
        let turn = rare.turn(at("2024-02-29T00:00:00Z"), at("2026-06-05T08:59:59Z"), Missed::RunLast);
        assert_eq!(turn.at, at("2024-02-29T00:00:00Z"));
    }

    #[test]
    fn the_words_are_those_of_the_api() {
        for missed in Missed::ALL {
            assert_eq!(Missed::from_word(missed.word()), Some(missed));
            assert_eq!(serde_json::to_value(missed).expect("json"), missed.word());
        }
    }

    /// Every local time of the pattern within two days, each resolved alone.
    fn expected(pattern: &str, zone: &TimeZone, from: Timestamp) -> Vec<Timestamp> {
        let cron = read(pattern).expect("a pattern");
        let begin = zone.to_datetime(from.checked_sub(50.hours()).expect("in range"));
        let mut all: Vec<Timestamp> = (0..100 * 60)
            .map(|minute| begin.checked_add(i64::from(minute).minutes()).expect("in range"))
            .map(|local| local.with().second(0).build().expect("a time"))
            .filter(|local| cron.is_time_matching(local).expect("matches"))
            .map(|local| zone.to_ambiguous_timestamp(local).compatible().expect("in range"))
            .filter(|at| *at > from && *at <= from.checked_add(24.hours()).expect("in range"))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    proptest! {
        /// Around clock changes, too: each local time once, in order, none lost.
        #[test]
        fn every_local_time_runs_once(
            zone in prop::sample::select(vec![
                "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Africa/Casablanca",
                "America/Sao_Paulo", "Pacific/Apia", "UTC",
            ]),
            pattern in prop::sample::select(vec![
                "0 0 * * *", "30 2 * * *", "0,30 1-3 * * *", "59 23 * * *", "*/10 0,2 * * SUN", "15 */3 * * *",
            ]),
            // 2011 to 2027, so that every kind of change is met.
            second in 1_300_000_000_i64..1_800_000_000,
            near in any::<bool>(),
        ) {
            let recurrence = recurrence(pattern, zone);
            let zone = time_zone(zone).expect("zone");
            let mut from = Timestamp::from_second(second).expect("in range");
            if near && let Some(change) = zone.following(from).next() {
                from = change.timestamp().checked_sub(12.hours()).expect("in range");
            }
            let expected = expected(pattern, &zone, from);
            let found = recurrence.upcoming(from, expected.len() + 1);
            prop_assert_eq!(&found[..expected.len()], &expected[..]);
            let until = from.checked_add(24.hours()).expect("in range");
            prop_assert!(found.last().is_some_and(|next| *next > until));
        }
    }
}
