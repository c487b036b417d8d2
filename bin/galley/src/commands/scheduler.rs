//! `galley scheduler`: the role that runs the engine's duties.

use clap::Args;
use galley_engine::store::Role;

use crate::cli::{Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;
use crate::telemetry::{LogTo, serve_metrics, start_logging};
use crate::{deployment, stop};

/// Run a scheduler: retries that come due, dead workers, lost queues
///
/// A deployment needs one; several are fine. Needs DATABASE_URL and REDIS_URL.
#[derive(Debug, Args)]
pub(crate) struct Scheduler {
    /// Where /metrics is served; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<String>,
}

impl Run for Scheduler {
    fn flags(&self) -> Flags {
        let metrics = self.metrics_addr.clone();
        metrics.map(|addr| ("metrics.addr", "--metrics-addr", addr)).into_iter().collect()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        start_logging(&settings.config.log, LogTo::Stderr)?;
        let stop = stop::on_signals()?;
        serve_metrics(settings.config.metrics.addr)?;
        let engine = deployment::production_engine(&settings, Role::Engine).await?;
        tracing::info!("the scheduler runs");
        // Every duty can be dropped at any moment: another scheduler, or the
        // next start, does it again.
        tokio::select! {
            () = galley_engine::run_duties(&engine, &stop.soft) => {}
            () = stop.hard.cancelled() => {}
        }
        tracing::info!("the scheduler stopped");
        Ok(())
    }
}
