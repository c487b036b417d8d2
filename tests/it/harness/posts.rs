//! What tests of publishing share: a bed with a platform and its accounts, and
//! the questions they ask about posts.

use galley_core::automation::{AutomationConfig, Mode};
use galley_core::ids::{PostId, WorkflowKey};
use galley_engine::Resolution;
use galley_engine::store::{ApprovalFilter, ApprovalRow, PostFilter, PostRow};
use serde_json::{Value, json};

use super::{Agents, Bed, Network, Setup, answer, retry, until};

/// The platform's three kinds.
pub(crate) const KINDS: [&str; 3] = ["idempotent", "verifiable", "blind"];

/// A writer whose text is the workflow's input.
pub(crate) fn writer() -> Agents {
    Agents::default().with("writer", retry(3), |step| async move {
        answer(&json!({ "platform": "network", "text": step.input["brief"]["text"] }))
    })
}

/// A bed with a platform and one account per kind.
pub(crate) async fn bed(network: &Network) -> Bed {
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    for kind in KINDS {
        account(&bed, kind, json!({ "settings": { "kind": kind } })).await;
    }
    bed.serve(&writer()).await;
    bed
}

pub(crate) async fn account(bed: &Bed, name: &str, more: Value) {
    let mut new = json!({ "name": name, "platform": "network", "credential": "secret" });
    new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let new = serde_json::from_value(new).unwrap();
    bed.api.add_account(bed.workspace, new, "admin").await.unwrap();
}

pub(crate) async fn policy(bed: &Bed, change: impl FnOnce(&mut AutomationConfig)) {
    let mut config = bed.api.policy(bed.workspace).await.unwrap().config;
    change(&mut config);
    bed.api.set_policy(bed.workspace, &config, None, "admin").await.unwrap();
}

/// Everything goes out by itself.
pub(crate) async fn autonomous(bed: &Bed) {
    policy(bed, |config| {
        config.mode = Mode::FullAutonomous;
        config.content_approval_required = false;
    })
    .await;
}

pub(crate) async fn submit(bed: &Bed, account: &str, text: &str) -> WorkflowKey {
    let steps = json!([
        { "name": "write", "agent": "writer" },
        { "name": "publish", "agent": "publisher", "input": { "account": account } },
    ]);
    bed.submit(steps, json!({ "text": text })).await
}

pub(crate) async fn posts(bed: &Bed, filter: PostFilter) -> Vec<PostRow> {
    bed.engine.store().list_posts(bed.workspace, &filter, None, 1_000).await.unwrap()
}

pub(crate) async fn post_of(bed: &Bed, key: WorkflowKey) -> Option<PostRow> {
    posts(bed, PostFilter { workflow: Some(key.workflow), ..PostFilter::default() }).await.pop()
}

pub(crate) async fn question(bed: &Bed, key: WorkflowKey) -> ApprovalRow {
    let filter = ApprovalFilter {
        status: Some("pending".into()),
        workflow: Some(key.workflow),
        ..ApprovalFilter::default()
    };
    let mut asked = None;
    until("somebody is asked", async || {
        let page = bed.engine.store().list_approvals(bed.workspace, &filter, None, 10).await.unwrap();
        asked = page.into_iter().next();
        asked.is_some()
    })
    .await;
    asked.unwrap()
}

pub(crate) async fn in_state(bed: &Bed, key: WorkflowKey, state: &str) -> PostRow {
    let mut found = None;
    until(&format!("the post is {state}"), async || {
        found = post_of(bed, key).await.filter(|post| post.state == state);
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Somebody looks at the account and says what is there.
pub(crate) async fn resolve(bed: &Bed, post: PostId, found: Resolution) {
    let looked = bed.api.post_view(bed.workspace, post).await.unwrap();
    let sends = looked.publication.unwrap().sends.unsigned_abs();
    bed.api.resolve_post(bed.workspace, post, sends, found, "ada").await.unwrap();
}
