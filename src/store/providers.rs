//! Providers of a workspace's own: addresses, prices, and their sealed keys,
//! which only the roles that run agents can read.

use galley_core::ids::WorkspaceId;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::data_keys::DataKeyRow;
use crate::error::StoreError;
use crate::pool::{Store, execute};

/// A provider as stored, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRow {
    /// What it speaks, and what agents call it.
    pub name: String,
    /// Its address; `None`: the public one.
    pub base_url: Option<String>,
    /// The model that answers when an agent names none.
    pub model: String,
    /// Calls at once from one worker process; `None`: any number.
    pub max_concurrency: Option<i32>,
    /// Prices by model, JSON text.
    pub prices: String,
    /// Rises with every change.
    pub version: i64,
    /// Whether it has a key.
    pub has_key: bool,
    /// Who set it.
    pub set_by: String,
    /// When, RFC 3339.
    pub set_at: String,
}

/// A provider to store, in place of one of the same name.
#[derive(Clone, Debug)]
pub struct ProviderWrite {
    /// See [`ProviderRow::name`].
    pub name: String,
    /// See [`ProviderRow::base_url`].
    pub base_url: Option<String>,
    /// See [`ProviderRow::model`].
    pub model: String,
    /// See [`ProviderRow::max_concurrency`].
    pub max_concurrency: Option<i32>,
    /// See [`ProviderRow::prices`].
    pub prices: String,
    /// The data key's version and the sealed key.
    pub key: Option<(i32, Vec<u8>)>,
    /// Who sets it.
    pub actor: String,
    /// What of it may be told, JSON text.
    pub told: String,
    /// What was there before, and what is now.
    pub hashes: Hashes,
}

/// A provider with its key, for whoever runs agents.
#[derive(Clone, Debug)]
pub struct KeyedProvider {
    /// The provider.
    pub row: ProviderRow,
    /// Its key, sealed, and what opens it.
    pub key: Option<(Vec<u8>, DataKeyRow)>,
}

const COLUMNS: &str = "p.name, p.base_url, p.model, p.max_concurrency, p.prices::text, p.version,
    EXISTS (SELECT 1 FROM provider_keys k WHERE k.workspace_id = p.workspace_id AND k.name = p.name),
    p.set_by, to_json(p.set_at)#>>'{}'";

fn provider_of(row: &sqlx::postgres::PgRow) -> Result<ProviderRow, StoreError> {
    Ok(ProviderRow {
        name: row.try_get(0)?,
        base_url: row.try_get(1)?,
        model: row.try_get(2)?,
        max_concurrency: row.try_get(3)?,
        prices: row.try_get(4)?,
        version: row.try_get(5)?,
        has_key: row.try_get(6)?,
        set_by: row.try_get(7)?,
        set_at: row.try_get(8)?,
    })
}

async fn forget(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    name: &str,
) -> Result<bool, StoreError> {
    let key = sqlx::query("DELETE FROM provider_keys WHERE workspace_id = $1 AND name = $2");
    execute(connection, key.bind(workspace.0).bind(name)).await?;
    let row = sqlx::query("DELETE FROM providers WHERE workspace_id = $1 AND name = $2");
    Ok(execute(connection, row.bind(workspace.0).bind(name)).await? == 1)
}

impl Store {
    /// A workspace's own providers, by name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn providers(&self, workspace: WorkspaceId) -> Result<Vec<ProviderRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM providers p WHERE p.workspace_id = $1 ORDER BY p.name");
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(provider_of).collect()
    }

    /// The same, with their sealed keys.
    ///
    /// # Errors
    /// Postgres is away, or this process' role may not read keys.
    pub async fn keyed_providers(&self, workspace: WorkspaceId) -> Result<Vec<KeyedProvider>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS}, k.sealed, d.version, d.kek_version, d.wrapped
               FROM providers p
               LEFT JOIN provider_keys k ON k.workspace_id = p.workspace_id AND k.name = p.name
               LEFT JOIN data_keys d ON d.workspace_id = k.workspace_id AND d.version = k.data_key
              WHERE p.workspace_id = $1 ORDER BY p.name"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(workspace.0)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter()
            .map(|row| {
                let sealed: Option<Vec<u8>> = row.try_get(9)?;
                let version: Option<i32> = row.try_get(10)?;
                let key = match (sealed, version) {
                    (Some(sealed), Some(version)) => {
                        let (kek_version, wrapped) = (row.try_get(11)?, row.try_get(12)?);
                        Some((sealed, DataKeyRow { workspace, version, kek_version, wrapped }))
                    }
                    _ => None,
                };
                Ok(KeyedProvider { row: provider_of(row)?, key })
            })
            .collect()
    }

    /// Sets a provider in place of one of the same name; its key goes with it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn set_provider(&self, workspace: WorkspaceId, write: ProviderWrite) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            forget(&mut transaction, workspace, &write.name).await?;
            let insert = sqlx::query(
                "INSERT INTO providers (workspace_id, name, base_url, model, max_concurrency, prices, version, set_by)
                 VALUES ($1, $2, $3, $4, $5, $6::json, nextval('provider_versions'), $7)",
            )
            .bind(workspace.0)
            .bind(&write.name)
            .bind(&write.base_url)
            .bind(&write.model)
            .bind(write.max_concurrency)
            .bind(&write.prices)
            .bind(&write.actor);
            execute(&mut transaction, insert).await?;
            if let Some((data_key, sealed)) = &write.key {
                let insert = sqlx::query(
                    "INSERT INTO provider_keys (workspace_id, name, data_key, sealed) VALUES ($1, $2, $3, $4)",
                );
                let insert = insert.bind(workspace.0).bind(&write.name).bind(data_key).bind(sealed);
                execute(&mut transaction, insert).await?;
            }
            let line = AuditWrite {
                workspace,
                key: None,
                actor: write.actor,
                action: "provider.set",
                object: write.name,
                detail: Some(write.told),
                hashes: write.hashes,
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Removes a provider and its key; `false`: there is none.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn remove_provider(
        &self,
        workspace: WorkspaceId,
        name: String,
        actor: String,
        hashes: Hashes,
    ) -> Result<bool, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            if !forget(&mut transaction, workspace, &name).await? {
                return Ok(false);
            }
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "provider.remove",
                object: name,
                detail: None,
                hashes,
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }
}
