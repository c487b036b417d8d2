//! A workspace's connections to platforms. Credentials come in sealed; they are
//! read elsewhere, and only by whoever publishes.

use galley_core::hash;
use galley_core::ids::{AccountId, WorkspaceId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::data_keys::{delete_credential, insert_credential};
use crate::error::StoreError;
use crate::pool::Store;

/// An account as stored, without its credential.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// Its name, unique among the workspace's accounts.
    pub name: String,
    /// The platform.
    pub platform: String,
    /// Whose content it publishes.
    pub content_platform: String,
    /// What the adapter needs to know, JSON text.
    pub settings: String,
    /// Its IANA zone; absent: the workspace's.
    pub time_zone: Option<String>,
    /// Times of day, `HH:MM`.
    pub slots: Vec<String>,
    /// Most posts per day of the workspace's zone.
    pub max_daily_posts: Option<i32>,
    /// Who added it.
    pub created_by: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// When it was removed, RFC 3339.
    pub removed_at: Option<String>,
}

/// An account to add.
#[derive(Clone, Debug)]
pub struct AccountWrite {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// The platform.
    pub platform: String,
    /// Whose content it publishes.
    pub content_platform: String,
    /// What the adapter needs to know, JSON text.
    pub settings: String,
    /// The credential: the version of the data key it is sealed with, and the
    /// sealed bytes.
    pub credential: (i32, Vec<u8>),
    /// Its IANA zone.
    pub time_zone: Option<String>,
    /// Times of day, `HH:MM`, sorted.
    pub slots: Vec<String>,
    /// Most posts per day.
    pub max_daily_posts: Option<i32>,
}

/// The columns of [`account_of`], of `accounts c`.
const COLUMNS: &str = "c.id, c.name, c.platform, c.content_platform, c.settings::text, c.time_zone,
    c.slots, c.max_daily_posts, c.created_by, to_json(c.created_at)#>>'{}', to_json(c.removed_at)#>>'{}'";

fn account_of(row: &PgRow) -> Result<AccountRow, StoreError> {
    Ok(AccountRow {
        id: AccountId(row.try_get(0)?),
        name: row.try_get(1)?,
        platform: row.try_get(2)?,
        content_platform: row.try_get(3)?,
        settings: row.try_get(4)?,
        time_zone: row.try_get(5)?,
        slots: row.try_get(6)?,
        max_daily_posts: row.try_get(7)?,
        created_by: row.try_get(8)?,
        created_at: row.try_get(9)?,
        removed_at: row.try_get(10)?,
    })
}

/// The hash of what an account says, for the audit; its credential is no part
/// of it.
fn content_of(name: &str, platform: &str, content_platform: &str, settings: &str) -> String {
    hex::encode(hash::of_parts(&[name, platform, content_platform, settings].map(str::as_bytes)))
}

impl Store {
    /// Adds an account.
    ///
    /// # Errors
    /// [`StoreError::Constraint`] `accounts_name_unique` when the name is taken.
    pub async fn add_account(
        &self,
        workspace: WorkspaceId,
        account: AccountWrite,
        actor: String,
    ) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            sqlx::query(
                "INSERT INTO accounts (workspace_id, id, name, platform, content_platform, settings,
                                       time_zone, slots, max_daily_posts, created_by)
                 VALUES ($1, $2, $3, $4, $5, $6::json, $7, $8, $9, $10)",
            )
            .bind(workspace.0)
            .bind(account.id.0)
            .bind(&account.name)
            .bind(&account.platform)
            .bind(&account.content_platform)
            .bind(&account.settings)
            .bind(&account.time_zone)
            .bind(&account.slots)
            .bind(account.max_daily_posts)
            .bind(&actor)
            .execute(&mut *transaction)
            .await?;
            let (platform, content) = (&account.platform, &account.content_platform);
            let after = Some(content_of(&account.name, platform, content, &account.settings));
            let (data_key, sealed) = &account.credential;
            insert_credential(&mut transaction, workspace.0, account.id.0, (*data_key, sealed)).await?;
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "account.add",
                object: account.name,
                detail: None,
                hashes: Hashes { before: None, after },
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Removes an account; answers whether there was one. Its posts stay.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn remove_account(
        &self,
        workspace: WorkspaceId,
        name: String,
        actor: String,
    ) -> Result<bool, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            // The credential goes at once: nothing can be published with it any more.
            let removed = sqlx::query(
                "UPDATE accounts SET removed_at = galley_now(), credential = ''
                  WHERE workspace_id = $1 AND name = $2 AND removed_at IS NULL
              RETURNING id, platform, content_platform, settings::text",
            )
            .bind(workspace.0)
            .bind(&name)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(removed) = removed else { return Ok(false) };
            delete_credential(&mut transaction, workspace.0, removed.try_get(0)?).await?;
            let (platform, content): (&str, &str) = (removed.try_get(1)?, removed.try_get(2)?);
            let before = Some(content_of(&name, platform, content, removed.try_get(3)?));
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "account.remove",
                object: name,
                detail: None,
                hashes: Hashes { before, after: None },
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The workspace's accounts that were not removed, by name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn accounts(&self, workspace: WorkspaceId) -> Result<Vec<AccountRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM accounts c WHERE c.workspace_id = $1 AND c.removed_at IS NULL ORDER BY c.name"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(account_of).collect()
    }

    /// One account by name, unless it was removed.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn account(
        &self,
        workspace: WorkspaceId,
        name: &str,
    ) -> Result<Option<AccountRow>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS} FROM accounts c WHERE c.workspace_id = $1 AND c.name = $2 AND c.removed_at IS NULL"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(name)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(account_of).transpose()
    }

    /// One account by id, removed or not.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn account_by_id(
        &self,
        workspace: WorkspaceId,
        id: AccountId,
    ) -> Result<Option<AccountRow>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM accounts c WHERE c.workspace_id = $1 AND c.id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(id.0)
            .fetch_optional(&mut *self.reader(workspace).await?)
            .await?;
        row.as_ref().map(account_of).transpose()
    }
}
