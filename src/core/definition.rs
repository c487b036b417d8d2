//! Workflow definitions as people write them: steps with `needs`.
//!
//! A definition is data. It is checked as a whole by [`crate::plan::Plan`]
//! before anything is stored, and frozen into the workflow that runs it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::AgentType;
use crate::retry::RetryPolicy;

/// Most steps a workflow may have, counting every `forEach` at its `max`.
pub const MAX_STEPS: usize = 1024;

/// Largest workflow input, and largest definition, in bytes of JSON.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// A named list of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Definition {
    /// What people call it: a name (`a-z0-9_`).
    pub name: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of the workflow input; anything goes without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// The steps, in the order people wrote them.
    pub steps: Vec<StepDefinition>,
}

/// One step of a definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepDefinition {
    /// Unique within the definition (`a-z0-9_`).
    pub name: String,
    /// Who runs it.
    pub agent: AgentType,
    /// The steps whose results it needs. Absent: the step before it. Empty:
    /// none, it starts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// Parameters handed to the agent as `params`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// One child step per element of an earlier result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// A CEL condition over `brief`, `params` and `results`; false skips the
    /// step. One that mentions `item` is asked for each element of `forEach`
    /// and leaves out those it is false for; the step is skipped when none is
    /// left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whether the workflow goes on without it when it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What differs from the agent's own retry policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryOverride>,
}

/// A bounded expansion over a list found in an earlier result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForEach {
    /// The step whose result holds the list (it becomes one of the needs);
    /// absent: the workflow input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// JSON Pointer to the list.
    pub path: String,
    /// Most elements. Required: an unbounded expansion is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u16>,
}

/// A step's own wishes about retries; what is absent comes from the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryOverride {
    /// See [`RetryPolicy::max_attempts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u16>,
    /// See [`RetryPolicy::max_crashes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_crashes: Option<u16>,
    /// See [`RetryPolicy::backoff_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// See [`RetryPolicy::max_backoff_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff_ms: Option<u64>,
    /// See [`RetryPolicy::timeout_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl RetryOverride {
    /// The agent's policy with these wishes laid over it.
    pub fn over(&self, base: &RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(base.max_attempts),
            max_crashes: self.max_crashes.unwrap_or(base.max_crashes),
            backoff_ms: self.backoff_ms.unwrap_or(base.backoff_ms),
            max_backoff_ms: self.max_backoff_ms.unwrap_or(base.max_backoff_ms),
            timeout_ms: self.timeout_ms.unwrap_or(base.timeout_ms),
        }
    }

    /// Every wish spelled out, so that a later change of the agent does not
    /// reach a workflow that already runs.
    pub fn frozen(policy: &RetryPolicy) -> Self {
        Self {
            max_attempts: Some(policy.max_attempts),
            max_crashes: Some(policy.max_crashes),
            backoff_ms: Some(policy.backoff_ms),
            max_backoff_ms: Some(policy.max_backoff_ms),
            timeout_ms: Some(policy.timeout_ms),
        }
    }
}
