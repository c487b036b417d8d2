//! Tenants.

use galley_core::ids::WorkspaceId;
use sqlx::Row;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::StoreError;
use crate::pool::Store;
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
}

fn workspace_of(row: &sqlx::postgres::PgRow) -> Result<WorkspaceRow, StoreError> {
    Ok(WorkspaceRow {
        id: WorkspaceId(row.try_get(0)?),
        name: row.try_get(1)?,
        weight: row.try_get(2)?,
        created_at: row.try_get(3)?,
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
            let row = sqlx::query(
                "INSERT INTO workspaces (id, name, weight) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name
              RETURNING id, name, weight, to_json(created_at)#>>'{}'",
            )
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

    /// Every workspace, by name; at most 10,000.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_workspaces(&self) -> Result<Vec<WorkspaceRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, weight, to_json(created_at)#>>'{}' FROM workspaces ORDER BY name LIMIT 10000",
        )
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter().map(workspace_of).collect()
    }

    /// The workspace of a name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workspace_named(&self, name: &str) -> Result<Option<WorkspaceRow>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, weight, to_json(created_at)#>>'{}' FROM workspaces WHERE name = $1",
        )
        .bind(name)
        .fetch_optional(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        row.as_ref().map(workspace_of).transpose()
    }

    /// Whether a workspace exists.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRow>, StoreError> {
        let row =
            sqlx::query("SELECT id, name, weight, to_json(created_at)#>>'{}' FROM workspaces WHERE id = $1")
                .bind(id.0)
                .fetch_optional(&mut *self.reader(Scope::Fleet).await?)
                .await?;
        row.as_ref().map(workspace_of).transpose()
    }
}
