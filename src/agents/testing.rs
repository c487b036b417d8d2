//! What several tests of this room need: the example brief, a step, a registry.

use std::sync::Arc;
use std::time::Duration;

use galley_core::ids::{AgentType, WorkflowId, WorkspaceId};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Definitions, ProviderConfig, Providers, Registered, Registry, StepContext};

/// The brief a newcomer submits first.
pub(crate) fn example_brief() -> Value {
    let request: Value = serde_json::from_str(include_str!("../../examples/launch-campaign.json")).unwrap();
    request["input"].clone()
}

pub(crate) fn input(brief: Value, params: Value, results: Value, item: Option<Value>) -> Value {
    let results: Map<String, Value> = serde_json::from_value(results).unwrap();
    galley_core::input::step_input(brief, params, results, item)
}

pub(crate) fn step(agent: &str, input: Value) -> StepContext {
    StepContext {
        workspace: WorkspaceId(Default::default()),
        workflow: WorkflowId(Default::default()),
        step_name: agent.to_owned(),
        agent: AgentType::new(agent).unwrap(),
        attempt: 1,
        effect_key: "effect-1".to_owned(),
        input: Arc::new(input),
        inbox: Arc::default(),
        cancelled: CancellationToken::new(),
        timeout: Duration::from_secs(60),
        desk: Arc::new(crate::NoDesk),
    }
}

/// The built-in agents on these providers.
pub(crate) fn built_in(config: Value) -> Registry {
    let config: ProviderConfig = serde_json::from_value(config).unwrap();
    let mut registry = Registry::new();
    let providers = Arc::new(Providers::new(config, crate::Prices::built_in().unwrap()).unwrap());
    registry.register_definitions(Definitions::built_in().unwrap(), &providers).unwrap();
    registry
}

pub(crate) fn agent(registry: &Registry, name: &str) -> Arc<Registered> {
    registry.get(&AgentType::new(name).unwrap()).unwrap()
}

/// Runs a built-in agent offline and returns what it wrote.
pub(crate) async fn offline(name: &str, input: Value) -> Value {
    let registry = built_in(json!({}));
    let done = agent(&registry, name).run(step(name, input)).await.unwrap();
    serde_json::from_str(done.output.get()).unwrap()
}
