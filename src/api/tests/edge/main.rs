//! The edge without its stores: what a request meets before the engine does.
//! Flows through Postgres are tested with the binary.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod access;
mod api;
mod description;
mod keys;
mod problems;
