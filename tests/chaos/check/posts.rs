use std::collections::HashMap;

use galley_core::publish::{PostContent, PostState};
use galley_core::run::StepState;

use super::Invariant;
use super::world::World;
use crate::history::{Ask, PostRow, RevisionRow};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "posts",
    says: "each post is one publish step's, stands where that stands, and has the revisions that persons wrote",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut revisions: HashMap<_, Vec<&RevisionRow>> = HashMap::new();
    for row in &world.history.dump.post_revisions {
        revisions.entry((row.workspace_id, row.post_id)).or_default().push(row);
    }
    for post in &world.history.dump.posts {
        let id = post.id;
        found.extend(stands(world, post).map(|problem| format!("post {id}: {problem}")));
        let mut rows = revisions.remove(&(post.workspace_id, id)).unwrap_or_default();
        rows.sort_by_key(|row| row.revision);
        if !rows.iter().map(|row| row.revision).eq(1..=post.revision) {
            let told: Vec<_> = rows.iter().map(|row| row.revision).collect();
            found.push(format!("post {id}: it is at revision {}, and there are {told:?}", post.revision));
        }
        if rows.last().is_some_and(|row| row.content_hash != post.content_hash) {
            found.push(format!("post {id}: its hash is not the one of its newest revision"));
        }
        for row in rows {
            let content = serde_json::from_value::<PostContent>(row.content.clone());
            if content.map_or(true, |content| content.hash() != row.content_hash) {
                found.push(format!(
                    "post {id} revision {}: its hash is not the one of its content",
                    row.revision
                ));
            }
            if row.revision > 1 && !was_edited(world, post, &row.content_hash) {
                found.push(format!("post {id} revision {}: nobody wrote it", row.revision));
            }
        }
        if world.publications(post.workspace_id, id).len() > 1 {
            found.push(format!("post {id}: it has more than one publication"));
        }
    }
    for publication in &world.history.dump.publications {
        let post = world.post(publication.workspace_id, publication.post_id);
        let same = post.is_some_and(|post| {
            (post.workflow_id, post.step, post.account_id)
                == (publication.workflow_id, publication.step, publication.account_id)
        });
        if !same {
            found.push(format!(
                "post {}: its publication is another step's or account's",
                publication.post_id
            ));
        }
    }
    for (_, rows) in world.posts_of.iter().filter(|(_, rows)| rows.len() > 1) {
        found.push(format!("post {}: its step has another post, too", rows[0].id));
    }
    found
}

fn stands(world: &World<'_>, post: &PostRow) -> Option<String> {
    let flow = world.flows.get(&(post.workspace_id, post.workflow_id))?;
    let Some(step) = flow.run.step(post.step) else { return Some("there is no such step".into()) };
    let publication = world.publications(post.workspace_id, post.id).first();
    let agrees = match PostState::of(step) {
        Some(state) => post.state == state.word(),
        None if step.state == StepState::Skipped => matches!(post.state.as_str(), "rejected" | "expired"),
        None => false,
    };
    // Made, and its step was given back before anything was decided.
    let untouched = post.state == PostState::Draft.word() && publication.is_none();
    let waits = matches!(step.state, StepState::Queued | StepState::Running | StepState::Scheduled);
    if !(agrees || untouched && waits) {
        return Some(format!("it is {}, and its step is {}", post.state, step.state.word()));
    }
    let out = publication.is_some_and(|publication| publication.state == "published");
    if out != (step.state == StepState::Succeeded) {
        let told = publication.map_or("not there", |publication| publication.state.as_str());
        return Some(format!("its publication is {told}, and its step is {}", step.state.word()));
    }
    let open = publication.is_some_and(|p| matches!(p.state.as_str(), "intent" | "unknown" | "in_doubt"));
    if open != step.intent {
        let told = publication.map_or("not there", |publication| publication.state.as_str());
        return Some(format!("its publication is {told}, and the intent of its step is {}", step.intent));
    }
    None
}

fn was_edited(world: &World<'_>, post: &PostRow, hash: &str) -> bool {
    world.perhaps().any(|op| {
        op.workspace == post.workspace_id
            && matches!(&op.ask, Ask::Edit { post: id, hash: wrote, .. } if *id == post.id && wrote == hash)
    })
}
