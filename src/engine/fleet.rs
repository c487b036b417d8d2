//! What the deployment knows about agents and workspaces, read again every two
//! seconds: retry policies for accepting, pauses and limits for claiming.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use galley_core::ids::AgentType;
use galley_core::publish::{self, PUBLISHER};
use galley_core::retry::RetryPolicy;
use galley_queue::Controls;
use galley_store::{AgentRow, Store, StoreError, WorkspaceRow};
use tokio::sync::Mutex;

/// How old a reading may be. An operator's pause reaches a claim this late at
/// most, even when Redis forgot it.
const MAX_AGE: Duration = Duration::from_secs(2);

/// One reading.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) agents: HashMap<AgentType, AgentRow>,
    pub(crate) workspaces: Vec<WorkspaceRow>,
    /// Differs whenever a spec differs: part of the key of compiled plans.
    pub(crate) specs_hash: [u8; 32],
}

impl Reading {
    /// Whether nothing an operator set could be violated by popping from a
    /// queue that lost its memory.
    pub(crate) fn is_free(&self, agent: &AgentType) -> bool {
        self.agents.get(agent).is_some_and(|row| {
            let control = &row.control;
            !control.paused && control.max_running.is_none() && control.max_running_per_workspace.is_none()
        })
    }

    pub(crate) fn is_paused(&self, agent: &AgentType) -> bool {
        self.agents.get(agent).is_some_and(|row| row.control.paused)
    }

    /// How an agent type is retried; `None` if nobody registered it. Publish
    /// steps are Galley's own: what a workflow without accounts skips need not
    /// be served by anybody.
    pub(crate) fn retry(&self, agent: &AgentType) -> Option<RetryPolicy> {
        match self.agents.get(agent) {
            Some(row) => Some(row.spec.retry.clone()),
            None if agent.as_str() == PUBLISHER => publish::spec().ok().map(|spec| spec.retry),
            None => None,
        }
    }

    /// The agent types, sorted.
    pub(crate) fn agent_types(&self) -> Vec<AgentType> {
        let mut types: Vec<_> = self.agents.keys().cloned().collect();
        types.sort();
        types
    }

    /// What the queue has to know.
    pub(crate) fn controls(&self) -> Controls {
        let limit = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok());
        let mut agents: Vec<_> = self
            .agents
            .iter()
            .map(|(agent, row)| {
                let control = galley_queue::AgentControl {
                    paused: row.control.paused,
                    max_running: limit(row.control.max_running),
                    max_running_per_workspace: limit(row.control.max_running_per_workspace),
                    version: row.control.version.unsigned_abs(),
                };
                (agent.clone(), control)
            })
            .collect();
        agents.sort_by(|a, b| a.0.cmp(&b.0));
        let weights = self
            .workspaces
            .iter()
            .filter(|workspace| workspace.weight != 1)
            .map(|workspace| (workspace.id, workspace.weight.unsigned_abs()))
            .collect();
        Controls { agents, weights }
    }
}

/// The current reading and when it was taken.
pub(crate) struct Fleet {
    store: Store,
    state: Mutex<(Option<Instant>, Arc<Reading>)>,
}

impl Fleet {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, state: Mutex::new((None, Arc::default())) }
    }

    /// A reading at most two seconds old.
    pub(crate) async fn reading(&self) -> Result<Arc<Reading>, StoreError> {
        self.younger_than(MAX_AGE).await
    }

    /// A reading taken now.
    pub(crate) async fn fresh(&self) -> Result<Arc<Reading>, StoreError> {
        self.younger_than(Duration::ZERO).await
    }

    async fn younger_than(&self, age: Duration) -> Result<Arc<Reading>, StoreError> {
        // Held while reading: one query however many ask.
        let mut state = self.state.lock().await;
        if state.0.is_some_and(|read| read.elapsed() < age) {
            return Ok(Arc::clone(&state.1));
        }
        let agents = self.store.list_agents().await?;
        let workspaces = self.store.list_workspaces().await?;
        let specs: Vec<_> = agents.iter().map(|row| &row.spec).collect();
        let reading = Arc::new(Reading {
            specs_hash: galley_core::hash::of_json(&specs),
            agents: agents.into_iter().map(|row| (row.spec.agent.clone(), row)).collect(),
            workspaces,
        });
        *state = (Some(Instant::now()), Arc::clone(&reading));
        Ok(reading)
    }
}
