//! The dispatch queue: which steps wait for a worker of which agent type.
//!
//! This room exists so that starting a step costs one cheap, fair, batched
//! call instead of a scan of Postgres, and so that an idle worker is woken
//! instead of polling. It is the only room that names Redis.
//!
//! **Postgres decides, Redis hints.** All that is kept here can be lost at any
//! moment: tickets are references, the claim checks them against the run, and
//! the reconciler pushes again what is missing. So this room must never hold
//! anything whose loss breaks a promise: no payload, no result, no decision.
//! What operators set (pause, limits, weights) is only mirrored here; after a
//! loss [`DispatchQueue::pop`] refuses until it was mirrored again.
//!
//! - [`dispatch`]: the contract, [`DispatchQueue`], and its words;
//! - [`redis`]: the real queue, its scripts (`scripts/*.lua`), wake-ups;
//! - [`rates`]: how often somebody may ask, in Redis and without it;
//! - [`memory`]: the twin without a server. One conformance suite and one
//!   random comparison (`tests/all`) hold both to the same behaviour.

pub mod dispatch;
pub mod memory;
pub mod rates;
pub mod redis;
mod wire;

pub use self::redis::{RedisConfig, RedisQueue, RedisRates, flush_all, server_info, used_memory};
pub use dispatch::{
    AgentControl, Build, Controls, DispatchQueue, LARGEST_POP, LARGEST_WEIGHT, Popped, QueueDepth,
    QueueError, Unbuilt, Wake,
};
pub use memory::MemoryQueue;
pub use rates::{Bucket, Level, MemoryRates, Rates, WINDOW as RATE_WINDOW};
