//! How much of a workspace is unfinished.

use galley_core::ids::WorkspaceId;
use sqlx::Row;

use crate::error::StoreError;
use crate::pool::Store;

impl Store {
    /// How many workflows of a workspace are unfinished; counted up to `most`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn unfinished_workflows(&self, workspace: WorkspaceId, most: u32) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FROM (SELECT 1 FROM runs WHERE workspace_id = $1 LIMIT $2) unfinished",
        )
        .bind(workspace.0)
        .bind(i64::from(most))
        .fetch_one(&mut *self.reader(workspace).await?)
        .await?;
        Ok(row.try_get(0)?)
    }
}
