//! `galley-chaos`: a whole fleet under every fault we know, and the decision
//! whether the promise held: nothing lost, nothing twice, nothing over budget,
//! nothing unapproved.
//!
//! The runner breaks things and writes down what it saw; the checker is a
//! function over that history alone, so that a failing run can be decided
//! again, offline. Neither may know how Galley keeps its promise.

pub mod agents;
pub mod bills;
pub mod chains;
pub mod check;
pub mod cli;
pub mod demands;
pub mod fleet;
pub mod history;
pub mod nemesis;
pub mod outside;
pub mod planted;
pub mod prelude;
pub mod proxy;
pub mod report;
pub mod rest;
pub mod run;
pub mod servers;
pub mod workload;
pub mod world;
