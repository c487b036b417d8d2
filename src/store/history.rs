//! What happened: results, the attempt log, replaced inputs.

use galley_core::ids::{StepIndex, WorkflowKey};
use galley_core::report::Usage;
use sqlx::Row;

use crate::content::Content;
use crate::error::StoreError;
use crate::pool::Store;
use crate::runs::{AttemptWrite, insert_attempts, key_of, split_keys};
use crate::scope::Scope;

/// A succeeded step's result as stored.
#[derive(Clone, Debug)]
pub struct ResultRow {
    /// The step.
    pub step: StepIndex,
    /// The winning epoch.
    pub epoch: i32,
    /// Monotonic run time, milliseconds.
    pub duration_ms: i32,
    /// The bill.
    pub usage: Usage,
    /// When, RFC 3339.
    pub finished_at: String,
    /// The output.
    pub output: Content,
}

/// An attempt that did not succeed, as stored.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// The step.
    pub step: StepIndex,
    /// The epoch of the claim.
    pub epoch: i32,
    /// The worker session that ran it.
    pub session: i64,
    /// `failed`, `throttled`, `crashed` or `overdue`.
    pub outcome: String,
    /// The error's class.
    pub class: String,
    /// The error's message.
    pub message: String,
    /// Monotonic run time, milliseconds, where somebody measured it.
    pub duration_ms: Option<i32>,
    /// Its bill: an attempt that failed cost all the same.
    pub usage: Usage,
    /// When, RFC 3339.
    pub ended_at: String,
}

fn usage_of(row: &sqlx::postgres::PgRow, from: usize) -> Result<Usage, sqlx::Error> {
    Ok(Usage {
        provider: row.try_get(from)?,
        model: row.try_get(from + 1)?,
        tokens_in: row.try_get::<i32, _>(from + 2)? as u32,
        tokens_out: row.try_get::<i32, _>(from + 3)? as u32,
        cost_micros: row.try_get::<i64, _>(from + 4)? as u64,
        cache_hit: row.try_get(from + 5)?,
        deliberation: None,
    })
}

impl Store {
    /// The outputs of steps. Steps without a result are absent.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn load_outputs(
        &self,
        steps: &[(WorkflowKey, StepIndex)],
    ) -> Result<Vec<(WorkflowKey, StepIndex, Content)>, StoreError> {
        let (workspaces, workflows) = split_keys(steps.iter().map(|(key, _)| key));
        let rows = sqlx::query(
            "SELECT r.workspace_id, r.workflow_id, r.step, r.output::text, r.sealed
               FROM unnest($1::uuid[], $2::uuid[], $3::int2[]) AS k(workspace_id, workflow_id, step)
               JOIN results r USING (workspace_id, workflow_id, step)",
        )
        .bind(workspaces)
        .bind(workflows)
        .bind(steps.iter().map(|(_, step)| *step as i16).collect::<Vec<_>>())
        .fetch_all(&mut *self.reader(Scope::of(steps.iter().map(|(key, _)| key.workspace))).await?)
        .await?;
        rows.iter()
            .map(|row| Ok((key_of(row)?, row.try_get::<i16, _>(2)? as StepIndex, Content::of(row, 3, 4)?)))
            .collect()
    }

    /// Of these attempts, those that some earlier transaction recorded: the
    /// answer to "was it me?" after a COMMIT whose reply was lost. What the
    /// reaper wrote about an attempt (`crashed`, `overdue`) was not it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn recorded_attempts(
        &self,
        attempts: &[(WorkflowKey, StepIndex, u64)],
    ) -> Result<Vec<(WorkflowKey, StepIndex, u64)>, StoreError> {
        let (workspaces, workflows) = split_keys(attempts.iter().map(|(key, ..)| key));
        let rows = sqlx::query(
            "WITH k AS (
                 SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int2[], $4::int8[])
                            AS k(workspace_id, workflow_id, step, nonce)
             )
             SELECT workspace_id, workflow_id, step, nonce FROM k JOIN results USING (workspace_id, workflow_id, step, nonce)
              UNION
             SELECT workspace_id, workflow_id, step, nonce FROM k JOIN attempts USING (workspace_id, workflow_id, step, nonce)
              WHERE outcome IN ('failed', 'throttled', 'waiting_budget')",
        )
        .bind(workspaces)
        .bind(workflows)
        .bind(attempts.iter().map(|(_, step, _)| *step as i16).collect::<Vec<_>>())
        .bind(attempts.iter().map(|(.., nonce)| *nonce as i64).collect::<Vec<_>>())
        .fetch_all(&mut *self.reader(Scope::of(attempts.iter().map(|(key, ..)| key.workspace))).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((key_of(row)?, row.try_get::<i16, _>(2)? as StepIndex, row.try_get::<i64, _>(3)? as u64))
            })
            .collect()
    }

    /// Records the bills of attempts that were overtaken: their results are
    /// dropped, but what they cost is real. Not fenced, and repeatable. An
    /// attempt that the reaper has written a line about gets its bill there.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn record_late_attempts(&self, attempts: Vec<AttemptWrite>) -> Result<(), StoreError> {
        self.unit(Scope::of(attempts.iter().map(|late| late.attempt.key.workspace)), move |pool| async move {
            let mut transaction = pool.begin().await?;
            insert_attempts(&mut transaction, &attempts.iter().collect::<Vec<_>>()).await?;
            for late in &attempts {
                let AttemptWrite { attempt, duration_ms, usage, .. } = late;
                sqlx::query(
                    "UPDATE attempts
                        SET duration_ms = $6, tokens_in = $7, tokens_out = $8, cost_micros = $9,
                            provider = $10, model = $11
                      WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND epoch = $4 AND nonce = $5
                        AND outcome IN ('crashed', 'overdue')",
                )
                .bind(attempt.key.workspace.0)
                .bind(attempt.key.workflow.0)
                .bind(attempt.step as i16)
                .bind(attempt.epoch as i32)
                .bind(attempt.nonce as i64)
                .bind(duration_ms.map(|ms| ms as i32))
                .bind(usage.tokens_in as i32)
                .bind(usage.tokens_out as i32)
                .bind(usage.cost_micros as i64)
                .bind(usage.provider.as_deref())
                .bind(usage.model.as_deref())
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// All results of a workflow, in step order.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn results_of(&self, key: WorkflowKey) -> Result<Vec<ResultRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, epoch, duration_ms, to_json(finished_at)#>>'{}', output::text,
                    provider, model, tokens_in, tokens_out, cost_micros, cache_hit, sealed
               FROM results WHERE workspace_id = $1 AND workflow_id = $2 ORDER BY step",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&mut *self.reader(key.workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ResultRow {
                    step: row.try_get::<i16, _>(0)? as StepIndex,
                    epoch: row.try_get(1)?,
                    duration_ms: row.try_get(2)?,
                    finished_at: row.try_get(3)?,
                    output: Content::of(row, 4, 11)?,
                    usage: usage_of(row, 5)?,
                })
            })
            .collect()
    }

    /// The attempts of a workflow that did not succeed, oldest first.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn attempts_of(&self, key: WorkflowKey) -> Result<Vec<AttemptRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, epoch, session, outcome, class, message, duration_ms, to_json(ended_at)#>>'{}',
                    provider, model, tokens_in, tokens_out, cost_micros, false
               FROM attempts WHERE workspace_id = $1 AND workflow_id = $2 ORDER BY step, epoch",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&mut *self.reader(key.workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(AttemptRow {
                    step: row.try_get::<i16, _>(0)? as StepIndex,
                    epoch: row.try_get(1)?,
                    session: row.try_get(2)?,
                    outcome: row.try_get(3)?,
                    class: row.try_get(4)?,
                    message: row.try_get(5)?,
                    duration_ms: row.try_get(6)?,
                    usage: usage_of(row, 8)?,
                    ended_at: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// The input a person gave a step for one epoch.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn edited_input(
        &self,
        key: WorkflowKey,
        step: StepIndex,
        epoch: u32,
    ) -> Result<Option<Content>, StoreError> {
        let row = sqlx::query(
            "SELECT input::text, sealed FROM step_inputs
              WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND epoch = $4",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .bind(step as i16)
        .bind(epoch as i32)
        .fetch_optional(&mut *self.reader(key.workspace).await?)
        .await?;
        Ok(row.map(|row| Content::of(&row, 0, 1)).transpose()?)
    }
}
