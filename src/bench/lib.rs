//! `galley bench`: what this machine does with the real thing.
//!
//! Every figure comes from the real accept path, durable claims, fsync and
//! `synchronous_commit` on, worker processes of their own; and is shown beside
//! a floor measured in the same run. What ran is taken from a ledger the
//! benched agent writes to files, not from Postgres' own keys.
//!
//! This room must never take a short cut that production does not take.

mod agent;
mod args;
mod calls;
mod choice;
mod fleet;
mod floor;
mod ledger;
mod provider;
mod recovery;
mod report;
mod scenario;
mod usage;

pub use args::{BenchArgs, BenchWorkerArgs};
pub use fleet::run_worker;
pub use report::BenchReport;
pub use scenario::run;
