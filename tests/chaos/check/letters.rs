use std::collections::HashMap;

use galley_core::run::StepState;

use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "letters",
    says: "a step is dead if and only if its dead letter is open, and died of what it says",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut letters = HashMap::new();
    for letter in &world.history.dump.dead_letters {
        let key = (letter.workspace_id, letter.workflow_id);
        letters.insert((key, letter.step), letter);
        let open = letter.status == "open";
        let task = format!("{}.{}", letter.workflow_id, letter.step_name);
        if open == letter.closed_at.is_some() {
            found.push(format!(
                "task {task}: its letter is {} and closed at {:?}",
                letter.status, letter.closed_at
            ));
        }
        let Some(flow) = world.flows.get(&key) else {
            found.push(format!("task {task}: it has a letter and no run"));
            continue;
        };
        let Some((step, plan)) = flow
            .run
            .step(letter.step)
            .and_then(|step| Some((step, flow.plan.steps.get(usize::from(step.plan))?)))
        else {
            found.push(format!("task {task}: it has a letter, and there is no such step"));
            continue;
        };
        if open && step.state != StepState::Dead {
            found.push(format!("task {task}: its letter is open, and it is {}", step.state.word()));
        }
        let used_up = match letter.reason.as_str() {
            "attempts" => letter.attempts >= i32::from(plan.retry.max_attempts),
            "crashes" => letter.crashes >= i32::from(plan.retry.max_crashes),
            "permanent" | "condition" => true,
            _ => false,
        };
        if !used_up {
            found.push(format!(
                "task {task}: dead of {} after {} attempts and {} crashes; it may have {} and {}",
                letter.reason,
                letter.attempts,
                letter.crashes,
                plan.retry.max_attempts,
                plan.retry.max_crashes
            ));
        }
    }
    for flow in world.flows.values() {
        for (index, step, _) in flow.steps() {
            let open = letters.get(&(flow.key, index)).is_some_and(|letter| letter.status == "open");
            if step.state == StepState::Dead && !open {
                found.push(format!("task {}: it is dead, and no letter tells so", flow.task(index)));
            }
        }
    }
    found
}
