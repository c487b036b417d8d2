//! The ledger: every call that may cost something, reserved before it is made
//! and settled after.
//!
//! What is written to it, and in which order locks are taken:
//! `crate::reserving` and `crate::settling`.
//!
//! A post is a call, too: its reservation is written by its intent and settled
//! by the transaction that writes what became of it.

use galley_core::decide::Token;
use galley_core::ids::{Nonce, WorkflowKey, WorkspaceId};
use galley_core::money::Tokens;
use sqlx::{AssertSqlSafe, Row};

use crate::budgets::{CounterRow, unsigned};
use crate::error::StoreError;
use crate::pool::Store;
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
    /// The account that is published to, for a post.
    pub account: Option<String>,
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
    /// The attempt has a call of this number that is settled, or of another
    /// bound: it is another call.
    Taken,
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

/// What became of a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booked {
    /// It is booked.
    Now,
    /// It is booked in place of an estimate.
    Late,
    /// It is booked, and more than what was reserved for it.
    OverBound {
        /// By how much, millionths of a US dollar.
        over_micros: u64,
    },
    /// It was booked before.
    Before,
    /// There is no such reservation: never made, or erased with its workspace.
    NotThere,
}

/// A bill that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// What became of it.
    pub booked: Booked,
    /// Counters of which so much is spent by now that somebody should be told,
    /// for the first time.
    pub warnings: Vec<CounterRow>,
}

/// A reservation that nobody has settled.
#[derive(Clone, Debug)]
pub struct OpenCall {
    /// The workflow.
    pub key: WorkflowKey,
    /// The attempt.
    pub token: Token,
    /// The session that made it.
    pub session: i64,
    /// Which call.
    pub call: u16,
    /// When, as Postgres writes it.
    pub reserved_at: String,
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
    /// Accounts of posts that cost something.
    Account,
}

/// Spend of one day, agent, model, workflow or account.
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
    /// Reservations of sessions that are over, and older ones of any, oldest
    /// first, behind one that was seen. Those of posts wait for what becomes of
    /// the post.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn lost_calls(
        &self,
        older_s: i64,
        behind: Option<&OpenCall>,
        limit: i64,
    ) -> Result<Vec<OpenCall>, StoreError> {
        let rows = sqlx::query(
            "SELECT workspace_id, workflow_id, step, epoch, nonce, call, session, reserved_at::text FROM spend
              WHERE state = 'reserved' AND account IS NULL
                AND (reserved_at < galley_now() - $1 * interval '1 s'
                     OR NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = spend.session AND s.closed_at IS NULL))
                AND ($3::text IS NULL OR (reserved_at, workspace_id, workflow_id, step, epoch, nonce, call)
                                       > ($3::timestamptz, $4, $5, $6, $7, $8, $9))
              ORDER BY reserved_at, workspace_id, workflow_id, step, epoch, nonce, call LIMIT $2",
        )
        .bind(older_s)
        .bind(limit)
        .bind(behind.map(|call| call.reserved_at.as_str()))
        .bind(behind.map(|call| call.key.workspace.0))
        .bind(behind.map(|call| call.key.workflow.0))
        .bind(behind.map(|call| call.token.step as i16))
        .bind(behind.map(|call| call.token.epoch as i32))
        .bind(behind.map(|call| call.token.nonce.0 as i64))
        .bind(behind.map(|call| call.call as i16))
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
                    reserved_at: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// Spend between two days of the workspace, both included (`2026-11-26`),
    /// the dearest first, days in order, at most a thousand rows; and what all of
    /// it comes to, in millionths of a US dollar.
    ///
    /// # Errors
    /// Postgres is away, or a day is none.
    pub async fn spend_by(
        &self,
        workspace: WorkspaceId,
        by: SpendBy,
        since: &str,
        until: &str,
    ) -> Result<(u64, Vec<SpendRow>), StoreError> {
        let (column, order) = match by {
            SpendBy::Day => ("day::text", "1"),
            SpendBy::Agent => ("agent", "5 DESC, 1"),
            SpendBy::Model => ("provider || ':' || model", "5 DESC, 1"),
            SpendBy::Workflow => ("workflow_id::text", "5 DESC, 1"),
            SpendBy::Account => ("account", "5 DESC, 1"),
        };
        let query = format!(
            "SELECT {column}, count(*), sum(tokens_in)::int8, sum(tokens_out)::int8, sum(cost_micros)::int8,
                    coalesce(sum(cost_micros) FILTER (WHERE state = 'estimated'), 0)::int8,
                    coalesce(sum(reserved_micros) FILTER (WHERE state = 'reserved'), 0)::int8,
                    (sum(sum(cost_micros)) OVER ())::int8
               FROM spend
              WHERE workspace_id = $1 AND day BETWEEN $2::date AND $3::date AND {column} IS NOT NULL
              GROUP BY 1 ORDER BY {order} LIMIT 1000"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(since)
            .bind(until)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        let total = rows.first().map(|row| unsigned(row, 7)).transpose()?.flatten().unwrap_or(0);
        let rows: Result<_, StoreError> = rows
            .iter()
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
            .collect();
        Ok((total, rows?))
    }
}
