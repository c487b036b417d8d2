//! What a planted bug changes about a statement. In the product every function
//! of this file is its first line.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use galley_probe::{Bug, planted};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use uuid::Uuid;

use crate::error::StoreError;

/// Places taken of a workspace, an account and a day, as one process knows them.
type Days = HashMap<(Uuid, Uuid, String), i32>;

/// A statement; with the bug planted, its guard says something else.
pub(crate) fn guarded<'q>(
    sql: &'static str,
    bug: Bug,
    guard: &str,
    instead: &str,
) -> Query<'q, Postgres, PgArguments> {
    if !planted(bug) {
        return sqlx::query(sql);
    }
    assert!(sql.contains(guard), "{bug} cannot be planted: `{guard}` is not there");
    sqlx::query(AssertSqlSafe(sql.replace(guard, instead)))
}

/// The sealer's look; with the bug planted it passes what commits late.
pub(crate) fn by_number(query: String) -> String {
    if !planted(Bug::SealSkips) {
        return query;
    }
    let passed = " AND a.id > (SELECT coalesce(max(audit_id), 0) FROM audit_seals) ORDER BY";
    query.replace("ORDER BY", passed)
}

/// A read of posts; with the bug planted it asks for those of no workspace.
pub(crate) fn anywhere(query: String) -> String {
    if !planted(Bug::NoWhere) && !planted(Bug::OpenPolicy) {
        return query;
    }
    let guard = "p.workspace_id = $1";
    assert!(query.contains(guard), "a read of posts cannot forget its workspace: it names none");
    query.replace(guard, "$1::uuid IS NOT NULL")
}

/// The limit that a day's counter is compared with.
pub(crate) async fn limit(
    connection: &mut PgConnection,
    workspace: Uuid,
    scope: Uuid,
    day: &str,
    limit: i32,
) -> Result<i32, StoreError> {
    let used = if planted(Bug::LimitByCount) {
        let row = sqlx::query(
            "SELECT count(*)::int4 FROM publications
              WHERE workspace_id = $1 AND quota_day = $2::date AND quota_held
                AND ($3 = '00000000-0000-0000-0000-000000000000'::uuid OR account_id = $3)",
        );
        row.bind(workspace).bind(day).bind(scope).fetch_one(connection).await?.try_get(0)?
    } else if planted(Bug::LimitInMemory) {
        static USED: Mutex<Option<Days>> = Mutex::new(None);
        let mut days = USED.lock().unwrap_or_else(PoisonError::into_inner);
        let used = days.get_or_insert_default().entry((workspace, scope, day.to_owned())).or_default();
        *used += 1;
        *used - 1
    } else {
        return Ok(limit);
    };
    Ok(if used < limit { i32::MAX } else { 0 })
}
