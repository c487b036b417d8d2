use std::collections::HashMap;

use galley_core::publish::PostContent;

use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "bytes",
    says: "what a platform shows is the frozen payload, and that is the revision it names, byte for byte",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let revisions: HashMap<_, _> = world
        .history
        .dump
        .post_revisions
        .iter()
        .map(|row| ((row.workspace_id, row.post_id, row.revision), row))
        .collect();
    for publication in &world.history.dump.publications {
        let id = publication.post_id;
        let Ok(payload) = serde_json::from_value::<PostContent>(publication.payload.clone()) else {
            found.push(format!("post {id}: its frozen payload is no post"));
            continue;
        };
        if payload.hash() != publication.content_hash {
            found.push(format!("post {id}: its frozen payload has another hash than it says"));
        }
        match revisions.get(&(publication.workspace_id, id, publication.revision)) {
            None => found.push(format!("post {id}: there is no revision {}", publication.revision)),
            Some(revision) if revision.content_hash != publication.content_hash => {
                found.push(format!("post {id}: what goes out is not its revision {}", publication.revision));
            }
            Some(_) => {}
        }
        for effect in world.effects(publication) {
            if (&effect.text, &effect.link) != (&payload.text, &payload.link) {
                found.push(format!("post {id}: `{}` shows another text than was frozen", effect.account));
            }
        }
    }
    found
}
