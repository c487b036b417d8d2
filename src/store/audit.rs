//! The audit: rows that only grow, and the chain they are sealed into.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use galley_core::chain::{self, ChainedRow, Hash, Link};
use galley_core::ids::{WorkflowKey, WorkspaceId};
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::error::StoreError;
use crate::planted;
use crate::pool::{Store, execute};
use crate::scope::Scope;

tokio::task_local! {
    /// The request that the work of this task belongs to.
    static REQUEST: Option<Arc<str>>;
}

/// Runs the work of a request: the audit rows that it writes name the request.
pub async fn on_behalf<F: Future>(request: Arc<str>, work: F) -> F::Output {
    REQUEST.scope(Some(request), work).await
}

/// Work that goes on in a task of its own and still belongs to the request of
/// this one.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let request = REQUEST.try_with(Clone::clone).ok().flatten();
    REQUEST.scope(request, work)
}

/// A line of the audit log.
#[derive(Clone, Debug)]
pub struct AuditWrite {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The workflow the line belongs to; it is only written if that run is.
    pub key: Option<WorkflowKey>,
    /// Who.
    pub actor: String,
    /// What: `workflow.cancel`, `dead.retry`, …
    pub action: &'static str,
    /// To what.
    pub object: String,
    /// More, as JSON text.
    pub detail: Option<String>,
    /// What it changed.
    pub hashes: Hashes,
}

/// The hashes of something that was changed, hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Of what was there before.
    pub before: Option<String>,
    /// Of what is there since.
    pub after: Option<String>,
}

/// An audit line as stored.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its number.
    pub id: i64,
    /// When, RFC 3339.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// More, as JSON text.
    pub detail: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// What it changed.
    pub hashes: Hashes,
}

/// Where a chain ends.
#[derive(Clone, Debug)]
pub struct ChainEnd {
    /// Its last place, as the sealer knows it; 0 when there is none.
    pub seq: i64,
    /// That place's hash.
    pub hash: Vec<u8>,
    /// The last seal there is: the same, unless somebody tampered.
    pub last_seal: i64,
    /// Now, RFC 3339.
    pub now: String,
}

/// One audit line, inside the transaction of what it tells about.
pub(crate) async fn write_audit(connection: &mut PgConnection, line: &AuditWrite) -> Result<(), StoreError> {
    let request = REQUEST.try_with(Clone::clone).ok().flatten();
    let insert = sqlx::query(
        "INSERT INTO audit (workspace_id, actor, action, object, detail, request_id, before_hash, after_hash)
         VALUES ($1, $2, $3, $4, $5::json, $6, $7, $8)",
    )
    .bind(line.workspace.0)
    .bind(&line.actor)
    .bind(line.action)
    .bind(&line.object)
    .bind(&line.detail)
    .bind(request.as_deref())
    .bind(&line.hashes.before)
    .bind(&line.hashes.after);
    execute(connection, insert).await?;
    Ok(())
}

/// The columns of [`chained_of`], of `audit a`.
const CHAINED: &str = "a.id, to_json(a.at)#>>'{}', a.actor, a.action, a.object, a.detail::text, a.request_id,
    a.before_hash, a.after_hash";

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Schema(format!("an audit row cannot be read: {error}"))
}

fn chained_of(row: &PgRow, from: usize) -> Result<ChainedRow, StoreError> {
    let detail: Option<String> = row.try_get(from + 5)?;
    // A JSON `null` is nothing, as it is when it is read back from a file.
    let detail = detail.filter(|text| text.trim() != "null").map(RawValue::from_string);
    Ok(ChainedRow {
        id: row.try_get(from)?,
        at: row.try_get::<String, _>(from + 1)?.parse().map_err(unreadable)?,
        actor: row.try_get(from + 2)?,
        action: row.try_get(from + 3)?,
        object: row.try_get(from + 4)?,
        detail: detail.transpose().map_err(unreadable)?,
        request_id: row.try_get(from + 6)?,
        before_hash: row.try_get(from + 7)?,
        after_hash: row.try_get(from + 8)?,
    })
}

impl Store {
    /// Writes an audit line that belongs to no other write.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn audit(&self, line: AuditWrite) -> Result<(), StoreError> {
        self.unit(line.workspace, move |pool| async move {
            let mut connection = pool.link().await?;
            write_audit(&mut connection, &line).await?;
            connection.done().await
        })
        .await
    }

    /// One page of a workspace's audit lines, newest first, older than `before`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn list_audit(
        &self,
        workspace: WorkspaceId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let query = format!(
            "SELECT {CHAINED} FROM audit a
              WHERE a.workspace_id = $1 AND ($2::int8 IS NULL OR a.id < $2) ORDER BY a.id DESC LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(before)
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(AuditRow {
                    id: row.try_get(0)?,
                    at: row.try_get(1)?,
                    actor: row.try_get(2)?,
                    action: row.try_get(3)?,
                    object: row.try_get(4)?,
                    detail: row.try_get(5)?,
                    request_id: row.try_get(6)?,
                    hashes: Hashes { before: row.try_get(7)?, after: row.try_get(8)? },
                })
            })
            .collect()
    }

    /// Where a workspace's chain ends.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn chain_end(&self, workspace: WorkspaceId) -> Result<ChainEnd, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(h.seq, 0), coalesce(h.hash, ''), to_json(galley_now())#>>'{}',
                    coalesce((SELECT max(seq) FROM audit_seals WHERE workspace_id = $1), 0)
               FROM (SELECT 1) one LEFT JOIN audit_heads h ON h.workspace_id = $1",
        )
        .bind(workspace.0)
        .fetch_one(&mut *self.reader(workspace).await?)
        .await?;
        Ok(ChainEnd {
            seq: row.try_get(0)?,
            hash: row.try_get(1)?,
            now: row.try_get(2)?,
            last_seal: row.try_get(3)?,
        })
    }

    /// One page of a workspace's chain: the places behind `after`, up to `last`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn chain_page(
        &self,
        workspace: WorkspaceId,
        after: i64,
        last: i64,
        limit: i64,
    ) -> Result<Vec<Link>, StoreError> {
        let query = format!(
            "SELECT s.seq, s.hash, to_json(s.sealed_at)#>>'{{}}', s.audit_id, {CHAINED}
               FROM audit_seals s LEFT JOIN audit a ON a.workspace_id = s.workspace_id AND a.id = s.audit_id
              WHERE s.workspace_id = $1 AND s.seq > $2 AND s.seq <= $3 ORDER BY s.seq LIMIT $4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(after)
            .bind(last)
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter()
            .map(|row| {
                let there = row.try_get::<Option<i64>, _>(4)?.is_some();
                Ok(Link {
                    seq: row.try_get::<i64, _>(0)?.unsigned_abs(),
                    hash: hex::encode(row.try_get::<&[u8], _>(1)?),
                    sealed_at: row.try_get::<String, _>(2)?.parse().map_err(unreadable)?,
                    row_id: row.try_get(3)?,
                    row: if there { Some(chained_of(row, 4)?) } else { None },
                })
            })
            .collect()
    }

    /// One page of a workspace's rows that are in no place, behind `after`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn unsealed_page(
        &self,
        workspace: WorkspaceId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<ChainedRow>, StoreError> {
        let query = format!(
            "SELECT {CHAINED}
               FROM audit a LEFT JOIN audit_seals s ON s.workspace_id = a.workspace_id AND s.audit_id = a.id
              WHERE a.workspace_id = $1 AND a.id > $2 AND s.seq IS NULL ORDER BY a.id LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(workspace.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *self.reader(workspace).await?)
            .await?;
        rows.iter().map(|row| chained_of(row, 0)).collect()
    }

    /// Seals up to `limit` rows that are in no place yet, of all workspaces;
    /// answers how many. 0, too, while another process seals.
    ///
    /// Rows are taken by (transaction, number), and a place in the chain is only
    /// ever added. Behind the mark nothing can be missed: `xmin` is read before
    /// the rows are, every transaction below it is over, so its rows are in this
    /// look or were never written. A row that commits late stands before the
    /// mark's end and is sealed by a later look, at the end of the chain then.
    ///
    /// # Errors
    /// Postgres is away, or this process' role does not seal.
    pub async fn seal_audit(&self, limit: i64) -> Result<u64, StoreError> {
        if !self.has_unsealed().await? {
            return Ok(0);
        }
        self.unit(Scope::Fleet, move |pool| async move {
            let mut transaction = pool.begin().await?;
            let sealer = sqlx::query(
                "SELECT mark_txid::text, mark_id, to_json(galley_now())#>>'{}',
                        pg_snapshot_xmin(pg_current_snapshot())::text,
                        mark_txid > pg_snapshot_xmax(pg_current_snapshot())
                   FROM audit_sealer FOR UPDATE SKIP LOCKED",
            )
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(sealer) = sealer else { return Ok(0) };
            let (mark_txid, mark_id): (String, i64) = (sealer.try_get(0)?, sealer.try_get(1)?);
            let (now, settled): (String, String) = (sealer.try_get(2)?, sealer.try_get(3)?);
            // The mark comes from another cluster: the database was restored
            // from a dump. Everything is looked at once more.
            let foreign: bool = sealer.try_get(4)?;
            let (mark_txid, mark_id) = if foreign { ("0".into(), 0) } else { (mark_txid, mark_id) };
            let query = format!(
                "SELECT a.workspace_id, a.txid::text, a.txid < $4::text::xid8, {CHAINED} FROM audit a
                  WHERE (a.txid, a.id) > ($1::text::xid8, $2)
                    AND ($5 OR a.txid < pg_snapshot_xmax(pg_current_snapshot()))
                    AND NOT EXISTS (SELECT 1 FROM audit_seals s
                                     WHERE s.workspace_id = a.workspace_id AND s.audit_id = a.id)
                  ORDER BY a.txid, a.id LIMIT $3"
            );
            let query = planted::by_number(query);
            let rows = sqlx::query(sqlx::AssertSqlSafe(query))
                .bind(mark_txid)
                .bind(mark_id)
                .bind(limit)
                .bind(&settled)
                .bind(foreign)
                .fetch_all(&mut *transaction)
                .await?;
            let mut chains: BTreeMap<Uuid, Vec<ChainedRow>> = BTreeMap::new();
            for row in &rows {
                chains.entry(row.try_get(0)?).or_default().push(chained_of(row, 3)?);
            }
            append(&mut transaction, &chains, &now).await?;
            // Everything up to here is sealed, as far as it is settled.
            let full = rows.len() as i64 == limit;
            let mark = match rows.last() {
                Some(last) if full && last.try_get(2)? => (last.try_get(1)?, last.try_get(3)?),
                _ => (settled, 0_i64),
            };
            let update = sqlx::query("UPDATE audit_sealer SET mark_txid = $1::text::xid8, mark_id = $2");
            execute(&mut transaction, update.bind(mark.0).bind(mark.1)).await?;
            transaction.commit().await?;
            Ok(rows.len() as u64)
        })
        .await
    }

    /// Whether there is anything to seal: a look without a lock.
    async fn has_unsealed(&self) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT m.mark_txid > pg_snapshot_xmax(pg_current_snapshot())
                    OR EXISTS (SELECT 1 FROM audit a
                                WHERE (a.txid, a.id) > (m.mark_txid, m.mark_id)
                                  AND a.txid < pg_snapshot_xmax(pg_current_snapshot())
                                  AND NOT EXISTS (SELECT 1 FROM audit_seals s
                                                   WHERE s.workspace_id = a.workspace_id AND s.audit_id = a.id))
               FROM audit_sealer m",
        )
        .fetch_one(&mut *self.reader(Scope::Fleet).await?)
        .await?;
        Ok(row.try_get(0)?)
    }
}

/// Adds rows to the ends of their chains.
async fn append(
    connection: &mut PgConnection,
    chains: &BTreeMap<Uuid, Vec<ChainedRow>>,
    now: &str,
) -> Result<(), StoreError> {
    let workspaces: Vec<Uuid> = chains.keys().copied().collect();
    let rows = sqlx::query("SELECT workspace_id, seq, hash FROM audit_heads WHERE workspace_id = ANY($1)")
        .bind(&workspaces)
        .fetch_all(&mut *connection)
        .await?;
    let mut heads: BTreeMap<Uuid, (u64, Hash)> = BTreeMap::new();
    for row in rows {
        let hash = row.try_get::<&[u8], _>(2)?.try_into().map_err(unreadable)?;
        heads.insert(row.try_get(0)?, (row.try_get::<i64, _>(1)?.unsigned_abs(), hash));
    }
    let sealed_at = now.parse().map_err(unreadable)?;
    let mut seals = Seals::default();
    for (workspace, rows) in chains {
        let head = heads.entry(*workspace).or_insert((0, chain::BEGINNING));
        for row in rows {
            head.0 += 1;
            head.1 = chain::link(&head.1, WorkspaceId(*workspace), head.0, sealed_at, row);
            seals.workspaces.push(*workspace);
            seals.places.push(head.0.cast_signed());
            seals.rows.push(row.id);
            seals.hashes.push(head.1.to_vec());
        }
    }
    let insert = sqlx::query(
        "INSERT INTO audit_seals (workspace_id, seq, audit_id, hash, sealed_at)
         SELECT s.workspace_id, s.seq, s.audit_id, s.hash, $5::timestamptz
           FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::bytea[]) AS s(workspace_id, seq, audit_id, hash)",
    );
    let insert = insert.bind(seals.workspaces).bind(seals.places).bind(seals.rows).bind(seals.hashes);
    execute(&mut *connection, insert.bind(now)).await?;
    let upsert = sqlx::query(
        "INSERT INTO audit_heads (workspace_id, seq, hash)
         SELECT * FROM unnest($1::uuid[], $2::int8[], $3::bytea[])
         ON CONFLICT (workspace_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    )
    .bind(heads.keys().copied().collect::<Vec<_>>())
    .bind(heads.values().map(|(seq, _)| seq.cast_signed()).collect::<Vec<_>>())
    .bind(heads.values().map(|(_, hash)| hash.to_vec()).collect::<Vec<_>>());
    execute(connection, upsert).await?;
    Ok(())
}

/// The columns of new seals.
#[derive(Default)]
struct Seals {
    workspaces: Vec<Uuid>,
    places: Vec<i64>,
    rows: Vec<i64>,
    hashes: Vec<Vec<u8>>,
}
