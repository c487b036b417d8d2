//! What the engine needs to know about an agent type: its schemas and how its
//! steps are retried. Registered in Postgres by whoever runs the agent. And which
//! types are not for everybody to run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::AgentType;
use crate::message::COORDINATOR;
use crate::publish::PUBLISHER;
use crate::retry::RetryPolicy;

/// Why no worker outside of Galley may serve an agent type; `None`: it may.
pub fn inside_only(agent: &AgentType) -> Option<&'static str> {
    match agent.as_str() {
        PUBLISHER => Some("publish steps run inside Galley only: what they need never leaves it"),
        COORDINATOR => Some("`coordinator` is the engine's own name among agents: give yours another"),
        _ => None,
    }
}

/// An agent type as the fleet knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// The name.
    pub agent: AgentType,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the step input ([`crate::input::step_input`]'s shape).
    #[serde(default = "anything")]
    pub input_schema: Value,
    /// JSON Schema of the output.
    #[serde(default = "anything")]
    pub output_schema: Value,
    /// How its steps are retried, unless a step says otherwise.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// A step input that fits the schema, for people who begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// Its prompt, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptSpec>,
}

/// The prompt of an agent that is defined as data, as the deployment has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptSpec {
    /// The template of the system text.
    pub system: String,
    /// The template of the user text.
    pub user: String,
    /// An input it is rendered with, where that is not the agent's example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// JSON Schema of what the model is asked for, where that is not the agent's
    /// output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_schema: Option<Value>,
}

fn anything() -> Value {
    Value::Bool(true)
}
