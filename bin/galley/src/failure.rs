//! What people read when a command fails: what failed (short), the detail, and
//! a hint with the next action. Every error that reaches `main` is one of
//! these; nothing else prints errors.

use galley_engine::EngineError;
use galley_engine::queue::QueueError;
use galley_engine::store::StoreError;
use galley_servers::ServerError;

use crate::exit::Exit;
use crate::print::style;

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What failed, short, lower case.
    what: String,
    /// The detail, one line each.
    details: Vec<String>,
    /// The next action.
    hint: Option<String>,
}

impl Failure {
    /// A failure with nothing to add.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: Vec::new(), hint: None }
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// A bug, or the operating system.
    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, what)
    }

    /// Nothing to tell anybody: only the exit code matters.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// With one more line of detail.
    #[must_use]
    pub(crate) fn detail(mut self, detail: impl ToString) -> Self {
        self.details.push(detail.to_string());
        self
    }

    /// With the next action.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The three parts as one line, for a log.
    pub(crate) fn line(&self) -> String {
        let mut parts = vec![self.what.clone()];
        parts.extend(self.details.iter().cloned());
        parts.extend(self.hint.clone());
        parts.join("; ")
    }

    /// The three parts as people see them; empty for a silent one.
    pub(crate) fn render(&self) -> String {
        if self.what.is_empty() {
            return String::new();
        }
        let mut text = format!("{} {}\n", style::BAD.on("error:"), self.what);
        for detail in &self.details {
            for line in detail.lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{} {hint}\n", style::GOOD.on("hint:")));
        }
        text
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_) | StoreError::TryAgain(_) => {
                Self::new(Exit::Unavailable, "PostgreSQL cannot be used")
                    .detail(error)
                    .hint("is DATABASE_URL right and the server up? `galley doctor` checks both")
            }
            StoreError::Schema(_) => Self::new(Exit::Refused, "the database is not ready").detail(error),
            _ => Self::unexpected("the database refused an operation").detail(error),
        }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::new(Exit::Unavailable, "Redis cannot be used")
            .detail(error)
            .hint("is REDIS_URL right and the server up? `galley doctor` checks both")
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match &error {
            EngineError::Invalid(_) => Exit::Refused,
            EngineError::IdempotencyMismatch(_) | EngineError::Conflict(_) => Exit::Conflict,
            EngineError::NotFound { .. } | EngineError::NoWorkspace => Exit::NotFound,
            EngineError::StoreUnavailable(_) | EngineError::QueueUnavailable(_) => Exit::Unavailable,
            EngineError::Sealed(_) | EngineError::Internal(_) => Exit::Unexpected,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::new(Exit::Unavailable, "the private servers did not start").detail(error)
    }
}
