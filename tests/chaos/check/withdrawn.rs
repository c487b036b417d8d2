use std::collections::HashMap;

use galley_core::run::StepState;

use super::Invariant;
use super::world::World;
use crate::history::{Ask, Subject};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "withdrawn",
    says: "what was rejected, or cancelled before its intent, never goes out",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (op, _) in world.done() {
        match &op.ask {
            Ask::RejectPost { post } | Ask::Reject { about: Subject::Post(post), .. } => {
                let now = world.post(op.workspace, *post).map_or("not there", |post| post.state.as_str());
                if now != "rejected" {
                    found.push(format!("post {post}: op {} rejected it, and it is {now}", op.id));
                }
                for publication in world.publications(op.workspace, *post) {
                    let shown = world.effects(publication).len();
                    if shown > 0 {
                        found.push(format!(
                            "post {post}: op {} rejected it, and the platform shows it",
                            op.id
                        ));
                    }
                }
            }
            Ask::Reject { about: Subject::Task(task), .. } => {
                let state = world.flows.values().filter(|flow| flow.key.0 == op.workspace).find_map(|flow| {
                    flow.steps().find(|(index, ..)| flow.task(*index) == *task).map(|(_, step, _)| step.state)
                });
                if state != Some(StepState::Failed) {
                    let now = state.map_or("not there", StepState::word);
                    found.push(format!("task {task}: op {} refused its go, and it is {now}", op.id));
                }
            }
            _ => {}
        }
    }
    for post in &world.history.dump.posts {
        if !matches!(post.state.as_str(), "rejected" | "expired" | "cancelled") {
            continue;
        }
        for publication in world.publications(post.workspace_id, post.id) {
            if !matches!(publication.state.as_str(), "not_sent" | "failed") {
                found.push(format!(
                    "post {}: it is {}, and its publication {}",
                    post.id, post.state, publication.state
                ));
            }
        }
    }
    found.extend(after_cancel(world));
    found
}

/// The transaction that cancels begins after it saw every intent there is; the
/// transaction of a later intent begins after it.
fn after_cancel(world: &World<'_>) -> Vec<String> {
    let mut cancelled = HashMap::new();
    for row in world.history.dump.audit.iter().filter(|row| row.action == "workflow.cancel") {
        cancelled.insert((row.workspace_id, row.object.as_str()), row.at);
    }
    let mut found = Vec::new();
    for publication in &world.history.dump.publications {
        let workflow = publication.workflow_id.to_string();
        let Some(at) = cancelled.get(&(publication.workspace_id, workflow.as_str())) else { continue };
        for event in world.happened(publication).iter().filter(|event| event.event == "intent") {
            if event.at >= *at {
                found.push(format!(
                    "post {}: its workflow was cancelled at {at}, it was intended at {}",
                    publication.post_id, event.at
                ));
            }
        }
    }
    found
}
