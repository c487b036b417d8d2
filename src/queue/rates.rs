//! How often somebody may ask: leaky buckets (GCRA), the same for all API
//! servers while Redis is there.
//!
//! A bucket is one number: the moment at which it would be empty. Losing it
//! forgives what was asked before, and nothing else: so it lives in Redis.
//! [`RedisRates`](crate::RedisRates) keeps it there, by Redis' clock;
//! [`MemoryRates`] is the twin, and what a process falls back to.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use galley_core::ids::WorkspaceId;

use crate::dispatch::QueueError;

/// The time in which a bucket that is full runs empty.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Buckets kept in memory before those that are empty are dropped.
const MOST: usize = 100_000;

/// A bucket to put a request into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Which one of its workspace's.
    pub name: String,
    /// How many requests it takes per minute; a minute's may come at once.
    pub per_minute: u32,
}

/// How full a bucket is after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// How many requests it still takes now.
    pub remaining: u32,
    /// When it is empty, if nobody asks.
    pub empty_in: Duration,
    /// When it takes a request again; zero when it took this one.
    pub retry_in: Duration,
}

/// Takes requests.
#[async_trait]
pub trait Rates: Debug + Send + Sync {
    /// Puts one request into each of a workspace's buckets, or into none when
    /// one of them is full; how full each is, in their order.
    ///
    /// # Errors
    /// Redis is away.
    async fn take(&self, workspace: WorkspaceId, buckets: &[Bucket]) -> Result<Vec<Level>, QueueError>;
}

/// Microseconds that one request fills.
pub(crate) fn drop_of(bucket: &Bucket) -> u64 {
    let window = u64::try_from(WINDOW.as_micros()).unwrap_or(u64::MAX);
    (window / u64::from(bucket.per_minute.max(1))).max(1)
}

/// What a bucket holds at most, microseconds.
pub(crate) fn room_of(bucket: &Bucket) -> u64 {
    drop_of(bucket) * u64::from(bucket.per_minute.max(1))
}

/// A bucket that holds `full` microseconds, as others see it. `took`: the
/// request is in it.
pub(crate) fn level(bucket: &Bucket, full: u64, took: bool) -> Level {
    let (one, room) = (drop_of(bucket), room_of(bucket));
    let over = (full + one).saturating_sub(room);
    Level {
        remaining: u32::try_from(room.saturating_sub(full) / one).unwrap_or(u32::MAX),
        empty_in: Duration::from_micros(full),
        retry_in: if took { Duration::ZERO } else { Duration::from_micros(over) },
    }
}

/// The twin: buckets in this process, by its own clock.
#[derive(Debug)]
pub struct MemoryRates {
    began: Instant,
    /// When each bucket is empty, microseconds since the beginning.
    buckets: Mutex<HashMap<(WorkspaceId, String), u64>>,
}

impl Default for MemoryRates {
    fn default() -> Self {
        Self { began: Instant::now(), buckets: Mutex::default() }
    }
}

impl MemoryRates {
    /// Puts one request into each of a workspace's buckets, or into none.
    pub fn take_now(&self, workspace: WorkspaceId, buckets: &[Bucket]) -> Vec<Level> {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut kept = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() > MOST {
            kept.retain(|_, empty_at| *empty_at > now);
        }
        let full: Vec<u64> = buckets
            .iter()
            .map(|bucket| {
                let empty_at = kept.get(&(workspace, bucket.name.clone()));
                empty_at.map_or(0, |empty_at| empty_at.saturating_sub(now))
            })
            .collect();
        let fits = |(bucket, full): (&Bucket, &u64)| full + drop_of(bucket) <= room_of(bucket);
        let took = buckets.iter().zip(&full).all(fits);
        buckets
            .iter()
            .zip(full)
            .map(|(bucket, full)| {
                let full = if took { full + drop_of(bucket) } else { full };
                if took {
                    kept.insert((workspace, bucket.name.clone()), now + full);
                }
                level(bucket, full, took)
            })
            .collect()
    }
}

#[async_trait]
impl Rates for MemoryRates {
    async fn take(&self, workspace: WorkspaceId, buckets: &[Bucket]) -> Result<Vec<Level>, QueueError> {
        Ok(self.take_now(workspace, buckets))
    }
}
