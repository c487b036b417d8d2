//! Callers that go away in the middle of a call: whatever they asked for is
//! done whole or not at all, and nobody else notices.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use galley_core::ids::AgentType;
use galley_engine::store::ControlChange;
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, request, until};

/// Drops a call at its n-th wait: an HTTP client that hangs up, a `select!` that
/// lost. `None` when it was dropped.
async fn hang_up<T>(call: impl Future<Output = T>, at: usize) -> Option<T> {
    let mut call = pin!(call);
    let mut waits = 0;
    poll_fn(move |context| match call.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if waits == at => Poll::Ready(None),
        Poll::Pending => {
            waits += 1;
            Poll::Pending
        }
    })
    .await
}

/// In some releases of sqlx a cancelled `begin()` hands a connection back inside
/// an open transaction; what the next borrower writes is then never committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_hangs_up_leaves_no_open_transaction() {
    let bed = Bed::new().await;
    let agents = Agents::echo();
    bed.register(&agents).await;
    // Few connections: whoever comes next gets the one that was dropped.
    let engine = bed.engine_on(&bed.database_url, 2);
    let echo = AgentType::new("echo").unwrap();
    let limit = |n: i32| ControlChange { max_running: Some(Some(n)), ..ControlChange::default() };
    let session = bed.session().await;
    let steps = json!([{ "name": "a", "agent": "echo" }]);
    let mut dropped = 0;
    for n in 0..120 {
        let at = n / 4 % 10;
        let key = bed.submit(steps.clone(), Value::Null).await;
        // Connected before, or only connecting would be cancelled.
        let (one, two) = tokio::join!(engine.store().ping(), engine.store().ping());
        one.and(two).unwrap();
        let ended = match n % 4 {
            0 => hang_up(engine.control_agent(bed.workspace, &echo, limit(7), "ada"), at).await.is_some(),
            1 => hang_up(engine.cancel(key, "ada"), at).await.is_some(),
            2 => hang_up(engine.create_workspace(&format!("w{n}"), 1, "ada"), at).await.is_some(),
            _ => {
                let claim = bed.claim_one(&session, "echo").await;
                let report = galley_engine::Report::of(&claim, 1, galley_engine::Outcome::GivenBack);
                let reports = [report];
                let ended = hang_up(engine.complete(&reports), at).await.is_some();
                bed.engine.complete(&reports).await.unwrap();
                ended
            }
        };
        dropped += usize::from(!ended);
        // Looked at each time, once every connection is back in the pool: the
        // next transaction on such a connection would close the open one, and
        // hide it.
        until("every connection is back", async || {
            let (open, idle) = engine.store().pool_size();
            open as usize == idle
        })
        .await;
        // A unit that was spawned just now may be between two statements; one
        // that was left open stays open.
        let mut looks = 0;
        while bed.idle_in_transaction().await > 0 {
            looks += 1;
            assert!(looks < 500, "a transaction stays open: in round {n}, dropped at its wait {at}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(dropped >= 20, "only {dropped} calls were dropped");
    // What is written through these connections now is there for others.
    for n in 0..10 {
        engine.create_workspace(&format!("after-{n}"), 1, "ada").await.unwrap();
    }
    assert_eq!(bed.count("SELECT count(*) FROM workspaces WHERE name LIKE 'after-%'").await, 10);
    bed.engine.close_session(&session, "test").await.unwrap();
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_submit_is_whole_or_absent_and_its_key_finds_it() {
    let mut bed = Bed::new().await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    let steps =
        json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo", "when": "brief.n >= 0" }]);
    let mut contexts = Vec::new();
    let mut dropped = 0;
    for n in 0..150 {
        let at = n % 10;
        let context = bed.context();
        let submit = request(steps.clone(), json!({ "n": n }));
        dropped += usize::from(hang_up(Box::pin(bed.api.submit(&context, &submit)), at).await.is_none());
        contexts.push((context, submit));
    }
    assert!(dropped >= 20, "only {dropped} submits were dropped");
    assert_eq!(
        bed.count(
            "SELECT count(*) FROM workflows w LEFT JOIN runs r USING (workspace_id, id)
                    LEFT JOIN finished_runs f USING (workspace_id, id) WHERE r.id IS NULL AND f.id IS NULL"
        )
        .await,
        0,
        "a workflow has a run, live or finished"
    );
    // The client comes back with the same keys.
    let mut ids = HashSet::new();
    for (context, submit) in &contexts {
        ids.insert(bed.api.submit(context, submit).await.unwrap().workflow);
    }
    assert_eq!(ids.len(), 150);
    bed.finish_all().await;
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 150);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 300);
    assert_eq!(agents.calls().len(), 300);
    bed.end().await;
}
