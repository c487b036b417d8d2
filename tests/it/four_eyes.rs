//! Four eyes: whoever approves is neither who wrote the post nor who submitted
//! its workflow.

use galley_core::publish::PostContent;
use galley_core::run::WorkflowState;
use galley_engine::EngineError;

use crate::harness::Network;
use crate::harness::posts::{bed, policy, post_of, question, submit};

fn refused(outcome: Result<impl std::fmt::Debug, EngineError>, told: &str) {
    match outcome {
        Err(EngineError::Conflict(why)) => assert!(why.contains(told), "{why}"),
        other => panic!("{told}: {other:?}"),
    }
}

#[tokio::test]
async fn nobody_approves_what_they_wrote_or_asked_for() {
    let network = Network::new();
    let bed = bed(&network).await;
    let (one, two) = (submit(&bed, "idempotent", "one").await, submit(&bed, "idempotent", "two").await);
    // Without the policy whoever submitted may.
    let asked = question(&bed, one).await;
    bed.engine.approve(bed.workspace, asked.id, None, None, "producer").await.unwrap();
    bed.finish(one, WorkflowState::Succeeded).await;

    policy(&bed, |config| config.four_eyes = true).await;
    let asked = question(&bed, two).await;
    let approve = async |id, actor: &str| bed.engine.approve(bed.workspace, id, None, None, actor).await;
    refused(approve(asked.id, "producer").await, "producer submitted the workflow");
    refused(approve(asked.id, "key:0123456789ab").await, "nobody's eyes");
    let post = post_of(&bed, two).await.unwrap();
    let content = PostContent { text: "two, by ada".into(), link: None };
    let edit =
        async |approve| bed.engine.edit_post(bed.workspace, post.id, &content, None, approve, "ada").await;
    refused(edit(true).await, "four eyes");
    edit(false).await.unwrap();
    let asked = question(&bed, two).await;
    refused(approve(asked.id, "ada").await, "ada wrote revision 2");
    refused(approve(asked.id, "producer").await, "producer submitted");
    assert_eq!(network.texts(), ["one"]);
    approve(asked.id, "bob").await.unwrap();
    bed.finish(two, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["one", "two, by ada"]);
    bed.end().await;
}
