//! A worker process for tests that kill, stop or drain one. Configured by
//! `IT_…` variables; drains on SIGTERM, gives back on the second.
//!
//! Its agents: `echo` answers; `patient` waits until the file named by
//! `params.file` exists; `poison` ends its whole process, as an agent with a
//! memory bug would.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use galley_agents::{FnAgent, Registry, StepContext, output};
use galley_core::agent::AgentSpec;
use galley_core::report::StepError;
use galley_engine::queue::{RedisConfig, RedisQueue};
use galley_engine::store::Store;
use galley_engine::{Engine, EngineConfig};
use galley_worker::{Stop, WorkerOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

fn given<T: FromStr>(name: &str) -> anyhow::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    std::env::var(name).with_context(|| name.to_owned())?.parse().with_context(|| name.to_owned())
}

fn spec(name: &str) -> anyhow::Result<AgentSpec> {
    let retry = json!({ "maxAttempts": 3, "maxCrashes": 3, "backoffMs": 10, "maxBackoffMs": 50, "timeoutMs": 60_000 });
    Ok(serde_json::from_value(json!({ "agent": name, "retry": retry }))?)
}

fn registry() -> anyhow::Result<Registry> {
    let mut registry = Registry::new();
    registry.register(FnAgent::new(spec("echo")?, async |step: StepContext| {
        output(&json!({ "step": step.step_name, "pid": std::process::id() }))
    }))?;
    registry.register(FnAgent::new(spec("patient")?, async |step: StepContext| {
        let file = step.input["params"]["file"].as_str().map(PathBuf::from);
        let file = file.ok_or_else(|| StepError::permanent("bad_input", "params.file is missing"))?;
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        output(&json!({ "pid": std::process::id() }))
    }))?;
    registry.register(FnAgent::new(spec("poison")?, async |_| {
        kill(Pid::this(), Signal::SIGKILL)
            .map_err(|error| StepError::permanent("immortal", error.to_string()))?;
        std::future::pending().await
    }))?;
    Ok(registry)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The one crypto provider, as in the binary.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Store::connect(&given::<String>("IT_DATABASE_URL")?, 4)?;
    let redis = RedisConfig::new(given::<String>("IT_REDIS_URL")?).with_prefix(given::<String>("IT_PREFIX")?);
    let config = EngineConfig {
        session_ttl: Duration::from_millis(given("IT_SESSION_TTL_MS")?),
        renew_every: Duration::from_millis(given("IT_RENEW_EVERY_MS")?),
        ..EngineConfig::default()
    };
    let engine = Engine::new(store, Arc::new(RedisQueue::new(redis)?), config);
    let options = WorkerOptions {
        name: given("IT_NAME")?,
        host: "test".into(),
        agents: Vec::new(),
        concurrency: given("IT_CONCURRENCY")?,
        adapters: None,
        on_recorded: None,
    };
    let stop = Stop::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let told = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        told.soft.cancel();
        terminate.recv().await;
        told.hard.cancel();
    });
    galley_worker::run(engine, registry()?, options, stop).await?;
    Ok(())
}
