use std::collections::BTreeMap;

use galley_core::automation::AutomationConfig;
use galley_core::ids::WorkspaceId;
use galley_engine::store::Overtaken;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::WINDOW_MS;
use super::counter::{Counter, clocks, set};
use crate::harness::Bed;

/// Zones a workspace moves between: both ends of the world, half hours, and
/// days without a midnight.
const ZONES: [&str; 10] = [
    "UTC",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Asia/Tokyo",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Kathmandu",
];

/// Most posts of a day.
const LIMIT: u32 = 2;

const WORKSPACES: usize = 4;

const STEPS: usize = 240;

/// Whose days count when, found by looking at every quarter of an hour: no
/// clock of this century changes, and no day begins, in between.
struct Oracle {
    /// From when each zone counts.
    since: Vec<(Timestamp, TimeZone)>,
    /// The zone that is set, whether it counts already or not.
    set: &'static str,
    used: BTreeMap<Date, u32>,
}

impl Oracle {
    fn day(&self, at: Timestamp) -> Date {
        let (_, zone) = self.since.iter().rfind(|(since, _)| *since <= at).unwrap();
        zone.to_datetime(at).date()
    }

    /// A zone is set: the day that counts goes on to its end; then the new one
    /// counts from its next beginning of a day.
    fn change(&mut self, name: &'static str, now: Timestamp) {
        if std::mem::replace(&mut self.set, name) == name {
            return;
        }
        let today = self.day(now);
        let over = quarters(now).find(|at| {
            self.day(*at) != today || self.since.iter().any(|(since, _)| now < *since && since <= at)
        });
        let over = over.unwrap();
        let zone = TimeZone::get(name).unwrap();
        let date = |at: Timestamp| zone.to_datetime(at).date();
        let begins = |at: &Timestamp| date(*at) != date(*at - 1.second());
        let since = std::iter::once(over).chain(quarters(over)).find(begins).unwrap();
        self.since.retain(|(since, _)| *since <= now);
        self.since.push((since, zone));
    }

    /// What an intent has to be told.
    fn judge(&mut self, now: Timestamp) -> Result<(), Overtaken> {
        let day = self.day(now);
        if self.day(now + (WINDOW_MS as i64).milliseconds()) != day {
            return Err(Overtaken::DayEnds);
        }
        let used = self.used.entry(day).or_default();
        if *used == LIMIT {
            return Err(Overtaken::DayFull);
        }
        *used += 1;
        Ok(())
    }
}

/// The quarters after an instant.
fn quarters(after: Timestamp) -> impl Iterator<Item = Timestamp> {
    let first = after.as_second().div_euclid(900) + 1;
    (first..).map(|quarter| Timestamp::from_second(quarter * 900).unwrap())
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_changes_again_and_again_gives_no_place_more_and_none_less() {
    let bed = Bed::new().await;
    clocks(&bed, 0).await;
    let mut dice = Dice(4);
    let mut now: Timestamp = "2024-03-01T12:00:00Z".parse().unwrap();
    let mut all = Vec::new();
    for n in 0..WORKSPACES {
        let workspace = bed.engine.create_workspace(&format!("w-{n}"), 1, "test").await.unwrap().id;
        let counter = Counter::new(&bed, bed.engine.store().clone(), workspace, LIMIT).await;
        let since = vec![(Timestamp::UNIX_EPOCH, TimeZone::UTC)];
        all.push((counter, Oracle { since, set: "UTC", used: BTreeMap::new() }));
    }
    let mut changes = 0;
    for _ in 0..STEPS {
        now = later(&mut dice, now, &all);
        set(&bed, std::iter::once((0, now))).await;
        for (counter, oracle) in &mut all {
            if dice.roll(6) == 0 {
                let zone = ZONES[dice.roll(ZONES.len() as u64) as usize];
                set_zone(&bed, counter.workspace(), zone).await;
                oracle.change(zone, now);
                changes += 1;
            }
            let row = bed.engine.store().automation(counter.workspace()).await.unwrap();
            let rule = row.day_rule(oracle.set);
            for _ in 0..2 {
                let expected = oracle.judge(now);
                let told = counter.intend(&rule).await.map(drop);
                assert_eq!(told, expected, "at {now}: {rule:?}; {:?}", oracle.since);
            }
        }
    }
    assert!(changes > STEPS / 2, "{changes} changes of a zone");
    for (counter, oracle) in &all {
        let query =
            "SELECT count(*) FROM day_quota WHERE account_id = '00000000-0000-0000-0000-000000000000'";
        let days = bed.count(&format!("{query} AND workspace_id = '{}'", counter.workspace())).await;
        let taken = oracle.used.values().filter(|used| **used > 0).count();
        assert_eq!(usize::try_from(days), Ok(taken));
        assert!(oracle.used.len() > 12, "{} days", oracle.used.len());
    }
    bed.end().await;
}

async fn set_zone(bed: &Bed, workspace: WorkspaceId, zone: &str) {
    let config = AutomationConfig { time_zone: zone.into(), ..AutomationConfig::default() };
    bed.api.set_policy(workspace, &config, None, "test").await.unwrap();
}

/// Some minutes or hours later; or at the very moment at which a zone comes in
/// force, or the window before it.
fn later(dice: &mut Dice, now: Timestamp, all: &[(Counter, Oracle)]) -> Timestamp {
    let usual = now + SignedDuration::from_secs(1 + dice.roll(8 * 3_600) as i64);
    let coming = all.iter().flat_map(|(_, oracle)| &oracle.since).map(|(since, _)| *since);
    let edges = coming.flat_map(|since| {
        let window = since - (WINDOW_MS as i64).milliseconds();
        [window - 1.microsecond(), window, since - 1.microsecond(), since]
    });
    edges.filter(|edge| now < *edge && *edge < usual).min().unwrap_or(usual)
}
