//! A workspace that keeps what is finished for a time forgets it then, and
//! nothing else: what was sent stays on record.

use galley_core::ids::WorkflowKey;
use galley_core::report::StepError;
use galley_core::run::WorkflowState;
use galley_engine::store::{Role, Store};
use galley_engine::{Repair, forget_finished};
use serde_json::json;

use crate::harness::posts::{account, in_state, policy, post_of, question, submit, writer};
use crate::harness::{Bed, Network, Setup, request, retry, until};

/// Rows of a workflow, by table.
async fn rows(bed: &Bed, key: WorkflowKey) -> Vec<(String, i64)> {
    let mut rows = Vec::new();
    for (table, column) in [
        ("workflows", "id"),
        ("finished_runs", "id"),
        ("results", "workflow_id"),
        ("attempts", "workflow_id"),
        ("dead_letters", "workflow_id"),
        ("posts", "workflow_id"),
        ("approvals", "workflow_id"),
        ("publications", "workflow_id"),
    ] {
        let count =
            bed.count(&format!("SELECT count(*) FROM {table} WHERE {column} = '{}'", key.workflow.0)).await;
        if count > 0 {
            rows.push((table.to_owned(), count));
        }
    }
    rows
}

fn names(rows: &[(String, i64)]) -> Vec<&str> {
    rows.iter().map(|(table, _)| table.as_str()).collect()
}

#[tokio::test]
async fn what_is_finished_is_forgotten_when_its_time_is_over_and_nothing_else() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network), ..Setup::default() }).await;
    account(&bed, "idempotent", json!({ "settings": { "kind": "idempotent" } })).await;
    policy(&bed, |config| config.approval_expiry_hours = 2_000).await;
    let agents = writer().with("broken", retry(1), |_| async { Err(StepError::permanent("no", "never")) });
    bed.serve(&agents).await;
    // One whose post is out, one whose post was rejected, one that failed, one
    // that waits, and another workspace's.
    let out = submit(&bed, "idempotent", "canary that is out").await;
    let asked = question(&bed, out).await;
    bed.api.approve(bed.workspace, asked.id, Some(&asked.content_hash), None, "ada").await.unwrap();
    bed.finish(out, WorkflowState::Succeeded).await;
    let rejected = submit(&bed, "idempotent", "canary that was rejected").await;
    let asked = question(&bed, rejected).await;
    bed.api.reject(bed.workspace, asked.id, Some("canary note".into()), "ada").await.unwrap();
    bed.finish(rejected, WorkflowState::Succeeded).await;
    let failed =
        bed.submit(json!([{ "name": "only", "agent": "broken" }]), json!({ "text": "canary" })).await;
    until("its step is dead", async || {
        bed.count("SELECT count(*) FROM dead_letters WHERE status = 'open'").await == 1
    })
    .await;
    bed.api.repair(failed, "only", Repair::Discard, None, "ada").await.unwrap();
    bed.finish(failed, WorkflowState::Failed).await;
    let waiting = submit(&bed, "idempotent", "still asked").await;
    question(&bed, waiting).await;
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    let steps = json!([{ "name": "only", "agent": "writer" }]);
    let theirs = bed.submit_in(other, steps.clone(), json!({ "text": "theirs" })).await;
    bed.finish(theirs, WorkflowState::Succeeded).await;
    let context = bed.context();
    let again = request(steps, json!({ "text": "again" }));
    let first = bed.api.submit(&context, &again).await.unwrap();
    let first = WorkflowKey { workspace: bed.workspace, workflow: first.workflow };
    bed.finish(first, WorkflowState::Succeeded).await;
    let before: Vec<_> = [rows(&bed, out).await, rows(&bed, waiting).await, rows(&bed, theirs).await].into();
    let receipt = bed.api.post_view(bed.workspace, post_of(&bed, out).await.unwrap().id).await.unwrap();

    // Nobody forgets by itself, and nothing young is forgotten.
    let owner = Store::connect(&bed.database_url, 2).unwrap();
    let scheduler = bed.engine_as(Role::Engine);
    assert_eq!(forget_finished(&scheduler).await.unwrap(), 0);
    let later = bed.text("SELECT (now() + interval '30 days')::text").await;
    bed.set_clock(&later).await;
    assert_eq!(forget_finished(&scheduler).await.unwrap(), 0);
    assert!(owner.set_retention(bed.workspace, Some(7), "ada".into()).await.unwrap());
    assert!(owner.set_retention(bed.workspace, Some(0), "ada".into()).await.is_err());
    bed.execute("UPDATE finished_runs SET finished_at = galley_now() - interval '6 days 23 hours'").await;
    assert_eq!(forget_finished(&scheduler).await.unwrap(), 0);
    // A post of which nobody knows whether it is out holds its workflow.
    bed.execute("UPDATE finished_runs SET finished_at = galley_now() - interval '7 days 1 hour'").await;
    bed.execute("UPDATE publications SET state = 'in_doubt'").await;
    until("what is old is forgotten", async || {
        forget_finished(&scheduler).await.unwrap();
        rows(&bed, failed).await.is_empty()
    })
    .await;
    assert_eq!(rows(&bed, out).await, before[0]);
    bed.execute("UPDATE publications SET state = 'published'").await;
    until("its workflow is forgotten", async || {
        forget_finished(&scheduler).await.unwrap();
        !names(&rows(&bed, out).await).contains(&"workflows")
    })
    .await;

    assert_eq!(rows(&bed, rejected).await, [], "what never went out is gone whole");
    assert_eq!(rows(&bed, first).await, []);
    assert_eq!(rows(&bed, waiting).await, before[1], "what is not over stays");
    assert_eq!(rows(&bed, theirs).await, before[2], "another workspace keeps its own");
    assert_eq!(names(&rows(&bed, out).await), ["posts", "approvals", "publications"]);
    let kept = bed.api.post_view(bed.workspace, receipt.post.id).await.unwrap();
    let (kept_at, was) = (kept.publication.unwrap(), receipt.publication.unwrap());
    assert_eq!(
        (&kept_at.effect_key, &kept_at.content_hash, kept_at.sends, &kept_at.remote_id, kept_at.approval),
        (&was.effect_key, &was.content_hash, was.sends, &was.remote_id, was.approval)
    );
    for table in ["workflows", "results", "posts", "post_revisions", "publications", "approvals", "attempts"]
    {
        let canary = format!("SELECT count(*) FROM {table} t WHERE to_jsonb(t)::text LIKE '%canary%'");
        assert_eq!(bed.count(&canary).await, 0, "{table} holds what was forgotten");
    }
    // One line a pass that forgot something, and the day's counter still binds.
    let lines = bed
        .texts("SELECT detail->>'workflows' FROM audit WHERE action = 'retention.forget' ORDER BY id")
        .await;
    assert_eq!(lines.iter().map(|n| n.parse::<i64>().unwrap()).sum::<i64>(), 4, "{lines:?}");
    assert!(lines.len() <= 4, "{lines:?}");
    assert!(bed.count("SELECT sum(used)::int8 FROM day_quota").await > 0);
    // Its key is forgotten with it.
    let new = bed.api.submit(&context, &again).await.unwrap();
    assert!(new.new && new.workflow != first.workflow);
    in_state(&bed, waiting, "waiting_approval").await;
    owner.close().await;
    scheduler.store().close().await;
    bed.end().await;
}
