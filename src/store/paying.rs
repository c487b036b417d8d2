//! What posts cost, in the transactions that move them: reserved by the intent,
//! settled by the outcome. Both are the last of their transaction, for they
//! lock counters.

use galley_core::ids::{SessionId, StepIndex, WorkflowKey};
use galley_core::money::Tokens;
use sqlx::{PgConnection, Row};

use crate::error::{Overtaken, StoreError};
use crate::ledger::{CallKey, ReserveWrite, Reserved, SettleWrite};
use crate::reserving::take_room;
use crate::runs::AttemptKey;
use crate::settling::book;

/// Reserves what a post costs: part of its intent, whose compare-and-set on the
/// run is the fence.
pub(crate) async fn reserve_for_post(
    connection: &mut PgConnection,
    write: &ReserveWrite,
) -> Result<(), StoreError> {
    let reserved = take_room(connection, std::slice::from_ref(write), &[true]).await?;
    match reserved.as_slice() {
        [Reserved::Yes { .. }] => Ok(()),
        _ => Err(StoreError::Overtaken(Overtaken::NoMoney)),
    }
}

/// Books what a publish step's post came to: at most one of its reservations,
/// or of its estimates, is open.
pub(crate) async fn settle_post(
    connection: &mut PgConnection,
    key: WorkflowKey,
    step: StepIndex,
    cost: Option<u64>,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT epoch, nonce, session, call FROM spend
          WHERE workspace_id = $1 AND workflow_id = $2 AND step = $3 AND account IS NOT NULL
            AND state IN ('reserved', 'estimated')
          ORDER BY reserved_at DESC LIMIT 1",
    )
    .bind(key.workspace.0)
    .bind(key.workflow.0)
    .bind(step as i16)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let attempt = AttemptKey {
        key,
        step,
        epoch: row.try_get::<i32, _>(0)? as u32,
        nonce: row.try_get::<i64, _>(1)? as u64,
        session: SessionId(row.try_get(2)?),
    };
    let call = CallKey { attempt, call: row.try_get::<i16, _>(3)? as u16 };
    // Who resolves by hand may not note that somebody was warned: the next
    // reservation does.
    book(connection, &[SettleWrite { call, cost, tokens: Tokens::default() }]).await?;
    Ok(())
}
