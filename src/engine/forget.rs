//! Workspaces that keep what is finished for a time forget the rest.

use galley_store::StoreError;

use crate::engine::Engine;

/// Workflows forgotten in one transaction.
const BATCH: i64 = 200;

/// Transactions per workspace and pass: a workspace that forgets years at once
/// takes its time.
const BATCHES: usize = 20;

/// One pass; answers how many workflows were forgotten.
///
/// # Errors
/// Postgres is away.
pub async fn forget_finished(engine: &Engine) -> Result<u64, StoreError> {
    let mut all = 0;
    for workspace in engine.store().forgetful_workspaces().await? {
        let mut here = 0;
        for _ in 0..BATCHES {
            let forgotten = engine.store().forget_finished(workspace, BATCH).await?.workflows;
            here += forgotten;
            if forgotten < BATCH.unsigned_abs() {
                break;
            }
        }
        if here > 0 {
            tracing::info!(%workspace, workflows = here, "forgot what was finished for long enough");
        }
        all += here;
    }
    metrics::counter!("galley_workflows_forgotten_total").increment(all);
    Ok(all)
}
