//! The audit's chains at the end of a run, followed link by link on the
//! database itself: every row has one place, the places have no gap, and every
//! hash is that of its row and the one before.

use std::collections::BTreeMap;

use anyhow::Result;
use galley_core::chain::{self, ChainedRow, Hash};
use galley_core::ids::WorkspaceId;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// How many audit rows have no place in their chain.
///
/// # Errors
/// PostgreSQL is away.
pub async fn unsealed(connection: &mut PgConnection) -> Result<i64> {
    let row = sqlx::query(
        "SELECT count(*) FROM audit a
          WHERE NOT EXISTS (SELECT 1 FROM audit_seals s
                             WHERE s.workspace_id = a.workspace_id AND s.audit_id = a.id)",
    );
    Ok(row.fetch_one(connection).await?.try_get(0)?)
}

/// What does not hold.
///
/// # Errors
/// PostgreSQL is away.
pub async fn broken(connection: &mut PgConnection) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let unsealed = unsealed(connection).await?;
    if unsealed > 0 {
        found.push(format!("{unsealed} audit rows were never sealed"));
    }
    let rows = sqlx::query(
        "SELECT s.workspace_id, s.seq, s.hash, to_json(s.sealed_at)#>>'{}', a.id, to_json(a.at)#>>'{}', a.actor,
                a.action, a.object, a.detail::text, a.request_id, a.before_hash, a.after_hash, s.audit_id
           FROM audit_seals s LEFT JOIN audit a ON a.workspace_id = s.workspace_id AND a.id = s.audit_id
          ORDER BY s.workspace_id, s.seq",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut ends: BTreeMap<Uuid, (i64, Hash)> = BTreeMap::new();
    for row in rows {
        let (workspace, seq, audit): (Uuid, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(13)?);
        let place = format!("place {seq} of workspace {workspace}");
        let end = ends.entry(workspace).or_insert((0, chain::BEGINNING));
        if seq != end.0 + 1 {
            found.push(format!("{place} follows place {}", end.0));
        }
        let told: Hash = row.try_get::<&[u8], _>(2)?.try_into()?;
        let previous = std::mem::replace(end, (seq, told)).1;
        let Some(id) = row.try_get::<Option<i64>, _>(4)? else {
            found.push(format!("{place} seals row {audit}, which is not there"));
            continue;
        };
        let detail: Option<String> = row.try_get(9)?;
        let sealed = ChainedRow {
            id,
            at: row.try_get::<&str, _>(5)?.parse()?,
            actor: row.try_get(6)?,
            action: row.try_get(7)?,
            object: row.try_get(8)?,
            detail: detail.map(RawValue::from_string).transpose()?,
            request_id: row.try_get(10)?,
            before_hash: row.try_get(11)?,
            after_hash: row.try_get(12)?,
        };
        let sealed_at = row.try_get::<&str, _>(3)?.parse()?;
        if chain::link(&previous, WorkspaceId(workspace), seq.unsigned_abs(), sealed_at, &sealed) != told {
            found.push(format!("{place} has another hash than its row {id} and the place before it"));
        }
    }
    let heads = sqlx::query("SELECT workspace_id, seq FROM audit_heads").fetch_all(connection).await?;
    for head in heads {
        let (workspace, seq): (Uuid, i64) = (head.try_get(0)?, head.try_get(1)?);
        let there = ends.get(&workspace).map_or(0, |end| end.0);
        if there != seq {
            found.push(format!("the chain of workspace {workspace} ends at {there}, its head says {seq}"));
        }
    }
    Ok(found)
}
