//! The input of a step: put together from what is immutable (the workflow's
//! input, the definition, the parents' results), so that it is never stored
//! twice and can be shown again at any time.

use serde_json::{Map, Value, json};

use crate::ids::StepIndex;
use crate::plan::Plan;
use crate::run::{Run, StepState};

/// The input an agent receives:
///
/// ```json
/// { "brief":   the workflow's input,
///   "params":  the step's own `input` from the definition,
///   "results": { "<needed step>": its output, … },
///   "item":    the element, for a step expanded by forEach }
/// ```
///
/// A skipped or failed optional parent appears as `null`.
pub fn step_input(brief: Value, params: Value, results: Map<String, Value>, item: Option<Value>) -> Value {
    let mut input = json!({ "brief": brief, "params": params, "results": results });
    if let Some(item) = item {
        input["item"] = item;
    }
    input
}

/// The result of a step as those who need it see it: its output; for a group
/// the list of its children's; `null` for one that was skipped or failed.
pub fn compose_result(
    run: &Run,
    step: StepIndex,
    output: &dyn Fn(StepIndex) -> Option<Value>,
) -> Option<Value> {
    let mut children: Vec<_> = run.children(step).collect();
    if children.is_empty() {
        return match run.step(step)?.state {
            // An expansion over an empty list has no children and no output.
            StepState::Succeeded => Some(output(step).unwrap_or_else(|| Value::Array(vec![]))),
            _ => None,
        };
    }
    children.sort_by_key(|i| run.steps[usize::from(*i)].item);
    Some(children.into_iter().map(|child| output(child).unwrap_or(Value::Null)).collect())
}

/// What a step's `results` are: one entry per need, by name.
pub fn needed_results(
    plan: &Plan,
    run: &Run,
    step: StepIndex,
    output: &dyn Fn(StepIndex) -> Option<Value>,
) -> Map<String, Value> {
    let Some(plan_step) = run.step(step).and_then(|s| plan.steps.get(usize::from(s.plan))) else {
        return Map::new();
    };
    plan_step
        .needs
        .iter()
        .map(|need| {
            let name = plan.steps[usize::from(*need)].name.clone();
            (name, compose_result(run, *need, output).unwrap_or(Value::Null))
        })
        .collect()
}

/// The positions whose stored outputs [`needed_results`] will ask for.
pub fn needed_outputs(plan: &Plan, run: &Run, step: StepIndex) -> Vec<StepIndex> {
    let Some(plan_step) = run.step(step).and_then(|s| plan.steps.get(usize::from(s.plan))) else {
        return Vec::new();
    };
    let mut wanted = Vec::with_capacity(plan_step.needs.len());
    for need in &plan_step.needs {
        if plan.steps[usize::from(*need)].for_each.is_some() {
            wanted.extend(run.children(*need));
        } else {
            wanted.push(*need);
        }
    }
    wanted.retain(|i| run.steps[usize::from(*i)].state == StepState::Succeeded);
    wanted
}

/// The element an expanded child works on.
pub fn child_item(
    plan: &Plan,
    run: &Run,
    step: StepIndex,
    brief: &Value,
    output: &dyn Fn(StepIndex) -> Option<Value>,
) -> Option<Value> {
    let child = run.step(step)?;
    let item = usize::from(child.item?);
    let expansion = plan.steps.get(usize::from(child.plan))?.for_each.as_ref()?;
    match expansion.source {
        None => brief.pointer(&expansion.path)?.get(item).cloned(),
        Some(source) => compose_result(run, source, output)?.pointer(&expansion.path)?.get(item).cloned(),
    }
}
