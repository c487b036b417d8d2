//! What is done about a post of which nobody knows whether it is out, when the
//! world has changed since it was sent.

use galley_core::run::WorkflowState;
use galley_engine::Resolution;
use serde_json::json;

use crate::harness::posts::{
    account, autonomous, bed, in_state, policy, post_of, question, resolve, submit, writer,
};
use crate::harness::{Bed, Fault, Network, Setup, until};

/// A post that a look did not find is as unsent as any: today's policy has its
/// say before it is sent again.
#[tokio::test]
async fn an_absent_post_passes_the_gate_again() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    network.fail([Fault::LoseRequest]);
    let key = submit(&bed, "verifiable", "asked for again").await;
    in_state(&bed, key, "unknown").await;
    policy(&bed, |config| config.content_approval_required = true).await;
    let asked = question(&bed, key).await;
    assert_eq!(network.texts(), Vec::<String>::new());
    // Its place of the day is free while it waits.
    assert_eq!(bed.count("SELECT coalesce(sum(used), 0)::int8 FROM day_quota").await, 0);
    bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["asked for again"]);
    let post = post_of(&bed, key).await.unwrap();
    let view = bed.api.post_view(bed.workspace, post.id).await.unwrap();
    let told: Vec<&str> = view.events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(told.first(), Some(&"intent"), "{told:?}");
    assert_eq!(told[told.len() - 3..], ["not_sent", "intent", "published"], "{told:?}");
    bed.end().await;
}

/// Asking with the key would send it, if it is not out: not after a cancel.
#[tokio::test]
async fn a_cancelled_post_is_not_sent_once_more() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    for (fault, texts) in [(Fault::LoseRequest, 0), (Fault::LoseReply, 1)] {
        network.fail([fault]);
        let key = submit(&bed, "idempotent", &format!("{fault:?}")).await;
        in_state(&bed, key, "unknown").await;
        bed.api.cancel(key, "ada").await.unwrap();
        let post = in_state(&bed, key, "in_doubt").await;
        assert_eq!(network.texts().len(), texts, "{fault:?}");
        let (found, end) = match fault {
            Fault::LoseRequest => (Resolution::NotThere, "cancelled"),
            _ => (Resolution::Published { remote_id: None, link: None }, "published"),
        };
        resolve(&bed, post.id, found).await;
        in_state(&bed, key, end).await;
    }
    bed.finish_all().await;
    assert_eq!(network.texts(), ["LoseReply"]);
    bed.end().await;
}

/// The platform may forget the key before the call is heard.
#[tokio::test]
async fn a_key_is_not_used_up_to_its_last_moment() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network.clone()), ..Setup::default() }).await;
    account(&bed, "main", json!({ "settings": { "kind": "idempotent" } })).await;
    // No duties: the post rests until this test says that it is time.
    bed.start_worker(&writer(), 4).await;
    autonomous(&bed).await;
    network.fail([Fault::LoseRequest]);
    let key = submit(&bed, "main", "too late for its key").await;
    in_state(&bed, key, "unknown").await;
    // Still kept for a second; a call may take two.
    bed.execute(
        "CREATE OR REPLACE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE
             AS $$ SELECT '2026-11-26 12:00:00Z'::timestamptz $$;
         UPDATE publications SET first_sent_at = galley_now() - interval '3599 s';
         UPDATE timers SET due_at = galley_now()",
    )
    .await;
    bed.start_duties();
    let post = in_state(&bed, key, "in_doubt").await;
    assert_eq!(network.texts(), Vec::<String>::new());
    resolve(&bed, post.id, Resolution::GivenUp).await;
    bed.finish(key, WorkflowState::Failed).await;
    bed.end().await;
}

/// A platform may show a post only some time after it took it.
#[tokio::test]
async fn a_look_that_comes_too_early_proves_nothing() {
    let network = Network::new();
    let bed = bed(&network).await;
    account(&bed, "slow", json!({ "settings": { "kind": "verifiable", "settleSeconds": 3_600 } })).await;
    autonomous(&bed).await;
    network.fail([Fault::LoseRequest]);
    let key = submit(&bed, "slow", "shows late").await;
    until("somebody looked", async || {
        bed.count("SELECT count(*) FROM publications WHERE told LIKE '%may still appear'").await == 1
    })
    .await;
    assert_eq!(network.texts(), Vec::<String>::new());
    bed.execute("UPDATE publications SET not_after = not_after - interval '2 hours'").await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["shows late"]);
    bed.end().await;
}
