use std::collections::{BTreeMap, HashMap};

use galley_core::ids::WorkflowId;

use super::Invariant;
use super::world::{World, name};
use crate::history::AuditRow;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "schedules",
    says: "each time of a schedule is one workflow, or one reason why it is none; never both, never twice",
    find,
};

/// What becomes of a schedule's time.
const TURNS: [&str; 3] = ["schedule.run", "schedule.skip", "schedule.refuse"];

/// The workflow that an audit row says a schedule submitted.
pub(super) fn submitted(row: &AuditRow) -> Option<WorkflowId> {
    let told = row.detail.as_ref().filter(|_| row.action == "schedule.run")?.get("workflowId")?;
    told.as_str()?.parse().ok()
}

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut runs: HashMap<_, usize> = HashMap::new();
    let mut turns: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for row in &world.history.dump.audit {
        if let Some(workflow) = submitted(row) {
            let key = (row.workspace_id, workflow);
            *runs.entry(key).or_default() += 1;
            if !world.workflows.contains_key(&key) {
                found.push(format!("schedule `{}`: it submitted {workflow}, which is not there", row.object));
            }
        }
        let at = row.detail.as_ref().and_then(|detail| detail.get("at")?.as_str());
        if let (Some(at), "scheduler") =
            (at.filter(|_| TURNS.contains(&row.action.as_str())), row.actor.as_str())
        {
            turns.entry((row.workspace_id, row.object.as_str(), at)).or_default().push(&row.action);
        }
    }
    for ((_, schedule, at), actions) in turns.into_iter().filter(|(_, actions)| actions.len() > 1) {
        found.push(format!("schedule `{schedule}`: its time {at} became {actions:?}"));
    }
    for row in world.history.dump.workflows.iter().filter(|row| row.idempotency_key.starts_with("schedule:"))
    {
        let key = (row.workspace_id, row.id);
        let told = runs.get(&key).copied().unwrap_or(0);
        if told != 1 {
            found.push(format!("{}: a schedule submitted it, and {told} audit rows say so", name(key)));
        }
    }
    for schedule in &world.history.dump.schedules {
        if let Some(last) = schedule.last_workflow
            && !world.workflows.contains_key(&(schedule.workspace_id, last))
        {
            found.push(format!("schedule `{}`: its last workflow {last} is not there", schedule.name));
        }
    }
    found
}
