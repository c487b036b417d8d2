//! Who is let in: API keys as hashes, and the tokens that ended early.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use galley_core::ids::WorkspaceId;
use sqlx::Row;

use crate::audit::{AuditWrite, write_audit};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::Scope;

/// Most revoked tokens, and most revoked subjects, that a workspace keeps: an
/// API holds them in memory.
pub const MOST_REVOKED: i64 = 10_000;

/// What of a workspace's tokens ended early.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// Ids of tokens.
    pub tokens: HashSet<String>,
    /// Subjects, and the second (since 1970) until which what was issued to
    /// them is void.
    pub subjects: HashMap<String, i64>,
    /// All of them: the workspace was erased, or never was.
    pub all: bool,
}

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// One token, by its id.
    Token(String),
    /// Every token that a subject was issued until now.
    Subject(String),
}

/// A key as it is checked.
#[derive(Clone, Debug)]
pub struct KeyHash {
    /// The workspace it opens.
    pub workspace: WorkspaceId,
    /// SHA-256 of its secret.
    pub hash: Vec<u8>,
    /// What it allows.
    pub roles: Vec<String>,
    /// Whether it holds: neither revoked nor expired.
    pub valid: bool,
}

/// A key as it is listed.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// What it is known by.
    pub prefix: String,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub roles: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// When it ends to hold, RFC 3339.
    pub expires_at: String,
    /// When it was last used, RFC 3339, to the hour.
    pub used_at: Option<String>,
    /// When it was revoked, RFC 3339.
    pub revoked_at: Option<String>,
}

/// A new key.
#[derive(Clone, Debug)]
pub struct KeyWrite {
    /// What it is known by.
    pub prefix: String,
    /// What people call it.
    pub name: String,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// What it allows.
    pub roles: Vec<String>,
    /// How long it holds.
    pub ttl: Duration,
    /// Tells of it; says whose it is and who made it.
    pub audit: AuditWrite,
}

/// The columns of a [`KeyRow`].
const KEY: &str = "prefix, name, roles, created_by, to_json(created_at)#>>'{}', to_json(expires_at)#>>'{}',
                   to_json(used_at)#>>'{}', to_json(revoked_at)#>>'{}'";

fn key_of(row: &sqlx::postgres::PgRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        prefix: row.try_get(0)?,
        name: row.try_get(1)?,
        roles: row.try_get(2)?,
        created_by: row.try_get(3)?,
        created_at: row.try_get(4)?,
        expires_at: row.try_get(5)?,
        used_at: row.try_get(6)?,
        revoked_at: row.try_get(7)?,
    })
}

/// Seconds as Postgres counts them.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

impl Store {
    /// What of a workspace's tokens ended early.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn revocations(&self, workspace: WorkspaceId) -> Result<Revocations, StoreError> {
        let rows = sqlx::query(
            "SELECT id, NULL::int8 FROM revoked_tokens WHERE workspace_id = $1 AND forget_at > galley_now()
             UNION ALL
             SELECT subject, extract(epoch FROM until)::int8
               FROM revoked_subjects WHERE workspace_id = $1 AND forget_at > galley_now()
             UNION ALL
             SELECT NULL, NULL
              WHERE NOT EXISTS (SELECT 1 FROM workspaces WHERE id = $1 AND erased_at IS NULL)",
        )
        .bind(workspace.0)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        let mut revocations = Revocations::default();
        for row in rows {
            let (name, until): (Option<String>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            match (name, until) {
                (None, _) => revocations.all = true,
                (Some(id), None) => drop(revocations.tokens.insert(id)),
                (Some(subject), Some(until)) => drop(revocations.subjects.insert(subject, until)),
            }
        }
        Ok(revocations)
    }

    /// Revokes, for as long as a token may hold; false when the workspace has
    /// [`MOST_REVOKED`] already. What cannot hold any more is forgotten.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn revoke(
        &self,
        what: Revoke,
        longest: Duration,
        audit: AuditWrite,
    ) -> Result<bool, StoreError> {
        let workspace = audit.workspace;
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            for table in [
                "DELETE FROM revoked_tokens WHERE workspace_id = $1 AND forget_at <= galley_now()",
                "DELETE FROM revoked_subjects WHERE workspace_id = $1 AND forget_at <= galley_now()",
            ] {
                sqlx::query(table).bind(workspace.0).execute(&mut *transaction).await?;
            }
            let insert = match &what {
                Revoke::Token(id) => sqlx::query(
                    "INSERT INTO revoked_tokens (workspace_id, id, forget_at)
                     SELECT $1, $2, galley_now() + make_interval(secs => $3)
                      WHERE (SELECT count(*) FROM revoked_tokens WHERE workspace_id = $1) < $4
                     ON CONFLICT (workspace_id, id) DO UPDATE SET forget_at = excluded.forget_at",
                )
                .bind(workspace.0)
                .bind(id),
                // Until the end of this second: a token says no more than the
                // second it was issued in.
                Revoke::Subject(subject) => sqlx::query(
                    "INSERT INTO revoked_subjects (workspace_id, subject, until, forget_at)
                     SELECT $1, $2, date_trunc('second', galley_now()), galley_now() + make_interval(secs => $3)
                      WHERE (SELECT count(*) FROM revoked_subjects WHERE workspace_id = $1) < $4
                     ON CONFLICT (workspace_id, subject)
                     DO UPDATE SET until = excluded.until, forget_at = excluded.forget_at",
                )
                .bind(workspace.0)
                .bind(subject),
            };
            let done = insert.bind(seconds(longest)).bind(MOST_REVOKED).execute(&mut *transaction).await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            write_audit(&mut transaction, &audit).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The keys of a prefix, whosever they are: mostly one or none.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn keys_of_prefix(&self, prefix: &str) -> Result<Vec<KeyHash>, StoreError> {
        let rows = sqlx::query("SELECT workspace_id, hash, roles, valid FROM galley_api_key($1)")
            .bind(prefix)
            .fetch_all(&mut *self.reader(Scope::Fleet).await?)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(KeyHash {
                    workspace: WorkspaceId(row.try_get(0)?),
                    hash: row.try_get(1)?,
                    roles: row.try_get(2)?,
                    valid: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// Writes down that a key is in use, once an hour at most.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn key_used(&self, workspace: WorkspaceId, prefix: &str) -> Result<(), StoreError> {
        let prefix = prefix.to_owned();
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            sqlx::query(
                "UPDATE api_keys SET used_at = date_trunc('hour', galley_now())
                  WHERE workspace_id = $1 AND prefix = $2
                    AND used_at IS DISTINCT FROM date_trunc('hour', galley_now())",
            )
            .bind(workspace.0)
            .bind(&prefix)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Makes a key.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn create_key(&self, new: KeyWrite) -> Result<KeyRow, StoreError> {
        let workspace = new.audit.workspace;
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let row = sqlx::query(sqlx::AssertSqlSafe(format!(
                "INSERT INTO api_keys (workspace_id, prefix, name, hash, roles, created_by, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, galley_now() + make_interval(secs => $7)) RETURNING {KEY}"
            )))
            .bind(workspace.0)
            .bind(&new.prefix)
            .bind(&new.name)
            .bind(&new.hash[..])
            .bind(&new.roles)
            .bind(&new.audit.actor)
            .bind(seconds(new.ttl))
            .fetch_one(&mut *transaction)
            .await?;
            write_audit(&mut transaction, &new.audit).await?;
            transaction.commit().await?;
            key_of(&row)
        })
        .await
    }

    /// A workspace's keys, newest first; at most 1,000.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_keys(&self, workspace: WorkspaceId) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {KEY} FROM api_keys WHERE workspace_id = $1 ORDER BY created_at DESC, prefix LIMIT 1000"
        )))
        .bind(workspace.0)
        .fetch_all(&mut *self.reader(workspace).await?)
        .await?;
        rows.iter().map(key_of).collect()
    }

    /// Revokes a key; none when the workspace has none of this prefix. Once
    /// more changes nothing.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn revoke_key(&self, prefix: &str, audit: AuditWrite) -> Result<Option<KeyRow>, StoreError> {
        let (workspace, prefix) = (audit.workspace, prefix.to_owned());
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let revoked = sqlx::query(
                "UPDATE api_keys SET revoked_at = galley_now()
                  WHERE workspace_id = $1 AND prefix = $2 AND revoked_at IS NULL",
            )
            .bind(workspace.0)
            .bind(&prefix)
            .execute(&mut *transaction)
            .await?;
            if revoked.rows_affected() > 0 {
                write_audit(&mut transaction, &audit).await?;
            }
            let row = sqlx::query(sqlx::AssertSqlSafe(format!(
                "SELECT {KEY} FROM api_keys WHERE workspace_id = $1 AND prefix = $2"
            )))
            .bind(workspace.0)
            .bind(&prefix)
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            row.as_ref().map(key_of).transpose()
        })
        .await
    }
}
