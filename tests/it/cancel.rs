//! Cancelling: nothing starts any more, what runs is interrupted, and its
//! results are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use galley_core::report::{StepError, StepOutput, Usage};
use galley_core::run::{StepState, WorkflowState};
use galley_engine::{EngineError, Outcome, Recorded, Report};
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, answer, retry, until};

#[tokio::test]
async fn a_cancelled_workflow_stops_what_runs_and_starts_nothing() {
    let mut bed = Bed::new().await;
    let told = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&told);
    let agents = Agents::echo().with("obedient", retry(3), move |step| {
        let heard = Arc::clone(&heard);
        async move {
            step.cancelled.cancelled().await;
            heard.fetch_add(1, Ordering::SeqCst);
            Err(StepError::transient("cancelled", "told to stop"))
        }
    });
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "long", "agent": "obedient" },
        { "name": "side", "agent": "obedient", "needs": [] },
        { "name": "after", "agent": "echo", "needs": ["long", "side"] }
    ]);
    let key = bed.submit(steps.clone(), Value::Null).await;
    // A neighbour that must not be told.
    let neighbour = bed.submit(steps, Value::Null).await;
    until("all of it runs", || async { agents.running("obedient") == 4 }).await;
    bed.api.cancel(key, "ada").await.unwrap();
    let history = bed.finish(key, WorkflowState::Cancelled).await;
    assert!(history.workflow.run.steps.iter().all(|step| step.state == StepState::Cancelled));
    until("both were told", || async { told.load(Ordering::SeqCst) == 2 }).await;
    until("both stopped", || async { agents.running("obedient") == 2 }).await;
    let again = bed.api.cancel(key, "ada").await.unwrap_err();
    assert!(matches!(again, EngineError::Conflict(_)), "{again}");
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 0);
    assert!(agents.calls_of("after").is_empty());
    bed.api.cancel(neighbour, "ada").await.unwrap();
    until("all stopped", || async { agents.running("obedient") == 0 }).await;
    assert_eq!(bed.audited().await, ["workspace.create", "workflow.cancel", "workflow.cancel"]);
    bed.end().await;
}

#[tokio::test]
async fn a_result_that_comes_after_the_cancel_is_refused_and_its_bill_kept() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let key = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "echo").await;
    // The worker's own process: it remembers the run as running.
    let elsewhere = bed.another_engine();
    elsewhere.cancel(key, "ada").await.unwrap();
    let mut output: StepOutput = answer(&json!("late")).unwrap();
    output.usage = Usage { cost_micros: 70, ..Usage::default() };
    let report = Report::of(&claim, 1, Outcome::Succeeded(output));
    assert_eq!(bed.engine.complete(std::slice::from_ref(&report)).await.unwrap(), [Recorded::Stale]);
    assert_eq!(bed.engine.complete(&[report]).await.unwrap(), [Recorded::Stale], "also when repeated");
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 0);
    assert_eq!(bed.count("SELECT sum(cost_micros)::int8 FROM attempts").await, 70);
    assert_eq!(bed.api.workflow(key).await.unwrap().state, WorkflowState::Cancelled);
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn cancel_closes_dead_letters_and_waiting_retries() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo()
        .with("dies", retry(1), |_| async { Err(StepError::permanent("no", "never")) })
        .with("later", retry(3), |_| async { Err(StepError::throttled("rate_limited", "429", 3_600_000)) });
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "dead", "agent": "dies" },
        { "name": "waits", "agent": "later", "needs": [] },
        { "name": "child", "agent": "echo", "needs": ["dead", "waits"] }
    ]);
    let key = bed.submit(steps, Value::Null).await;
    until("one is dead and one waits", || async {
        let run = bed.api.workflow(key).await.unwrap().run;
        run.steps[0].state == StepState::Dead && run.steps[1].state == StepState::Scheduled
    })
    .await;
    bed.api.cancel(key, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Cancelled).await;
    let letter = bed.engine.store().letter(key, 0).await.unwrap().unwrap();
    assert_eq!((letter.status.as_str(), letter.closed_by.as_deref()), ("cancelled", Some("ada")));
    assert_eq!(bed.count("SELECT count(*) FROM timers").await, 0);
    bed.end().await;
}

/// Whoever commits first wins; the other is told so. Never both, never none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_and_completion_race_to_one_winner() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let session = bed.session().await;
    let elsewhere = bed.another_engine();
    let mut wins = (0, 0);
    for _ in 0..60 {
        let key = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
        let claim = bed.claim_one(&session, "echo").await;
        let report = Report::of(&claim, 1, Outcome::Succeeded(answer(&json!("done")).unwrap()));
        let reports = [report];
        let (cancelled, recorded) = tokio::join!(elsewhere.cancel(key, "ada"), bed.engine.complete(&reports));
        let results = format!("SELECT count(*) FROM results WHERE workflow_id = '{}'", key.workflow);
        let results = bed.count(&results).await;
        let state = bed.api.workflow(key).await.unwrap().state;
        match (cancelled, recorded.unwrap()[0]) {
            (Ok(()), Recorded::Stale) => {
                assert_eq!((state, results), (WorkflowState::Cancelled, 0));
                wins.0 += 1;
            }
            (Err(EngineError::Conflict(_)), Recorded::Yes) => {
                assert_eq!((state, results), (WorkflowState::Succeeded, 1));
                wins.1 += 1;
            }
            other => panic!("no single winner: {other:?}"),
        }
    }
    assert_eq!(wins.0 + wins.1, 60);
    assert_eq!(
        bed.count("SELECT count(*) FROM audit WHERE action = 'workflow.cancel'").await,
        wins.0,
        "a cancel that lost is not audited"
    );
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}
