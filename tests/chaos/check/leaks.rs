use std::collections::{BTreeMap, HashMap};

use galley_core::run::StepState;

use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "leaks",
    says: "nothing is left behind: no open transaction, nothing in flight, no ticket or timer without its step, \
           no lease of a closed session",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let history = world.history;
    let left = &history.leftovers;
    let mut found = Vec::new();
    if left.idle_in_transaction > 0 {
        found.push(format!("{} sessions of Postgres are idle in a transaction", left.idle_in_transaction));
    }
    for (agent, count) in left.in_flight.iter().filter(|(_, count)| **count > 0) {
        found.push(format!("{count} tickets of `{agent}` are in flight"));
    }
    let mut queued: BTreeMap<&str, u64> = BTreeMap::new();
    for flow in world.flows.values() {
        for (index, step, plan) in flow.steps() {
            match step.state {
                StepState::Queued => *queued.entry(plan.agent.as_str()).or_default() += 1,
                StepState::Running => found.push(format!("task {} is running", flow.task(index))),
                _ => {}
            }
        }
    }
    for (agent, count) in &left.ready {
        let queued = queued.get(agent.as_str()).copied().unwrap_or(0);
        if *count > queued {
            found.push(format!("{count} tickets of `{agent}` are ready, {queued} of its steps are queued"));
        }
    }
    found.extend(timers(world));
    for session in history.dump.sessions.iter().filter(|s| s.closed_at.is_some() && s.swept_at.is_none()) {
        found.push(format!("session {} of {} is closed and was never swept", session.id, session.worker));
    }
    found
}

/// A timer belongs to each step that waits for a time, of the same epoch, and to
/// no other.
fn timers(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut timers: HashMap<_, u32> = HashMap::new();
    for timer in &world.history.dump.timers {
        timers.insert(((timer.workspace_id, timer.workflow_id), timer.step), timer.epoch);
    }
    for flow in world.flows.values() {
        for (index, step, _) in flow.steps() {
            let waits = matches!(step.state, StepState::Scheduled | StepState::Unknown);
            let task = flow.task(index);
            match (waits, timers.remove(&(flow.key, index))) {
                (true, Some(epoch)) if epoch == step.epoch => {}
                (true, Some(epoch)) => {
                    found
                        .push(format!("task {task}: its timer is of epoch {epoch}, it is at {}", step.epoch));
                }
                (true, None) => {
                    found.push(format!("task {task}: it is {}, without a timer", step.state.word()));
                }
                (false, Some(_)) => {
                    found.push(format!("task {task}: it is {}, with a timer", step.state.word()));
                }
                (false, None) => {}
            }
        }
    }
    found.extend(timers.keys().map(|(key, step)| format!("a timer of step {step} of no workflow {}", key.1)));
    found
}
