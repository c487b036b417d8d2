//! Tests of the dispatch queue: one conformance suite for the real queue and
//! its twin, a random comparison of the two, and the faults only a server has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod faults;
mod garbage;
mod random;
mod rates;
mod server;
mod tickets;
