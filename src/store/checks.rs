//! Questions whether an account works: the API asks, a worker that publishes
//! answers. A question that nobody took in time is withdrawn.

use galley_core::ids::{AccountId, WorkspaceId};
use sqlx::Row;
use uuid::Uuid;

use crate::audit::{AuditWrite, Hashes, write_audit};
use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::scope::Scope;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRow {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its id.
    pub id: Uuid,
    /// Which account.
    pub account: AccountId,
}

impl Store {
    /// Asks whether an account works. Forgets old answers of the workspace.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn ask_check(&self, check: CheckRow, name: String, actor: String) -> Result<(), StoreError> {
        self.unit(check.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let prune = sqlx::query(
                "DELETE FROM account_checks
                  WHERE workspace_id = $1 AND asked_at < galley_now() - interval '1 hour'",
            );
            execute(&mut transaction, prune.bind(check.workspace.0)).await?;
            let insert = sqlx::query(
                "INSERT INTO account_checks (workspace_id, id, account_id, asked_by) VALUES ($1, $2, $3, $4)",
            );
            let insert = insert.bind(check.workspace.0).bind(check.id).bind(check.account.0).bind(&actor);
            execute(&mut transaction, insert).await?;
            let line = AuditWrite {
                workspace: check.workspace,
                key: None,
                actor,
                action: "account.test",
                object: name,
                detail: None,
                hashes: Hashes::default(),
            };
            write_audit(&mut transaction, &line).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// The answer, if there is one: whether it works, and what was told.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn check_answer(
        &self,
        workspace: WorkspaceId,
        id: Uuid,
    ) -> Result<Option<(bool, String)>, StoreError> {
        let row = sqlx::query(
            "SELECT ok, told FROM account_checks
              WHERE workspace_id = $1 AND id = $2 AND answered_at IS NOT NULL",
        )
        .bind(workspace.0)
        .bind(id)
        .fetch_optional(&mut *self.reader(workspace).await?)
        .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    /// Takes a question back, unless it was answered.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn withdraw_check(&self, workspace: WorkspaceId, id: Uuid) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut connection = pool.link().await?;
            let delete = sqlx::query(
                "DELETE FROM account_checks WHERE workspace_id = $1 AND id = $2 AND answered_at IS NULL",
            );
            execute(&mut connection, delete.bind(workspace.0).bind(id)).await?;
            connection.done().await
        })
        .await
    }

    /// Takes open questions of all workspaces, at most `limit`, oldest first;
    /// nobody else gets them.
    ///
    /// # Errors
    /// Postgres is away, or this process' role does not publish.
    pub async fn take_checks(&self, limit: i64) -> Result<Vec<CheckRow>, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let rows = sqlx::query(
                "UPDATE account_checks c SET taken_at = galley_now()
                   FROM (SELECT workspace_id, id FROM account_checks WHERE taken_at IS NULL
                          ORDER BY asked_at LIMIT $1 FOR UPDATE SKIP LOCKED) o
                  WHERE c.workspace_id = o.workspace_id AND c.id = o.id
              RETURNING c.workspace_id, c.id, c.account_id",
            )
            .bind(limit)
            .fetch_all(&mut *connection)
            .await?;
            connection.done().await?;
            rows.iter()
                .map(|row| {
                    Ok(CheckRow {
                        workspace: WorkspaceId(row.try_get(0)?),
                        id: row.try_get(1)?,
                        account: AccountId(row.try_get(2)?),
                    })
                })
                .collect()
        })
        .await
    }

    /// Answers a question; `used`: the audit line of the credential's use.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn answer_check(
        &self,
        check: CheckRow,
        ok: bool,
        told: String,
        used: Option<AuditWrite>,
    ) -> Result<(), StoreError> {
        self.unit(check.workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let update = sqlx::query(
                "UPDATE account_checks SET answered_at = galley_now(), ok = $3, told = $4
                  WHERE workspace_id = $1 AND id = $2",
            );
            execute(&mut transaction, update.bind(check.workspace.0).bind(check.id).bind(ok).bind(&told))
                .await?;
            // The credential was used even if nobody waits for the answer.
            if let Some(line) = &used {
                write_audit(&mut transaction, line).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}
