//! Everything of one workspace at once: handed out, and erased. Which tables
//! belong to workspaces is asked of the catalogue, so none can be forgotten.
//!
//! Only the owner of the tables may do either: no process of Galley's has these
//! rights.

use futures::TryStreamExt as _;
use galley_core::ids::WorkspaceId;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::StoreError;
use crate::pool::Store;

/// What became of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// How many rows of each table are gone.
    Done(Vec<(String, u64)>),
    /// Nothing was erased: so many posts are on their way to a platform.
    OnTheirWay(i64),
    /// There was never such a workspace.
    NotThere,
}

/// Tables whose rows are of no use to whoever they belong to: keys, their
/// hashes, and what is sealed with them.
const SEALED: [&str; 4] = ["api_keys", "credentials", "data_keys", "provider_keys"];

/// The column that is never handed out: where credentials stood before they had
/// a table of their own.
const SECRET: &str = "credential";

async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attname = 'workspace_id'
          ORDER BY c.relname",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

impl Store {
    /// Hands out every row of a workspace as of one moment, one JSON object per
    /// row: `{"table": …, "row": …}`. Without credentials.
    ///
    /// # Errors
    /// Postgres is away, or this login is not the owner of the tables.
    pub async fn export_workspace<E>(
        &self,
        workspace: WorkspaceId,
        mut hand_out: impl FnMut(String) -> Result<(), E>,
    ) -> Result<Result<(), E>, StoreError> {
        let mut transaction =
            self.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        for table in tables(&mut transaction).await? {
            if SEALED.contains(&table.as_str()) {
                continue;
            }
            // A name from the catalogue, quoted by the server.
            let query = format!(
                "SELECT jsonb_build_object('table', '{table}', 'row', to_jsonb(t) - $2::text)::text
                   FROM \"{table}\" t WHERE workspace_id = $1"
            );
            let mut rows =
                sqlx::query(AssertSqlSafe(query)).bind(workspace.0).bind(SECRET).fetch(&mut *transaction);
            while let Some(row) = rows.try_next().await? {
                if let Err(error) = hand_out(row.try_get(0)?) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Erases a workspace with everything in it, in one transaction. What is
    /// left is its id, which nobody is let into any more, and one line of audit
    /// that says so. Erasing it again removes what came late.
    ///
    /// Whoever was let in before hears of it within moments: when those are
    /// over, [`erase_the_rest`](Self::erase_the_rest) removes what they stored.
    ///
    /// # Errors
    /// Postgres is away, or this login is not the owner of the tables.
    pub async fn erase_workspace(
        &self,
        workspace: WorkspaceId,
        actor: String,
    ) -> Result<Erasure, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let row = sqlx::query("SELECT erased_at IS NOT NULL FROM workspaces WHERE id = $1")
                .bind(workspace.0)
                .fetch_optional(&mut *transaction)
                .await?;
            let again: bool = match row {
                Some(row) => row.try_get(0)?,
                None => return Ok(Erasure::NotThere),
            };
            let kept: &[&str] = if again { &CHAIN } else { &[] };
            let erasure = erase_all(&mut transaction, workspace, kept).await?;
            if again || !matches!(erasure, Erasure::Done(_)) {
                transaction.commit().await?;
                return Ok(erasure);
            }
            // The name says whose it was, and is free again. No name of a
            // workspace has a colon.
            sqlx::query(
                "UPDATE workspaces SET name = 'erased:' || id, retain_days = NULL, erased_at = galley_now()
                  WHERE id = $1",
            )
            .bind(workspace.0)
            .execute(&mut *transaction)
            .await?;
            let line = AuditWrite {
                workspace,
                key: None,
                actor,
                action: "workspace.erase",
                object: workspace.to_string(),
                detail: None,
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(erasure)
        })
        .await
    }

    /// Removes what was stored for an erased workspace by whoever was let in
    /// before it was erased, except audit lines: for when nobody is any more.
    ///
    /// # Errors
    /// Postgres is away, this login is not the owner of the tables, or a submit
    /// takes very long ([`StoreError::TryAgain`]).
    pub async fn erase_the_rest(&self, workspace: WorkspaceId) -> Result<Erasure, StoreError> {
        self.unit(workspace, move |pool| async move {
            // A submit that looked before the tombstone was there may still be
            // under way. The lock waits for it and is let go at once: whoever
            // comes later sees the tombstone.
            let mut transaction = pool.begin().await?;
            sqlx::query("SET LOCAL lock_timeout = '10s'").execute(&mut *transaction).await?;
            sqlx::query("LOCK TABLE workflows IN SHARE MODE").execute(&mut *transaction).await?;
            transaction.commit().await?;
            let mut transaction = pool.begin().await?;
            let erased = sqlx::query("SELECT 1 FROM workspaces WHERE id = $1 AND erased_at IS NOT NULL");
            if erased.bind(workspace.0).fetch_optional(&mut *transaction).await?.is_none() {
                return Ok(Erasure::NotThere);
            }
            let erasure = erase_all(&mut transaction, workspace, &CHAIN).await?;
            transaction.commit().await?;
            Ok(erasure)
        })
        .await
    }
}

/// The audit's tables: a chain that was begun after the erasure stays.
const CHAIN: [&str; 3] = ["audit", "audit_heads", "audit_seals"];

/// Everything of a workspace but what is in some tables; nothing while a post
/// is on its way.
async fn erase_all(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    kept: &[&str],
) -> Result<Erasure, StoreError> {
    let open = "SELECT count(*) FROM publications WHERE workspace_id = $1 AND state IN ('intent', 'unknown')";
    // Live runs are locked first: whoever moves one is waited for, and finds
    // none afterwards. From here on no intent of this workspace can commit.
    sqlx::query("SELECT 1 FROM runs WHERE workspace_id = $1 FOR UPDATE")
        .bind(workspace.0)
        .execute(&mut *connection)
        .await?;
    match sqlx::query(open).bind(workspace.0).fetch_one(&mut *connection).await?.try_get(0)? {
        0 => {}
        open => return Ok(Erasure::OnTheirWay(open)),
    }
    let mut gone = Vec::new();
    for table in tables(&mut *connection).await? {
        if !kept.contains(&table.as_str()) {
            gone.push(erase(&mut *connection, &table, workspace).await?);
        }
    }
    gone.retain(|(_, rows)| *rows > 0);
    Ok(Erasure::Done(gone))
}

async fn erase(
    connection: &mut PgConnection,
    table: &str,
    workspace: WorkspaceId,
) -> Result<(String, u64), StoreError> {
    // A name from the catalogue, or ours.
    let query = format!("DELETE FROM \"{table}\" WHERE workspace_id = $1");
    let done = sqlx::query(AssertSqlSafe(query)).bind(workspace.0).execute(connection).await?;
    Ok((table.to_owned(), done.rows_affected()))
}
