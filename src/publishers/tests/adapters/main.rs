//! What every adapter must hold, and what only one does. A new adapter is a
//! file with its [`suite::Case`]s and one line below.
#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod faults;
mod preview;
mod registry;
mod suite;
mod webhook;
