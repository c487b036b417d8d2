//! What the pure core promises, checked from outside: every state and every
//! event, every order in which they can meet in small worlds, random ones in
//! larger worlds, and the bytes it wrote long ago.
//!
//! Nothing here waits, draws unseeded chance or looks at a clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conditions;
mod definitions;
mod diagram;
mod exploration;
mod explorer;
mod ghost;
mod laws;
mod posts;
mod random;
mod results;
mod rework;
mod samples;
mod shapes;
mod table;
mod words;
mod world;
