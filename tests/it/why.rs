//! What people are told: why something waits, and change numbers that only
//! grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use galley_core::ids::AgentType;
use galley_core::report::StepError;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::store::ControlChange;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, Latch, answer, retry, until};

#[tokio::test]
async fn why_says_what_it_waits_for_and_what_to_do() {
    let mut bed = Bed::new().await;
    let release = Latch::closed();
    let latch = release.clone();
    let agents = Agents::default()
        .with("slow", retry(3), move |_| {
            let latch = latch.clone();
            async move {
                latch.passed().await;
                answer(&Value::Null)
            }
        })
        .with("later", retry(3), |_| async {
            Err(StepError::throttled("rate_limited", "slow down", 3_600_000))
        })
        .with("dies", retry(1), |_| async { Err(StepError::permanent("bad_brief", "no audience")) });
    bed.register(&agents).await;
    let slow = AgentType::new("slow").unwrap();
    let steps = json!([{ "name": "one", "agent": "slow" }, { "name": "two", "agent": "slow" }]);
    let key = bed.submit(steps.clone(), Value::Null).await;
    let why = async |step: Option<&str>| bed.api.why(key, step).await.unwrap();

    // Nobody serves it.
    let told = why(None).await;
    assert!(told.needs_action);
    assert_eq!(
        told.sentence,
        "step `one` is queued: 1 step waiting: no live worker serves `slow`; start one with `galley worker --agents slow`"
    );
    assert_eq!(why(Some("two")).await.sentence, "step `two` waits for `one` (queued)");

    // Somebody paused it.
    let pause = |paused, reason: Option<&str>| ControlChange {
        paused: Some((paused, "ada".into(), reason.map(Into::into))),
        ..ControlChange::default()
    };
    bed.api.control_agent(bed.workspace, &slow, pause(true, Some("audit")), "ada").await.unwrap();
    let told = why(Some("one")).await;
    assert!(told.needs_action);
    assert_eq!(
        told.sentence,
        "step `one` is queued: queue `slow` is paused by ada (audit) with 1 step ready; `galley queue resume slow` lets them go on"
    );
    bed.api.control_agent(bed.workspace, &slow, pause(false, None), "ada").await.unwrap();

    // It runs; another one waits behind a limit.
    let limit = ControlChange { max_running: Some(Some(1)), ..ControlChange::default() };
    bed.api.control_agent(bed.workspace, &slow, limit, "ada").await.unwrap();
    bed.start_duties();
    bed.start_worker(&agents, 4).await;
    until("it runs", async || agents.running("slow") == 1).await;
    let told = bed.api.why(key, None).await.unwrap();
    assert!(!told.needs_action);
    assert!(told.sentence.starts_with("step `one` is running (attempt 1) in session "), "{}", told.sentence);
    let second = bed.submit(steps, Value::Null).await;
    let told = bed.api.why(second, None).await.unwrap();
    assert_eq!(
        told.sentence,
        "step `one` is queued: 1 step waiting: `slow` runs at its limit of 1; `galley queue limit slow` changes it"
    );
    assert_eq!(
        bed.api.why_queue(&slow).await.unwrap().sentence,
        told.sentence.replace("step `one` is queued: ", "")
    );

    // It was told to come back later.
    let waits = bed.submit(json!([{ "name": "w", "agent": "later" }]), Value::Null).await;
    until("it waits", async || {
        bed.api.workflow(waits).await.unwrap().run.steps[0].state == StepState::Scheduled
    })
    .await;
    let told = bed.api.why(waits, None).await.unwrap();
    assert!(!told.needs_action);
    assert!(told.sentence.contains(" UTC after "), "{}", told.sentence);
    assert!(told.sentence.ends_with(" after rate_limited: slow down"), "{}", told.sentence);

    // It is dead.
    let dead = bed.submit(json!([{ "name": "d", "agent": "dies" }]), Value::Null).await;
    bed.finish(dead, WorkflowState::Stalled).await;
    let told = bed.api.why(dead, None).await.unwrap();
    assert!(told.needs_action);
    let id = dead.workflow;
    assert_eq!(
        told.sentence,
        format!(
            "step `d` is dead after 1 attempts and 0 crashes (bad_brief: no audience); `galley dead retry {id}.d` or `galley dead discard {id}.d`"
        )
    );

    // It is over.
    release.open();
    bed.finish(key, WorkflowState::Succeeded).await;
    let told = bed.api.why(key, None).await.unwrap();
    assert!(told.sentence.contains("succeeded"), "{}", told.sentence);
    bed.finish(second, WorkflowState::Succeeded).await;
    let told = bed.api.why_queue(&slow).await.unwrap();
    assert_eq!(told.sentence, "queue `slow` has nothing waiting; 0 steps in flight");
    bed.end().await;
}

/// A watcher that resumes from the last number it saw misses nothing: numbers
/// only grow, and a step's own never exceeds its workflow's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_numbers_only_grow() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo().with("flaky", retry(5), |step| async move {
        if step.attempt < 3 {
            return Err(StepError::transient("down", "again"));
        }
        answer(&Value::Null)
    });
    bed.serve(&agents).await;
    bed.start_worker(&agents, 4).await;
    let steps = json!([
        { "name": "a", "agent": "flaky" }, { "name": "b", "agent": "flaky", "needs": [] },
        { "name": "c", "agent": "echo", "needs": ["a", "b"] }, { "name": "d", "agent": "flaky" }
    ]);
    let over = Arc::new(AtomicBool::new(false));
    let key = bed.submit(steps, Value::Null).await;
    let watcher = tokio::spawn({
        let (engine, over) = (bed.another_engine(), Arc::clone(&over));
        async move {
            let mut seen = Vec::new();
            loop {
                let last = over.load(Ordering::SeqCst);
                let number = engine.change_numbers(&[key]).await.unwrap()[&key];
                let view = engine.workflow(key).await.unwrap();
                assert!(view.seq >= number, "the workflow is behind its number");
                let newest = view.run.steps.iter().map(|step| step.changed).max().unwrap();
                assert!(newest <= view.seq, "a step is ahead of its workflow");
                if seen.last() != Some(&number) {
                    seen.push(number);
                }
                if last {
                    return seen;
                }
            }
        }
    });
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    over.store(true, Ordering::SeqCst);
    let seen = watcher.await.unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&history.workflow.seq));
    // One for accepting; a claim, an end and a timer per failed attempt, two per
    // good one; the two branches at the front may share theirs.
    assert!(history.workflow.seq >= 1 + 8 + 2 + 8, "{}", history.workflow.seq);
    bed.end().await;
}
