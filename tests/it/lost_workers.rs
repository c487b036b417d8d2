//! Workers that die, hang or go mad: their steps run elsewhere, and what they
//! say afterwards is not believed.

use galley_core::report::{StepOutput, Usage};
use galley_core::retry::RetryPolicy;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::{Outcome, Reaper, Recorded, Report};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, Latch, Setup, WorkerProcess, answer, retry, until};

async fn nervous() -> Bed {
    Bed::with(Setup { nervous: true, ..Setup::default() }).await
}

fn output(value: &Value, cost_micros: u64) -> Outcome {
    let mut output: StepOutput = answer(value).unwrap();
    output.usage = Usage { cost_micros, ..Usage::default() };
    Outcome::Succeeded(output)
}

/// A reaper's round until it has reaped something.
async fn reap(bed: &Bed, reaper: &mut Reaper) {
    loop {
        let reaped = reaper.run_once(&bed.engine).await.unwrap();
        if reaped.steps > 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_silent_session_is_reaped_and_its_late_result_refused_but_billed() {
    let bed = nervous().await;
    bed.register(&Agents::echo()).await;
    let steps = json!([
        { "name": "a", "agent": "echo" },
        { "name": "b", "agent": "echo", "needs": [] },
        { "name": "c", "agent": "echo", "needs": ["a", "b"], "when": "results.a == 'second'" }
    ]);
    let key = bed.submit(steps, Value::Null).await;
    let dying = bed.session().await;
    let zombie = bed.claim_one(&dying, "echo").await;
    assert_eq!(zombie.step_name, "a");
    // It stops renewing, as a hung process would.
    drop(dying);
    let mut reaper = Reaper::default();
    reap(&bed, &mut reaper).await;

    let session = bed.session().await;
    let (mut a, mut b) = (bed.claim_one(&session, "echo").await, bed.claim_one(&session, "echo").await);
    if a.step_name != "a" {
        std::mem::swap(&mut a, &mut b);
    }
    assert_eq!((a.step_name.as_str(), b.step_name.as_str()), ("a", "b"));
    assert_eq!(a.attempt, 1, "a crash is not an attempt");
    assert_eq!(a.effect_key, zombie.effect_key);
    assert_ne!(a.token, zombie.token);

    // The zombie speaks while its successor runs: the same step, running, but
    // not its claim.
    let late = Report::of(&zombie, 1, output(&json!("first"), 7));
    assert_eq!(bed.engine.complete(std::slice::from_ref(&late)).await.unwrap(), [Recorded::Stale]);
    let right = Report::of(&a, 1, output(&json!("second"), 20));
    assert_eq!(bed.engine.complete(&[right]).await.unwrap(), [Recorded::Yes]);
    // Repeated, it shares a batch with the report that decides about `c`: its
    // output must not reach the condition.
    let other = Report::of(&b, 1, output(&json!("b"), 0));
    let recorded = bed.engine.complete(&[late.clone(), other]).await.unwrap();
    assert_eq!(recorded, [Recorded::Stale, Recorded::Yes]);
    assert_eq!(bed.engine.complete(&[late]).await.unwrap(), [Recorded::Stale], "also when repeated");
    let history = bed.api.history(key).await.unwrap();
    assert_eq!(history.output(0), Some(json!("second")));
    assert_eq!(history.workflow.run.steps[2].state, StepState::Queued, "the condition saw the winner");
    assert_eq!(bed.count("SELECT sum(cost_micros)::int8 FROM attempts").await, 7, "its bill is real");
    assert_eq!(history.attempts.len(), 1);
    assert_eq!(history.attempts[0].outcome, "crashed");

    let c = bed.claim_one(&session, "echo").await;
    bed.engine.complete(&[Report::of(&c, 1, output(&json!("c"), 0))]).await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn a_session_that_renews_is_never_reaped() {
    let bed = nervous().await;
    bed.register(&Agents::echo()).await;
    bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    let living = bed.session().await;
    let silent = bed.session().await;
    let claim = bed.claim_one(&living, "echo").await;
    let silent_id = silent.id();
    drop(silent);
    let mut reaper = Reaper::default();
    // The silent one's funeral shows that time enough has passed.
    until("the silent session is closed", async || {
        reaper.run_once(&bed.engine).await.unwrap();
        let sessions = bed.engine.store().list_sessions().await.unwrap();
        sessions.iter().any(|session| session.id == silent_id && session.closed_at.is_some())
    })
    .await;
    let report = Report::of(&claim, 1, output(&json!(1), 0));
    assert_eq!(bed.engine.complete(&[report]).await.unwrap(), [Recorded::Yes]);
    bed.engine.close_session(&living, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    let mut bed = nervous().await;
    bed.start_duties();
    let mut doomed = WorkerProcess::start(&bed, 8).await;
    let file = std::env::temp_dir().join(format!("never-{}", bed.prefix));
    let wait = json!([{ "name": "a", "agent": "patient", "input": { "file": file } },
                      { "name": "b", "agent": "echo" }]);
    let mut keys = Vec::new();
    for _ in 0..6 {
        keys.push(bed.submit(wait.clone(), Value::Null).await);
    }
    until("it holds them all", || async { bed.count("SELECT sum(running)::int8 FROM runs").await == 6 })
        .await;
    doomed.signal(Signal::SIGKILL);
    assert!(!doomed.ended().await);
    // Elsewhere the agent finds nothing to wait for.
    let agents = Agents::echo().with("patient", retry(1), |_| async { answer(&json!("here")) });
    bed.start_worker(&agents, 8).await;
    for key in keys {
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        assert_eq!(history.output(0), Some(json!("here")));
        let step = &history.workflow.run.steps[0];
        assert_eq!((step.attempts, step.crashes), (1, 1));
    }
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 12);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_that_wakes_up_drops_what_it_held() {
    let mut bed = nervous().await;
    bed.start_duties();
    let sleeper = WorkerProcess::start(&bed, 4).await;
    let file = std::env::temp_dir().join(format!("signal-{}", bed.prefix));
    let steps = json!([{ "name": "a", "agent": "patient", "input": { "file": file } }]);
    let key = bed.submit(steps, Value::Null).await;
    until("it runs", || async { bed.count("SELECT coalesce(sum(running), 0)::int8 FROM runs").await == 1 })
        .await;
    sleeper.signal(Signal::SIGSTOP);
    let agents = Agents::echo().with("patient", retry(1), |_| async { answer(&json!("the other")) });
    bed.start_worker(&agents, 4).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    // Its agent finishes, too: nobody listens.
    std::fs::write(&file, "").unwrap();
    sleeper.signal(Signal::SIGCONT);
    let name = sleeper.name().to_owned();
    until("it has a new session", || async {
        let sessions = bed.engine.store().unswept_sessions().await.unwrap();
        sessions.iter().any(|session| session.opened.worker == name && session.closed_at.is_none())
    })
    .await;
    let history = bed.api.history(key).await.unwrap();
    assert_eq!(history.output(0), Some(json!("the other")));
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 1);
    // And it works on.
    for worker in 0..4 {
        let key = bed.submit(json!([{ "name": "a", "agent": "echo", "input": worker }]), Value::Null).await;
        bed.finish(key, WorkflowState::Succeeded).await;
    }
    std::fs::remove_file(&file).unwrap();
    bed.end().await;
}

/// A step that ends its process whenever it runs dies alone at its crash
/// limit; those who happened to run beside it finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_dies_alone() {
    let mut bed = nervous().await;
    bed.start_duties();
    let mut process = WorkerProcess::start(&bed, 8).await;
    let file = std::env::temp_dir().join(format!("poison-{}", bed.prefix));
    let mut neighbours = Vec::new();
    for _ in 0..7 {
        let steps = json!([{ "name": "a", "agent": "patient", "input": { "file": file } }]);
        neighbours.push(bed.submit(steps, Value::Null).await);
    }
    until("the neighbours run", || async { bed.count("SELECT sum(running)::int8 FROM runs").await == 7 })
        .await;
    let poison = bed.submit(json!([{ "name": "p", "agent": "poison" }]), Value::Null).await;
    until("the process is dead", async || process.is_gone()).await;
    std::fs::write(&file, "").unwrap();
    loop {
        let view = bed.api.workflow(poison).await.unwrap();
        if view.state == WorkflowState::Stalled {
            break;
        }
        if process.is_gone() {
            process = WorkerProcess::start(&bed, 8).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    if process.is_gone() {
        process = WorkerProcess::start(&bed, 8).await;
    }
    for key in neighbours {
        let history = bed.finish(key, WorkflowState::Succeeded).await;
        assert!(history.workflow.run.steps[0].crashes <= 2, "an innocent one came near its end");
    }
    let letter = bed.engine.store().letter(poison, 0).await.unwrap().unwrap();
    assert_eq!(
        (letter.reason.as_str(), letter.crashes, letter.class.as_str()),
        ("crashes", 3, "worker_lost")
    );
    let alone = bed
        .count(
            "SELECT count(*) FROM attempts WHERE outcome = 'crashed' AND session =
                (SELECT session FROM attempts JOIN dead_letters USING (workflow_id) ORDER BY ended_at DESC LIMIT 1)",
        )
        .await;
    assert_eq!(alone, 1, "its last try had no neighbours");
    process.signal(Signal::SIGTERM);
    assert!(process.ended().await);
    std::fs::remove_file(&file).unwrap();
    bed.end().await;
}

/// Past its time and the grace, a step is taken from a session that
/// lives but does not end it; the workflow's other steps hear nothing of it.
#[tokio::test]
async fn an_overdue_step_is_taken_from_a_living_session() {
    let bed = nervous().await;
    let release = Latch::closed();
    let latch = release.clone();
    let quick = RetryPolicy { timeout_ms: 100, ..retry(2) };
    let agents = Agents::echo().with("hung", quick, |_| async { answer(&json!("again")) }).with(
        "sibling",
        retry(1),
        move |step| {
            let latch = latch.clone();
            async move {
                tokio::select! {
                    () = latch.passed() => answer(&json!("undisturbed")),
                    () = step.cancelled.cancelled() => answer(&json!("interrupted")),
                }
            }
        },
    );
    bed.register(&agents).await;
    let steps = json!([{ "name": "h", "agent": "hung" }, { "name": "s", "agent": "sibling", "needs": [] }]);
    let key = bed.submit(steps, Value::Null).await;
    let session = bed.session().await;
    let hung = bed.claim_one(&session, "hung").await;
    let worker = bed.spawn_worker(&agents, 4).await;
    until("the sibling runs", || async { agents.running("sibling") == 1 }).await;
    let mut reaper = Reaper::default();
    until("it was taken", async || reaper.run_once(&bed.engine).await.unwrap().overdue == 1).await;
    let late = Report::of(&hung, 1, output(&json!("late"), 0));
    assert_eq!(bed.engine.complete(&[late]).await.unwrap(), [Recorded::Stale]);
    until("it waits or runs again", || async {
        galley_engine::queue_due_steps(&bed.engine).await.unwrap();
        !agents.calls_of("h").is_empty()
    })
    .await;
    release.open();
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.output(0), Some(json!("again")));
    assert_eq!(history.output(1), Some(json!("undisturbed")));
    let log: Vec<_> = history.attempts.iter().map(|row| (row.outcome.as_str(), row.class.as_str())).collect();
    assert_eq!(log, [("overdue", "timeout")]);
    worker.drain().await;
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}
