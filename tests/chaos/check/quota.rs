use std::collections::BTreeMap;

use galley_core::ids::AccountId;

use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "quota",
    says: "the counter of a day is exactly the publications that hold a place in it; a place is held as long as \
           the post may be out",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let nil = AccountId(uuid::Uuid::nil());
    let mut found = Vec::new();
    let mut held = BTreeMap::new();
    for publication in &world.history.dump.publications {
        let post = publication.post_id;
        let free = matches!(publication.state.as_str(), "not_sent" | "failed");
        if publication.quota_held == free {
            let (state, held) = (&publication.state, publication.quota_held);
            found.push(format!("post {post}: it is {state}, and its place is held: {held}"));
        }
        if !publication.quota_held {
            continue;
        }
        let Some(day) = publication.quota_day else {
            found.push(format!("post {post}: it holds a place of no day"));
            continue;
        };
        for account in [nil, publication.account_id] {
            *held.entry((publication.workspace_id, account, day)).or_insert(0) += 1;
        }
    }
    for row in &world.history.dump.day_quota {
        let holders = held.remove(&(row.workspace_id, row.account_id, row.day)).unwrap_or(0);
        if row.used != holders {
            let (day, account, used) = (row.day, row.account_id, row.used);
            found.push(format!("{day} of account {account}: {used} places are used, {holders} are held"));
        }
    }
    for ((_, account, day), holders) in held {
        found.push(format!("{day} of account {account}: {holders} places are held, and no row counts them"));
    }
    found
}
