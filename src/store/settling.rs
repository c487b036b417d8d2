//! Bills, many in one transaction: what calls came to. They lock ledger rows,
//! then counters, as reservations do (`crate::reserving`).

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgConnection, Row};

use crate::budgets::signed;
use crate::error::StoreError;
use crate::ledger::{Booked, SettleWrite, Settled};
use crate::pool::{Store, execute};
use crate::reserving::{CounterKey, Counters, LedgerKey, add, key_in, ledger_key, names, warn, with_keys};
use crate::scope::Scope;

impl Store {
    /// Books what calls came to. Not fenced: the bill of an attempt that was
    /// overtaken is real. Repeatable; a bill that comes after its call was
    /// charged at its bound replaces the estimate.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn settle(&self, calls: Vec<SettleWrite>) -> Result<Vec<Settled>, StoreError> {
        let scope = Scope::of(calls.iter().map(|call| call.call.attempt.key.workspace));
        self.unit(scope, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let (booked, counters) = book(&mut transaction, &calls).await?;
            let mut warnings = match &counters {
                Some(counters) => warn(&mut transaction, counters).await?,
                None => HashMap::new(),
            };
            transaction.commit().await?;
            let told = |(call, booked): (&SettleWrite, Booked)| Settled {
                booked,
                // Each once, to the first who asks for that workspace.
                warnings: warnings.remove(&call.call.attempt.key.workspace.0).unwrap_or_default(),
            };
            Ok(calls.iter().zip(booked).map(told).collect())
        })
        .await
    }
}

/// A ledger row while bills are booked on it.
struct Entry {
    state: &'static str,
    bound: i64,
    cost: i64,
    tokens: (i32, i32),
    day: String,
    changed: bool,
}

/// Books bills; answers what became of each, and the counters they moved.
pub(crate) async fn book(
    connection: &mut PgConnection,
    writes: &[SettleWrite],
) -> Result<(Vec<Booked>, Option<Counters>), StoreError> {
    let mut entries = entries(connection, writes).await?;
    let mut moves: BTreeMap<CounterKey, (i64, i64)> = BTreeMap::new();
    let mut booked = vec![Booked::Before; writes.len()];
    for (write, booked) in writes.iter().zip(&mut booked) {
        let Some(entry) = entries.get_mut(&ledger_key(&write.call)) else {
            *booked = Booked::NotThere;
            continue;
        };
        let late = entry.state == "estimated";
        let (freed, charged) = match entry.state {
            "reserved" => (entry.bound, 0),
            // A late bill is better than an estimate.
            "estimated" if write.cost.is_some() => (0, entry.cost),
            _ => continue,
        };
        entry.state = if write.cost.is_some() { "settled" } else { "estimated" };
        // A bill beyond its bound is real: what it takes beyond a limit, the
        // next call does not get.
        entry.cost = write.cost.map_or(entry.bound, signed);
        *booked = match u64::try_from(entry.cost - entry.bound) {
            Ok(over_micros @ 1..) => Booked::OverBound { over_micros },
            _ if late => Booked::Late,
            _ => Booked::Now,
        };
        entry.tokens = (write.tokens.input as i32, write.tokens.output as i32);
        entry.changed = true;
        let key = &write.call.attempt.key;
        for name in names(key.workspace.0, &entry.day, Some(key.workflow.0)) {
            let by = moves.entry(name).or_default();
            *by = (by.0 - freed, by.1 + entry.cost - charged);
        }
    }
    let changed: Vec<(&LedgerKey, &Entry)> = entries.iter().filter(|(_, entry)| entry.changed).collect();
    if changed.is_empty() {
        return Ok((booked, None));
    }
    let keys: Vec<LedgerKey> = changed.iter().map(|(key, _)| **key).collect();
    let query = sqlx::query(
        "UPDATE spend s
            SET state = d.state, cost_micros = d.cost, tokens_in = d.tokens_in, tokens_out = d.tokens_out,
                settled_at = galley_now()
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int2[], $7::text[], $8::int8[],
                       $9::int4[], $10::int4[])
                AS d(workspace_id, workflow_id, step, epoch, nonce, call, state, cost, tokens_in, tokens_out)
          WHERE s.workspace_id = d.workspace_id AND s.workflow_id = d.workflow_id AND s.step = d.step
            AND s.epoch = d.epoch AND s.nonce = d.nonce AND s.call = d.call",
    );
    let update = with_keys(query, &keys)
        .bind(changed.iter().map(|(_, entry)| entry.state).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, entry)| entry.cost).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, entry)| entry.tokens.0).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, entry)| entry.tokens.1).collect::<Vec<_>>());
    execute(connection, update).await?;
    // Locked in the order of their key; the update alone would take them as
    // its plan goes.
    let mut counters = Counters::read(connection, moves.keys().cloned().collect(), true).await?;
    moves.iter().for_each(|(name, by)| counters.book(name, *by));
    add(connection, moves.iter().map(|(name, by)| (name, *by))).await?;
    Ok((booked, Some(counters)))
}

/// The calls' ledger rows, locked.
async fn entries(
    connection: &mut PgConnection,
    writes: &[SettleWrite],
) -> Result<BTreeMap<LedgerKey, Entry>, StoreError> {
    let mut keys: Vec<LedgerKey> = writes.iter().map(|write| ledger_key(&write.call)).collect();
    keys.sort_unstable();
    keys.dedup();
    let query = sqlx::query(
        "SELECT s.workspace_id, s.workflow_id, s.step, s.epoch, s.nonce, s.call,
                s.state, s.reserved_micros, s.cost_micros, s.day::text
           FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[], $6::int2[])
                AS w(workspace_id, workflow_id, step, epoch, nonce, call)
           JOIN spend s USING (workspace_id, workflow_id, step, epoch, nonce, call)
          ORDER BY 1, 2, 3, 4, 5, 6 FOR UPDATE OF s",
    );
    let rows = with_keys(query, &keys).fetch_all(connection).await?;
    let mut entries = BTreeMap::new();
    for row in &rows {
        let state = match row.try_get(6)? {
            "reserved" => "reserved",
            "estimated" => "estimated",
            _ => "settled",
        };
        let entry = Entry {
            state,
            bound: row.try_get(7)?,
            cost: row.try_get(8)?,
            tokens: (0, 0),
            day: row.try_get(9)?,
            changed: false,
        };
        entries.insert(key_in(row)?, entry);
    }
    Ok(entries)
}
