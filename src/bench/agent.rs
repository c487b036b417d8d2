//! The benched agent: does nothing, tells the ledger, returns a payload.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use galley_agents::{Agent, StepContext};
use galley_core::agent::AgentSpec;
use galley_core::ids::AgentType;
use galley_core::report::{StepError, StepOutput};
use galley_core::retry::RetryPolicy;
use serde_json::value::RawValue;

use crate::ledger::{Entry, Ledger};

/// The agent type whose steps the bench runs.
pub(crate) const NOOP: &str = "bench_noop";
/// An agent type whose steps never end the first time they run.
pub(crate) const STUCK: &str = "bench_stuck";
/// An agent type that no worker serves: its steps wait.
pub(crate) const IDLE: &str = "bench_idle";

/// The registration of a bench agent.
pub(crate) fn spec(name: &str) -> anyhow::Result<AgentSpec> {
    Ok(AgentSpec {
        agent: AgentType::new(name)?,
        description: "does nothing, for `galley bench`".into(),
        input_schema: true.into(),
        output_schema: true.into(),
        // Workers are killed on purpose: an innocent step may be part of many
        // crashes.
        retry: RetryPolicy { max_crashes: 30, ..RetryPolicy::default() },
        example: None,
        prompt: None,
    })
}

/// A JSON text of about that many bytes.
pub(crate) fn payload(bytes: usize) -> String {
    let filler = "x".repeat(bytes.saturating_sub(r#"{"text":""}"#.len()));
    format!(r#"{{"text":"{filler}"}}"#)
}

/// Does nothing.
pub(crate) struct Noop {
    spec: AgentSpec,
    output: Box<RawValue>,
    ledger: Arc<Ledger>,
}

impl Noop {
    pub(crate) fn new(payload_bytes: usize, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        Ok(Self { spec: spec(NOOP)?, output: RawValue::from_string(payload(payload_bytes))?, ledger })
    }
}

#[async_trait]
impl Agent for Noop {
    fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    async fn run(&self, step: StepContext) -> Result<StepOutput, StepError> {
        let index = step.step_name.trim_start_matches('s').parse().unwrap_or(u16::MAX);
        self.ledger.write(std::iter::once((Entry::Ran, step.workflow, index)));
        Ok(StepOutput::new(self.output.clone()))
    }
}

/// Hangs until its process dies the first time it runs a workflow; returns at
/// once when that workflow's step runs again. A crash is not an attempt, so a
/// file remembers who was stuck.
pub(crate) struct Stuck {
    spec: AgentSpec,
    marks: PathBuf,
}

impl Stuck {
    pub(crate) fn new(marks: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { spec: spec(STUCK)?, marks })
    }
}

#[async_trait]
impl Agent for Stuck {
    fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    async fn run(&self, step: StepContext) -> Result<StepOutput, StepError> {
        let mark = self.marks.join(step.workflow.0.to_string());
        match File::create_new(mark) {
            Ok(_) => std::future::pending().await,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(StepError::permanent("no_mark", format!("cannot leave a mark: {error}")));
            }
        }
        Ok(StepOutput::new(RawValue::NULL.to_owned()))
    }
}
