//! Forgetting what is finished and old enough, where a workspace asks for it.
//!
//! What goes: workflows that are over, with their inputs, results, attempts,
//! dead letters and unpublished posts, and the text of posts that are out. What
//! stays: the audit log, and of every post that may be out its receipt (key,
//! hash, approval, calls, the platform's id), so that nothing that was sent is
//! ever taken for unsent.

use galley_core::ids::WorkspaceId;
use serde_json::json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::Scope;

/// What a pass over one workspace forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Workflows, with everything of theirs.
    pub workflows: u64,
    /// Posts of theirs that are or may be out: their text.
    pub texts: u64,
    /// Posts of theirs that never went out, whole.
    pub posts: u64,
}

/// Who forgets, to the audit log.
const ACTOR: &str = "retention";

/// Workflows that are over for long enough. Their ids say when they were made
/// (version 7), and none ended before that: so the primary key bounds the
/// search. A day more, because ids are drawn by the clocks of API servers.
const OLD: &str = "
    SELECT f.id, to_json(galley_now() - make_interval(days => w.retain_days))#>>'{}'
      FROM workspaces w JOIN finished_runs f ON f.workspace_id = w.id
     WHERE w.id = $1 AND w.erased_at IS NULL
       AND f.finished_at < galley_now() - make_interval(days => w.retain_days)
       AND f.id < (lpad(to_hex((extract(epoch FROM galley_now() - make_interval(days => w.retain_days - 1)) * 1000)::int8),
                        12, '0') || repeat('f', 20))::uuid
       AND NOT EXISTS (SELECT 1 FROM posts p JOIN publications u
                           ON u.workspace_id = p.workspace_id AND u.post_id = p.id
                        WHERE p.workspace_id = f.workspace_id AND p.workflow_id = f.id
                          AND u.state IN ('intent', 'unknown', 'in_doubt'))
     ORDER BY f.id LIMIT $2 FOR UPDATE OF f SKIP LOCKED";

/// Posts of these workflows of which something may be out.
const SENT: &str =
    "SELECT p.id FROM posts p JOIN publications u ON u.workspace_id = p.workspace_id AND u.post_id = p.id
                     WHERE p.workspace_id = $1 AND p.workflow_id = ANY($2)";

impl Store {
    /// Sets after how many days a workspace forgets what is finished; `None`:
    /// never. False: there is no such workspace.
    ///
    /// # Errors
    /// Postgres is away; [`StoreError::Constraint`] unless 1 to 36,500.
    pub async fn set_retention(
        &self,
        workspace: WorkspaceId,
        days: Option<i32>,
        actor: String,
    ) -> Result<bool, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let set =
                sqlx::query("UPDATE workspaces SET retain_days = $2 WHERE id = $1 AND erased_at IS NULL")
                    .bind(workspace.0)
                    .bind(days)
                    .execute(&mut *transaction)
                    .await?;
            if set.rows_affected() == 0 {
                return Ok(false);
            }
            let line = line(workspace, actor, "workspace.retain", &json!({ "days": days }));
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The workspaces that forget.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn forgetful_workspaces(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        let rows =
            sqlx::query("SELECT id FROM workspaces WHERE retain_days IS NOT NULL AND erased_at IS NULL")
                .fetch_all(&mut *self.reader(Scope::Fleet).await?)
                .await?;
        rows.iter().map(|row| Ok(WorkspaceId(row.try_get(0)?))).collect()
    }

    /// Forgets up to `most` workflows of a workspace that are over for longer
    /// than it keeps them, in one transaction with its audit line. Two callers
    /// at once take different ones.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn forget_finished(&self, workspace: WorkspaceId, most: i64) -> Result<Forgotten, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let rows = sqlx::query(OLD).bind(workspace.0).bind(most).fetch_all(&mut *transaction).await?;
            let Some(first) = rows.first() else { return Ok(Forgotten::default()) };
            let before: String = first.try_get(1)?;
            let old: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            let forgotten = forget(&mut transaction, workspace, &old).await?;
            let detail = json!({
                "finishedBefore": before, "workflows": forgotten.workflows,
                "postTexts": forgotten.texts, "posts": forgotten.posts,
            });
            let line = line(workspace, ACTOR.into(), "retention.forget", &detail);
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(forgotten)
        })
        .await
    }
}

async fn forget(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    old: &[Uuid],
) -> Result<Forgotten, StoreError> {
    let mut run = async |statement: &str| -> Result<u64, StoreError> {
        let query = sqlx::query(sqlx::AssertSqlSafe(statement.replace("{SENT}", SENT)));
        Ok(query.bind(workspace.0).bind(old).execute(&mut *connection).await?.rows_affected())
    };
    // What may be out keeps its record; its words go.
    let texts = run(
        "UPDATE publications SET payload = '{\"text\":\"\"}' WHERE workspace_id = $1 AND post_id IN ({SENT})",
    )
    .await?;
    run("UPDATE post_revisions SET content = '{\"text\":\"\"}' WHERE workspace_id = $1 AND post_id IN ({SENT})")
        .await?;
    run("UPDATE posts SET reason = 'its text was forgotten: the workspace keeps what is finished for a time'
          WHERE workspace_id = $1 AND id IN ({SENT})")
    .await?;
    run("UPDATE approvals SET note = NULL WHERE workspace_id = $1 AND workflow_id = ANY($2)").await?;
    // What never went out goes whole.
    run("DELETE FROM approvals WHERE workspace_id = $1 AND workflow_id = ANY($2)
            AND (post_id IS NULL OR post_id NOT IN ({SENT}))")
    .await?;
    run("DELETE FROM post_revisions WHERE workspace_id = $1 AND post_id NOT IN ({SENT})
            AND post_id IN (SELECT id FROM posts WHERE workspace_id = $1 AND workflow_id = ANY($2))")
    .await?;
    let posts =
        run("DELETE FROM posts WHERE workspace_id = $1 AND workflow_id = ANY($2) AND id NOT IN ({SENT})")
            .await?;
    for table in [
        "results",
        "attempts",
        "step_inputs",
        "dead_letters",
        "timers",
        "deliberations",
        "messages",
        "shared_context",
    ] {
        run(&format!("DELETE FROM {table} WHERE workspace_id = $1 AND workflow_id = ANY($2)")).await?;
    }
    run("DELETE FROM finished_runs WHERE workspace_id = $1 AND id = ANY($2)").await?;
    let workflows = run("DELETE FROM workflows WHERE workspace_id = $1 AND id = ANY($2)").await?;
    Ok(Forgotten { workflows, texts, posts })
}

fn line(
    workspace: WorkspaceId,
    actor: String,
    action: &'static str,
    detail: &serde_json::Value,
) -> AuditWrite {
    AuditWrite {
        workspace,
        key: None,
        actor,
        action,
        object: workspace.to_string(),
        detail: Some(detail.to_string()),
        hashes: Hashes::default(),
    }
}
