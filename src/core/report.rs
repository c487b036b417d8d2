//! What an attempt reports: its output and its bill, or an error that says
//! itself what should follow.

use serde::{Deserialize, Serialize};

use crate::choice::Score;
use crate::message::{Remembering, Saying, Says};
use serde_json::value::RawValue;

/// What an attempt cost and where it ran. All zero or absent for a step that
/// called no provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Who answered: `offline`, `openai`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model's name at its provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Completion tokens.
    pub tokens_out: u32,
    /// Cost in millionths of a US dollar.
    pub cost_micros: u64,
    /// Whether the answer came from the response cache.
    pub cache_hit: bool,
    /// How the model was chosen; kept in a table of its own.
    #[serde(skip)]
    pub deliberation: Option<Box<Deliberation>>,
}

/// How an attempt came to its model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deliberation {
    /// The version of the prompt: the beginning of its templates' hash.
    pub prompt: String,
    /// The model that was chosen, `provider:model`.
    pub model: String,
    /// Why, for a person; with what became of the choice when another had to
    /// answer.
    pub reason: String,
    /// What every candidate was expected to be worth.
    pub scores: Vec<Score>,
    /// Calls to providers, repairs and fallbacks included.
    pub calls: u16,
    /// What a kept answer had cost that was given again, millionths of a US
    /// dollar.
    pub saved_micros: u64,
}

/// A finished attempt.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The output, already serialized: it is stored as it is, never re-parsed
    /// on the hot path.
    pub output: Box<RawValue>,
    /// The bill.
    pub usage: Usage,
    /// What it says to the other agents of its workflow, written with the
    /// output or not at all.
    pub says: Says,
}

impl StepOutput {
    /// An output with an empty bill, and nothing said.
    pub fn new(output: Box<RawValue>) -> Self {
        Self { output, usage: Usage::default(), says: Says::default() }
    }

    /// The same, billed.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// The same, with one more message to the workflow's other agents.
    #[must_use]
    pub fn saying(mut self, message: Saying) -> Self {
        self.says.messages.push(message);
        self
    }

    /// The same, with one more entry for the workflow's shared context.
    #[must_use]
    pub fn remembering(mut self, entry: Remembering) -> Self {
        self.says.context.push(entry);
        self
    }
}

/// What should follow a failed attempt. A closed set: an agent cannot invent
/// an outcome the engine does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Failure {
    /// Worth another attempt, after a back-off.
    Transient,
    /// Somebody said "later" (429, `Retry-After`, a breaker): another attempt,
    /// and this one does not count.
    Throttled {
        /// Not before this many milliseconds from now.
        retry_after_ms: u64,
    },
    /// The same input will fail again: a dead letter at once.
    Permanent,
    /// A budget has no room for the next call: it waits for money, and this
    /// attempt does not count.
    Unfunded {
        /// What the call may cost at most, millionths of a US dollar.
        needed_micros: u64,
    },
}

/// A failed attempt.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{class}: {message}")]
pub struct StepError {
    /// A short, stable, snake_case name of the kind of error: `timeout`,
    /// `bad_output`, `provider_5xx`. Dead letters are grouped by it.
    pub class: String,
    /// What happened, for a person.
    pub message: String,
    /// What should follow.
    pub failure: Failure,
    /// What the attempt cost all the same.
    pub usage: Usage,
}

impl StepError {
    /// An error worth another attempt.
    pub fn transient(class: &str, message: impl Into<String>) -> Self {
        Self {
            class: class.into(),
            message: message.into(),
            failure: Failure::Transient,
            usage: Usage::default(),
        }
    }

    /// An error that the same input will meet again.
    pub fn permanent(class: &str, message: impl Into<String>) -> Self {
        Self {
            class: class.into(),
            message: message.into(),
            failure: Failure::Permanent,
            usage: Usage::default(),
        }
    }

    /// "Come back later": burns no attempt.
    pub fn throttled(class: &str, message: impl Into<String>, retry_after_ms: u64) -> Self {
        Self {
            class: class.into(),
            message: message.into(),
            failure: Failure::Throttled { retry_after_ms },
            usage: Usage::default(),
        }
    }

    /// "No money for the next call": burns no attempt, goes on by itself.
    pub fn unfunded(message: impl Into<String>, needed_micros: u64) -> Self {
        Self {
            class: "waiting_budget".into(),
            message: message.into(),
            failure: Failure::Unfunded { needed_micros },
            usage: Usage::default(),
        }
    }

    /// The same error with the attempt's bill attached.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }
}
