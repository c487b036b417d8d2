//! The crash matrix: every crash point of `galley-probe`, at its first and
//! second hit, by a kill and by a stop, on real servers with processes that
//! really die.
//!
//! A case starts this very program again as a *child* (a worker, a scheduler
//! or a client), tells it where to end, and proves that it ended exactly
//! there. Then a clean fleet takes over, a client that got no answer asks
//! again, and a stopped child wakes up as a zombie: early, while the others
//! still clean up, or late, when everything is over. At the end everything
//! that was promised is there, once, and nothing is left over.
//!
//! A checker decides: the one of the fault runs, and what the scene itself
//! expects.
//!
//! Arguments choose cases: those whose `point hit how` contains one of them.
//! With `RUST_LOG` set, everybody tells what they do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "this is the test runner")]

mod bed;
mod cases;
mod child;
mod end;
mod fleet;
mod log;
mod scenes;
mod servers;

use std::any::Any;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use futures::{FutureExt, StreamExt, stream};
use galley_probe::{ARMED, Point};
use tracing_subscriber::EnvFilter;

use crate::child::How;
use crate::servers::Servers;

/// Cases at once per core: most of a case's time is waiting.
const PER_CORE: usize = 8;
/// Cases at once, at most: each has ten connections, Postgres takes 200.
const AT_ONCE: usize = 16;

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) point: Point,
    /// Which hit of it, from 1.
    pub(crate) hit: u32,
    pub(crate) how: How,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.point, self.hit, self.how.word())
    }
}

/// All cells; those that wait longest first.
fn matrix() -> Vec<Case> {
    let mut all: Vec<Case> = Point::ALL
        .iter()
        .flat_map(|&point| [1, 2].map(|hit| (point, hit)))
        .flat_map(|(point, hit)| [How::Kill, How::Stop].map(|how| Case { point, hit, how }))
        .collect();
    all.sort_by_key(|case| !cases::waits_long(*case));
    all
}

fn main() -> ExitCode {
    const { assert!(ARMED, "the crash matrix needs probes that are armed") };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(role) = child::role() {
        return runtime.block_on(child::run(role));
    }
    let cases = chosen(std::env::args().skip(1));
    if std::env::args().any(|argument| argument == "--list") {
        cases.iter().for_each(|case| println!("{case}: test"));
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() || runtime.block_on(run(cases)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cases that the arguments of `cargo test` choose.
fn chosen(mut arguments: impl Iterator<Item = String>) -> Vec<Case> {
    let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(arguments.next()),
            // Options of other runners that have a value.
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            _ => wanted.push(argument),
        }
    }
    let mut cases = matrix();
    cases.retain(|case| {
        let name = case.to_string();
        (wanted.is_empty() || wanted.iter().any(|part| name.contains(part)))
            && !skipped.iter().any(|part| name.contains(part))
    });
    cases
}

/// Runs cases, several at once.
async fn run(cases: Vec<Case>) -> bool {
    let begun = Instant::now();
    let mut servers = Servers::start().await;
    let at_once = AT_ONCE.min(PER_CORE * std::thread::available_parallelism().map_or(1, usize::from));
    let count = cases.len();
    let points: HashSet<_> = cases.iter().map(|case| case.point as usize).collect();
    println!("\nrunning {count} cases of {} crash points, {at_once} at once", points.len());
    let outcomes = stream::iter(cases).map(|case| {
        let servers = &servers;
        async move {
            let begun = Instant::now();
            // A failing case must not take its neighbours along.
            let ended = AssertUnwindSafe(cases::run(servers, case)).catch_unwind().await;
            let took = begun.elapsed().as_secs_f64();
            let word = if ended.is_ok() { "ok" } else { "FAILED" };
            println!("case {case} ... {word} ({took:.1} s)");
            ended.err().map(|panic| (case, why(panic.as_ref()).to_owned()))
        }
    });
    let outcomes: Vec<_> = outcomes.buffer_unordered(at_once).collect().await;
    servers.stop().await;
    let failed: Vec<_> = outcomes.into_iter().flatten().collect();
    let took = begun.elapsed().as_secs_f64();
    for (case, why) in &failed {
        println!("\nFAILED at {case}: {why}");
        println!("  alone: cargo test -p galley-chaos --test crash -- '{case}'");
    }
    println!("\n{} of {count} cases held, {took:.0} s", count - failed.len());
    failed.is_empty()
}

/// What a panic said.
fn why(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}
