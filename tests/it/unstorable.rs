//! One value that Postgres cannot store must not take its neighbours down.

use galley_agents::output;
use galley_core::report::{StepError, StepOutput, Usage};
use galley_core::run::{StepState, WorkflowState};
use galley_engine::{Outcome, Recorded, Report};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed};

fn succeeded(value: &Value) -> Outcome {
    Outcome::Succeeded(output(value).unwrap())
}

/// JSON of any depth is JSON to a parser that does not recurse; Postgres' own
/// does, up to its stack's depth.
fn too_deep() -> Outcome {
    let text = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    Outcome::Succeeded(StepOutput::new(RawValue::from_string(text).unwrap()))
}

/// Text with a NUL, where nobody strips it.
fn nul_in_the_bill() -> Outcome {
    let usage = Usage { model: Some("mo\0del".into()), cost_micros: 9, ..Usage::default() };
    Outcome::Succeeded(StepOutput { usage, ..output(&json!("fine")).unwrap() })
}

#[tokio::test]
async fn neighbours_of_an_unstorable_report_are_recorded() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let keys = bed.submit_many(bed.workspace, "echo", 20).await;
    let session = bed.session().await;
    let mut reports = Vec::new();
    for n in 0..20 {
        let claim = bed.claim_one(&session, "echo").await;
        let outcome = match n {
            3 => too_deep(),
            11 => nul_in_the_bill(),
            15 => Outcome::Failed(StepError::permanent("nul\0", "a NUL \0 in the message")),
            _ => succeeded(&json!({ "text": "\u{0} \u{fffd} ok" })),
        };
        reports.push(Report::of(&claim, 1, outcome));
    }
    let recorded = bed.engine.complete(&reports).await.unwrap();
    assert!(recorded.iter().all(|recorded| *recorded == Recorded::Yes), "{recorded:?}");
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 17);
    assert_eq!(bed.count("SELECT count(*) FROM dead_letters WHERE class = 'unstorable_output'").await, 2);
    assert_eq!(bed.count("SELECT count(*) FROM dead_letters WHERE class = 'nul'").await, 1);
    assert_eq!(bed.count("SELECT sum(cost_micros)::int8 FROM attempts").await, 9, "the bill is kept");
    let mut over = 0;
    for key in keys {
        over += usize::from(bed.api.workflow(key).await.unwrap().state == WorkflowState::Succeeded);
    }
    assert_eq!(over, 17);
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn a_branch_of_the_same_workflow_is_a_neighbour_too() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let steps = json!([
        { "name": "bad", "agent": "echo" },
        { "name": "good", "agent": "echo", "needs": [] },
        { "name": "join", "agent": "echo", "needs": ["bad", "good"] }
    ]);
    let key = bed.submit(steps, Value::Null).await;
    let session = bed.session().await;
    let mut reports = Vec::new();
    for _ in 0..2 {
        let claim = bed.claim_one(&session, "echo").await;
        let outcome = if claim.step_name == "bad" { too_deep() } else { succeeded(&json!("good")) };
        reports.push(Report::of(&claim, 1, outcome));
    }
    let recorded = bed.engine.complete(&reports).await.unwrap();
    assert_eq!(recorded, [Recorded::Yes, Recorded::Yes]);
    let history = bed.finish(key, WorkflowState::Stalled).await;
    let states: Vec<_> = history.workflow.run.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Dead, StepState::Succeeded, StepState::Blocked]);
    assert_eq!(history.output(1), Some(json!("good")));
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn an_unstorable_submit_is_refused_and_its_neighbours_are_accepted() {
    let bed = Bed::new().await;
    bed.register(&Agents::echo()).await;
    let submit = crate::harness::request(json!([{ "name": "a", "agent": "echo" }]), Value::Null);
    let mut contexts: Vec<_> = (0..12).map(|_| bed.context()).collect();
    contexts[5].actor = "mal\0lory".into();
    let submits = contexts.iter().map(|context| bed.api.submit(context, &submit));
    let answers = futures::future::join_all(submits).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), n != 5, "{n}: {answer:?}");
    }
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 11);
    bed.end().await;
}
