//! Rate limits on Redis: one script call per request, by Redis' clock.

use std::fmt;
use std::time::Duration;

use ::redis::Client;
use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use async_trait::async_trait;
use galley_core::ids::WorkspaceId;

use super::{RedisConfig, failed, scripts};
use crate::dispatch::QueueError;
use crate::rates::{Bucket, Level, Rates, drop_of, level, room_of};
use crate::wire;

/// Buckets in Redis, shared by all API servers. Connects on first use.
pub struct RedisRates {
    connection: ConnectionManager,
    prefix: String,
}

impl fmt::Debug for RedisRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRates").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisRates {
    /// Buckets at this address. Needs a running tokio.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(config: RedisConfig) -> Result<Self, QueueError> {
        let RedisConfig { url, prefix, patience } = config;
        let address = |error: ::redis::RedisError| QueueError::Address(error.to_string());
        let client = Client::open(url).map_err(address)?;
        let settings = ConnectionManagerConfig::new()
            .set_response_timeout(Some(patience))
            .set_connection_timeout(Some(patience))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(200));
        let connection = ConnectionManager::new_lazy_with_config(client, settings).map_err(address)?;
        Ok(Self { connection, prefix })
    }
}

#[async_trait]
impl Rates for RedisRates {
    async fn take(&self, workspace: WorkspaceId, buckets: &[Bucket]) -> Result<Vec<Level>, QueueError> {
        let doing = "count a request";
        let mut call = scripts::rate().prepare_invoke();
        // One hash tag: a workspace's buckets live in one cluster slot.
        let base = format!("{}:rate:{{{}}}", self.prefix, wire::workspace_text(workspace));
        for bucket in buckets {
            call.key(format!("{base}:{}", bucket.name)).arg(drop_of(bucket)).arg(room_of(bucket));
        }
        let mut connection = self.connection.clone();
        let (took, full): (bool, Vec<u64>) =
            call.invoke_async(&mut connection).await.map_err(|error| failed(doing, &error))?;
        if full.len() != buckets.len() {
            return Err(QueueError::Unexpected { doing, reason: format!("{} buckets", full.len()) });
        }
        Ok(buckets.iter().zip(full).map(|(bucket, full)| level(bucket, full, took)).collect())
    }
}
