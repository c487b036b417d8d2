//! The one trait every agent implements, and what it is handed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use galley_core::agent::AgentSpec;
use galley_core::ids::{AgentType, WorkflowId, WorkspaceId};
use galley_core::message::Inbox;
use galley_core::report::{StepError, StepOutput};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;

/// What an agent knows about the attempt it runs.
#[derive(Clone, Debug)]
pub struct StepContext {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The workflow the step belongs to.
    pub workflow: WorkflowId,
    /// The step's name in its workflow.
    pub step_name: String,
    /// The agent type that runs.
    pub agent: AgentType,
    /// Which attempt this is; the first is 1.
    pub attempt: u16,
    /// The same for every attempt of this step, and for no other step. Give it
    /// to any outside system that can drop a repeated request: an attempt may
    /// run twice.
    pub effect_key: String,
    /// `{ brief, params, results, item? }`, see `galley_core::input`.
    pub input: Arc<Value>,
    /// What the workflow's other steps said to this one, and what they
    /// remember together.
    pub inbox: Arc<Inbox>,
    /// Fires when nobody waits for the outcome any more. Stop soon; whatever
    /// is returned after that is dropped.
    pub cancelled: CancellationToken,
    /// The longest this attempt may run.
    pub timeout: Duration,
    /// Money, history and kept answers, for agents that call providers.
    pub desk: Arc<dyn Desk>,
}

/// Something that can run a step.
#[async_trait]
pub trait Agent: Send + Sync {
    /// The type it is registered under, its schemas and its retry policy.
    fn spec(&self) -> &AgentSpec;

    /// Runs one attempt.
    ///
    /// # Errors
    /// A [`StepError`] says itself what should follow: another attempt, a
    /// later one, or none.
    async fn run(&self, step: StepContext) -> Result<StepOutput, StepError>;

    /// Most attempts of this agent at once in one worker process; `None`
    /// leaves it to the worker.
    fn concurrency(&self) -> Option<usize> {
        None
    }
}

/// An async closure as an agent.
///
/// ```
/// use galley_agents::{FnAgent, Registry, output};
/// use galley_core::agent::AgentSpec;
/// use serde_json::json;
///
/// let spec: AgentSpec = serde_json::from_value(json!({ "agent": "shout" }))?;
/// let mut registry = Registry::new();
/// registry.register(FnAgent::new(spec, async |step| {
///     let text = step.input["params"]["text"].as_str().unwrap_or_default();
///     output(&json!({ "text": text.to_uppercase() }))
/// }))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FnAgent<F> {
    spec: AgentSpec,
    run: F,
}

impl<F, Fut> FnAgent<F>
where
    // Stated here too, so that a closure's argument needs no type.
    F: Fn(StepContext) -> Fut + Send + Sync,
    Fut: Future<Output = Result<StepOutput, StepError>> + Send,
{
    /// An agent that runs `run` for each attempt.
    pub fn new(spec: AgentSpec, run: F) -> Self {
        Self { spec, run }
    }
}

impl<F> fmt::Debug for FnAgent<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnAgent").field("spec", &self.spec).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, Fut> Agent for FnAgent<F>
where
    F: Fn(StepContext) -> Fut + Send + Sync,
    Fut: Future<Output = Result<StepOutput, StepError>> + Send,
{
    fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    async fn run(&self, step: StepContext) -> Result<StepOutput, StepError> {
        (self.run)(step).await
    }
}

/// A finished attempt from anything that serializes, with an empty bill.
///
/// # Errors
/// A permanent `bad_output` when the value has no JSON form (a map whose keys
/// are not text, say): the same code would fail again.
pub fn output<T: Serialize + ?Sized>(value: &T) -> Result<StepOutput, StepError> {
    let output = serde_json::value::to_raw_value(value).map_err(|error| {
        StepError::permanent("bad_output", format!("the output has no JSON form: {error}"))
    })?;
    Ok(StepOutput::new(output))
}
