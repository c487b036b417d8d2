//! Galley as others meet it: over HTTP while a store is away, and from a Rust
//! program of their own.

use std::process::Stdio;
use std::time::Duration;

use galley_api::views::Role;
use galley_api::{ApiConfig, ApiState, Limits, NewToken, issue_token, serve};
use galley_core::run::WorkflowState;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Agents, Bed, Setup, migrate, until};

const SECRET: &str = "a secret of these tests, long enough to be one";

/// The API of a bed's engine on a port of its own, and a token for it.
async fn api(bed: &Bed, stop: &CancellationToken) -> (String, String) {
    let secret = SecretString::from(SECRET);
    let limits = Limits { body_bytes: 1 << 20, request_timeout: Duration::from_secs(20) };
    let state = ApiState::new(bed.engine.clone(), &ApiConfig { jwt_secret: secret.clone(), limits }).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, state, stop.clone()));
    let new = NewToken {
        workspace: bed.workspace,
        subject: "producer".into(),
        roles: vec![Role::Producer],
        ttl: Duration::from_secs(3_600),
    };
    (address, issue_token(&secret, &new).unwrap().token)
}

async fn submit(api: &(String, String), key: &str) -> (u16, Value) {
    let (address, token) = api;
    let definition = json!({ "name": "one", "steps": [{ "name": "a", "agent": "echo" }] });
    let request = reqwest::Client::new()
        .post(format!("{address}/v1/workflows"))
        .bearer_auth(token)
        .header("Idempotency-Key", key)
        .json(&json!({ "definition": definition, "input": { "text": "hello" } }));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Accepting needs Postgres only. What was accepted while Redis was down runs
/// once it is back; what was refused while Postgres was down is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_accepts_without_redis_and_refuses_without_postgres() {
    let _ = rustls::crypto::ring::default_provider().install_default();
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
    let stop = CancellationToken::new();
    let api = api(&bed, &stop).await;

    redis.kill().await;
    let (status, body) = submit(&api, "while Redis is down").await;
    assert_eq!(status, 202, "{body}");
    let (status, again) = submit(&api, "while Redis is down").await;
    assert_eq!((status, &again["workflowId"]), (200, &body["workflowId"]), "{again}");

    postgres.stop_immediate().await;
    let (status, problem) = submit(&api, "while both are down").await;
    assert_eq!(status, 503, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("Postgres") || detail.contains("database"), "{detail}");

    postgres.restart().await.unwrap();
    redis.restart_empty().await.unwrap();
    bed.serve(&agents).await;
    bed.finish_all().await;
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1);
    assert_eq!(bed.count("SELECT count(*) FROM results").await, 1);
    stop.cancel();
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
