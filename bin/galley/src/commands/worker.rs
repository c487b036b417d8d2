//! `galley worker`: the role that runs steps, and `galley worker list`.

use clap::{Args, Subcommand};
use galley_api::views;
use galley_worker::WorkerError;

use crate::cli::{Remote, Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell, painted, state};
use crate::telemetry::{LogTo, serve_metrics, start_logging};
use crate::{deployment, print, stop, time};

/// Run a worker, or list the workers of the fleet
///
/// A worker serves agent types: it takes their steps from Redis, runs them,
/// and writes the results to PostgreSQL. Start as many as you like, on any
/// number of machines. Needs DATABASE_URL and REDIS_URL.
///
/// The first Ctrl-C (or SIGTERM) finishes the steps that run; the second gives
/// them back to the queue and stops at once.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  galley worker                                             all agent types
  galley worker --agents content_creator --concurrency 32   one type, 32 steps at once
  galley worker list                                        who works in the fleet"
)]
pub(crate) struct Worker {
    #[command(subcommand)]
    command: Option<WorkerCommand>,
    /// The agent types to serve, separated by commas; all when absent
    #[arg(long, value_name = "A,B")]
    agents: Option<String>,
    /// Steps to run at once
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
    /// A folder of agent definitions that add to the built-in ones or replace them
    #[arg(long, value_name = "FOLDER")]
    agents_dir: Option<String>,
    /// What `galley worker list` calls it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where /metrics is served; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<String>,
}

#[derive(Debug, Subcommand)]
enum WorkerCommand {
    /// List the workers: live ones, and those that stopped within the last hour
    List(Remote),
}

impl Run for Worker {
    fn flags(&self) -> Flags {
        if let Some(WorkerCommand::List(remote)) = &self.command {
            return remote.flags();
        }
        let mut flags = Flags::new();
        let given = [
            ("worker.agents", "--agents", &self.agents),
            ("worker.concurrency", "--concurrency", &self.concurrency),
            ("worker.agents_dir", "--agents-dir", &self.agents_dir),
            ("worker.name", "--name", &self.name),
            ("metrics.addr", "--metrics-addr", &self.metrics_addr),
        ];
        for (key, flag, value) in given {
            flags.extend(value.clone().map(|value| (key, flag, value)));
        }
        flags
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        match self.command {
            Some(WorkerCommand::List(remote)) => list(&remote, &settings).await,
            None => work(&settings).await,
        }
    }
}

async fn work(settings: &Settings) -> Result<(), Failure> {
    let config = &settings.config;
    start_logging(&config.log, LogTo::Stderr)?;
    galley_worker::small_pages();
    let stop = stop::on_signals()?;
    let mut registry = deployment::registry(config)?;
    (settings.changes.agents)(&mut registry).map_err(deployment::register)?;
    let options = deployment::worker_options(config)?;
    serve_metrics(config.metrics.addr)?;
    let engine = deployment::production_engine(settings, deployment::worker_role(config)).await?;
    tracing::info!(worker = options.name, concurrency = options.concurrency, "worker {} runs", options.name);
    galley_worker::run(engine.clone(), registry, options, stop).await.map_err(failed)?;
    engine.store().close().await;
    tracing::info!("the worker stopped");
    Ok(())
}

/// A worker that did not start.
pub(crate) fn failed(error: WorkerError) -> Failure {
    match error {
        WorkerError::Engine(error) => error.into(),
        WorkerError::UnknownAgent(..) => Failure::usage("a worker cannot serve an agent it does not have")
            .detail(error)
            .hint("check --agents (or GALLEY_AGENTS), or add the agent's definition with --agents-dir"),
        WorkerError::NoAgents => Failure::usage(error.to_string()),
    }
}

async fn list(remote: &Remote, settings: &Settings) -> Result<(), Failure> {
    let listed = Remote::client(settings)?.list_all(&["v1", "workers"]).await?;
    if remote.json {
        return print::json(&listed);
    }
    let workers: Vec<views::Worker> = listed.items()?;
    if workers.is_empty() {
        print::say("no workers; start one with `galley worker`");
        return Ok(());
    }
    let mut table = Table::new(&[
        "SESSION", "STATE", "~WORKER", "~HOST", ">PID", "RUNNING", "SEEN", "STARTED", "~AGENTS",
    ]);
    for worker in &workers {
        table.row(vec![
            cell(worker.session),
            match &worker.close_reason {
                None if worker.closed_at.is_none() => state("open"),
                reason => painted(reason.as_deref().unwrap_or("closed"), print::style::DIM),
            },
            cell(&worker.name),
            cell(&worker.host),
            cell(worker.pid),
            cell(format!("{} of {}", worker.running, worker.concurrency)),
            cell(time::ago(&worker.renewed_at)),
            cell(time::ago(&worker.started_at)),
            cell(worker.agents.join(",")),
        ]);
    }
    print::data(&table.render(print::data_width()))?;
    if workers.iter().all(|worker| worker.closed_at.is_some()) {
        print::say("no worker is live; start one with `galley worker`");
    }
    Ok(())
}
