//! Stopping a worker: softly nothing is lost or repeated, hard what runs is
//! given back.

use galley_core::report::StepError;
use galley_core::run::WorkflowState;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, Latch, WorkerProcess, answer, retry, until};

async fn open_sessions(bed: &Bed) -> i64 {
    bed.count("SELECT count(*) FROM sessions WHERE closed_at IS NULL").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_stop_under_load_loses_nothing_and_burns_no_attempt() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.start_duties();
    let steps = json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo" },
                       { "name": "c", "agent": "echo" }]);
    bed.register(&agents).await;
    for _ in 0..100 {
        bed.submit(steps.clone(), Value::Null).await;
    }
    // One worker after the other takes over mid-way.
    let mut worker = bed.spawn_worker(&agents, 8).await;
    for taken in [30, 90, 150, 210] {
        until("it is busy", || async { agents.calls().len() >= taken }).await;
        let next = bed.spawn_worker(&agents, 8).await;
        worker.drain().await;
        worker = next;
    }
    bed.finish_all().await;
    worker.drain().await;
    assert_eq!(open_sessions(&bed).await, 0);
    assert_eq!(bed.count("SELECT count(*) FROM sessions WHERE close_reason = 'drained'").await, 5);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 300);
    assert_eq!(agents.calls().len(), 300, "nothing ran twice");
    assert!(agents.calls().iter().all(|call| call.attempt == 1));
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_stop_waits_for_what_runs_and_starts_nothing_more() {
    let bed = Bed::new().await;
    let release = Latch::closed();
    let latch = release.clone();
    let agents = Agents::default().with("slow", retry(3), move |_| {
        let latch = latch.clone();
        async move {
            latch.passed().await;
            answer(&json!("done"))
        }
    });
    bed.register(&agents).await;
    let keys = bed.submit_many(bed.workspace, "slow", 6).await;
    let worker = bed.spawn_worker(&agents, 2).await;
    until("it is full", || async { agents.running("slow") == 2 }).await;
    worker.stop.soft.cancel();
    release.open();
    worker.ended().await;
    assert_eq!(agents.calls().len(), 2);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 2);
    assert_eq!(open_sessions(&bed).await, 0);
    // The rest waits in its queue, untouched, for the next worker.
    let worker = bed.spawn_worker(&agents, 8).await;
    for key in keys {
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        assert_eq!(history.workflow.run.steps[0].attempts, 1);
    }
    worker.drain().await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_stop_gives_back_what_runs() {
    let bed = Bed::new().await;
    let agents = Agents::default().with("endless", retry(3), |_| async {
        std::future::pending::<()>().await;
        answer(&Value::Null)
    });
    bed.register(&agents).await;
    let key = bed.submit(json!([{ "name": "a", "agent": "endless" }]), Value::Null).await;
    let worker = bed.spawn_worker(&agents, 2).await;
    until("it runs", || async { agents.running("endless") == 1 }).await;
    worker.stop.soft.cancel();
    worker.stop.hard.cancel();
    worker.ended().await;
    assert_eq!(open_sessions(&bed).await, 0);
    let agents = Agents::default().with("endless", retry(3), |_| async { answer(&json!("ended")) });
    let worker = bed.spawn_worker(&agents, 2).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    let step = &history.workflow.run.steps[0];
    assert_eq!((step.attempts, step.crashes), (1, 0), "what was given back does not count");
    assert!(history.attempts.is_empty());
    worker.drain().await;
    bed.end().await;
}

/// An agent in the middle of a long call hears of the second stop signal; that
/// it then ends with an error counts as no attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_stop_tells_the_agents() {
    let bed = Bed::new().await;
    let agents = Agents::default().with("polite", retry(3), |step| async move {
        step.cancelled.cancelled().await;
        Err(StepError::transient("cancelled", "stopped in the middle of a call"))
    });
    bed.register(&agents).await;
    let key = bed.submit(json!([{ "name": "a", "agent": "polite" }]), Value::Null).await;
    let worker = bed.spawn_worker(&agents, 2).await;
    until("it runs", || async { agents.running("polite") == 1 }).await;
    worker.stop.soft.cancel();
    worker.stop.hard.cancel();
    worker.ended().await;
    let agents = Agents::default().with("polite", retry(3), |_| async { answer(&json!("ended")) });
    let worker = bed.spawn_worker(&agents, 2).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.workflow.run.steps[0].attempts, 1, "what was given back does not count");
    assert!(history.attempts.is_empty());
    worker.drain().await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_a_process() {
    let mut bed = Bed::new().await;
    bed.start_duties();
    let mut first = WorkerProcess::start(&bed, 8).await;
    let steps = json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo" }]);
    for _ in 0..60 {
        bed.submit(steps.clone(), Value::Null).await;
    }
    let mut second = WorkerProcess::start(&bed, 8).await;
    first.signal(Signal::SIGTERM);
    assert!(first.ended().await, "exit status 0");
    bed.finish_all().await;
    second.signal(Signal::SIGTERM);
    assert!(second.ended().await);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 120);
    assert_eq!(bed.count("SELECT count(*) FROM attempts").await, 0, "no attempt failed or crashed");
    assert_eq!(open_sessions(&bed).await, 0);
    bed.end().await;
}
