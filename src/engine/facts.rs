//! What a decision may ask for and cannot compute: the inputs of workflows and
//! the outputs of their steps, for conditions and expansions.

use std::collections::{HashMap, HashSet};

use galley_core::decide::Event;
use galley_core::ids::{StepIndex, WorkflowKey};
use galley_core::plan::Plan;
use galley_core::run::Run;
use galley_store::StoreError;
use serde_json::Value;

use crate::engine::Engine;
use crate::transition::{Command, Draft};

/// What conditions and expansions may ask for, of some workflows.
#[derive(Default)]
pub(crate) struct KnownFacts {
    pub(crate) briefs: HashMap<WorkflowKey, Value>,
    pub(crate) outputs: HashMap<(WorkflowKey, StepIndex), Value>,
    /// What of them cannot be opened.
    pub(crate) unreadable: HashMap<WorkflowKey, String>,
}

impl Engine {
    /// Reads what conditions and expansions may ask for: the workflow input
    /// and the outputs so far, of workflows that have any.
    pub(crate) async fn facts(
        &self,
        commands: &[Command],
        by_key: &HashMap<WorkflowKey, Vec<usize>>,
        drafts: &[(WorkflowKey, Draft)],
    ) -> Result<KnownFacts, StoreError> {
        let mut facts = KnownFacts::default();
        let conditional: Vec<_> = drafts.iter().filter(|(_, draft)| draft.plan.conditional).collect();
        if conditional.is_empty() {
            return Ok(facts);
        }
        let keys: Vec<WorkflowKey> = conditional.iter().map(|(key, _)| *key).collect();
        for (key, input) in self.known_inputs(&keys).await? {
            match input {
                Ok(input) => {
                    facts.briefs.insert(key, serde_json::from_str(&input.json).unwrap_or(Value::Null));
                }
                Err(why) => {
                    facts.unreadable.insert(key, why);
                }
            }
        }
        let mut wanted = Vec::new();
        for (key, draft) in &conditional {
            wanted.extend(wanted_outputs(&draft.plan, &draft.run).into_iter().map(|step| (*key, step)));
        }
        for ((key, step), json) in self.known_outputs(&wanted).await? {
            match json {
                Ok(json) => {
                    let output = serde_json::from_str(&json).unwrap_or(Value::Null);
                    facts.outputs.insert((key, step), output);
                }
                Err(why) => {
                    facts.unreadable.insert(key, why);
                }
            }
        }
        for (key, draft) in &conditional {
            for &index in &by_key[key] {
                // What an overtaken attempt brings is no fact.
                if let (Some(result), Event::Succeeded { token }) =
                    (commands[index].record.result(), &commands[index].event)
                    && draft.run.is_held_by(*token)
                {
                    let output = serde_json::from_str(&result.output).unwrap_or(Value::Null);
                    facts.outputs.insert((*key, result.attempt.step), output);
                }
            }
        }
        Ok(facts)
    }
}

/// The succeeded steps whose outputs a condition or an expansion may ask for.
fn wanted_outputs(plan: &Plan, run: &Run) -> Vec<StepIndex> {
    let mut wanted = HashSet::new();
    for (index, step) in plan.steps.iter().enumerate() {
        if step.when.is_some() || step.for_each.is_some() {
            wanted.extend(galley_core::input::needed_outputs(plan, run, index as StepIndex));
        }
    }
    wanted.into_iter().collect()
}
