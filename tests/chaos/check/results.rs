use std::collections::{HashMap, HashSet};

use galley_core::run::StepState;

use super::Invariant;
use super::world::{Flow, World, name};
use crate::history::ResultRow;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "results",
    says: "exactly one result per succeeded step, of the attempt that won it and of a call that was made; none \
           for any other step",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let dump = &world.history.dump;
    let lost: HashSet<_> =
        dump.attempts.iter().map(|a| ((a.workspace_id, a.workflow_id), a.step, a.nonce)).collect();
    let mut calls: HashMap<_, HashSet<&str>> = HashMap::new();
    for call in &world.history.calls {
        calls.entry((call.workflow, call.step.as_str())).or_default().insert(&call.call);
    }
    for flow in world.flows.values() {
        for (index, step, plan) in flow.steps() {
            let rows = world.results.get(&(flow.key, index)).map_or(&[][..], Vec::as_slice);
            let task = flow.task(index);
            let has_own = step.state == StepState::Succeeded && !Flow::is_group(step, plan);
            match (has_own, rows) {
                (true, [row]) => {
                    if !resolved_by_person(world, row) && row.epoch != step.epoch {
                        let (of, won) = (row.epoch, step.epoch);
                        found.push(format!("task {task}: its result is of epoch {of}, epoch {won} won it"));
                    }
                    if lost.contains(&(flow.key, index, row.nonce)) && !resolved_by_person(world, row) {
                        found.push(format!(
                            "task {task}: the attempt of its result is logged as one that failed"
                        ));
                    }
                    let made = calls.get(&(flow.key.1, flow.step_name(index).as_str())).cloned();
                    if let Some(call) = row.output.get("call").and_then(|call| call.as_str())
                        && !made.unwrap_or_default().contains(call)
                    {
                        found.push(format!("task {task}: no provider was called for its result ({call})"));
                    }
                }
                (true, []) => found.push(format!("task {task}: it succeeded, and has no result")),
                (true, rows) => found.push(format!("task {task}: it has {} results", rows.len())),
                (false, []) => {}
                (false, _) => {
                    found.push(format!("task {task}: it is {}, and has a result", step.state.word()));
                }
            }
        }
    }
    for ((key, step), _) in world
        .results
        .iter()
        .filter(|((key, step), _)| world.flows.get(key).is_some_and(|flow| flow.run.step(*step).is_none()))
    {
        found.push(format!("{}: there is a result of step {step}, and no such step", name(*key)));
    }
    found
}

/// A person who resolves a post in doubt writes the result under the claim that
/// sent it.
fn resolved_by_person(world: &World<'_>, row: &ResultRow) -> bool {
    row.epoch == 0
        && world.history.dump.publications.iter().any(|publication| {
            publication.workspace_id == row.workspace_id
                && publication.workflow_id == row.workflow_id
                && publication.step == row.step
                && publication.settled_by.is_some()
                && publication.nonce == row.nonce
        })
}
