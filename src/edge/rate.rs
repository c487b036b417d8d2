//! How often somebody may ask: per workspace, and per caller in it.
//!
//! Redis counts for all API servers. While it is away or slow each server
//! counts for itself: a limit is then per server, and nobody waits for Redis.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use galley_core::ids::WorkspaceId;
use galley_engine::queue::{Bucket, Level, MemoryRates, RATE_WINDOW, Rates};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use crate::error::ApiError;

/// How long a request waits for Redis to count it.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long Redis is left alone after it did not answer.
const REST: Duration = Duration::from_secs(1);

/// What every header of ours begins with.
pub const PREFIX: &str = "ratelimit-";

/// How many requests per minute; a minute's may come at once. 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Of all callers of a workspace together.
    pub workspace_per_minute: u32,
    /// Of one caller: a subject of tokens, or a key.
    pub caller_per_minute: u32,
}

impl RateLimits {
    /// None.
    pub const OFF: Self = Self { workspace_per_minute: 0, caller_per_minute: 0 };
}

/// Counts requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: RateLimits,
    shared: Option<Arc<dyn Rates>>,
    local: MemoryRates,
    /// Until when Redis is left alone.
    away: Mutex<Option<Instant>>,
}

/// Where a caller stands with the bucket that is nearest to its limit.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    limit: u32,
    level: Level,
}

impl Standing {
    /// Its headers, as most services write them.
    pub fn headers(&self) -> HeaderMap {
        // Rounded up: at the moment named it is true.
        let seconds = |time: Duration| time.as_millis().div_ceil(1_000).to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ratelimit-limit", format!("{}, {};w={}", self.limit, self.limit, RATE_WINDOW.as_secs())),
            ("ratelimit-remaining", self.level.remaining.to_string()),
            ("ratelimit-reset", seconds(self.level.empty_in)),
        ] {
            // Digits and punctuation.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }

    /// After how many seconds another try is worth it.
    pub fn retry_after(&self) -> u64 {
        u64::try_from(self.level.retry_in.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
    }
}

impl Gate {
    /// Counts under these limits; for all servers where `shared` is there.
    pub fn new(limits: RateLimits, shared: Option<Arc<dyn Rates>>) -> Self {
        let (local, away) = (MemoryRates::default(), Mutex::default());
        Self { inner: Arc::new(Inner { limits, shared, local, away }) }
    }

    /// Counts a request of somebody in a workspace; where they stand, if there
    /// are limits.
    ///
    /// # Errors
    /// They, or their workspace, asked too often.
    pub async fn pass(&self, workspace: WorkspaceId, subject: &str) -> Result<Option<Standing>, ApiError> {
        match self.count(workspace, subject).await {
            Some(standing) if !standing.level.retry_in.is_zero() => {
                metrics::counter!("galley_http_rate_limited_total").increment(1);
                Err(ApiError::rate_limited(standing))
            }
            standing => Ok(standing),
        }
    }

    async fn count(&self, workspace: WorkspaceId, subject: &str) -> Option<Standing> {
        let RateLimits { workspace_per_minute, caller_per_minute } = self.inner.limits;
        let mut buckets = Vec::with_capacity(2);
        if workspace_per_minute > 0 {
            buckets.push(Bucket { name: "all".into(), per_minute: workspace_per_minute });
        }
        if caller_per_minute > 0 {
            // A subject may be any text, and long.
            let name = hex::encode(&Sha256::digest(subject)[..12]);
            buckets.push(Bucket { name, per_minute: caller_per_minute });
        }
        if buckets.is_empty() {
            return None;
        }
        let levels = match self.shared(workspace, &buckets).await {
            Some(levels) => levels,
            None => self.inner.local.take_now(workspace, &buckets),
        };
        let standings = buckets.iter().zip(levels);
        let standings = standings.map(|(bucket, level)| Standing { limit: bucket.per_minute, level });
        // The one to wait longest for; else the one with the least left.
        standings.max_by_key(|at| (at.level.retry_in, std::cmp::Reverse(at.level.remaining)))
    }

    /// What Redis says, if it does so soon.
    async fn shared(&self, workspace: WorkspaceId, buckets: &[Bucket]) -> Option<Vec<Level>> {
        let shared = self.inner.shared.as_ref()?;
        if self.away().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let why = match timeout(PATIENCE, shared.take(workspace, buckets)).await {
            Ok(Ok(levels)) => {
                self.set_away(None);
                return Some(levels);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if self.away().is_none() {
            tracing::warn!(why, "Redis counts no requests; this server counts for itself");
        }
        self.set_away(Some(Instant::now() + REST));
        None
    }

    fn away(&self) -> Option<Instant> {
        *self.inner.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_away(&self, until: Option<Instant>) {
        *self.inner.away.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use galley_engine::queue::QueueError;
    use uuid::Uuid;

    use super::*;

    /// A Redis that takes the connection and says nothing.
    #[derive(Debug, Default)]
    struct Hung {
        asked: std::sync::atomic::AtomicU32,
    }

    #[async_trait]
    impl Rates for Hung {
        async fn take(&self, _: WorkspaceId, _: &[Bucket]) -> Result<Vec<Level>, QueueError> {
            self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::pending().await
        }
    }

    const HOUSE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));

    #[tokio::test]
    async fn a_hung_redis_costs_a_moment_and_the_limits_hold_without_it() {
        let hung = Arc::new(Hung::default());
        let limits = RateLimits { workspace_per_minute: 5, caller_per_minute: 3 };
        let gate = Gate::new(limits, Some(hung.clone()));
        let mut took = Vec::new();
        for subject in ["ada", "ada", "ada", "ada", "bob", "bob", "bob"] {
            took.push(gate.count(HOUSE, subject).await.unwrap().level.retry_in.is_zero());
        }
        // Three of hers, then two until the workspace has its five.
        assert_eq!(took, [true, true, true, false, true, true, false]);
        assert_eq!(hung.asked.load(std::sync::atomic::Ordering::Relaxed), 1);
        // It is tried again when its rest is over.
        gate.set_away(Some(Instant::now()));
        gate.count(HOUSE, "eve").await.unwrap();
        assert_eq!(hung.asked.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_caller_is_told_of_the_bucket_that_is_nearest_to_its_limit() {
        let gate = Gate::new(RateLimits { workspace_per_minute: 60, caller_per_minute: 3 }, None);
        let standing = gate.count(HOUSE, "ada").await.unwrap();
        let headers = standing.headers();
        assert_eq!(headers["ratelimit-limit"], "3, 3;w=60");
        assert_eq!(headers["ratelimit-remaining"], "2");
        assert_eq!(headers["ratelimit-reset"], "20");
        for _ in 0..2 {
            gate.count(HOUSE, "ada").await.unwrap();
        }
        let refused = gate.count(HOUSE, "ada").await.unwrap();
        assert!((1..=20).contains(&refused.retry_after()), "{}", refused.retry_after());
        assert!(Gate::new(RateLimits::OFF, None).count(HOUSE, "ada").await.is_none());
    }
}
