//! The harness' own commands: `run`, `check`, `planted`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::check::{Violation, check};
use crate::demands;
use crate::history::History;
use crate::nemesis::Fault;
use crate::report;
use crate::run::{self, Order};

/// Breaks a fleet of Galley for minutes, and decides whether the promise held
#[derive(Debug, Parser)]
#[command(name = "galley-chaos", subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Every other command is Galley's own: `galley-chaos worker` is `galley worker`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a fleet under faults and decide
    Run(Run),
    /// Decide again on the history of an earlier run
    Check {
        /// The history
        file: PathBuf,
    },
    /// Run with one planted bug after the other: each must be caught
    Planted(Planted),
}

#[derive(Debug, Args)]
struct Run {
    /// What everything random is drawn from; another one each time when absent
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are injected
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Only these faults, separated by commas; all when absent
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    faults: Vec<Fault>,
    /// The run also fails when a fault or a rescue path was never seen
    #[arg(long)]
    demanding: bool,
    /// Where the history goes; it is kept in any case when a promise broke
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Planted {
    /// Only this bug
    #[arg(long)]
    only: Option<String>,
    /// How long each runs
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// See `run`
    #[arg(long)]
    seed: Option<u64>,
}

fn fault(text: &str) -> Result<Fault, String> {
    Fault::named(text).ok_or_else(|| {
        let all: Vec<_> = Fault::ALL.iter().map(|fault| fault.word()).collect();
        format!("there are: {}", all.join(", "))
    })
}

/// Whether a command is the harness' own.
pub fn is_ours(command: &str) -> bool {
    matches!(command, "" | "run" | "check" | "planted" | "help" | "--help" | "-h")
}

/// Runs the harness.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The one crypto provider: reqwest is built without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::failed(&error.into()),
    };
    let decided = match cli.command {
        Command::Run(run) => runtime.block_on(Box::pin(one(run))),
        Command::Check { file } => History::read(&file)
            .with_context(|| format!("{} cannot be read", file.display()))
            .map(|history| report::verdict(&history, &check(&history))),
        Command::Planted(planted) => runtime.block_on(Box::pin(all_planted(planted))),
    };
    match decided {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => report::failed(&error),
    }
}

async fn one(run: Run) -> Result<bool> {
    let seed = run.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let all = run.faults.is_empty();
    let order = Order {
        seed,
        minutes: run.minutes,
        faults: if all { Fault::ALL.to_vec() } else { run.faults },
        planted: None,
        mode: "run".into(),
        out: run
            .out
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("galley-chaos-{seed}.jsonl"))),
        needed_faults: if run.demanding { demands::faults() } else { Vec::new() },
        needed_paths: if run.demanding { demands::paths() } else { Vec::new() },
    };
    let done = run::run(&order, report::say).await?;
    report::counts(&done);
    let violations = check(&done.history);
    let held = report::verdict(&done.history, &violations);
    if held && done.moving.is_empty() {
        // Nothing to look into: files of a good run are only asked for.
        if run.out.is_none() {
            let _ = std::fs::remove_file(&order.out);
        }
        let _ = std::fs::remove_dir_all(&done.folder);
    } else {
        report::say(&format!(
            "the history is {}, the logs are in {}",
            order.out.display(),
            done.folder.display()
        ));
    }
    Ok(held)
}

async fn all_planted(planted: Planted) -> Result<bool> {
    let bugs: Vec<String> = galley_probe::Bug::ALL.iter().map(ToString::to_string).collect();
    let chosen: Vec<&String> =
        bugs.iter().filter(|bug| planted.only.as_ref().is_none_or(|only| only == *bug)).collect();
    anyhow::ensure!(!chosen.is_empty(), "there is no such bug; there are: {}", bugs.join(", "));
    let mut escaped = 0;
    for bug in chosen {
        let seed = planted.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
        let order = Order {
            seed,
            minutes: planted.minutes,
            faults: Fault::ALL.to_vec(),
            planted: Some(bug.clone()),
            mode: bug.clone(),
            out: std::env::temp_dir().join(format!("galley-chaos-{bug}-{seed}.jsonl")),
            needed_faults: Vec::new(),
            needed_paths: Vec::new(),
        };
        let done = run::run(&order, |_| {}).await?;
        let violations: Vec<Violation> = check(&done.history);
        escaped += usize::from(violations.is_empty());
        report::planted(bug, seed, &violations);
        let _ = std::fs::remove_dir_all(&done.folder);
        let _ = std::fs::remove_file(&order.out);
    }
    Ok(escaped == 0)
}
