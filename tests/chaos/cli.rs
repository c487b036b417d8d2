//! The harness' own commands: `run`, `check`, `planted`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use galley_probe::Bug;

use crate::check::check;
use crate::demands;
use crate::history::History;
use crate::nemesis::Fault;
use crate::report;
use crate::run::{self, Done, Order};

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
    /// Run with one planted bug after the other: each must be caught, by the
    /// invariant it attacks
    Planted(Planted),
}

#[derive(Debug, Args)]
struct Run {
    /// What everything random is drawn from; another one each time when absent
    #[arg(long)]
    seed: Option<u64>,
    /// One run after the other, each of another seed, and a table in the end
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["seed", "out"])]
    seeds: Vec<u64>,
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
    /// Only these bugs, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = bug)]
    only: Vec<Bug>,
    /// How long each runs; on a busy machine less than a minute is too short
    #[arg(long, default_value_t = 1.5)]
    minutes: f64,
    /// How often each may run, with another seed each time, until it is caught
    #[arg(long, default_value_t = 2)]
    tries: u32,
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

fn bug(text: &str) -> Result<Bug, String> {
    Bug::named(text).ok_or_else(|| {
        let all: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
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
        Command::Run(run) if run.seeds.is_empty() => runtime.block_on(Box::pin(one(run))),
        Command::Run(run) => runtime.block_on(Box::pin(series(run))),
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

fn order(run: &Run, seed: u64) -> Order {
    let place = || std::env::temp_dir().join(format!("galley-chaos-{seed}.jsonl"));
    Order {
        seed,
        minutes: run.minutes,
        faults: if run.faults.is_empty() { Fault::ALL.to_vec() } else { run.faults.clone() },
        planted: None,
        mode: "run".into(),
        out: run.out.clone().unwrap_or_else(place),
        needed_faults: if run.demanding { demands::faults() } else { Vec::new() },
        needed_paths: if run.demanding { demands::paths() } else { Vec::new() },
        needed_sums: if run.demanding { demands::sums(run.minutes) } else { Vec::new() },
    }
}

async fn one(run: Run) -> Result<bool> {
    let order = order(&run, run.seed.unwrap_or_else(|| rand::random_range(1..1_000_000)));
    let done = run::run(&order, report::say).await?;
    report::counts(&done);
    let violations = check(&done.history);
    let held = report::verdict(&done.history, &violations);
    keep_or_forget(&order, &done, held, run.out.is_some());
    Ok(held)
}

/// Files of a good run are only kept when somebody asked for them. The verdict
/// stays the last line of a run that held.
fn keep_or_forget(order: &Order, done: &Done, held: bool, wanted: bool) {
    if held && done.moving.is_empty() {
        if !wanted {
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
}

async fn series(run: Run) -> Result<bool> {
    let mut series = report::Series::default();
    for seed in &run.seeds {
        let order = order(&run, *seed);
        let done = run::run(&order, |_| {}).await?;
        let violations = check(&done.history);
        let held = series.add(&done, &violations);
        keep_or_forget(&order, &done, held, false);
    }
    Ok(series.verdict())
}

/// One run with a planted bug; whether it was caught.
async fn one_planted(bug: Bug, planted: &Planted) -> Result<bool> {
    let seed = planted.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let order = Order {
        seed,
        minutes: planted.minutes,
        faults: Fault::ALL.to_vec(),
        planted: Some(bug.to_string()),
        mode: bug.to_string(),
        out: std::env::temp_dir().join(format!("galley-chaos-{bug}-{seed}.jsonl")),
        needed_faults: Vec::new(),
        needed_paths: Vec::new(),
        needed_sums: Vec::new(),
    };
    let done = run::run(&order, |_| {}).await?;
    let caught = report::planted(bug, seed, &check(&done.history));
    if caught {
        let _ = std::fs::remove_dir_all(&done.folder);
        let _ = std::fs::remove_file(&order.out);
    } else {
        report::say(&format!("         the history is {}", order.out.display()));
    }
    Ok(caught)
}

async fn all_planted(planted: Planted) -> Result<bool> {
    let chosen = if planted.only.is_empty() { Bug::ALL.to_vec() } else { planted.only.clone() };
    let mut escaped = 0;
    for bug in &chosen {
        let mut caught = false;
        for _ in 0..planted.tries.max(1) {
            caught = one_planted(*bug, &planted).await?;
            if caught {
                break;
            }
        }
        escaped += usize::from(!caught);
    }
    report::say(&format!(
        "VERDICT: {} of {} planted bugs caught, each by the promise it breaks, or held by the wall behind it",
        chosen.len() - escaped,
        chosen.len()
    ));
    Ok(escaped == 0)
}
