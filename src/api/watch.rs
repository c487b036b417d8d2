//! Tells event streams that their workflow changed: one query for all watched
//! workflows of the process, however many watch.
//!
//! It begins with the first watcher and ends with the last. It only says *that*
//! something changed; a watcher loads the workflow itself, so a change that is
//! told late or twice costs latency and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galley_core::ids::WorkflowKey;
use galley_engine::{Backoff, Engine};
use tokio::sync::watch;

/// How often the change numbers are asked for.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Most workflows asked for in one query.
const PAGE: usize = 5_000;

/// The watched workflows of this process.
#[derive(Clone)]
pub(crate) struct Hub {
    engine: Engine,
    watched: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    workflows: HashMap<WorkflowKey, watch::Sender<u64>>,
    /// Whether the polling task lives.
    polling: bool,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, watched: Arc::default() }
    }

    /// Watches a workflow until the receiver is dropped. Load the workflow
    /// after this call: then no change falls between.
    pub(crate) fn watch(&self, key: WorkflowKey) -> watch::Receiver<u64> {
        let mut watched = self.lock();
        let receiver = watched.workflows.entry(key).or_insert_with(|| watch::channel(0).0).subscribe();
        if !watched.polling {
            watched.polling = true;
            tokio::spawn(self.clone().poll());
        }
        receiver
    }

    async fn poll(self) {
        let mut backoff = Backoff::patient();
        let mut away = false;
        while let Some(keys) = self.still_watched() {
            match self.poll_once(&keys).await {
                Ok(()) => {
                    (backoff, away) = (Backoff::patient(), false);
                    tokio::time::sleep(POLL_EVERY).await;
                }
                Err(error) => {
                    if !away {
                        tracing::warn!(%error, "event streams wait for the database");
                    }
                    away = true;
                    backoff.wait().await;
                }
            }
        }
    }

    async fn poll_once(&self, keys: &[WorkflowKey]) -> Result<(), galley_engine::EngineError> {
        for page in keys.chunks(PAGE) {
            let numbers = self.engine.change_numbers(page).await?;
            let watched = self.lock();
            for (key, seq) in numbers {
                if let Some(sender) = watched.workflows.get(&key) {
                    sender.send_if_modified(|known| std::mem::replace(known, seq) != seq);
                }
            }
        }
        Ok(())
    }

    /// The workflows somebody watches; `None`, and the end of polling, when
    /// nobody watches any.
    fn still_watched(&self) -> Option<Vec<WorkflowKey>> {
        let mut watched = self.lock();
        watched.workflows.retain(|_, sender| sender.receiver_count() > 0);
        if watched.workflows.is_empty() {
            watched.polling = false;
            return None;
        }
        Some(watched.workflows.keys().copied().collect())
    }

    /// Nothing of ours panics while it holds the lock half-changed.
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
