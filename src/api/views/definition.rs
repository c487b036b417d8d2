//! The schema of a workflow definition, for OpenAPI only: the type that is
//! read and written is the core's [`galley_core::definition::Definition`]. A
//! test compares the fields of both.

use serde_json::Value;
use utoipa::ToSchema;

/// A named list of steps.
#[derive(Debug, ToSchema)]
#[schema(as = Definition, rename_all = "camelCase")]
pub struct DefinitionShape {
    /// What people call it: 1-48 of `a-z`, `0-9`, `_`, beginning with a letter.
    pub name: String,
    /// One line for people.
    #[schema(required = false)]
    pub description: String,
    /// JSON Schema of the workflow input; anything goes without one.
    pub input_schema: Option<Value>,
    /// The steps, in the order people wrote them.
    pub steps: Vec<StepShape>,
}

/// One step of a definition.
#[derive(Debug, ToSchema)]
#[schema(as = StepDefinition, rename_all = "camelCase")]
pub struct StepShape {
    /// Unique within the definition.
    pub name: String,
    /// The agent type that runs it.
    pub agent: String,
    /// The steps whose results it needs. Absent: the step before it. Empty:
    /// none, it starts at once.
    pub needs: Option<Vec<String>>,
    /// Parameters handed to the agent as `params`.
    pub input: Option<Value>,
    /// One child step per element of an earlier result.
    pub for_each: Option<ForEachShape>,
    /// A CEL condition over `brief`, `params` and `results`; false skips the
    /// step. One that mentions `item` is asked for each element of `forEach`
    /// and leaves out those it is false for.
    pub when: Option<String>,
    /// Whether the workflow goes on without it when it fails.
    #[schema(required = false)]
    pub optional: bool,
    /// What differs from the agent's own retry policy.
    pub retry: Option<RetryOverrideShape>,
}

/// A bounded expansion over a list found in an earlier result.
#[derive(Debug, ToSchema)]
#[schema(as = ForEach, rename_all = "camelCase")]
pub struct ForEachShape {
    /// The step whose result holds the list; absent: the workflow input.
    pub step: Option<String>,
    /// JSON Pointer to the list.
    pub path: String,
    /// Most elements.
    pub max: u16,
}

/// A step's own wishes about retries; what is absent comes from the agent.
#[derive(Debug, ToSchema)]
#[schema(as = RetryOverride, rename_all = "camelCase")]
pub struct RetryOverrideShape {
    /// Attempts before the step is dead.
    pub max_attempts: Option<u16>,
    /// Worker crashes the step may be part of before it is dead.
    pub max_crashes: Option<u16>,
    /// First back-off, milliseconds.
    pub backoff_ms: Option<u64>,
    /// Largest back-off, milliseconds.
    pub max_backoff_ms: Option<u64>,
    /// Longest run of one attempt, milliseconds.
    pub timeout_ms: Option<u64>,
}
