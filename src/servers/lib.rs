//! Private PostgreSQL and Redis servers for `galley dev`, `galley bench` and
//! the tests.
//!
//! Why this room exists: a person who cloned Galley wants it to run now,
//! without setting up two servers, and a test wants servers that it may crash.
//! Both get real servers of their own, on loopback and on a free port, from
//! the binaries that are installed on the machine.
//!
//! What it promises:
//! - a server ends with the process that started it, even when that process is
//!   killed (see `process`), and what was left behind all the same is stopped
//!   by the next start in the same folder;
//! - it runs as root and as an ordinary user (see `account`);
//! - a terminal's Ctrl-C does not reach the servers: Galley drains first.
//!
//! What it must never do: touch a server that was not started from the very
//! folder it was given, listen on anything but 127.0.0.1, speak SQL, or be used
//! in production (where servers are given by their URLs).

mod account;
mod error;
mod folder;
mod port;
mod postgres;
mod process;
mod programs;
mod redis;

pub use error::ServerError;
pub use postgres::{PrivatePostgres, Speed};
pub use redis::PrivateRedis;
