//! The scenes: what is prepared, who dies, and who takes over.

mod client;
mod scheduler;
mod worker;

use serde_json::{Value, json};

use crate::bed::Bed;

pub(crate) use client::{Wish, client};
pub(crate) use scheduler::{Chore, scheduler};
pub(crate) use worker::{Load, worker};

/// Three steps; the one in the middle fails once.
pub(super) fn chain() -> Value {
    json!([
        { "name": "first", "agent": "echo" },
        { "name": "again", "agent": "flaky" },
        { "name": "last", "agent": "echo" },
    ])
}

pub(super) fn only(agent: &str) -> Value {
    json!([{ "name": "only", "agent": agent }])
}

/// Two posts for an account.
pub(super) async fn two_posts(bed: &mut Bed, account: &str, approval: bool) {
    bed.add_accounts().await;
    bed.set_policy(approval).await;
    for text in ["one", "two"] {
        bed.submit_post(account, text).await;
        bed.texts.push(text.into());
    }
}
