//! Choosing a post's slot: one at a time per workspace, so that two posts do
//! not choose the last place of the same day.

use galley_core::ids::{AccountId, PostId, WorkspaceId};
use sqlx::{PgConnection, Row};

use crate::error::{Overtaken, StoreError};
use crate::pool::Store;

/// What is booked in a workspace.
#[derive(Clone, Debug, Default)]
pub struct BookedRows {
    /// The database's time, RFC 3339.
    pub now: String,
    /// Posts that have a slot and wait for it: account and RFC 3339 instant.
    pub slots: Vec<(AccountId, String)>,
    /// Instants of the last two days' publications, by account.
    pub sent: Vec<(AccountId, String)>,
    /// Places taken per day: account (`None`: the workspace), `YYYY-MM-DD`,
    /// how many.
    pub used: Vec<(Option<AccountId>, String, i32)>,
}

impl Store {
    /// What is booked, without what these posts have.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn booked(&self, workspace: WorkspaceId, but: &[PostId]) -> Result<BookedRows, StoreError> {
        let mut connection = self.reader(workspace).await?;
        booked(&mut connection, workspace, but).await
    }

    /// Gives a post a slot: `choose` sees what is booked and answers with an
    /// RFC 3339 instant, or `None` to leave the post without one.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when the post was changed meanwhile.
    pub async fn choose_slot(
        &self,
        workspace: WorkspaceId,
        post: PostId,
        version: i32,
        reason: Option<String>,
        choose: impl FnOnce(&BookedRows) -> Option<String> + Send + 'static,
    ) -> Result<Option<String>, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut transaction = pool.begin().await?;
            // No row stands for "all slots of a workspace", so a lock does.
            sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('slots:' || $1::text, 0))")
                .bind(workspace.0.to_string())
                .execute(&mut *transaction)
                .await?;
            let booked = booked(&mut transaction, workspace, &[post]).await?;
            let Some(at) = choose(&booked) else { return Ok(None) };
            let update = sqlx::query(
                "UPDATE posts SET slot_at = $4::timestamptz, slot_by = NULL, version = version + 1,
                        reason = coalesce($5, reason), updated_at = galley_now()
                  WHERE workspace_id = $1 AND id = $2 AND version = $3",
            )
            .bind(workspace.0)
            .bind(post.0)
            .bind(version)
            .bind(&at)
            .bind(reason)
            .execute(&mut *transaction)
            .await?;
            if update.rows_affected() == 0 {
                return Err(StoreError::Overtaken(Overtaken::Post));
            }
            transaction.commit().await?;
            Ok(Some(at))
        })
        .await
    }
}

async fn booked(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    but: &[PostId],
) -> Result<BookedRows, StoreError> {
    let now = sqlx::query("SELECT to_json(galley_now())#>>'{}'").fetch_one(&mut *connection).await?;
    let mut booked = BookedRows { now: now.try_get(0)?, ..BookedRows::default() };
    let slots = sqlx::query(
        "SELECT account_id, to_json(slot_at)#>>'{}' FROM posts
          WHERE workspace_id = $1 AND slot_at IS NOT NULL AND NOT id = ANY($2)
            AND state IN ('draft', 'scheduled', 'waiting_approval')",
    )
    .bind(workspace.0)
    .bind(but.iter().map(|post| post.0).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    for row in &slots {
        booked.slots.push((AccountId(row.try_get(0)?), row.try_get(1)?));
    }
    let sent = sqlx::query(
        "SELECT account_id, to_json(first_sent_at)#>>'{}' FROM publications
          WHERE workspace_id = $1 AND quota_held AND first_sent_at > galley_now() - interval '2 days'",
    )
    .bind(workspace.0)
    .fetch_all(&mut *connection)
    .await?;
    for row in &sent {
        booked.sent.push((AccountId(row.try_get(0)?), row.try_get(1)?));
    }
    let used = sqlx::query(
        "SELECT nullif(account_id, '00000000-0000-0000-0000-000000000000'), day::text, used FROM day_quota
          WHERE workspace_id = $1 AND day >= (galley_now() - interval '2 days')::date AND used > 0",
    )
    .bind(workspace.0)
    .fetch_all(&mut *connection)
    .await?;
    for row in &used {
        let account: Option<uuid::Uuid> = row.try_get(0)?;
        booked.used.push((account.map(AccountId), row.try_get(1)?, row.try_get(2)?));
    }
    Ok(booked)
}
