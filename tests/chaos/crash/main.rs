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
//! Arguments choose cases: those whose `point hit how` contains one of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "this is the test runner")]

mod bed;
mod cases;
mod child;
mod end;
mod fleet;
mod scenes;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use futures::{FutureExt, StreamExt, stream};
use galley_probe::{ARMED, Point};

use crate::bed::Servers;
use crate::child::How;

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
    assert!(ARMED, "the crash matrix needs probes that are armed");
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(role) = child::role() {
        return runtime.block_on(child::run(role));
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut cases = matrix();
    cases.retain(|case| wanted.is_empty() || wanted.iter().any(|part| case.to_string().contains(part)));
    if runtime.block_on(run(cases)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs cases, several at once: most of a case's time is waiting.
async fn run(cases: Vec<Case>) -> bool {
    let begun = Instant::now();
    let servers = Arc::new(Servers::start().await);
    let at_once = 3 * std::thread::available_parallelism().map_or(2, usize::from);
    let count = cases.len();
    println!("\nrunning {count} cases, {at_once} at once");
    let outcomes = stream::iter(cases).map(|case| {
        let servers = Arc::clone(&servers);
        async move {
            let begun = Instant::now();
            // A failing case must not take its neighbours along.
            let ended = AssertUnwindSafe(cases::run(servers, case)).catch_unwind().await;
            let took = begun.elapsed().as_secs_f64();
            let word = if ended.is_ok() { "ok" } else { "FAILED" };
            println!("case {case} ... {word} ({took:.1} s)");
            (case, ended.is_ok())
        }
    });
    let outcomes: Vec<_> = outcomes.buffer_unordered(at_once).collect().await;
    servers.stop().await;
    let failed: Vec<_> = outcomes.iter().filter(|(_, ok)| !ok).map(|(case, _)| case.to_string()).collect();
    let took = begun.elapsed().as_secs_f64();
    println!("\n{} of {count} cases held, {took:.0} s", count - failed.len());
    failed.iter().for_each(|case| println!("  failed: {case}"));
    failed.is_empty()
}
