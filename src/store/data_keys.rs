//! Data keys, wrapped, and the credentials sealed with them. Credentials are a
//! table of their own: only the role that publishes may read it.

use galley_core::ids::{AccountId, WorkspaceId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::audit::{AuditWrite, write_audit};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::scope::Scope;

/// A workspace's data key as stored: wrapped by a key of the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeyRow {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its version.
    pub version: i32,
    /// The version of the key that wraps it.
    pub kek_version: i32,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// An account's credential, and what opens it.
#[derive(Clone, Debug)]
pub struct CredentialRow {
    /// Sealed.
    pub sealed: Vec<u8>,
    /// The data key that sealed it; `None` for the first format.
    pub data_key: Option<DataKeyRow>,
}

/// A credential that a rotation looks at.
#[derive(Clone, Debug)]
pub struct SealedRow {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Sealed.
    pub sealed: Vec<u8>,
}

fn data_key_of(row: &PgRow) -> Result<DataKeyRow, StoreError> {
    Ok(DataKeyRow {
        workspace: WorkspaceId(row.try_get(0)?),
        version: row.try_get(1)?,
        kek_version: row.try_get(2)?,
        wrapped: row.try_get(3)?,
    })
}

async fn newest(connection: &mut PgConnection, workspace: Uuid) -> Result<Option<DataKeyRow>, StoreError> {
    let row = sqlx::query(
        "SELECT workspace_id, version, kek_version, wrapped FROM data_keys
          WHERE workspace_id = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind(workspace)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(data_key_of).transpose()
}

/// Writes an account's first credential, in the transaction that adds it.
pub(crate) async fn insert_credential(
    connection: &mut PgConnection,
    workspace: Uuid,
    account: Uuid,
    (data_key, sealed): (i32, &[u8]),
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO credentials (workspace_id, account_id, data_key, sealed) VALUES ($1, $2, $3, $4)",
    );
    execute(connection, insert.bind(workspace).bind(account).bind(data_key).bind(sealed)).await?;
    Ok(())
}

/// Takes an account's credential away.
pub(crate) async fn delete_credential(
    connection: &mut PgConnection,
    workspace: Uuid,
    account: Uuid,
) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM credentials WHERE workspace_id = $1 AND account_id = $2");
    execute(connection, delete.bind(workspace).bind(account)).await?;
    Ok(())
}

impl Store {
    /// The workspace's newest data key.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn data_key(&self, workspace: WorkspaceId) -> Result<Option<DataKeyRow>, StoreError> {
        newest(&mut *self.reader(workspace).await?, workspace.0).await
    }

    /// A workspace's data keys, the newest last.
    ///
    /// # Errors
    /// Postgres is away, or this process' role may not read data keys.
    pub async fn data_keys_of(&self, workspace: WorkspaceId) -> Result<Vec<DataKeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT workspace_id, version, kek_version, wrapped FROM data_keys
              WHERE workspace_id = $1 ORDER BY version",
        )
        .bind(workspace.0)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter().map(data_key_of).collect()
    }

    /// Makes this the workspace's first data key, unless it has one; answers
    /// with the one it has.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn first_data_key(&self, key: DataKeyRow) -> Result<DataKeyRow, StoreError> {
        self.unit(key.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            // A second process waits here for the first, and finds its key.
            let insert = sqlx::query(
                "INSERT INTO data_keys (workspace_id, version, kek_version, wrapped) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (workspace_id, version) DO NOTHING",
            );
            let insert = insert.bind(key.workspace.0).bind(key.version).bind(key.kek_version);
            execute(&mut transaction, insert.bind(&key.wrapped)).await?;
            let there = newest(&mut transaction, key.workspace.0).await?;
            transaction.commit().await?;
            Ok(there.unwrap_or(key))
        })
        .await
    }

    /// An account's sealed credential; `None` when it has none any more. For
    /// whoever publishes, once the step is claimed.
    ///
    /// # Errors
    /// Postgres is away, or this process' role may not read credentials.
    pub async fn credential(
        &self,
        workspace: WorkspaceId,
        account: AccountId,
    ) -> Result<Option<CredentialRow>, StoreError> {
        // An API that is a release older writes them where they were before.
        let row = sqlx::query(
            "SELECT d.workspace_id, d.version, d.kek_version, d.wrapped, coalesce(k.sealed, c.credential)
               FROM accounts c
               LEFT JOIN credentials k ON k.workspace_id = c.workspace_id AND k.account_id = c.id
               LEFT JOIN data_keys d ON d.workspace_id = k.workspace_id AND d.version = k.data_key
              WHERE c.workspace_id = $1 AND c.id = $2",
        )
        .bind(workspace.0)
        .bind(account.0)
        .fetch_optional(&mut *self.reader(workspace).await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = row.try_get(4)?;
        if sealed.is_empty() {
            return Ok(None);
        }
        let enveloped = row.try_get::<Option<Uuid>, _>(0)?.is_some();
        let data_key = if enveloped { Some(data_key_of(&row)?) } else { None };
        Ok(Some(CredentialRow { sealed, data_key }))
    }

    /// One page of all data keys in key order, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn page_data_keys(
        &self,
        after: Option<(WorkspaceId, i32)>,
        limit: i64,
    ) -> Result<Vec<DataKeyRow>, StoreError> {
        let (workspace, version) = after.unwrap_or((WorkspaceId(Uuid::nil()), 0));
        let rows = sqlx::query(
            "SELECT workspace_id, version, kek_version, wrapped FROM data_keys
              WHERE (workspace_id, version) > ($1, $2) ORDER BY workspace_id, version LIMIT $3",
        )
        .bind(workspace.0)
        .bind(version)
        .bind(limit)
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter().map(data_key_of).collect()
    }

    /// Replaces a wrapped data key with the same key under another key; answers
    /// whether it was still the old one.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn rewrap_data_key(
        &self,
        old: DataKeyRow,
        new: DataKeyRow,
        line: AuditWrite,
    ) -> Result<bool, StoreError> {
        self.unit(old.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let update = sqlx::query(
                "UPDATE data_keys SET kek_version = $5, wrapped = $6, wrapped_at = galley_now()
                  WHERE workspace_id = $1 AND version = $2 AND kek_version = $3 AND wrapped = $4",
            );
            let update = update.bind(old.workspace.0).bind(old.version).bind(old.kek_version);
            let update = update.bind(&old.wrapped).bind(new.kek_version).bind(&new.wrapped);
            if execute(&mut transaction, update).await? == 0 {
                return Ok(false);
            }
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// How many data keys each of the deployment's keys wraps, by its version.
    ///
    /// # Errors
    /// Postgres is away, or this process' role may not read data keys.
    pub async fn kek_versions(&self) -> Result<Vec<(i32, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT kek_version, count(*) FROM data_keys GROUP BY kek_version ORDER BY kek_version",
        )
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// One page of the credentials that are in no envelope, or still stand
    /// where they stood before there were any, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn page_first_format(
        &self,
        after: Option<(WorkspaceId, AccountId)>,
        limit: i64,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let (workspace, account) = after.unwrap_or((WorkspaceId(Uuid::nil()), AccountId(Uuid::nil())));
        let rows = sqlx::query(
            "SELECT c.workspace_id, c.id, c.name, coalesce(k.sealed, c.credential)
               FROM accounts c LEFT JOIN credentials k ON k.workspace_id = c.workspace_id AND k.account_id = c.id
              WHERE (c.workspace_id, c.id) > ($1, $2) AND c.removed_at IS NULL
                AND (octet_length(c.credential) > 0 OR k.account_id IS NOT NULL AND k.data_key IS NULL)
              ORDER BY c.workspace_id, c.id LIMIT $3",
        )
        .bind(workspace.0)
        .bind(account.0)
        .bind(limit)
        .fetch_all(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(SealedRow {
                    workspace: WorkspaceId(row.try_get(0)?),
                    account: AccountId(row.try_get(1)?),
                    name: row.try_get(2)?,
                    sealed: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// Puts a resealed credential where credentials are, and clears the place
    /// where it was before; answers whether it was resealed. Nothing happens
    /// when the account was removed meanwhile.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn reseal(
        &self,
        old: SealedRow,
        resealed: Option<(i32, Vec<u8>)>,
        line: Option<AuditWrite>,
    ) -> Result<bool, StoreError> {
        self.unit(old.workspace, move |pool| async move {
            let (workspace, account) = (old.workspace.0, old.account.0);
            let mut transaction = pool.begin().await?;
            // Removing the account waits, or was first.
            let clear = sqlx::query(
                "UPDATE accounts SET credential = ''
                  WHERE workspace_id = $1 AND id = $2 AND removed_at IS NULL",
            );
            if execute(&mut transaction, clear.bind(workspace).bind(account)).await? == 0 {
                return Ok(false);
            }
            let mut written = 0;
            if let Some((data_key, sealed)) = &resealed {
                let upsert = sqlx::query(
                    "INSERT INTO credentials AS k (workspace_id, account_id, data_key, sealed)
                     VALUES ($1, $2, $3, $4)
                     ON CONFLICT (workspace_id, account_id) DO UPDATE
                        SET data_key = excluded.data_key, sealed = excluded.sealed, sealed_at = galley_now()
                      WHERE k.sealed = $5",
                );
                let upsert =
                    upsert.bind(workspace).bind(account).bind(data_key).bind(sealed).bind(&old.sealed);
                written = execute(&mut transaction, upsert).await?;
            }
            if let (Some(line), 1) = (line, written) {
                write_audit(&mut transaction, &line).await?;
            }
            transaction.commit().await?;
            Ok(written == 1)
        })
        .await
    }
}
