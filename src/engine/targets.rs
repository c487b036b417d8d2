//! What a submit may ask for under the policy of its workspace: enabled agents,
//! and accounts that exist, on platforms that are allowed. The accounts are
//! named by whoever submits; nothing an agent writes adds one.

use galley_core::ids::{AgentType, WorkspaceId};
use galley_core::plan::{Plan, Problem};
use serde_json::Value;

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
        for (index, step) in plan.steps.iter().enumerate() {
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
        if !plan.publishes {
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
            let publisher = AgentType::new(galley_core::publish::PUBLISHER)?;
            if let galley_core::automation::Gate::Forbidden(why) =
                policy.config.gate(&publisher, &account.platform, false)
                && policy.config.is_enabled(&publisher)
            {
                problems.push(Problem::new(at, why));
            }
        }
        Ok(problems)
    }
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
