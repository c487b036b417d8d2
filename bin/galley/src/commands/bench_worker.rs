//! `galley bench-worker`: a worker process of `galley bench`, started by it.

use clap::Args;
use galley_bench::BenchWorkerArgs;

use crate::cli::{Run, Settings};
use crate::failure::Failure;
use crate::stop;
use crate::telemetry::{LogTo, start_logging};

/// A worker process of `galley bench`; started by it
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct BenchWorker {
    #[command(flatten)]
    args: BenchWorkerArgs,
}

impl Run for BenchWorker {
    async fn run(self, settings: Settings) -> Result<(), Failure> {
        start_logging(&settings.config.log, LogTo::Stderr)?;
        galley_worker::small_pages();
        let stop = stop::on_signals()?;
        galley_bench::run_worker(self.args, stop)
            .await
            .map_err(|error| Failure::unexpected("a bench worker ended").detail(format!("{error:#}")))
    }
}
