//! Definitions (content, stored once per workspace) and the templates that
//! name them.

use galley_core::ids::WorkspaceId;
use sqlx::Row;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::Scope;

/// A workspace's own template as stored.
#[derive(Clone, Debug)]
pub struct TemplateRow {
    /// Its name.
    pub name: String,
    /// Its version: 1, 2, …
    pub version: i32,
    /// The definition as JSON text.
    pub body: String,
    /// Who stored it.
    pub created_by: String,
    /// When, RFC 3339.
    pub created_at: String,
}

fn template_of(row: &sqlx::postgres::PgRow) -> Result<TemplateRow, StoreError> {
    Ok(TemplateRow {
        name: row.try_get(0)?,
        version: row.try_get(1)?,
        body: row.try_get(2)?,
        created_by: row.try_get(3)?,
        created_at: row.try_get(4)?,
    })
}

impl Store {
    /// Stores a frozen definition, or finds the one with the same hash.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn intern_definition(
        &self,
        workspace: WorkspaceId,
        hash: [u8; 32],
        body: String,
    ) -> Result<i64, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut connection = pool.link().await?;
            // DO NOTHING returns no row for one that exists, hence the SELECT;
            // a definition never changes and is never removed.
            let row = sqlx::query(
                "WITH new AS (
                     INSERT INTO definitions (workspace_id, hash, body) VALUES ($1, $2, $3::json)
                     ON CONFLICT ON CONSTRAINT definitions_hash_unique DO NOTHING RETURNING id
                 )
                 SELECT id FROM new UNION ALL SELECT id FROM definitions WHERE workspace_id = $1 AND hash = $2
                 LIMIT 1",
            )
            .bind(workspace.0)
            .bind(hash.as_slice())
            .bind(body)
            .fetch_optional(&mut *connection)
            .await?;
            let row = match row {
                Some(row) => row,
                // Both lost and not yet visible: somebody committed it between
                // the two halves of our snapshot. Look once more.
                None => {
                    sqlx::query("SELECT id FROM definitions WHERE workspace_id = $1 AND hash = $2")
                        .bind(workspace.0)
                        .bind(hash.as_slice())
                        .fetch_one(&mut *connection)
                        .await?
                }
            };
            connection.done().await?;
            Ok(row.try_get(0)?)
        })
        .await
    }

    /// Frozen definitions by id, as JSON text.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn load_definitions(
        &self,
        definitions: &[(WorkspaceId, i64)],
    ) -> Result<Vec<(i64, String)>, StoreError> {
        let ids: Vec<i64> = definitions.iter().map(|(_, id)| *id).collect();
        let rows = sqlx::query("SELECT id, body::text FROM definitions WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(
                &mut *self.reader(Scope::of(definitions.iter().map(|(workspace, _)| *workspace))).await?,
            )
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Stores the next version of a template; the same body as the newest
    /// version is that version.
    ///
    /// # Errors
    /// Postgres is away; [`StoreError::Constraint`] when two people stored a
    /// version at once (repeat).
    pub async fn store_template(
        &self,
        workspace: WorkspaceId,
        name: &str,
        body: String,
        actor: &str,
    ) -> Result<TemplateRow, StoreError> {
        let (name, actor) = (name.to_owned(), actor.to_owned());
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let newest = sqlx::query(
                "SELECT name, version, body::text, created_by, to_json(created_at)#>>'{}' FROM templates
                  WHERE workspace_id = $1 AND name = $2 ORDER BY version DESC LIMIT 1",
            )
            .bind(workspace.0)
            .bind(&name)
            .fetch_optional(&mut *transaction)
            .await?
            .as_ref()
            .map(template_of)
            .transpose()?;
            if let Some(newest) = newest.as_ref().filter(|newest| newest.body == body) {
                return Ok(newest.clone());
            }
            let version = newest.map_or(1, |newest| newest.version + 1);
            let row = sqlx::query(
                "INSERT INTO templates (workspace_id, name, version, body, created_by)
                 VALUES ($1, $2, $3, $4::json, $5)
              RETURNING name, version, body::text, created_by, to_json(created_at)#>>'{}'",
            )
            .bind(workspace.0)
            .bind(&name)
            .bind(version)
            .bind(body)
            .bind(&actor)
            .fetch_one(&mut *transaction)
            .await?;
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "template.store",
                object: format!("{name}@{version}"),
                detail: None,
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            template_of(&row)
        })
        .await
    }

    /// The newest version of each template of a workspace, by name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_templates(&self, workspace: WorkspaceId) -> Result<Vec<TemplateRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT ON (name) name, version, body::text, created_by, to_json(created_at)#>>'{}'
               FROM templates WHERE workspace_id = $1 ORDER BY name, version DESC",
        )
        .bind(workspace.0)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter().map(template_of).collect()
    }

    /// One template, the newest version unless told otherwise.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn template(
        &self,
        workspace: WorkspaceId,
        name: &str,
        version: Option<i32>,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let row = sqlx::query(
            "SELECT name, version, body::text, created_by, to_json(created_at)#>>'{}' FROM templates
              WHERE workspace_id = $1 AND name = $2 AND ($3::int4 IS NULL OR version = $3)
              ORDER BY version DESC LIMIT 1",
        )
        .bind(workspace.0)
        .bind(name)
        .bind(version)
        .fetch_optional(&mut *self.reader(workspace).await?)
        .await?;
        row.as_ref().map(template_of).transpose()
    }
}
