use std::collections::BTreeSet;

use galley_core::run::StepState;

use super::Invariant;
use super::world::{Flow, World, name};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "runs",
    says: "every stored run can be read, keeps its own invariants and is what its row says",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = world.unreadable.clone();
    for flow in world.flows.values() {
        if let Err(bad) = flow.run.check() {
            found.push(format!("{}: {bad}", name(flow.key)));
        }
        let state = flow.run.state(&flow.plan);
        if let Some(finished) = flow.finished
            && (finished.state != state.word() || !state.is_final())
        {
            found.push(format!(
                "{}: finished as {}, but its steps say {}",
                name(flow.key),
                finished.state,
                state.word()
            ));
        }
        if let Some(live) = flow.live {
            let running = flow.run.count(StepState::Running);
            if usize::try_from(live.running) != Ok(running) {
                let told = live.running;
                found.push(format!(
                    "{}: its row counts {told} running steps, it has {running}",
                    name(flow.key)
                ));
            }
        }
        found.extend(shape(flow));
    }
    found
}

/// The definition's steps, then each expansion's children, each once.
fn shape(flow: &Flow<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let defined = flow.run.steps.iter().filter(|step| step.item.is_none()).count();
    if defined != flow.plan.steps.len() {
        let expected = flow.plan.steps.len();
        found.push(format!("{}: {defined} steps for a definition of {expected}", name(flow.key)));
    }
    for (index, step, plan) in flow.steps() {
        let items: Vec<_> = flow.run.children(index).filter_map(|child| flow.run.step(child)?.item).collect();
        let distinct: BTreeSet<_> = items.iter().copied().collect();
        // A condition about elements may leave some out.
        let chosen = plan.when.as_ref().is_some_and(galley_core::condition::Condition::asks_item);
        let whole =
            distinct.len() == items.len() && (chosen || distinct.iter().copied().eq(0..items.len() as u16));
        if step.item.is_none() && !whole {
            found.push(format!("task {}: its children are {items:?}", flow.task(index)));
        }
        if !items.is_empty() && plan.for_each.is_none() && step.item.is_none() {
            found.push(format!("task {}: it has children and no forEach", flow.task(index)));
        }
    }
    found
}
