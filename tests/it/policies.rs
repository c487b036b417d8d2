//! What the policy of a workspace forbids does not happen.

use galley_core::automation::Mode;
use galley_core::ids::AgentType;
use galley_core::publish::PostContent;
use galley_core::run::WorkflowState;
use galley_engine::EngineError;
use serde_json::json;

use crate::harness::posts::{autonomous, bed, in_state, policy, post_of, question, submit};
use crate::harness::{Network, problems, request};

/// Mode × approval required × agents × platforms, over the real engine.
#[tokio::test]
async fn only_what_the_policy_lets_out_goes_out() {
    let network = Network::new();
    let bed = bed(&network).await;
    let mut expected = Vec::new();
    for mode in Mode::ALL {
        for approval in [false, true] {
            for allowed in [None, Some(vec!["network".to_owned()])] {
                for agents in [None, Some(vec!["writer", "publisher"])] {
                    policy(&bed, |config| {
                        config.mode = mode;
                        config.content_approval_required = approval;
                        config.allowed_platforms = allowed.clone();
                        config.enabled_agents = agents.clone().map(|names| {
                            names.into_iter().map(|name| AgentType::new(name).unwrap()).collect()
                        });
                    })
                    .await;
                    let text =
                        format!("{} {approval} {} {}", mode.word(), allowed.is_some(), agents.is_some());
                    let key = submit(&bed, "idempotent", &text).await;
                    if mode == Mode::Manual {
                        let go = question(&bed, key).await;
                        assert_eq!((go.kind.as_str(), go.step_name.as_str()), ("go", "write"));
                        bed.api.approve(bed.workspace, go.id, None, None, "ada").await.unwrap();
                    }
                    if mode == Mode::FullAutonomous && !approval {
                        expected.push(text);
                        bed.finish(key, WorkflowState::Succeeded).await;
                    } else {
                        in_state(&bed, key, "waiting_approval").await;
                        assert_eq!(question(&bed, key).await.kind, "post");
                        bed.api.cancel(key, "test").await.unwrap();
                    }
                }
            }
        }
    }
    assert_eq!(network.texts(), expected);
    bed.end().await;
}

/// The other half of the table: a platform or an agent that is not allowed,
/// when it is submitted and when it is forbidden only afterwards.
#[tokio::test]
async fn what_the_policy_forbids_goes_out_in_no_mode() {
    let network = Network::new();
    let bed = bed(&network).await;
    let writer = || Some(vec![AgentType::new("writer").unwrap()]);
    for mode in Mode::ALL {
        for approval in [false, true] {
            for by_agent in [false, true] {
                let case = format!("{} {approval} {by_agent}", mode.word());
                // Held for a person first, so that there is a post to forbid.
                policy(&bed, |config| {
                    config.mode = Mode::Assisted;
                    config.content_approval_required = true;
                    config.enabled_agents = None;
                    config.allowed_platforms = None;
                })
                .await;
                let key = submit(&bed, "idempotent", &case).await;
                let asked = question(&bed, key).await;
                policy(&bed, |config| {
                    config.mode = mode;
                    config.content_approval_required = approval;
                    match by_agent {
                        true => config.enabled_agents = writer(),
                        false => config.allowed_platforms = Some(vec!["elsewhere".into()]),
                    }
                })
                .await;
                let steps = json!([
                    { "name": "write", "agent": "writer" },
                    { "name": "publish", "agent": "publisher", "input": { "account": "idempotent" } },
                ]);
                let now = bed.api.submit(&bed.context(), &request(steps, json!({ "text": "x" }))).await;
                let told = problems(&now.unwrap_err()).join("\n");
                assert!(told.contains("is not enabled") || told.contains("is not allowed"), "{case}: {told}");
                bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
                assert_eq!(in_state(&bed, key, "failed").await.state, "failed", "{case}");
                bed.api.cancel(key, "test").await.unwrap();
            }
        }
    }
    assert_eq!(network.texts(), Vec::<String>::new());
    bed.end().await;
}

#[tokio::test]
async fn what_is_forbidden_is_refused_when_it_is_submitted() {
    let network = Network::new();
    let bed = bed(&network).await;
    let steps = json!([
        { "name": "write", "agent": "writer" },
        { "name": "publish", "agent": "publisher", "forEach": { "path": "/accounts", "max": 5 } },
    ]);
    let input = json!({ "text": "x", "accounts": ["idempotent", "nobody"] });
    let refused = bed.api.submit(&bed.context(), &request(steps.clone(), input)).await.unwrap_err();
    let told = problems(&refused).join("\n");
    assert!(told.starts_with("input.accounts[1]: there is no account `nobody`"), "{told}");
    policy(&bed, |config| config.allowed_platforms = Some(vec!["elsewhere".into()])).await;
    let input = json!({ "text": "x", "accounts": ["idempotent"] });
    let refused = bed.api.submit(&bed.context(), &request(steps.clone(), input.clone())).await.unwrap_err();
    assert!(problems(&refused)[0].contains("platform `network` is not allowed"), "{refused}");
    policy(&bed, |config| {
        config.allowed_platforms = None;
        config.enabled_agents = Some(vec![AgentType::new("writer").unwrap()]);
    })
    .await;
    let refused = bed.api.submit(&bed.context(), &request(steps, input)).await.unwrap_err();
    assert!(
        problems(&refused)[0].starts_with("steps[1].agent: the agent `publisher` is not enabled"),
        "{refused}"
    );
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 0);
    bed.end().await;
}

#[tokio::test]
async fn a_platform_forbidden_meanwhile_stops_a_post_and_allowing_it_again_lets_it_out() {
    let network = Network::new();
    let bed = bed(&network).await;
    let key = submit(&bed, "idempotent", "later").await;
    let asked = question(&bed, key).await;
    policy(&bed, |config| config.allowed_platforms = Some(vec!["elsewhere".into()])).await;
    bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Stalled).await;
    assert_eq!(post_of(&bed, key).await.unwrap().state, "failed");
    let why = bed.api.why(key, None).await.unwrap().sentence;
    assert!(why.contains("not allowed"), "{why}");
    policy(&bed, |config| config.allowed_platforms = None).await;
    bed.api.repair(key, "publish", galley_engine::Repair::Retry, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["later"]);
    bed.end().await;
}

#[tokio::test]
async fn a_step_that_does_not_get_its_go_fails_its_workflow() {
    let network = Network::new();
    let bed = bed(&network).await;
    policy(&bed, |config| config.mode = Mode::Manual).await;
    let key = submit(&bed, "idempotent", "never").await;
    let go = question(&bed, key).await;
    bed.api.reject(bed.workspace, go.id, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Failed).await;
    assert_eq!(network.texts(), Vec::<String>::new());
    bed.end().await;
}

#[tokio::test]
async fn a_policy_that_was_changed_meanwhile_is_not_overwritten() {
    let network = Network::new();
    let bed = bed(&network).await;
    let seen = bed.api.policy(bed.workspace).await.unwrap();
    autonomous(&bed).await;
    let stale = bed.api.set_policy(bed.workspace, &seen.config, Some(seen.version), "eve").await;
    assert!(matches!(stale, Err(EngineError::Conflict(_))), "{stale:?}");
    let mut wrong = seen.config.clone();
    wrong.time_zone = "Mars/Olympus".into();
    let refused = bed.api.set_policy(bed.workspace, &wrong, None, "eve").await.unwrap_err();
    assert!(problems(&refused)[0].starts_with("timeZone: "), "{refused}");
    assert_eq!(bed.api.policy(bed.workspace).await.unwrap().config.mode, Mode::FullAutonomous);
    bed.end().await;
}

/// An edit voids the question. Whatever the policy says by then, somebody has
/// to be asked again, or the post waits for ever.
#[tokio::test]
async fn a_post_edited_while_its_platform_is_forbidden_is_asked_about_again() {
    let network = Network::new();
    let bed = bed(&network).await;
    let key = submit(&bed, "idempotent", "first").await;
    let asked = question(&bed, key).await;
    let post = post_of(&bed, key).await.unwrap();
    policy(&bed, |config| config.allowed_platforms = Some(vec!["elsewhere".into()])).await;
    let edit = PostContent { text: "second".into(), link: None };
    let changed = bed.api.edit_post(bed.workspace, post.id, &edit, None, false, "ada").await.unwrap();
    let again = changed.question.expect("somebody is asked");
    assert_eq!(question(&bed, key).await.id, again);
    assert_ne!(again, asked.id);
    policy(&bed, |config| config.allowed_platforms = None).await;
    bed.api.approve(bed.workspace, again, None, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["second"]);
    bed.end().await;
}
