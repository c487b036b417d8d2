//! The preview network as its clients, its testers and whoever looks at its
//! pages meet it: over HTTP, on a real port.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod accounts;
mod bad_input;
mod bed;
mod data_file;
mod faults;
mod ledger;
mod pages;
mod publish;
mod waiting;
