//! What a workspace's figures are summed up from: publications, posts, the
//! ledger, and finished runs page by page. Every statement names the workspace
//! and a stretch of time that an index knows.

use galley_core::figures::Made;
use galley_core::ids::{StepIndex, WorkflowId, WorkspaceId};
use galley_core::report::Usage;
use sqlx::Row;

use crate::error::StoreError;
use crate::pool::Store;

/// A stretch of time, as Postgres reads it.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Its begin, RFC 3339.
    pub from: String,
    /// Its end, exclusive.
    pub until: String,
}

/// What became of posts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostCounts {
    /// That were made.
    pub made: u64,
    /// That went out after an approval.
    pub approved: u64,
    /// That a person rejected.
    pub rejected: u64,
    /// That nobody approved in time.
    pub expired: u64,
    /// With more than one revision.
    pub edited: u64,
}

/// A finished run and where the page after it begins.
#[derive(Clone, Debug)]
pub struct FinishedRow {
    /// The workflow.
    pub workflow: WorkflowId,
    /// Its definition.
    pub definition: i64,
    /// When it ended, RFC 3339.
    pub finished_at: String,
    /// Its final run.
    pub run: Vec<u8>,
}

fn count(row: &sqlx::postgres::PgRow, at: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(at)?).unwrap_or(0))
}

impl Store {
    /// Posts that went out, by content platform and hour of the day in a zone.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn published_counts(
        &self,
        workspace: WorkspaceId,
        stretch: &Stretch,
        zone: &str,
    ) -> Result<Vec<(String, u8, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.content_platform, extract(hour FROM p.settled_at AT TIME ZONE $4)::int2, count(*)
               FROM publications p JOIN accounts a ON a.workspace_id = p.workspace_id AND a.id = p.account_id
              WHERE p.workspace_id = $1 AND p.state = 'published'
                AND p.settled_at >= $2::timestamptz AND p.settled_at < $3::timestamptz
              GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .bind(workspace.0)
        .bind(&stretch.from)
        .bind(&stretch.until)
        .bind(zone)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        let of = |row: &sqlx::postgres::PgRow| {
            let hour = u8::try_from(row.try_get::<i16, _>(1)?).unwrap_or(0);
            Ok((row.try_get(0)?, hour, count(row, 2)?))
        };
        rows.iter().map(of).collect()
    }

    /// What became of the posts of the workflows that ended in a stretch.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn post_counts(
        &self,
        workspace: WorkspaceId,
        stretch: &Stretch,
    ) -> Result<PostCounts, StoreError> {
        let row = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE p.state = 'published' AND b.approval_id IS NOT NULL),
                    count(*) FILTER (WHERE p.state = 'rejected'), count(*) FILTER (WHERE p.state = 'expired'),
                    count(*) FILTER (WHERE p.revision > 1)
               FROM finished_runs f
               JOIN posts p ON p.workspace_id = f.workspace_id AND p.workflow_id = f.id
               LEFT JOIN publications b ON b.workspace_id = p.workspace_id AND b.post_id = p.id
              WHERE f.workspace_id = $1 AND f.finished_at >= $2::timestamptz AND f.finished_at < $3::timestamptz",
        )
        .bind(workspace.0)
        .bind(&stretch.from)
        .bind(&stretch.until)
        .fetch_one(&mut *self.reader(workspace).await?)
        .await?;
        Ok(PostCounts {
            made: count(&row, 0)?,
            approved: count(&row, 1)?,
            rejected: count(&row, 2)?,
            expired: count(&row, 3)?,
            edited: count(&row, 4)?,
        })
    }

    /// What was spent in a stretch, and how much of it is an estimate.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn spent(&self, workspace: WorkspaceId, stretch: &Stretch) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            // A ledger row's day is the workspace's: a day of slack on both
            // sides covers every zone, and the index is by day.
            "SELECT coalesce(sum(cost_micros), 0)::int8,
                    coalesce(sum(cost_micros) FILTER (WHERE state = 'estimated'), 0)::int8
               FROM spend
              WHERE workspace_id = $1 AND settled_at >= $2::timestamptz AND settled_at < $3::timestamptz
                AND day >= ($2::timestamptz AT TIME ZONE 'UTC')::date - 2
                AND day <= ($3::timestamptz AT TIME ZONE 'UTC')::date + 1",
        )
        .bind(workspace.0)
        .bind(&stretch.from)
        .bind(&stretch.until)
        .fetch_one(&mut *self.reader(workspace).await?)
        .await?;
        Ok((count(&row, 0)?, count(&row, 1)?))
    }

    /// Workflows that ended in a stretch, oldest end first, after one of them.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn finished_page(
        &self,
        workspace: WorkspaceId,
        stretch: &Stretch,
        after: Option<&FinishedRow>,
        limit: i64,
    ) -> Result<Vec<FinishedRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, definition_id, to_json(finished_at)#>>'{}', run FROM finished_runs
              WHERE workspace_id = $1 AND finished_at >= $2::timestamptz AND finished_at < $3::timestamptz
                AND (finished_at, id) > ($4::timestamptz, $5)
              ORDER BY finished_at, id LIMIT $6",
        )
        .bind(workspace.0)
        .bind(&stretch.from)
        .bind(&stretch.until)
        .bind(after.map_or("-infinity", |row| row.finished_at.as_str()))
        .bind(after.map_or(uuid::Uuid::nil(), |row| row.workflow.0))
        .bind(limit)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(FinishedRow {
                    workflow: WorkflowId(row.try_get(0)?),
                    definition: row.try_get(1)?,
                    finished_at: row.try_get(2)?,
                    run: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// The results of workflows, without their outputs.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn made(
        &self,
        workspace: WorkspaceId,
        workflows: &[WorkflowId],
    ) -> Result<Vec<(WorkflowId, Made)>, StoreError> {
        let rows = sqlx::query(
            "SELECT workflow_id, step, duration_ms, provider, model, tokens_in, tokens_out, cost_micros, cache_hit
               FROM results WHERE workspace_id = $1 AND workflow_id = ANY($2)",
        )
        .bind(workspace.0)
        .bind(workflows.iter().map(|workflow| workflow.0).collect::<Vec<_>>())
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
        rows.iter()
            .map(|row| {
                let usage = Usage {
                    provider: row.try_get(3)?,
                    model: row.try_get(4)?,
                    tokens_in: unsigned(row.try_get(5)?),
                    tokens_out: unsigned(row.try_get(6)?),
                    cost_micros: count(row, 7)?,
                    cache_hit: row.try_get(8)?,
                    deliberation: None,
                };
                let made = Made {
                    step: row.try_get::<i16, _>(1)? as StepIndex,
                    duration_ms: unsigned(row.try_get(2)?).into(),
                    usage,
                };
                Ok((WorkflowId(row.try_get(0)?), made))
            })
            .collect()
    }
}
