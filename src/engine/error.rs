//! What the engine answers when it cannot do what was asked.

use galley_core::ids::{BadName, WorkflowId};
use galley_core::plan::Problem;
use galley_queue::QueueError;
use galley_store::StoreError;

/// A refused or failed operation, sorted by whose turn it is.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request is wrong; nothing was stored.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
    /// The idempotency key was used for another request.
    #[error("idempotency key was already used for a different request, which became workflow {0}")]
    IdempotencyMismatch(WorkflowId),
    /// The workspace itself is not there, or was erased.
    #[error("the workspace does not exist any more")]
    NoWorkspace,
    /// There is no such thing in this workspace.
    #[error("there is no {kind} `{id}` in this workspace")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// Its id or name.
        id: String,
    },
    /// It is there, but not in a state that allows this.
    #[error("{0}")]
    Conflict(String),
    /// Postgres is away; nothing is known to have happened, repeat.
    #[error("the database cannot be reached, try again: {0}")]
    StoreUnavailable(String),
    /// Redis is away.
    #[error("the queue cannot be reached, try again: {0}")]
    QueueUnavailable(String),
    /// Content that is sealed at rest cannot be opened here, or not sealed.
    #[error("{0}")]
    Sealed(String),
    /// A bug, or a deployment that is broken.
    #[error("{0}")]
    Internal(String),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl EngineError {
    /// A single problem at a place.
    pub fn invalid(at: &str, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(at, problem)])
    }

    /// The answer to one of several whose transaction failed.
    pub(crate) fn shared(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) | StoreError::TryAgain(cause) => {
                Self::StoreUnavailable(cause.to_string())
            }
            StoreError::Data(cause) => Self::invalid("body", format!("a value cannot be stored: {cause}")),
            StoreError::Sealed(why) => Self::Sealed(why.clone()),
            other => Self::Internal(other.to_string()),
        }
    }

    /// Whether repeating the same call may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::StoreUnavailable(_) | Self::QueueUnavailable(_))
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::shared(&error)
    }
}

impl From<QueueError> for EngineError {
    fn from(error: QueueError) -> Self {
        Self::QueueUnavailable(error.to_string())
    }
}

impl From<BadName> for EngineError {
    fn from(error: BadName) -> Self {
        Self::invalid(error.kind, error.to_string())
    }
}
