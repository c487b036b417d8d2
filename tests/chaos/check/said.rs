use std::collections::{HashMap, HashSet};

use galley_core::ids::StepIndex;

use super::Invariant;
use super::world::{Flow, Key, World, name};
use crate::history::MessageRow;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "said",
    says: "what a step says is there once, with its result, and every later step it is for hears it once and in order",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut said: HashMap<(Key, StepIndex), Vec<&MessageRow>> = HashMap::new();
    for row in &world.history.dump.messages {
        said.entry(((row.workspace_id, row.workflow_id), row.step)).or_default().push(row);
    }
    let mut calls: HashMap<_, Vec<_>> = HashMap::new();
    for call in &world.history.calls {
        calls.entry((call.workflow, call.step.as_str())).or_default().push(call);
    }
    for flow in world.flows.values() {
        let mut sent: HashMap<&str, u64> = HashMap::new();
        for (index, step, _) in flow.steps() {
            let task = flow.task(index);
            let rows = said.remove(&(flow.key, index)).unwrap_or_default();
            let promised = promised(world, flow, index);
            match (promised, rows.as_slice()) {
                (None, []) => {}
                (Some(call), [row]) => {
                    if word(row) != Some(call) {
                        found.push(format!("task {task}: its message is not the one of its result"));
                    }
                    if row.seq != step.changed {
                        let (of, at) = (row.seq, step.changed);
                        found.push(format!("task {task}: its message is of change {of}, its result of {at}"));
                    }
                }
                (promised, rows) => {
                    let wanted = usize::from(promised.is_some());
                    found.push(format!("task {task}: {} messages instead of {wanted}", rows.len()));
                }
            }
            sent.extend(rows.iter().filter_map(|row| Some((word(row)?, row.seq))));
        }
        for (index, _, plan) in flow.steps() {
            let (task, step) = (flow.task(index), flow.step_name(index));
            let parents: Vec<&str> = plan
                .needs
                .iter()
                .flat_map(|need| flow.run.children(*need).chain([*need]))
                .filter_map(|parent| promised(world, flow, parent))
                .collect();
            for call in calls.get(&(flow.key.1, step.as_str())).into_iter().flatten() {
                let id = &call.call;
                let seqs: Vec<Option<&u64>> =
                    call.heard.iter().map(|heard| sent.get(heard.as_str())).collect();
                if seqs.iter().any(Option::is_none) {
                    found.push(format!("task {task}: call {id} heard what nobody said"));
                }
                if !seqs.is_sorted() {
                    found.push(format!("task {task}: call {id} heard messages out of order"));
                }
                let heard: HashSet<_> = call.heard.iter().map(String::as_str).collect();
                if heard.len() != call.heard.len() {
                    found.push(format!("task {task}: call {id} heard a message twice"));
                }
                if let Some(missed) = parents.iter().find(|parent| !heard.contains(*parent)) {
                    found.push(format!(
                        "task {task}: call {id} did not hear {missed}, which a step it needs said"
                    ));
                }
            }
        }
    }
    for ((key, step), _) in said {
        found.push(format!("{}: a message of step {step}, which is not there", name(key)));
    }
    found
}

/// What the result of a step tells that it said.
fn promised<'a>(world: &World<'a>, flow: &Flow<'_>, step: StepIndex) -> Option<&'a str> {
    let rows = world.results.get(&(flow.key, step))?;
    rows.iter().find_map(|row| row.output.get("said")?.as_str())
}

fn word(row: &MessageRow) -> Option<&str> {
    row.content.get("call")?.as_str()
}
