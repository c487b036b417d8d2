//! What can go wrong with Postgres, sorted by what the caller does next.

use galley_core::ids::WorkflowKey;
use galley_core::run::BadRun;

/// A database operation that did not happen, or of which nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres cannot be reached, is shutting down or has no connection left.
    /// Whether the last statement committed is unknown: repeat the unit.
    #[error("Postgres is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// A deadlock or a serialization failure: nothing happened, repeat at once.
    #[error("Postgres asked to try again: {0}")]
    TryAgain(#[source] sqlx::Error),
    /// A value that Postgres cannot store (22xxx, 54xxx): repeating is useless.
    #[error("Postgres refused a value: {0}")]
    Data(#[source] sqlx::Error),
    /// A named constraint was violated.
    #[error("constraint {constraint} was violated")]
    Constraint {
        /// The constraint's name.
        constraint: String,
    },
    /// Something was not as it was when this was decided: nothing was written.
    #[error("overtaken: {0}")]
    Overtaken(Overtaken),
    /// A stored run cannot be read; the row is named.
    #[error("table runs, workspace {}, id {}: {source}", key.workspace, key.workflow)]
    Corrupt {
        /// The row.
        key: WorkflowKey,
        /// What is wrong with it.
        source: BadRun,
    },
    /// Content of a workspace cannot be opened or sealed; says which and why.
    #[error("{0}")]
    Sealed(String),
    /// The schema is missing, older than this release, or its clock was moved.
    #[error("{0}")]
    Schema(String),
    /// Anything else: a bug.
    #[error("Postgres: {0}")]
    Other(#[source] sqlx::Error),
}

/// What was not as it was when a write was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overtaken {
    /// The post was changed.
    #[error("the post was changed meanwhile")]
    Post,
    /// The workspace's policy was changed.
    #[error("the policy was changed meanwhile")]
    Config,
    /// The account was removed.
    #[error("the account was removed meanwhile")]
    Account,
    /// Nobody said yes to these bytes, or the question is closed.
    #[error("the approval is not there, or was answered meanwhile")]
    Approval,
    /// Somebody's intent exists, or the publication is not in that state.
    #[error("the publication is not in that state any more")]
    Publication,
    /// The schedule was changed, removed, or its time was taken by another
    /// scheduler.
    #[error("the schedule was changed meanwhile")]
    Schedule,
    /// Another step wrote that entry of the shared context.
    #[error("another step wrote that entry of the shared context meanwhile")]
    Context,
    /// The shared context of a workflow would hold more than it may.
    #[error("the shared context of the workflow would hold more than it may")]
    ContextFull,
    /// The steps of a workflow have said as much as they may.
    #[error("the steps of the workflow have said as much as they may")]
    Silenced,
    /// The day has no place left.
    #[error("the day has no place left")]
    DayFull,
    /// A budget has no room.
    #[error("the budget has no room")]
    NoMoney,
    /// The day is about to end.
    #[error("the day is about to end")]
    DayEnds,
}

impl StoreError {
    /// Whether the same unit may succeed when repeated.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TryAgain(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(db) = error.as_database_error() else {
            return match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::BeginFailed => Self::Unavailable(error),
                other => Self::Other(other),
            };
        };
        let code = db.code().unwrap_or_default().into_owned();
        if let Some(constraint) = db.constraint() {
            return Self::Constraint { constraint: constraint.to_owned() };
        }
        match code.as_str() {
            "40P01" | "40001" | "55P03" => Self::TryAgain(error),
            // 42P01, 3F000: the schema is not there.
            "42P01" | "3F000" => Self::Schema(format!("the schema is missing ({db}); run `galley migrate`")),
            // 42501: the login is no member of a role of Galley's, or a row
            // is another workspace's (a bug, and Postgres stopped it).
            "42501" => {
                Self::Schema(format!("this database login may not do that ({db}); see docs/security.md"))
            }
            "22023" if db.message().starts_with("role ") => {
                Self::Schema(format!("{db}; run `galley migrate`, which makes Galley's roles"))
            }
            // Postgres ended a transaction that stood still: this process was
            // stopped, or waited too long. Nothing of it happened.
            "25P03" | "25P04" => Self::Unavailable(error),
            // 08 connection, 53 resources, 57 operator intervention, 58 system.
            c if ["08", "53", "57", "58"].iter().any(|class| c.starts_with(class)) => {
                Self::Unavailable(error)
            }
            // 54: too deeply nested, too long: no repeat makes it fit.
            c if c.starts_with("22") || c.starts_with("54") => Self::Data(error),
            _ => Self::Other(error),
        }
    }
}
