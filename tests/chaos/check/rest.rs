use std::collections::{HashMap, HashSet};

use galley_core::run::StepState;

use super::Invariant;
use super::world::{Flow, World, name};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "rest",
    says: "every workflow ends in a final state, or waits for a person, a time or a paused queue",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let dump = &world.history.dump;
    let paused: HashSet<&str> = dump.agents.iter().filter(|a| a.paused).map(|a| a.agent.as_str()).collect();
    let due: HashMap<_, _> =
        dump.timers.iter().map(|t| (((t.workspace_id, t.workflow_id), t.step), t.due_at)).collect();
    let mut found = Vec::new();
    for flow in world.flows.values().filter(|flow| flow.live.is_some()) {
        if flow.run.steps.iter().all(|step| step.state.is_final()) {
            found.push(format!("{}: every step is final, and it is still live", name(flow.key)));
        }
        for (index, step, plan) in flow.steps() {
            let problem = match step.state {
                StepState::Queued if paused.contains(plan.agent.as_str()) => None,
                StepState::Queued | StepState::Running => Some("it is still to be worked on".to_owned()),
                StepState::Scheduled | StepState::Unknown => match due.get(&(flow.key, index)) {
                    Some(at) if *at > dump.at => None,
                    Some(at) => Some(format!("its time was {at}, and it is {}", dump.at)),
                    None => Some("it waits for a time that nothing knows".to_owned()),
                },
                StepState::Blocked => stuck(flow, plan),
                StepState::Expanded => {
                    let mut children = flow.run.children(index);
                    let open =
                        children.any(|child| flow.run.step(child).is_some_and(|c| !c.state.is_final()));
                    (!open).then(|| "all its children are final".to_owned())
                }
                StepState::WaitingBudget => {
                    Some("it waits for money, and no budget is limited any more".to_owned())
                }
                // A person's turn, or over.
                StepState::WaitingApproval | StepState::InDoubt | StepState::Dead => None,
                StepState::Succeeded | StepState::Skipped | StepState::Failed | StepState::Cancelled => None,
            };
            if let Some(problem) = problem {
                found.push(format!("task {} is {}: {problem}", flow.task(index), step.state.word()));
            }
        }
    }
    found
}

/// A blocked step waits for at least one that is not final yet.
fn stuck(flow: &Flow<'_>, plan: &galley_core::plan::PlanStep) -> Option<String> {
    let open = plan.needs.iter().any(|need| flow.run.step(*need).is_some_and(|s| !s.state.is_final()));
    (!open).then(|| "everything it needs is final: nobody will ever queue it".to_owned())
}
