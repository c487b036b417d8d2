//! Kept answers: who may ask, and what came of it. One asker per question in
//! the whole fleet, as long as its lease holds.

use galley_core::ids::WorkspaceId;
use sqlx::Row;

use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::scope::Scope;

/// An answer as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow {
    /// The output, JSON text.
    pub output: String,
    /// The model that wrote it.
    pub model: String,
    /// What it cost.
    pub cost_micros: u64,
}

/// What there is for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// An answer.
    Kept(KeptRow),
    /// Nothing, and this asker asks.
    Yours,
    /// Somebody is asking.
    Busy,
}

/// What kept answers were worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Savings {
    /// Answers that were kept.
    pub kept: u64,
    /// How often one was given again.
    pub hits: u64,
    /// What that would have cost.
    pub saved_micros: u64,
}

impl Store {
    /// Finds a kept answer and counts that it was used, or takes on to ask for
    /// so long.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn look_up_response(
        &self,
        workspace: WorkspaceId,
        key: [u8; 32],
        agent: String,
        asker: u64,
        lease_ms: u64,
    ) -> Result<Response, StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut connection = pool.link().await?;
            let hit = sqlx::query(
                "UPDATE responses SET hits = hits + 1
                  WHERE workspace_id = $1 AND key = $2 AND output IS NOT NULL AND kept_until > galley_now()
              RETURNING output::text, model, cost_micros",
            )
            .bind(workspace.0)
            .bind(key.as_slice())
            .fetch_optional(&mut *connection)
            .await?;
            let found = match hit {
                Some(row) => Response::Kept(KeptRow {
                    output: row.try_get(0)?,
                    model: row.try_get::<Option<String>, _>(1)?.unwrap_or_default(),
                    cost_micros: u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0),
                }),
                None => {
                    // Of all who look at once one inserts; an asker that died
                    // is replaced when its lease is over.
                    let mine = sqlx::query(
                        "INSERT INTO responses AS r (workspace_id, key, agent, asker, lease_until)
                         VALUES ($1, $2, $3, $4, galley_now() + $5 * interval '1 ms')
                         ON CONFLICT (workspace_id, key) DO UPDATE
                            SET asker = excluded.asker, lease_until = excluded.lease_until,
                                output = NULL, kept_until = NULL, hits = 0
                          WHERE coalesce(r.kept_until, r.lease_until) <= galley_now() OR r.asker = excluded.asker
                                AND r.output IS NULL",
                    )
                    .bind(workspace.0)
                    .bind(key.as_slice())
                    .bind(agent)
                    .bind(asker as i64)
                    .bind(i64::try_from(lease_ms).unwrap_or(i64::MAX));
                    if execute(&mut connection, mine).await? == 1 { Response::Yours } else { Response::Busy }
                }
            };
            connection.done().await?;
            Ok(found)
        })
        .await
    }

    /// Keeps an answer for so long, unless somebody else asks by now.
    ///
    /// # Errors
    /// Postgres is away, or cannot store it.
    pub async fn keep_response(
        &self,
        workspace: WorkspaceId,
        key: [u8; 32],
        asker: u64,
        kept: KeptRow,
        ttl_s: u64,
    ) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut connection = pool.link().await?;
            let keep = sqlx::query(
                "UPDATE responses
                    SET output = $4::json, model = $5, cost_micros = $6, kept_at = galley_now(),
                        kept_until = galley_now() + $7 * interval '1 s'
                  WHERE workspace_id = $1 AND key = $2 AND asker = $3 AND output IS NULL",
            )
            .bind(workspace.0)
            .bind(key.as_slice())
            .bind(asker as i64)
            .bind(kept.output)
            .bind(kept.model)
            .bind(i64::try_from(kept.cost_micros).unwrap_or(i64::MAX))
            .bind(i64::try_from(ttl_s).unwrap_or(i64::MAX));
            execute(&mut connection, keep).await?;
            connection.done().await
        })
        .await
    }

    /// Gives up asking: the next who looks asks.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn let_response_go(
        &self,
        workspace: WorkspaceId,
        key: [u8; 32],
        asker: u64,
    ) -> Result<(), StoreError> {
        self.unit(workspace, move |pool| async move {
            let mut connection = pool.link().await?;
            let gone = sqlx::query(
                "DELETE FROM responses WHERE workspace_id = $1 AND key = $2 AND asker = $3 AND output IS NULL",
            );
            execute(&mut connection, gone.bind(workspace.0).bind(key.as_slice()).bind(asker as i64)).await?;
            connection.done().await
        })
        .await
    }

    /// Forgets answers whose time is over; answers how many.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn forget_responses(&self, limit: i64) -> Result<u64, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let gone = sqlx::query(
                "DELETE FROM responses WHERE (workspace_id, key) IN (
                    SELECT workspace_id, key FROM responses
                     WHERE coalesce(kept_until, lease_until) <= galley_now() LIMIT $1)",
            );
            let gone = execute(&mut connection, gone.bind(limit)).await?;
            connection.done().await?;
            Ok(gone)
        })
        .await
    }

    /// What a workspace's kept answers were worth so far. Answers whose time is
    /// over count no more.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn savings(&self, workspace: WorkspaceId) -> Result<Savings, StoreError> {
        let row = sqlx::query(
            "SELECT count(kept_at), coalesce(sum(hits), 0)::int8, coalesce(sum(hits * cost_micros), 0)::int8
               FROM responses WHERE workspace_id = $1 AND kept_at IS NOT NULL",
        )
        .bind(workspace.0)
        .fetch_one(&mut *self.reader(workspace).await?)
        .await?;
        let number = |at| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(at)?).unwrap_or(0));
        Ok(Savings { kept: number(0)?, hits: number(1)?, saved_micros: number(2)? })
    }
}
