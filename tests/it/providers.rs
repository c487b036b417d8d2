//! Providers of a workspace's own: its key at its address, its prices in the
//! books, nobody else's; out of the API's reach, and gone when removed.

use std::collections::BTreeMap;

use galley_core::ids::{AgentType, WorkflowKey, WorkspaceId};
use galley_core::money::Price;
use galley_core::run::WorkflowState;
use galley_engine::store::Role;
use galley_engine::{EngineError, NewProvider};
use serde_json::json;

use crate::harness::{Agents, Bed, Does, Service, Setup, until};

fn asker(deployments: &Service) -> Agents {
    let toml = "name = \"asker\"\ndescription = \"Asks.\"\nmodels = [\"openai\"]\n[sampling]\nmax_tokens = 50\n\
                [limits]\nmax_attempts = 1\n[prompt]\nsystem = \"Be brief.\"\nuser = \"{{ brief.n }}\"\n\
                [schema]\ninput = \"true\"\noutput = '{\"type\":\"object\",\"required\":[\"ok\"]}'\n";
    Agents::default().with_definition("asker", toml, &deployments.providers())
}

fn own(service: &Service, key: Option<&str>) -> NewProvider {
    NewProvider {
        base_url: Some(service.base_url().to_owned()),
        model: "mine".into(),
        api_key: key.map(|key| key.to_owned().into()),
        max_concurrency: Some(3),
        // Ten times what the deployment's costs.
        prices: BTreeMap::from([(
            "mine".into(),
            Price { input: 20_000_000, cached: None, output: 80_000_000, max_output: 400 },
        )]),
    }
}

async fn ask(bed: &Bed, workspace: WorkspaceId, n: usize) -> WorkflowKey {
    bed.submit_in(workspace, json!([{ "name": "ask", "agent": "asker" }]), json!({ "n": n })).await
}

#[tokio::test]
async fn a_workspace_asks_its_own_provider_with_its_own_key_at_its_own_price() {
    let (deployments, mine) = (Service::start(says()).await, Service::start(says()).await);
    let mut bed = Bed::with(Setup { nervous: true, ..Setup::default() }).await;
    bed.serve(&asker(&deployments)).await;
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    let me = bed.workspace;

    // Without one of its own the deployment's answers.
    bed.finish(ask(&bed, me, 1).await, WorkflowState::Succeeded).await;
    assert_eq!(deployments.ledger().keys, [Some("sk-test".to_owned())]);

    let set = bed.api.set_provider(me, "openai", own(&mine, Some("sk-mine-1")), "ada").await.unwrap();
    assert_eq!((set.has_key, set.model.as_str(), set.set_by.as_str()), (true, "mine", "ada"));
    let key = ask(&bed, me, 2).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    // The neighbour's calls go on to the deployment's.
    bed.finish(ask(&bed, other, 3).await, WorkflowState::Succeeded).await;
    assert_eq!(mine.ledger().keys, [Some("sk-mine-1".to_owned())]);
    assert_eq!(deployments.ledger().keys.len(), 2);
    let usage = &history.results[&0].usage;
    assert_eq!(usage.cost_micros, 10 * mine.ledger().micros, "by the workspace's own prices");
    let note = &history.deliberations.last().unwrap().deliberation;
    assert_eq!(note.model, "openai:mine");

    // What its server does is known to itself, and moves nobody else's choice.
    until("the run is learned from", async || {
        bed.count("SELECT count(*) FROM experience WHERE model = 'openai:mine'").await == 1
    })
    .await;
    let asker = AgentType::new("asker").unwrap();
    let known = bed.engine.known_models(me, &asker).await.unwrap();
    let weights = known.iter().map(|known| (known.model.as_str(), known.own.weight, known.global.weight));
    assert!(
        weights.clone().any(|known| known == ("openai:mine", 1.0, 0.0)),
        "{:?}",
        weights.collect::<Vec<_>>()
    );
    let elsewhere = bed.engine.known_models(other, &asker).await.unwrap();
    assert!(elsewhere.iter().all(|known| known.model != "openai:mine"), "{elsewhere:?}");

    // Another key, at once; then none: it never goes where it was not given for.
    bed.api.set_provider(me, "openai", own(&mine, Some("sk-mine-2")), "ada").await.unwrap();
    bed.finish(ask(&bed, me, 4).await, WorkflowState::Succeeded).await;
    bed.api.set_provider(me, "openai", own(&mine, None), "ada").await.unwrap();
    bed.finish(ask(&bed, me, 5).await, WorkflowState::Succeeded).await;
    let keys = mine.ledger().keys;
    assert_eq!(keys[1..], [Some("sk-mine-2".to_owned()), Some("none".to_owned())]);

    // Whoever writes to the database cannot send a key elsewhere: it is bound
    // to its address, and the step says what is wrong.
    bed.api.set_provider(me, "openai", own(&mine, Some("sk-mine-3")), "ada").await.unwrap();
    let elsewhere = deployments.base_url();
    bed.execute(&format!("UPDATE providers SET base_url = '{elsewhere}', version = version + 1")).await;
    let dead = ask(&bed, me, 6).await;
    bed.finish(dead, WorkflowState::Stalled).await;
    let told = bed.text("SELECT message FROM dead_letters").await;
    assert!(told.contains("cannot be opened"), "{told}");
    assert_eq!(deployments.ledger().keys.len(), 2, "nothing was sent");

    bed.api.remove_provider(me, "openai", "ada").await.unwrap();
    bed.finish(ask(&bed, me, 7).await, WorkflowState::Succeeded).await;
    assert_eq!(deployments.ledger().keys.len(), 3);
    assert_eq!(bed.count("SELECT count(*) FROM provider_keys").await, 0);
    let audited = bed.audited().await;
    assert_eq!(audited.iter().filter(|action| *action == "provider.set").count(), 4, "{audited:?}");
    assert!(audited.contains(&"provider.remove".to_owned()));
    bed.end().await;
}

fn says() -> Does {
    Does::Says("{\"ok\": true}".into())
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_the_api_cannot_read_a_key() {
    let service = Service::start(says()).await;
    let bed = Bed::new().await;
    let me = bed.workspace;
    let strict = bed.engine_of_the_internet();
    let refused = strict.set_provider(me, "openai", own(&service, None), "ada").await.unwrap_err();
    let EngineError::Invalid(problems) = refused else { panic!("{refused}") };
    assert_eq!(problems[0].at, "baseUrl");
    let mut wrong = own(&service, None);
    wrong.model = " ".into();
    wrong.max_concurrency = Some(0);
    wrong.prices.insert("x".into(), Price { max_output: 0, ..Price::FREE });
    let EngineError::Invalid(problems) = bed.api.set_provider(me, "grok", wrong, "ada").await.unwrap_err()
    else {
        panic!("it was taken")
    };
    let places: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
    assert_eq!(places, ["name", "model", "maxConcurrency", "prices.x"]);

    bed.api.set_provider(me, "openai", own(&service, Some("sk-mine")), "ada").await.unwrap();
    assert!(bed.api.own_providers(me).await.is_err(), "the API's role reads no key");
    let workers = bed.engine_as(Role::Engine);
    let opened = workers.own_providers(me).await.unwrap();
    assert_eq!(opened[0].max_concurrency, Some(3));
    assert!(!format!("{opened:?}").contains("sk-mine"), "a key does not print");
    bed.end().await;
}
