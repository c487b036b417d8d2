//! Reservations, many in one transaction: thousands of calls may begin in one
//! second, and each needs its counters for as long as a commit takes. What they
//! come to: `crate::settling`.
//!
//! Locks are taken in the order runs, ledger rows that are there, counters;
//! each kind in the order of its key. Ledger rows that are new are written
//! last: nobody can wait for them. Whether there is room is `core::money`'s
//! word, asked while the counters are locked, for one write after the other.

use std::collections::{BTreeMap, HashMap};

use galley_core::decide::Token;
use galley_core::ids::{Nonce, WorkflowKey, WorkspaceId};
use galley_core::money::{Budget, Counter, Period, refused, room};
use galley_core::run::Run;
use galley_probe::{Bug, planted};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::budgets::{CounterRow, LIMITS, budget_of, signed, unsigned};
use crate::error::StoreError;
use crate::ledger::{CallKey, ReserveWrite, Reserved};
use crate::pool::{Store, execute};
use crate::publishing::{DayRule, day_in};
use crate::runs::{AttemptKey, split_keys};
use crate::scope::Scope;

/// A counter's name: workspace, period's word, name. In their order they are
/// locked.
pub(crate) type CounterKey = (Uuid, &'static str, String);

pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// A ledger row's key, in the columns' order.
pub(crate) type LedgerKey = (Uuid, Uuid, i16, i32, i64, i16);

pub(crate) fn ledger_key(key: &CallKey) -> LedgerKey {
    let CallKey { attempt, call } = key;
    (
        attempt.key.workspace.0,
        attempt.key.workflow.0,
        attempt.step as i16,
        attempt.epoch as i32,
        attempt.nonce as i64,
        *call as i16,
    )
}

/// A workspace's and a workflow's counters of a day.
pub(crate) fn names(workspace: Uuid, day: &str, workflow: Option<Uuid>) -> Vec<CounterKey> {
    let mut names = vec![
        (workspace, Period::Day.word(), day.to_owned()),
        (workspace, Period::Month.word(), day[..7].to_owned()),
    ];
    names.extend(workflow.map(|workflow| (workspace, Period::Workflow.word(), workflow.to_string())));
    names
}

impl Store {
    /// Reserves the bounds of calls, each if its attempt still holds its step
    /// and every counter has room after those before it. Repeatable: a
    /// reservation that is there already is a yes.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn reserve(&self, writes: Vec<ReserveWrite>) -> Result<Vec<Reserved>, StoreError> {
        let scope = Scope::of(writes.iter().map(|write| write.call.attempt.key.workspace));
        self.unit(scope, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let reserved = reserve(&mut transaction, &writes).await?;
            if reserved.iter().any(|reserved| matches!(reserved, Reserved::Yes { .. })) {
                transaction.commit().await?;
            }
            Ok(reserved)
        })
        .await
    }

    /// What workflows' next calls may cost at most; `None`: anything. Each by
    /// its workspace's day.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn rooms(&self, asked: &[(WorkflowKey, DayRule)]) -> Result<Vec<Option<u64>>, StoreError> {
        let scope = Scope::of(asked.iter().map(|(key, _)| key.workspace));
        let mut reader = self.reader(scope).await?;
        let connection = &mut *reader;
        let days = days(connection, asked.iter().map(|(key, rule)| (key.workspace.0, rule))).await?;
        let of = |key: &WorkflowKey| names(key.workspace.0, day(&days, key), Some(key.workflow.0));
        let wanted = asked.iter().flat_map(|(key, _)| of(key)).collect();
        let counters = Counters::read(connection, wanted, false).await?;
        Ok(asked.iter().map(|(key, _)| room(&counters.of(&of(key)))).collect())
    }
}

/// The counters of this day and month, and of a workflow.
pub(crate) async fn standing(
    connection: &mut PgConnection,
    workspace: Uuid,
    workflow: Option<Uuid>,
    rule: &DayRule,
) -> Result<Vec<CounterRow>, StoreError> {
    let days = days(connection, std::iter::once((workspace, rule))).await?;
    let names = names(workspace, days.get(&workspace).map_or(NO_DAY, String::as_str), workflow);
    let counters = Counters::read(connection, names.clone(), false).await?;
    Ok(names.iter().filter_map(|name| Some(Counters::told(name, counters.rows.get(name)?))).collect())
}

/// A day before any money: what is asked for was asked about, so it is not met.
const NO_DAY: &str = "0001-01-01";

pub(crate) fn day<'a>(days: &'a HashMap<Uuid, String>, key: &WorkflowKey) -> &'a str {
    days.get(&key.workspace.0).map_or(NO_DAY, String::as_str)
}

/// Which day it is in each workspace.
pub(crate) async fn days<'a>(
    connection: &mut PgConnection,
    rules: impl Iterator<Item = (Uuid, &'a DayRule)>,
) -> Result<HashMap<Uuid, String>, StoreError> {
    // A zone that was changed meanwhile is in force from its next full day:
    // today, all rules of a workspace say the same.
    let rules: BTreeMap<Uuid, &DayRule> = rules.collect();
    let previous = |rule: &'a DayRule| match &rule.previous {
        Some((zone, since)) => (zone.as_str(), since.as_str()),
        None => (rule.zone.as_str(), "-infinity"),
    };
    let query = format!(
        "SELECT w.workspace, {}::text
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS w(workspace, zone, previous, since)",
        day_in("galley_now()", "w.zone", "w.previous", "w.since")
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(rules.keys().copied().collect::<Vec<_>>())
        .bind(rules.values().map(|rule| rule.zone.as_str()).collect::<Vec<_>>())
        .bind(rules.values().map(|rule| previous(rule).0).collect::<Vec<_>>())
        .bind(rules.values().map(|rule| previous(rule).1).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Counters and the limits they are held to, and what is to be added to them.
pub(crate) struct Counters {
    rows: BTreeMap<CounterKey, Standing>,
    limits: HashMap<Uuid, Budget>,
}

/// One counter.
struct Standing {
    counter: Counter,
    own: bool,
    /// Somebody was told, since the limits are what they are.
    warned: bool,
    /// What this transaction reserves or books.
    added: u64,
}

impl Counters {
    /// Reads counters, each made and locked when `lock`; one that is not there
    /// counts nothing.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        mut wanted: Vec<CounterKey>,
        lock: bool,
    ) -> Result<Self, StoreError> {
        wanted.sort_unstable();
        wanted.dedup();
        let mut workspaces: Vec<Uuid> = wanted.iter().map(|name| name.0).collect();
        workspaces.dedup();
        let query = format!("SELECT {LIMITS}, workspace_id FROM budgets WHERE workspace_id = ANY($1)");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(&workspaces).fetch_all(&mut *connection).await?;
        let mut limits = HashMap::with_capacity(rows.len());
        for row in &rows {
            limits.insert(row.try_get(4)?, budget_of(row)?);
        }
        let owners: Vec<Uuid> = wanted.iter().map(|name| name.0).collect();
        let periods: Vec<&str> = wanted.iter().map(|name| name.1).collect();
        let names: Vec<&str> = wanted.iter().map(|name| name.2.as_str()).collect();
        if lock {
            let make = sqlx::query(
                "INSERT INTO budget_counters (workspace_id, period, name)
                 SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) ORDER BY 1, 2, 3
                     ON CONFLICT DO NOTHING",
            );
            execute(connection, make.bind(&owners).bind(&periods).bind(&names)).await?;
        }
        let query = format!(
            "SELECT c.workspace_id, c.period, c.name, c.reserved_micros, c.spent_micros, c.own_limit,
                    c.warned_at IS NOT NULL AND c.warned_at >= coalesce(b.set_at, '-infinity')
               FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w(workspace_id, period, name)
               JOIN budget_counters c USING (workspace_id, period, name)
               LEFT JOIN budgets b USING (workspace_id)
              ORDER BY 1, 2, 3 {}",
            if lock && !planted(Bug::ReserveUnlocked) { "FOR UPDATE OF c" } else { "" }
        );
        let found = sqlx::query(AssertSqlSafe(query))
            .bind(&owners)
            .bind(&periods)
            .bind(&names)
            .fetch_all(connection)
            .await?;
        let mut counters = Self { rows: BTreeMap::new(), limits };
        for name in wanted {
            counters.put(name, None)?;
        }
        for row in &found {
            let period: &str = row.try_get(1)?;
            let Some(period) = Period::from_word(period) else { continue };
            counters.put((row.try_get(0)?, period.word(), row.try_get(2)?), Some(row))?;
        }
        Ok(counters)
    }

    fn put(&mut self, name: CounterKey, row: Option<&sqlx::postgres::PgRow>) -> Result<(), StoreError> {
        let limits = self.limits.get(&name.0).copied().unwrap_or_default();
        let (reserved, spent, own, warned) = match row {
            None => (0, 0, None, false),
            Some(row) => (
                unsigned(row, 3)?.unwrap_or(0),
                unsigned(row, 4)?.unwrap_or(0),
                unsigned(row, 5)?,
                row.try_get(6)?,
            ),
        };
        let (period, limit) = match name.1 {
            "day" => (Period::Day, limits.day_micros),
            "month" => (Period::Month, limits.month_micros),
            _ => (Period::Workflow, own.or(limits.workflow_micros)),
        };
        let counter = Counter { period, limit, reserved, spent };
        self.rows.insert(name, Standing { counter, own: own.is_some(), warned, added: 0 });
        Ok(())
    }

    fn of(&self, names: &[CounterKey]) -> Vec<Counter> {
        names.iter().filter_map(|name| self.rows.get(name)).map(|row| row.counter).collect()
    }

    fn told(name: &CounterKey, row: &Standing) -> CounterRow {
        CounterRow { name: name.2.clone(), counter: row.counter, own: row.own }
    }

    /// Takes room for a call; `Err`: the counter that has none.
    fn take(&mut self, names: &[CounterKey], micros: u64) -> Result<(), Option<CounterRow>> {
        let counters = self.of(names);
        if let Some(full) = refused(&counters, micros) {
            let named =
                names.iter().find(|name| self.rows.get(*name).is_some_and(|row| row.counter == *full));
            return Err(named.and_then(|name| Some(Self::told(name, self.rows.get(name)?))));
        }
        for name in names {
            if let Some(row) = self.rows.get_mut(name) {
                row.counter.reserved = row.counter.reserved.saturating_add(micros);
                row.added = row.added.saturating_add(micros);
            }
        }
        Ok(())
    }

    /// Counts what was spent without having been reserved, room or not.
    pub(crate) fn spend(&mut self, names: &[CounterKey], micros: u64) {
        for name in names {
            if let Some(row) = self.rows.get_mut(name) {
                row.counter.spent = row.counter.spent.saturating_add(micros);
                row.added = row.added.saturating_add(micros);
            }
        }
    }

    /// Counts what a call came to: what is free again of its reservation, and
    /// what it cost.
    pub(crate) fn book(&mut self, name: &CounterKey, (reserved, spent): (i64, i64)) {
        if let Some(row) = self.rows.get_mut(name) {
            row.counter.reserved = row.counter.reserved.saturating_add_signed(reserved);
            row.counter.spent = row.counter.spent.saturating_add_signed(spent);
            row.added = row.added.saturating_add(u64::try_from(spent).unwrap_or(0));
        }
    }

    /// The counters that this transaction changes, and by how much.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&CounterKey, u64)> + Clone {
        self.rows.iter().filter(|(_, row)| row.added > 0).map(|(name, row)| (name, row.added))
    }
}

/// Moves locked counters.
pub(crate) async fn add(
    connection: &mut PgConnection,
    moves: impl Iterator<Item = (&CounterKey, (i64, i64))> + Clone,
) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE budget_counters c
            SET reserved_micros = c.reserved_micros + d.reserved, spent_micros = c.spent_micros + d.spent
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int8[], $5::int8[])
                AS d(workspace_id, period, name, reserved, spent)
          WHERE c.workspace_id = d.workspace_id AND c.period = d.period AND c.name = d.name",
    )
    .bind(moves.clone().map(|(name, _)| name.0).collect::<Vec<_>>())
    .bind(moves.clone().map(|(name, _)| name.1).collect::<Vec<_>>())
    .bind(moves.clone().map(|(name, _)| name.2.as_str()).collect::<Vec<_>>())
    .bind(moves.clone().map(|(_, by)| by.0).collect::<Vec<_>>())
    .bind(moves.clone().map(|(_, by)| by.1).collect::<Vec<_>>());
    let moved = execute(connection, update).await?;
    if moved != moves.count() as u64 {
        return Err(StoreError::Schema(
            "budget_counters: a row that calls were counted in is missing".into(),
        ));
    }
    Ok(())
}

/// Which attempts hold their step, which nobody takes from them before this
/// transaction is over.
async fn held(connection: &mut PgConnection, writes: &[ReserveWrite]) -> Result<Vec<bool>, StoreError> {
    let mut keys: Vec<WorkflowKey> = writes.iter().map(|write| write.call.attempt.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let (workspaces, workflows) = split_keys(&keys);
    let rows = sqlx::query(
        "SELECT r.workspace_id, r.id, r.run
           FROM unnest($1::uuid[], $2::uuid[]) AS w(workspace_id, id) JOIN runs r USING (workspace_id, id)
          ORDER BY 1, 2 FOR SHARE OF r",
    )
    .bind(workspaces)
    .bind(workflows)
    .fetch_all(connection)
    .await?;
    let mut runs = HashMap::with_capacity(rows.len());
    for row in &rows {
        let key = crate::runs::key_of(row)?;
        let run = Run::decode(row.try_get(2)?).map_err(|source| StoreError::Corrupt { key, source })?;
        runs.insert(key, run);
    }
    let holds = |attempt: &AttemptKey| {
        let token = Token { step: attempt.step, epoch: attempt.epoch, nonce: Nonce(attempt.nonce) };
        runs.get(&attempt.key).is_some_and(|run| run.is_held_by(token) && !run.cancelled)
    };
    Ok(writes.iter().map(|write| holds(&write.call.attempt)).collect())
}

/// Those of the calls that are in the ledger, with what is reserved for each;
/// `None`: nothing any more.
async fn booked(
    connection: &mut PgConnection,
    writes: &[ReserveWrite],
) -> Result<HashMap<LedgerKey, Option<i64>>, StoreError> {
    let keys: Vec<LedgerKey> = writes.iter().map(|write| ledger_key(&write.call)).collect();
    let query = sqlx::query(
        "SELECT s.workspace_id, s.workflow_id, s.step, s.epoch, s.nonce, s.call,
                CASE s.state WHEN 'reserved' THEN s.reserved_micros END
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int2[])
                AS w(workspace_id, workflow_id, step, epoch, nonce, call)
           JOIN spend s USING (workspace_id, workflow_id, step, epoch, nonce, call)",
    );
    let rows = with_keys(query, &keys).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((key_in(row)?, row.try_get(6)?))).collect()
}

/// Binds ledger keys, a column each.
pub(crate) fn with_keys<'q>(query: Query<'q>, keys: &[LedgerKey]) -> Query<'q> {
    query
        .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.4).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.5).collect::<Vec<_>>())
}

pub(crate) fn key_in(row: &sqlx::postgres::PgRow) -> Result<LedgerKey, sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?))
}

async fn reserve(
    connection: &mut PgConnection,
    writes: &[ReserveWrite],
) -> Result<Vec<Reserved>, StoreError> {
    let held = held(connection, writes).await?;
    take_room(connection, writes, &held).await
}

/// The same, for who knows which attempts hold their step.
pub(crate) async fn take_room(
    connection: &mut PgConnection,
    writes: &[ReserveWrite],
    held: &[bool],
) -> Result<Vec<Reserved>, StoreError> {
    let rules = writes.iter().map(|write| (write.call.attempt.key.workspace.0, &write.day));
    let days = days(connection, rules).await?;
    let names_of = |write: &ReserveWrite| {
        let key = &write.call.attempt.key;
        names(key.workspace.0, day(&days, key), Some(key.workflow.0))
    };
    let live = writes.iter().zip(held).filter(|(_, held)| **held);
    let wanted: Vec<CounterKey> = live.flat_map(|(write, _)| names_of(write)).collect();
    if wanted.is_empty() {
        return Ok(writes.iter().map(|_| Reserved::Overtaken).collect());
    }
    let mut counters = Counters::read(connection, wanted, true).await?;
    // After the lock: an earlier try of a reservation, of which nobody knew
    // whether it was committed, had the same counters locked; now it is seen.
    let mut booked = booked(connection, writes).await?;
    let mut answers = Vec::with_capacity(writes.len());
    let mut new: Vec<&ReserveWrite> = Vec::with_capacity(writes.len());
    for (write, held) in writes.iter().zip(held) {
        answers.push(if !held {
            Reserved::Overtaken
        } else if let Some(there) = booked.get(&ledger_key(&write.call)) {
            if *there == Some(signed(write.micros)) {
                Reserved::Yes { warnings: Vec::new() }
            } else {
                Reserved::Taken
            }
        } else {
            match counters.take(&names_of(write), write.micros) {
                Ok(()) => {
                    booked.insert(ledger_key(&write.call), Some(signed(write.micros)));
                    new.push(write);
                    Reserved::Yes { warnings: Vec::new() }
                }
                Err(Some(full)) => Reserved::Refused(full),
                Err(None) => {
                    return Err(StoreError::Schema("a counter that was read is not there".into()));
                }
            }
        });
    }
    if new.is_empty() {
        return Ok(answers);
    }
    if planted(Bug::ReserveUnlocked) {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    enter(connection, &new, &days).await?;
    add(connection, counters.added().map(|(name, micros)| (name, (signed(micros), 0)))).await?;
    let mut warnings = warn(connection, &counters).await?;
    for (write, answer) in writes.iter().zip(&mut answers) {
        if let Reserved::Yes { warnings: told } = answer
            && let Some(mine) = warnings.remove(&write.call.attempt.key.workspace.0)
        {
            *told = mine;
        }
    }
    Ok(answers)
}

/// Writes new rows into the ledger.
async fn enter(
    connection: &mut PgConnection,
    new: &[&ReserveWrite],
    days: &HashMap<Uuid, String>,
) -> Result<(), StoreError> {
    let keys: Vec<LedgerKey> = new.iter().map(|write| ledger_key(&write.call)).collect();
    let query = sqlx::query(
        "INSERT INTO spend (workspace_id, workflow_id, step, epoch, nonce, call, session, step_name, agent,
                            provider, model, account, day, reserved_micros)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int2[], $7::int8[],
                              $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[]::date[],
                              $14::int8[])",
    );
    let insert = with_keys(query, &keys)
        .bind(new.iter().map(|write| write.call.attempt.session.0).collect::<Vec<_>>())
        .bind(new.iter().map(|write| write.step_name.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|write| write.agent.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|write| write.provider.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|write| write.model.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|write| write.account.as_deref()).collect::<Vec<_>>())
        .bind(new.iter().map(|write| day(days, &write.call.attempt.key)).collect::<Vec<_>>())
        .bind(new.iter().map(|write| signed(write.micros)).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

/// Notes which counters somebody should hear about, each once; by workspace.
pub(crate) async fn warn(
    connection: &mut PgConnection,
    counters: &Counters,
) -> Result<HashMap<Uuid, Vec<CounterRow>>, StoreError> {
    let mut warnings: HashMap<Uuid, Vec<CounterRow>> = HashMap::new();
    for (name, row) in counters.rows.iter().filter(|(_, row)| row.added > 0 && !row.warned) {
        let percent = counters.limits.get(&name.0).copied().unwrap_or_default().warn_percent;
        if !row.counter.is_nearly_used(percent) {
            continue;
        }
        let note = sqlx::query(
            "UPDATE budget_counters SET warned_at = galley_now()
              WHERE workspace_id = $1 AND period = $2 AND name = $3",
        );
        execute(connection, note.bind(name.0).bind(name.1).bind(&name.2)).await?;
        let line = AuditWrite {
            workspace: WorkspaceId(name.0),
            key: None,
            actor: "engine".into(),
            action: "budget.warned",
            object: format!("{} {}", name.1, name.2),
            detail: Some(format!(
                "{{\"spentMicros\":{},\"limitMicros\":{}}}",
                row.counter.spent,
                row.counter.limit.unwrap_or(0)
            )),
            hashes: Hashes::default(),
        };
        write_audit(connection, &line).await?;
        warnings.entry(name.0).or_default().push(Counters::told(name, row));
    }
    Ok(warnings)
}
