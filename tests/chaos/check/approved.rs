use super::Invariant;
use super::policies::Policies;
use super::questions::approved_by_someone;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "approved",
    says: "nothing is intended without the approval that the policy in force asked for, of exactly these bytes, \
           by a person who said so",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let policies = Policies::of(world);
    let mut found = Vec::new();
    for publication in &world.history.dump.publications {
        let post = publication.post_id;
        let Some(at) = world.intended_at(publication) else {
            found.push(format!("post {post}: it has a publication, and never an intent"));
            continue;
        };
        let step = ((publication.workspace_id, publication.workflow_id), publication.step);
        let asked = world.approvals_of.get(&step).map_or(&[][..], Vec::as_slice);
        let held = asked.iter().any(|approval| approval.post_id == Some(post) && approval.asked_at < at);
        let required = held || policies.at(publication.workspace_id, at).iter().all(|policy| policy.asks());
        let Some(id) = publication.approval_id else {
            if required {
                let why = if held { "it had waited for one" } else { "the policy asked for one" };
                found.push(format!("post {post}: intended at {at} without an approval, and {why}"));
            }
            continue;
        };
        let Some(approval) = asked.iter().find(|approval| approval.id == id) else {
            found.push(format!("post {post}: its approval {id} is not one of its step's"));
            continue;
        };
        let mut say = |problem: &str| found.push(format!("post {post}, approval {id}: {problem}"));
        if approval.post_id != Some(post) {
            say("it is about another post");
        }
        if approval.content_hash != publication.content_hash {
            say("what was intended is not what was approved");
        }
        // What is not out may have been changed since.
        let over = matches!(publication.state.as_str(), "not_sent" | "failed");
        if approval.status != "approved" && !(over && approval.status == "void") {
            say(&format!("it is {}", approval.status));
        }
        if approval.status == "approved" && approval.decided_at.is_none_or(|decided| decided > at) {
            say("it was given after the intent");
        }
        if !approved_by_someone(world, approval) {
            say("nobody approved these bytes");
        }
    }
    found
}
