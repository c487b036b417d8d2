//! The server commits and the reply is lost: repeating finds what was done.

use galley_core::run::WorkflowState;
use galley_engine::{Outcome, Reconciler, Recorded, Report};
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, Proxy, answer, request};

fn steps() -> Value {
    json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo" }])
}

#[tokio::test]
async fn an_accept_whose_reply_was_lost_is_found_by_its_key() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let proxy = Proxy::before(&bed.database_url).await;
    let engine = bed.engine_on(&proxy.url(&bed.database_url), 2);
    let (context, submit) = (bed.context(), request(steps(), json!({})));
    engine.ready(bed.workspace, &submit).await.unwrap();
    proxy.lose("COMMIT", 1);
    let lost = engine.submit(&context, &submit).await.unwrap_err();
    assert!(lost.is_transient(), "{lost}");
    assert_eq!(proxy.lost(), 1);
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1, "it was committed");
    let again = engine.submit(&context, &submit).await.unwrap();
    assert!(!again.new);
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1);
    assert_eq!(bed.count("SELECT count(*) FROM runs").await, 1);
    bed.end().await;
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_held_all_the_same() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let proxy = Proxy::before(&bed.database_url).await;
    let engine = bed.engine_on(&proxy.url(&bed.database_url), 3);
    let key = bed.submit(steps(), json!({ "topic": "tea" })).await;
    let session = bed.session().await;
    let echo = galley_core::ids::AgentType::new("echo").unwrap();
    let tickets = bed.engine.pop(&echo, 1).await.unwrap().tickets;
    let tickets: Vec<_> = tickets.into_iter().map(|ticket| (echo.clone(), ticket)).collect();
    proxy.lose("UPDATE runs", 1);
    let claimed = engine.claim(&session, tickets).await.unwrap();
    assert_eq!(proxy.lost(), 1, "the reply was lost");
    assert_eq!(claimed.len(), 1, "and the claim found itself");
    assert_eq!((claimed[0].attempt, claimed[0].token.epoch), (1, 2), "it was claimed once");
    assert_eq!(claimed[0].input["brief"], json!({ "topic": "tea" }));

    // The same for its completion: a transaction with results.
    let report = Report::of(&claimed[0], 1, Outcome::Succeeded(answer(&json!("a")).unwrap()));
    proxy.lose("COMMIT", 1);
    let lost = engine.complete(std::slice::from_ref(&report)).await.unwrap_err();
    assert!(lost.is_transient(), "{lost}");
    assert_eq!(proxy.lost(), 2);
    for _ in 0..2 {
        assert_eq!(engine.complete(std::slice::from_ref(&report)).await.unwrap(), [Recorded::Yes]);
    }
    // Another process that is asked the same answers the same.
    assert_eq!(bed.engine.complete(&[report]).await.unwrap(), [Recorded::Yes]);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 1);
    let view = bed.api.workflow(key).await.unwrap();
    assert_eq!(view.run.steps[0].attempts, 1);

    // What it made runnable was not pushed: nobody knew. That is the
    // reconciler's turn.
    let reconciled = Reconciler::default().run_once(&bed.engine).await.unwrap();
    assert_eq!(reconciled.pushed, 1);

    // And for the last one, after which the run has left the live table.
    let claim = bed.claim_one(&session, "echo").await;
    let report = Report::of(&claim, 1, Outcome::Succeeded(answer(&json!("b")).unwrap()));
    proxy.lose("COMMIT", 1);
    engine.complete(std::slice::from_ref(&report)).await.unwrap_err();
    assert_eq!(engine.complete(&[report]).await.unwrap(), [Recorded::Yes]);
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 2);
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn a_failure_whose_reply_was_lost_counts_once() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let proxy = Proxy::before(&bed.database_url).await;
    let engine = bed.engine_on(&proxy.url(&bed.database_url), 2);
    let key = bed.submit(steps(), Value::Null).await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "echo").await;
    let error = galley_core::report::StepError::transient("down", "no answer");
    let report = Report::of(&claim, 1, Outcome::Failed(error));
    proxy.lose("COMMIT", 1);
    engine.complete(std::slice::from_ref(&report)).await.unwrap_err();
    assert_eq!(engine.complete(&[report]).await.unwrap(), [Recorded::Yes]);
    assert_eq!(proxy.lost(), 1);
    assert_eq!(bed.count("SELECT count(*) FROM attempts").await, 1);
    assert_eq!(bed.count("SELECT count(*) FROM timers").await, 1);
    assert_eq!(bed.api.workflow(key).await.unwrap().run.steps[0].attempts, 1);
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

/// Replies are lost again and again while a fleet works through this proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_behind_a_lossy_network_loses_and_doubles_nothing() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.start_duties();
    let proxy = Proxy::before(&bed.database_url).await;
    let worker = bed.spawn_worker_on(bed.engine_on(&proxy.url(&bed.database_url), 4), &agents, 8).await;
    for lost in ["COMMIT", "UPDATE runs", "COMMIT", "UPDATE runs"] {
        proxy.lose(lost, 3);
        for _ in 0..10 {
            bed.submit(steps(), Value::Null).await;
        }
        bed.finish_all().await;
    }
    assert!(proxy.lost() >= 6, "only {} replies were lost", proxy.lost());
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 80);
    assert_eq!(bed.count("SELECT count(*) FROM finished_runs WHERE state = 'succeeded'").await, 40);
    assert_eq!(agents.calls().len(), 80, "no claim was forgotten, so nothing ran twice");
    worker.drain().await;
    bed.end().await;
}
