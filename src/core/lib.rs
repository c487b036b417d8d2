//! The words of Galley as types, and every decision as a pure function.
//!
//! This room never does I/O, never awaits, never reads a clock and never draws
//! a random number: time and chance come in as arguments. That is what lets
//! the tests explore it exhaustively and replay any bug from its inputs.

pub mod agent;
pub mod automation;
pub mod chain;
pub mod choice;
pub mod collaboration;
pub mod condition;
pub mod decide;
pub mod definition;
pub mod figures;
pub mod hash;
pub mod ids;
pub mod input;
pub mod message;
pub mod money;
pub mod plan;
pub mod publish;
pub mod report;
pub mod retry;
pub mod review;
pub mod run;
pub mod schedule;
pub mod slot;
pub mod template;
pub mod ticket;
