//! Galley as others meet it: over HTTP while a store is away, and from a Rust
//! program of their own.

use std::process::Stdio;

use galley_api::views::Role;
use galley_core::run::WorkflowState;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Agents, Api, Bed, Setup, migrate, until};

/// Accepting needs Postgres only. What was accepted while Redis was down runs
/// once it is back; what was refused while Postgres was down is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_accepts_without_redis_and_refuses_without_postgres() {
    let mut postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
    migrate(&postgres.url()).await;
    let mut redis = PrivateRedis::start_temporary().await.unwrap();
    let mut bed = Bed::with(Setup {
        database_url: Some(postgres.url()),
        redis_url: Some(redis.url()),
        ..Setup::default()
    })
    .await;
    let agents = Agents::echo();
    bed.register(&agents).await;
    let api = Api::of(&bed, Role::Producer).await;

    redis.kill().await;
    let (status, body) = api.submit("while Redis is down").await;
    assert_eq!(status, 202, "{body}");
    let (status, again) = api.submit("while Redis is down").await;
    assert_eq!((status, &again["workflowId"]), (200, &body["workflowId"]), "{again}");

    postgres.stop_immediate().await;
    let (status, problem) = api.submit("while both are down").await;
    assert_eq!(status, 503, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("Postgres") || detail.contains("database"), "{detail}");

    postgres.restart().await.unwrap();
    redis.restart_empty().await.unwrap();
    bed.serve(&agents).await;
    bed.finish_all().await;
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 1);
    drop(api);
    bed.end().await;
}

/// `examples/custom_agent.rs` serves its own agent type beside the fleet, and
/// ends well on Ctrl-C.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_program_brings_its_own_agent() {
    // The example uses the prefix that a deployment has unless told.
    let bed = Bed::with(Setup { prefix: Some("galley".into()), ..Setup::default() }).await;
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_it_custom_agent"))
        .env("DATABASE_URL", &bed.database_url)
        .env("REDIS_URL", &bed.redis_url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the program has a session", || async {
        let sessions = bed.engine.store().unswept_sessions().await.unwrap();
        sessions.iter().any(|session| session.opened.worker == "custom-agent-example")
    })
    .await;
    let example: Value = serde_json::from_str(include_str!("../../examples/custom-agent.json")).unwrap();
    let steps = example["definition"]["steps"].clone();
    let key = bed.submit(steps.clone(), example["input"].clone()).await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(history.output(0), Some(json!({ "words": 13, "lines": 3 })));
    // Its permanent error is a dead letter at once.
    let key = bed.submit(steps, json!({ "title": "no text" })).await;
    until("it is a dead letter", || async {
        bed.engine.store().letter(key, 0).await.unwrap().is_some_and(|letter| letter.class == "no_text")
    })
    .await;
    let pid = program.id().expect("it runs").cast_signed();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert!(program.wait().await.unwrap().success(), "exit status 0");
    bed.end().await;
}
