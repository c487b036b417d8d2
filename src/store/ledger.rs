//! The ledger: every call that may cost something, reserved before it is made
//! and settled after.
//!
//! Locks are taken in the order run, ledger row, counters (day, month,
//! workflow). Whether there is room is `core::money`'s word, asked while the
//! counters are locked.

use galley_core::decide::Token;
use galley_core::ids::{Nonce, WorkflowKey, WorkspaceId};
use galley_core::money::{Counter, Tokens, refused};
use galley_core::run::Run;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::budgets::{CounterRow, Names, signed, unsigned};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::publishing::DayRule;
use crate::runs::{AttemptKey, key_of};
use crate::scope::Scope;

/// One call that may cost something.
#[derive(Clone, Debug)]
pub struct CallKey {
    /// Whose attempt makes it.
    pub attempt: AttemptKey,
    /// Which call of the attempt, from 0.
    pub call: u16,
}

/// What is to be reserved for a call.
#[derive(Clone, Debug)]
pub struct ReserveWrite {
    /// The call.
    pub call: CallKey,
    /// The step's name.
    pub step_name: String,
    /// The agent type.
    pub agent: String,
    /// Who is asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// The most it can cost, millionths of a US dollar.
    pub micros: u64,
    /// What a day is.
    pub day: DayRule,
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq)]
pub enum Reserved {
    /// The call may be made.
    Yes {
        /// Counters of which so much is used that somebody should be told, for
        /// the first time.
        warnings: Vec<CounterRow>,
    },
    /// The step was taken from this attempt: it makes no call any more.
    Overtaken,
    /// This counter has no room.
    Refused(CounterRow),
}

/// What a call came to.
#[derive(Clone, Debug)]
pub struct SettleWrite {
    /// The call.
    pub call: CallKey,
    /// What it cost; `None`: nobody can know, it is charged at its bound.
    pub cost: Option<u64>,
    /// Its tokens.
    pub tokens: Tokens,
}

/// A reservation that nobody has settled.
#[derive(Clone, Copy, Debug)]
pub struct OpenCall {
    /// The workflow.
    pub key: WorkflowKey,
    /// The attempt.
    pub token: Token,
    /// The session that made it.
    pub session: i64,
    /// Which call.
    pub call: u16,
}

/// What spend is summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendBy {
    /// Days of the workspace.
    Day,
    /// Agent types.
    Agent,
    /// `provider:model`.
    Model,
    /// Workflows.
    Workflow,
}

/// Spend of one day, agent, model or workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct SpendRow {
    /// Which.
    pub name: String,
    /// Calls.
    pub calls: i64,
    /// Prompt tokens.
    pub tokens_in: i64,
    /// Completion tokens.
    pub tokens_out: i64,
    /// What they cost, estimates included.
    pub cost_micros: u64,
    /// How much of that is an estimate.
    pub estimated_micros: u64,
    /// What calls under way may cost at most.
    pub reserved_micros: u64,
}

impl Store {
    /// Reserves the bound of a call, if the attempt still holds its step and
    /// every counter has room. Repeatable: a reservation that is there already
    /// is a yes.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn reserve(&self, write: ReserveWrite) -> Result<Reserved, StoreError> {
        self.unit(write.call.attempt.key.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let reserved = reserve(&mut transaction, &write).await?;
            if matches!(reserved, Reserved::Yes { .. }) {
                transaction.commit().await?;
            }
            Ok(reserved)
        })
        .await
    }

    /// Books what calls came to. Not fenced: the bill of an attempt that was
    /// overtaken is real. Repeatable; a bill that comes after its call was
    /// charged at its bound replaces the estimate.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn settle(&self, calls: Vec<SettleWrite>) -> Result<(), StoreError> {
        let scope = Scope::of(calls.iter().map(|call| call.call.attempt.key.workspace));
        self.unit(scope, move |pool| async move {
            let mut transaction = pool.begin().await?;
            for call in &calls {
                settle(&mut transaction, call).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Reservations of sessions that are over, and older ones of any, oldest
    /// first.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn lost_calls(&self, older_s: i64, limit: i64) -> Result<Vec<OpenCall>, StoreError> {
        let rows = sqlx::query(
            "SELECT workspace_id, workflow_id, step, epoch, nonce, call, session FROM spend
              WHERE state = 'reserved'
                AND (reserved_at < galley_now() - $1 * interval '1 s'
                     OR NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = spend.session AND s.closed_at IS NULL))
              ORDER BY reserved_at LIMIT $2",
        )
        .bind(older_s)
        .bind(limit)
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OpenCall {
                    key: key_of(row)?,
                    token: Token {
                        step: row.try_get::<i16, _>(2)? as u16,
                        epoch: row.try_get::<i32, _>(3)? as u32,
                        nonce: Nonce(row.try_get::<i64, _>(4)? as u64),
                    },
                    call: row.try_get::<i16, _>(5)? as u16,
                    session: row.try_get(6)?,
                })
            })
            .collect()
    }

    /// Spend between two days of the workspace, both included (`2026-11-26`),
    /// the dearest first, days in order.
    ///
    /// # Errors
    /// Postgres is away, or a day is none.
    pub async fn spend_by(
        &self,
        workspace: WorkspaceId,
        by: SpendBy,
        since: &str,
        until: &str,
    ) -> Result<Vec<SpendRow>, StoreError> {
        let (column, order) = match by {
            SpendBy::Day => ("day::text", "1"),
            SpendBy::Agent => ("agent", "5 DESC, 1"),
            SpendBy::Model => ("provider || ':' || model", "5 DESC, 1"),
            SpendBy::Workflow => ("workflow_id::text", "5 DESC, 1"),
        };
        let query = format!(
            "SELECT {column}, count(*), sum(tokens_in)::int8, sum(tokens_out)::int8, sum(cost_micros)::int8,
                    coalesce(sum(cost_micros) FILTER (WHERE state = 'estimated'), 0)::int8,
                    coalesce(sum(reserved_micros) FILTER (WHERE state = 'reserved'), 0)::int8
               FROM spend
              WHERE workspace_id = $1 AND day BETWEEN $2::date AND $3::date
              GROUP BY 1 ORDER BY {order} LIMIT 1000"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(since)
            .bind(until)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(SpendRow {
                    name: row.try_get(0)?,
                    calls: row.try_get(1)?,
                    tokens_in: row.try_get(2)?,
                    tokens_out: row.try_get(3)?,
                    cost_micros: unsigned(row, 4)?.unwrap_or(0),
                    estimated_micros: unsigned(row, 5)?.unwrap_or(0),
                    reserved_micros: unsigned(row, 6)?.unwrap_or(0),
                })
            })
            .collect()
    }
}

/// Whether the attempt holds its step, which nobody takes from it before this
/// transaction is over.
async fn is_held(connection: &mut PgConnection, attempt: &AttemptKey) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT run FROM runs WHERE workspace_id = $1 AND id = $2 FOR SHARE")
        .bind(attempt.key.workspace.0)
        .bind(attempt.key.workflow.0)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let run =
        Run::decode(row.try_get(0)?).map_err(|source| StoreError::Corrupt { key: attempt.key, source })?;
    let token = Token { step: attempt.step, epoch: attempt.epoch, nonce: Nonce(attempt.nonce) };
    Ok(run.is_held_by(token) && !run.cancelled)
}

async fn reserve(connection: &mut PgConnection, write: &ReserveWrite) -> Result<Reserved, StoreError> {
    let CallKey { attempt, call } = &write.call;
    if !is_held(connection, attempt).await? {
        return Ok(Reserved::Overtaken);
    }
    let workspace = attempt.key.workspace.0;
    let names = Names::of(connection, workspace, Some(attempt.key.workflow.0), &write.day).await?;
    let insert = sqlx::query(
        "INSERT INTO spend (workspace_id, workflow_id, step, epoch, nonce, call, session, step_name, agent,
                            provider, model, day, reserved_micros)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::date, $13)
         ON CONFLICT DO NOTHING",
    )
    .bind(workspace)
    .bind(attempt.key.workflow.0)
    .bind(attempt.step as i16)
    .bind(attempt.epoch as i32)
    .bind(attempt.nonce as i64)
    .bind(*call as i16)
    .bind(attempt.session.0)
    .bind(&write.step_name)
    .bind(&write.agent)
    .bind(&write.provider)
    .bind(&write.model)
    .bind(&names.day)
    .bind(signed(write.micros));
    if execute(connection, insert).await? == 0 {
        // An earlier try of this very reservation was committed unknown to us.
        return Ok(Reserved::Yes { warnings: Vec::new() });
    }
    let rows = names.read(connection, true).await?;
    let counters: Vec<Counter> = rows.iter().map(|row| row.counter).collect();
    if let Some(full) = refused(&counters, write.micros) {
        let full = rows.iter().find(|row| row.counter == *full).cloned();
        return full
            .map(Reserved::Refused)
            .ok_or_else(|| StoreError::Schema("a counter that was read is not there".into()));
    }
    names.add(connection, signed(write.micros), 0).await?;
    let warnings = warn(connection, &names, rows).await?;
    Ok(Reserved::Yes { warnings })
}

/// Notes which counters somebody should hear about, each once.
async fn warn(
    connection: &mut PgConnection,
    names: &Names,
    rows: Vec<CounterRow>,
) -> Result<Vec<CounterRow>, StoreError> {
    let percent = names.limits(connection).await?.warn_percent;
    let mut warnings = Vec::new();
    for row in rows.into_iter().filter(|row| row.counter.is_nearly_used(percent)) {
        let first = sqlx::query(
            "UPDATE budget_counters SET warned_at = galley_now()
              WHERE workspace_id = $1 AND period = $2 AND name = $3 AND warned_at IS NULL",
        )
        .bind(names.workspace)
        .bind(row.counter.period.word())
        .bind(&row.name);
        if execute(connection, first).await? == 1 {
            let line = AuditWrite {
                workspace: WorkspaceId(names.workspace),
                key: None,
                actor: "engine".into(),
                action: "budget.warned",
                object: format!("{} {}", row.counter.period.word(), row.name),
                detail: Some(format!(
                    "{{\"spentMicros\":{},\"limitMicros\":{}}}",
                    row.counter.spent,
                    row.counter.limit.unwrap_or(0)
                )),
                hashes: Hashes::default(),
            };
            write_audit(connection, &line).await?;
            warnings.push(row);
        }
    }
    Ok(warnings)
}

async fn settle(connection: &mut PgConnection, write: &SettleWrite) -> Result<(), StoreError> {
    let CallKey { attempt, call } = &write.call;
    let row = sqlx::query(
        "SELECT state, reserved_micros, cost_micros, day::text FROM spend
          WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND epoch = $4 AND nonce = $5 AND call = $6
            FOR UPDATE",
    )
    .bind(attempt.key.workspace.0)
    .bind(attempt.key.workflow.0)
    .bind(attempt.step as i16)
    .bind(attempt.epoch as i32)
    .bind(attempt.nonce as i64)
    .bind(*call as i16)
    .fetch_optional(&mut *connection)
    .await?;
    // Erased with its workspace.
    let Some(row) = row else { return Ok(()) };
    let state: String = row.try_get(0)?;
    let (bound, charged): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let (freed, charged) = match state.as_str() {
        "reserved" => (bound, 0),
        // A late bill is better than an estimate.
        "estimated" if write.cost.is_some() => (0, charged),
        _ => return Ok(()),
    };
    let cost = write.cost.map_or(bound, signed);
    let update = sqlx::query(
        "UPDATE spend
            SET state = $7, cost_micros = $8, tokens_in = $9, tokens_out = $10, settled_at = galley_now()
          WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND epoch = $4 AND nonce = $5 AND call = $6",
    )
    .bind(attempt.key.workspace.0)
    .bind(attempt.key.workflow.0)
    .bind(attempt.step as i16)
    .bind(attempt.epoch as i32)
    .bind(attempt.nonce as i64)
    .bind(*call as i16)
    .bind(if write.cost.is_some() { "settled" } else { "estimated" })
    .bind(cost)
    .bind(write.tokens.input as i32)
    .bind(write.tokens.output as i32);
    execute(connection, update).await?;
    let names = Names {
        workspace: attempt.key.workspace.0,
        day: row.try_get(3)?,
        workflow: Some(attempt.key.workflow.0),
    };
    names.add(connection, -freed, cost - charged).await
}
