//! Memory of what never changes: plans, workflow inputs, step outputs (those in
//! the clear: `crate::vault` opens what is sealed). And one
//! guess: the last run this process wrote, which compare-and-set proves right
//! or wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use galley_core::definition::Definition;
use galley_core::ids::{AgentType, StepIndex, WorkflowKey, WorkspaceId};
use galley_core::plan::Plan;
use galley_core::run::Run;
use galley_store::{KnownModel, Store, StoreError};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::policy::Policy;
use crate::prompts::{OwnPrompt, Templates};
use crate::providers::OwnProvider;
use crate::vault::ContentKeys;

/// A run as this process last wrote or read it.
#[derive(Debug, Clone)]
pub(crate) struct KnownRun {
    pub(crate) definition: i64,
    pub(crate) version: i64,
    pub(crate) run: Run,
}

/// A workflow's input and the trace it was submitted with.
#[derive(Debug)]
pub(crate) struct KnownInput {
    pub(crate) json: String,
    pub(crate) traceparent: Option<String>,
}

/// Bytes, roughly, that an entry holds on to.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Weighter<WorkflowKey, Arc<KnownRun>> for Bytes {
    fn weight(&self, _: &WorkflowKey, known: &Arc<KnownRun>) -> u64 {
        200 + (known.run.steps.len() * size_of::<galley_core::run::StepRun>()) as u64
    }
}

impl Weighter<WorkflowKey, Arc<KnownInput>> for Bytes {
    fn weight(&self, _: &WorkflowKey, known: &Arc<KnownInput>) -> u64 {
        200 + known.json.len() as u64
    }
}

impl Weighter<(WorkflowKey, StepIndex), Arc<str>> for Bytes {
    fn weight(&self, _: &(WorkflowKey, StepIndex), json: &Arc<str>) -> u64 {
        200 + json.len() as u64
    }
}

/// What is remembered for a moment. When that is over, one reads it anew and
/// whoever else asks meanwhile waits for it: a thousand attempts must not spend
/// a process' connections on a thousand times the same.
pub(crate) async fn fresh<K, V, E, W>(
    cache: &Cache<K, (V, Instant), W>,
    key: &K,
    memory: Duration,
    read: impl Future<Output = Result<V, E>>,
) -> Result<V, E>
where
    K: Eq + std::hash::Hash + Clone,
    V: Clone,
    W: Weighter<K, (V, Instant)> + Clone,
{
    cache.remove_if(key, |(_, at)| at.elapsed() >= memory);
    let read = async { Ok::<_, E>((read.await?, Instant::now())) };
    Ok(cache.get_or_insert_async(key, read).await?.0)
}

/// A workspace's own prompt of an agent, and when it was read.
pub(crate) type KnownPrompt = (Option<Arc<OwnPrompt>>, Instant);

impl Weighter<(WorkspaceId, AgentType), KnownPrompt> for Bytes {
    fn weight(&self, _: &(WorkspaceId, AgentType), (own, _): &KnownPrompt) -> u64 {
        let bytes = |own: &Arc<OwnPrompt>| match &own.templates {
            Ok(Templates { system, user }) => system.len() + user.len(),
            Err(why) => why.len(),
        };
        200 + own.as_ref().map_or(0, bytes) as u64
    }
}

/// What is known of an agent's models, and when it was read.
pub(crate) type KnownModels = (Arc<Vec<KnownModel>>, Instant);

/// A workspace's own providers, and when they were read.
pub(crate) type OwnProviders = (Arc<Vec<OwnProvider>>, Instant);

/// The caches of one process. A worker stays below 64 MB with them full.
pub(crate) struct Caches {
    plans: Cache<i64, Arc<Plan>>,
    /// Compiled and stored definitions by workspace and content.
    pub(crate) compiled: Cache<(WorkspaceId, [u8; 32]), (Arc<Plan>, i64)>,
    pub(crate) runs: Cache<WorkflowKey, Arc<KnownRun>, Bytes>,
    pub(crate) inputs: Cache<WorkflowKey, Arc<KnownInput>, Bytes>,
    pub(crate) outputs: Cache<(WorkflowKey, StepIndex), Arc<str>, Bytes>,
    /// What is known of an agent's models, with when it was read.
    pub(crate) models: Cache<(WorkspaceId, AgentType), KnownModels>,
    /// Providers of workspaces' own, opened, with when they were read.
    pub(crate) providers: Cache<WorkspaceId, OwnProviders>,
    /// Prompts of workspaces' own, opened, with when they were read.
    pub(crate) prompts: Cache<(WorkspaceId, AgentType), KnownPrompt, Bytes>,
    /// Policies, with when they were read.
    pub(crate) policies: Cache<WorkspaceId, (Arc<Policy>, Instant)>,
    /// Whether what is new is sealed, with when that was read.
    pub(crate) sealing: Cache<WorkspaceId, (bool, Instant)>,
    /// The data keys that open and seal content.
    pub(crate) content_keys: Cache<WorkspaceId, Arc<ContentKeys>>,
}

const RUNS_BYTES: u64 = 6 << 20;
const INPUTS_BYTES: u64 = 6 << 20;
const OUTPUTS_BYTES: u64 = 6 << 20;
const PROMPTS_BYTES: u64 = 4 << 20;

impl Caches {
    pub(crate) fn new() -> Self {
        Self {
            plans: Cache::new(512),
            compiled: Cache::new(512),
            runs: Cache::with_weighter(8_192, RUNS_BYTES, Bytes),
            inputs: Cache::with_weighter(8_192, INPUTS_BYTES, Bytes),
            outputs: Cache::with_weighter(8_192, OUTPUTS_BYTES, Bytes),
            models: Cache::new(1_024),
            providers: Cache::new(1_024),
            prompts: Cache::with_weighter(4_096, PROMPTS_BYTES, Bytes),
            policies: Cache::new(1_024),
            sealing: Cache::new(4_096),
            content_keys: Cache::new(1_024),
        }
    }

    /// The plans of definitions, read and compiled at most once each.
    pub(crate) async fn plans(
        &self,
        store: &Store,
        definitions: &[(WorkspaceId, i64)],
    ) -> Result<Vec<(i64, Arc<Plan>)>, StoreError> {
        let mut found = Vec::with_capacity(1);
        let mut missing = Vec::new();
        for &definition in definitions {
            let (_, id) = definition;
            if found.iter().any(|(known, _)| *known == id) || missing.contains(&definition) {
                continue;
            }
            match self.plans.get(&id) {
                Some(plan) => found.push((id, plan)),
                None => missing.push(definition),
            }
        }
        if !missing.is_empty() {
            for (id, body) in store.load_definitions(&missing).await? {
                let plan = Arc::new(read_plan(id, &body)?);
                self.plans.insert(id, Arc::clone(&plan));
                found.push((id, plan));
            }
        }
        Ok(found)
    }

    /// The plan of a workspace's definition.
    pub(crate) async fn plan(
        &self,
        store: &Store,
        workspace: WorkspaceId,
        id: i64,
    ) -> Result<Arc<Plan>, StoreError> {
        let found = self.plans(store, &[(workspace, id)]).await?;
        found
            .into_iter()
            .next()
            .map(|(_, plan)| plan)
            .ok_or_else(|| StoreError::Schema(format!("table definitions, id {id}: the row is missing")))
    }

    /// Remembers a plan that was just stored.
    pub(crate) fn remember_plan(&self, id: i64, plan: Arc<Plan>) {
        self.plans.insert(id, plan);
    }
}

fn read_plan(id: i64, body: &str) -> Result<Plan, StoreError> {
    let broken = |why: String| StoreError::Schema(format!("table definitions, id {id}: {why}"));
    let definition: Definition = serde_json::from_str(body).map_err(|error| broken(error.to_string()))?;
    Plan::from_frozen(definition).map_err(|problems| {
        broken(problems.first().map_or_else(|| "does not compile".into(), ToString::to_string))
    })
}
