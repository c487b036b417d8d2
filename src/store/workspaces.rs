//! Tenants.

use galley_core::ids::WorkspaceId;
use sqlx::{AssertSqlSafe, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::scope::Scope;

/// A tenant as stored.
#[derive(Clone, Debug)]
pub struct WorkspaceRow {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name, unique in the deployment.
    pub name: String,
    /// Its share of the fair scheduler.
    pub weight: i32,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Days after which it forgets what is finished; none: never.
    pub retain_days: Option<i32>,
    /// Since when its new prompts and outputs are sealed at rest, RFC 3339.
    pub sealed_since: Option<String>,
}

/// The columns of a [`WorkspaceRow`].
const COLUMNS: &str =
    "id, name, weight, to_json(created_at)#>>'{}', retain_days, to_json(sealed_since)#>>'{}'";

fn workspace_of(row: &sqlx::postgres::PgRow) -> Result<WorkspaceRow, StoreError> {
    Ok(WorkspaceRow {
        id: WorkspaceId(row.try_get(0)?),
        name: row.try_get(1)?,
        weight: row.try_get(2)?,
        created_at: row.try_get(3)?,
        retain_days: row.try_get(4)?,
        sealed_since: row.try_get(5)?,
    })
}

impl Store {
    /// Makes a workspace. With the name and id of one that exists, this finds
    /// it again.
    ///
    /// # Errors
    /// [`StoreError::Constraint`] `workspaces_name_unique` when another
    /// workspace has the name.
    pub async fn create_workspace(
        &self,
        id: WorkspaceId,
        name: &str,
        weight: i32,
        actor: &str,
    ) -> Result<WorkspaceRow, StoreError> {
        let (name, actor) = (name.to_owned(), actor.to_owned());
        self.unit(id, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let row = sqlx::query(AssertSqlSafe(format!(
                "INSERT INTO workspaces (id, name, weight) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE workspaces.erased_at IS NULL
              RETURNING {COLUMNS}"
            )))
            .bind(id.0)
            .bind(&name)
            .bind(weight)
            .fetch_one(&mut *transaction)
            .await?;
            let line = AuditWrite {
                workspace: id,
                key: None,
                actor,
                action: "workspace.create",
                object: id.to_string(),
                detail: None,
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            workspace_of(&row)
        })
        .await
    }

    /// Has what is new in a workspace sealed from now on, or not any more;
    /// answers whether that is a change.
    ///
    /// # Errors
    /// Postgres is away, or this login is not the owner of the tables.
    pub async fn seal_workspace(&self, id: WorkspaceId, on: bool, actor: String) -> Result<bool, StoreError> {
        self.unit(id, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let update = sqlx::query(
                "UPDATE workspaces SET sealed_since = CASE WHEN $2 THEN galley_now() END
                  WHERE id = $1 AND (sealed_since IS NOT NULL) <> $2 AND erased_at IS NULL",
            );
            if execute(&mut transaction, update.bind(id.0).bind(on)).await? == 0 {
                return Ok(false);
            }
            let line = AuditWrite {
                workspace: id,
                key: None,
                actor,
                action: if on { "workspace.encrypt" } else { "workspace.encrypt_off" },
                object: id.to_string(),
                detail: None,
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Every workspace that was not erased, by name; at most 10,000.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_workspaces(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM workspaces WHERE erased_at IS NULL ORDER BY name LIMIT 10000"
        )))
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter().map(workspace_of).collect()
    }

    /// The workspace of a name, unless it was erased.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workspace_named(&self, name: &str) -> Result<Option<WorkspaceRow>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM workspaces WHERE name = $1 AND erased_at IS NULL"
        )))
        .bind(name)
        .fetch_optional(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        row.as_ref().map(workspace_of).transpose()
    }

    /// A workspace, unless it was erased.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRow>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM workspaces WHERE id = $1 AND erased_at IS NULL"
        )))
        .bind(id.0)
        .fetch_optional(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        row.as_ref().map(workspace_of).transpose()
    }
}
