//! What this machine's Postgres does with plain inserts, for comparison.

use galley_engine::store::Store;
use serde::Serialize;

use crate::agent::payload;

/// The floor, measured in the same run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct FloorReport {
    /// Rows per second of committed 500-row inserts, one connection.
    pub(crate) floor_rows_per_second: f64,
    /// Median time of a committed one-row insert, milliseconds.
    pub(crate) floor_commit_ms: f64,
}

pub(crate) async fn measure(owner: &Store, payload_bytes: usize) -> anyhow::Result<FloorReport> {
    let floor = owner.measure_floor(payload(payload_bytes)).await?;
    Ok(FloorReport {
        floor_rows_per_second: floor.rows_per_second,
        floor_commit_ms: floor.commit.as_secs_f64() * 1_000.0,
    })
}
