use std::collections::HashMap;

use galley_core::ids::StepIndex;
use galley_core::run::StepState;
use jiff::SignedDuration;

use super::Invariant;
use super::world::{Flow, World};
use crate::history::ResultRow;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "parents",
    says: "a step runs after the results it needs were committed, and with exactly those",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut calls: HashMap<_, Vec<_>> = HashMap::new();
    for call in &world.history.calls {
        calls.entry((call.workflow, call.step.as_str())).or_default().push(call);
    }
    for flow in world.flows.values() {
        for (index, step, plan) in flow.steps() {
            let parents: Vec<StepIndex> = plan.needs.iter().flat_map(|need| leaves(flow, *need)).collect();
            let task = flow.task(index);
            for child in rows(world, flow, index).filter(|_| !Flow::is_group(step, plan)) {
                let began = child.finished_at - SignedDuration::from_millis(child.duration_ms);
                for parent in parents.iter().flat_map(|parent| rows(world, flow, *parent)) {
                    if began + world.slack() < parent.finished_at {
                        let of = flow.step_name(parent.step);
                        let at = parent.finished_at;
                        found.push(format!(
                            "task {task}: it began at {began}, the result of `{of}` is of {at}"
                        ));
                    }
                }
            }
            let name = flow.step_name(index);
            for call in calls.get(&(flow.key.1, name.as_str())).into_iter().flatten() {
                for parent in parents.iter().flat_map(|parent| rows(world, flow, *parent)) {
                    if world.time(call.at_ms) + world.slack() < parent.finished_at {
                        let of = flow.step_name(parent.step);
                        found.push(format!(
                            "task {task}: call {} came before the result of `{of}`",
                            call.call
                        ));
                    }
                }
                // A person may have replaced what it is given.
                if step.edited.is_some() {
                    continue;
                }
                for need in &plan.needs {
                    let parent = flow.step_name(*need);
                    if let Some(saw) = call.saw.get(&parent)
                        && *saw != of_results(world, flow, *need)
                    {
                        let call = &call.call;
                        found.push(format!("task {task}: call {call} was given a result of `{parent}` that is not the stored one"));
                    }
                }
            }
        }
    }
    found
}

/// The steps whose results a need stands for: itself, or its children.
fn leaves(flow: &Flow<'_>, need: StepIndex) -> Vec<StepIndex> {
    let children: Vec<_> = flow.run.children(need).collect();
    if children.is_empty() { vec![need] } else { children }
}

fn rows<'a>(world: &'a World<'_>, flow: &Flow<'_>, step: StepIndex) -> impl Iterator<Item = &'a ResultRow> {
    world.results.get(&(flow.key, step)).into_iter().flatten().copied()
}

/// The field `call` of the results a need stands for, in the order of its
/// children.
fn of_results(world: &World<'_>, flow: &Flow<'_>, need: StepIndex) -> Vec<String> {
    let mut leaves = leaves(flow, need);
    leaves.sort_by_key(|leaf| flow.run.step(*leaf).and_then(|step| step.item));
    leaves
        .into_iter()
        .filter(|leaf| flow.run.step(*leaf).is_some_and(|step| step.state == StepState::Succeeded))
        .flat_map(|leaf| rows(world, flow, leaf))
        .filter_map(|row| row.output.get("call")?.as_str().map(str::to_owned))
        .collect()
}
