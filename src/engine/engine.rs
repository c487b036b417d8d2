//! The engine's handle: the stores it stands between, and what it remembers.

use std::sync::Arc;
use std::time::Duration;

use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::publish::{SEND_TIMEOUT, SEND_WINDOW};
use galley_core::ticket::Ticket;
use galley_probe::{Point, point};
use galley_queue::{DispatchQueue, Popped, Unbuilt};
use galley_reach::Targets;
use galley_store::Store;
use tokio::sync::mpsc;

use crate::accept::{self, Waiting};
use crate::audit::CheckpointKey;
use crate::budgets::Till;
use crate::cache::Caches;
use crate::coordinate::Lessons;
use crate::error::EngineError;
use crate::fleet::Fleet;
use crate::platforms::Platforms;
use crate::transition::Applied;
use crate::vault::Keyring;

/// How the engine behaves. Every duration is one the protocol names.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// A session whose renewals stop for this long is dead.
    pub session_ttl: Duration,
    /// How often a worker renews its session.
    pub renew_every: Duration,
    /// A ticket that was popped and not claimed returns after this long.
    pub claim_deadline: Duration,
    /// Grace beyond a step's own timeout before it is taken from a live
    /// session.
    pub overdue_grace: Duration,
    /// How often the reaper looks at all running steps although no session
    /// died: for attempts past their time, and for claims that a worker
    /// committed after its session was closed and swept. As often, what is in
    /// flight in Redis is compared with what runs.
    pub look_every: Duration,
    /// Runs read per page by the reconciler and the rebuild.
    pub page: usize,
    /// Runs per second the reconciler looks at, at most.
    pub reconcile_rate: usize,
    /// How old a workspace's policy may be when a step is claimed (the mode
    /// `manual`) or a workflow accepted. An intent to publish never goes by a
    /// remembered one.
    pub policy_memory: Duration,
    /// The times of publishing.
    pub publishing: PublishingTimes,
    /// Wraps the data keys that seal credentials; without it no account can be
    /// added and nothing is published.
    pub keyring: Option<Keyring>,
    /// Signs where the audit's chains end; without it nobody does.
    pub checkpoint_key: Option<CheckpointKey>,
    /// How long whoever tries an account waits for a worker's answer.
    pub check_patience: Duration,
    /// Which addresses workspaces may name for their own providers.
    pub targets: Targets,
    /// The adapters of platforms, where this process has any.
    pub platforms: Option<Arc<dyn Platforms>>,
}

/// The times of publishing.
#[derive(Clone, Copy, Debug)]
pub struct PublishingTimes {
    /// How long after its intent a post may be sent.
    pub window: Duration,
    /// Longest call to a platform; shorter than the window.
    pub timeout: Duration,
    /// How long an unknown post rests before anybody looks: longer than the
    /// window and the longest call together, because a stopped worker may still
    /// send it.
    pub rest: Duration,
}

impl Default for PublishingTimes {
    fn default() -> Self {
        Self {
            window: SEND_WINDOW,
            timeout: SEND_TIMEOUT,
            rest: SEND_WINDOW + SEND_TIMEOUT + Duration::from_secs(2),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            session_ttl: Duration::from_secs(6),
            renew_every: Duration::from_secs(2),
            claim_deadline: Duration::from_secs(5),
            overdue_grace: Duration::from_secs(10),
            look_every: Duration::from_secs(10),
            page: 1_000,
            reconcile_rate: 20_000,
            policy_memory: Duration::from_secs(1),
            publishing: PublishingTimes::default(),
            keyring: None,
            checkpoint_key: None,
            check_patience: Duration::from_secs(15),
            targets: Targets::default(),
            platforms: None,
        }
    }
}

/// The shell around `core`: everything that moves a workflow goes through it.
/// Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    queue: Arc<dyn DispatchQueue>,
    config: EngineConfig,
    caches: Caches,
    lessons: Lessons,
    fleet: Fleet,
    accepts: mpsc::Sender<Waiting>,
    till: Till,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over a database and a queue. Must be called inside a tokio
    /// runtime: accepted workflows are written by a task of its own, in
    /// batches.
    pub fn new(store: Store, queue: Arc<dyn DispatchQueue>, config: EngineConfig) -> Self {
        let (accepts, waiting) = mpsc::channel(4_096);
        let till = Till::new(&store);
        let engine = Self {
            inner: Arc::new(Inner {
                fleet: Fleet::new(store.clone()),
                store,
                queue,
                config,
                caches: Caches::new(),
                lessons: Lessons::default(),
                accepts,
                till,
            }),
        };
        // The task ends when the last sender, this engine, is dropped.
        tokio::spawn(accept::write_batches(engine.store().clone(), waiting));
        engine
    }

    /// How it behaves.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn DispatchQueue> {
        &self.inner.queue
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.inner.caches
    }

    pub(crate) fn lessons(&self) -> &Lessons {
        &self.inner.lessons
    }

    /// The agent types and workspaces of the deployment, as read at most two
    /// seconds ago.
    pub(crate) fn fleet(&self) -> &Fleet {
        &self.inner.fleet
    }

    /// Where calls are reserved and settled.
    pub(crate) fn till(&self) -> &Till {
        &self.inner.till
    }

    pub(crate) fn accepts(&self) -> &mpsc::Sender<Waiting> {
        &self.inner.accepts
    }

    /// Takes tickets for a worker. An agent that is neither paused nor limited
    /// is served even while its queue is being rebuilt.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn pop(&self, agent: &AgentType, max: usize) -> Result<Popped, EngineError> {
        let free = self.fleet().reading().await.is_ok_and(|reading| reading.is_free(agent));
        let unbuilt = if free { Unbuilt::Serve } else { Unbuilt::Refuse };
        let popped = self.queue().pop(agent, max, self.config().claim_deadline, unbuilt).await?;
        if !popped.tickets.is_empty() {
            point(Point::ClaimPopped);
        }
        if popped.garbage > 0 {
            metrics::counter!("galley_queue_garbage_total").increment(popped.garbage);
            tracing::warn!(%agent, garbage = popped.garbage, "dropped undecodable members from queue {agent}");
        }
        Ok(popped)
    }

    /// After the commit: forget tickets that are done, push those that became
    /// runnable, tell workers whose attempts were overtaken. Only latency is at
    /// stake: what fails here, the reconciler does again.
    pub(crate) async fn push(&self, done: &[(AgentType, Ticket)], applied: &Applied) {
        if (!done.is_empty() || !applied.runnable.is_empty())
            && let Err(error) = self.queue().settle(done, &applied.runnable).await
        {
            metrics::counter!("galley_push_failures_total").increment(1);
            tracing::warn!(%error, runnable = applied.runnable.len(), "could not push; the reconciler will");
        }
        if !applied.interrupted.is_empty() {
            let mut keys: Vec<WorkflowKey> = applied.interrupted.clone();
            keys.dedup();
            if let Err(error) = self.queue().announce_cancel(&keys).await {
                tracing::warn!(%error, "could not tell workers to stop; their results will be refused");
            }
        }
        if applied.died > 0 {
            metrics::counter!("galley_steps_died_total").increment(applied.died as u64);
        }
        for (_, state) in &applied.finished {
            metrics::counter!("galley_workflows_finished_total", "state" => state.word()).increment(1);
        }
    }
}
