//! Galley as a library: register your own agents and run the same worker.
//!
//! This is the only crate whose API is promised. It talks to the same Postgres
//! and Redis as every other process of the deployment; what it registers, any
//! producer can use in a workflow at once.
//!
//! ```no_run
//! use galley::{AgentSpec, FnAgent, Stop, Worker, output};
//! use serde_json::json;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let spec: AgentSpec = serde_json::from_value(json!({ "agent": "shout" }))?;
//! let shout = FnAgent::new(spec, async |step: galley::StepContext| {
//!     let text = step.input["brief"]["text"].as_str().unwrap_or_default();
//!     output(&json!({ "text": text.to_uppercase() }))
//! });
//! Worker::connect("postgres://localhost/galley", "redis://localhost")?
//!     .agent(shout)?
//!     .concurrency(16)
//!     .run(Stop::default())
//!     .await?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use galley_engine::queue::{QueueError, RedisConfig, RedisQueue};
use galley_engine::store::{PATIENCE, Role, Store, StoreError};
use galley_engine::{Engine, EngineConfig};

pub use galley_agents::{Agent, FnAgent, RegisterError, StepContext, output};
pub use galley_core::agent::AgentSpec;
pub use galley_core::ids::{AgentType, WorkflowId, WorkspaceId};
pub use galley_core::report::{Failure, StepError, StepOutput, Usage};
pub use galley_core::retry::RetryPolicy;
pub use galley_worker::{Stop, WorkerError};

/// Connections a worker opens to Postgres.
const CONNECTIONS: u32 = 8;

/// A worker process in the making.
pub struct Worker {
    database_url: String,
    redis_url: String,
    redis_prefix: Option<String>,
    registry: galley_agents::Registry,
    name: String,
    concurrency: usize,
}

/// Why a worker did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's address is not one, or its schema does not fit.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// The queue's address is not one.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The worker could not start.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

impl Worker {
    /// A worker for the deployment at these addresses. Connects when it runs.
    ///
    /// # Errors
    /// An address that is not one.
    pub fn connect(database_url: &str, redis_url: &str) -> Result<Self, Error> {
        // Parsed here, so that a mistake shows where it was made.
        Store::check_url(database_url)?;
        Ok(Self {
            database_url: database_url.into(),
            redis_url: redis_url.into(),
            redis_prefix: None,
            registry: galley_agents::Registry::new(),
            name: format!("library-{}", std::process::id()),
            concurrency: 16,
        })
    }

    /// Adds an agent.
    ///
    /// # Errors
    /// Its type is taken, or one of its schemas is none.
    pub fn agent(mut self, agent: impl Agent + 'static) -> Result<Self, RegisterError> {
        self.registry.register(agent)?;
        Ok(self)
    }

    /// Steps to run at once; 16 unless told.
    #[must_use]
    pub fn concurrency(mut self, steps: usize) -> Self {
        self.concurrency = steps;
        self
    }

    /// The worker's name in `galley worker list`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The prefix of the deployment's Redis keys, if it is not `galley`.
    #[must_use]
    pub fn redis_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.redis_prefix = Some(prefix.into());
        self
    }

    /// Runs until stopped. Outages of Postgres and Redis are waited out.
    ///
    /// # Errors
    /// It could not start.
    pub async fn run(self, stop: Stop) -> Result<(), Error> {
        let store = Store::connect_as(Role::Engine, &self.database_url, CONNECTIONS, PATIENCE)?;
        let mut redis = RedisConfig::new(self.redis_url);
        if let Some(prefix) = self.redis_prefix {
            redis = redis.with_prefix(prefix);
        }
        let queue = Arc::new(RedisQueue::new(redis)?);
        let engine = Engine::new(store, queue, EngineConfig::default());
        let options = galley_worker::WorkerOptions {
            name: self.name,
            host: std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into()),
            agents: Vec::new(),
            concurrency: self.concurrency,
            adapters: None,
            on_recorded: None,
        };
        galley_worker::run(engine, self.registry, options, stop).await?;
        Ok(())
    }
}
