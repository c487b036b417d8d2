//! Steps whose time has come.

use galley_core::ids::{StepIndex, WorkflowKey};
use sqlx::Row;

use crate::error::StoreError;
use crate::pool::Store;
use crate::runs::key_of;
use crate::scope::Scope;

/// A timer as stored.
#[derive(Clone, Copy, Debug)]
pub struct TimerRow {
    /// The workflow.
    pub key: WorkflowKey,
    /// The step.
    pub step: StepIndex,
    /// The epoch it is for.
    pub epoch: u32,
}

impl Store {
    /// Timers that are due, oldest first. Several schedulers may read the same
    /// ones: the run decides once.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn due_timers(&self, limit: i64) -> Result<Vec<TimerRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT workspace_id, workflow_id, step, epoch FROM timers
              WHERE due_at <= galley_now() ORDER BY due_at LIMIT $1",
        )
        .bind(limit)
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(TimerRow {
                    key: key_of(row)?,
                    step: row.try_get::<i16, _>(2)? as StepIndex,
                    epoch: row.try_get::<i32, _>(3)? as u32,
                })
            })
            .collect()
    }

    /// Milliseconds until the next timer is due; negative when one is overdue,
    /// `None` without timers.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn next_timer_ms(&self) -> Result<Option<i64>, StoreError> {
        let row =
            sqlx::query("SELECT (extract(epoch FROM min(due_at) - galley_now()) * 1000)::int8 FROM timers")
                .fetch_one(&mut *self.reader(Scope::Fleet).await?)
                .await?;
        Ok(row.try_get(0)?)
    }

    /// When a step's timer is due, RFC 3339.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn timers_of(&self, key: WorkflowKey) -> Result<Vec<(StepIndex, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, to_json(due_at)#>>'{}' FROM timers WHERE workspace_id = $1 AND workflow_id = $2",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&mut *self.reader(key.workspace).await?)
        .await?;
        rows.iter().map(|row| Ok((row.try_get::<i16, _>(0)? as StepIndex, row.try_get(1)?))).collect()
    }

    /// Removes a timer whose run refused it: it belongs to no waiting step.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn drop_timers(&self, timers: Vec<TimerRow>) -> Result<(), StoreError> {
        self.unit(Scope::of(timers.iter().map(|timer| timer.key.workspace)), move |pool| async move {
            let mut connection = pool.link().await?;
            let (workspaces, workflows) = crate::runs::split_keys(timers.iter().map(|timer| &timer.key));
            // The epoch is part of the match: a newer timer stays.
            sqlx::query(
                "DELETE FROM timers t
                  USING unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int4[]) AS d(workspace_id, workflow_id, step, epoch)
                  WHERE t.workspace_id = d.workspace_id AND t.workflow_id = d.workflow_id
                    AND t.step = d.step AND t.epoch = d.epoch",
            )
            .bind(workspaces)
            .bind(workflows)
            .bind(timers.iter().map(|timer| timer.step as i16).collect::<Vec<_>>())
            .bind(timers.iter().map(|timer| timer.epoch as i32).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
            connection.done().await
        })
        .await
    }
}
