//! A Redis queue that forgets: writes are lost without a word, and the whole of
//! it at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::ticket::Ticket;
use galley_engine::queue::{
    Build, Controls, DispatchQueue, Popped, QueueDepth, QueueError, RedisConfig, RedisQueue, Unbuilt, Wake,
};

/// The queue of one case.
#[derive(Debug)]
pub(crate) struct Forgetful {
    url: String,
    prefix: String,
    memories: AtomicU32,
    lost: AtomicU32,
    inner: RwLock<Arc<RedisQueue>>,
}

impl Forgetful {
    pub(crate) fn new(url: &str, prefix: String) -> Self {
        let inner = RwLock::new(queue(url, &prefix, 0));
        Self { url: url.into(), prefix, memories: AtomicU32::new(0), lost: AtomicU32::new(0), inner }
    }

    /// Everything is gone.
    pub(crate) fn flush(&self) {
        let memory = self.memories.fetch_add(1, Ordering::Relaxed) + 1;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *inner = queue(&self.url, &self.prefix, memory);
    }

    /// So many of the next writes will be lost.
    pub(crate) fn lose(&self, writes: u32) {
        self.lost.store(writes, Ordering::Relaxed);
    }

    fn inner(&self) -> Arc<RedisQueue> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this write is lost.
    fn loses(&self) -> bool {
        let lost = self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        lost.is_ok()
    }
}

fn queue(url: &str, prefix: &str, memory: u32) -> Arc<RedisQueue> {
    let config = RedisConfig::new(url).with_prefix(format!("{prefix}_{memory}"));
    Arc::new(RedisQueue::new(config).unwrap())
}

#[async_trait]
impl DispatchQueue for Forgetful {
    async fn push(&self, tickets: &[(AgentType, Ticket)]) -> Result<u64, QueueError> {
        if self.loses() { Ok(0) } else { self.inner().push(tickets).await }
    }

    async fn pop(
        &self,
        agent: &AgentType,
        max: usize,
        claim_deadline: Duration,
        unbuilt: Unbuilt,
    ) -> Result<Popped, QueueError> {
        self.inner().pop(agent, max, claim_deadline, unbuilt).await
    }

    async fn claimed(
        &self,
        tickets: &[(AgentType, Ticket)],
        run_deadline: Duration,
    ) -> Result<Vec<Ticket>, QueueError> {
        if self.loses() { Ok(Vec::new()) } else { self.inner().claimed(tickets, run_deadline).await }
    }

    async fn settle(
        &self,
        done: &[(AgentType, Ticket)],
        next: &[(AgentType, Ticket)],
    ) -> Result<u64, QueueError> {
        if self.loses() { Ok(0) } else { self.inner().settle(done, next).await }
    }

    async fn give_back(&self, agent: &AgentType, tickets: &[Ticket]) -> Result<(), QueueError> {
        if self.loses() { Ok(()) } else { self.inner().give_back(agent, tickets).await }
    }

    async fn expire(&self, agent: &AgentType, max: usize) -> Result<u64, QueueError> {
        self.inner().expire(agent, max).await
    }

    async fn in_flight(&self, agent: &AgentType, from: usize, max: usize) -> Result<Vec<Ticket>, QueueError> {
        self.inner().in_flight(agent, from, max).await
    }

    async fn mirror(&self, controls: &Controls) -> Result<(), QueueError> {
        self.inner().mirror(controls).await
    }

    async fn begin_build(&self, agents: &[AgentType]) -> Result<Build, QueueError> {
        self.inner().begin_build(agents).await
    }

    async fn mark_built(&self, build: &Build) -> Result<Vec<AgentType>, QueueError> {
        self.inner().mark_built(build).await
    }

    async fn depths(&self, agents: &[AgentType]) -> Result<Vec<QueueDepth>, QueueError> {
        self.inner().depths(agents).await
    }

    fn wakes(&self, agents: &[AgentType]) -> BoxStream<'static, Wake> {
        self.inner().wakes(agents)
    }

    async fn announce_cancel(&self, workflows: &[WorkflowKey]) -> Result<(), QueueError> {
        self.inner().announce_cancel(workflows).await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.inner().ping().await
    }
}
