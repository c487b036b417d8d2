//! When steps waited for people, as it is on record.

use galley_core::ids::{StepIndex, WorkflowKey};
use sqlx::Row;

use crate::error::StoreError;
use crate::pool::Store;

/// A time for which a step waited for a person.
#[derive(Clone, Debug)]
pub struct WaitRow {
    /// The step.
    pub step: StepIndex,
    /// Since when, RFC 3339.
    pub since: String,
    /// Until when, RFC 3339; `None`: it still waits.
    pub until: Option<String>,
}

impl Store {
    /// The times for which steps of a workflow waited for an answer, or for
    /// somebody who repairs them. Of a step that died more than once only the
    /// last time is known.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn waits_of(&self, key: WorkflowKey) -> Result<Vec<WaitRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, to_json(since)#>>'{}', to_json(until)#>>'{}'
               FROM (SELECT step, asked_at AS since, decided_at AS until
                       FROM approvals WHERE workspace_id = $1 AND workflow_id = $2
                      UNION ALL
                     SELECT step, died_at, closed_at
                       FROM dead_letters WHERE workspace_id = $1 AND workflow_id = $2) w
              ORDER BY step, since",
        )
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&mut *self.reader(key.workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(WaitRow {
                    step: row.try_get::<i16, _>(0)? as StepIndex,
                    since: row.try_get(1)?,
                    until: row.try_get(2)?,
                })
            })
            .collect()
    }
}
