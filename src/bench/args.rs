//! What can be asked of the bench.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// Measure this machine. Starts private servers unless DATABASE_URL and
/// REDIS_URL are set; whatever is in those is kept, so use empty ones.
#[derive(Args, Debug, Clone)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub scenario: Scenario,
    /// One JSON object instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    /// Worker processes.
    #[arg(long, global = true, default_value_t = 1)]
    pub workers: usize,
    /// Steps each worker process runs at once.
    #[arg(long, global = true, default_value_t = 1024)]
    pub concurrency: usize,
    /// Bytes of JSON each workflow brings and each step returns.
    #[arg(long, global = true, default_value_t = 300)]
    pub payload: usize,
    /// Kill a worker process this often, for example `2s`.
    #[arg(long, global = true, value_parser = duration)]
    pub kill_every: Option<Duration>,
    /// Empty Redis this often, for example `3s`.
    #[arg(long, global = true, value_parser = duration)]
    pub flush_every: Option<Duration>,
    /// Give up after this long.
    #[arg(long, global = true, value_parser = duration, default_value = "30m")]
    pub give_up_after: Duration,
    /// An empty database to use instead of a private server.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// An empty Redis to use instead of a private server.
    #[arg(long, global = true, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
}

/// What to measure.
#[derive(Subcommand, Debug, Clone)]
pub enum Scenario {
    /// Chains of steps, from the first submit to the last recorded result.
    Chain {
        /// Workflows.
        #[arg(long, default_value_t = 20_000)]
        workflows: usize,
        /// Steps per workflow.
        #[arg(long, default_value_t = 5)]
        steps: usize,
    },
    /// One workflow of five steps at a time on an idle system.
    Latency {
        /// Workflows.
        #[arg(long, default_value_t = 200)]
        samples: usize,
    },
    /// Workflows of a single step.
    Drain {
        /// Workflows.
        #[arg(long, default_value_t = 100_000)]
        workflows: usize,
    },
    /// Workflows of many parallel steps and a join.
    Wide {
        /// Workflows.
        #[arg(long, default_value_t = 50)]
        workflows: usize,
        /// Parallel steps per workflow.
        #[arg(long, default_value_t = 1_000)]
        width: usize,
    },
    /// Chains again, while many steps of another agent type wait.
    Backlog {
        /// Steps that wait.
        #[arg(long, default_value_t = 1_000_000)]
        queued: usize,
        /// Workflows.
        #[arg(long, default_value_t = 20_000)]
        workflows: usize,
        /// Steps per workflow.
        #[arg(long, default_value_t = 5)]
        steps: usize,
    },
    /// How long it takes to go on after a flush of Redis and after a killed worker.
    Recovery {
        /// Steps that are queued when Redis is emptied.
        #[arg(long, default_value_t = 100_000)]
        queued: usize,
        /// Worker processes that are killed, one after the other.
        #[arg(long, default_value_t = 10)]
        kills: usize,
        /// Steps that run in a worker when it is killed.
        #[arg(long, default_value_t = 50)]
        running: usize,
    },
    /// Agent calls under way in one worker process: memory, heartbeats, and the bill against the provider's own.
    Calls {
        /// Calls at once.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        calls: u32,
        /// How long each of them takes.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
        /// No answer ends before all calls are under way: each takes its time, or as long as that takes.
        #[arg(long)]
        gather: bool,
        /// One connection per call, over HTTP/1.1, instead of many over HTTP/2.
        #[arg(long)]
        http1: bool,
    },
    /// How fast the choice of a model finds the best one, before and after that degrades; needs no servers.
    Choice {
        /// Independent trials.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
        seeds: u8,
        /// Steps of each, before and after.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=100_000))]
        steps: u32,
    },
}

/// A worker process of the bench; started by the bench itself.
#[derive(Args, Debug, Clone)]
pub struct BenchWorkerArgs {
    /// The database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// The Redis.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: String,
    /// Steps to run at once.
    #[arg(long)]
    pub concurrency: usize,
    /// Bytes of JSON each step returns.
    #[arg(long)]
    pub payload: usize,
    /// Where to write what ran.
    #[arg(long)]
    pub ledger: PathBuf,
    /// The folder of the marks that steps leave which got stuck.
    #[arg(long)]
    pub marks: PathBuf,
    /// The provider that calls go to.
    #[arg(long)]
    pub provider: Option<String>,
    /// It speaks HTTP/1.1.
    #[arg(long)]
    pub provider_http1: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no duration: 500ms, 2s, 5m"))?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        _ => return Err(format!("`{unit}` is no unit: ms, s, m")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
