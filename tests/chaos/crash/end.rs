//! How a case has to end: everything that was promised, once, and nothing left.

use std::collections::HashMap;

use galley_core::ids::{WorkflowId, WorkflowKey};
use galley_core::run::{StepState, WorkflowState};
use galley_engine::{EngineError, Resolution};
use sqlx::Row;

use crate::bed::{Bed, sure, until};
use crate::fleet::specs;

/// Plays the people until nothing lives any more.
pub(crate) async fn settle(bed: &Bed) {
    until("every workflow is over", async || {
        if bed.people {
            for question in bed.questions().await {
                answered(async || {
                    bed.engine.approve(bed.workspace, question.id, None, None, "ada").await.map(drop)
                })
                .await;
            }
        }
        for post in bed.posts().await.iter().filter(|post| post.state == "in_doubt") {
            // They look, as a person would.
            let content = serde_json::from_str::<serde_json::Value>(&post.content).unwrap();
            let there = bed.network.ledger().posts.iter().any(|there| content["text"] == there.text.as_str());
            let found = match there {
                true => Resolution::Published { remote_id: None, link: None },
                false => Resolution::NotThere,
            };
            answered(async || {
                let looked = bed.engine.post_view(bed.workspace, post.id).await?;
                let sends = looked.publication.map_or(0, |publication| publication.sends.unsigned_abs());
                bed.engine.resolve_post(bed.workspace, post.id, sends, found.clone(), "ada").await.map(drop)
            })
            .await;
        }
        let due = "SELECT count(*) FROM schedules WHERE next_at <= galley_now()";
        bed.count(due).await == 0 && bed.count("SELECT count(*) FROM runs").await == 0
    })
    .await;
}

/// Asks until there is an answer; somebody else may have been faster.
async fn answered(mut ask: impl AsyncFnMut() -> Result<(), EngineError>) {
    sure(async || match ask().await {
        Err(EngineError::Conflict(_)) => Ok(()),
        answered => answered,
    })
    .await;
}

/// Ends the fleet, and accuses whoever lost, doubled or left something.
pub(crate) async fn check(bed: &mut Bed) {
    settle(bed).await;
    until("the queues are empty", async || {
        let agents: Vec<_> = specs().into_iter().map(|spec| spec.agent).collect();
        let depths = bed.engine.queue().depths(&agents).await.unwrap();
        depths.iter().all(|depth| depth.ready == 0 && depth.in_flight == 0)
    })
    .await;
    bed.stop_worker().await;
    until("every session is swept", async || {
        bed.count("SELECT count(*) FROM sessions WHERE swept_at IS NULL").await == 0
    })
    .await;
    bed.stop_duties().await;

    let made = sqlx::query("SELECT id FROM workflows WHERE created_by LIKE 'schedule:%'");
    for row in made.fetch_all(&bed.sql).await.unwrap() {
        let key = WorkflowKey { workspace: bed.workspace, workflow: WorkflowId(row.try_get(0).unwrap()) };
        bed.workflows.push((key, WorkflowState::Succeeded));
    }
    let accepted = bed.count("SELECT count(*) FROM workflows").await;
    assert_eq!(accepted, bed.workflows.len() as i64, "every workflow is there once");
    for (key, state) in &bed.workflows {
        let history = sure(async || bed.engine.history(*key).await).await;
        assert_eq!(history.workflow.state, *state, "{key:?}");
        results(bed, &history).await;
    }
    posts(bed).await;
    for (action, times) in &bed.audited {
        let told = format!("SELECT count(*) FROM audit WHERE action = '{action}'");
        assert_eq!(bed.count(&told).await, *times, "audit lines of {action}");
    }
    for (what, query) in [
        ("steps are still marked running", "SELECT coalesce(sum(running), 0)::int8 FROM runs"),
        ("timers of nobody", "SELECT count(*) FROM timers"),
        ("open dead letters", "SELECT count(*) FROM dead_letters WHERE status = 'open'"),
        ("open questions", "SELECT count(*) FROM approvals WHERE status = 'pending'"),
        ("both live and over", "SELECT count(*) FROM finished_runs f JOIN runs r USING (workspace_id, id)"),
    ] {
        assert_eq!(bed.count(query).await, 0, "{what}");
    }
    let idle = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until("nothing is idle in a transaction", async || bed.count(idle).await == 0).await;
}

/// One result per succeeded step, of the claim that won.
async fn results(bed: &Bed, history: &galley_engine::WorkflowHistory) {
    let key = history.workflow.row.key;
    let rows = sqlx::query("SELECT step, epoch FROM results WHERE workspace_id = $1 AND workflow_id = $2")
        .bind(key.workspace.0)
        .bind(key.workflow.0)
        .fetch_all(&bed.sql)
        .await
        .unwrap();
    let mut epochs: HashMap<usize, i32> = HashMap::new();
    for row in rows {
        let step: i16 = row.try_get(0).unwrap();
        assert!(
            epochs.insert(step as usize, row.try_get(1).unwrap()).is_none(),
            "two results of step {step}"
        );
    }
    for (index, step) in history.workflow.run.steps.iter().enumerate() {
        let epoch = epochs.remove(&index);
        assert_eq!(epoch.is_some(), step.state == StepState::Succeeded, "the result of step {index}");
        // A person's word about a post has no epoch.
        let stands = epoch.is_none_or(|epoch| epoch as u32 == step.epoch || epoch == 0);
        assert!(stands, "step {index} is at epoch {}, its result at {epoch:?}", step.epoch);
    }
    assert!(epochs.is_empty(), "results of no step: {epochs:?}");
}

/// Each post is out once, and every place of the day is accounted for.
async fn posts(bed: &Bed) {
    let ledger = bed.network.ledger();
    assert!(ledger.duplicates.is_empty(), "twice on the platform: {:?}", ledger.duplicates);
    let mut there: Vec<_> = ledger.posts.iter().map(|post| post.text.clone()).collect();
    let mut wanted = bed.texts.clone();
    there.sort();
    wanted.sort();
    assert_eq!(there, wanted, "what is on the platform");
    let published = bed.count("SELECT count(*) FROM publications WHERE state = 'published'").await;
    assert_eq!(published, there.len() as i64, "what Galley says is published");
    let places = bed.count("SELECT count(*) FROM publications WHERE quota_held").await;
    assert_eq!(places, published, "places held");
    for (whose, scope) in [("the workspace's", "="), ("the accounts'", "<>")] {
        let used = format!(
            "SELECT coalesce(sum(used), 0)::int8 FROM day_quota
              WHERE account_id {scope} '00000000-0000-0000-0000-000000000000'"
        );
        assert_eq!(bed.count(&used).await, published, "{whose} places of the day");
    }
}
