//! Galley's promises, tested from the outside of the engine: real Postgres,
//! real Redis, a database per test, and the faults that the protocol names.
//!
//! Every test waits on a signal or polls a condition, never on a fixed time,
//! and ends with [`harness::Bed::end`], which accuses whoever left something
//! behind. Without `bin/test` the servers are started here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accept;
mod architecture;
mod audit_chain;
mod budget_edges;
mod budgets;
mod canary;
mod cancel;
mod collaboration;
mod daily_limits;
mod days;
mod doubt;
mod drain;
mod edges;
mod four_eyes;
mod gateway;
mod gateway_money;
mod graphs;
mod hang_up;
mod harness;
mod interleavings;
mod isolation;
mod lost_workers;
mod matrix;
mod messages;
mod outages;
mod paid_posts;
mod policies;
mod prompts;
mod providers;
mod publish_crashes;
mod publish_races;
mod publish_resolve;
mod publishing;
mod queues;
mod retention;
mod retries;
mod schedules;
mod sealed;
mod supply;
mod templates;
mod tls;
mod unknown_commit;
mod unstorable;
mod upgrade;
mod vault;
mod why;
