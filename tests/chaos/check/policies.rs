//! The policies of a workspace over time, told by its audit rows: what could
//! have been in force when something was intended.
//!
//! A transaction is dated by its beginning. A policy whose transaction began
//! before an intent's may have been committed during it; so for a moment two
//! are possible, and what is held against Galley has to break both.

use std::collections::BTreeMap;

use galley_core::automation::{AutomationConfig, Mode};
use galley_core::ids::WorkspaceId;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::world::World;
use crate::history::{Ask, AuditRow};

/// Longest that a policy whose client heard nothing may take to be committed.
const LATEST_COMMIT: SignedDuration = SignedDuration::from_secs(60);

/// The policies of all workspaces.
pub(super) struct Policies {
    of: BTreeMap<WorkspaceId, Vec<Entry>>,
    never_set: Vec<Entry>,
}

/// A policy, and whose days count under it.
pub(super) struct Entry {
    /// Its transaction began.
    from: Timestamp,
    /// It was certainly replaced.
    until: Timestamp,
    pub(super) config: AutomationConfig,
    zone: TimeZone,
    /// The zone that counts before the new one does, and until when.
    previous: Option<(TimeZone, Timestamp)>,
}

impl Entry {
    fn new(from: Timestamp, config: AutomationConfig, previous: Option<(TimeZone, Timestamp)>) -> Self {
        let zone = zone_of(&config);
        Self { from, until: Timestamp::MAX, config, zone, previous }
    }

    /// The default, in force until somebody sets a policy.
    fn unset() -> Self {
        Self::new(Timestamp::MIN, AutomationConfig::default(), None)
    }

    /// Whether a post needs a person's yes, if it never waited for one.
    pub(super) fn asks(&self) -> bool {
        self.config.content_approval_required || self.config.mode != Mode::FullAutonomous
    }

    /// The local day of an instant.
    pub(super) fn day(&self, at: Timestamp) -> Date {
        self.counting(at).to_datetime(at).date()
    }

    fn counting(&self, at: Timestamp) -> &TimeZone {
        match &self.previous {
            Some((zone, until)) if at < *until => zone,
            _ => &self.zone,
        }
    }
}

impl Policies {
    pub(super) fn of(world: &World<'_>) -> Self {
        let mut rows: BTreeMap<WorkspaceId, Vec<&AuditRow>> = BTreeMap::new();
        for row in world.history.dump.audit.iter().filter(|row| row.action == "automation.set") {
            rows.entry(row.workspace_id).or_default().push(row);
        }
        let of = rows.into_iter().map(|(workspace, rows)| (workspace, entries(world, rows))).collect();
        Self { of, never_set: vec![Entry::unset()] }
    }

    /// What may have been in force for a transaction that began then; never
    /// empty.
    pub(super) fn at(&self, workspace: WorkspaceId, at: Timestamp) -> Vec<&Entry> {
        let entries = self.of.get(&workspace).unwrap_or(&self.never_set);
        entries.iter().filter(|entry| entry.from <= at && at <= entry.until).collect()
    }
}

fn entries(world: &World<'_>, mut rows: Vec<&AuditRow>) -> Vec<Entry> {
    rows.sort_by_key(|row| row.id);
    let mut entries = Vec::with_capacity(rows.len() + 1);
    let mut last = Entry::unset();
    for (index, row) in rows.iter().enumerate() {
        let config = row.detail.clone().and_then(|detail| serde_json::from_value(detail).ok());
        let config: AutomationConfig = config.unwrap_or_default();
        let previous = if last.config.time_zone == config.time_zone {
            last.previous.clone()
        } else {
            change(&last, &zone_of(&config), row.at)
        };
        // Whoever changed the policy next had seen this change.
        let seen = rows.get(index + 1).map_or(Timestamp::MAX, |next| next.at);
        last.until = committed(world, row).min(seen);
        entries.push(std::mem::replace(&mut last, Entry::new(row.at, config, previous)));
    }
    entries.push(last);
    entries
}

/// When a change was certainly committed.
fn committed(world: &World<'_>, row: &AuditRow) -> Timestamp {
    let told = world.done().filter(|(op, _)| {
        op.workspace == row.workspace_id
            && op.actor == row.actor
            && matches!(&op.ask, Ask::SetPolicy { config } if Some(config) == row.detail.as_ref())
    });
    let told = told.map(|(op, _)| world.time(op.ended_ms) + world.slack());
    told.filter(|told| *told >= row.at).min().unwrap_or(row.at + LATEST_COMMIT)
}

fn zone_of(config: &AutomationConfig) -> TimeZone {
    TimeZone::get(&config.time_zone).unwrap_or(TimeZone::UTC)
}

/// A change of the zone: the one that counts now goes on to the end of its
/// day, the new one counts from its first full day after that.
fn change(old: &Entry, zone: &TimeZone, at: Timestamp) -> Option<(TimeZone, Timestamp)> {
    let counting = old.counting(at).clone();
    let mut over = begins_after(&counting, at)?;
    if let Some((_, until)) = &old.previous
        && at < *until
    {
        over = over.min(*until);
    }
    let begun = zone.to_datetime(over).date();
    let since = match begin_of(zone, begun)? {
        begin if begin >= over => begin,
        _ => begins_after(zone, over)?,
    };
    Some((counting, since))
}

/// When the day after the one of an instant begins.
fn begins_after(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let today = zone.to_datetime(at).date();
    // A date line can swallow a whole day.
    (1..=3).find_map(|days| {
        let begin = begin_of(zone, today.checked_add(jiff::Span::new().days(days)).ok()?)?;
        (begin > at).then_some(begin)
    })
}

fn begin_of(zone: &TimeZone, day: Date) -> Option<Timestamp> {
    Some(day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?.timestamp())
}
