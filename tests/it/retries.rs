//! Failed attempts: tried again, refused, or dead; and how dead letters are
//! repaired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use galley_core::report::{StepError, Usage};
use galley_core::retry::RetryPolicy;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::store::LetterFilter;
use galley_engine::{EngineError, Repair};
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, answer, retry};

fn one(agent: &str) -> Value {
    json!([{ "name": "only", "agent": agent }])
}

fn bill(micros: u64) -> Usage {
    Usage { cost_micros: micros, ..Usage::default() }
}

#[tokio::test]
async fn transient_errors_are_tried_again_and_each_attempt_is_logged_with_its_bill() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo().with("flaky", retry(3), |step| async move {
        if step.attempt < 3 {
            let error = StepError::transient("provider_5xx", format!("no {}", step.attempt));
            return Err(error.with_usage(bill(u64::from(step.attempt))));
        }
        answer(&json!("third time lucky"))
    });
    bed.serve(&agents).await;
    let key = bed.submit(one("flaky"), Value::Null).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    let attempts: Vec<_> = agents.calls().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let effects: Vec<_> = agents.calls().into_iter().map(|call| call.effect_key).collect();
    assert!(effects.iter().all(|key| *key == effects[0]), "one effect key for every attempt");
    let log: Vec<_> = history
        .attempts
        .iter()
        .map(|row| (row.outcome.as_str(), row.class.as_str(), row.message.as_str()))
        .collect();
    assert_eq!(log, [("failed", "provider_5xx", "no 1"), ("failed", "provider_5xx", "no 2")]);
    let bills: Vec<_> = history.attempts.iter().map(|row| row.usage.cost_micros).collect();
    assert_eq!(bills, [1, 2]);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 1);
    bed.end().await;
}

#[tokio::test]
async fn come_back_later_burns_no_attempt() {
    let mut bed = Bed::new().await;
    let gate = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&gate);
    let agents = Agents::echo().with("limited", retry(2), move |_| {
        let told = Arc::clone(&told);
        async move {
            if told.load(Ordering::SeqCst) {
                return answer(&json!("let in"));
            }
            Err(StepError::throttled("rate_limited", "429", 5))
        }
    });
    bed.serve(&agents).await;
    let key = bed.submit(one("limited"), Value::Null).await;
    crate::harness::until("it was refused often", || async { agents.calls().len() >= 8 }).await;
    gate.store(true, Ordering::SeqCst);
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.workflow.run.steps[0].attempts, 1);
    assert!(agents.calls().iter().all(|call| call.attempt == 1));
    assert!(history.attempts.iter().all(|row| row.outcome == "throttled"));
    bed.end().await;
}

#[tokio::test]
async fn panics_timeouts_and_bad_output_are_failed_attempts() {
    let mut bed = Bed::new().await;
    let quick = RetryPolicy { timeout_ms: 50, ..retry(2) };
    let agents = Agents::echo()
        .with("panics", retry(2), |step| async move {
            assert!(step.attempt > 1, "boom {}", step.attempt);
            answer(&json!("calm"))
        })
        .with("hangs", quick, |step| async move {
            if step.attempt == 1 {
                std::future::pending::<()>().await;
            }
            answer(&json!("awake"))
        })
        .with("rubbish", retry(2), |step| async move {
            if step.attempt == 1 { answer(&json!("rubbish")) } else { answer(&json!({ "score": 1 })) }
        })
        .with_output_schema(json!({ "type": "object", "required": ["score"] }));
    bed.serve(&agents).await;
    for (agent, class, message) in [
        ("panics", "panic", "the agent panicked: boom 1"),
        ("hangs", "timeout", "ran longer than its 0.05 s"),
        ("rubbish", "bad_output", "the output does not fit the schema"),
    ] {
        let key = bed.submit(one(agent), Value::Null).await;
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        assert_eq!(history.attempts.len(), 1, "{agent}");
        let attempt = &history.attempts[0];
        assert_eq!(attempt.class, class);
        assert!(attempt.message.starts_with(message), "{}", attempt.message);
    }
    bed.end().await;
}

#[tokio::test]
async fn a_dead_step_leaves_a_letter_and_an_edited_retry_completes_the_workflow() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo().with("strict", retry(5), |step| async move {
        match step.input["params"]["ok"].as_bool() {
            Some(true) => answer(&json!({ "saw": *step.input })),
            _ => Err(StepError::permanent("bad_brief", "brief 17 has no `audience`")),
        }
    });
    bed.serve(&agents).await;
    let steps = json!([
        { "name": "first", "agent": "echo" },
        { "name": "strict", "agent": "strict", "input": { "ok": false } },
        { "name": "last", "agent": "echo" }
    ]);
    let key = bed.submit(steps.clone(), json!({ "topic": "tea" })).await;
    let twin = bed.submit(steps, json!({ "topic": "coffee" })).await;
    let history = bed.finish(key, WorkflowState::Stalled).await;
    bed.finish(twin, WorkflowState::Stalled).await;
    assert_eq!(agents.calls_of("strict").len(), 2, "permanent means once");
    assert_eq!(history.workflow.run.steps[2].state, StepState::Blocked, "its child waits");

    let letter = bed.engine.store().letter(key, 1).await.unwrap().unwrap();
    assert_eq!(
        (letter.reason.as_str(), letter.class.as_str(), letter.status.as_str(), letter.attempts),
        ("permanent", "bad_brief", "open", 1)
    );
    let other = bed.engine.store().letter(twin, 1).await.unwrap().unwrap();
    assert_eq!(letter.fingerprint, other.fingerprint, "one problem, one group");
    let groups = bed.engine.store().letter_groups(bed.workspace).await.unwrap();
    assert_eq!((groups.len(), groups[0].count), (1, 2));

    // An edit replaces the whole input and is checked.
    let edit = |input| bed.api.repair(key, "strict", Repair::Retry, Some(input), "ada");
    assert!(matches!(edit(json!({ "nonsense": 1 })).await, Err(EngineError::Invalid(_))));
    let mut input = history.step_input(1);
    assert_eq!(input["params"]["ok"], json!(false), "the letter shows what it ran with");
    input["params"]["ok"] = json!(true);
    edit(input.clone()).await.unwrap();
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.output(1).unwrap()["saw"], input);
    assert_eq!(history.step_input(1), input);
    assert_eq!(agents.calls_of("last").len(), 1);
    let letter = bed.engine.store().letter(key, 1).await.unwrap().unwrap();
    assert_eq!((letter.status.as_str(), letter.closed_by.as_deref()), ("replayed", Some("ada")));

    // What is not dead any more is refused, and nothing is audited for it.
    let refused = bed.api.repair(key, "strict", Repair::Retry, None, "ada").await.unwrap_err();
    assert!(matches!(refused, EngineError::Conflict(_)), "{refused}");
    let refused = bed.api.repair(key, "nobody", Repair::Retry, None, "ada").await.unwrap_err();
    assert!(matches!(refused, EngineError::NotFound { .. }), "{refused}");

    // Discarding gives the workflow up.
    bed.api.repair(twin, "strict", Repair::Discard, None, "bob").await.unwrap();
    let history = bed.finish(twin, WorkflowState::Failed).await;
    let states: Vec<_> = history.workflow.run.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Succeeded, StepState::Failed, StepState::Cancelled]);
    assert_eq!(bed.audited().await, ["workspace.create", "dead.edit_and_retry", "dead.discard"]);
    bed.end().await;
}

#[tokio::test]
async fn dead_letters_are_retried_by_filter_after_a_dry_run() {
    let mut bed = Bed::new().await;
    let healthy = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&healthy);
    let agents = Agents::echo()
        .with("fragile", retry(2), move |step| {
            let healthy = state.load(Ordering::SeqCst);
            async move {
                if healthy {
                    return answer(&json!(step.attempt));
                }
                Err(StepError::transient("down", format!("server {} is down", step.workflow)))
            }
        })
        .with("hopeless", retry(1), |_| async { Err(StepError::permanent("no", "never")) });
    bed.serve(&agents).await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(bed.submit(one("fragile"), Value::Null).await);
    }
    let hopeless = bed.submit(one("hopeless"), Value::Null).await;
    for key in keys.iter().chain([&hopeless]) {
        bed.finish(*key, WorkflowState::Stalled).await;
    }
    let letter = bed.engine.store().letter(keys[0], 0).await.unwrap().unwrap();
    assert_eq!((letter.reason.as_str(), letter.attempts), ("attempts", 2));
    let filter = LetterFilter { fingerprint: Some(letter.fingerprint), ..LetterFilter::default() };
    let dry = bed.api.repair_matching(bed.workspace, &filter, Repair::Retry, true, "ada").await.unwrap();
    assert_eq!(dry.len(), 5);
    assert_eq!(bed.count("SELECT count(*) FROM dead_letters WHERE status = 'open'").await, 6);
    assert_eq!(bed.audited().await, ["workspace.create"], "a dry run does nothing");

    healthy.store(true, Ordering::SeqCst);
    let done = bed.api.repair_matching(bed.workspace, &filter, Repair::Retry, false, "ada").await.unwrap();
    assert!(done.len() == 5 && done.iter().all(|repaired| repaired.refused.is_none()));
    for key in keys {
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        assert_eq!(history.output(0), Some(json!(1)), "a replay has fresh attempts");
    }
    bed.finish(hopeless, WorkflowState::Stalled).await;
    // Another workspace's filter finds nothing of this one.
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    let none = LetterFilter::default();
    let found = bed.api.repair_matching(other, &none, Repair::Discard, false, "eve").await.unwrap();
    assert!(found.is_empty());
    assert_eq!(bed.audited().await.iter().filter(|action| *action == "dead.retry").count(), 5);
    bed.end().await;
}
