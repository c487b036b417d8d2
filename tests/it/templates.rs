//! The built-in templates with the built-in agents, on the offline provider:
//! what they make, what is written anew, and what a person has to decide.

use std::sync::Arc;

use galley_agents::{Prices, ProviderConfig, Providers};
use galley_core::figures::Figures;
use galley_core::ids::{AgentType, WorkflowKey, WorkspaceId};
use galley_core::run::{StepState, WorkflowState};
use galley_engine::Submit;
use serde_json::{Value, json};

use crate::harness::posts::{account, autonomous, policy, posts, question};
use crate::harness::{Agents, Bed, Network, Setup};

/// The agents of the templates, offline.
fn agents() -> Agents {
    let config: ProviderConfig = serde_json::from_value(json!({})).unwrap();
    let providers = Arc::new(Providers::new(config, Prices::built_in().unwrap()).unwrap());
    Agents::default()
        .with_definition("analytics", include_str!("../../agents/analytics.toml"), &providers)
        .with_definition("trend_detection", include_str!("../../agents/trend_detection.toml"), &providers)
        .with_definition(
            "competitor_analysis",
            include_str!("../../agents/competitor_analysis.toml"),
            &providers,
        )
        .with_definition("strategy", include_str!("../../agents/strategy.toml"), &providers)
        .with_definition("content_creator", include_str!("../../agents/content_creator.toml"), &providers)
        .with_definition("reviewer", include_str!("../../agents/reviewer.toml"), &providers)
}

async fn submit(bed: &Bed, template: &str, input: Value) -> WorkflowKey {
    let submit = Submit { template: Some(template.into()), definition: None, input, priority: None };
    let submitted = bed.api.submit(&bed.context(), &submit).await.unwrap();
    WorkflowKey { workspace: bed.workspace, workflow: submitted.workflow }
}

/// The steps of a workflow that ran, expanded ones by their parts.
async fn ran(bed: &Bed, key: WorkflowKey) -> Vec<String> {
    let view = bed.api.workflow(key).await.unwrap();
    let groups: Vec<u16> = view.run.steps.iter().filter(|s| s.item.is_some()).map(|s| s.plan).collect();
    (0..view.run.steps.len() as u16)
        .filter(|step| view.run.steps[usize::from(*step)].state == StepState::Succeeded)
        .filter(|step| !groups.contains(step))
        .map(|step| view.run.step_name(&view.plan, step))
        .collect()
}

/// One fact, so that every sample post tells it.
fn brief(more: Value) -> Value {
    let mut brief = json!({
        "product": { "name": "Lantern", "description": "a lamp that tells the tide" },
        "goals": ["sell"], "audience": "people by the sea", "platforms": ["x", "linkedin"],
        "facts": ["It costs 40 pounds"],
    });
    brief.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    brief
}

#[tokio::test]
async fn a_campaign_writes_anew_what_its_review_refuses_and_publishes_what_it_approves() {
    let network = Network::new();
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    for name in ["one", "two"] {
        let settings = json!({ "contentPlatform": "x", "settings": { "kind": "idempotent" } });
        account(&bed, name, settings).await;
    }
    bed.serve(&agents()).await;
    autonomous(&bed).await;
    let accounts = json!(["one", "two"]);
    let first_round = ["strategy", "review", "content.0", "content.1"];

    // Nothing to remark: as if there were no rounds.
    let key = submit(&bed, "campaign", brief(json!({ "accounts": accounts }))).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(ran(&bed, key).await, [&first_round[..], &["publish.0", "publish.1"]].concat());
    assert_eq!(network.texts().len(), 2);

    // They name the price, which the brief wants to avoid.
    let key = submit(&bed, "campaign", brief(json!({ "accounts": accounts, "avoid": ["40 pounds"] }))).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    let again = ran(&bed, key).await;
    for step in ["content_2.0", "content_2.1", "review_2"] {
        assert!(again.contains(&step.to_owned()), "{again:?}");
    }
    assert!(!again.iter().any(|step| step.starts_with("content_3")), "{again:?}");
    let texts = network.texts();
    assert_eq!(texts.len(), 4);
    for text in &texts[..2] {
        assert!(text.contains("40 pounds") && text.starts_with("[sample for x, max"), "{text}");
    }
    for text in &texts[2..] {
        assert!(!text.contains("40 pounds") && text.starts_with("[sample for x, round 2"), "{text}");
    }

    // No sample copy is that good: two rounds, then a person decides.
    let key = submit(&bed, "campaign", brief(json!({ "accounts": ["one"], "minScore": 1 }))).await;
    let asked = question(&bed, key).await;
    assert!(asked.reason.starts_with("its review scores it (0.9) below 1"), "{}", asked.reason);
    assert_eq!(network.texts().len(), 4);
    let again = ran(&bed, key).await;
    assert!(again.contains(&"content_3.0".to_owned()) && again.contains(&"review_3".to_owned()), "{again:?}");
    bed.api.approve(bed.workspace, asked.id, Some(&asked.content_hash), None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert!(network.texts()[4].contains("round 3"));

    // Without accounts nothing is published, and nobody has to be able to.
    policy(&bed, |config| {
        let enabled = ["strategy", "content_creator", "reviewer"];
        config.enabled_agents = Some(enabled.map(|name| AgentType::new(name).unwrap()).to_vec());
    })
    .await;
    let key = submit(&bed, "campaign", brief(json!({}))).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(ran(&bed, key).await, first_round);
    assert_eq!((network.texts().len(), posts(&bed, Default::default()).await.len()), (5, 5));
    let refused = Submit {
        template: Some("campaign".into()),
        definition: None,
        input: brief(json!({ "accounts": accounts })),
        priority: None,
    };
    let told = bed.api.submit(&bed.context(), &refused).await.unwrap_err().to_string();
    assert!(told.contains("the agent `publisher` is not enabled"), "{told}");

    policy(&bed, |config| config.enabled_agents = None).await;
    // Accounts that a model's answer names are nobody's choice.
    let steps = json!([
        { "name": "strategy", "agent": "strategy" },
        { "name": "publish", "agent": "publisher", "forEach": { "step": "strategy", "path": "/platforms", "max": 8 } },
    ]);
    let definition = serde_json::from_value(json!({ "name": "led", "steps": steps })).unwrap();
    let led =
        Submit { template: None, definition: Some(definition), input: brief(json!({})), priority: None };
    let told = bed.api.submit(&bed.context(), &led).await.unwrap_err().to_string();
    assert!(told.contains("steps[1].forEach.step: accounts are named by whoever submits"), "{told}");

    let key = submit(&bed, "single_post", json!({ "product": "Lantern", "platform": "x" })).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(ran(&bed, key).await, ["content", "review"]);

    // Competitors where the brief names some.
    let trend = |more: &str, texts: Value| brief(json!({ "accounts": ["one"], more: texts }));
    let key = submit(&bed, "trend_response", trend("competitors", json!(["Harbour"]))).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert!(ran(&bed, key).await.contains(&"competitors".to_owned()));
    let key = submit(&bed, "trend_response", trend("observations", json!(["Tides are late"]))).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert!(!ran(&bed, key).await.contains(&"competitors".to_owned()));
    let topics = history.output(0).unwrap();
    assert!(topics.to_string().contains("Tides are late"), "{topics}");
    assert_eq!(network.texts().len(), 7);

    reports(&bed, &network).await;
    bed.end().await;
}

/// What the analyst says of all of this, and when it is over.
async fn reports(bed: &Bed, network: &Network) {
    let key = submit(bed, "weekly_report", json!({ "product": "Lantern" })).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(ran(bed, key).await, ["report"]);
    let report = history.output(0).unwrap();
    let told = report["summary"]["headline"].as_str().unwrap();
    assert!(told.starts_with("[sample] 7 posts went out in 7 days"), "{told}");
    let figures: Figures = serde_json::from_value(report["figures"].clone()).unwrap();
    let platforms: Vec<_> =
        figures.posts.by_platform.iter().map(|of| (of.platform.as_str(), of.published)).collect();
    assert_eq!((figures.posts.published, platforms), (7, vec![("x", 7)]));
    let decisions = &figures.decisions;
    assert_eq!((decisions.made, decisions.approved, decisions.rejected, decisions.edited), (7, 1, 0, 0));
    assert_eq!((figures.spend.micros, figures.spend.per_post_micros), (0, Some(0)));
    let workflows = &figures.workflows;
    assert_eq!((workflows.succeeded, workflows.failed, workflows.with_rework), (7, 0, 2));
    let of = |agent: &str| figures.agents.iter().find(|of| of.agent == agent).unwrap();
    // The strategist: four campaigns, two responses.
    assert_eq!((of("strategy").steps, of("strategy").rework, of("strategy").failed), (6, 0, 0));
    // Reviews: one for each of seven, then one and two again.
    assert_eq!((of("reviewer").steps, of("reviewer").rework), (10, 3));
    assert_eq!(of("publisher").succeeded, 7);
    assert_eq!((figures.models.len(), figures.models[0].model.as_str()), (1, "sample"));

    // Nobody else's, and not for ever.
    let other = WorkspaceId(uuid::Uuid::now_v7());
    let nothing = bed.engine.figures(other, 7).await.unwrap();
    assert_eq!((nothing.posts.published, nothing.agents.len(), nothing.decisions.made), (0, 0, 0));
    let until: jiff::Timestamp = figures.period.until.parse().unwrap();
    let later = |days: i64| (until + jiff::SignedDuration::from_hours(24 * days + 1)).to_string();
    bed.set_clock(&later(7)).await;
    let nothing = bed.engine.figures(bed.workspace, 7).await.unwrap();
    assert_eq!((nothing.posts.published, nothing.agents.len(), nothing.decisions.made), (0, 0, 0));
    let all = bed.engine.figures(bed.workspace, 30).await.unwrap();
    assert_eq!((all.posts.clone(), all.decisions.clone()), (figures.posts, figures.decisions));
    assert_eq!(all.workflows.succeeded, figures.workflows.succeeded + 1, "and the report itself");
    assert_eq!(network.texts().len(), 7);
}
