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
}

/// Tables whose rows are of no use to whoever they belong to: keys, their
/// hashes, and what is sealed with them.
const SEALED: [&str; 3] = ["api_keys", "credentials", "data_keys"];

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
    /// left is one line of audit that says so.
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
            // Live runs first: whoever moves one is waited for, and finds none
            // afterwards. From here on no intent of this workspace can commit.
            let mut gone = vec![erase(&mut transaction, "runs", workspace).await?];
            let open = sqlx::query(
                "SELECT count(*) FROM publications WHERE workspace_id = $1 AND state IN ('intent', 'unknown')",
            )
            .bind(workspace.0)
            .fetch_one(&mut *transaction)
            .await?;
            match open.try_get(0)? {
                0 => {}
                open => return Ok(Erasure::OnTheirWay(open)),
            }
            for table in tables(&mut transaction).await? {
                if table != "runs" {
                    gone.push(erase(&mut transaction, &table, workspace).await?);
                }
            }
            sqlx::query("DELETE FROM workspaces WHERE id = $1")
                .bind(workspace.0)
                .execute(&mut *transaction)
                .await?;
            gone.retain(|(_, rows)| *rows > 0);
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
            Ok(Erasure::Done(gone))
        })
        .await
    }
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
