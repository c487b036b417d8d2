//! Group commit: whatever was reported while the last batch was being written is
//! the next batch, and everybody hears what became of theirs. Once a report is
//! here it is written, whoever hangs up.

use std::fmt;

use galley_edge::ApiError;
use galley_engine::{Engine, Recorded, Report};
use tokio::sync::{mpsc, oneshot};

/// Most reports per transaction.
const LARGEST_BATCH: usize = 512;

/// Reports that wait to be written; more wait in their calls.
const WAITING: usize = 1_024;

type Verdict = Result<Recorded, ApiError>;

/// Writes reports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Committer {
    reports: mpsc::Sender<(Report, oneshot::Sender<Verdict>)>,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    /// Writes until the last clone is dropped.
    pub(crate) fn start(engine: Engine) -> Self {
        let (reports, waiting) = mpsc::channel(WAITING);
        tokio::spawn(commit(engine, waiting));
        Self { reports }
    }

    /// Writes a report; what became of it.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was recorded; the worker repeats it.
    pub(crate) async fn record(&self, report: Report) -> Verdict {
        let gone = || ApiError::internal("the committer is gone");
        let (tell, told) = oneshot::channel();
        self.reports.send((report, tell)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

async fn commit(engine: Engine, mut waiting: mpsc::Receiver<(Report, oneshot::Sender<Verdict>)>) {
    let mut batch = Vec::with_capacity(LARGEST_BATCH);
    while waiting.recv_many(&mut batch, LARGEST_BATCH).await > 0 {
        let (reports, tells): (Vec<Report>, Vec<_>) = batch.drain(..).unzip();
        match engine.complete(&reports).await {
            Ok(recorded) => {
                for (tell, recorded) in tells.into_iter().zip(recorded) {
                    // Whoever hung up asks again, and is told then.
                    let _ = tell.send(Ok(recorded));
                }
            }
            Err(error) => {
                let error = ApiError::from(error);
                for tell in tells {
                    let _ = tell.send(Err(error.clone()));
                }
            }
        }
    }
}
