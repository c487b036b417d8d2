//! What a submit may ask for under the policy of its workspace: enabled agents,
//! and accounts that exist, on platforms that are allowed. The accounts are
//! named by whoever submits; nothing an agent writes adds one.

use galley_core::ids::{AgentType, WorkspaceId};
use galley_core::plan::{Plan, Problem};
use galley_core::publish::PUBLISHER;
use serde_json::{Map, Value};

use crate::engine::Engine;
use crate::error::EngineError;

impl Engine {
    /// Every problem of a workflow under the policy of its workspace.
    pub(crate) async fn check_policy(
        &self,
        workspace: WorkspaceId,
        plan: &Plan,
        input: &Value,
    ) -> Result<Vec<Problem>, EngineError> {
        let policy = self.recent_policy(workspace).await?;
        let mut problems = Vec::new();
        let runs: Vec<bool> = (0..plan.steps.len()).map(|index| !is_skipped_by(plan, index, input)).collect();
        let publishes = plan.steps.iter().zip(&runs).any(|(step, runs)| step.publishes && *runs);
        let served = !publishes || self.is_registered(&AgentType::new(PUBLISHER)?).await?;
        for (index, step) in plan.steps.iter().enumerate().filter(|(index, _)| runs[*index]) {
            if step.publishes && !served {
                let told =
                    format!("no agent type `{PUBLISHER}` is registered; start a worker that offers it");
                problems.push(Problem::new(format!("steps[{index}].agent"), told));
            }
            if step.publishes && step.for_each.as_ref().is_some_and(|each| each.source.is_some()) {
                problems.push(Problem::new(
                    format!("steps[{index}].forEach.step"),
                    "accounts are named by whoever submits, not by an agent's result: give a list in the workflow input",
                ));
            }
            if !policy.config.is_enabled(&step.agent) {
                problems.push(Problem::new(
                    format!("steps[{index}].agent"),
                    format!(
                        "the agent `{}` is not enabled in this workspace; see `galley automation get`",
                        step.agent
                    ),
                ));
            }
        }
        if !publishes {
            return Ok(problems);
        }
        let accounts = self.store().accounts(workspace).await?;
        for (at, name) in targets(plan, input) {
            let Some(account) = accounts.iter().find(|account| account.name == name) else {
                let known: Vec<_> = accounts.iter().map(|account| account.name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                problems.push(Problem::new(
                    at,
                    format!("there is no account `{name}` in this workspace (there is: {known}); `galley account add` adds one"),
                ));
                continue;
            };
            let publisher = AgentType::new(PUBLISHER)?;
            if let galley_core::automation::Gate::Forbidden(why) =
                policy.config.gate(&publisher, &account.platform, false, None)
                && policy.config.is_enabled(&publisher)
            {
                problems.push(Problem::new(at, why));
            }
        }
        Ok(problems)
    }

    /// Whether some worker ever offered an agent type.
    async fn is_registered(&self, agent: &AgentType) -> Result<bool, EngineError> {
        let known = self.fleet().reading().await?.agents.contains_key(agent);
        // Perhaps a worker registered it a moment ago.
        Ok(known || self.fleet().fresh().await?.agents.contains_key(agent))
    }
}

/// Whether the input alone tells that a step will be skipped: then it needs no
/// agent. A condition that cannot be evaluated is no such thing.
fn is_skipped_by(plan: &Plan, index: usize, input: &Value) -> bool {
    let params = &plan.definition.steps[index].input;
    let when = plan.steps[index].when.as_ref().filter(|when| when.asks_input_only());
    when.is_some_and(|when| when.holds(input, params, &Map::new()) == Ok(false))
}

/// The accounts a submit names, each with its place.
fn targets(plan: &Plan, input: &Value) -> Vec<(String, String)> {
    let mut targets = Vec::new();
    for (index, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.publishes) {
        let params = &plan.definition.steps[index].input;
        if let Some(name) = params.get("account").and_then(Value::as_str) {
            targets.push((format!("steps[{index}].input.account"), name.to_owned()));
        }
        let Some(expansion) = step.for_each.as_ref().filter(|expansion| expansion.source.is_none()) else {
            continue;
        };
        for (n, item) in
            input.pointer(&expansion.path).and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let name = item.as_str().or_else(|| item.get("account").and_then(Value::as_str));
            if let Some(name) = name {
                targets.push((format!("input{}[{n}]", expansion.path.replace('/', ".")), name.to_owned()));
            }
        }
    }
    targets
}
