//! Servers that crash while work is under way.

use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use serde_json::{Value, json};

use crate::harness::{Agents, Bed, Setup, migrate, request, until};

/// Everything finished, each step has one result, nothing is left over.
async fn check(bed: &Bed, workflows: i64, steps: i64) {
    bed.finish_all().await;
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, workflows);
    assert_eq!(bed.count("SELECT count(*) FROM finished_runs WHERE state = 'succeeded'").await, workflows);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, workflows * steps);
    assert_eq!(bed.count("SELECT count(*) FROM dead_letters").await, 0);
    assert_eq!(bed.count("SELECT count(*) FROM timers").await, 0);
}

/// Submits until it is accepted, as a client does; one key each, so that a
/// submit of unknown outcome is not doubled.
async fn insist(bed: &Bed, steps: &Value) {
    let (context, submit) = (bed.context(), request(steps.clone(), json!({})));
    until("it is accepted", async || match bed.api.submit(&context, &submit).await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            false
        }
    })
    .await;
}

fn chain() -> Value {
    json!([{ "name": "a", "agent": "echo" }, { "name": "b", "agent": "echo" },
           { "name": "c", "agent": "echo" }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_crash_under_load() {
    let mut postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
    migrate(&postgres.url()).await;
    let mut bed = Bed::with(Setup { database_url: Some(postgres.url()), ..Setup::default() }).await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    for crash in 1..=3 {
        for _ in 0..30 {
            insist(&bed, &chain()).await;
        }
        until("some ran since", || async { agents.calls().len() >= crash * 20 }).await;
        postgres.stop_immediate().await;
        postgres.restart().await.unwrap();
    }
    for _ in 0..10 {
        insist(&bed, &chain()).await;
    }
    check(&bed, 100, 3).await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_crash_and_come_back_empty_under_load() {
    let mut redis = PrivateRedis::start_temporary().await.unwrap();
    let mut bed = Bed::with(Setup { redis_url: Some(redis.url()), ..Setup::default() }).await;
    let agents = Agents::echo();
    bed.serve(&agents).await;
    for _ in 0..4 {
        for _ in 0..25 {
            bed.submit(chain(), Value::Null).await;
        }
        redis.kill().await;
        // Accepted all the same.
        bed.submit(chain(), Value::Null).await;
        redis.restart_empty().await.unwrap();
    }
    check(&bed, 104, 3).await;
    assert_eq!(agents.calls().len(), 312, "nobody died, so nothing ran twice");
    bed.end().await;
}
