//! Worker sessions: opened, renewed, closed, swept.

use galley_core::ids::SessionId;
use sqlx::Row;

use crate::error::StoreError;
use crate::pool::{Store, execute};
use crate::scope::Scope;

/// A worker process that opens a session.
#[derive(Clone, Debug)]
pub struct SessionOpen {
    /// Its name among workers.
    pub worker: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The release it runs.
    pub release: String,
    /// The agent types it serves.
    pub agents: Vec<String>,
    /// Steps it runs at once.
    pub concurrency: u32,
}

/// A session as stored.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Who opened it.
    pub opened: SessionOpen,
    /// Steps it ran when it last renewed.
    pub running: i32,
    /// Moves with every renewal.
    pub seq: i64,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it last renewed, RFC 3339.
    pub renewed_at: String,
    /// Milliseconds since it last renewed, on the database's clock: for people
    /// only, never for decisions.
    pub silent_ms: i64,
    /// When it was closed, RFC 3339.
    pub closed_at: Option<String>,
    /// Why it was closed.
    pub close_reason: Option<String>,
}

/// A lease that was handed to a worker outside and is not acknowledged yet.
#[derive(Clone, Debug)]
pub struct HandedRow {
    /// The lease, as whoever handed it out wrote it down.
    pub lease: String,
    /// Milliseconds since then, on the database's clock.
    pub age_ms: i64,
    /// The entry itself: what [`Store::acknowledge`] takes.
    pub entry: String,
}

/// The millisecond it is.
const NOW_MS: &str = "(extract(epoch FROM galley_now()) * 1000)::int8";

const COLUMNS: &str = "id, worker, host, pid, release, agents, concurrency, running, seq,
    to_json(started_at)#>>'{}', to_json(renewed_at)#>>'{}',
    (extract(epoch FROM galley_now() - renewed_at) * 1000)::int8, to_json(closed_at)#>>'{}', close_reason";

fn session_of(row: &sqlx::postgres::PgRow) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: SessionId(row.try_get(0)?),
        opened: SessionOpen {
            worker: row.try_get(1)?,
            host: row.try_get(2)?,
            pid: row.try_get::<i32, _>(3)? as u32,
            release: row.try_get(4)?,
            agents: row.try_get(5)?,
            concurrency: row.try_get::<i32, _>(6)? as u32,
        },
        running: row.try_get(7)?,
        seq: row.try_get(8)?,
        started_at: row.try_get(9)?,
        renewed_at: row.try_get(10)?,
        silent_ms: row.try_get(11)?,
        closed_at: row.try_get(12)?,
        close_reason: row.try_get(13)?,
    })
}

impl Store {
    /// Opens a session.
    ///
    /// # Errors
    /// Postgres is away. A session that was opened unknown to us is never
    /// renewed, and the reaper closes it.
    pub async fn open_session(&self, open: SessionOpen) -> Result<SessionId, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let row = sqlx::query(
                "INSERT INTO sessions (worker, host, pid, release, agents, concurrency)
                 VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            )
            .bind(open.worker)
            .bind(open.host)
            .bind(open.pid as i32)
            .bind(open.release)
            .bind(open.agents)
            .bind(open.concurrency as i32)
            .fetch_one(&mut *connection)
            .await?;
            connection.done().await?;
            Ok(SessionId(row.try_get(0)?))
        })
        .await
    }

    /// Renews a session; `false` when it was closed: its steps are somebody
    /// else's now.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn renew_session(&self, id: SessionId, running: u32) -> Result<bool, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let update = sqlx::query(
                "UPDATE sessions SET seq = seq + 1, renewed_at = galley_now(), running = $2
                  WHERE id = $1 AND closed_at IS NULL",
            )
            .bind(id.0)
            .bind(running as i32);
            let touched = execute(&mut connection, update).await?;
            connection.done().await?;
            Ok(touched == 1)
        })
        .await
    }

    /// Renews the session of a worker outside, and answers what was handed to it
    /// and is not acknowledged; `None` when the session was closed.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn renew_outside(
        &self,
        id: SessionId,
        running: u32,
    ) -> Result<Option<Vec<HandedRow>>, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let statement = format!(
                "UPDATE sessions SET seq = seq + 1, renewed_at = galley_now(), running = $2
                  WHERE id = $1 AND closed_at IS NULL RETURNING handed, {NOW_MS}"
            );
            let row = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(id.0)
                .bind(running as i32)
                .fetch_optional(&mut *connection)
                .await?;
            connection.done().await?;
            let Some(row) = row else { return Ok(None) };
            let (entries, now): (Vec<String>, i64) = (row.try_get(0)?, row.try_get(1)?);
            let read = entries.into_iter().filter_map(|entry| {
                let (at, lease) = entry.split_once(' ')?;
                let age_ms = now - at.parse::<i64>().ok()?;
                Some(HandedRow { lease: lease.to_owned(), age_ms, entry })
            });
            Ok(Some(read.collect()))
        })
        .await
    }

    /// Writes down what is about to be handed to a worker outside; `false` when
    /// its session was closed: nothing may be handed to it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn hand_out(&self, id: SessionId, leases: Vec<String>) -> Result<bool, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let statement = format!(
                "UPDATE sessions
                    SET handed = handed || (SELECT array_agg({NOW_MS} || ' ' || lease) FROM unnest($2::text[]) AS l(lease))
                  WHERE id = $1 AND closed_at IS NULL"
            );
            let update = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.0).bind(leases);
            let touched = execute(&mut connection, update).await?;
            connection.done().await?;
            Ok(touched == 1)
        })
        .await
    }

    /// Forgets entries of what was handed out: they arrived, or went back.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn acknowledge(&self, id: SessionId, entries: Vec<String>) -> Result<(), StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let update = sqlx::query(
                "UPDATE sessions SET handed = ARRAY(SELECT e FROM unnest(handed) AS h(e) WHERE e <> ALL($2))
                  WHERE id = $1",
            )
            .bind(id.0)
            .bind(entries);
            execute(&mut connection, update).await?;
            connection.done().await
        })
        .await
    }

    /// Closes a session, unless it moved since `seq` was read (the reaper) or
    /// whatever its seq (its own worker). `true` when this call closed it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn close_session(
        &self,
        id: SessionId,
        seq: Option<i64>,
        reason: &'static str,
    ) -> Result<bool, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let update = sqlx::query(
                "UPDATE sessions SET closed_at = galley_now(), close_reason = $3
                  WHERE id = $1 AND closed_at IS NULL AND ($2::int8 IS NULL OR seq = $2)",
            )
            .bind(id.0)
            .bind(seq)
            .bind(reason);
            let touched = execute(&mut connection, update).await?;
            connection.done().await?;
            Ok(touched == 1)
        })
        .await
    }

    /// Closes the session of a worker outside as drained, unless something was
    /// handed to it beyond the entries that were `seen`. `true` when this call
    /// closed it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn close_outside(&self, id: SessionId, seen: Vec<String>) -> Result<bool, StoreError> {
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let update = sqlx::query(
                "UPDATE sessions SET closed_at = galley_now(), close_reason = 'drained'
                  WHERE id = $1 AND closed_at IS NULL AND handed <@ $2::text[]",
            )
            .bind(id.0)
            .bind(seen);
            let touched = execute(&mut connection, update).await?;
            connection.done().await?;
            Ok(touched == 1)
        })
        .await
    }

    /// Sessions that are open, or closed and perhaps not yet swept of steps.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn unswept_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM sessions WHERE swept_at IS NULL ORDER BY id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .fetch_all(&mut *self.reader(Scope::Fleet).await?)
            .await?;
        rows.iter().map(session_of).collect()
    }

    /// Marks a closed session as having no steps left.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn mark_swept(&self, ids: &[SessionId]) -> Result<(), StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        self.unit(Scope::Fleet, move |pool| async move {
            let mut connection = pool.link().await?;
            let update = sqlx::query(
                "UPDATE sessions SET swept_at = galley_now() WHERE id = ANY($1) AND closed_at IS NOT NULL",
            )
            .bind(ids);
            execute(&mut connection, update).await?;
            connection.done().await
        })
        .await
    }

    /// Sessions for people: open ones, and those closed within the last hour,
    /// newest first, at most 500.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM sessions
              WHERE closed_at IS NULL OR closed_at > galley_now() - interval '1 hour'
              ORDER BY closed_at IS NOT NULL, id DESC LIMIT 500"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .fetch_all(&mut *self.reader(Scope::Fleet).await?)
            .await?;
        rows.iter().map(session_of).collect()
    }
}
