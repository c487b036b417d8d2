//! Budgets: the limits, what was counted of them, and who waits for money.

use galley_core::ids::{StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::money::{Budget, Counter, Period};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::{Overtaken, StoreError};
use crate::pool::{Store, execute};
use crate::publishing::DayRule;
use crate::reserving;
use crate::runs::{MoneyWait, key_of, split_keys};
use crate::scope::Scope;

/// A workspace's limits, as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetRow {
    /// The limits.
    pub budget: Budget,
    /// Rises with every change; 0: nobody set any.
    pub version: i64,
    /// Who set them.
    pub set_by: Option<String>,
    /// When, RFC 3339.
    pub set_at: Option<String>,
}

/// What was spent in one period.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterRow {
    /// `2026-11-26`, `2026-11`, or a workflow's id.
    pub name: String,
    /// The counter.
    pub counter: Counter,
    /// Whether a workflow has a limit of its own.
    pub own: bool,
}

/// A step that waits for money.
#[derive(Clone, Debug, PartialEq)]
pub struct MoneyWaitRow {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: u16,
    /// The epoch it waits at.
    pub epoch: u32,
    /// What its next call may cost at most.
    pub needed_micros: u64,
    /// Since when, RFC 3339.
    pub since: String,
}

pub(crate) const LIMITS: &str = "day_micros, month_micros, workflow_micros, warn_percent";

pub(crate) fn unsigned(row: &PgRow, at: usize) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(at)?.map(|n| u64::try_from(n).unwrap_or(0)))
}

pub(crate) fn budget_of(row: &PgRow) -> Result<Budget, sqlx::Error> {
    Ok(Budget {
        day_micros: unsigned(row, 0)?,
        month_micros: unsigned(row, 1)?,
        workflow_micros: unsigned(row, 2)?,
        warn_percent: u8::try_from(row.try_get::<i16, _>(3)?).unwrap_or(80),
    })
}

pub(crate) fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

impl Store {
    /// A workspace's limits.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn budget(&self, workspace: WorkspaceId) -> Result<BudgetRow, StoreError> {
        let query = format!(
            "SELECT {LIMITS}, version, set_by, to_json(set_at)#>>'{{}}' FROM budgets WHERE workspace_id = $1"
        );
        let row = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        Ok(match row {
            None => BudgetRow { budget: Budget::default(), version: 0, set_by: None, set_at: None },
            Some(row) => BudgetRow {
                budget: budget_of(&row)?,
                version: row.try_get(4)?,
                set_by: row.try_get(5)?,
                set_at: row.try_get(6)?,
            },
        })
    }

    /// Replaces a workspace's limits, if they are still at the version that was
    /// seen. What was spent stays; a period that was warned about may be again.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when somebody else changed them meanwhile.
    pub async fn set_budget(
        &self,
        workspace: WorkspaceId,
        seen: i64,
        budget: Budget,
        actor: String,
        detail: String,
        hashes: Hashes,
    ) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let set = sqlx::query(
                "INSERT INTO budgets AS b
                        (workspace_id, day_micros, month_micros, workflow_micros, warn_percent, version, set_by)
                 VALUES ($1, $2, $3, $4, $5, $6 + 1, $7)
                 ON CONFLICT (workspace_id) DO UPDATE
                    SET day_micros = excluded.day_micros, month_micros = excluded.month_micros,
                        workflow_micros = excluded.workflow_micros, warn_percent = excluded.warn_percent,
                        version = b.version + 1, set_by = excluded.set_by, set_at = galley_now()
                  WHERE b.version = $6",
            )
            .bind(workspace.0)
            .bind(budget.day_micros.map(signed))
            .bind(budget.month_micros.map(signed))
            .bind(budget.workflow_micros.map(signed))
            .bind(i16::from(budget.warn_percent))
            .bind(seen)
            .bind(&actor);
            if execute(&mut transaction, set).await? == 0 {
                return Err(StoreError::Overtaken(Overtaken::Config));
            }
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "budget.set",
                object: "budget".into(),
                detail: Some(detail),
                hashes,
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Gives a workflow a limit of its own; `None`: the workspace's again.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn set_workflow_budget(
        &self,
        key: WorkflowKey,
        limit: Option<u64>,
        actor: String,
    ) -> Result<(), StoreError> {
        self.unit(key.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let set = sqlx::query(
                "INSERT INTO budget_counters (workspace_id, period, name, own_limit) VALUES ($1, 'workflow', $2, $3)
                 ON CONFLICT (workspace_id, period, name) DO UPDATE SET own_limit = excluded.own_limit",
            )
            .bind(key.workspace.0)
            .bind(key.workflow.to_string())
            .bind(limit.map(signed));
            execute(&mut transaction, set).await?;
            let line = AuditWrite {
                workspace: key.workspace,
                key: None,
                actor,
                action: "budget.set",
                object: key.workflow.to_string(),
                detail: Some(limit.map_or("null".into(), |limit| format!("{{\"workflowMicros\":{limit}}}"))),
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// The counters of this day and month, and of a workflow.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn counters(
        &self,
        workspace: WorkspaceId,
        workflow: Option<WorkflowId>,
        rule: &DayRule,
    ) -> Result<Vec<CounterRow>, StoreError> {
        let mut reader = self.reader(workspace).await?;
        reserving::standing(&mut reader, workspace.0, workflow.map(|workflow| workflow.0), rule).await
    }

    /// The counters of many workflows at once.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workflow_counters(
        &self,
        workspace: WorkspaceId,
        workflows: &[WorkflowId],
    ) -> Result<Vec<(WorkflowId, Counter)>, StoreError> {
        let rows = sqlx::query(
            "SELECT w.id, coalesce(c.own_limit, b.workflow_micros), c.reserved_micros, c.spent_micros
               FROM unnest($2::uuid[]) AS w(id)
               LEFT JOIN budget_counters c
                 ON c.workspace_id = $1 AND c.period = 'workflow' AND c.name = w.id::text
               LEFT JOIN budgets b ON b.workspace_id = $1",
        )
        .bind(workspace.0)
        .bind(workflows.iter().map(|workflow| workflow.0).collect::<Vec<_>>())
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                let counter = Counter {
                    period: Period::Workflow,
                    limit: unsigned(row, 1)?,
                    reserved: unsigned(row, 2)?.unwrap_or(0),
                    spent: unsigned(row, 3)?.unwrap_or(0),
                };
                Ok((WorkflowId(row.try_get(0)?), counter))
            })
            .collect()
    }

    /// Steps that wait for money, of each workspace at most `most`, those that
    /// wait longest first: a workspace without money keeps nobody else from
    /// theirs. Of one workspace also those behind one that was seen.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn money_waits(
        &self,
        scope: Option<WorkspaceId>,
        behind: Option<&MoneyWaitRow>,
        most: i64,
    ) -> Result<Vec<MoneyWaitRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT workspace_id, workflow_id, step, epoch, needed_micros, to_json(since)#>>'{}'
               FROM (SELECT *, row_number() OVER (PARTITION BY workspace_id ORDER BY since, workflow_id, step) AS place
                       FROM budget_waits
                      WHERE ($1::uuid IS NULL OR workspace_id = $1)
                        AND ($3::text IS NULL OR (since, workflow_id, step) > ($3::timestamptz, $4, $5))) w
              WHERE place <= $2 ORDER BY since, workflow_id, step",
        )
        .bind(scope.map(|workspace| workspace.0))
        .bind(most)
        .bind(behind.map(|wait| wait.since.as_str()))
        .bind(behind.map(|wait| wait.key.workflow.0))
        .bind(behind.map(|wait| wait.step as i16))
        .fetch_all(&mut *self.reader(scope.map_or(Scope::Fleet, Scope::from)).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(MoneyWaitRow {
                    key: key_of(row)?,
                    step: row.try_get::<i16, _>(2)? as u16,
                    epoch: row.try_get::<i32, _>(3)? as u32,
                    needed_micros: unsigned(row, 4)?.unwrap_or(0),
                    since: row.try_get(5)?,
                })
            })
            .collect()
    }

    /// How many steps of a workspace wait for money.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn count_money_waits(&self, workspace: WorkspaceId) -> Result<usize, StoreError> {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM budget_waits WHERE workspace_id = $1")
            .bind(workspace.0)
            .fetch_one(&mut *self.reader(workspace).await?)
            .await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Removes a wait whose run refused money: it belongs to no waiting step.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn drop_money_waits(&self, waits: Vec<MoneyWaitRow>) -> Result<(), StoreError> {
        self.unit(Scope::of(waits.iter().map(|wait| wait.key.workspace)), move |pool| async move {
            let mut transaction = pool.begin().await?;
            for wait in &waits {
                // The epoch is part of the match: a newer wait stays.
                let gone = sqlx::query(
                    "DELETE FROM budget_waits
                      WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND epoch = $4",
                )
                .bind(wait.key.workspace.0)
                .bind(wait.key.workflow.0)
                .bind(wait.step as i16)
                .bind(wait.epoch as i32);
                execute(&mut transaction, gone).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Notes steps that wait for money.
pub(crate) async fn wait_for_money(
    connection: &mut PgConnection,
    rows: &[&MoneyWait],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|row| &row.key));
    let insert = sqlx::query(
        "INSERT INTO budget_waits (workspace_id, workflow_id, step, epoch, needed_micros)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[], $5::int8[])
         ON CONFLICT (workspace_id, workflow_id, step)
         DO UPDATE SET epoch = excluded.epoch, needed_micros = excluded.needed_micros, since = galley_now()",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|row| row.step as i16).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.epoch as i32).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| signed(row.needed_micros)).collect::<Vec<_>>());
    execute(connection, insert).await?;
    Ok(())
}

/// Steps that do not wait for money any more.
pub(crate) async fn money_wait_over(
    connection: &mut PgConnection,
    rows: &[&(WorkflowKey, StepIndex)],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (workspaces, workflows) = split_keys(rows.iter().map(|(key, _)| key));
    let delete = sqlx::query(
        "DELETE FROM budget_waits w
          USING unnest($1::uuid[], $2::uuid[], $3::int2[]) AS d(workspace_id, workflow_id, step)
          WHERE w.workspace_id = d.workspace_id AND w.workflow_id = d.workflow_id AND w.step = d.step",
    )
    .bind(workspaces)
    .bind(workflows)
    .bind(rows.iter().map(|(_, step)| *step as i16).collect::<Vec<_>>());
    execute(connection, delete).await?;
    Ok(())
}
