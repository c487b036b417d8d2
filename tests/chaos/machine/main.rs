//! Store and queue as a state machine: random operations of accept, claim,
//! complete, fail, reap, cancel, repair, lost pushes and lost memory, on a real
//! Postgres and a real Redis, each compared with a model that knows nothing of
//! their code. A sequence that breaks a promise is shrunk to the operations
//! that are needed for it; what is left in the database afterwards is judged
//! by the same checker as a fault run.
//!
//! What must never happen here: an expectation that is read from what is
//! tested.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod case;
mod model;
mod ops;
mod planted;
mod queue;
mod score;
mod servers;
mod shrink;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use ops::{Op, op};
use score::Score;
use servers::Servers;
use shrink::{Failure, shrink};

/// Operations that have to be compared, whatever the machine.
const LEAST: u64 = 20_000;

/// Sequences at once, each on a database of its own; and runs that shrink one
/// that failed. Less of both for a planted bug, which nobody has to understand.
fn lanes_and_shrinks() -> (usize, u32) {
    if std::env::var(galley_probe::PLANTED).is_ok() { (1, 10) } else { (2, 400) }
}

/// An operation moves one step, one ticket or one workflow: a batch of eight
/// completions is eight.
#[test]
fn random_operations_do_what_the_model_says() {
    let (began, score, failed) = (Instant::now(), Score::default(), AtomicBool::new(false));
    let broken: Vec<String> = thread::scope(|scope| {
        let (lanes, _) = lanes_and_shrinks();
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(|| explore(&score, &failed))).collect();
        lanes.into_iter().filter_map(|lane| lane.join().unwrap().err()).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{} operations in {seconds:.1} s: {}", score.operations(), score.told());
    assert_eq!(score.missing(), Vec::<&str>::new(), "never happened");
}

/// A column that was renamed is noticed here, and not at the end of a fault run.
#[test]
fn the_dump_fits_the_schema() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let servers = Servers::start().await;
        assert_eq!(servers.missing_columns().await, Vec::<String>::new());
        servers.stop().await;
    });
}

/// Compares sequences until there were enough operations, or a sequence failed
/// here or in another lane; answers with what broke and the fewest operations
/// that break it.
fn explore(score: &Score, failed: &AtomicBool) -> Result<(), String> {
    let runtime = Runtime::new().unwrap();
    let servers = runtime.block_on(Servers::start());
    let fails = |ops: &[Op]| {
        let run = || runtime.block_on(case::run(&servers, ops, score));
        let panicked = |_| Err(Failure { at: None, why: "a panic, told above".into() });
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked)
    };
    let mut runner = TestRunner::new(Config::default());
    let mut found = Ok(());
    while found.is_ok() && score.operations() < LEAST && !failed.load(Ordering::Relaxed) {
        let ops: Vec<Op> = vec(op(), 40..160).new_tree(&mut runner).unwrap().current();
        if let Err(failure) = fails(&ops) {
            failed.store(true, Ordering::Relaxed);
            let broken = shrink(ops, failure, lanes_and_shrinks().1, |ops| fails(ops).err());
            let ops: Vec<_> = broken.ops.iter().map(|op| format!("    {op:?}")).collect();
            found = Err(format!("{}\nafter these operations:\n{}", broken.why, ops.join("\n")));
        }
    }
    runtime.block_on(servers.stop());
    found
}
