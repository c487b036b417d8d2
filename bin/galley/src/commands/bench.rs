//! `galley bench`: what this machine does with the real thing.

use clap::Args;
use galley_bench::BenchArgs;

use crate::cli::{Run, Settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print;
use crate::telemetry::{LogTo, start_logging};

/// Measure this machine: steps per second, latency, and what faults cost
///
/// Starts private servers unless told otherwise. Durable claims, fsync and
/// synchronous_commit are on, workers are processes of their own, and what
/// really ran is counted outside the database.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley bench chain                      20,000 workflows of 5 steps
  galley bench chain --kill-every 2s --flush-every 3s
  galley bench latency --samples 200 --json
  galley bench calls --calls 10000        agent calls under way at once in one worker
  galley bench choice                     how fast the best model is found; no servers")]
pub(crate) struct Bench {
    #[command(flatten)]
    args: BenchArgs,
}

impl Run for Bench {
    async fn run(self, settings: Settings) -> Result<(), Failure> {
        start_logging(&settings.config.log, LogTo::Stderr)?;
        let report = galley_bench::run(&self.args)
            .await
            .map_err(|error| Failure::unexpected("the bench did not finish").detail(format!("{error:#}")))?;
        if self.args.json {
            print::json(&report)?;
        } else {
            print::data(&report.to_string())?;
        }
        if report.is_sound() { Ok(()) } else { Err(Failure::silent(Exit::Refused)) }
    }
}
