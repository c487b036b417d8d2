//! The floor `galley bench` compares with: what plain inserts cost on this
//! very server, in the same run.

use std::time::{Duration, Instant};

use sqlx::Row;

use crate::error::StoreError;
use crate::pool::{Store, to_the_end};
use crate::scope::Scope;

/// Rows per insert of the floor.
const ROWS: usize = 500;

/// What plain inserts cost.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Rows per second of 500-row `unnest` inserts, one committed transaction
    /// each, from one connection.
    pub rows_per_second: f64,
    /// Median time of one committed one-row insert.
    pub commit: Duration,
}

impl Store {
    /// Measures plain inserts into a table of its own, which is dropped again.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn measure_floor(&self, payload: String) -> Result<Floor, StoreError> {
        // A table of nobody's, on the connections of whoever may make one.
        let pool = self.pool().clone();
        to_the_end(async move {
            sqlx::query("CREATE TABLE IF NOT EXISTS bench_floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body json NOT NULL)")
                .execute(&pool)
                .await?;
            let insert = "INSERT INTO bench_floor (body) SELECT * FROM unnest($1::json[])";
            let mut commits = Vec::with_capacity(100);
            for _ in 0..100 {
                let begun = Instant::now();
                sqlx::query(insert).bind(vec![payload.as_str()]).execute(&pool).await?;
                commits.push(begun.elapsed());
            }
            commits.sort();
            let rows = vec![payload.as_str(); ROWS];
            let begun = Instant::now();
            let mut batches = 0_u32;
            while begun.elapsed() < Duration::from_secs(2) {
                sqlx::query(insert).bind(&rows).execute(&pool).await?;
                batches += 1;
            }
            let rows_per_second = f64::from(batches) * ROWS as f64 / begun.elapsed().as_secs_f64();
            sqlx::query("DROP TABLE bench_floor").execute(&pool).await?;
            Ok(Floor { rows_per_second, commit: commits[commits.len() / 2] })
        })
        .await
    }

    /// Results of a workspace.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn count_results(&self, workspace: galley_core::ids::WorkspaceId) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT count(*) FROM results WHERE workspace_id = $1")
            .bind(workspace.0)
            .fetch_one(&mut *self.reader(workspace).await?)
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Whether any workflow is live, but those of one definition.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn any_live_run(&self, except_definition: Option<i64>) -> Result<bool, StoreError> {
        let row =
            sqlx::query("SELECT EXISTS (SELECT 1 FROM runs WHERE $1::int8 IS NULL OR definition_id <> $1)")
                .bind(except_definition)
                .fetch_one(&mut *self.reader(Scope::Fleet).await?)
                .await?;
        Ok(row.try_get(0)?)
    }
}
