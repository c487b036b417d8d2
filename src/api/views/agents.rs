//! Agent types as workers registered them.

use galley_engine::store::AgentRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// An agent type.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Its name.
    pub agent: String,
    /// One line for people.
    pub description: String,
    /// JSON Schema of the step input.
    pub input_schema: Value,
    /// JSON Schema of the output.
    pub output_schema: Value,
    /// How its steps are retried, unless a step says otherwise.
    pub retry: RetryPolicy,
    /// A step input that it takes, where whoever registered it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
}

/// How steps are retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Attempts before a step is dead.
    pub max_attempts: u16,
    /// Worker crashes a step may be part of before it is dead.
    pub max_crashes: u16,
    /// First back-off, milliseconds.
    pub backoff_ms: u64,
    /// Largest back-off, milliseconds.
    pub max_backoff_ms: u64,
    /// Longest run of one attempt, milliseconds.
    pub timeout_ms: u64,
}

impl From<AgentRow> for Agent {
    fn from(AgentRow { spec, .. }: AgentRow) -> Self {
        let retry = spec.retry;
        Self {
            agent: spec.agent.to_string(),
            description: spec.description,
            input_schema: spec.input_schema,
            output_schema: spec.output_schema,
            retry: RetryPolicy {
                max_attempts: retry.max_attempts,
                max_crashes: retry.max_crashes,
                backoff_ms: retry.backoff_ms,
                max_backoff_ms: retry.max_backoff_ms,
                timeout_ms: retry.timeout_ms,
            },
            example: spec.example,
        }
    }
}
