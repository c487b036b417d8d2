//! The policies of workspaces.

use galley_core::ids::WorkspaceId;
use sqlx::Row;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::{Overtaken, StoreError};
use crate::pool::{Store, execute};
use crate::publishing::DayRule;

/// A policy as stored.
#[derive(Clone, Debug)]
pub struct AutomationRow {
    /// Rises with every change; 0: nobody set one.
    pub version: i64,
    /// The config as JSON text; `None`: the default.
    pub config: Option<String>,
    /// The zone before the last change of it, and until when (RFC 3339).
    pub previous: Option<(String, String)>,
    /// Who set it.
    pub updated_by: Option<String>,
    /// When, RFC 3339.
    pub updated_at: Option<String>,
    /// The database's time, RFC 3339.
    pub now: String,
    /// Whether what is new in the workspace is sealed at rest.
    pub sealed: bool,
}

impl AutomationRow {
    /// What a day is under this policy.
    pub fn day_rule(&self, zone: &str) -> DayRule {
        DayRule { zone: zone.to_owned(), previous: self.previous.clone() }
    }
}

impl Store {
    /// A workspace's policy.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn automation(&self, workspace: WorkspaceId) -> Result<AutomationRow, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(a.version, 0), a.config::text, a.previous_time_zone,
                    to_json(a.time_zone_since)#>>'{}', a.updated_by, to_json(a.updated_at)#>>'{}',
                    to_json(galley_now())#>>'{}', w.sealed_since IS NOT NULL
               FROM (SELECT 1) one LEFT JOIN automation a ON a.workspace_id = $1
               LEFT JOIN workspaces w ON w.id = $1",
        )
        .bind(workspace.0)
        .fetch_one(&mut *self.reader(workspace).await?)
        .await?;
        let previous: Option<String> = row.try_get(2)?;
        let since: Option<String> = row.try_get(3)?;
        Ok(AutomationRow {
            version: row.try_get(0)?,
            config: row.try_get(1)?,
            previous: previous.zip(since),
            updated_by: row.try_get(4)?,
            updated_at: row.try_get(5)?,
            now: row.try_get(6)?,
            sealed: row.try_get(7)?,
        })
    }

    /// Replaces a workspace's policy, if it is still at the version that was
    /// seen.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when somebody else changed it meanwhile.
    pub async fn put_automation(
        &self,
        workspace: WorkspaceId,
        seen: i64,
        config: String,
        previous: Option<(String, String)>,
        actor: String,
        hashes: Hashes,
    ) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            if seen == 0 {
                // The first policy has no row that an intent could have
                // locked: they meet on the workspace's.
                let lock = sqlx::query("SELECT 1 FROM workspaces WHERE id = $1 FOR NO KEY UPDATE");
                execute(&mut transaction, lock.bind(workspace.0)).await?;
            }
            let (zone, since) = previous.unzip();
            let row = sqlx::query(
                "INSERT INTO automation AS a
                        (workspace_id, version, config, previous_time_zone, time_zone_since, updated_by)
                 VALUES ($1, $2 + 1, $3::json, $4, $5::timestamptz, $6)
                 ON CONFLICT (workspace_id) DO UPDATE
                    SET version = a.version + 1, config = excluded.config,
                        previous_time_zone = excluded.previous_time_zone,
                        time_zone_since = excluded.time_zone_since,
                        updated_by = excluded.updated_by, updated_at = galley_now()
                  WHERE a.version = $2
              RETURNING 1",
            )
            .bind(workspace.0)
            .bind(seen)
            .bind(&config)
            .bind(zone)
            .bind(since)
            .bind(&actor)
            .fetch_optional(&mut *transaction)
            .await?;
            if row.is_none() {
                return Err(StoreError::Overtaken(Overtaken::Config));
            }
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "automation.set",
                object: "automation".into(),
                detail: Some(config),
                hashes,
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}
