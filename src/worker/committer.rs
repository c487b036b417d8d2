//! Group commit: whatever finished while the last batch was being written is
//! the next batch. No added wait when idle, large batches under load.

use galley_engine::{Backoff, Engine, Recorded, Report, Session};
use tokio::sync::{mpsc, watch};

use crate::OnRecorded;
use crate::attempt::Finished;

/// Most reports per transaction.
const LARGEST_BATCH: usize = 512;

/// Writes reports until every sender is gone. Reports of a lost session are
/// dropped: the reaper has returned, or will return, their steps.
pub(crate) async fn commit(
    engine: Engine,
    mut finished: mpsc::UnboundedReceiver<Finished>,
    session: watch::Receiver<Option<Session>>,
    on_recorded: Option<OnRecorded>,
) {
    let mut batch = Vec::with_capacity(LARGEST_BATCH);
    while finished.recv_many(&mut batch, LARGEST_BATCH).await > 0 {
        let (reports, slots): (Vec<Report>, Vec<_>) =
            batch.drain(..).map(|finished| (finished.report, finished.slot)).unzip();
        write(&engine, reports, &session, on_recorded.as_ref()).await;
        // Only now may others start: results cannot pile up.
        drop(slots);
    }
}

async fn write(
    engine: &Engine,
    mut reports: Vec<Report>,
    session: &watch::Receiver<Option<Session>>,
    on_recorded: Option<&OnRecorded>,
) {
    let mut backoff = Backoff::quick();
    loop {
        reports.retain(|report| may_report(report, session));
        if reports.is_empty() {
            tracing::warn!("dropped results of a lost session");
            return;
        }
        match engine.complete(&reports).await {
            Ok(recorded) => {
                if let Some(tell) = on_recorded {
                    let told: Vec<_> = reports.iter().zip(recorded.iter().copied()).collect();
                    tell(&told);
                }
                let stale = recorded.iter().filter(|recorded| **recorded == Recorded::Stale).count();
                if stale > 0 {
                    tracing::info!(
                        stale,
                        "{stale} results came too late and were dropped; their bills were kept"
                    );
                }
                return;
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "recording results waits for Postgres");
                backoff.wait().await;
            }
            Err(error) => {
                tracing::error!(%error, "could not record results; the reaper returns their steps");
                metrics::counter!("galley_unrecorded_results_total").increment(reports.len() as u64);
                return;
            }
        }
    }
}

fn may_report(report: &Report, session: &watch::Receiver<Option<Session>>) -> bool {
    session.borrow().as_ref().is_some_and(|session| session.id() == report.session && session.is_live())
}
