use galley_core::run::StepState;

use super::Invariant;
use super::world::World;
use crate::history::{ApprovalRow, Ask};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "questions",
    says: "a step waits for a person if and only if one question is open; each answer is the one that was given, \
           about the bytes that were shown",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for flow in world.flows.values() {
        for (index, step, _) in flow.steps() {
            let asked = world.approvals_of.get(&(flow.key, index)).map_or(&[][..], Vec::as_slice);
            let open = asked.iter().filter(|approval| approval.status == "pending").count();
            let waits = usize::from(step.state == StepState::WaitingApproval);
            if open != waits {
                let (task, state) = (flow.task(index), step.state.word());
                found.push(format!("task {task}: it is {state}, and {open} questions about it are open"));
            }
        }
    }
    for approval in &world.history.dump.approvals {
        let id = approval.id;
        if !world.flows.contains_key(&(approval.workspace_id, approval.workflow_id)) {
            found.push(format!("approval {id}: it is about no workflow"));
        }
        if approval.status == "approved" && !approved_by_someone(world, approval) {
            found.push(format!("approval {id}: it is approved, and nobody approved these bytes"));
        }
        if approval.status == "approved" && approval.decided_at.is_some_and(|at| at > approval.expires_at) {
            found.push(format!("approval {id}: it was approved after it had expired"));
        }
        if approval.status == "rejected" && !rejected_by_someone(world, approval) {
            found.push(format!("approval {id}: it is rejected, and nobody rejected it"));
        }
        if approval.status == "expired" && approval.decided_at.is_none_or(|at| at < approval.expires_at) {
            found.push(format!("approval {id}: it expired at {:?}, before its time", approval.decided_at));
        }
    }
    for (op, _) in world.done() {
        let (id, statuses) = match &op.ask {
            // An edit voids it later.
            Ask::Approve { approval, .. } => (approval, ["approved", "void"]),
            Ask::Reject { approval, .. } => (approval, ["rejected", "rejected"]),
            _ => continue,
        };
        let row = world.history.dump.approvals.iter().find(|r| r.id == *id && r.workspace_id == op.workspace);
        match row {
            None => found.push(format!("approval {id}: op {} answered it, and it is not there", op.id)),
            Some(row) => {
                if !statuses.contains(&row.status.as_str()) {
                    found.push(format!("approval {id}: op {} answered it, and it is {}", op.id, row.status));
                }
                if row.decided_by.as_deref() != Some(&op.actor) {
                    let by = &row.decided_by;
                    found.push(format!("approval {id}: op {} answered it, it says {by:?} did", op.id));
                }
                if let Ask::Approve { hash, .. } = &op.ask
                    && *hash != row.content_hash
                {
                    found.push(format!("approval {id}: op {} was shown other bytes than it approved", op.id));
                }
            }
        }
    }
    found
}

/// Whether a client approved exactly these bytes, or may have.
pub(super) fn approved_by_someone(world: &World<'_>, row: &ApprovalRow) -> bool {
    world.perhaps().filter(|op| op.workspace == row.workspace_id).any(|op| match &op.ask {
        Ask::Approve { approval, hash, .. } => *approval == row.id && *hash == row.content_hash,
        Ask::Edit { post, hash, approve: true } => Some(*post) == row.post_id && *hash == row.content_hash,
        _ => false,
    })
}

fn rejected_by_someone(world: &World<'_>, row: &ApprovalRow) -> bool {
    world
        .perhaps()
        .filter(|op| op.workspace == row.workspace_id)
        .any(|op| matches!(&op.ask, Ask::Reject { approval, .. } if *approval == row.id))
}
