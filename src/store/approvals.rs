//! Questions to people, as they are read. They are asked and answered in the
//! transaction that moves the step: see `publishing`.

use galley_core::ids::{ApprovalId, PostId, StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::Scope;

/// A question as stored.
#[derive(Clone, Debug)]
pub struct ApprovalRow {
    /// Its tenant.
    pub workspace: WorkspaceId,
    /// Its id.
    pub id: ApprovalId,
    /// `post`: may these bytes go out; `go`: may this step run.
    pub kind: String,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step: StepIndex,
    /// Its name.
    pub step_name: String,
    /// The post, and the revision that was shown.
    pub post: Option<(PostId, i32)>,
    /// What the answer is bound to.
    pub content_hash: String,
    /// Why it is asked.
    pub reason: String,
    /// `pending`, `approved`, `rejected`, `expired`, `void`.
    pub status: String,
    /// When it was asked, RFC 3339.
    pub asked_at: String,
    /// When it expires, RFC 3339.
    pub expires_at: String,
    /// Who answered.
    pub decided_by: Option<String>,
    /// When, RFC 3339.
    pub decided_at: Option<String>,
    /// What they said.
    pub note: Option<String>,
}

impl ApprovalRow {
    /// The workflow with its tenant.
    pub fn key(&self) -> WorkflowKey {
        WorkflowKey { workspace: self.workspace, workflow: self.workflow }
    }
}

/// Which questions to list.
#[derive(Clone, Debug, Default)]
pub struct ApprovalFilter {
    /// Only with this status.
    pub status: Option<String>,
    /// Only about this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only about this post.
    pub post: Option<PostId>,
}

const COLUMNS: &str = "workspace_id, id, kind, workflow_id, step, step_name, post_id, revision, content_hash, reason,
    status, to_json(asked_at)#>>'{}', to_json(expires_at)#>>'{}', decided_by, to_json(decided_at)#>>'{}', note";

fn approval_of(row: &PgRow) -> Result<ApprovalRow, StoreError> {
    let post: Option<uuid::Uuid> = row.try_get(6)?;
    let revision: Option<i32> = row.try_get(7)?;
    Ok(ApprovalRow {
        workspace: WorkspaceId(row.try_get(0)?),
        id: ApprovalId(row.try_get(1)?),
        kind: row.try_get(2)?,
        workflow: WorkflowId(row.try_get(3)?),
        step: row.try_get::<i16, _>(4)? as StepIndex,
        step_name: row.try_get(5)?,
        post: post.map(PostId).zip(revision),
        content_hash: row.try_get(8)?,
        reason: row.try_get(9)?,
        status: row.try_get(10)?,
        asked_at: row.try_get(11)?,
        expires_at: row.try_get(12)?,
        decided_by: row.try_get(13)?,
        decided_at: row.try_get(14)?,
        note: row.try_get(15)?,
    })
}

impl Store {
    /// One question.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn approval(
        &self,
        workspace: WorkspaceId,
        id: ApprovalId,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM approvals WHERE workspace_id = $1 AND id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(id.0)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(approval_of).transpose()
    }

    /// The newest open or given answer about a step.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn standing_approval(
        &self,
        key: WorkflowKey,
        step: StepIndex,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM approvals
              WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND status IN ('pending', 'approved')
              ORDER BY id DESC LIMIT 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(key.workspace.0)
            .bind(key.workflow.0)
            .bind(step as i16)
            .fetch_optional(&mut *self.reader(key.workspace).await?)
            .await?;
        row.as_ref().map(approval_of).transpose()
    }

    /// Questions, oldest first, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_approvals(
        &self,
        workspace: WorkspaceId,
        filter: &ApprovalFilter,
        after: Option<ApprovalId>,
        limit: i64,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM approvals
              WHERE workspace_id = $1 AND ($2::text IS NULL OR status = $2)
                AND ($3::uuid IS NULL OR workflow_id = $3) AND ($4::uuid IS NULL OR post_id = $4)
                AND ($5::uuid IS NULL OR id > $5)
              ORDER BY id LIMIT $6"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(&filter.status)
            .bind(filter.workflow.map(|workflow| workflow.0))
            .bind(filter.post.map(|post| post.0))
            .bind(after.map(|after| after.0))
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(approval_of).collect()
    }

    /// Open questions whose time is over, of all workspaces.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn expired_approvals(&self, limit: i64) -> Result<Vec<ApprovalRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM approvals
              WHERE status = 'pending' AND expires_at <= galley_now() ORDER BY expires_at LIMIT $1"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(limit)
            .fetch_all(&mut *self.reader(Scope::Fleet).await?)
            .await?;
        rows.iter().map(approval_of).collect()
    }
}
