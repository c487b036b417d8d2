//! What the child and the clean fleet are made of: the same configuration, the
//! same agents, the same platform. Times are short, so that nobody waits long
//! for a death to be noticed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use galley_agents::{FnAgent, Registry, StepContext, output};
use galley_chaos::bills;
use galley_core::agent::AgentSpec;
use galley_core::ids::AgentType;
use galley_core::report::StepError;
use galley_core::retry::RetryPolicy;
use galley_engine::queue::{RedisConfig, RedisQueue};
use galley_engine::store::Store;
use galley_engine::{Engine, EngineConfig, Keyring, PublishingTimes};
use galley_publishers::{Options, Publishers};
use galley_worker::{Adapters, WorkerOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest call to the platform; the other times follow from it.
const CALL: Duration = Duration::from_millis(500);

/// How long anybody waits for a connection: a busy machine makes none quickly.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Where a case's data is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) prefix: String,
}

impl Place {
    /// Connections of its own, as in a process of its own.
    pub(crate) fn store(&self, connections: u32) -> Store {
        Store::connect_with_patience(&self.database_url, connections, LONG).unwrap()
    }

    /// An engine with a memory and a queue connection of its own.
    pub(crate) fn engine(&self, store: Store) -> Engine {
        let redis = RedisConfig::new(&self.redis_url).with_prefix(&self.prefix);
        let config = EngineConfig {
            session_ttl: Duration::from_millis(2_500),
            renew_every: Duration::from_millis(300),
            claim_deadline: Duration::from_millis(300),
            overdue_grace: Duration::from_millis(300),
            look_every: Duration::from_millis(500),
            policy_memory: Duration::ZERO,
            publishing: PublishingTimes { window: 2 * CALL, timeout: CALL, rest: 3 * CALL + CALL / 2 },
            keyring: Some(Keyring::single(&seal_key()).unwrap()),
            platforms: Some(adapters()),
            ..EngineConfig::default()
        };
        Engine::new(store, Arc::new(RedisQueue::new(redis).unwrap()), config)
    }
}

/// What seals credentials.
pub(crate) fn seal_key() -> String {
    "5a".repeat(32)
}

/// The preview network's adapter, one for all engines of the process: a client
/// reads all root certificates.
pub(crate) fn adapters() -> Arc<Adapters> {
    static ADAPTERS: LazyLock<Arc<Adapters>> = LazyLock::new(|| {
        let options = Options { allow_private_targets: true, timeout: CALL };
        Arc::new(Adapters(Publishers::built_in(options).unwrap()))
    });
    Arc::clone(&ADAPTERS)
}

/// A worker with everything.
pub(crate) fn worker(name: &str) -> WorkerOptions {
    WorkerOptions {
        name: name.into(),
        host: "test".into(),
        agents: Vec::new(),
        concurrency: 4,
        adapters: Some(adapters()),
        on_recorded: None,
    }
}

fn spec(name: &str, timeout_ms: u64) -> AgentSpec {
    AgentSpec {
        agent: AgentType::new(name).unwrap(),
        description: String::new(),
        input_schema: Value::Bool(true),
        output_schema: Value::Bool(true),
        // Many crashes are allowed: a case has its own, and a busy machine adds some.
        retry: RetryPolicy {
            max_attempts: 5,
            max_crashes: 20,
            backoff_ms: 20,
            max_backoff_ms: 100,
            timeout_ms,
        },
        example: None,
        prompt: None,
    }
}

/// Whoever cancels may need several of its attempts until then.
fn patient() -> AgentSpec {
    let mut spec = spec("patient", 3_000);
    spec.retry.max_attempts = 100;
    spec
}

/// Some answers are lost.
fn payer() -> AgentSpec {
    let mut spec = spec("payer", 5_000);
    spec.retry.max_attempts = 100;
    spec
}

/// `echo` answers; `payer` pays for two calls first; `flaky` fails once; `hopeless` fails for good; `brief` has
/// little time; `patient` waits until it is told to stop; `writer` writes a
/// post.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    let echo = async |step: StepContext| output(&json!({ "step": step.step_name }));
    registry.register(FnAgent::new(spec("echo", 5_000), echo)).unwrap();
    registry.register(FnAgent::new(spec("brief", 200), echo)).unwrap();
    registry
        .register(FnAgent::new(payer(), async |step: StepContext| {
            for call in 0..2 {
                bills::pay(&step, call).await?;
            }
            output(&json!({}))
        }))
        .unwrap();
    registry
        .register(FnAgent::new(spec("flaky", 5_000), async |step: StepContext| match step.attempt {
            1 => Err(StepError::transient("flaky", "the first time it never works")),
            _ => output(&json!({ "attempt": step.attempt })),
        }))
        .unwrap();
    registry
        .register(FnAgent::new(spec("hopeless", 5_000), async |step: StepContext| {
            match step.input.get("params").and_then(|params| params.get("mended")) {
                Some(_) => output(&json!({})),
                None => Err(StepError::permanent("hopeless", "not with this input")),
            }
        }))
        .unwrap();
    registry
        .register(FnAgent::new(patient(), async |step: StepContext| {
            step.cancelled.cancelled().await;
            Err(StepError::transient("cancelled", "it was told to stop"))
        }))
        .unwrap();
    registry
        .register(FnAgent::new(spec("writer", 5_000), async |step: StepContext| {
            output(&json!({ "platform": "preview", "text": step.input["brief"]["text"] }))
        }))
        .unwrap();
    registry
}

/// What the fleet knows of all of them, publishing included.
pub(crate) fn specs() -> Vec<AgentSpec> {
    let mut specs: Vec<AgentSpec> = registry().specs().cloned().collect();
    specs.push(galley_core::publish::spec().unwrap());
    specs
}
